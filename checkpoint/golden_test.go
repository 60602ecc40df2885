package checkpoint

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"krait/autograd"
	"krait/internal/golden"
	"krait/loss"
	"krait/model"
)

// The tolerances are of the largest value. float32 in the same order of operations is good to 2e-6 (logits); a factor of ten
// leaves room for kernels that sum in another order.
const (
	logitTolerance = 2e-5
	gradTolerance  = 1e-4
)

func goldenBatch(e *golden.Expected) model.Batch {
	b := model.Batch{Tokens: e.Ints("tokens")}
	for _, n := range e.Ints("run_lengths") {
		b.Runs = append(b.Runs, model.Run{Len: int(n)})
	}
	return b
}

// TestGoldenLogits loads every reference checkpoint (each family member, file type and spelling) and compares its logits.
func TestGoldenLogits(t *testing.T) {
	for _, name := range []string{"tiny-hybrid", "tiny-pure", "tiny-mqa", "tiny-two-configs", "llama-gqa", "sharded", "llama-mqa-bf16", "llama-f16",
		"llama-headdim", "llama-bias", "llama-rope3-rope_type", "llama-rope3-type", "llama-linear", "llama-rope_parameters", "mistral-window", "qwen2",
		"qwen3", "qwen3-bias", "tiny-mamba1", "tiny-mamba1-fused", "tiny-mamba1-narrow", "tiny-fused", "tiny-wide", "torch-bin", "torch-shards",
		"mamba", "mamba-authors", "mamba2-authors", "mamba2-groups", "mamba2-tied"} {
		t.Run(name, func(t *testing.T) {
			e := golden.Open(t, name)
			c, err := Load(golden.Dir(t, name))
			if err != nil {
				t.Fatal(err)
			}
			want := e.Floats("logits")
			logits := func(c *Checkpoint) []float32 {
				return c.Model.Logits(nil, c.Model.Forward(nil, goldenBatch(e))).Data
			}
			got := logits(c)
			golden.Close(t, "logits", got, want, logitTolerance)
			c.Model.Pack()
			for i, v := range logits(c) {
				if v != got[i] {
					t.Fatalf("packed weights: logit %d is %g, plain %g", i, v, got[i])
				}
			}
			// What Save writes reads back to the same logits, bit for bit.
			dir := filepath.Join(t.TempDir(), "copy")
			if err := Save(dir, c); err != nil {
				t.Fatal(err)
			}
			again, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			sameFiles(t, dir, again)
			for i, v := range logits(again) {
				if v != got[i] {
					t.Fatalf("written and read again: logit %d is %g, want %g", i, v, got[i])
				}
			}
		})
	}
}

// sameFiles checks that c, which was read from dir, is written as the same bytes.
func sameFiles(t *testing.T, dir string, c *Checkpoint) {
	t.Helper()
	other := dir + "-again"
	if err := Save(other, c); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadDir(other)
	if err != nil || len(again) != len(files) {
		t.Fatalf("%d files, written again %d: %v", len(files), len(again), err)
	}
	for _, f := range files {
		want, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(other, f.Name()))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not the same when written again: %v", f.Name(), err)
		}
	}
}

// TestGoldenStates feeds the reference batches in random pieces, with rollbacks, and compares the logits of what was kept.
func TestGoldenStates(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, name := range []string{"tiny-hybrid", "tiny-pure", "tiny-mqa", "mistral-window", "tiny-mamba1", "tiny-mamba1-narrow", "tiny-wide", "qwen3", "mamba", "mamba2-groups"} {
		e := golden.Open(t, name)
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		m, b, want := c.Model, goldenBatch(e), e.Floats("logits")
		vocab := m.Config.VocabSize
		row := 0
		for _, r := range b.Runs {
			state := m.NewState()
			for at := 0; at < r.Len; {
				n := min(r.Len-at, 1+rng.IntN(24))
				provisional := rng.IntN(2) == 0
				if provisional {
					state.Mark()
				}
				got := m.Logits(nil, m.Forward(nil, model.Single(b.Tokens[row+at:row+at+n], state))).Data
				golden.Close(t, name, got, want[(row+at)*vocab:(row+at+n)*vocab], logitTolerance)
				if provisional {
					m.Forward(nil, model.Single([]int32{3, 4}, state)) // a second provisional step
					n = rng.IntN(n + 1)
					state.Keep(n)
				}
				at += n
			}
			row += r.Len
		}
	}
}

// TestGoldenGradients compares the cross-entropy gradient of every weight of three hybrids and of pure models.
func TestGoldenGradients(t *testing.T) {
	for _, name := range []string{"tiny-hybrid", "tiny-pure", "tiny-mamba1", "mamba", "mamba2-groups", "mamba2-tied"} {
		e := golden.Open(t, name)
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		m := c.Model
		m.Train(func(string) bool { return true })
		tape := autograd.NewTape()
		total := crossEntropy(tape, m, goldenBatch(e), e.Ints("targets"))
		golden.Close(t, name+" ce_sum", []float32{float32(total)}, e.Floats("ce_sum"), 1e-5)
		tape.Backward()
		for pname, p := range m.Params {
			for i := range p.Grad {
				p.Grad[i] *= fileScale(pname) // with respect to the number in the file
			}
			golden.Close(t, name+" grad "+pname, p.Grad, e.Floats("grad."+pname), gradTolerance)
		}
	}
}

func crossEntropy(tape *autograd.Tape, m *model.Model, b model.Batch, targets []int32) float64 {
	return loss.CrossEntropy(tape, loss.Head{Hidden: m.Forward(tape, b), Weight: m.Head()}, targets).Sum
}

// TestGoldenDistillation compares the KL and cross-entropy gradients of a student against a teacher.
func TestGoldenDistillation(t *testing.T) {
	e := golden.Open(t, "tiny-distill")
	student, err := Load(golden.Dir(t, "tiny-hybrid"))
	if err != nil {
		t.Fatal(err)
	}
	teacher, err := Load(filepath.Join(golden.Dir(t, "tiny-distill"), "teacher"))
	if err != nil {
		t.Fatal(err)
	}
	m, b := student.Model, goldenBatch(e)
	m.Train(func(string) bool { return true })
	tape := autograd.NewTape()
	th := loss.Head{Hidden: teacher.Model.Forward(nil, b), Weight: teacher.Model.Head()}
	total := loss.Distill(tape, loss.Head{Hidden: m.Forward(tape, b), Weight: m.Head()}, th, e.Ints("targets"), loss.Weights{KL: 1, CE: 0.1})
	golden.Close(t, "kl_sum", []float32{float32(total.Parts["kl"])}, e.Floats("kl_sum"), 1e-5)
	golden.Close(t, "ce_sum", []float32{float32(total.Parts["ce"])}, e.Floats("ce_sum"), 1e-5)
	tape.Backward()
	for name, p := range m.Params {
		golden.Close(t, "grad "+name, p.Grad, e.Floats("grad."+name), gradTolerance)
	}
	same := loss.Distill(nil, th, th, e.Ints("targets"), loss.Weights{KL: 1})
	if same.Sum > 1e-4 {
		t.Errorf("KL of the teacher to itself is %g, want 0", same.Sum)
	}
}
