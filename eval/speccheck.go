package eval

import (
	"context"
	"fmt"
	"math"
	"slices"

	"krait/engine"
	"krait/kernel"
	"krait/model"
)

// CheckReport is the JSON object of krait bench spec --check-identical.
type CheckReport struct {
	ISA       string     `json:"isa"`
	Shape     string     `json:"shape"`
	Type      string     `json:"type"`
	Prompts   int        `json:"prompts"`
	Tokens    int        `json:"tokens"` // of plain answers
	Identical bool       `json:"identical"`
	Checks    []CheckRow `json:"checks"`
}

// CheckRow is one way of guessing, whose greedy answers to all prompts are compared with plain ones, token by token.
type CheckRow struct {
	Source    string   `json:"source"`
	Depth     int      `json:"depth"` // guesses of every step; 0: chosen by measured cost
	Branch    bool     `json:"branch,omitempty"`
	Batch     int      `json:"batch"` // sequences at once; more than one: ways of guessing mixed
	Drafted   int      `json:"drafted,omitempty"`
	Accepted  int      `json:"accepted,omitempty"`
	Identical int      `json:"identical"` // answers
	Different []string `json:"different,omitempty"`
}

// checkDepths are the numbers of guesses that are tried.
var checkDepths = []int{1, 2, 3, 5, 8, 16}

// CheckIdentical compares greedy answers with guesses and without: every source at several depths and at the one that is chosen by measured
// cost, a draft with branches too, and batches that mix them all. Of c it takes no Runs.
func CheckIdentical(ctx context.Context, target BenchSubject, c TextConfig) (*CheckReport, error) {
	k := &check{TextConfig: c, engine: engineOf(target.Model, c.Sources)}
	for _, t := range c.Texts {
		k.prompts = append(k.prompts, t.Prompts...)
	}
	ways := k.ways()
	k.total = (1 + len(ways) + len(checkBatches)) * len(k.prompts)
	r := &CheckReport{ISA: kernel.Level(), Shape: target.Name, Type: target.Model.Format().String(), Prompts: len(k.prompts), Identical: true}
	for _, p := range k.prompts {
		plain, err := k.answer(ctx, engine.Request{Prompt: p}, nil)
		if err != nil {
			return nil, err
		}
		k.plain = append(k.plain, plain)
		r.Tokens += len(plain)
	}
	for _, way := range ways {
		row := CheckRow{Source: way.source, Depth: way.depth, Branch: way.request.Branch, Batch: 1}
		for i, p := range k.prompts {
			request := way.request
			request.Prompt = p
			var stats engine.Stats
			got, err := k.answer(ctx, request, &stats)
			if err != nil {
				return nil, err
			}
			row.Drafted, row.Accepted = row.Drafted+stats.Drafted, row.Accepted+stats.Accepted
			k.compare(&row, i, got)
		}
		r.add(row)
	}
	for _, width := range checkBatches {
		row, err := k.batch(ctx, width, ways)
		if err != nil {
			return nil, err
		}
		r.add(row)
	}
	k.report("")
	return r, nil
}

// checkBatches are the numbers of sequences at once that are tried.
var checkBatches = []int{2, 5, 8}

// engineOf returns an engine for a target and the drafts of sources.
func engineOf(target *model.Model, sources []SpecSource) *engine.Engine {
	var drafts []*model.Model
	for _, s := range sources {
		drafts = append(drafts, s.Draft.Model)
	}
	return engine.New(target, drafts...)
}

func (r *CheckReport) add(row CheckRow) {
	r.Identical = r.Identical && row.Identical == r.Prompts
	r.Checks = append(r.Checks, row)
}

type check struct {
	TextConfig
	engine      *engine.Engine
	prompts     [][]int32
	plain       [][]int32 // answers
	done, total int
}

func (k *check) report(what string) {
	if k.Report != nil {
		k.Report(k.done, k.total, what)
	}
}

// way is one way of guessing.
type way struct {
	source  string
	depth   int
	request engine.Request
}

func (k *check) ways() []way {
	var all []way
	for _, s := range k.Sources {
		r := engine.Request{Draft: s.Draft.Model, NGram: s.NGram, Corpus: s.Corpus, Speculate: k.Most}
		all = append(all, way{s.Name, 0, r})
		for _, depth := range checkDepths {
			r.Speculate, r.FixedDepth, r.Branch = depth, true, false
			all = append(all, way{s.Name, depth, r})
			if r.Draft != nil {
				r.Branch = true
				all = append(all, way{s.Name, depth, r})
			}
		}
	}
	return all
}

func (k *check) answer(ctx context.Context, r engine.Request, stats *engine.Stats) ([]int32, error) {
	k.report("answers")
	k.done++
	r.MaxTokens, r.Stop = k.MaxTokens, k.Stop
	return generateFor(ctx, k.engine, r, stats, math.Inf(1), k.MaxTokens)
}

// compare counts an answer to prompt i.
func (k *check) compare(row *CheckRow, i int, got []int32) {
	want := k.plain[i]
	if slices.Equal(got, want) {
		row.Identical++
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	row.Different = append(row.Different, fmt.Sprintf("prompt %d, token %d of %d", i+1, at+1, len(want)))
}

// batch answers all prompts, so many at once, each guessed in the way that comes next, plainly among them.
func (k *check) batch(ctx context.Context, width int, ways []way) (CheckRow, error) {
	row := CheckRow{Source: "mixed", Batch: width}
	i := 0
	next := func() (engine.Request, bool) {
		if i == len(k.prompts) {
			return engine.Request{}, false
		}
		r := engine.Request{}
		if way := i % (len(ways) + 1); way < len(ways) {
			r = ways[way].request
		}
		r.Prompt, r.MaxTokens, r.Stop = k.prompts[i], k.MaxTokens, k.Stop
		i++
		return r, true
	}
	err := k.engine.Batch(ctx, width, next, func(i int, tokens []int32, _ string) error {
		k.report(fmt.Sprintf("%d at once", width))
		k.done++
		k.compare(&row, i, tokens)
		return nil
	})
	return row, err
}
