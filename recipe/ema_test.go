package recipe

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"krait/checkpoint"
)

// TestEMA: the average of the weights is what the weights after each step say, an interruption changes no bit of it, it is the result where that is
// asked for, and changes nothing but what is measured where it is not.
func TestEMA(t *testing.T) {
	dir := t.TempDir()
	c := DistillConfig{Teacher: stories(t, ""), Student: filepath.Join(dir, "student"), KL: 1, TrainConfig: tiny()}
	c.Labels = labelled(t, c.Teacher, filepath.Join(dir, "labels"), 0).Out
	c.Context, c.BatchTokens, c.Schedule, c.SaveEvery, c.Train = 64, 128, "constant", 1, []string{"layers.0.mamba."}
	if err := Init(t.Context(), InitConfig{Teacher: c.Teacher, Out: c.Student, AttnLayers: []int{1, 3}, Init: "attention"}, quiet); err != nil {
		t.Fatal(err)
	}
	const name, decay, steps = "model.layers.0.mamba.in_proj.weight", 0.7, 6
	weights := func(dir string) []float32 {
		m, err := checkpoint.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		for n, p := range m.Model.Params {
			if n == name {
				return p.Data
			}
		}
		t.Fatalf("%s has no %s", dir, name)
		return nil
	}
	run := func(out string, steps int) []float32 {
		c.Out, c.Steps = filepath.Join(dir, out), steps
		if err := Distill(t.Context(), c, quiet); err != nil {
			t.Fatal(err)
		}
		return weights(c.Out)
	}
	start := weights(c.Student)
	want := make([]float64, len(start))
	for i, w := range start {
		want[i] = math.Pow(decay, steps) * float64(w)
	}
	var last []float32
	for n := 1; n <= steps; n++ {
		last = run("steps-"+string(rune('0'+n)), n)
		for i, w := range last {
			want[i] += (1 - decay) * math.Pow(decay, float64(steps-n)) * float64(w)
		}
	}
	c.EMADecay, c.EMAResult = decay, true
	got := run("mean", steps)
	moved := 0.0
	for i, w := range got {
		if math.Abs(float64(w)-want[i]) > 1e-6 {
			t.Fatalf("weight %d is %g, want %g", i, w, want[i])
		}
		moved = max(moved, math.Abs(float64(w-last[i])))
	}
	if moved < 1e-4 {
		t.Errorf("the average is within %g of the weights: nothing is averaged", moved)
	}
	c.Out = filepath.Join(dir, "parts")
	interrupt(t, func(r Report) error { return Distill(t.Context(), c, r) })
	sameFile(t, filepath.Join(dir, "mean", "model.safetensors"), filepath.Join(c.Out, "model.safetensors"))

	c.EMAResult, c.EvalEvery, c.EvalText = false, 2, filepath.Join(dir, "text")
	if err := checkpoint.WriteFile(c.EvalText, []byte(HeldOut()[:1500])); err != nil {
		t.Fatal(err)
	}
	run("beside", steps)
	sameFile(t, filepath.Join(dir, "steps-6", "model.safetensors"), filepath.Join(c.Out, "model.safetensors"))
	metrics, err := ReadMetrics(c.Out)
	if err != nil || metrics[steps-1].Eval == nil || metrics[steps-1].Eval.EMA == nil {
		t.Fatalf("%+v, %v", metrics, err)
	}
	beside := metrics[steps-1].Eval.EMA.NLL
	c.EMAResult = true
	run("judged", steps)
	if metrics, err = ReadMetrics(c.Out); err != nil || metrics[steps-1].Eval.NLL != beside || beside == 0 || metrics[steps-1].Eval.EMA != nil {
		t.Errorf("%+v, %v, want a loss of %g", metrics[steps-1].Eval, err, beside)
	}
	for _, bad := range []float64{0, 1, -0.5, math.NaN()} {
		c.EMADecay, c.Out = bad, filepath.Join(dir, "bad")
		if err := Distill(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), "ema_decay is") {
			t.Errorf("%g: %v", bad, err)
		}
	}
}
