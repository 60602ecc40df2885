package eval

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"krait/engine"
	"krait/kernel"
	"krait/model"
)

// SpecText is a set of prompts of one kind.
type SpecText struct {
	Name    string
	Prompts [][]int32
}

// SpecSource is who guesses: a draft, n-grams, or both.
type SpecSource struct {
	Name   string
	Draft  BenchSubject // its model may be nil
	NGram  bool
	Corpus *engine.Corpus
}

// TextConfig says what BenchSpecText measures.
type TextConfig struct {
	Texts     []SpecText
	Sources   []SpecSource
	AtOnce    int     // prompts of a text that are answered together; at most 1: one by one
	MaxTokens int     // of an answer
	Most      int     // tokens that a step proposes; measured cost decides how many of them
	Stop      []int32 // ends an answer
	Runs      int
	Report    func(done, total int, what string) // may be nil
}

// BenchSpecText measures lossless speculation on prompts: plain decoding and speculation take turns, prompt by prompt, and the engine learns as it
// does in use. Decoding is greedy. Where several prompts are answered together the turns are those of the whole text, and their time holds that
// of the prompts too.
func BenchSpecText(ctx context.Context, target BenchSubject, c TextConfig) (*SpecReport, error) {
	r := &SpecReport{
		ISA: kernel.Level(), Processor: processor(), Threads: runtime.GOMAXPROCS(0), Shape: target.Name, Vocabulary: target.Model.Config.VocabSize,
		Type: target.Model.Format().String(), Parameters: target.Model.NumParams(), AtOnce: c.AtOnce,
	}
	b := &textBench{TextConfig: c, target: target.Model}
	for _, t := range c.Texts {
		b.total += len(c.Sources) * len(b.turns(t)) * c.Runs
	}
	for _, source := range c.Sources {
		b.engine = engine.New(target.Model, source.Draft.Model)
		for _, text := range c.Texts {
			row, err := b.row(ctx, text, source)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", text.Name, err)
			}
			r.Rows = append(r.Rows, row)
		}
		r.addSteps(b.engine.StepTimes(max(1, c.AtOnce)))
	}
	b.report("")
	return r, nil
}

// addSteps takes in the measured times of steps, the shortest of all engines.
func (r *SpecReport) addSteps(seconds []float64) {
	for i, t := range seconds {
		if i == len(r.StepMS) {
			r.StepMS = append(r.StepMS, 0)
		}
		if ms := 1e3 * t; ms > 0 && (r.StepMS[i] == 0 || ms < r.StepMS[i]) {
			r.StepMS[i] = ms
		}
	}
}

type textBench struct {
	TextConfig
	target      *model.Model
	engine      *engine.Engine
	done, total int
}

func (b *textBench) report(what string) {
	if b.Report != nil {
		b.Report(b.done, b.total, what)
	}
}

// row measures one set of prompts with one source.
func (b *textBench) row(ctx context.Context, text SpecText, source SpecSource) (SpecRow, error) {
	r := SpecRow{Name: text.Name + " " + source.Name, Identical: true, LeastSpeedup: math.Inf(1)}
	if source.Draft.Model != nil {
		r.Draft = draftOf(source.Draft)
	}
	var sum engine.Stats
	turns := b.turns(text)
	prompts := make([][]pair, len(turns))
	all := make([]pair, b.Runs) // sums of seconds and tokens of a run
	for run := range b.Runs {
		waited := watch(0)
		for i, together := range turns {
			b.report(r.Name)
			p, same, err := b.turn(ctx, together, source, &sum)
			if err != nil {
				return r, err
			}
			r.Identical = r.Identical && same
			prompts[i] = append(prompts[i], p)
			all[run].plain += p.plain
			all[run].fast += p.fast
			all[run].perStep += p.perStep
			b.done++
		}
		all[run].waited = waited()
	}
	tokens := all[0].perStep // the same in every run
	for i := range all {
		all[i].plain, all[i].fast = tokens/all[i].plain, tokens/all[i].fast
		all[i].perStep = float64(sum.Rounds+sum.Accepted) / float64(max(1, sum.Rounds))
	}
	r.fill(all)
	for _, p := range prompts {
		var ratios []float64
		for _, x := range p {
			ratios = append(ratios, x.plain/x.fast)
		}
		r.LeastSpeedup = min(r.LeastSpeedup, median(ratios))
	}
	r.MeanDepth = float64(sum.Drafted) / float64(max(1, sum.Rounds))
	for i, n := range sum.JudgedAt {
		if n > 0 {
			r.AcceptanceAt = append(r.AcceptanceAt, float64(sum.AcceptedAt[i])/float64(n))
		}
	}
	return r, nil
}

// turns returns the prompts of a text that are answered in one turn each.
func (b *textBench) turns(text SpecText) (turns [][][]int32) {
	if b.AtOnce > 1 {
		return [][][]int32{text.Prompts}
	}
	for _, p := range text.Prompts {
		turns = append(turns, [][]int32{p})
	}
	return turns
}

// turn answers prompts plainly and with guesses: seconds of each, and the tokens of the answers.
func (b *textBench) turn(ctx context.Context, prompts [][]int32, source SpecSource, sum *engine.Stats) (p pair, same bool, err error) {
	r := engine.Request{MaxTokens: b.MaxTokens, Stop: b.Stop}
	plain, seconds, _, err := b.answers(ctx, prompts, r)
	if err != nil {
		return p, false, err
	}
	p.plain = seconds
	for _, tokens := range plain {
		p.perStep += float64(len(tokens))
	}
	r.Draft, r.NGram, r.Corpus, r.Speculate = source.Draft.Model, source.NGram, source.Corpus, b.Most
	fast, seconds, stats, err := b.answers(ctx, prompts, r)
	if err != nil {
		return p, false, err
	}
	p.fast = seconds
	for _, s := range stats {
		sum.Rounds += s.Rounds
		sum.Drafted += s.Drafted
		sum.Accepted += s.Accepted
		sum.JudgedAt, sum.AcceptedAt = added(sum.JudgedAt, s.JudgedAt), added(sum.AcceptedAt, s.AcceptedAt)
	}
	return p, slices.EqualFunc(plain, fast, slices.Equal[[]int32]), nil
}

// answers answers prompts as r says, AtOnce of them together: their tokens, the seconds of decoding (of all, where several are together), and what was
// done for each.
func (b *textBench) answers(ctx context.Context, prompts [][]int32, r engine.Request) (tokens [][]int32, seconds float64, stats []engine.Stats, err error) {
	tokens, stats = make([][]int32, len(prompts)), make([]engine.Stats, len(prompts))
	if len(prompts) == 1 {
		r.Prompt = prompts[0]
		tokens[0], err = generateFor(ctx, b.engine, r, &stats[0], math.Inf(1), b.MaxTokens)
		return tokens, stats[0].Decode.Seconds(), stats, err
	}
	n := 0
	next := func() (engine.Request, bool) {
		if n == len(prompts) {
			return r, false
		}
		q := r
		q.Prompt, q.Stats = prompts[n], &stats[n]
		n++
		return q, true
	}
	start := time.Now()
	err = b.engine.Batch(ctx, b.AtOnce, next, func(i int, out []int32, _ string) error {
		tokens[i] = out
		return nil
	})
	return tokens, time.Since(start).Seconds(), stats, err
}

// added returns the sum of counts.
func added(a, b []int) []int {
	for i, n := range b {
		if i == len(a) {
			a = append(a, 0)
		}
		a[i] += n
	}
	return a
}
