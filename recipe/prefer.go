package recipe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"

	"krait/checkpoint"
	"krait/data"
	"krait/engine"
	"krait/model"
	"krait/sample"
)

// PreferConfig is the configuration of Prefer.
type PreferConfig struct {
	A           string  `json:"a"`
	B           string  `json:"b"`
	Prompts     string  `json:"prompts"` // as Label's
	AsChat      bool    `json:"as_chat"`
	Out         string  `json:"-"`     // file of preferences
	Judge       string  `json:"judge"` // a reward model or a rule that chooses instead of a person; or empty
	Count       int     `json:"-"`     // comparisons in all; prompts are used in turn; 0: each prompt once
	MaxTokens   int     `json:"max_tokens"`
	Temperature float64 `json:"temperature"`
	TopP        float64 `json:"top_p"`
	Seed        uint64  `json:"seed"`
}

// The choices between two answers. The first two are those that were shown first and second.
const (
	ChooseFirst  = "1"
	ChooseSecond = "2"
	ChooseNone   = "t" // they are alike
	ChooseSkip   = "s"
	ChooseQuit   = "q" // to go on another time
)

// Comparison is two answers to a prompt, in the order in which they are shown, which says nothing about who wrote them.
type Comparison struct {
	Number, Of    int // from 1
	Prompt        string
	First, Second string
}

// Preferred counts what came out: wins of both models, and comparisons without a winner.
type Preferred struct {
	A       int `json:"a"`
	B       int `json:"b"`
	Alike   int `json:"alike"`
	Skipped int `json:"skipped"`
	Left    int `json:"left"` // not yet decided
}

// vote is a line of the file beside the preferences, in which all decisions are kept: a preference has no row where there is none.
type vote struct {
	Prompt  string    `json:"prompt"`
	Answers [2]string `json:"answers"` // of A and B
	Shown   int       `json:"shown"`   // 0 or 1: whose came first
	Choice  string    `json:"choice"`
}

// winner returns 0 or 1, or -1 where there is none.
func (v *vote) winner() int {
	switch v.Choice {
	case ChooseFirst:
		return v.Shown
	case ChooseSecond:
		return 1 - v.Shown
	}
	return -1
}

// votesSuffix is added to the name of the preferences.
const votesSuffix = ".votes"

// preferBlock is the number of comparisons that are written at a time where nobody waits for each.
const preferBlock = 16

// Prefer has two models answer prompts and asks which answer is better; the answers depend on the seed and the comparison's number alone. Decisions are kept as they
// are made, and a later call goes on behind the last. The result is a file of preferences for Reward, DPO and PPO's judge.
func Prefer(ctx context.Context, c PreferConfig, ask func(Comparison) (string, error), report Report) (result Preferred, err error) {
	p, err := newPreferring(&c)
	if err != nil {
		return result, err
	}
	defer p.votes.Close()
	if p.done > 0 {
		report(Event{Stage: "prefer", Note: fmt.Sprintf("going on from comparison %d of %d", p.done+1, c.Count)})
	}
	block := 1
	if c.Judge != "" {
		block = preferBlock
	}
	quit := false
	for p.done < c.Count && !quit {
		list, err := p.answers(ctx, min(block, c.Count-p.done))
		if err != nil {
			return p.result(), err
		}
		if p.judge != nil {
			err = p.judge(ctx, list)
		}
		for i := 0; i < len(list) && err == nil && !quit; i++ {
			v := &list[i].vote
			if p.judge == nil {
				v.Choice, err = ask(Comparison{Number: p.done + 1, Of: c.Count, Prompt: v.Prompt, First: v.Answers[v.Shown], Second: v.Answers[1-v.Shown]})
			}
			if quit = v.Choice == ChooseQuit || err != nil; !quit {
				err = p.put(v)
				report(Event{Stage: "prefer", Done: p.done, Total: c.Count, Unit: "comparisons", Text: fmt.Sprintf("A %d, B %d", p.counts.A, p.counts.B)})
			}
		}
		if err := errors.Join(err, p.write()); err != nil {
			return p.result(), err
		}
	}
	return p.result(), p.votes.Sync()
}

