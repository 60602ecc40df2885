package recipe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/loss"
	"krait/model"
)

// referenceFile holds the reference's log-probabilities of the pairs, one JSON object a line.
const referenceFile = "reference.jsonl"

// DPOConfig is the configuration of DPO.
type DPOConfig struct {
	Model     string   `json:"model"`
	Ref       string   `json:"ref"`   // the reference; empty: the model as it starts
	Pairs     []string `json:"pairs"` // files of preferences, all of them
	Out       string   `json:"-"`
	Beta      float64  `json:"beta"`
	LossType  string   `json:"loss_type"` // sigmoid or ipo
	Smoothing float64  `json:"label_smoothing"`
	RowsConfig
	TrainConfig
}

// DefaultDPO returns the defaults of DPO: those of the original recipe, where it has some.
func DefaultDPO() DPOConfig {
	c := DPOConfig{Beta: 0.1, LossType: "sigmoid", TrainConfig: DefaultTrain()}
	c.LR, c.Beta2, c.Context = 5e-7, 0.999, 1024
	return c
}

// preference checks and returns how pairs are weighed.
func (c *DPOConfig) preference() (loss.Preference, error) {
	p := loss.Preference{Beta: c.Beta, Smoothing: c.Smoothing, IPO: c.LossType == "ipo"}
	switch {
	case c.LossType != "ipo" && c.LossType != "sigmoid":
		return p, fmt.Errorf("loss type %q: want sigmoid or ipo", c.LossType)
	case !(c.Beta > 0):
		return p, fmt.Errorf("beta is %g, want a positive number", c.Beta)
	case !(c.Smoothing >= 0 && c.Smoothing < 0.5):
		return p, fmt.Errorf("label smoothing is %g, want a share from 0 to below 0.5", c.Smoothing)
	case p.IPO && c.Smoothing != 0:
		return p, fmt.Errorf("label smoothing is %g: the loss ipo has none", c.Smoothing)
	}
	return p, nil
}

// DPO trains a model to prefer the answers that were preferred, stage three of the method without a reward model. The reference is the teacher, as in
// the paper, or the model as it starts, as in its code; what it says of each pair is computed once and kept.
func DPO(ctx context.Context, c DPOConfig, report Report) error {
	weigh, err := c.preference()
	if err != nil {
		return err
	}
	start, rows, err := c.start(c.Model, &c.TrainConfig, report)
	if err != nil {
		return err
	}
	groups, err := rows.pairs(c.Pairs, func(data.Preference) error { return nil })
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		return rows.unusable(errors.New("no pair is left to learn from"))
	}
	report(Event{Stage: "dpo", Note: rows.summary("pairs", data.InMemory(groups))})
	var ref *model.Model
	if c.Ref != "" {
		if ref, err = loadReference(report, c.Ref, start); err != nil {
			return err
		}
		c.pack(ref)
	}
	return c.train(ctx, weigh, start, ref, groups, rows.figures(), report)
}

// train trains a model on pairs. ref is nil where the reference is the model as it starts.
func (c *DPOConfig) train(ctx context.Context, weigh loss.Preference, start *checkpoint.Checkpoint, ref *model.Model, groups [][]data.Sequence, figures map[string]float64, report Report) error {
	var refs []loss.Reference
	m := start.Model
	lossOf := func(t *autograd.Tape, b data.Batch) loss.Total {
		var of []loss.Reference
		for _, n := range b.Groups {
			of = append(of, refs[n])
		}
		return loss.DPO(t, loss.Head{Hidden: m.Forward(t, modelBatch(b)), Weight: m.Head()}, b.Targets, b.Lens, of, weigh)
	}
	t := &training{stage: "dpo", out: c.Out, config: *c, inputs: c.rowInputs(c.Pairs, c.Model, c.Ref), TrainConfig: c.TrainConfig,
		checkpoint: start, loss: lossOf, unit: "pairs", figures: figures, profile: new(autograd.Profile), report: report}
	stream, err := t.groups(groups)
	if err != nil {
		return err
	}
	t.stream = stream
	t.prepare = func(ctx context.Context) (err error) {
		if ref == nil {
			ref = m
		}
		refs, err = references(ctx, filepath.Join(checkpoint.Partial(c.Out), referenceFile), ref, groups, t.wanted(stream, len(groups)), report)
		ref = nil
		return err
	}
	return t.run(ctx)
}

