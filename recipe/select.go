package recipe

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// SelectConfig is the configuration of Select.
type SelectConfig struct {
	Teacher string `json:"teacher"`
	Student string `json:"student"` // all Mamba, of the teacher's shape and aligned with it: for kl-restore and greedy
	Labels  string `json:"labels"`  // text to distil each candidate on, if Steps are to be made
	Text    string `json:"text"`    // held-out text to measure on; empty: the stories inside this program
	Out     string `json:"-"`
	Keep    int    `json:"keep"`   // layers to keep as attention
	Method  string `json:"method"` // uniform, leave-one-out, kl-restore or greedy
	TrainConfig
}

// DefaultSelect returns the defaults of Select: candidates are measured as they are.
func DefaultSelect() SelectConfig {
	c := SelectConfig{Method: "kl-restore", TrainConfig: DefaultTrain()}
	c.Steps, c.Warmup, c.Context = 0, 0, 512
	return c
}

// selectMethods are the ways to choose layers, cheapest first (method §3.8).
var selectMethods = []string{"uniform", "leave-one-out", "kl-restore", "greedy"}

// Candidate is what was measured of one layer: KL(teacher ‖ candidate) in nats a token, where the candidate is the teacher without this layer's
// attention, or the student with it besides the layers that earlier rounds chose.
type Candidate struct {
	Round int     `json:"round"` // from 1
	Layer int     `json:"layer"`
	KL    float64 `json:"kl"`
}

// Selection is the result of Select, selection.json of its directory.
type Selection struct {
	Method     string      `json:"method"`
	AttnLayers []int       `json:"attn_layers"` // sorted, as init takes them
	Ranked     []int       `json:"ranked"`      // the same, the most important first
	Candidates []Candidate `json:"candidates"`
	KL         float64     `json:"kl,omitempty"`         // of the student with these layers
	UniformKL  float64     `json:"uniform_kl,omitempty"` // of the student with as many layers evenly spread
	StudentKL  float64     `json:"student_kl,omitempty"` // of the student as it is
}

// selectionFile and candidatesFile are the result, and the candidates while they are measured.
const selectionFile, candidatesFile = "selection.json", "candidates.jsonl"

func (c *SelectConfig) check(layers int) error {
	switch {
	case !slices.Contains(selectMethods, c.Method):
		return fmt.Errorf("method %q: want %s", c.Method, strings.Join(selectMethods, ", "))
	case c.Keep < 1 || c.Keep >= layers:
		return fmt.Errorf("%d layers to keep of %d: want at least one, and fewer than all", c.Keep, layers)
	case c.Student == "" && c.needsStudent():
		return fmt.Errorf("method %s: want a student whose layers are all Mamba, made by init with no attention layers, and best aligned", c.Method)
	case c.Epochs > 0:
		return errors.New("candidates are distilled for a number of steps, not of epochs: give steps")
	case c.Steps < 0 || c.Steps > 0 && c.Labels == "":
		return fmt.Errorf("%d steps of distillation for each candidate: want labels to distil on", c.Steps)
	case c.Steps > 0:
		return c.validate()
	}
	return nil
}

// Select chooses which of a teacher's layers stay attention, and leaves a table and a picture of what it measured.
func Select(ctx context.Context, c SelectConfig, report Report) (*Selection, error) {
	teacher, err := report.load(c.Teacher)
	if err != nil {
		return nil, err
	}
	n := teacher.Model.Config.NumHiddenLayers
	if err := c.check(n); err != nil {
		return nil, err
	}
	s := &selecting{c: &c, teacher: teacher.Model, report: report, known: map[[2]int]float64{}}
	if err := s.load(teacher); err != nil {
		return nil, err
	}
	labels := ""
	if c.Steps > 0 {
		labels = filepath.Join(c.Labels, labelsFile)
	}
	p, err := provenance("select", c, c.Teacher, c.Student, labels, c.Text)
	if err != nil {
		return nil, err
	}
	if err := begin(c.Out, p, report); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	defer s.f.Close()
	r, err := s.choose(ctx, n)
	if err != nil {
		return nil, err
	}
	return r, s.finish(r, p)
}

// selecting is a selection under way.
type selecting struct {
	c                *SelectConfig
	teacher, student *model.Model
	text             *heldOutText
	docs             []data.Document
	report           Report
	f                *os.File
	list             []Candidate
	known            map[[2]int]float64 // by round and layer
}

