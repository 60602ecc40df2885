package recipe

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/loss"
	"krait/model"
	"krait/optim"
	"krait/quant"
	"krait/safetensors"
	"krait/train"
)

// TrainConfig is how a stage trains. Rates are of AdamW; BatchTokens is the size of a batch, Accumulate the batches of a step.
type TrainConfig struct {
	Steps       int      `json:"steps"`
	Epochs      float64  `json:"num_train_epochs,omitempty"` // instead of Steps, where those are not positive
	BatchTokens int      `json:"batch_tokens"`
	BatchRows   int      `json:"per_device_train_batch_size,omitempty"` // instead of BatchTokens: as many tokens as rows of Context have
	Accumulate  int      `json:"gradient_accumulation_steps"`
	Context     int      `json:"max_length"`
	Crop        float64  `json:"crop"` // share of documents that begin at a random place
	LR          float64  `json:"learning_rate"`
	RestLR      float64  `json:"rest_lr_scale"` // factor on the rate of weights that are not a Mamba mixer's
	FloorLR     float64  `json:"min_lr_rate"`
	Schedule    string   `json:"lr_scheduler_type"`      // cosine, linear, constant or wsd
	Decay       float64  `json:"lr_decay_ratio"`         // share of the steps in which wsd falls
	WarmupRatio float64  `json:"warmup_ratio,omitempty"` // instead of Warmup, as a share of the steps
	Warmup      int      `json:"warmup_steps"`           // AutoWarmup: a quarter of the steps, at most 50
	Clip        float64  `json:"max_grad_norm"`
	Beta1       float64  `json:"adam_beta1"`
	Beta2       float64  `json:"adam_beta2"`
	Eps         float64  `json:"adam_epsilon"`
	WeightDecay float64  `json:"weight_decay"`
	Train       []string `json:"train"`  // parts of names of the weights to train; empty: all
	Freeze      []string `json:"freeze"` // parts of names of the weights to leave as they are
	Seed        uint64   `json:"seed"`
	SaveEvery   int      `json:"save_steps"`
	Compute     string   `json:"compute"` // format of the operands of matrix products: f32, or bf16 with float32 sums and weights
}

// DefaultTrain returns the defaults of a stage: the constants of the field, a rate that suits small models.
func DefaultTrain() TrainConfig {
	return TrainConfig{Steps: 1000, BatchTokens: 4096, Accumulate: 1, Context: 2048, LR: 1e-3, RestLR: 1, FloorLR: 0, Schedule: "cosine", Decay: 0.1, Warmup: 50, Clip: 1,
		Beta1: 0.9, Beta2: 0.98, Eps: 1e-8, SaveEvery: 200, Compute: "f32"}
}

// AutoWarmup as the number of warm-up steps leaves it to the number of steps.
const AutoWarmup = -1

// settle replaces what is left to the number of steps.
func (c *TrainConfig) settle() {
	if c.BatchRows > 0 {
		c.BatchTokens = c.BatchRows * c.Context
	}
	switch {
	case c.Steps <= 0:
	case c.WarmupRatio > 0:
		c.Warmup = int(math.Ceil(c.WarmupRatio * float64(c.Steps)))
	case c.Warmup == AutoWarmup:
		c.Warmup = min(DefaultTrain().Warmup, c.Steps/4)
	}
}

