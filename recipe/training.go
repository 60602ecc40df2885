package recipe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/loss"
	"krait/model"
	"krait/optim"
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
	Compute     string   `json:"compute"`                           // format of the operands of matrix products: f32, or bf16 with float32 sums and weights
	SaveLimit   int      `json:"save_total_limit,omitempty"`        // states to keep while it trains, the latest; 0: one
	EvalEvery   int      `json:"eval_steps,omitempty"`              // steps between measurements on what is held out; 0: none
	EvalRows    int      `json:"eval_rows,omitempty"`               // documents or rows to hold out, the last ones
	EvalText    string   `json:"eval_text,omitempty"`               // a text file to measure on as well
	Patience    int      `json:"early_stopping_patience,omitempty"` // measurements without a better one after which it ends; 0: it does not
	EMADecay    float64  `json:"ema_decay,omitempty"`               // keep an exponential moving average of the weights, which is measured where they are; 0: none
	EMAResult   bool     `json:"ema_result,omitempty"`              // the average is the result
	Recompute   bool     `json:"recompute,omitempty"`               // keep only what goes into each layer, and run the layer again for its gradients
	Spike       float64  `json:"loss_spike_factor,omitempty"`       // a step is skipped whose loss is so many times the running mean; 0: none is
}

// defaultEvalRows are held out where a measurement is asked for and nothing is said to measure on.
const defaultEvalRows = 32

// DefaultTrain returns the defaults of a stage: the constants of the field, a rate that suits small models.
func DefaultTrain() TrainConfig {
	return TrainConfig{Steps: 1000, BatchTokens: 4096, Accumulate: 1, Context: 2048, LR: 1e-3, RestLR: 1, FloorLR: 0, Schedule: "cosine", Decay: 0.1, Warmup: 50, Clip: 1,
		Beta1: 0.9, Beta2: 0.98, Eps: 1e-8, SaveEvery: 200, Compute: "f32"}
}

// AutoWarmup as the number of warm-up steps leaves it to the number of steps.
const AutoWarmup = -1

// settle replaces what is left to the number of steps.
func (c *TrainConfig) settle() {
	if c.EvalEvery > 0 && c.EvalRows == 0 && c.EvalText == "" {
		c.EvalRows = defaultEvalRows
	}
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
	case c.SaveLimit < 0 || c.EvalEvery < 0 || c.EvalRows < 0 || c.Patience < 0 || c.Spike != 0 && !(c.Spike > 1):
		return fmt.Errorf("save_total_limit, eval_steps, eval_rows and early_stopping_patience must not be negative, loss_spike_factor more than 1")
	case c.EvalEvery == 0 && (c.EvalRows > 0 || c.EvalText != "" || c.Patience > 0):
		return fmt.Errorf("eval_rows, eval_text and early_stopping_patience need eval_steps: how often to measure")
	case !(c.EMADecay >= 0 && c.EMADecay < 1) || c.EMAResult && c.EMADecay == 0:
		return fmt.Errorf("ema_decay is %g: want a share from 0 to below 1, and above 0 where the average is to be the result", c.EMADecay)
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
	m.PackForTraining(c.Compute == "bf16")
}

