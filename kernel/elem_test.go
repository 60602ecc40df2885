package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

const (
	// expTolerance is relative: the polynomial is good to 8e-8, and the last roundings to half a unit each.
	expTolerance = 1.5e-7
	// sigmoidTolerance allows for a reciprocal and two products after exp.
	sigmoidTolerance = 5e-7
	// sumTolerance is relative to the sum of magnitudes, over a few thousand terms in two orders.
	sumTolerance = 1e-6
	// flushed is what exp may return as 0: the AVX2 kernel builds no exponent below it.
	flushed = 0x1p-125
)

// elementCase is a kernel over slices of one length: outputs are also inputs where the kernel adds.
type elementCase struct {
	name    string
	outs    int
	ins     int
	run     func(t *table, o, i [][]float32)
	tol     float64
	wide    bool // inputs over the whole range of exponents of exp
	scaleBy func(o, i []float64) float64
}

func elementCases() []elementCase {
	one := func(o, i []float64) float64 { return 1 }
	step := AdamWStep{LR: 0.01, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, C1: 0.3, C2: 0.2, Scale: 0.5}
	return []elementCase{
		{"exp", 1, 1, func(t *table, o, i [][]float32) { t.exp(o[0], i[0]) }, expTolerance, true, nil},
		{"axpy", 1, 1, func(t *table, o, i [][]float32) { t.axpy(o[0], 0.7, i[0]) }, expTolerance, false, one},
		{"scale", 1, 1, func(t *table, o, i [][]float32) { t.scale(o[0], 0.7, i[0]) }, 0, false, nil},
		{"mul", 1, 2, func(t *table, o, i [][]float32) { t.mul(o[0], i[0], i[1]) }, 0, false, nil},
		{"mulAdd", 1, 2, func(t *table, o, i [][]float32) { t.mulAdd(o[0], i[0], i[1]) }, expTolerance, false,
			func(o, i []float64) float64 { return math.Abs(o[0]) + math.Abs(i[0]*i[1]) }},
		{"silu", 1, 1, func(t *table, o, i [][]float32) { t.silu(o[0], i[0]) }, sigmoidTolerance, true, nil},
		{"softplus", 1, 1, func(t *table, o, i [][]float32) { t.softplus(o[0], i[0]) }, sigmoidTolerance, true, nil},
		{"swiglu", 1, 2, func(t *table, o, i [][]float32) { t.swiglu(o[0], i[0], i[1]) }, sigmoidTolerance, true, nil},
		{"siluGrad", 1, 2, func(t *table, o, i [][]float32) { t.siluGrad(o[0], i[0], i[1]) }, sigmoidTolerance, true,
			func(o, i []float64) float64 { return math.Abs(o[0]) + math.Abs(i[0])*(1+math.Abs(i[1])) }},
		{"swigluGrad", 2, 3, func(t *table, o, i [][]float32) { t.swigluGrad(o[0], o[1], i[0], i[1], i[2]) }, sigmoidTolerance, true,
			func(o, i []float64) float64 {
				return math.Abs(o[0]) + math.Abs(o[1]) + math.Abs(i[0])*(1+math.Abs(i[1]))*(1+math.Abs(i[2]))
			}},
		{"adamw", 3, 1, func(t *table, o, i [][]float32) {
			for n, v := range o[2] { // second moments are positive
				o[2][n] = float32(math.Abs(float64(v)))
			}
			t.adamw(o[0], o[1], o[2], i[0], step)
		}, 1e-6, false, one},
	}
}

func TestElementwise(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for _, c := range elementCases() {
			for n := 0; n <= 100; n++ {
				testElements(t, rng, c, n)
			}
			testElements(t, rng, c, 3000)
		}
	})
}

