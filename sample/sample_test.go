package sample

import (
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
)

// reference is Dist written the plain way: a full sort, float64 throughout.
func reference(logits []float32, o Options) []float64 {
	order := make([]int, len(logits))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return logits[order[a]] > logits[order[b]] })
	if o.TopK > 0 {
		order = order[:min(o.TopK, len(order))]
	}
	weight := func(i int) float64 { return math.Exp(float64(logits[i]-logits[order[0]]) / o.Temperature) }
	sum := 0.0
	for _, i := range order {
		sum += weight(i)
	}
	if o.TopP > 0 && o.TopP < 1 {
		cum := 0.0
		for n, i := range order {
			if cum += weight(i); cum >= o.TopP*sum {
				order = order[:n+1]
				break
			}
		}
	}
	p := make([]float64, len(logits))
	total := 0.0
	for _, i := range order {
		if weight(i) >= o.MinP {
			p[i] = weight(i)
			total += p[i]
		}
	}
	for i := range p {
		p[i] /= total
	}
	return p
}

func TestDistMatchesSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for trial := range 2000 {
		n := 1 + rng.IntN(300)
		logits := make([]float32, n)
		coarse := trial%2 == 0 // many ties
		for i := range logits {
			logits[i] = float32(rng.NormFloat64() * 3)
			if coarse {
				logits[i] = float32(math.Round(float64(logits[i])))
			}
		}
		o := Options{Temperature: 0.2 + 2*rng.Float64()}
		if rng.IntN(2) == 0 {
			o.TopK = 1 + rng.IntN(n+5)
		}
		if rng.IntN(2) == 0 {
			o.TopP = 0.01 + 0.98*rng.Float64()
		}
		if rng.IntN(3) == 0 {
			o.MinP = rng.Float64() * 0.3
		}
		got, err := Dist(nil, logits, o)
		if err != nil {
			t.Fatal(err)
		}
		want := reference(logits, o)
		for i := range want {
			if math.Abs(float64(got[i])-want[i]) > 1e-6 {
				t.Fatalf("trial %d, %+v: p[%d] = %g, want %g", trial, o, i, got[i], want[i])
			}
		}
	}
}