// pairs reads files of preferences: groups of the chosen answer and the rejected one. kept sees each row before its group is used.
func (r *textRows) pairs(paths []string, kept func(data.Preference) error) (groups [][]data.Sequence, err error) {
	for _, file := range r.files(paths) {
		err := r.read(file.path, rowsOf(data.Preferences(file.path), func(p data.Preference) (int, error) {
			chosen, err := r.encode(p.Chosen)
			if err != nil {
				return p.Line, fmt.Errorf("chosen: %w", err)
			}
			rejected, err := r.encode(p.Rejected)
			if err != nil {
				return p.Line, fmt.Errorf("rejected: %w", err)
			}
			if !r.fit(&chosen, &rejected) {
				return p.Line, nil
			}
			for range file.copies(p.Line) {
				if err := kept(p); err != nil {
					return p.Line, err
				}
				groups = append(groups, []data.Sequence{chosen, rejected})
			}
			return p.Line, nil
		}))
		if err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// loadReference reads the reference, whose token ids must mean what the policy's mean.
func loadReference(report Report, dir string, policy *checkpoint.Checkpoint) (*model.Model, error) {
	c, err := report.load(dir)
	if err != nil {
		return nil, err
	}
	if err := sameTokenizer("reference", c, policy); err != nil {
		return nil, err
	}
	return c.Model, nil
}

// sameTokenizer refuses a model, called what it is, whose token ids mean something else than the policy's.
func sameTokenizer(what string, c, policy *checkpoint.Checkpoint) error {
	if a, b := c.Model.Config.VocabSize, policy.Model.Config.VocabSize; a != b {
		return fmt.Errorf("the %s's vocabulary has %d tokens, the model's %d: they must share a tokenizer", what, a, b)
	}
	if file := "tokenizer.json"; c.Files[file] != nil && !bytes.Equal(c.Files[file], policy.Files[file]) {
		theirs, err := c.Tokenizer()
		if err != nil {
			return fmt.Errorf("the %s: %w", what, err)
		}
		ours, err := policy.Tokenizer()
		if err != nil {
			return err
		}
		for id := range int32(max(theirs.VocabSize(), ours.VocabSize())) {
			a, _ := theirs.Token(id)
			if b, _ := ours.Token(id); a != b {
				return fmt.Errorf("the %s has another tokenizer: its token %d is %q, the model's %q", what, id, a, b)
			}
		}
	}
	return nil
}

// wanted reports which of n groups the steps will be dealt, and those held out.
func (t *training) wanted(stream *data.Groups, n int) []bool {
	want := make([]bool, n)
	for batches := t.Steps * t.Accumulate; batches > 0 && stream.Epoch() < 1; batches-- { // a whole pass deals all
		for _, i := range stream.Next().Groups {
			want[i] = true
		}
	}
	stream.Seek(data.Cursor{})
	if t.held != nil {
		for i := stream.Len(); i < n; i++ {
			want[i] = true
		}
	}
	return want
}

// reference is a line of the file of references.
type reference struct {
	Pair *int `json:"pair"` // its number
	loss.Reference
}

// references returns what the reference says of each pair that is wanted. It writes them to a file as it goes, and reads back what is there already.
func references(ctx context.Context, path string, m *model.Model, pairs [][]data.Sequence, want []bool, report Report) ([]loss.Reference, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	refs, todo := make([]loss.Reference, len(pairs)), slices.Clone(want)
	if err := f.Truncate(readReferences(f, refs, todo)); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	total, done := trues(want), trues(want)-trues(todo)
	scratch := autograd.NewScratch()
	for i := range pairs {
		if !todo[i] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		scratch.Reset()
		if refs[i], err = referenceOf(scratch, m, pairs[i]); err != nil {
			return nil, fmt.Errorf("pair %d: %w", i+1, err)
		}
		line, err := json.Marshal(reference{&i, refs[i]})
		if err != nil {
			return nil, err
		}
		if _, err := f.Write(append(line, '\n')); err != nil {
			return nil, err
		}
		done++
		report(Event{Stage: "dpo", Done: done, Total: total, Unit: "pairs", Text: "of the reference"})
	}
	return refs, f.Sync()
}

func trues(list []bool) (n int) {
	for _, x := range list {
		if x {
			n++
		}
	}
	return n
}

// referenceOf returns what a model says of a pair.
func referenceOf(t *autograd.Tape, m *model.Model, pair []data.Sequence) (ref loss.Reference, err error) {
	b := data.BatchOf(pair...)
	logps := loss.LogProbs(t, loss.Head{Hidden: m.Forward(t, modelBatch(b)), Weight: m.Head()}, b.Targets)
	for i, l := range logps {
		if i < b.Lens[0] {
			ref.Chosen += l
		} else {
			ref.Rejected += l
		}
	}
	if sum := ref.Chosen + ref.Rejected; math.IsNaN(sum) || math.IsInf(sum, 0) {
		err = fmt.Errorf("the reference gives its answers the log-probabilities %g and %g: its weights are no numbers to compute with", ref.Chosen, ref.Rejected)
	}
	return ref, err
}

// readReferences reads whole lines into refs, crosses them off the list of what is to be done, and returns where they end.
func readReferences(r io.Reader, refs []loss.Reference, todo []bool) (whole int64) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		var ref reference
		if err != nil || json.Unmarshal(line, &ref) != nil || ref.Pair == nil || *ref.Pair < 0 || *ref.Pair >= len(refs) {
			return whole
		}
		refs[*ref.Pair], todo[*ref.Pair] = ref.Reference, false
		whole += int64(len(line))
	}
}
