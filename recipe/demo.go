package recipe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"krait/checkpoint"
	"krait/engine"
	"krait/kernel"
	"krait/score"
	"krait/tokenizer"
	"krait/train"
)

// DemoModel is one model's row in the demo's table.
type DemoModel struct {
	Name          string  `json:"name"`
	Directory     string  `json:"directory"`
	NLL           float64 `json:"nll"`              // nats a token on the held-out text
	Perplexity    float64 `json:"perplexity"`       //
	Ratio         float64 `json:"perplexity_ratio"` // to the teacher's
	Parameters    int     `json:"parameters"`
	StateBytes512 int     `json:"state_bytes_512"` // of one sequence of 512 tokens
}

// DemoSpeculation is one way of guessing, measured against plain decoding of the same prompts.
type DemoSpeculation struct {
	Draft           string   `json:"draft"` // "model", "ngram" or "model+ngram"
	Speculate       int      `json:"speculate"`
	TokensPerSecond float64  `json:"tokens_per_second"`
	TokensPerStep   float64  `json:"tokens_per_step"`
	Acceptance      float64  `json:"acceptance"` // accepted / drafted
	Depth           int      `json:"depth"`      // guesses of most steps of the last run; 0: none
	MeanDepth       float64  `json:"mean_depth"` // of all
	Depths          []int    `json:"depths"`     // steps by their number of guesses
	Speedup         float64  `json:"speedup"`    // median over alternating runs
	Identical       bool     `json:"identical"`  // greedy output equal to plain greedy output, every prompt
	Why             []string `json:"why"`        // of each source, which depth is chosen in the end and what was measured to choose it
}

// DemoTraining sums up the training of all stages. Shares are of its time.
type DemoTraining struct {
	Tokens          int                `json:"tokens"`
	TokensPerSecond float64            `json:"tokens_per_second"`
	Shares          map[string]float64 `json:"shares"` // gemm, scan, attention, elementwise, overhead
}

// DemoCurve is one stage's training curve.
type DemoCurve struct {
	Stage string       `json:"stage"`
	Steps []train.Step `json:"-"`
}

// DemoResult is everything the demo measured.
type DemoResult struct {
	Seconds              float64            `json:"seconds"`
	StageSeconds         map[string]float64 `json:"stage_seconds"`
	Kernels              string             `json:"kernels"` // the level of the kernels in use
	Teacher              DemoModel          `json:"teacher"`
	HybridInit           DemoModel          `json:"hybrid_init"`
	Hybrid               DemoModel          `json:"hybrid"`
	PureInit             DemoModel          `json:"pure_init"`
	Pure                 DemoModel          `json:"pure"`
	Draft                DemoModel          `json:"draft"`
	PlainTokensPerSecond float64            `json:"plain_tokens_per_second"`
	Speculative          DemoSpeculation    `json:"speculative"` // n-grams where they match well, else the draft model
	DraftOnly            DemoSpeculation    `json:"draft_only"`
	NGram                DemoSpeculation    `json:"ngram"`
	Training             DemoTraining       `json:"training"`
	Sample               string             `json:"sample"` // text of the distilled hybrid
	Curves               []DemoCurve        `json:"-"`
}

// DemoConfig is the configuration of Demo.
type DemoConfig struct {
	Dir   string  // where the stages' directories go; those that are whole already are not made again
	Scale float64 // factor on documents and steps: 1 is the recipe, less is a trial
	Seed  uint64
	Force bool // make again what was made at another scale or seed
}

// How the demo measures. What it makes is the embedded recipe demo.
const (
	demoContext     = 512
	demoSpeculate   = 2
	demoPrompts     = 8
	demoPromptLen   = 24
	demoAnswerLen   = 192
	demoTimingRuns  = 9
	demoSampleLen   = 160
	demoSamplePrefx = "Once upon a time, there was a little girl named Lily."
)