func (c *TrainConfig) validate() error {
	c.settle()
	switch {
	case c.Steps <= 0 && !(c.Epochs > 0):
		return fmt.Errorf("steps is %d, want a positive number", c.Steps)
	case c.BatchTokens <= 0 || c.Accumulate <= 0 || c.Context < 2:
		return fmt.Errorf("batch tokens %d, accumulation %d, context %d: want positive numbers", c.BatchTokens, c.Accumulate, c.Context)
	case !(c.LR > 0):
		return fmt.Errorf("learning rate is %g, want a positive number", c.LR)
	case c.Steps > 0 && (c.Warmup < 0 || c.Warmup > c.Steps):
		return fmt.Errorf("%d warm-up steps of %d", c.Warmup, c.Steps)
	case !(c.Decay >= 0 && c.Decay <= 1) || !(c.WarmupRatio >= 0 && c.WarmupRatio <= 1) || !(c.FloorLR >= 0 && c.FloorLR <= 1):
		return fmt.Errorf("lr_decay_ratio %g, warmup_ratio %g, min_lr_rate %g: want shares from 0 to 1", c.Decay, c.WarmupRatio, c.FloorLR)
	case c.Beta1 < 0 || c.Beta1 >= 1 || c.Beta2 < 0 || c.Beta2 >= 1 || c.RestLR < 0 || c.Clip < 0 || c.WeightDecay < 0:
		return fmt.Errorf("betas must be in [0,1), scales and limits must not be negative")
	}
	if c.Schedule == "" {
		c.Schedule = "cosine"
	}
	if c.Compute = cmp.Or(c.Compute, "f32"); c.Compute != "f32" && c.Compute != "bf16" {
		return fmt.Errorf("compute is %q, want f32 or bf16", c.Compute)
	}
	var err error
	c.Schedule, err = optim.ParseSchedule(c.Schedule)
	return err
}

// pack lays out a model that the training reads and does not change, in the format that it computes in.
func (c *TrainConfig) pack(m *model.Model) {
	if c.Compute == "bf16" {
		m.PackAs(quant.BF16)
	} else {
		m.Pack()
	}
}

// training is one stage that trains a model into a new directory.
type training struct {
	stage, out string
	config     any
	inputs     []string
	TrainConfig
	checkpoint *checkpoint.Checkpoint // the model as it starts; its weights are trained in place
	docs       []data.Document
	stream     batches // what to train on instead of docs
	loss       func(*autograd.Tape, data.Batch) loss.Total
	unit       string                                                // what the loss counts; empty: tokens
	prepare    func(ctx context.Context) error                       // work with the partial directory and the weights as they start
	figures    map[string]float64                                    // of the data, for the record
	after      func(ctx context.Context) (map[string]float64, error) // judges the trained model, for the record
	profile    *autograd.Profile                                     // takes the time of operations; the loss may use it for the teacher's too
	report     Report
	tokens     tokenCount
}

// batches deals batches, and goes on from a cursor.
type batches interface {
	Next() data.Batch
	Epoch() float64 // passes over the documents so far
	Cursor() data.Cursor
	Seek(data.Cursor)
}

// trainState is trainer_state.json of a saved state.
type trainState struct {
	Progress  train.Progress `json:"progress"`
	Cursor    data.Cursor    `json:"cursor"`
	Optimizer int            `json:"optimizer_steps"`
	Tokens    int            `json:"tokens_read,omitempty"` // where the loss counts something else
}

