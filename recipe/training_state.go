package recipe

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"krait/checkpoint"
	"krait/data"
	"krait/optim"
	"krait/safetensors"
	"krait/train"
)

func stateDir(tmp string, step int) string { return filepath.Join(tmp, fmt.Sprintf("state-%d", step)) }

// savedStates returns the steps of the whole states under tmp, latest first.
func savedStates(tmp string) ([]int, error) {
	entries, err := os.ReadDir(tmp)
	if err != nil {
		return nil, err
	}
	var steps []int
	for _, e := range entries {
		if s, ok := strings.CutPrefix(e.Name(), "state-"); ok && !strings.HasSuffix(s, ".partial") {
			if n, err := strconv.Atoi(s); err == nil {
				steps = append(steps, n)
			}
		}
	}
	slices.SortFunc(steps, func(a, b int) int { return b - a })
	return steps, nil
}

// save writes the whole state of the run and then removes older ones.
func (t *training) save(r *train.Run[data.Batch], cursor data.Cursor) error {
	tmp := checkpoint.Partial(t.out)
	dir := stateDir(tmp, r.Progress.Step)
	if _, err := os.Stat(dir); err == nil {
		return nil // saved at this very step already
	}
	if err := os.RemoveAll(checkpoint.Partial(dir)); err != nil {
		return err
	}
	if err := os.MkdirAll(checkpoint.Partial(dir), 0o755); err != nil {
		return err
	}
	if err := t.writeWeights(checkpoint.Partial(dir)); err != nil {
		return err
	}
	if err := writeMoments(r.Optimizer, filepath.Join(checkpoint.Partial(dir), "optimizer.safetensors")); err != nil {
		return err
	}
	if t.ema != nil {
		if err := writeMean(t.ema, filepath.Join(checkpoint.Partial(dir), meanFile)); err != nil {
			return err
		}
	}
	j, err := json.Marshal(trainState{Progress: r.Progress, Cursor: cursor, Optimizer: r.Optimizer.Steps, Tokens: t.tokens.total})
	if err != nil {
		return err
	}
	if err := checkpoint.WriteFile(filepath.Join(checkpoint.Partial(dir), "trainer_state.json"), j); err != nil {
		return err
	}
	if err := checkpoint.Finish(dir); err != nil {
		return err
	}
	return t.prune(tmp)
}

// prune removes states that are no longer kept: all but the latest ones, and the latest of those that fall on a step to save at. To that one the run
// goes back when steps are broken, whenever it was interrupted.
func (t *training) prune(tmp string) error {
	states, err := savedStates(tmp)
	if err != nil {
		return err
	}
	regular := slices.IndexFunc(states, t.regular)
	for i, s := range states {
		if i < max(1, t.SaveLimit) || i == regular {
			continue
		}
		if err := os.RemoveAll(stateDir(tmp, s)); err != nil {
			return err
		}
	}
	return nil
}

// regular reports whether a state is saved after this step however the run goes.
func (t *training) regular(step int) bool { return t.SaveEvery > 0 && step%t.SaveEvery == 0 }

// rewind sets weights and moments to the latest regular state; the data goes on where it is.
func (t *training) rewind(r *train.Run[data.Batch]) (string, error) {
	states, err := savedStates(checkpoint.Partial(t.out))
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(states, t.regular)
	if i < 0 {
		return "", errors.New("no state is saved yet to go back to")
	}
	s, err := t.load(r, states[i])
	if err != nil {
		return "", err
	}
	r.Optimizer.Steps = s.Optimizer
	return fmt.Sprintf("step %d", states[i]), nil
}

// resume sets the run to the latest saved state, if there is one.
func (t *training) resume(r *train.Run[data.Batch], stream batches) error {
	steps, err := savedStates(checkpoint.Partial(t.out))
	if err != nil || len(steps) == 0 {
		return err
	}
	s, err := t.load(r, steps[0])
	if err != nil {
		return err
	}
	r.Progress, r.Optimizer.Steps, t.tokens.total = s.Progress, s.Optimizer, s.Tokens
	stream.Seek(s.Cursor)
	t.report(Event{Stage: t.stage, Note: fmt.Sprintf("going on from step %d of %d", s.Progress.Step, t.Steps)})
	return nil
}

// load sets weights and moments to a saved state, and returns the rest of it.
func (t *training) load(r *train.Run[data.Batch], step int) (s trainState, err error) {
	dir := stateDir(checkpoint.Partial(t.out), step)
	j, err := os.ReadFile(filepath.Join(dir, "trainer_state.json"))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(j, &s); err != nil {
		return s, fmt.Errorf("%s: %w", dir, err)
	}
	if err := t.fillWeights(dir); err != nil {
		return s, err
	}
	if t.ema != nil {
		if err := readMean(t.ema, filepath.Join(dir, meanFile)); err != nil {
			return s, err
		}
	}
	return s, readMoments(r.Optimizer, filepath.Join(dir, "optimizer.safetensors"))
}

// moments lists the optimiser's state under the weights' names.
func moments(a *optim.AdamW) []safetensors.Tensor {
	var list []safetensors.Tensor
	for _, p := range a.Params {
		list = append(list, safetensors.Tensor{Name: "exp_avg." + p.Name, DType: safetensors.F32, Shape: p.Tensor.Shape},
			safetensors.Tensor{Name: "exp_avg_sq." + p.Name, DType: safetensors.F32, Shape: p.Tensor.Shape})
	}
	return list
}

// moment returns the i-th of the tensors that moments lists.
func moment(a *optim.AdamW, i int) []float32 {
	if i%2 == 0 {
		return a.M[i/2]
	}
	return a.V[i/2]
}

func writeMoments(a *optim.AdamW, path string) error {
	return writeNumbers(path, moments(a), func(i int) []float32 { return moment(a, i) })
}

func readMoments(a *optim.AdamW, path string) error {
	return readNumbers(path, moments(a), func(i int) []float32 { return moment(a, i) })
}

// meanFile holds the average of the weights in a saved state.
const meanFile = "ema.safetensors"

// means lists the averages under the weights' names.
func means(e *optim.EMA) []safetensors.Tensor {
	var list []safetensors.Tensor
	for _, p := range e.Params {
		list = append(list, safetensors.Tensor{Name: p.Name, DType: safetensors.F32, Shape: p.Tensor.Shape})
	}
	return list
}

func writeMean(e *optim.EMA, path string) error {
	return writeNumbers(path, means(e), func(i int) []float32 { return e.Values[i] })
}

func readMean(e *optim.EMA, path string) error {
	return readNumbers(path, means(e), func(i int) []float32 { return e.Values[i] })
}

// writeNumbers writes tensors whose numbers of gives.
func writeNumbers(path string, list []safetensors.Tensor, of func(i int) []float32) error {
	index := map[string]int{}
	for i, t := range list {
		index[t.Name] = i
	}
	return safetensors.WriteFunc(path, list, nil, func(t safetensors.Tensor) ([]byte, error) {
		return safetensors.EncodeFloat32s(t.DType, of(index[t.Name])), nil
	})
}

// readNumbers reads tensors into what of gives.
func readNumbers(path string, list []safetensors.Tensor, of func(i int) []float32) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for i, want := range list {
		t, ok := f.Tensor(want.Name)
		if !ok || !slices.Equal(t.Shape, want.Shape) {
			return fmt.Errorf("%s: no tensor %s of shape %v", path, want.Name, want.Shape)
		}
		if err := safetensors.Float32s(of(i), t); err != nil {
			return err
		}
	}
	return nil
}