// demoHybridLayers are the layers in which the recipe's hybrid keeps attention.
var demoHybridLayers = []int{1, 3}

// demo is a run of the demo.
type demo struct {
	DemoConfig
	ctx    context.Context
	report Report
	result *DemoResult
	start  time.Time // of the measurements
}

// Demo runs the whole method on the embedded model: labels, a hybrid and a pure Mamba model (init, alignment, distillation), a draft, and
// the measurement of each.
func Demo(ctx context.Context, c DemoConfig, report Report) (*DemoResult, error) {
	if !(c.Scale > 0 && c.Scale <= 100) {
		return nil, fmt.Errorf("scale is %g, want a positive number of at most 100", c.Scale)
	}
	d := &demo{DemoConfig: c, ctx: ctx, report: report,
		result: &DemoResult{StageSeconds: map[string]float64{}, Kernels: kernel.Level(), Training: DemoTraining{Shares: map[string]float64{}}}}
	for _, step := range []func() error{func() error { return d.stages(c.Force) }, d.evaluate, d.speculate, d.curves} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	d.result.Seconds += time.Since(d.start).Seconds()
	return d.result, nil
}

func (d *demo) path(name string) string { return filepath.Join(d.Dir, name) }

// stages runs the embedded recipe, its amounts of text and training multiplied by the scale.
func (d *demo) stages(force bool) error {
	r, err := Load("demo", []string{"out=" + strconv.Quote(d.Dir), fmt.Sprintf("seed=%d", d.Seed)}, nil, nil)
	if err != nil {
		return err
	}
	r.scale(d.Scale)
	state, err := r.Run(d.ctx, force, d.report)
	if err != nil {
		return err
	}
	d.start = time.Now()
	for _, s := range state.Stages {
		d.result.StageSeconds[s.Name] = s.Seconds // of all starts together
		d.result.Seconds += s.Seconds
	}
	return nil
}

// scale multiplies the documents and the steps of every stage; at least 4 of each are left.
func (r *Recipe) scale(by float64) {
	scaled := func(n int) int { return max(4, int(math.Round(float64(n)*by))) }
	for _, s := range r.Stages {
		if c, ok := s.Config.(*LabelConfig); ok {
			c.Count = scaled(c.Count)
		}
		if t := s.kind.slots(s.Config).train; t != nil {
			t.Steps, t.Warmup = scaled(t.Steps), AutoWarmup
			t.settle()
		}
	}
}

// evaluate measures every model on the held-out text.
func (d *demo) evaluate() error {
	r := d.result
	rows := []struct {
		name string
		to   *DemoModel
	}{{"teacher", &r.Teacher}, {"hybrid_init", &r.HybridInit}, {"hybrid", &r.Hybrid}, {"pure_init", &r.PureInit}, {"pure", &r.Pure}, {"draft", &r.Draft}}
	for i, row := range rows {
		c, err := checkpoint.Load(d.path(row.name))
		if err != nil {
			return err
		}
		tok, err := c.Tokenizer()
		if err != nil {
			return err
		}
		ids, err := tok.Encode(HeldOut(), true)
		if err != nil {
			return err
		}
		c.Model.Pack()
		l, err := score.Perplexity(d.ctx, c.Model, ids, demoContext, demoContext)
		if err != nil {
			return err
		}
		*row.to = DemoModel{Name: row.name, Directory: d.path(row.name), NLL: l.Mean(), Perplexity: l.Perplexity(),
			Ratio: l.Perplexity() / math.Exp(rowNLL(&r.Teacher, l)), Parameters: c.Model.NumParams(), StateBytes512: c.Model.StateBytes(demoContext)}
		d.report(Event{Stage: "evaluate", Done: i + 1, Total: len(rows), Unit: "models"})
	}
	return nil
}

// rowNLL is the teacher's mean, or l's own while the teacher is the row being measured.
func rowNLL(teacher *DemoModel, l score.Likelihood) float64 {
	if teacher.Name == "" {
		return l.Mean()
	}
	return teacher.NLL
}