func (s *selecting) load(teacher *checkpoint.Checkpoint) error {
	text := HeldOut()
	if s.c.Text != "" {
		b, err := os.ReadFile(s.c.Text)
		if err != nil {
			return err
		}
		text = string(b)
	}
	var err error
	if s.text, err = heldOut(teacher, text, s.c.Context); err != nil {
		return err
	}
	s.text.teacher = teacher.Model
	if s.c.Student != "" {
		student, err := s.report.load(s.c.Student)
		if err != nil {
			return err
		}
		if m := student.Model.Config.Mamba; m == nil || len(m.AttnLayers) > 0 {
			return fmt.Errorf("%s has attention layers: want a student whose layers are all Mamba", s.c.Student)
		}
		s.student = student.Model
	}
	if s.c.Steps > 0 {
		s.docs, err = data.ReadDocuments(filepath.Join(s.c.Labels, labelsFile), teacher.Model.Config.VocabSize)
	}
	return err
}

// open reads the candidates that an earlier run measured.
func (s *selecting) open() error {
	f, err := os.OpenFile(filepath.Join(checkpoint.Partial(s.c.Out), candidatesFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	s.f = f
	var whole int64
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		var x Candidate
		if err != nil || json.Unmarshal(line, &x) != nil {
			break
		}
		whole += int64(len(line))
		s.known[[2]int{x.Round, x.Layer}] = x.KL
	}
	if err := f.Truncate(whole); err != nil {
		return err
	}
	_, err = f.Seek(whole, io.SeekStart)
	return err
}

// choose ranks the layers.
func (s *selecting) choose(ctx context.Context, n int) (*Selection, error) {
	r := &Selection{Method: s.c.Method}
	all := seq(n)
	switch s.c.Method {
	case "uniform":
		r.Ranked = evenly(n, s.c.Keep)
	case "leave-one-out": // those that are missed most
		if err := s.round(ctx, 1, all, s.without); err != nil {
			return nil, err
		}
		r.Ranked = s.best(1, func(kl float64) float64 { return -kl })[:s.c.Keep]
	case "kl-restore": // those that help most
		if err := s.round(ctx, 1, all, func(ctx context.Context, l int) (float64, error) { return s.with(ctx, []int{l}) }); err != nil {
			return nil, err
		}
		r.Ranked = s.best(1, func(kl float64) float64 { return kl })[:s.c.Keep]
	default: // greedy: the best beside those that are chosen
		for round := 1; round <= s.c.Keep; round++ {
			rest := slices.DeleteFunc(slices.Clone(all), func(l int) bool { return slices.Contains(r.Ranked, l) })
			err := s.round(ctx, round, rest, func(ctx context.Context, l int) (float64, error) {
				return s.with(ctx, append(slices.Clone(r.Ranked), l))
			})
			if err != nil {
				return nil, err
			}
			r.Ranked = append(r.Ranked, s.best(round, func(kl float64) float64 { return kl })[0])
		}
	}
	r.AttnLayers, r.Candidates = slices.Sorted(slices.Values(r.Ranked)), s.list
	if s.student == nil {
		return r, nil
	}
	var err error
	for _, x := range []struct {
		kl     *float64
		layers []int
	}{{&r.KL, r.AttnLayers}, {&r.UniformKL, evenly(n, s.c.Keep)}, {&r.StudentKL, nil}} {
		if *x.kl, err = s.with(ctx, x.layers); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// evenly returns keep of n layers, evenly spread as the paper's: of every group the last.
func evenly(n, keep int) []int {
	layers := make([]int, keep)
	for i := range layers {
		layers[i] = (i+1)*n/keep - 1
	}
	return layers
}

// best returns the layers of a round in the order of what is made of their KL, the least first.
func (s *selecting) best(round int, key func(kl float64) float64) (layers []int) {
	list := slices.DeleteFunc(slices.Clone(s.list), func(x Candidate) bool { return x.Round != round })
	slices.SortStableFunc(list, func(a, b Candidate) int { return cmp.Compare(key(a.KL), key(b.KL)) })
	for _, x := range list {
		layers = append(layers, x.Layer)
	}
	return layers
}

// round measures layers one after another, and keeps each result.
func (s *selecting) round(ctx context.Context, round int, layers []int, measure func(ctx context.Context, layer int) (float64, error)) error {
	for i, l := range layers {
		kl, ok := s.known[[2]int{round, l}]
		x := Candidate{round, l, kl}
		if !ok {
			var err error
			if x.KL, err = measure(ctx, l); err != nil {
				return err
			}
			line, err := json.Marshal(x)
			if err != nil {
				return err
			}
			if _, err := s.f.Write(append(line, '\n')); err != nil {
				return err
			}
			s.report(Event{Stage: "select", Done: i + 1, Total: len(layers), Unit: "layers", Text: fmt.Sprintf("round %d: layer %d, KL %.4f", round, l, x.KL)})
		}
		s.list = append(s.list, x)
	}
	return nil
}

// without returns the KL of the teacher whose layer has no attention.
func (s *selecting) without(ctx context.Context, layer int) (float64, error) {
	m, err := model.WithoutMixer(s.teacher, layer)
	if err != nil {
		return 0, err
	}
	f, err := s.text.measure(ctx, m)
	return f.KL, err
}

// with returns the KL of the student that has the teacher's attention in layers, after the distillation that was asked for.
func (s *selecting) with(ctx context.Context, layers []int) (float64, error) {
	m, err := model.Restore(s.student, s.teacher, layers)
	if err != nil {
		return 0, err
	}
	if s.c.Steps > 0 {
		if err := s.distill(ctx, m); err != nil {
			return 0, err
		}
	}
	f, err := s.text.measure(ctx, m)
	return f.KL, err
}

// distill trains a candidate for a few steps.
func (s *selecting) distill(ctx context.Context, m *model.Model) error {
	c := s.c
	t := &training{TrainConfig: c.TrainConfig, checkpoint: checkpoint.New(m), docs: s.docs}
	m.Train(func(name string) bool {
		return (len(c.Train) == 0 || matchesAny(name, c.Train)) && !matchesAny(name, c.Freeze)
	})
	defer m.Train(func(string) bool { return false })
	stream, err := t.batches()
	if err != nil {
		return err
	}
	scratch := autograd.NewScratch()
	r := &train.Run[data.Batch]{
		Config: train.Config{Steps: c.Steps, Accumulate: c.Accumulate, Clip: c.Clip,
			Schedule: optim.Schedule{Name: c.Schedule, Peak: c.LR, Floor: c.FloorLR, Warmup: min(c.Warmup, c.Steps), Total: c.Steps, Decay: c.Decay}},
		Optimizer: optim.NewAdamW(optim.Config{Beta1: c.Beta1, Beta2: c.Beta2, Eps: c.Eps, WeightDecay: c.WeightDecay}, t.params()),
		Next:      stream.Next, Log: func(train.Step) error { return nil },
		Loss: func(tape *autograd.Tape, b data.Batch) loss.Total {
			scratch.Reset()
			mb := modelBatch(b)
			th := loss.Head{Hidden: s.teacher.Forward(scratch, mb), Weight: s.teacher.Head()}
			return loss.Distill(tape, loss.Head{Hidden: m.Forward(tape, mb), Weight: m.Head()}, th, b.Targets, loss.Weights{KL: 1})
		},
	}
	return r.Loop(ctx)
}

// finish writes the result.
func (s *selecting) finish(r *Selection, p *checkpoint.Provenance) error {
	dir := checkpoint.Partial(s.c.Out)
	j, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	p.Metrics = map[string]float64{"layers": float64(len(r.AttnLayers))}
	if s.student != nil {
		p.Metrics["kl"], p.Metrics["uniform_kl"], p.Metrics["student_kl"] = r.KL, r.UniformKL, r.StudentKL
	}
	for name, text := range map[string][]byte{selectionFile: append(j, '\n'), "selection.svg": []byte(r.picture())} {
		if err := checkpoint.WriteFile(filepath.Join(dir, name), text); err != nil {
			return err
		}
	}
	if err := writeProvenance(dir, p); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, candidatesFile)); err != nil {
		return err
	}
	return finish(s.c.Out)
}

// picture draws the first round's KL of each layer as bars, those of the chosen layers dark, as SVG.
func (r *Selection) picture() string {
	const width, height, left, bottom = 640.0, 240.0, 50.0, 30.0
	first, most := r.firstRound()
	most = max(most, 1e-12)
	if len(first) == 0 { // uniform: nothing was measured
		for _, l := range r.AttnLayers {
			first = append(first, Candidate{Round: 1, Layer: l})
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="11">`, width, height)
	fmt.Fprintf(&b, "\n<title>%s: KL of the teacher to each candidate, nats a token</title>", r.Method)
	step := (width - left - 10) / float64(len(first))
	for i, x := range first {
		color := "#b8c4d6"
		if slices.Contains(r.AttnLayers, x.Layer) {
			color = "#2b5797"
		}
		h := (height - bottom - 20) * x.KL / most
		at := left + step*float64(i)
		fmt.Fprintf(&b, "\n"+`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>layer %d: %.4f</title></rect>`, at, height-bottom-h, 0.8*step, h, color, x.Layer, x.KL)
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%d</text>`, at+0.4*step, height-bottom+14, x.Layer)
	}
	fmt.Fprintf(&b, "\n"+`<text x="%g" y="26" text-anchor="end">%.3g</text><text x="%g" y="%g" text-anchor="end">0</text>`, left-6, most, left-6, height-bottom)
	b.WriteString("\n</svg>\n")
	return b.String()
}