// run trains and writes the result. What it leaves when it is interrupted is enough to go on from, bit for bit.
func (t *training) run(ctx context.Context) error {
	if err := t.validate(); err != nil {
		return err
	}
	if n := len(t.checkpoint.Model.Config.HeadTokens); n > 0 && t.stage != "draft" {
		return fmt.Errorf("the model is a draft whose output layer knows %d of %d tokens: it cannot be trained for anything else", n, t.checkpoint.Model.Config.VocabSize)
	}
	p, err := provenance(t.stage, t.config, t.inputs...)
	if err != nil {
		return err
	}
	t.checkpoint.Model.Train(func(name string) bool {
		return (len(t.Train) == 0 || matchesAny(name, t.Train)) && !matchesAny(name, t.Freeze)
	})
	if t.Compute == "bf16" {
		t.checkpoint.Model.ComputeBF16()
	}
	opt := optim.NewAdamW(optim.Config{Beta1: t.Beta1, Beta2: t.Beta2, Eps: t.Eps, WeightDecay: t.WeightDecay}, t.params())
	if len(opt.Params) == 0 {
		return fmt.Errorf("no weight is left to train")
	}
	stream, err := t.batches()
	if err != nil {
		return err
	}
	t.countSteps(stream)
	if err := begin(t.out, p, t.report); err != nil {
		return err
	}
	if t.prepare != nil {
		if err := t.prepare(ctx); err != nil {
			return err
		}
	}
	r := &train.Run[data.Batch]{
		Config: train.Config{Steps: t.Steps, Accumulate: t.Accumulate, Clip: t.Clip, SaveEvery: t.SaveEvery,
			Schedule: optim.Schedule{Name: t.Schedule, Peak: t.LR, Floor: t.FloorLR, Warmup: t.Warmup, Total: t.Steps, Decay: t.Decay}},
		Optimizer: opt, Next: stream.Next, Loss: t.countedLoss, Profile: t.profile,
	}
	r.Save = func() error { return t.save(r, stream.Cursor()) }
	if err := t.resume(r, stream); err != nil {
		return err
	}
	if err := t.loop(ctx, r, p); err != nil {
		return err
	}
	if t.after != nil {
		figures, err := t.after(ctx)
		if err != nil {
			return err
		}
		maps.Copy(p.Metrics, figures)
	}
	return t.complete(p)
}

// countSteps turns passes over the documents into steps.
func (t *training) countSteps(stream batches) {
	if t.Steps <= 0 {
		n := 0
		for ; stream.Epoch() < t.Epochs; n++ {
			stream.Next()
		}
		stream.Seek(data.Cursor{})
		t.Steps = (n + t.Accumulate - 1) / t.Accumulate
	}
	t.settle()
	t.Warmup = min(t.Warmup, t.Steps)
}

// batches returns the stream to train on.
func (t *training) batches() (batches, error) {
	if t.stream != nil {
		return t.stream, nil
	}
	stream, err := data.NewStream(t.docs, t.BatchTokens, t.Context, t.Seed)
	if err != nil {
		return nil, err
	}
	stream.Crop = t.Crop
	return stream, nil
}

// loop runs the training with its log, and leaves its figures in p.
func (t *training) loop(ctx context.Context, r *train.Run[data.Batch], p *checkpoint.Provenance) error {
	metrics, err := t.openMetrics(r.Progress.Step)
	if err != nil {
		return err
	}
	defer metrics.Close()
	unit := cmp.Or(t.unit, "tokens")
	r.Log = func(s train.Step) error {
		t.report(Event{Stage: t.stage, Done: s.Step, Total: t.Steps, Unit: "steps",
			Text: fmt.Sprintf("loss %.4f  %.0f %s/s", s.Loss, float64(s.Tokens)/s.Seconds, unit)})
		line, err := json.Marshal(t.line(s))
		if err != nil {
			return err
		}
		_, err = metrics.Write(append(line, '\n'))
		return err
	}
	start, before := time.Now(), r.Progress.Total
	if err := r.Loop(ctx); err != nil {
		return err
	}
	p.Metrics = map[string]float64{"num_" + unit: float64(r.Progress.Total)}
	if t.unit != "" {
		p.Metrics["num_tokens"] = float64(t.tokens.total)
	}
	maps.Copy(p.Metrics, t.figures)
	if elapsed := time.Since(start).Seconds(); r.Progress.Total > before {
		p.Metrics[unit+"_per_second"] = float64(r.Progress.Total-before) / elapsed
		for kind, d := range r.Profile {
			p.Metrics["share_"+autograd.Kind(kind).String()] = d.Seconds() / elapsed
		}
	}
	return metrics.Sync()
}