func TestDistEdges(t *testing.T) {
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	for _, c := range []struct {
		name   string
		logits []float32
		o      Options
		want   []float32
	}{
		{"greedy takes the first of equals", []float32{1, 3, 3, 0}, Options{}, []float32{0, 1, 0, 0}},
		{"top-k keeps the first of equals", []float32{1, 1, 1, 1}, Options{Temperature: 1, TopK: 2}, []float32{0.5, 0.5, 0, 0}},
		{"top-p keeps the first of equals", []float32{1, 1, 1, 1}, Options{Temperature: 1, TopP: 0.5}, []float32{0.5, 0.5, 0, 0}},
		{"top-p keeps one at least", []float32{0, 9, 0}, Options{Temperature: 1, TopP: 1e-9}, []float32{0, 1, 0}},
		{"min-p 1 keeps the largest", []float32{0, 2, 2}, Options{Temperature: 1, MinP: 1}, []float32{0, 0.5, 0.5}},
		{"a masked token has no mass", []float32{-inf, 0, 0}, Options{Temperature: 1}, []float32{0, 0.5, 0.5}},
		{"a tiny temperature is greedy", []float32{0, 1, 0.5}, Options{Temperature: 5e-324}, []float32{0, 1, 0}},
		{"NaN", []float32{0, nan}, Options{}, nil},
		{"NaN, sampled", []float32{nan, 0}, Options{Temperature: 1}, nil},
		{"+Inf", []float32{0, inf}, Options{Temperature: 1}, nil},
		{"all masked", []float32{-inf, -inf}, Options{Temperature: 1}, nil},
		{"none", nil, Options{}, nil},
	} {
		got, err := Dist(nil, c.logits, c.o)
		if (err != nil) != (c.want == nil) || err == nil && !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func TestValidate(t *testing.T) {
	nan := math.NaN()
	for word, o := range map[string]Options{
		"temperature": {Temperature: nan}, "temperature is -1": {Temperature: -1}, "is +Inf": {Temperature: math.Inf(1)}, "top-k": {TopK: -1},
		"top-p": {TopP: 1.5}, "top-p is NaN": {TopP: nan}, "min-p": {MinP: -0.1}, "": {Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05},
	} {
		if err := o.Validate(); (err == nil) != (word == "") || err != nil && !strings.Contains(err.Error(), word) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// The draws of a chi-square test, and the normal quantile of its level p = 0.001.
const (
	draws    = 100_000
	quantile = 3.0902
)

// chiSquare returns Pearson's statistic of the counts and its limit at p = 0.001 (Wilson and Hilferty).
func chiSquare(counts []int, p []float32) (x, limit float64) {
	n, df := 0, -1.0
	for _, c := range counts {
		n += c
	}
	for i, c := range counts {
		want := float64(p[i]) * float64(n)
		if want == 0 {
			if c > 0 {
				return math.Inf(1), 0
			}
			continue
		}
		df++
		x += (float64(c) - want) * (float64(c) - want) / want
	}
	if df == 0 {
		return x, 0.01
	}
	return x, df * math.Pow(1-2/(9*df)+quantile*math.Sqrt(2/(9*df)), 3)
}

var (
	targetLogits = []float32{1, 0.2, -0.5, 2}
	draftLogits  = []float32{0, 1.5, 0.3, 0.4}
	settings     = []Options{{Temperature: 1}, {Temperature: 0.7}, {Temperature: 2}, {Temperature: 1, TopK: 3}, {Temperature: 1.2, TopP: 0.8},
		{Temperature: 1, MinP: 0.2}, {Temperature: 0.9, TopK: 3, TopP: 0.9, MinP: 0.05},
		{Temperature: 1, Adjustments: Adjustments{Repetition: 1.8}}, {Temperature: 1, Adjustments: Adjustments{Presence: 1.5}},
		{Temperature: 1, Adjustments: Adjustments{Frequency: 0.7}}, {Temperature: 1, Adjustments: Adjustments{Bias: map[int32]float64{0: 1, 3: -1}}},
		{Temperature: 1, Adjustments: Adjustments{Bias: map[int32]float64{3: math.Inf(-1)}}}, {Temperature: 1, Adjustments: Adjustments{Pattern: notTwice}},
		{Temperature: 0.8, TopK: 3, TopP: 0.95, Adjustments: Adjustments{Repetition: 0.6, Presence: 0.4, Frequency: 0.2, Bias: map[int32]float64{1: 0.5}}}}
	notTwice, _ = NewPattern("(ab|ac|[bc])*", []string{"a", "b", "c", ""}, []int32{3})
)

var twoScratch []float32

type rule func(target, draft []float32, token int32, rng *rand.Rand) int32

// worst returns the largest ratio, over the settings, of the statistic of a rule's tokens to its limit.
func worst(t *testing.T, r rule) float64 {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	ratio := 0.0
	for _, o := range settings {
		h := NewHistory(o.Adjustments, []int32{3, 1})
		for _, id := range []int32{1, 0, 1, 1} {
			h.Push(id)
		}
		p, _ := Dist(nil, h.Adjust(nil, targetLogits), o)
		q, _ := Dist(nil, h.Adjust(nil, draftLogits), o)
		counts := make([]int, len(p))
		for range draws {
			counts[r(p, q, Pick(q, rng), rng)]++
		}
		x, limit := chiSquare(counts, p)
		ratio = max(ratio, x/limit)
	}
	return ratio
}

func TestVerifyDrawsFromTarget(t *testing.T) {
	for name, r := range map[string]rule{
		"pick":   func(p, q []float32, _ int32, rng *rand.Rand) int32 { return Pick(p, rng) },
		"verify": func(p, q []float32, x int32, rng *rand.Rand) int32 { y, _ := Verify(p, q, x, rng); return y },
		"verify two": func(p, q []float32, x int32, rng *rand.Rand) int32 {
			y, _ := VerifyTwo(&twoScratch, p, q, x, (x+1)%3, rng)
			return y
		},
		"verify certain": func(p, q []float32, _ int32, rng *rand.Rand) int32 { y, _ := VerifyCertain(p, 1, rng); return y },
	} {
		if ratio := worst(t, r); ratio > 1 {
			t.Errorf("%s: chi-square is %.2f times its limit", name, ratio)
		}
	}
}

// TestWrongRulesFail shows that the test above can fail.
func TestWrongRulesFail(t *testing.T) {
	for name, r := range map[string]rule{
		"always accept": func(p, q []float32, x int32, rng *rand.Rand) int32 { return x },
		"resample from target": func(p, q []float32, x int32, rng *rand.Rand) int32 {
			if y, ok := Verify(p, q, x, rng); ok {
				return y
			}
			return Pick(p, rng)
		},
		"certain, resampled from target": func(p, q []float32, _ int32, rng *rand.Rand) int32 {
			if y, ok := VerifyCertain(p, 1, rng); ok {
				return y
			}
			return Pick(p, rng)
		},
		"the second candidate against the whole target": func(p, q []float32, x int32, rng *rand.Rand) int32 {
			if y, ok := Verify(p, q, x, rng); ok {
				return y
			}
			y, _ := VerifyCertain(p, (x+1)%3, rng)
			return y
		},
		"accept where target is larger": func(p, q []float32, x int32, rng *rand.Rand) int32 {
			if p[x] >= q[x] {
				return x
			}
			return Pick(p, rng)
		},
	} {
		if ratio := worst(t, r); ratio < 2 {
			t.Errorf("%s: chi-square is only %.2f times its limit", name, ratio)
		}
	}
}

func TestVerifyEdges(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		if y, ok := Verify([]float32{0, 1}, []float32{1, 0}, 0, rng); ok || y != 1 {
			t.Fatal("accepted a token that the target excludes")
		}
		if y, ok := Verify([]float32{0, 1}, []float32{1, 0}, 1, rng); !ok || y != 1 {
			t.Fatal("refused a token that the target is certain of")
		}
		// Equal but for rounding, the drafted token excluded: the residual is empty.
		if y, ok := Verify([]float32{0.5, 0.4999, 0}, []float32{0.5, 0.4999, 0.0001}, 2, rng); ok || y > 1 {
			t.Fatalf("zero residual mass: %d, %v", y, ok)
		}
		if y, ok := VerifyCertain([]float32{0, 1}, 0, rng); ok || y != 1 {
			t.Fatal("accepted a certain token that the target excludes")
		}
		if y, ok := VerifyCertain([]float32{0.9, 0}, 0, rng); y != 0 {
			t.Fatalf("zero residual mass: %d, %v", y, ok)
		}
	}
}

func largeLogits(n int) []float32 {
	rng := rand.New(rand.NewPCG(7, 8))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64() * 2)
	}
	return x
}

func TestDistAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("sync.Pool forgets under the race detector")
	}
	logits := largeLogits(5000)
	dst := make([]float32, len(logits))
	for _, o := range settings {
		if n := testing.AllocsPerRun(50, func() { dst, _ = Dist(dst, logits, o) }); n >= 1 {
			t.Errorf("%+v: %g allocations a call", o, n)
		}
	}
}

func BenchmarkDist(b *testing.B) {
	logits := largeLogits(150_000)
	var dst []float32
	for name, o := range map[string]Options{"greedy": {}, "temperature": {Temperature: 1}, "topk40": {Temperature: 1, TopK: 40},
		"topp95": {Temperature: 1, TopP: 0.95}, "all": {Temperature: 0.8, TopK: 50, TopP: 0.9, MinP: 0.05}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst, _ = Dist(dst, logits, o)
			}
		})
	}
}
