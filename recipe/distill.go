package recipe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/kernel"
	"krait/loss"
	"krait/model"
	"krait/tensor"
)

// InitConfig is the configuration of Init.
type InitConfig struct {
	Teacher    string `json:"teacher"`
	Out        string `json:"-"`
	AttnLayers []int  `json:"attn_layers"`
	SSMLayers  []int  `json:"ssm_layers,omitempty"`     // instead of AttnLayers: the layers to replace, as the paper's recipes say it
	Every      int    `json:"every,omitempty"`          // instead of AttnLayers: keep layers K-1, 2K-1, … as the paper does
	Selection  string `json:"selection,omitempty"`      // instead of AttnLayers: what Select made
	MambaFrom  string `json:"mamba_from,omitempty"`     // a student of the teacher's shape whose Mamba layers are taken over instead of new ones
	Init       string `json:"init"`                     // attention, linear or random
	KQVO       *bool  `json:"init_with_kqvo,omitempty"` // instead of Init, as the paper's recipes say it: attention or random
	Seed       uint64 `json:"seed"`
	Identity   bool   `json:"identity_activation"` // no activation after the convolution
	ZBias      bool   `json:"z_bias"`              // a bias on the gate
	NoNorm     bool   `json:"no_norm"`             // no gated norm
}

// DefaultInit returns the defaults of Init.
func DefaultInit() InitConfig { return InitConfig{Init: "attention"} }

// Init makes a hybrid from a teacher: every layer outside AttnLayers becomes Mamba2.
func Init(_ context.Context, c InitConfig, report Report) error {
	teacher, err := report.load(c.Teacher)
	if err != nil {
		return err
	}
	if c.KQVO != nil {
		c.Init = map[bool]string{true: "attention", false: "random"}[*c.KQVO]
	}
	init, err := model.ParseInit(c.Init)
	if err != nil {
		return err
	}
	if err := c.chooseLayers(teacher.Model.Config.NumHiddenLayers); err != nil {
		return err
	}
	mamba := teacher.Model.Config.Mamba
	if mamba == nil {
		mamba = model.MambaFor(&teacher.Model.Config, c.AttnLayers)
		mamba.Identity, mamba.ZBias, mamba.NoNorm = c.Identity, c.ZBias, c.NoNorm
	} else {
		next := *mamba
		next.AttnLayers = slices.Sorted(slices.Values(c.AttnLayers))
		mamba = &next
	}
	m, err := c.hybrid(report, teacher, mamba, init)
	if err != nil {
		return err
	}
	out := teacher.With(m)
	if out.Provenance, err = provenance("init", c, c.inputs()...); err != nil {
		return err
	}
	out.Files = maps.Clone(out.Files)
	if err := describe(out, out.Provenance, c.Out, c.Teacher, "finetune"); err != nil {
		return err
	}
	if err := checkpoint.Save(c.Out, out); err != nil {
		return err
	}
	report(Event{Stage: "init", Done: 1, Total: 1, Unit: "model"})
	return nil
}

// everyLayer lists the layers i of n with i%k == k-1. Too large a k is an error, since it would keep none.
func everyLayer(n, k int) ([]int, error) {
	var layers []int
	for i := k - 1; i < n; i += k {
		layers = append(layers, i)
	}
	if len(layers) == 0 {
		return nil, fmt.Errorf("--every %d keeps none of the model's %d layers as attention: if that is meant, say --attn-layers none", k, n)
	}
	return layers, nil
}

// DistillConfig is the configuration of Align and Distill.
type DistillConfig struct {
	Student string  `json:"student"`
	Teacher string  `json:"teacher"` // Distill can do without, if the labels have the teacher's likeliest tokens
	Labels  string  `json:"labels"`
	Out     string  `json:"-"`
	KL      float64 `json:"kl_weight"`
	CE      float64 `json:"ce_weight"`
	DivergenceConfig
	Part  int `json:"progressive_step,omitempty"` // learn from part Part of Parts of the labels alone
	Parts int `json:"total_step,omitempty"`
	TrainConfig
}

// DefaultDistill returns the defaults of Align and Distill: the divergence alone.
func DefaultDistill() DistillConfig { return DistillConfig{KL: 1, TrainConfig: DefaultTrain()} }

// packed reads a model that is only read from: its matrices are in memory once, in the format that the training computes in.
func (c *TrainConfig) packed(report Report, dir string) (*checkpoint.Checkpoint, error) {
	if c.Compute == "bf16" && kernel.TilesBF16() { // which take float32 weights
		m, err := report.load(dir)
		if err == nil {
			c.pack(m.Model)
		}
		return m, err
	}
	return report.loadPacked(dir, cmp.Or(c.Compute, "f32"))
}