// compared is a vote with the tokens behind it.
type compared struct {
	vote
	prompt []int32
	tokens [2][]int32
}

// preferring is a comparison under way.
type preferring struct {
	c       *PreferConfig
	models  [2]*model.Model
	engines [2]*engine.Engine
	prompts []prompt
	encoder prompter
	stops   [2][]int32
	judge   func(ctx context.Context, list []compared) error
	votes   *os.File
	done    int
	counts  Preferred
	pairs   bytes.Buffer
}

func newPreferring(c *PreferConfig) (*preferring, error) {
	options := sample.Options{Temperature: c.Temperature, TopP: c.TopP}
	if err := options.Validate(); err != nil {
		return nil, err
	}
	if c.MaxTokens < 1 || c.Count < 0 {
		return nil, fmt.Errorf("%d comparisons of answers of %d tokens: want positive numbers", c.Count, c.MaxTokens)
	}
	p := &preferring{c: c}
	a, err := checkpoint.Load(c.A)
	if err != nil {
		return nil, err
	}
	p.models[0], p.stops[0] = a.Model, a.EOS
	if p.models[1], p.stops[1] = a.Model, a.EOS; c.B != c.A {
		b, err := checkpoint.Load(c.B)
		if err != nil {
			return nil, err
		}
		if err := sameTokenizer("second model", b, a); err != nil {
			return nil, err
		}
		p.models[1], p.stops[1] = b.Model, b.EOS
	}
	if p.encoder, err = newPrompter(a, c.AsChat); err != nil {
		return nil, err
	}
	if c.Prompts == "" {
		p.prompts = []prompt{{}}
	} else if p.prompts, err = readPrompts(c.Prompts); err != nil {
		return nil, err
	}
	if c.Count == 0 {
		c.Count = len(p.prompts)
	}
	if c.Judge != "" {
		if err := p.readJudge(a); err != nil {
			return nil, err
		}
	}
	for i, m := range p.models {
		p.engines[i] = engine.New(m)
	}
	return p, p.open()
}

// readJudge reads the judge that takes a person's place.
func (p *preferring) readJudge(a *checkpoint.Checkpoint) error {
	if IsRule(p.c.Judge) {
		r, err := parseRule(p.c.Judge)
		if err != nil {
			return err
		}
		p.judge = func(_ context.Context, list []compared) error {
			for i := range list {
				v := &list[i].vote
				v.choose(r.score(v.Answers[0]), r.score(v.Answers[1]))
			}
			return nil
		}
		return nil
	}
	m, err := loadReward(p.c.Judge, a)
	if err != nil {
		return err
	}
	m.Pack()
	p.judge = func(ctx context.Context, list []compared) error {
		var sequences []data.Sequence
		for _, x := range list {
			for _, answer := range x.tokens {
				ids := append(append([]int32{}, x.prompt...), answer...)
				sequences = append(sequences, data.Sequence{IDs: ids, Learn: make([]bool, len(ids))})
			}
		}
		values, err := scores(ctx, m, sequences, DefaultTrain().BatchTokens)
		for i := 0; i+1 < len(values); i += 2 {
			list[i/2].choose(values[i], values[i+1])
		}
		return err
	}
	return nil
}

// choose sets the choice by the scores of A's and B's answers.
func (v *vote) choose(a, b float64) {
	switch {
	case a == b:
		v.Choice = ChooseNone
	case a > b == (v.Shown == 0):
		v.Choice = ChooseFirst
	default:
		v.Choice = ChooseSecond
	}
}

