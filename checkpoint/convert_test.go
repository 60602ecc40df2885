package checkpoint

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"krait/internal/golden"
	"krait/model"
	"krait/tensor"
)

// TestConversionKeepsAttention checks that a conversion which keeps every attention layer is the teacher, bit for bit.
func TestConversionKeepsAttention(t *testing.T) {
	for _, name := range []string{"llama-bias", "qwen3"} {
		e := golden.Open(t, name)
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		m, err := model.FromTeacher(c.Model, model.MambaFor(&c.Model.Config, []int{0, 1}), model.InitAttention, rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			t.Fatal(err)
		}
		want := c.Model.Logits(nil, c.Model.Forward(nil, goldenBatch(e))).Data
		for i, v := range m.Logits(nil, m.Forward(nil, goldenBatch(e))).Data {
			if v != want[i] {
				t.Fatalf("%s: logit %d is %g, the teacher's %g", name, i, v, want[i])
			}
		}
	}
}

// TestConversionToMamba1 checks where the teacher's weights go, that norms of queries and keys are dropped, and that biases are refused.
func TestConversionToMamba1(t *testing.T) {
	for _, name := range []string{"llama-gqa", "qwen3", "llama-bias"} {
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		mc := model.Mamba1For(&c.Model.Config, []int{1})
		mc.DState = 4
		mc.NGroups = mc.DInner / mc.DState
		m, err := model.FromTeacher(c.Model, mc, model.InitAttention, rand.New(rand.NewPCG(1, 1)))
		if name == "llama-bias" {
			if err == nil {
				t.Error("no error for a teacher with biases")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		a, x := c.Model.Blocks[0].Mixer.(*model.Attention), m.Blocks[0].Mixer.(*model.Mamba1)
		for part, pair := range map[string][2]*model.Linear{"x": {x.InProjX, a.VProj}, "B": {x.BProj, a.KProj}, "C": {x.CProj, a.QProj}, "out": {x.OutProj, a.OProj}} {
			if !slices.Equal(pair[0].Weight.Data, pair[1].Weight.Data) {
				t.Errorf("%s: %s is not the teacher's", name, part)
			}
		}
		dir := filepath.Join(t.TempDir(), "x")
		if err := Save(dir, c.With(m)); err != nil {
			t.Fatal(err)
		}
		again, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		batch := model.Single([]int32{3, 1, 4, 1, 5}, nil)
		if !slices.Equal(again.Model.Forward(nil, batch).Data, m.Forward(nil, batch).Data) {
			t.Errorf("%s: read back as another model", name)
		}
	}
}

// linearLayer returns a fresh layer in the state that method §8 row 3 names: identity convolution, no activation, Δ = 1, A = 0, D = 0, gate 1, no norm.
func linearLayer(t *testing.T, teacher *model.Model) *model.Model {
	t.Helper()
	mc := model.MambaFor(&teacher.Config, nil)
	mc.Identity, mc.ZBias, mc.NoNorm = true, true, true
	m, err := model.FromTeacher(teacher, mc, model.InitLinear, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	x := m.Blocks[0].Mixer.(*model.Mamba2)
	for h := range x.D.Data {
		x.DtBias.Data[h] = float32(math.Log(math.E - 1)) // softplus⁻¹(1)
		x.ALog.Data[h] = float32(math.Inf(-1))
	}
	width := m.Config.HiddenSize
	clear(x.InProj.Weight.Data[(len(x.InProj.Weight.Data)/width-len(x.D.Data))*width:]) // the rows of dt
	return m
}

// TestLinearAttention checks that such a layer is the teacher's causal linear attention without rotation, with each key-value head serving its
// group of neighbouring heads (method §8 rows 3 and 4); the tiled pairing must differ.
func TestLinearAttention(t *testing.T) {
	e := golden.Open(t, "conv-linear")
	c, err := Load(golden.Dir(t, "conv-linear"))
	if err != nil {
		t.Fatal(err)
	}
	m := linearLayer(t, c.Model)
	u := e.Floats("u")
	x := tensor.New(len(u)/c.Model.Config.HiddenSize, c.Model.Config.HiddenSize)
	for i, v := range u {
		x.Data[i] = float32(v)
	}
	got := m.Mix(nil, 0, x, model.Single(make([]int32, x.Rows()), nil))
	golden.Close(t, "linear attention", got.Data, e.Floats("linear_attention_out"), 2e-5)
	tiled := e.Floats("tiled_out")
	var diff, scale float64
	for i, v := range got.Data {
		diff, scale = max(diff, math.Abs(float64(v)-tiled[i])), max(scale, math.Abs(tiled[i]))
	}
	if diff < 1e-2*scale {
		t.Errorf("the layer is the wrongly tiled attention too: difference %g of %g", diff, scale)
	}
}

// TestGroups compares grouped heads with the same heads written out: multi-query, grouped and multi-head.
func TestGroups(t *testing.T) {
	for _, kv := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(kv), func(t *testing.T) {
			config := model.Config{HiddenSize: 32, IntermediateSize: 16, NumHiddenLayers: 1, NumAttentionHeads: 4, NumKeyValueHeads: kv, HeadDim: 8,
				VocabSize: 11, RMSNormEps: 1e-5, RopeTheta: 1e4}
			grouped := config
			grouped.Mamba = model.MambaFor(&config, nil)
			m := mustNew(t, grouped)
			rng := rand.New(rand.NewPCG(9, uint64(kv)))
			for _, p := range m.Params {
				for i := range p.Data {
					p.Data[i] = float32(rng.NormFloat64()) * 0.3
				}
			}
			config.NumKeyValueHeads = 4
			written := config
			written.Mamba = model.MambaFor(&config, nil)
			w := mustNew(t, written)
			expand(t, w, m, 4/kv)
			tokens := make([]int32, 40)
			for i := range tokens {
				tokens[i] = rng.Int32N(11)
			}
			got, want := m.Forward(nil, model.Single(tokens, nil)).Data, w.Forward(nil, model.Single(tokens, nil)).Data
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("element %d: %g grouped, %g written out", i, got[i], want[i])
				}
			}
		})
	}
}

