package recipe

import (
	"context"
	"path/filepath"
	"slices"
)

// kind is a kind of stage that a recipe can list: its configuration, which a recipe's keys fill, and the function that runs it.
type kind struct {
	name, summary string
	makes         product
	config        func() any        // with the stage's defaults; a pointer
	slots         func(c any) slots // the fields of a configuration that a recipe fills by itself
	run           func(ctx context.Context, c any, report Report) error
}

// product is what a stage makes, for the stages after it.
type product int

const (
	makesOther  product = iota
	makesModel          // the model that the next stage goes on with
	makesLabels         // text of the teacher
	makesDraft          // a model to guess ahead with
	makesReward         // a model that judges answers
	makesModels         // a chain of stages in its place
	makesLayers         // a choice of layers
)

// role is what a field refers to where a recipe does not say.
type role int

const (
	given    role = iota // nothing
	base                 // the recipe's model: the teacher
	latest               // what the latest stage made of it
	labels               // the latest text
	draftOf              // the latest draft
	rewardOf             // the latest reward model
	layersOf             // a choice of layers
)

// ref is a field that names an earlier stage or a directory.
type ref struct {
	key   string
	field *string
	role  role
}

// slots are the fields of a stage's configuration that depend on the stages before it, and what a recipe sets for all stages.
type slots struct {
	out   *string
	seed  *uint64
	train *TrainConfig
	refs  []ref
	files []*string // files of data
	rows  bool      // they are conversations

	lists   []*[]string         // the lists that some of the files are in
	mixture *map[string]float64 // others, with weights
}

// kindOf describes a kind of stage by typed functions.
func kindOf[C any](name, summary string, makes product, defaults func() C, fields func(*C) slots, run func(context.Context, C, Report) error) kind {
	return kind{name: name, summary: summary, makes: makes,
		config: func() any { c := defaults(); return &c },
		slots: func(c any) slots {
			s := fields(c.(*C))
			if s.train != nil {
				s.files = append(s.files, &s.train.EvalText)
			}
			return s
		},
		run: func(ctx context.Context, c any, report Report) error { return run(ctx, *c.(*C), report) }}
}

// kinds lists the kinds of stages in the order of the method. A new kind needs its line here and nothing else.
var kinds = []kind{
	kindOf("label", "the teacher writes the text that the student learns from", makesLabels, DefaultLabel, func(c *LabelConfig) slots {
		return slots{out: &c.Out, seed: &c.Seed, refs: []ref{{"teacher", &c.Teacher, base}}, files: append(pointers(slices.Concat(c.Text, c.Decontaminate)), &c.Prompts)}
	}, Label),
	kindOf("init", "attention layers become Mamba2 layers that begin with their weights", makesModel, DefaultInit, func(c *InitConfig) slots {
		return slots{out: &c.Out, seed: &c.Seed, refs: []ref{{"teacher", &c.Teacher, latest}, {"selection", &c.Selection, layersOf}, {"mamba_from", &c.MambaFrom, given}}}
	}, Init),
	kindOf("select", "which layers stay attention is found by measurement", makesLayers, DefaultSelect, (*SelectConfig).slots, selectStage),
	kindOf("align", "each Mamba layer learns to put out what the teacher's attention does", makesModel, DefaultDistill, (*DistillConfig).slots, Align),
	kindOf("distill", "the student learns end to end to predict as the teacher does", makesModel, DefaultDistill, (*DistillConfig).slots, Distill),
	kindOf("draft", "a small model learns to guess ahead for the student", makesDraft, func() DraftConfig { return DraftConfig{DistillConfig: DefaultDistill()} },
		func(c *DraftConfig) slots {
			s := c.DistillConfig.slots()
			s.refs = []ref{{"teacher", &c.Teacher, latest}, {"from", &c.From, given}, {"labels", &c.Labels, labels}}
			return s
		}, Draft),
	kindOf("sft", "the model learns what the assistant says in conversations", makesModel, DefaultSFT, func(c *SFTConfig) slots {
		return c.rowSlots(&c.Data, slots{out: &c.Out, seed: &c.Seed, train: &c.TrainConfig, refs: []ref{{"model", &c.Model, latest}}})
	}, SFT),
	kindOf("reward", "a model learns to judge answers", makesReward, DefaultReward, func(c *RewardConfig) slots {
		return c.rowSlots(&c.Data, slots{out: &c.Out, seed: &c.Seed, train: &c.TrainConfig, refs: []ref{{"model", &c.Model, latest}}})
	}, Reward),
	kindOf("ppo", "the model learns to please a reward", makesModel, DefaultPPO, func(c *PPOConfig) slots {
		return slots{out: &c.Out, seed: &c.Seed, train: &c.TrainConfig, refs: []ref{{"policy", &c.Policy, latest}, {"reward", &c.Reward, rewardOf}, {"ref", &c.Ref, given}, {"draft", &c.Draft, given}}, files: []*string{&c.Prompts}}
	}, PPO),
	kindOf("dpo", "the model learns to prefer the answers that were preferred", makesModel, DefaultDPO, func(c *DPOConfig) slots {
		return c.rowSlots(&c.Pairs, slots{out: &c.Out, seed: &c.Seed, train: &c.TrainConfig, refs: []ref{{"model", &c.Model, latest}, {"ref", &c.Ref, given}}})
	}, DPO),
	kindOf("stepwise", "a chain of init, align and distill in which attention leaves step by step", makesModels, DefaultStepwise, func(*StepwiseConfig) slots {
		return slots{}
	}, nil),
	kindOf("quantize", "the model with smaller weights", makesOther, DefaultQuantize, func(c *QuantizeConfig) slots {
		return slots{out: &c.Out, refs: []ref{{"model", &c.Model, latest}}}
	}, Quantize),
	kindOf("export", "the model in another program's form", makesOther, DefaultExport, func(c *ExportConfig) slots {
		return slots{out: &c.Out, refs: []ref{{"model", &c.Model, latest}}}
	}, Export),
	kindOf("eval", "the models are measured on a text", makesOther, DefaultEval, (*EvalConfig).slots, Eval),
}

// exampleKind writes the model inside the program; a recipe that names it gets this stage by itself.
var exampleKind = kindOf("example", "the model inside this program", makesOther, func() ExampleConfig { return ExampleConfig{} }, func(c *ExampleConfig) slots {
	return slots{out: &c.Out}
}, func(_ context.Context, c ExampleConfig, _ Report) error { return Example(c.Out) })

// ExampleConfig is the configuration of a stage that writes the embedded model.
type ExampleConfig struct {
	Out string `json:"-"`
}

// kindNamed returns a kind by its name.
func kindNamed(name string) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// slots returns what a recipe fills of an alignment or a distillation.
func (c *DistillConfig) slots() slots {
	return slots{out: &c.Out, seed: &c.Seed, train: &c.TrainConfig,
		refs: []ref{{"student", &c.Student, latest}, {"teacher", &c.Teacher, base}, {"labels", &c.Labels, labels}}}
}

func pointers(list []string) []*string {
	var p []*string
	for i := range list {
		p = append(p, &list[i])
	}
	return p
}

// content is the file or directory that tells a reference's content, "" where there is none: labels are a directory with one file, a rule is in this
// program or a file of words.
func (r ref) content(path string) string {
	switch {
	case path == "" || r.role == rewardOf && IsRule(path):
		return ruleFile(path)
	case r.role == labels:
		return filepath.Join(path, labelsFile)
	case r.role == layersOf:
		return filepath.Join(path, selectionFile)
	}
	return path
}
