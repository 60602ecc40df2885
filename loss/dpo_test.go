package loss_test

import (
	"math"
	"testing"

	"krait/autograd"
	"krait/checkpoint"
	"krait/internal/golden"
	"krait/loss"
	"krait/model"
	"krait/tensor"
)

// Tolerances of float32 against float64, as internal/golden/README.md has them.
const (
	lossTolerance     = 1e-5
	gradientTolerance = 1e-4
)

// dpoBatch is a batch of internal/golden/trl and what DPO is told about it.
type dpoBatch struct {
	batch      model.Batch
	targets    []int32
	lens       []int
	refs       []loss.Reference
	preference loss.Preference
}

func openDPO(t *testing.T, kind string) (*golden.Expected, dpoBatch) {
	e := golden.Open(t, "../trl/testdata/dpo-"+kind)
	b := dpoBatch{batch: model.Batch{Tokens: e.Ints("tokens")}, targets: e.Ints("targets"),
		preference: loss.Preference{Beta: e.Floats("beta")[0], Smoothing: e.Floats("label_smoothing")[0], IPO: kind == "ipo"}}
	for _, n := range e.Ints("run_lengths") {
		b.lens = append(b.lens, int(n))
		b.batch.Runs = append(b.batch.Runs, model.Run{Len: int(n)})
	}
	r := e.Floats("reference")
	for i := 0; i < len(r); i += 2 {
		b.refs = append(b.refs, loss.Reference{Chosen: r[i], Rejected: r[i+1]})
	}
	return e, b
}

// TestDPOGolden compares the loss, the metrics and every weight's gradient with TRL's formulas in float64.
func TestDPOGolden(t *testing.T) {
	for _, kind := range []string{"sigmoid", "smoothed", "ipo"} {
		t.Run(kind, func(t *testing.T) {
			e, b := openDPO(t, kind)
			c, err := checkpoint.Load(golden.Dir(t, "tiny-hybrid"))
			if err != nil {
				t.Fatal(err)
			}
			m := c.Model
			m.Train(func(string) bool { return true })
			tape := autograd.NewTape()
			got := loss.DPO(tape, loss.Head{Hidden: m.Forward(tape, b.batch), Weight: m.Head()}, b.targets, b.lens, b.refs, b.preference)
			tape.Backward()
			if got.Tokens != len(b.refs) {
				t.Errorf("counted %d, want %d pairs", got.Tokens, len(b.refs))
			}
			near(t, "loss", got.Sum, e.Floats("loss_sum")[0])
			for name, value := range got.Parts {
				near(t, name, value, e.Floats("sum." + name)[0])
			}
			if len(got.Parts) != 6 {
				t.Errorf("metrics %v, want six", got.Parts)
			}
			for name, p := range m.Params {
				golden.Close(t, name, p.Grad, e.Floats("grad."+name), gradientTolerance)
			}
		})
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= lossTolerance*max(1, math.Abs(want))) {
		t.Errorf("%s is %.9g, want %.9g", what, got, want)
	}
}

// TestDPOAtReference checks the closed forms where the policy is the reference: log 2, and (1/2β)² for IPO; no answer is ahead.
func TestDPOAtReference(t *testing.T) {
	hidden, weight := tensor.New(7, 4), tensor.New(5, 4)
	for i := range hidden.Data {
		hidden.Data[i] = float32(i%5) - 2
	}
	for i := range weight.Data {
		weight.Data[i] = float32(i%3) - 1
	}
	head := loss.Head{Hidden: hidden, Weight: autograd.Dense{Tensor: weight}}
	targets := []int32{-1, 2, 3, -1, -1, 4, -1}
	logps := loss.LogProbs(nil, head, targets)
	refs := []loss.Reference{{Chosen: logps[1] + logps[2], Rejected: logps[5]}}
	for _, c := range []struct {
		p    loss.Preference
		want float64
	}{{loss.Preference{Beta: 0.1}, math.Ln2}, {loss.Preference{Beta: 0.1, Smoothing: 0.3}, math.Ln2}, {loss.Preference{Beta: 0.5, IPO: true}, 1}} {
		got := loss.DPO(nil, head, targets, []int{4, 3}, refs, c.p)
		if math.Abs(got.Sum-c.want) > 1e-12 || got.Parts["rewards/margins"] != 0 || got.Parts["rewards/accuracies"] != 0 {
			t.Errorf("%+v: %+v, want %g without margin", c.p, got, c.want)
		}
	}
	if logps[0] != 0 || logps[3] != 0 {
		t.Errorf("rows without a target have log-probabilities %v", logps)
	}
}

// TestDPOSaturates checks that pairs far apart leave finite losses: the linear ends of the sigmoid's logarithm.
func TestDPOSaturates(t *testing.T) {
	head := loss.Head{Hidden: tensor.New(2, 1), Weight: autograd.Dense{Tensor: tensor.New(2, 1)}}
	for _, far := range []float64{1e6, -1e6} {
		got := loss.DPO(nil, head, []int32{0, 0}, []int{1, 1}, []loss.Reference{{Rejected: far}}, loss.Preference{Beta: 1})
		if want := max(0, -far); math.Abs(got.Sum-want) > 1e-6*max(1, want) {
			t.Errorf("reference margin %g: loss %g, want %g", -far, got.Sum, want)
		}
	}
}