func mustNew(t *testing.T, c model.Config) *model.Model {
	t.Helper()
	m, err := model.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// expand copies from into m, whose Mamba layer has each key-value head r times, side by side (method §1.5).
func expand(t *testing.T, m, from *model.Model, r int) {
	t.Helper()
	src := map[string]*tensor.Tensor{}
	for name, p := range from.Params {
		src[name] = p
	}
	for name, dst := range m.Params {
		s := src[name]
		if len(s.Data) == len(dst.Data) {
			copy(dst.Data, s.Data)
			continue
		}
		rows := expandedRows(name == "model.layers.0.mamba.in_proj.weight", s.Shape[0], r)
		if len(rows) != dst.Shape[0] {
			t.Fatalf("%s: %d rows of %d", name, len(rows), dst.Shape[0])
		}
		for i, row := range rows {
			copy(dst.Data[i*dst.Cols():][:dst.Cols()], s.Data[row*s.Cols():])
		}
	}
}

// expandedRows says which of n rows each row of the expanded matrix is, for 32 inner columns and heads of 8: [z if gated], x, B, rest.
func expandedRows(gated bool, n, r int) []int {
	const inner, p = 32, 8
	var rows []int
	if gated {
		for i := range inner {
			rows = append(rows, i)
		}
	}
	at := len(rows)
	for head := range 2 * inner / r / p { // the heads of x, then those of B
		for i := range r * p {
			rows = append(rows, at+head*p+i%p)
		}
	}
	for i := at + 2*inner/r; i < n; i++ {
		rows = append(rows, i)
	}
	return rows
}
