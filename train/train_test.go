package train

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"krait/autograd"
	"krait/loss"
	"krait/optim"
	"krait/tensor"
)

// guarded returns a run over a weight whose gradient is always 1 and whose loss is 2 but where script says otherwise: NaN or a spike, by
// the number of the batch.
func guarded(steps int, script map[int]float64) (*Run[int], *tensor.Tensor, *[]Step) {
	w := &tensor.Tensor{Shape: []int{2}, Data: []float32{1, 1}, Grad: make([]float32, 2)}
	batch, log := 0, []Step{}
	r := &Run[int]{
		Config:    Config{Steps: steps, Accumulate: 1, Schedule: optim.Schedule{Name: "constant", Peak: 0.1, Total: steps}},
		Optimizer: optim.NewAdamW(optim.Config{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8}, []optim.Param{{Name: "w", Tensor: w, Scale: 1}}),
		Next:      func() int { batch++; return batch },
		Loss: func(_ *autograd.Tape, b int) loss.Total {
			l := 2.0
			if v, ok := script[b]; ok {
				l = v
			}
			for i := range w.Grad {
				w.Grad[i] += 1
			}
			if math.IsNaN(l) {
				w.Grad[0] = float32(math.NaN())
			}
			return loss.Total{Sum: l, Tokens: 1}
		},
	}
	r.Log = func(s Step) error { log = append(log, s); return nil }
	return r, w, &log
}

// TestBrokenStepIsSkipped: a step that is no number, or a spike, leaves weights and moments as they are, and the next goes on.
func TestBrokenStepIsSkipped(t *testing.T) {
	r, w, log := guarded(8, map[int]float64{3: math.NaN(), 6: 1000})
	r.Spike = 5
	if err := r.Loop(t.Context()); err != nil {
		t.Fatal(err)
	}
	clean, want, _ := guarded(6, nil)
	if err := clean.Loop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.Data, want.Data) || r.Optimizer.Steps != 6 {
		t.Errorf("8 steps of which 2 are broken leave %v after %d updates, 6 whole ones %v", w.Data, r.Optimizer.Steps, want.Data)
	}
	for i, s := range *log {
		if broken := i == 2 || i == 5; (s.Skipped != "") != broken || s.Step != i+1 || math.IsNaN(s.Loss) {
			t.Errorf("%+v", s)
		}
	}
	if p := r.Progress; p.Step != 8 || p.Skipped != 2 || p.Bad != 0 || p.Rewinds != 0 {
		t.Errorf("%+v", p)
	}
}

// TestBrokenStepsRewind: after several broken steps weights and moments are the last good ones again, and training ends as if the steps since then had
// not been; when that does not help it ends with a sentence.
func TestBrokenStepsRewind(t *testing.T) {
	nan := math.NaN()
	r, w, _ := guarded(9, map[int]float64{5: nan, 6: nan, 7: nan})
	var saved []float32
	var m, v []float32
	var updates int
	r.SaveEvery = 2
	r.Save = func() error {
		saved, m, v, updates = slices.Clone(w.Data), slices.Clone(r.Optimizer.M[0]), slices.Clone(r.Optimizer.V[0]), r.Optimizer.Steps
		return nil
	}
	rewinds := 0
	r.Rewind = func() (string, error) {
		rewinds++
		copy(w.Data, saved)
		copy(r.Optimizer.M[0], m)
		copy(r.Optimizer.V[0], v)
		r.Optimizer.Steps = updates
		return "step 4", nil
	}
	if err := r.Loop(t.Context()); err != nil {
		t.Fatal(err)
	}
	clean, want, _ := guarded(6, nil) // 4 up to the state, 2 after the broken ones
	if err := clean.Loop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rewinds != 1 || !slices.Equal(w.Data, want.Data) {
		t.Errorf("%d rewinds, weights %v, want %v", rewinds, w.Data, want.Data)
	}
	always := map[int]float64{}
	for i := 3; i < 100; i++ {
		always[i] = nan
	}
	r, w, _ = guarded(60, always)
	r.SaveEvery, r.Save = 2, func() error { return nil }
	r.Rewind = func() (string, error) { rewinds++; return "step 2", nil }
	err := r.Loop(t.Context())
	if err == nil || !strings.Contains(err.Error(), "training diverged") || rewinds != 1+maxRewinds || math.IsNaN(float64(w.Data[0])) {
		t.Errorf("%v after %d rewinds, weights %v", err, rewinds, w.Data)
	}
	r, _, _ = guarded(60, always)
	if err := r.Loop(t.Context()); err == nil || !strings.Contains(err.Error(), "step 5: loss NaN") {
		t.Errorf("without states: %v", err)
	}
}

// TestEarlyEnd: training ends when what is held out has not got better for a while, and not before.
func TestEarlyEnd(t *testing.T) {
	r, _, log := guarded(40, nil)
	values := []float64{3, 2, 2.5, 1.9, 2, 2.1, 2.2, 2.3}
	r.EvalEvery, r.Patience = 2, 3
	r.Eval = func(context.Context) (*Eval, error) {
		v := values[0]
		values = values[1:]
		return &Eval{Loss: v}, nil
	}
	if err := r.Loop(t.Context()); err != nil || r.Progress.Step != 14 || !r.Progress.Ended || r.Progress.Best != 1.9 {
		t.Errorf("%v, %+v", err, r.Progress)
	}
	if n := len(*log); n != 14 || (*log)[13].Eval == nil || (*log)[12].Eval != nil {
		t.Errorf("%d steps: %+v", n, *log)
	}
}

// TestReduce: what reduces the sums of many machines sees them before the step and may refuse.
func TestReduce(t *testing.T) {
	r, w, log := guarded(1, nil)
	r.Reduce = func(params []optim.Param, total *loss.Total) error {
		for i := range params[0].Tensor.Grad {
			params[0].Tensor.Grad[i] *= 3 // as if two machines more had found the same
		}
		total.Sum, total.Tokens = 3*total.Sum, 3*total.Tokens
		return nil
	}
	if err := r.Loop(t.Context()); err != nil || (*log)[0].Loss != 2 || math.Abs((*log)[0].GradNorm-math.Sqrt2) > 1e-12 {
		t.Errorf("%v, %+v, %v", err, *log, w.Data)
	}
	lost := errors.New("a machine is lost")
	r, w, _ = guarded(1, nil)
	r.Reduce = func([]optim.Param, *loss.Total) error { return lost }
	if err := r.Loop(t.Context()); !errors.Is(err, lost) || w.Data[0] != 1 {
		t.Errorf("%v, %v", err, w.Data)
	}
}
