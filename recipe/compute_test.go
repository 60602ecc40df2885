package recipe

import (
	"math"
	"path/filepath"
	"testing"

	"krait/checkpoint"
)

// TestComputeBF16 holds a distillation in bf16 against the same in f32: the losses of each step must agree within 4 %, the mean of all within 1 %,
// and the weights must stay float32, not bf16.
func TestComputeBF16(t *testing.T) {
	dir := t.TempDir()
	c := DistillConfig{Teacher: stories(t, ""), Student: filepath.Join(dir, "student"), KL: 1, CE: 1, TrainConfig: tiny()}
	c.Labels = labelled(t, c.Teacher, filepath.Join(dir, "labels"), 0).Out
	c.LR, c.Context, c.BatchTokens, c.Steps, c.Warmup = 1e-3, 64, 256, 30, 5
	if err := Init(t.Context(), InitConfig{Teacher: c.Teacher, Out: c.Student, AttnLayers: []int{1, 3}, Init: "attention"}, quiet); err != nil {
		t.Fatal(err)
	}
	exact := distillTest(t, c, filepath.Join(dir, "f32"))
	c.Compute = "bf16"
	rounded := distillTest(t, c, filepath.Join(dir, "bf16"))
	var sum, drift float64
	same := 0
	for i, want := range exact {
		sum += want
		drift += rounded[i] - want
		if d := math.Abs(rounded[i]-want) / want; !(d <= 0.04) {
			t.Errorf("step %d: loss %.4f in bf16, %.4f in f32", i+1, rounded[i], want)
		} else if d == 0 {
			same++
		}
	}
	if same == len(exact) {
		t.Error("bf16 changed no bit: it is not in use")
	}
	if !(math.Abs(drift) <= 0.01*sum) {
		t.Errorf("the losses differ by %.2f %% on average", 100*drift/sum)
	}
	if !(exact[len(exact)-1] < 0.9*exact[0]) {
		t.Errorf("nothing was learnt: loss %.3f, then %.3f", exact[0], exact[len(exact)-1])
	}
	m, err := checkpoint.Load(filepath.Join(dir, "bf16"))
	if err != nil {
		t.Fatal(err)
	}
	fine := 0
	for _, w := range m.Model.Blocks[0].MLP.UpProj.Weight.Data {
		if math.Float32bits(w)&0xffff != 0 {
			fine++
		}
	}
	if fine == 0 {
		t.Error("the trained weights are bf16")
	}
	c.Compute = "fp8"
	c.Out = filepath.Join(dir, "bad")
	if err := Distill(t.Context(), c, quiet); err == nil {
		t.Error("compute fp8 was accepted")
	}
}