func testElements(t *testing.T, rng *rand.Rand, c elementCase, n int) {
	t.Helper()
	make2 := func(count int, spread bool) [][]float32 {
		s := make([][]float32, count)
		for i := range s {
			s[i] = append(randoms(rng, n), canary)[:n]
			for j := range s[i] {
				if spread && j%3 == 0 {
					s[i][j] *= 40
				}
			}
		}
		return s
	}
	outs, ins := make2(c.outs, false), make2(c.ins, c.wide)
	want := make([][]float32, c.outs)
	for i := range want {
		want[i] = append([]float32(nil), outs[i]...)
	}
	before := append([][]float32(nil), want...)
	for i := range before {
		before[i] = append([]float32(nil), before[i]...)
	}
	c.run(&portable, want, ins)
	c.run(active, outs, ins)
	for o := range outs {
		if outs[o][:n+1][n] != canary {
			t.Fatalf("%s: wrote beyond %d elements", c.name, n)
		}
		for j, got := range outs[o] {
			w := float64(want[o][j])
			scale := math.Abs(w)
			if c.scaleBy != nil {
				scale += c.scaleBy(column(before, j), column(ins, j))
			}
			if math.Abs(float64(got)-w) > c.tol*scale && math.Abs(w) > 1e4*flushed || math.IsNaN(float64(got)) {
				t.Fatalf("%s: n=%d out %d[%d] = %g, want %g (inputs %v)", c.name, n, o, j, got, w, column(ins, j))
			}
		}
	}
}

func column(s [][]float32, j int) []float64 {
	c := make([]float64, len(s))
	for i := range s {
		c[i] = float64(s[i][j])
	}
	return c
}

func TestExpEverywhere(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		worst := 0.0
		points := 1000
		if testing.Short() {
			points = 50
		}
		x, y := make([]float32, points), make([]float32, points)
		for base := -105.0; base < 90; base += 0.05 {
			for i := range x {
				x[i] = float32(base + 0.05*float64(i)/float64(points))
			}
			Exp(y, x)
			for i, v := range x {
				want := math.Exp(float64(v))
				switch {
				case want > math.MaxFloat32:
					if !math.IsInf(float64(y[i]), 1) && want > math.MaxFloat32*(1+expTolerance) {
						t.Fatalf("exp(%g) = %g, want +Inf", v, y[i])
					}
				case want < flushed:
					if float64(y[i]) > want*(1+expTolerance)+0x1p-149 {
						t.Fatalf("exp(%g) = %g", v, y[i])
					}
				default:
					worst = max(worst, math.Abs(float64(y[i])-want)/want)
				}
			}
		}
		t.Logf("worst relative error %.3g", worst)
		if worst > expTolerance {
			t.Errorf("worst relative error %g, want at most %g", worst, expTolerance)
		}
	})
}

func TestExpOfSpecialValues(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	onLevels(t, func(t *testing.T) {
		for n := 1; n < 20; n++ {
			x, y := make([]float32, n), make([]float32, n)
			for _, c := range []struct{ x, want float32 }{{0, 1}, {-inf, 0}, {inf, inf}, {-105, 0}, {-1e30, 0}, {89, inf}, {1e30, inf}, {1e-40, 1}, {nan, nan}} {
				for i := range x {
					x[i] = c.x
				}
				Exp(y, x)
				for _, got := range y {
					if got != c.want && !(got != got && c.want != c.want) {
						t.Fatalf("exp(%g) = %g, want %g", c.x, got, c.want)
					}
				}
			}
			for i := range x {
				x[i] = nan
			}
			SiLU(y, x)
			if y[n-1] == y[n-1] {
				t.Fatalf("silu(NaN) = %g", y[n-1])
			}
			Softplus(y, x)
			if y[n-1] == y[n-1] {
				t.Fatalf("softplus(NaN) = %g", y[n-1])
			}
			for _, c := range []struct{ x, silu, softplus float32 }{{1e30, 1e30, 1e30}, {-1e30, 0, 0}, {-200, 0, 0}, {200, 200, 200}, {0, 0, math.Ln2}, {30, 30, 30}} {
				x[n-1] = c.x
				SiLU(y, x)
				if y[n-1] != c.silu {
					t.Fatalf("silu(%g) = %g", c.x, y[n-1])
				}
				Softplus(y, x)
				if y[n-1] != c.softplus {
					t.Fatalf("softplus(%g) = %g", c.x, y[n-1])
				}
			}
		}
	})
}

