package loss_test

import (
	"testing"

	"krait/autograd"
	"krait/internal/golden"
	"krait/loss"
	"krait/tensor"
)

// matrix returns a golden matrix (rows, cols) with a zero gradient.
func matrix(e *golden.Expected, name string, cols int) *tensor.Tensor {
	x := tensor.Of(floats32(e, name), len(e.Floats(name))/cols, cols)
	x.Grad = make([]float32, len(x.Data))
	return x
}

func floats32(e *golden.Expected, name string) []float32 {
	var list []float32
	for _, v := range e.Floats(name) {
		list = append(list, float32(v))
	}
	return list
}

// TestDivergencesGolden compares every divergence and its gradients with TRL's and DistiLLM's formulas in float64: whole rows, and a teacher of which
// the likeliest tokens are known.
func TestDivergencesGolden(t *testing.T) {
	e := golden.Open(t, "../losses/testdata/divergences")
	for _, kind := range []string{"forward", "reverse", "js", "skew", "skew-reverse"} {
		for _, suffix := range []string{"", ".top"} {
			name := kind + suffix
			divergence, err := loss.ParseDivergence(kind)
			if err != nil {
				t.Fatal(err)
			}
			hidden, head := matrix(e, "hidden", 8), matrix(e, "head", 8)
			student := loss.Head{Hidden: hidden, Weight: autograd.Dense{Tensor: head}}
			teacher := loss.Head{Hidden: matrix(e, "teacher_hidden", 8), Weight: autograd.Dense{Tensor: matrix(e, "teacher_head", 8)}}
			w := loss.Weights{KL: 1, Divergence: divergence, Mix: e.Floats("mix")[0]}
			var total loss.Total
			if suffix == "" {
				total = loss.Distill(autograd.NewTape(), student, teacher, e.Ints("targets"), w)
			} else {
				top := &loss.TopK{K: 5, IDs: e.Ints("ids"), LogProbs: floats32(e, "log_probs"), Tail: floats32(e, "tail")}
				total = loss.DistillTopK(autograd.NewTape(), student, top, e.Ints("targets"), w)
			}
			near(t, name, total.Sum, e.Floats("sum." + name)[0])
			if total.Tokens != 7 || total.Parts[divergence.String()] != total.Sum {
				t.Errorf("%s: %+v, want seven rows", name, total)
			}
			golden.Close(t, name+" hidden", hidden.Grad, e.Floats("hidden."+name), gradientTolerance)
			golden.Close(t, name+" head", head.Grad, e.Floats("head."+name), gradientTolerance)
		}
	}
	if _, err := loss.ParseDivergence("kl"); err == nil {
		t.Error("divergence kl was read")
	}
}

// TestTopKOfAll checks that a teacher of which all tokens are known is the teacher, for losses with cross-entropy too and rows without a target.
func TestTopKOfAll(t *testing.T) {
	e := golden.Open(t, "../losses/testdata/divergences")
	teacher := loss.Head{Hidden: matrix(e, "teacher_hidden", 8), Weight: autograd.Dense{Tensor: matrix(e, "teacher_head", 8)}}
	rows, vocab := teacher.Hidden.Rows(), teacher.Weight.(autograd.Dense).Rows()
	all := &loss.TopK{K: vocab, Tail: make([]float32, rows)}
	for id := range vocab {
		logps := loss.LogProbs(nil, teacher, sameTarget(rows, int32(id)))
		for r, l := range logps {
			if id == 0 {
				all.IDs, all.LogProbs = append(all.IDs, make([]int32, vocab)...), append(all.LogProbs, make([]float32, vocab)...)
			}
			all.IDs[r*vocab+id], all.LogProbs[r*vocab+id] = int32(id), float32(l)
		}
	}
	for _, w := range []loss.Weights{{KL: 1, CE: 0.5}, {KL: 2, Unmasked: true}, {KL: 1, CE: 1, Unmasked: true, Divergence: loss.JS, Mix: 0.5}} {
		var sums [2]float64
		var grads [2][]float32
		for i := range sums {
			hidden := matrix(e, "hidden", 8)
			student := loss.Head{Hidden: hidden, Weight: autograd.Dense{Tensor: matrix(e, "head", 8)}}
			if i == 0 {
				sums[i] = loss.Distill(autograd.NewTape(), student, teacher, e.Ints("targets"), w).Sum
			} else {
				sums[i] = loss.DistillTopK(autograd.NewTape(), student, all, e.Ints("targets"), w).Sum
			}
			grads[i] = hidden.Grad
		}
		near(t, "loss", sums[1], sums[0])
		for i, g := range grads[0] {
			if d := g - grads[1][i]; d > 1e-5 || d < -1e-5 {
				t.Fatalf("%+v: gradient %d is %g of all tokens, %g of rows", w, i, grads[1][i], g)
			}
		}
		if w.Unmasked == (grads[0][2*8] == 0) {
			t.Errorf("%+v: the gradient of a row without a target is %g", w, grads[0][2*8])
		}
	}
}

func sameTarget(n int, id int32) []int32 {
	targets := make([]int32, n)
	for i := range targets {
		targets[i] = id
	}
	return targets
}