// load reads the two models and the labels, and checks that they belong together.
func (c *DistillConfig) load(report Report, teacherForm func(report Report, dir string) (*checkpoint.Checkpoint, error)) (student, teacher *checkpoint.Checkpoint, docs []data.Document, err error) {
	if student, err = report.load(c.Student); err != nil {
		return
	}
	if teacher, err = teacherForm(report, c.Teacher); err != nil {
		return
	}
	if err = wholeHead(c.Teacher, teacher); err != nil {
		return
	}
	sc, tc := student.Model.Config, teacher.Model.Config
	if sc.VocabSize != tc.VocabSize {
		err = fmt.Errorf("the student's vocabulary has %d tokens, the teacher's %d: they must share a tokenizer", sc.VocabSize, tc.VocabSize)
		return
	}
	if docs, err = data.ReadDocuments(filepath.Join(c.Labels, labelsFile), sc.VocabSize); err == nil {
		docs, err = c.part(docs)
	}
	return
}

// wholeHead refuses a draft as a teacher.
func wholeHead(name string, c *checkpoint.Checkpoint) error {
	if n := len(c.Model.Config.HeadTokens); n > 0 {
		return fmt.Errorf("%s is a draft whose output layer knows %d of %d tokens: nothing can learn from it", name, n, c.Model.Config.VocabSize)
	}
	return nil
}

// part returns the documents of the part to learn from.
func (c *DistillConfig) part(docs []data.Document) ([]data.Document, error) {
	if c.Parts == 0 && c.Part == 0 {
		return docs, nil
	}
	if c.Part < 1 || c.Part > c.Parts || c.Parts > len(docs) {
		return nil, fmt.Errorf("part %d of %d of %d documents: want a part from 1 to their number, and no more parts than documents", c.Part, c.Parts, len(docs))
	}
	return docs[(c.Part-1)*len(docs)/c.Parts : c.Part*len(docs)/c.Parts], nil
}