func TestSoftplusIsRelativelyAccurate(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		var x []float32
		for v := -86.0; v < 40; v += 0.001 {
			x = append(x, float32(v))
		}
		y := make([]float32, len(x))
		Softplus(y, x)
		worst := 0.0
		for i, v := range x {
			want := math.Log1p(math.Exp(float64(v)))
			worst = max(worst, math.Abs(float64(y[i])-want)/want)
		}
		t.Logf("worst relative error %.3g", worst)
		if worst > sigmoidTolerance {
			t.Errorf("worst relative error %g", worst)
		}
	})
}

func TestReductions(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for _, n := range append(upTo(100), 1000, 70000) {
			x, y := randoms(rng, n+1)[:n], randoms(rng, n+1)[:n]
			if n > 0 {
				x[:n+1][n], y[:n+1][n] = 1e30, 1e30 // must not be read
			}
			var sum, dot, abs, absDot float64
			for i := range x {
				sum += float64(x[i])
				abs += math.Abs(float64(x[i]))
				dot += float64(x[i]) * float64(y[i])
				absDot += math.Abs(float64(x[i]) * float64(y[i]))
			}
			if got := float64(Sum(x)); math.Abs(got-sum) > sumTolerance*abs {
				t.Fatalf("n=%d: sum %g, want %g", n, got, sum)
			}
			if got := float64(Dot(x, y)); math.Abs(got-dot) > sumTolerance*absDot {
				t.Fatalf("n=%d: dot %g, want %g", n, got, dot)
			}
			if got, want := Max(x), maxPortable(x); got != want {
				t.Fatalf("n=%d: max %g, want %g", n, got, want)
			}
			if n > 0 {
				x[rng.IntN(n)] = float32(math.NaN())
				if got, want := Max(x), maxPortable(x); got != want {
					t.Fatalf("n=%d: max with a NaN %g, want %g", n, got, want)
				}
			}
		}
	})
}

func upTo(n int) []int {
	s := make([]int, n+1)
	for i := range s {
		s[i] = i
	}
	return s
}

func TestExpSum(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for _, n := range append(upTo(100), 1000, 70000) {
			x, y := randoms(rng, n), append(make([]float32, n), canary)[:n]
			m := Max(x)
			got := ExpSum(y, x, m)
			var want float64
			for i, v := range x {
				e := math.Exp(float64(v - m))
				want += e
				if math.Abs(float64(y[i])-e) > expTolerance*e {
					t.Fatalf("n=%d: y[%d] = %g, want %g", n, i, y[i], e)
				}
			}
			if n > 0 && math.Abs(float64(got)-want) > sumTolerance*want {
				t.Fatalf("n=%d: sum %g, want %g", n, got, want)
			}
			if y[:n+1][n] != canary {
				t.Fatalf("wrote beyond %d elements", n)
			}
			longer := append([]float32(nil), x...)
			for range rng.IntN(40) {
				longer = append(longer, float32(math.Inf(-1)))
			}
			if again := ExpSum(make([]float32, len(longer)), longer, m); n > 0 && again != got {
				t.Fatalf("n=%d: %d masked elements at the end change the sum from %x to %x", n, len(longer)-n, got, again)
			}
		}
	})
}

func BenchmarkElementwise(b *testing.B) {
	const n = 4096
	rng := rand.New(rand.NewPCG(1, 1))
	onLevelsBench(b, func(b *testing.B) {
		bench := func(name string, f func()) {
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					f()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
			})
		}
		for _, c := range elementCases() {
			var o, i [][]float32
			for range c.outs {
				o = append(o, randoms(rng, n))
			}
			for range c.ins {
				i = append(i, randoms(rng, n))
			}
			bench(c.name, func() { c.run(active, o, i) })
		}
		x, y := randoms(rng, n), randoms(rng, n)
		bench("expSum", func() { ExpSum(y, x, 1) })
		low := make([]float32, n)
		for i := range low {
			low[i] = -95
		}
		bench(fmt.Sprintf("exp of %g", low[0]), func() { Exp(y, low) })
		for i := range low {
			low[i] = float32(math.Inf(-1))
		}
		bench(fmt.Sprintf("exp of %g", low[0]), func() { Exp(y, low) })
		bench("max", func() { Max(x) })
		bench("sum", func() { Sum(x) })
		bench("dot", func() { Dot(x, x) })
	})
}