// training is one stage that trains a model into a new directory.
type training struct {
	stage, out string
	config     any
	inputs     []string
	TrainConfig
	checkpoint *checkpoint.Checkpoint // the model as it starts; its weights are trained in place
	value      *model.Model           // trained beside it and not part of the result; or nil
	docs       []data.Document
	stream     batches        // what to train on instead of docs
	held       batches        // what is held out to measure on
	teacher    *model.Model   // what a measurement on text compares with, perhaps nil
	frozen     []*model.Model // other models that are only read
	scratch    *autograd.Tape // the teacher's, perhaps nil
	loss       func(*autograd.Tape, data.Batch) loss.Total
	unit       string                                                // what the loss counts; empty: tokens
	prepare    func(ctx context.Context) error                       // work with the partial directory and the weights as they start
	ahead      func(ctx context.Context) error                       // makes what the next batch needs
	says       func(parts map[string]float64) string                 // how it goes, instead of the loss
	figures    map[string]float64                                    // of the data, for the record
	after      func(ctx context.Context) (map[string]float64, error) // judges the trained model, for the record
	profile    *autograd.Profile                                     // takes the time of operations; the loss may use it for the teacher's too
	report     Report
	tokens     tokenCount
	ema        *optim.EMA  // nil: none
	last       *train.Eval // the latest measurement on what is held out
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
	if err := noDraft(t.checkpoint.Model); err != nil && t.stage != "draft" {
		return err
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
	if t.value != nil {
		t.value.Train(func(string) bool { return true })
	}
	t.keepLess()
	opt := optim.NewAdamW(optim.Config{Beta1: t.Beta1, Beta2: t.Beta2, Eps: t.Eps, WeightDecay: t.WeightDecay}, t.params())
	if len(opt.Params) == 0 {
		return fmt.Errorf("no weight is left to train")
	}
	if t.EMADecay > 0 {
		t.ema = optim.NewEMA(t.EMADecay, slices.DeleteFunc(t.params(), func(p optim.Param) bool { return strings.HasPrefix(p.Name, valuePrefix) }))
	}
	stream, err := t.batches()
	if err != nil {
		return err
	}
	if t.EvalRows > 0 && t.held == nil {
		return errors.New("eval_rows: this training cannot hold rows out; eval_text names a text to measure on")
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
		Config: train.Config{Steps: t.Steps, Accumulate: t.Accumulate, Clip: t.Clip, SaveEvery: t.SaveEvery, EvalEvery: t.EvalEvery, Patience: t.Patience, Spike: t.Spike,
			Schedule: optim.Schedule{Name: t.Schedule, Peak: t.LR, Floor: t.FloorLR, Warmup: t.Warmup, Total: t.Steps, Decay: t.Decay}},
		Optimizer: opt, Next: stream.Next, Loss: t.countedLoss, Profile: t.profile, EMA: t.ema,
	}
	r.Save = func() error { return t.save(r, stream.Cursor()) }
	r.Rewind = func() (string, error) { return t.rewind(r) }
	if r.Eval, err = t.evaluation(); err != nil {
		return err
	}
	if err := t.resume(r, stream); err != nil {
		return err
	}
	if err := t.loop(ctx, r, stream.Epoch, p); err != nil {
		return err
	}
	if t.EMAResult {
		t.ema.Swap()
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

// noDraft refuses a draft with a cut output layer where a model is to be trained.
func noDraft(m *model.Model) error {
	if n := len(m.Config.HeadTokens); n > 0 {
		return fmt.Errorf("the model is a draft whose output layer knows %d of %d tokens: it cannot be trained for anything else", n, m.Config.VocabSize)
	}
	return nil
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

// batches returns the stream to train on; the last documents are held out where some are to be.
func (t *training) batches() (batches, error) {
	if t.stream != nil {
		return t.stream, nil
	}
	n, err := t.heldOut(len(t.docs))
	if err != nil {
		return nil, err
	}
	if n > 0 {
		held, err := data.NewStream(t.docs[len(t.docs)-n:], t.BatchTokens, t.Context, t.Seed)
		if err != nil {
			return nil, fmt.Errorf("the %d documents held out: %w", n, err)
		}
		held.Once = true
		t.held = held
	}
	stream, err := data.NewStream(t.docs[:len(t.docs)-n], t.BatchTokens, t.Context, t.Seed)
	if err != nil {
		return nil, err
	}
	stream.Crop = t.Crop
	return stream, nil
}

// groups makes the stream over groups of sequences in memory; the last ones are held out where some are to be.
func (t *training) groups(groups [][]data.Sequence) (*data.Groups, error) {
	return t.groupsOf(data.InMemory(groups))
}

// groupsOf is groups for those of any source.
func (t *training) groupsOf(groups data.GroupSource) (*data.Groups, error) {
	n, err := t.heldOut(groups.Len())
	if err != nil {
		return nil, err
	}
	learnt := groups.Len() - n
	if n > 0 {
		held, err := data.NewGroupsOf(data.Part{GroupSource: groups, From: learnt, To: groups.Len()}, t.BatchTokens, t.Seed)
		if err != nil {
			return nil, err
		}
		held.CountFrom(learnt)
		t.held = held
	}
	return data.NewGroupsOf(data.Part{GroupSource: groups, From: 0, To: learnt}, t.BatchTokens, t.Seed)
}

// heldOut returns how many of n rows are held out: not more than half of them.
func (c *TrainConfig) heldOut(n int) (int, error) {
	c.settle()
	if c.EvalEvery == 0 || c.EvalRows == 0 {
		return 0, nil
	}
	if c.EvalRows > n/2 {
		return 0, fmt.Errorf("eval_rows is %d: that is more than half of the %d there are", c.EvalRows, n)
	}
	return c.EvalRows, nil
}

// complete writes the trained model beside the metrics and ends the stage.
func (t *training) complete(p *checkpoint.Provenance) error {
	t.checkpoint.Provenance = p
	if len(t.inputs) > 0 {
		if err := describe(t.checkpoint, p, t.out, t.inputs[0], "finetune"); err != nil {
			return err
		}
	}
	t.checkpoint.Model.Train(func(string) bool { return false })
	t.checkpoint.Model.Recompute(false)
	debug.FreeOSMemory() // gradients, moments and activations, before the weights are written
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

// modelBatch turns documents laid end to end into fresh sequences.
func modelBatch(b data.Batch) model.Batch {
	mb := model.Batch{Tokens: b.Tokens}
	for _, n := range b.Lens {
		mb.Runs = append(mb.Runs, model.Run{Len: n})
	}
	return mb
}