// speculate measures plain and speculative decoding of the hybrid on prompts from the held-out text, in alternating runs.
func (d *demo) speculate() error {
	hybrid, err := checkpoint.Load(d.path("hybrid"))
	if err != nil {
		return err
	}
	draft, err := checkpoint.Load(d.path("draft"))
	if err != nil {
		return err
	}
	tok, err := hybrid.Tokenizer()
	if err != nil {
		return err
	}
	prompts, err := demoTexts(tok)
	if err != nil {
		return err
	}
	t := &timing{demo: d, engine: engine.New(hybrid.Model, draft.Model), prompts: prompts, stop: hybrid.EOS}
	both := engine.Request{Draft: draft.Model, NGram: true, Speculate: demoSpeculate}
	model := engine.Request{Draft: draft.Model, Speculate: demoSpeculate}
	ngram := engine.Request{NGram: true, Speculate: demoSpeculate}
	if err := t.run(engine.Request{}, both, model, ngram); err != nil {
		return err
	}
	d.result.PlainTokensPerSecond = median(t.rates[0])
	d.result.Speculative = t.row(1, "model+ngram")
	d.result.DraftOnly = t.row(2, "model")
	d.result.NGram = t.row(3, "ngram")
	return d.sample(t.engine, tok)
}

// sample lets the hybrid write a story, so that a reader can judge it.
func (d *demo) sample(e *engine.Engine, tok *tokenizer.Tokenizer) error {
	prompt, err := tok.Encode(demoSamplePrefx, true)
	if err != nil {
		return err
	}
	ids := slices.Clone(prompt)
	for t, err := range e.Generate(d.ctx, engine.Request{Prompt: prompt, MaxTokens: demoSampleLen}, nil) {
		if err != nil {
			return err
		}
		ids = append(ids, t.ID)
	}
	d.result.Sample, err = tok.Decode(ids, true)
	return err
}

// demoTexts cuts prompts out of the held-out text: beginnings of stories at equal distances.
func demoTexts(tok *tokenizer.Tokenizer) ([][]int32, error) {
	text := HeldOut()
	var prompts [][]int32
	for i := range demoPrompts {
		ids, err := tok.Encode(text[nextLine(text, len(text)*i/demoPrompts):], true)
		if err != nil {
			return nil, err
		}
		if len(ids) < demoPromptLen {
			return nil, errors.New("the held-out text is too short")
		}
		prompts = append(prompts, ids[:demoPromptLen])
	}
	return prompts, nil
}

// nextLine returns the beginning of the first line at or after i.
func nextLine(s string, i int) int {
	for i > 0 && i < len(s) && s[i-1] != '\n' {
		i++
	}
	return i
}

// timing runs requests over the same prompts in turn.
type timing struct {
	*demo
	engine  *engine.Engine
	prompts [][]int32
	stop    []int32
	rates   [][]float64 // tokens a second by request and run
	stats   []engine.Stats
	same    []bool
	asked   []engine.Request
}

func (t *timing) run(requests ...engine.Request) error {
	t.asked = requests
	t.rates, t.stats, t.same = make([][]float64, len(requests)), make([]engine.Stats, len(requests)), make([]bool, len(requests))
	var plain [][]int32
	for run := range demoTimingRuns + 1 { // the first warms up and is not counted
		for i, r := range requests {
			outputs, stats, err := t.once(r)
			if err != nil {
				return err
			}
			if i == 0 {
				plain = outputs
			}
			same := slices.EqualFunc(outputs, plain, slices.Equal[[]int32])
			t.same[i] = same && (run == 0 || t.same[i])
			if run > 0 {
				t.rates[i] = append(t.rates[i], float64(stats.Tokens)/stats.Decode.Seconds())
				t.stats[i] = stats
			}
		}
		t.report(Event{Stage: "speculate", Done: run + 1, Total: demoTimingRuns + 1, Unit: "rounds"})
	}
	return nil
}