// Align trains the student's Mamba mixers, each by itself, to put out what the teacher's mixer does for the same input: all layers from one
// pass of the teacher (layer-local alignment, as MOHAWK's second stage).
func Align(ctx context.Context, c DistillConfig, report Report) error {
	student, teacher, docs, err := c.load(report, c.packed)
	if err != nil {
		return err
	}
	s, t := student.Model, teacher.Model
	if s.Config.HiddenSize != t.Config.HiddenSize || s.Config.NumHiddenLayers != t.Config.NumHiddenLayers {
		return fmt.Errorf("alignment needs a student of the teacher's shape: %d layers of %d, the teacher has %d of %d",
			s.Config.NumHiddenLayers, s.Config.HiddenSize, t.Config.NumHiddenLayers, t.Config.HiddenSize)
	}
	replaced := func(layer int) bool { return !s.Config.IsAttention(layer) && t.Config.IsAttention(layer) }
	if !slices.ContainsFunc(seq(s.Config.NumHiddenLayers), replaced) {
		return fmt.Errorf("the student has no Mamba layer where the teacher has attention: there is nothing to align")
	}
	profile := new(autograd.Profile)
	scratch := withScratch(profile)
	lossOf := func(tape *autograd.Tape, b data.Batch) loss.Total {
		scratch.Reset()
		mb := modelBatch(b)
		total := loss.Total{Parts: map[string]float64{}}
		t.MixerTraces(scratch, mb, replaced, func(layer int, in, out *tensor.Tensor) {
			l := loss.SquaredError(tape, s.Mix(tape, layer, in, mb), out.Data)
			total.Sum += l.Sum
			total.Parts[fmt.Sprintf("layer_%d", layer)] = l.Sum
		})
		total.Tokens = len(b.Tokens)
		return total
	}
	c.Train, c.Freeze = []string{".mamba."}, nil
	return (&training{stage: "align", out: c.Out, config: c, inputs: []string{c.Student, c.Teacher, filepath.Join(c.Labels, labelsFile)},
		TrainConfig: c.TrainConfig, checkpoint: student, docs: docs, teacher: t, scratch: scratch, loss: lossOf, profile: profile, report: report}).run(ctx)
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// Distill trains the student end to end on the teacher's text: KL to the teacher and cross-entropy on the labels (the paper's stage one,
// masked and averaged over tokens).
func Distill(ctx context.Context, c DistillConfig, report Report) error {
	if c.Teacher == "" {
		return distillStored(ctx, c, report)
	}
	student, teacher, docs, err := c.load(report, c.packed)
	if err != nil {
		return err
	}
	return distill(ctx, "distill", c, c, student, teacher.Model, docs, report)
}

// distillStored is Distill from the teacher's likeliest tokens, which label stored.
func distillStored(ctx context.Context, c DistillConfig, report Report) error {
	w, err := c.weights()
	if err != nil {
		return err
	}
	if w.KL == 0 {
		return errors.New("the weight of the divergence is 0 and there is no teacher: sft is for learning from text alone")
	}
	student, err := report.load(c.Student)
	if err != nil {
		return err
	}
	s := student.Model
	docs, err := data.ReadDocuments(filepath.Join(c.Labels, labelsFile), s.Config.VocabSize)
	if err != nil {
		return err
	}
	stored, err := openTopKReader(c.Labels, docs, s.Config.VocabSize)
	if err != nil {
		return err
	}
	defer stored.file.Close()
	part, err := c.part(docs)
	if err != nil {
		return err
	}
	if c.Parts > 0 {
		stored.first = stored.first[(c.Part-1)*len(docs)/c.Parts:]
	}
	stream, err := c.whole(part)
	if err != nil {
		return err
	}
	lossOf := func(tape *autograd.Tape, b data.Batch) loss.Total {
		teacher, err := stored.of(b.Groups)
		if err != nil {
			panic(err) // the tensors were checked when they were opened
		}
		return loss.DistillTopK(tape, loss.Head{Hidden: s.Forward(tape, modelBatch(b)), Weight: s.Head()}, teacher, b.Targets, c.scaled(w, &b))
	}
	return (&training{stage: "distill", out: c.Out, config: c, inputs: []string{c.Student, filepath.Join(c.Labels, labelsFile), filepath.Join(c.Labels, topKFile)},
		TrainConfig: c.TrainConfig, checkpoint: student, stream: stream, loss: lossOf, profile: new(autograd.Profile), report: report}).run(ctx)
}

// distill trains a student against a teacher, whatever the stage is called.
func distill(ctx context.Context, stage string, config any, c DistillConfig, student *checkpoint.Checkpoint, teacher *model.Model, docs []data.Document, report Report) error {
	w, err := c.weights()
	if err == nil {
		err = noDraft(student.Model)
	}
	if err != nil {
		return err
	}
	t := c.training(stage, config, student, distillLoss(c, w, student.Model, teacher), docs, report)
	t.teacher = teacher
	return t.run(ctx)
}

// training is a stage that trains a student on documents by a loss.
func (c *DistillConfig) training(stage string, config any, student *checkpoint.Checkpoint, l profiledLoss, docs []data.Document, report Report) *training {
	return &training{stage: stage, out: c.Out, config: config, inputs: []string{c.Student, c.Teacher, filepath.Join(c.Labels, labelsFile)},
		TrainConfig: c.TrainConfig, checkpoint: student, docs: docs, loss: l.loss, profile: l.profile, scratch: l.scratch, report: report}
}

// profiledLoss is a loss and the profile that its own part of the work goes to.
type profiledLoss struct {
	loss    func(*autograd.Tape, data.Batch) loss.Total
	profile *autograd.Profile
	scratch *autograd.Tape // the teacher's
}

// distillLoss compares the student with the teacher, at the tokens that the student's output layer knows.
func distillLoss(c DistillConfig, w loss.Weights, s, teacher *model.Model) profiledLoss {
	profile := new(autograd.Profile)
	scratch := withScratch(profile)
	head := teacher.Head()
	known := s.Config.HeadTokens
	if len(known) > 0 {
		head = autograd.Dense{Tensor: teacher.HeadOf(known)}
	}
	return profiledLoss{profile: profile, scratch: scratch, loss: func(tape *autograd.Tape, b data.Batch) loss.Total {
		mb := modelBatch(b)
		var th loss.Head
		if c.KL > 0 {
			scratch.Reset()
			th = loss.Head{Hidden: teacher.Forward(scratch, mb), Weight: head}
		}
		return loss.Distill(tape, loss.Head{Hidden: s.Forward(tape, mb), Weight: s.Head()}, th, headRows(b.Targets, known), c.scaled(w, &b))
	}}
}

// headRows returns the targets as rows of an output layer that knows some tokens; the other targets do not count.
func headRows(targets, known []int32) []int32 {
	if len(known) == 0 {
		return targets
	}
	rows := make([]int32, len(targets))
	for i, id := range targets {
		if at, ok := slices.BinarySearch(known, id); ok {
			rows[i] = int32(at)
		} else {
			rows[i] = -1
		}
	}
	return rows
}
