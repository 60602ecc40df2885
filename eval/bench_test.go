package eval

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"krait/kernel"
	"krait/model"
	"krait/quant"
)

func subject(t testing.TB, name string) BenchSubject { return subjectAs(t, name, quant.F32) }

func subjectAs(t testing.TB, name string, f quant.Format) BenchSubject {
	t.Helper()
	c, err := ShapeConfig(name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := RandomModel(c, 1, f)
	if err != nil {
		t.Fatal(err)
	}
	return BenchSubject{name, m}
}

// TestShapes holds the shapes to the sizes that their names promise.
func TestShapes(t *testing.T) {
	for name, want := range map[string]float64{"smol135m": 134.5e6, "llama1b": 1.04e9, "draft29m": 28.8e6, "draft10m": 10.2e6, "hybrid135m": 139e6, "hybrid1b": 1.06e9} {
		c, err := ShapeConfig(name)
		if err != nil {
			t.Fatal(err)
		}
		n := float64(parameters(&c))
		if math.Abs(n/want-1) > 0.03 {
			t.Errorf("%s has %.4g parameters, want about %g", name, n, want)
		}
		if c.Mamba != nil && (c.IsAttention(0) || !c.IsAttention(1) || len(c.Mamba.AttnLayers) != c.NumHiddenLayers/2) {
			t.Errorf("%s: attention layers %v, want the odd ones", name, c.Mamba.AttnLayers)
		}
	}
	if _, err := ShapeConfig("llama9z"); err == nil || !strings.Contains(err.Error(), "llama1b") {
		t.Errorf("an unknown shape: %v", err)
	}
}

// parameters counts without the memory: embeddings, attention's layers, and Mamba's in their place.
func parameters(c *model.Config) int {
	kv := c.NumKeyValueHeads * c.HeadDim
	n := c.VocabSize * c.HiddenSize
	for i := range c.NumHiddenLayers {
		n += 3*c.HiddenSize*c.IntermediateSize + 2*c.HiddenSize*c.HiddenSize + 2*c.HiddenSize*kv
		if !c.IsAttention(i) {
			n += c.HiddenSize * (c.HiddenSize + c.NumAttentionHeads) // the gate, Δ
		}
	}
	return n
}

func TestRandomModel(t *testing.T) {
	a, b := subject(t, "tinyhybrid").Model, subject(t, "tinyhybrid").Model
	var list [][]float32
	for _, p := range a.Params {
		list = append(list, p.Data)
	}
	i := 0
	for name, p := range b.Params {
		if !slices.Equal(p.Data, list[i]) {
			t.Errorf("%s differs between two models of one seed", name)
		}
		i++
	}
	w := workOf(a)
	if n := a.NumParams(); w.parameters != n || w.weights < n*9/10 || w.weights >= n {
		t.Errorf("%d weights are multiplied, of %d parameters", w.weights, n)
	}
}

// TestBench runs every test on a small model and checks what scripts rely on.
func TestBench(t *testing.T) {
	last := 0
	r, err := Bench(context.Background(), subject(t, "tinyhybrid"), BenchConfig{Runs: 2, Seconds: 0.05, Tests: []string{
		"gemm_bf16", "pp512", "verify2", "verify16", "batch8", "depth4096", "depth32768", "train2048"}, Report: func(done, total int, _ string) { last = total - done }})
	if err != nil {
		t.Fatal(err)
	}
	if last != 0 || r.Probes.ReadGBPerSecond <= 0 || r.Probes.WeightsReadGBPerSec <= 0 || r.Layers.Attention != 2 || r.Layers.Mamba != 2 {
		t.Errorf("%d left; %+v", last, r)
	}
	var names []string
	for _, row := range r.Rows {
		names = append(names, row.Test)
		if row.Test == "gemm_bf16" {
			if row.Absent == kernel.HasBF16() || row.Absent != (row.Skipped != "") || row.Absent == (row.FractionOfLimit > 0) || row.Absent == (len(row.Cases) == 3) {
				t.Errorf("%+v", row)
			}
			continue
		}
		if row.Absent || row.Skipped != "" || !(row.Milliseconds > 0) || !(row.TokensPerSecond > 0) || !(row.FractionOfLimit > 0) || row.ISA == "" {
			t.Errorf("%+v", row)
		}
		if compared(row.Test) != (row.Ratio > 0) {
			t.Errorf("ratio: %+v", row)
		}
	}
	if want := []string{"gemm_bf16", "tg128", "verify2", "verify16", "batch8", "pp512", "depth4096", "depth32768", "train2048"}; !slices.Equal(names, want) {
		t.Errorf("tests %v, want %v", names, want)
	}
}

// TestAbsent: a level without instructions for bf16 says so, and gives no figures.
func TestAbsent(t *testing.T) {
	level := kernel.Level()
	defer func() {
		if err := kernel.SetLevel(level); err != nil {
			t.Error(err)
		}
	}()
	if err := kernel.SetLevel("portable"); err != nil {
		t.Fatal(err)
	}
	r, err := Bench(context.Background(), subject(t, "tinydraft"), BenchConfig{Runs: 1, Seconds: 0.01, Tests: []string{"gemm_bf16"}})
	if err != nil {
		t.Fatal(err)
	}
	if x := r.Rows[0]; !x.Absent || x.Skipped == "" || x.FractionOfLimit != 0 || x.Milliseconds != 0 || x.ISA != "portable" || len(r.Probes.Absent) != 4 {
		t.Errorf("%+v, probes %+v", x, r.Probes)
	}
}

// TestLimit: reading or computing, whichever takes longer; formats add up; q8 takes two products.
func TestLimit(t *testing.T) {
	r := rates{read: 100, weightsRead: 200, fma: 10, bf16: 20, dot8: 40, dot4: 80}
	for _, c := range []struct {
		bytes float64
		ops   operations
		want  float64
	}{
		{1000, operations{}, 5}, {1000, operations{quant.F32: 100}, 10}, {0, operations{quant.BF16: 100}, 5}, {0, operations{quant.Q8: 40, quant.Q4: 160}, 3},
	} {
		if got := r.limit(c.bytes, c.ops); got != c.want {
			t.Errorf("%+v: %g", c, got)
		}
	}
	w := workOf(subjectAs(t, "tiny", quant.Q8).Model)
	values := 4 * 2 * 32 * 128.0 // four layers, two heads, whose format is finer
	if got, want := w.ops[quant.Q8], 4*(float64(w.weights)-values); got != want || w.ops[quant.BF16] != 2*values {
		t.Errorf("%g operations in q8, want %g; %v", got, want, w.ops)
	}
	bytes, ops := w.prompt(3)
	if bytes != float64(w.bytes-w.headBytes) || ops[quant.Q8] != 3*(w.ops[quant.Q8]-4*1024*128) {
		t.Errorf("a prompt: %g bytes, %v", bytes, ops)
	}
}

// TestNarrow measures the narrow formats: steps read fewer bytes, and everything but training has a limit.
func TestNarrow(t *testing.T) {
	last := workOf(subject(t, "tinyhybrid").Model).bytes
	for _, f := range []quant.Format{quant.BF16, quant.Q8, quant.Q4} {
		s := subjectAs(t, "tinyhybrid", f)
		if n := workOf(s.Model).bytes; n >= last {
			t.Errorf("%s: %d bytes, a wider format has %d", f, n, last)
		} else {
			last = n
		}
		r, err := Bench(context.Background(), s, BenchConfig{Runs: 1, Seconds: 0.02, Tests: []string{"tg128", "verify4", "pp512", "train2048"}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Type != f.String() || !(r.Rows[1].FractionOfLimit > 0) || !(r.Rows[2].FractionOfLimit > 0) || r.Rows[3].Skipped == "" {
			t.Errorf("%s: %+v", f, r)
		}
	}
}

func TestUndisturbed(t *testing.T) {
	self := func(x float64) float64 { return x }
	for _, c := range []struct{ runs, want []float64 }{
		{[]float64{0, 0.5, 0.03}, []float64{0, 0.03}},
		{[]float64{0.5, 0.3, 0.4}, []float64{0.3}},
		{[]float64{0, 0}, []float64{0, 0}},
	} {
		if got := undisturbed(c.runs, self); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.runs, got, c.want)
		}
	}
}

func TestBenchSkips(t *testing.T) {
	c, _ := ShapeConfig("tiny")
	c.MaxPositionEmbeddings = 100
	m, err := RandomModel(c, 1, quant.F32)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Bench(context.Background(), BenchSubject{"short", m}, BenchConfig{Runs: 1, Seconds: 0.02, Tests: []string{"pp512", "tg128", "depth4096"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range r.Rows {
		switch {
		case row.Test == "depth4096" && (row.Skipped == "" || row.FractionOfLimit != 0):
			t.Errorf("%+v", row)
		case row.Test == "pp512" && row.Tokens != 99:
			t.Errorf("%+v", row)
		}
	}
	if _, err := Bench(context.Background(), BenchSubject{"short", m}, BenchConfig{Runs: 1, Tests: []string{"tg129"}}); err == nil {
		t.Error("an unknown test")
	}
}

// TestCancelledBench stops soon.
func TestCancelledBench(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Bench(ctx, subject(t, "tiny"), BenchConfig{Runs: 1, Seconds: 1}); err != context.Canceled {
		t.Error(err)
	}
}

// TestGemmRow checks that the row is that of the worst case.
func TestGemmRow(t *testing.T) {
	run := func(f ...float64) timing {
		var x timing
		for i, s := range gemmShapes {
			x.cases = append(x.cases, BenchCase{M: s[0], N: s[1], K: s[2], FractionOfLimit: f[i], AllOverOne: 2 - f[i], Milliseconds: 10 * f[i], GFlops: 1})
		}
		return x
	}
	var r BenchRow
	worstCase(&r, []timing{run(0.9, 0.5, 0.8), run(0.9, 0.7, 0.8), run(0.1, 0.6, 0.8)})
	if r.FractionOfLimit != 0.6 || r.AllOverOne != 1.1 || len(r.Cases) != 3 || r.Cases[0].FractionOfLimit != 0.9 {
		t.Errorf("%+v", r)
	}
}

func TestAcceptance(t *testing.T) {
	for _, mean := range []float64{1, 1.5, 2.5, 3.4} {
		for k := int(math.Ceil(mean)); k <= 8; k++ {
			a := acceptance(mean, k)
			if math.Abs(expected(a, k)-mean) > 1e-9 {
				t.Errorf("mean %g, depth %d: acceptance %g gives %g", mean, k, a, expected(a, k))
			}
			draw, sum, seen := lengths(a, 3), 0, map[int]bool{}
			for range 400 {
				n := draw(k)
				sum += n
				seen[n] = true
			}
			if got := 1 + float64(sum)/400; math.Abs(got-mean) > 0.02 || mean > 1 && len(seen) < 2 {
				t.Errorf("mean %g, depth %d: drawn lengths %v have the mean %g", mean, k, seen, got)
			}
		}
	}
}

// TestSpecDepth gives costs and looks at the depth that they lead to.
func TestSpecDepth(t *testing.T) {
	line := func(first, more float64) []float64 {
		var x []float64
		for i := range deepest + 1 {
			x = append(x, first+more*float64(i))
		}
		return x
	}
	for _, c := range []struct {
		what        string
		steps       []float64
		propose     float64
		mean        float64
		least, most int
	}{
		{"free rows, free draft", line(1, 0), 0, 2.5, 8, 8},
		{"cheap", line(1, 0.05), 0.05, 2.5, 2, 5},
		{"rows as dear as steps", line(1, 1), 0.05, 2.5, 0, 0},
		{"a dear draft", line(1, 0), 1, 2.5, 0, 0},
	} {
		s := spec{SpecConfig: SpecConfig{Depth: -1}, steps: c.steps, propose: c.propose}
		if k := s.depth(c.mean); k < c.least || k > c.most {
			t.Errorf("%s: depth %d, want %d to %d", c.what, k, c.least, c.most)
		}
	}
}

func TestBenchSpec(t *testing.T) {
	target := subject(t, "tinyhybrid")
	draft := subject(t, "tinydraft")
	for _, depth := range []int{-1, 0, 3} {
		c := SpecConfig{Synthetic: []float64{2.5}, Depth: depth, Runs: 1, Seconds: 0.02}
		if depth == 0 {
			c.Synthetic[0] = 1
		}
		r, err := BenchSpec(context.Background(), target, draft, c)
		if err != nil {
			t.Fatal(err)
		}
		row := r.Rows[0]
		if !row.Identical || !(row.Speedup > 0) || !(row.PlainTokensPerSecond > 0) || row.Draft.Parameters != draft.Model.NumParams() {
			t.Errorf("%+v", row)
		}
		if row.Depth > 0 && math.Abs(row.TokensPerStep-2.5) > 0.3 || row.Depth == 0 && row.TokensPerStep != 1 || depth >= 0 && row.Depth != depth {
			t.Errorf("depth %d: %+v", depth, row)
		}
	}
	if _, err := BenchSpec(context.Background(), target, draft, SpecConfig{Synthetic: []float64{5}, Depth: 3, Runs: 1}); err == nil {
		t.Error("five tokens from a draft of three")
	}
}

// TestShapeSizes: every shape makes a configuration that a model can have, of the size that its name promises.
func TestShapeSizes(t *testing.T) {
	parameters := map[string]float64{"llama8b-hybrid": 8.30e9, "zephyr7b-hybrid": 7.51e9, "mamba2.8b": 2.77e9, "mamba130m": 129e6, "smol135m": 134.5e6}
	for _, name := range ShapeNames() {
		c, err := ShapeConfig(name)
		if err == nil {
			err = c.Validate()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := DraftShape(name, &c); d == name && name != "tinydraft" {
			t.Errorf("%s is its own draft", name)
		}
		if want := parameters[name]; want > 0 {
			m, err := model.NewFrozen(c, quant.Q4)
			if err != nil {
				t.Fatal(err)
			}
			if got := float64(m.NumParams()); math.Abs(got/want-1) > 0.03 {
				t.Errorf("%s has %.4g parameters, want %.4g", name, got, want)
			}
		}
	}
}