// answers has both models answer the next n prompts.
func (p *preferring) answers(ctx context.Context, n int) ([]compared, error) {
	list := make([]compared, n)
	for i := range list {
		number := p.done + i
		text := p.prompts[number%len(p.prompts)]
		ids, err := p.encoder.encode(text.text)
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", p.c.Prompts, text.line, err)
		}
		list[i] = compared{vote: vote{Prompt: text.text, Shown: rand.New(rand.NewPCG(p.c.Seed, uint64(number))).IntN(2)}, prompt: ids}
	}
	for side, e := range p.engines {
		sent := 0
		next := func() (engine.Request, bool) {
			if sent == n {
				return engine.Request{}, false
			}
			sent++
			return engine.Request{Prompt: list[sent-1].prompt, MaxTokens: p.c.MaxTokens, Sampling: sample.Options{Temperature: p.c.Temperature, TopP: p.c.TopP},
				Seed: p.c.Seed<<32 + uint64(2*(p.done+sent)+side), Stop: p.stops[side]}, true
		}
		err := e.Batch(ctx, preferBlock, next, func(i int, tokens []int32, _ string) (err error) {
			list[i].tokens[side] = append([]int32{}, tokens...)
			list[i].Answers[side], err = p.continuation(list[i].prompt, tokens)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// continuation returns the text of tokens behind a prompt, with the space between them.
func (p *preferring) continuation(prompt, tokens []int32) (string, error) {
	before, err := p.encoder.tok.Decode(prompt, true)
	if err != nil {
		return "", err
	}
	whole, err := p.encoder.tok.Decode(append(append([]int32{}, prompt...), tokens...), true)
	return strings.TrimPrefix(whole, before), err
}

// open opens the file of votes behind the last whole one. Its first line says what is compared.
func (p *preferring) open() error {
	path := p.c.Out + votesSuffix
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	p.votes = f
	plan, err := json.Marshal(p.c)
	if err != nil {
		return err
	}
	lines := bufio.NewReader(f)
	head, err := lines.ReadBytes('\n')
	if err != nil { // nothing is decided yet
		if _, err := os.Stat(p.c.Out); err == nil {
			return fmt.Errorf("%s exists already, and no %s beside it to go on from: choose another name", p.c.Out, path)
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		_, err = f.WriteAt(append(plan, '\n'), 0)
		if err == nil {
			_, err = f.Seek(0, io.SeekEnd)
		}
		return err
	}
	if string(bytes.TrimSpace(head)) != string(plan) {
		return fmt.Errorf("%s is of another comparison: choose another name, or give the models, prompts and settings that it began with", path)
	}
	whole := int64(len(head))
	for {
		line, err := lines.ReadBytes('\n')
		var v vote
		if err != nil || json.Unmarshal(line, &v) != nil {
			break
		}
		whole += int64(len(line))
		if err := p.count(&v); err != nil {
			return err
		}
	}
	if err := f.Truncate(whole); err != nil {
		return err
	}
	if _, err = f.Seek(whole, io.SeekStart); err != nil {
		return err
	}
	return p.write()
}

// put keeps a decision; write makes a preference of it.
func (p *preferring) put(v *vote) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := p.votes.Write(append(line, '\n')); err != nil {
		return err
	}
	return p.count(v)
}

// count takes in a decision.
func (p *preferring) count(v *vote) error {
	p.done++
	win := v.winner()
	switch {
	case win == 0:
		p.counts.A++
	case win == 1:
		p.counts.B++
	case v.Choice == ChooseNone:
		p.counts.Alike++
	default:
		p.counts.Skipped++
	}
	if win < 0 {
		return nil
	}
	line, err := json.Marshal(map[string]string{"prompt": v.Prompt, "chosen": v.Answers[win], "rejected": v.Answers[1-win]})
	p.pairs.Write(append(line, '\n'))
	return err
}

// write puts the preferences into their file, which is whole at any time.
func (p *preferring) write() error { return checkpoint.WriteFile(p.c.Out, p.pairs.Bytes()) }

func (p *preferring) result() Preferred {
	r := p.counts
	r.Left = p.c.Count - p.done
	return r
}
