package recipe

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"krait/checkpoint"
)

// TestRecompute: a training that keeps less in memory makes the same weights, bit by bit, in every stage that trains through the model or through its
// mixers, and the record says how much less that was.
func TestRecompute(t *testing.T) {
	dir := t.TempDir()
	c := DistillConfig{Teacher: stories(t, ""), Student: filepath.Join(dir, "student"), KL: 1, CE: 1, TrainConfig: tiny()}
	c.Labels = labelled(t, c.Teacher, filepath.Join(dir, "labels"), 0).Out
	c.Context, c.BatchTokens, c.Steps = 64, 1024, 2
	if err := Init(t.Context(), InitConfig{Teacher: c.Teacher, Out: c.Student, AttnLayers: []int{1, 3}, Init: "attention"}, quiet); err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string]func() error{
		"align":   func() error { return Align(t.Context(), c, quiet) },
		"distill": func() error { return Distill(t.Context(), c, quiet) },
	} {
		var weights [2][]byte
		var figures [2]map[string]float64
		for i, recompute := range []bool{false, true} {
			c.Recompute, c.Out = recompute, filepath.Join(dir, name+[]string{"-kept", "-again"}[i])
			if err := run(); err != nil {
				t.Fatal(err)
			}
			p, err := checkpoint.ReadProvenance(c.Out)
			if err != nil {
				t.Fatal(err)
			}
			figures[i] = p.Metrics
			if weights[i], err = os.ReadFile(filepath.Join(c.Out, "model.safetensors")); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(weights[0], weights[1]) {
			t.Errorf("%s: recomputation changed the weights", name)
		}
		const key = "memory_activations_mib"
		if kept, less := figures[0][key], figures[1][key]; less <= 0 || name == "distill" && less >= kept {
			t.Errorf("%s: %g MiB of activations with recomputation, %g without", name, less, kept)
		}
		// 260 k float32 weights are a MiB, their moments two; the teacher has its matrices in panels as well.
		for key, least := range map[string]float64{"weights": 1, "teacher": 1, "teacher_activations": 0.1, "gradients": 0.2, "optimizer": 0.4} {
			if v := figures[0]["memory_"+key+"_mib"]; v < least || v > 40 {
				t.Errorf("%s: %s take %g MiB, want at least %g", name, key, v, least)
			}
		}
	}
}
