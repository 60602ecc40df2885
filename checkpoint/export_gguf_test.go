package checkpoint

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"krait/gguf"
	"krait/internal/golden"
	"krait/model"
	"krait/quant"
	"krait/tensor"
)

// TestExportGGUF writes the reference checkpoints as GGUF files: what another converter made of them has the same bytes in its tensors,
// and what is read again has the same logits.
func TestExportGGUF(t *testing.T) {
	for _, name := range []string{"llama-gqa", "llama-bias", "llama-headdim", "llama-linear", "llama-rope3-type", "qwen2", "qwen3", "mistral-window"} {
		e := golden.Open(t, name)
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "x.gguf")
		typ := gguf.F32
		if name == "qwen3" {
			typ = gguf.BF16 // as its weights are there
		}
		if err := ExportGGUF(path, c, typ); err != nil {
			t.Fatal(err)
		}
		if name != "mistral-window" {
			sameTensors(t, name, path)
		}
		again, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		want := c.Model.Logits(nil, c.Model.Forward(nil, goldenBatch(e))).Data
		got := again.Model.Logits(nil, again.Model.Forward(nil, goldenBatch(e))).Data
		if !slices.Equal(got, want) {
			t.Errorf("%s: other logits after writing and reading", name)
		}
		if !slices.Equal(again.BOS, c.BOS) || !slices.Equal(again.EOS, c.EOS) {
			t.Errorf("%s: BOS %v, EOS %v, want %v, %v", name, again.BOS, again.EOS, c.BOS, c.EOS)
		}
	}
}