// complete writes the trained model beside the metrics and ends the stage.
func (t *training) complete(p *checkpoint.Provenance) error {
	t.checkpoint.Provenance = p
	t.checkpoint.Model.Train(func(string) bool { return false })
	tmp := checkpoint.Partial(t.out)
	if err := t.checkpoint.WriteTo(tmp); err != nil {
		return fmt.Errorf("%s: %w", tmp, err)
	}
	states, err := savedStates(tmp)
	if err != nil {
		return err
	}
	for _, s := range states {
		if err := os.RemoveAll(stateDir(tmp, s)); err != nil {
			return err
		}
	}
	return finish(t.out)
}

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
	if err := checkpoint.WriteParams(t.checkpoint.Model, filepath.Join(checkpoint.Partial(dir), "model.safetensors")); err != nil {
		return err
	}
	if err := writeMoments(r.Optimizer, filepath.Join(checkpoint.Partial(dir), "optimizer.safetensors")); err != nil {
		return err
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
	old, err := savedStates(tmp)
	if err != nil {
		return err
	}
	for _, s := range old {
		if s != r.Progress.Step {
			if err := os.RemoveAll(stateDir(tmp, s)); err != nil {
				return err
			}
		}
	}
	return nil
}

// resume sets the run to the latest saved state, if there is one.
func (t *training) resume(r *train.Run[data.Batch], stream batches) error {
	steps, err := savedStates(checkpoint.Partial(t.out))
	if err != nil || len(steps) == 0 {
		return err
	}
	dir := stateDir(checkpoint.Partial(t.out), steps[0])
	j, err := os.ReadFile(filepath.Join(dir, "trainer_state.json"))
	if err != nil {
		return err
	}
	var s trainState
	if err := json.Unmarshal(j, &s); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if err := checkpoint.FillParams(t.checkpoint.Model, filepath.Join(dir, "model.safetensors")); err != nil {
		return err
	}
	if err := readMoments(r.Optimizer, filepath.Join(dir, "optimizer.safetensors")); err != nil {
		return err
	}
	r.Progress, r.Optimizer.Steps, t.tokens.total = s.Progress, s.Optimizer, s.Tokens
	stream.Seek(s.Cursor)
	t.report(Event{Stage: t.stage, Note: fmt.Sprintf("going on from step %d of %d", s.Progress.Step, t.Steps)})
	return nil
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
	list := moments(a)
	index := map[string]int{}
	for i, t := range list {
		index[t.Name] = i
	}
	return safetensors.WriteFunc(path, list, nil, func(t safetensors.Tensor) ([]byte, error) {
		return safetensors.EncodeFloat32s(t.DType, moment(a, index[t.Name])), nil
	})
}

func readMoments(a *optim.AdamW, path string) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for i, want := range moments(a) {
		t, ok := f.Tensor(want.Name)
		if !ok || !slices.Equal(t.Shape, want.Shape) {
			return fmt.Errorf("%s: no tensor %s of shape %v", path, want.Name, want.Shape)
		}
		if err := safetensors.Float32s(moment(a, i), t); err != nil {
			return err
		}
	}
	return nil
}

// openMetrics opens metrics.jsonl for the lines after step: later ones, of work that was lost, are cut off.
func (t *training) openMetrics(step int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(checkpoint.Partial(t.out), "metrics.jsonl"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	var keep int64
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		var s train.Step
		if err != nil || json.Unmarshal(line, &s) != nil || s.Step > step {
			break
		}
		keep += int64(len(line))
	}
	if err := f.Truncate(keep); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.Seek(keep, 0)
	return f, err
}

// ReadMetrics returns the training steps that a stage logged.
func ReadMetrics(dir string) ([]train.Step, error) {
	f, err := os.Open(filepath.Join(dir, "metrics.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var steps []train.Step
	dec := json.NewDecoder(f)
	for dec.More() {
		var s train.Step
		if err := dec.Decode(&s); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// modelBatch turns documents laid end to end into fresh sequences.
func modelBatch(b data.Batch) model.Batch {
	mb := model.Batch{Tokens: b.Tokens}
	for _, n := range b.Lens {
		mb.Runs = append(mb.Runs, model.Run{Len: n})
	}
	return mb
}