func TestBradleyTerryGolden(t *testing.T) {
	e := golden.Open(t, "../losses/testdata/reward")
	scores := matrix(e, "scores", 1)
	var ends []int
	for _, i := range e.Ints("ends") {
		ends = append(ends, int(i))
	}
	total := loss.BradleyTerry(autograd.NewTape(), scores, ends, e.Floats("margins"), e.Floats("centre")[0])
	near(t, "loss", total.Sum, e.Floats("loss")[0])
	golden.Close(t, "grad", scores.Grad, e.Floats("grad"), gradientTolerance)
	for _, name := range []string{"accuracy", "margin", "mean_reward"} {
		near(t, name, total.Parts[name], e.Floats(name)[0])
	}
	if total.Tokens != 3 || total.Parts["min_reward"] >= total.Parts["mean_reward"] || total.Parts["max_reward"] <= total.Parts["mean_reward"] {
		t.Errorf("%+v, want three pairs", total)
	}
}

// cut divides a list into rows of the given lengths.
func cut(list []float64, lengths []int32) (rows [][]float64) {
	for _, n := range lengths {
		rows = append(rows, list[:n:n])
		list = list[n:]
	}
	return rows
}

// TestPPOGolden compares what follows from a rollout, and the losses of a step, with the lines of TRL's PPOTrainer, which pads.
func TestPPOGolden(t *testing.T) {
	e := golden.Open(t, "../losses/testdata/ppo")
	c := e.Floats("constants")
	gamma, lambda, coef := c[0], c[1], c[2]
	lengths, steps := e.Ints("lengths"), e.Ints("steps")
	var advantages, returns [][]float64
	for _, k3 := range []bool{false, true} {
		for _, whiten := range []bool{false, true} {
			suffix := map[bool]string{false: ".k1", true: ".k3"}[k3] + map[bool]string{true: ".whitened"}[whiten]
			logps, refs, values := cut(e.Floats("logps"), lengths), cut(e.Floats("ref"), lengths), cut(e.Floats("values"), steps)
			var rewards [][]float64
			var kls []float32
			for i, n := range steps {
				rewards = append(rewards, make([]float64, n))
				kl := 0.0
				for j, l := range logps[i] {
					k := loss.KLEstimate(k3, l, refs[i][j])
					kl += k
					rewards[i][j] = -coef * k
				}
				kls = append(kls, float32(kl))
				rewards[i][n-1] += e.Floats("scores")[i]
			}
			golden.Close(t, "kl"+suffix, kls, e.Floats("kl"+suffix), lossTolerance)
			if whiten {
				loss.Whiten(false, rewards...)
			}
			advantages, returns = nil, nil
			for i, r := range rewards {
				a, ret := loss.GAE(r, values[i], gamma, lambda)
				advantages, returns = append(advantages, a[:lengths[i]]), append(returns, ret)
			}
			loss.Whiten(true, advantages...)
			golden.Close(t, "advantages"+suffix, join(advantages), e.Floats("advantages"+suffix), lossTolerance)
			golden.Close(t, "returns"+suffix, join(returns), e.Floats("returns"+suffix), lossTolerance)
		}
	}
	testPPOStep(t, e, advantages, returns)
}

func join(rows [][]float64) (list []float32) {
	for _, row := range rows {
		for _, v := range row {
			list = append(list, float32(v))
		}
	}
	return list
}

func testPPOStep(t *testing.T, e *golden.Expected, advantages, returns [][]float64) {
	c := e.Floats("constants")
	p := loss.PPO{Clip: c[3], ClipValue: c[4]}
	hidden, head := matrix(e, "hidden", 8), matrix(e, "head", 8)
	var flat, flatReturns []float64
	for i := range advantages {
		flat, flatReturns = append(flat, advantages[i]...), append(flatReturns, returns[i]...)
	}
	policy := p.Policy(autograd.NewTape(), loss.Head{Hidden: hidden, Weight: autograd.Dense{Tensor: head}, Temperature: c[5]},
		e.Ints("targets"), e.Floats("logps"), flat)
	n := float64(policy.Tokens)
	for name, part := range map[string]string{"policy_loss": "loss/policy_avg", "policy_clipfrac": "policy/clipfrac_avg",
		"entropy": "policy/entropy_avg", "ratio": "val/ratio"} {
		near(t, name, policy.Parts[part]/n, e.Floats(name)[0])
	}
	golden.Close(t, "hidden", scaled(hidden.Grad, 1/n), e.Floats("hidden.grad"), gradientTolerance)
	golden.Close(t, "head", scaled(head.Grad, 1/n), e.Floats("head.grad"), gradientTolerance)
	values := matrix(e, "new_values", 1)
	counted := make([]bool, len(values.Data))
	for i := range counted {
		counted[i] = true
	}
	value := p.Value(autograd.NewTape(), values, counted, e.Floats("values"), flatReturns, 1/float64(len(values.Data)))
	near(t, "value_loss", value.Sum/float64(value.Tokens), e.Floats("value_loss")[0])
	near(t, "value_clipfrac", value.Parts["val/clipfrac_avg"]/float64(value.Tokens), e.Floats("value_clipfrac")[0])
	golden.Close(t, "values", values.Grad, e.Floats("values.grad"), gradientTolerance)
	if value.Parts["val/clipfrac_avg"] == 0 || policy.Parts["policy/clipfrac_avg"] == 0 {
		t.Error("nothing was clipped: the test does not test it")
	}
}

func scaled(x []float32, by float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(float64(v) * by)
	}
	return y
}