// sameTensors compares the tensors of a file with those of the golden one.
func sameTensors(t *testing.T, name, path string) {
	t.Helper()
	got, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	want, err := gguf.Open(filepath.Join(ggufGoldens, name+".gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	if a, b := len(got.Names()), len(want.Names()); a != b {
		t.Errorf("%s: %d tensors, want %d", name, a, b)
	}
	for _, n := range want.Names() {
		a, _ := got.Tensor(n)
		b, _ := want.Tensor(n)
		equal := bytes.Equal(a.Data, b.Data)
		if n == "rope_freqs.weight" { // computed in float32 there
			x, y := make([]float32, a.Len()), make([]float32, b.Len())
			_, _ = gguf.Float32s(x, a), gguf.Float32s(y, b)
			equal = slices.EqualFunc(x, y, func(v, w float32) bool { return math.Abs(float64(v-w)) <= 1e-6*float64(w) })
		}
		if !slices.Equal(a.Dims, b.Dims) || a.Type != b.Type || !equal {
			t.Errorf("%s: tensor %s differs: %v %s, want %v %s", name, n, a.Dims, a.Type, b.Dims, b.Type)
		}
	}
}

// TestExportGGUFTypes writes the default model in every type, tokenizer included.
func TestExportGGUFTypes(t *testing.T) {
	c, err := Load("../recipe/stories260k")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := c.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	const text = "Once upon a time, there was a little girl named Lily. \"Ünï\"  two"
	ids, err := tok.Encode(text, true)
	if err != nil {
		t.Fatal(err)
	}
	for typ, tolerance := range map[gguf.Type]float64{gguf.F32: 0, gguf.F16: 0.01, gguf.BF16: 0.05, gguf.Q8_0: 0.05, gguf.Q4_0: 0.5} {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := ExportGGUF(path, c, typ); err != nil {
			t.Fatal(err)
		}
		again, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		back, err := again.Tokenizer()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := back.Encode(text, true); err != nil || !slices.Equal(got, ids) {
			t.Errorf("%s: tokens %v (%v), want %v", typ, got, err, ids)
		}
		if !slices.Equal(again.BOS, c.BOS) || !slices.Equal(again.EOS, c.EOS) {
			t.Errorf("%s: BOS %v, EOS %v, want %v, %v", typ, again.BOS, again.EOS, c.BOS, c.EOS)
		}
		want := map[string][]float32{}
		for name, p := range c.Model.Params {
			want[name] = p.Data
		}
		for name, p := range again.Model.Params {
			worst, largest := 0.0, 0.0
			for i, v := range p.Data {
				worst, largest = max(worst, math.Abs(float64(v-want[name][i]))), max(largest, math.Abs(float64(want[name][i])))
			}
			if worst > tolerance*largest {
				t.Errorf("%s: %s is off by %g of %g", typ, name, worst, largest)
			}
		}
		if err := ExportGGUF(path, c, typ); err == nil || !strings.Contains(err.Error(), "exists already") {
			t.Errorf("written over what was there: %v", err)
		}
	}
}

func TestExportGGUFRefuses(t *testing.T) {
	for name, want := range map[string]string{"tiny-mamba1": "granitehybrid has no Mamba1 layers", "qwen3-bias": "norms of queries and keys beside biases"} {
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := ExportGGUF(path, c, gguf.F32); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if err := ExportGGUF(path, c, gguf.Q6_K); err == nil || !strings.Contains(err.Error(), "type Q6_K") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestExportGranite reads the Mamba2 layers of an exported hybrid as the layers that llama.cpp takes them for, with a group for each head
// and heads of zeros: the logits stay.
func TestExportGranite(t *testing.T) {
	for _, name := range []string{"tiny-hybrid", "tiny-pure", "tiny-mqa", "tiny-wide"} {
		e := golden.Open(t, name)
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		c.Model.Config.RMSNormEps, c.Model.Config.Mamba.RMSNormEps = graniteEps, graniteEps
		c.Model.Config.Mamba.IntermediateSize = c.Model.Config.IntermediateSize
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := ExportGGUF(path, c, gguf.F32); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		want := c.Model.Logits(nil, c.Model.Forward(nil, goldenBatch(e))).Data
		wide := make([]float64, len(want))
		for i, v := range want {
			wide[i] = float64(v)
		}
		m := graniteModel(t, c.Model, f)
		golden.Close(t, name, m.Logits(nil, m.Forward(nil, goldenBatch(e))).Data, wide, logitTolerance)
	}
}

// graniteModel returns the model that a file of architecture granitehybrid describes; what is not of Mamba comes from the original.
func graniteModel(t *testing.T, original *model.Model, f *gguf.File) *model.Model {
	t.Helper()
	number := func(key string) int { v, _ := f.Uint("granitehybrid." + key); return int(v) }
	config, mamba := original.Config, *original.Config.Mamba
	mamba.DInner, mamba.DXB, mamba.NGroups, mamba.RepeatFirst = number("ssm.inner_size"), number("ssm.inner_size"), number("ssm.group_count"), false
	config.Mamba = &mamba
	m, err := model.New(config)
	if err != nil {
		t.Fatal(err)
	}
	from := map[string]*tensor.Tensor{}
	for name, p := range original.Params {
		from[name] = p
	}
	names := strings.NewReplacer("model.layers.", "blk.", "mamba.in_proj", "ssm_in", "mamba.conv1d", "ssm_conv1d", "mamba.dt_bias", "ssm_dt.bias", "mamba.A_log", "ssm_a",
		"mamba.D", "ssm_d", "mamba.norm", "ssm_norm", "mamba.out_proj", "ssm_out")
	for name, p := range m.Params {
		if !strings.Contains(name, ".mamba.") {
			copy(p.Data, from[name].Data)
			continue
		}
		x, ok := f.Tensor(names.Replace(name))
		if !ok {
			t.Fatalf("no tensor %s", names.Replace(name))
		}
		if err := gguf.Float32s(p.Data, x); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "A_log") {
			for i, a := range p.Data {
				p.Data[i] = float32(math.Log(-float64(a)))
			}
		}
	}
	return m
}

func TestExportGGUFRefusesBrokenWeights(t *testing.T) {
	c, err := Load("../recipe/stories260k")
	if err != nil {
		t.Fatal(err)
	}
	q := c.Model.Blocks[1].Mixer.(*model.Attention).QProj.Weight
	q.Row(5)[3], q.Row(9)[0] = float32(math.NaN()), float32(math.Inf(1))
	dir := t.TempDir()
	err = ExportGGUF(filepath.Join(dir, "x.gguf"), c, gguf.Q8_0)
	if err == nil || !strings.Contains(err.Error(), `tensor "blk.1.attn_q.weight": row `) || strings.Contains(err.Error(), "\n") {
		t.Errorf("weights that are not numbers: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCheckGranite(t *testing.T) {
	c, err := Load(golden.Dir(t, "tiny-hybrid"))
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(c *model.Config, m *model.MambaConfig){
		"no convolution without activation":   func(_ *model.Config, m *model.MambaConfig) { m.Identity = true },
		"no gate with a bias":                 func(_ *model.Config, m *model.MambaConfig) { m.NoNorm = true },
		"no models without attention":         func(_ *model.Config, m *model.MambaConfig) { m.Backbone = true },
		"no Mamba1 layers":                    func(_ *model.Config, m *model.MambaConfig) { m.DTRank = 2 },
		"no biases":                           func(c *model.Config, _ *model.MambaConfig) { c.OBias = true },
		"no norms with epsilons of their own": func(c *model.Config, _ *model.MambaConfig) { c.RMSNormEps = 1e-6 },
		"no MLPs of different widths":         func(_ *model.Config, m *model.MambaConfig) { m.IntermediateSize++ },
		"no inner width but twice":            func(_ *model.Config, m *model.MambaConfig) { m.DInner = 96 },
	} {
		config, mamba := c.Model.Config, *c.Model.Config.Mamba
		config.RMSNormEps = graniteEps
		config.Mamba = &mamba
		change(&config, &mamba)
		if err := checkGranite(&config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestExportMamba: the file holds the weights under llama.cpp's names, the scan's A itself, and the shape in its metadata.
func TestExportMamba(t *testing.T) {
	c := unbiasedMamba(t)
	path := filepath.Join(t.TempDir(), "x.gguf")
	if err := ExportGGUF(path, c, gguf.F32); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := c.Model.Config.Mamba
	for key, want := range map[string]int{"ssm.inner_size": m.DInner, "ssm.state_size": m.DState, "ssm.time_step_rank": m.DTRank, "ssm.conv_kernel": m.DConv, "block_count": len(c.Model.Blocks)} {
		if got, ok := f.Uint("mamba." + key); !ok || int(got) != want {
			t.Errorf("%s is %d, want %d", key, got, want)
		}
	}
	count := 0
	for name, p := range c.Model.Params {
		count++
		x, ok := f.Tensor(mambaNames.Replace(name))
		if !ok {
			t.Errorf("no tensor %s", mambaNames.Replace(name))
			continue
		}
		got, want := make([]float32, len(p.Data)), slices.Clone(p.Data)
		if err := gguf.Float32s(got, x); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "A_log") {
			for i, v := range want {
				want[i] = float32(-math.Exp(float64(v)))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s differs", name)
		}
	}
	for _, name := range []string{"blk.0.attn_norm.weight", "blk.1.ssm_in.weight", "blk.1.ssm_conv1d.bias", "blk.0.ssm_x.weight", "blk.0.ssm_dt.bias", "blk.0.ssm_a", "blk.0.ssm_d", "output_norm.weight"} {
		if _, ok := f.Tensor(name); !ok {
			t.Errorf("no tensor %s", name)
		}
	}
	if n := len(f.Names()); n != count {
		t.Errorf("%d tensors of %d weights", n, count)
	}
	c.Model.Config.Mamba.ProjBias = true
	if err := ExportGGUF(path+"2", c, gguf.F32); err == nil || !strings.Contains(err.Error(), "use_bias") {
		t.Error(err)
	}
}

// unbiasedMamba returns the pure Mamba model without the biases of its projections.
func unbiasedMamba(t *testing.T) *Checkpoint {
	t.Helper()
	c, err := Load(golden.Dir(t, "mamba"))
	if err != nil {
		t.Fatal(err)
	}
	from := map[string]*tensor.Tensor{}
	for name, p := range c.Model.Params {
		from[name] = p
	}
	config, mamba := c.Model.Config, *c.Model.Config.Mamba
	mamba.ProjBias = false
	config.Mamba = &mamba
	if c.Model, err = model.New(config); err != nil {
		t.Fatal(err)
	}
	for name, p := range c.Model.Params {
		copy(p.Data, from[name].Data)
	}
	return c
}

// TestExportGGUFFrom: weights that come one at a time make the same file as those that are there.
func TestExportGGUFFrom(t *testing.T) {
	for _, name := range []string{"tiny-hybrid", "mamba", "llama-gqa"} {
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		switch name {
		case "mamba":
			c = unbiasedMamba(t)
		case "tiny-hybrid":
			c.Model.Config.RMSNormEps, c.Model.Config.Mamba.RMSNormEps = graniteEps, graniteEps
			c.Model.Config.Mamba.IntermediateSize = c.Model.Config.IntermediateSize
		}
		dir := t.TempDir()
		whole, pieces := filepath.Join(dir, "a.gguf"), filepath.Join(dir, "b.gguf")
		if err := ExportGGUF(whole, c, gguf.F32); err != nil {
			t.Fatal(err)
		}
		frozen, err := model.NewFrozen(c.Model.Config, quant.Q8)
		if err != nil {
			t.Fatal(err)
		}
		weights, asked := map[string]*tensor.Tensor{}, 0
		for name, p := range c.Model.Params {
			weights[name] = p
		}
		for name, p := range frozen.Params {
			copy(p.Data, weights[name].Data)
		}
		other := *c
		other.Model = frozen
		err = ExportGGUFFrom(pieces, &other, gguf.F32, func(name string, data []float32, cols int) {
			asked++
			if copy(data, weights[name].Data) != len(data) || cols != weights[name].Cols() {
				t.Errorf("%s: %d numbers in rows of %d", name, len(data), cols)
			}
		})
		if err != nil || asked == 0 {
			t.Fatal(err, asked)
		}
		a, errA := os.ReadFile(whole)
		b, errB := os.ReadFile(pieces)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: the files differ (%v, %v)", name, errA, errB)
		}
	}
}
