package eval

import (
	"context"
	"runtime"
	"testing"

	"krait/model"
	"krait/quant"
)

// TestTrainingAllocations: after the first steps, which take the memory, a step of training allocates little, and not more from step to step.
func TestTrainingAllocations(t *testing.T) {
	c, err := ShapeConfig("tinyhybrid")
	if err != nil {
		t.Fatal(err)
	}
	m, err := RandomModel(c, 1, quant.F32)
	if err != nil {
		t.Fatal(err)
	}
	for _, bf16 := range []bool{false, true} {
		t.Run(map[bool]string{false: "f32", true: "bf16"}[bf16], func(t *testing.T) { allocationsOf(t, m, bf16) })
	}
}

// TestBF16TrainingHasNoLimit: the test's limit would be that of another test.
func TestBF16TrainingHasNoLimit(t *testing.T) {
	r, err := Bench(context.Background(), subject(t, "tinyhybrid"), BenchConfig{Runs: 1, Seconds: 0.02, Tests: []string{bf16Train}})
	if err != nil {
		t.Fatal(err)
	}
	if row := r.Rows[0]; row.Skipped == "" && row.Limit != 0 {
		t.Errorf("%+v", row)
	}
}

func allocationsOf(t *testing.T, m *model.Model, bf16 bool) {
	s, err := newTrainStep(m, bf16)
	if err != nil {
		t.Fatal(err)
	}
	s.step()
	s.step() // now every block of memory has found its size
	held := s.tape.Bytes() + s.scratch.Bytes()
	var counts, bytes []uint64
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s.step()
		runtime.ReadMemStats(&after)
		counts, bytes = append(counts, after.Mallocs-before.Mallocs), append(bytes, after.TotalAlloc-before.TotalAlloc)
	}
	t.Logf("allocations a step: %d, of %d bytes; the tapes hold %d", counts, bytes, held)
	for i := range counts {
		if counts[i] > 1500 || bytes[i] > 16<<20 {
			t.Errorf("step %d: %d allocations of %d bytes", i+3, counts[i], bytes[i])
		}
	}
	if now := s.tape.Bytes() + s.scratch.Bytes(); now != held {
		t.Errorf("the tapes held %d bytes after two steps, now %d", held, now)
	}
}
