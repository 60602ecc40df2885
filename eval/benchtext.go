package eval

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"

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
	MaxTokens int     // of an answer
	Most      int     // tokens that a step proposes; measured cost decides how many of them
	Stop      []int32 // ends an answer
	Runs      int
	Report    func(done, total int, what string) // may be nil
}

// BenchSpecText measures lossless speculation on prompts: plain decoding and speculation take turns, prompt by prompt, and the engine learns as it
// does in use. Decoding is greedy.
func BenchSpecText(ctx context.Context, target BenchSubject, c TextConfig) (*SpecReport, error) {
	r := &SpecReport{
		ISA: kernel.Level(), Processor: processor(), Threads: runtime.GOMAXPROCS(0), Shape: target.Name, Vocabulary: target.Model.Config.VocabSize,
		Type: target.Model.Format().String(), Parameters: target.Model.NumParams(),
	}
	b := &textBench{TextConfig: c, target: target.Model}
	for _, t := range c.Texts {
		b.total += len(c.Sources) * len(t.Prompts) * c.Runs
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
		r.addSteps(b.engine.StepTimes(1))
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
	prompts := make([][]pair, len(text.Prompts))
	all := make([]pair, b.Runs) // sums of seconds and tokens of a run
	for run := range b.Runs {
		waited := watch(0)
		for i, prompt := range text.Prompts {
			b.report(r.Name)
			p, same, err := b.turn(ctx, prompt, source, &sum)
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

// turn answers a prompt plainly and with guesses: seconds of each, and the answer's tokens.
func (b *textBench) turn(ctx context.Context, prompt []int32, source SpecSource, sum *engine.Stats) (p pair, same bool, err error) {
	r := engine.Request{Prompt: prompt, MaxTokens: b.MaxTokens, Stop: b.Stop}
	var stats engine.Stats
	plain, err := generateFor(ctx, b.engine, r, &stats, math.Inf(1), b.MaxTokens)
	if err != nil {
		return p, false, err
	}
	p.plain, p.perStep = stats.Decode.Seconds(), float64(stats.Tokens)
	r.Draft, r.NGram, r.Corpus, r.Speculate = source.Draft.Model, source.NGram, source.Corpus, b.Most
	fast, err := generateFor(ctx, b.engine, r, &stats, math.Inf(1), b.MaxTokens)
	if err != nil {
		return p, false, err
	}
	p.fast = stats.Decode.Seconds()
	sum.Rounds += stats.Rounds
	sum.Drafted += stats.Drafted
	sum.Accepted += stats.Accepted
	sum.JudgedAt, sum.AcceptedAt = added(sum.JudgedAt, stats.JudgedAt), added(sum.AcceptedAt, stats.AcceptedAt)
	return p, slices.Equal(plain, fast), nil
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