// once generates from every prompt and adds up.
func (t *timing) once(r engine.Request) ([][]int32, engine.Stats, error) {
	var outputs [][]int32
	var sum engine.Stats
	for _, p := range t.prompts {
		var s engine.Stats
		r.Prompt, r.MaxTokens, r.Stop = p, demoAnswerLen, t.stop
		var out []int32
		for tok, err := range t.engine.Generate(t.ctx, r, &s) {
			if err != nil {
				return nil, sum, err
			}
			out = append(out, tok.ID)
		}
		outputs = append(outputs, out)
		sum.Tokens, sum.Rounds = sum.Tokens+s.Tokens, sum.Rounds+s.Rounds
		sum.Drafted, sum.Accepted = sum.Drafted+s.Drafted, sum.Accepted+s.Accepted
		sum.Decode += s.Decode
		for i, n := range s.DraftedAt {
			if i == len(sum.DraftedAt) {
				sum.DraftedAt = append(sum.DraftedAt, 0)
			}
			sum.DraftedAt[i] += n
		}
	}
	return outputs, sum, nil
}

// row sums up request i against plain decoding, request 0.
func (t *timing) row(i int, draft string) DemoSpeculation {
	var speedups []float64
	for run, rate := range t.rates[i] {
		speedups = append(speedups, rate/t.rates[0][run])
	}
	s := t.stats[i]
	d := DemoSpeculation{Draft: draft, Speculate: t.asked[i].Speculate, TokensPerSecond: median(t.rates[i]), Speedup: median(speedups), Identical: t.same[i],
		TokensPerStep: float64(s.Tokens) / float64(max(1, s.Rounds)), Acceptance: float64(s.Accepted) / float64(max(1, s.Drafted)),
		MeanDepth: float64(s.Drafted) / float64(max(1, s.Rounds)), Depths: depths(&s)}
	for k, n := range d.Depths {
		if n > d.Depths[d.Depth] {
			d.Depth = k
		}
	}
	for _, v := range t.engine.Verdicts(&t.asked[i]) {
		d.Why = append(d.Why, v.String())
	}
	return d
}

// depths returns the steps by their number of guesses: DraftedAt counts those with at least so many.
func depths(s *engine.Stats) []int {
	n := []int{s.Rounds}
	for k, more := range s.DraftedAt {
		n[k] -= more
		n = append(n, more)
	}
	return n
}

func median(x []float64) float64 {
	s := slices.Sorted(slices.Values(x))
	return s[len(s)/2]
}

// curves collects what the trainings logged.
func (d *demo) curves() error {
	r := d.result
	var seconds float64
	for _, stage := range []string{"hybrid_aligned", "hybrid", "pure_aligned", "pure", "draft"} {
		steps, err := ReadMetrics(d.path(stage))
		if err != nil {
			return err
		}
		r.Curves = append(r.Curves, DemoCurve{Stage: stage, Steps: steps})
		for _, s := range steps {
			r.Training.Tokens += s.Tokens
			seconds += s.Seconds
		}
		c, err := checkpoint.ReadProvenance(d.path(stage))
		if err != nil {
			return err
		}
		for _, kind := range []string{"gemm", "scan", "attention", "elementwise"} {
			r.Training.Shares[kind] += c.Metrics["share_"+kind] * sumSeconds(steps)
		}
	}
	overhead := 1.0
	for kind, v := range r.Training.Shares {
		r.Training.Shares[kind] = v / seconds
		overhead -= v / seconds
	}
	r.Training.Shares["overhead"] = overhead
	r.Training.TokensPerSecond = float64(r.Training.Tokens) / seconds
	return nil
}

func sumSeconds(steps []train.Step) float64 {
	var s float64
	for _, x := range steps {
		s += x.Seconds
	}
	return s
}
