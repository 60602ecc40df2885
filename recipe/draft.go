package recipe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"krait/data"
	"krait/model"
	"krait/score"
)

// DraftConfig is the configuration of Draft. Teacher is the model to speculate for; Layers are those of From (the target itself if it is
// empty) that the draft begins with, of a head by default the target's last, silent at first.
type DraftConfig struct {
	From   string `json:"from"`
	Layers []int  `json:"layers"`
	Vocab  int    `json:"draft_vocab_size,omitempty"` // the output layer knows this many tokens, those most frequent in the labels; 0: all
	Head   string `json:"head,omitempty"`             // "eagle": a draft head on the target's hidden states; empty: a model of its own
	EagleConfig
	DistillConfig
}

// acceptanceTokens is about how many tokens of the labels the expected acceptance is measured on.
const acceptanceTokens = 8192

// Draft makes a small model of some of a model's layers with its embeddings and head, and distils it from the target, whose text it is
// to guess. Config.Teacher is the target. How often its guesses will probably be accepted is in the metrics.
func Draft(ctx context.Context, c DraftConfig, report Report) error {
	if c.Head != "" {
		return draftHead(ctx, c, report)
	}
	if c.EagleConfig != (EagleConfig{}) {
		return errors.New("unroll and hidden_weight are for a draft head: say head: eagle")
	}
	if len(c.Layers) == 0 {
		return errors.New("layers: which layers does the draft begin with?")
	}
	if c.From == "" {
		c.From = c.Teacher
	}
	c.Student = c.From
	from, target, docs, err := c.load(report, Report.load)
	if err != nil {
		return err
	}
	c.pack(target.Model)
	known, err := c.known(docs, target.Model.Config.VocabSize)
	if err != nil {
		return err
	}
	m, err := model.Subset(from.Model, c.Layers, known)
	if err != nil {
		return err
	}
	w, err := c.weights()
	if err != nil {
		return err
	}
	t := c.training("draft", c, from.With(m), distillLoss(c.DistillConfig, w, m, target.Model), docs, report)
	t.after = func(ctx context.Context) (map[string]float64, error) {
		a, err := score.Accept(ctx, m, target.Model, sampled(docs))
		return map[string]float64{"expected_acceptance": a.Expected, "top1": a.Top1}, err
	}
	return t.run(ctx)
}

// known returns the tokens that the output layer knows, nil for all.
func (c *DraftConfig) known(docs []data.Document, vocab int) ([]int32, error) {
	switch {
	case c.Vocab < 0 || c.Vocab >= vocab:
		return nil, fmt.Errorf("a draft's vocabulary of %d tokens: want fewer than the target's %d, or 0 for all", c.Vocab, vocab)
	case c.Vocab == 0:
		return nil, nil
	}
	return frequent(docs, vocab, c.Vocab), nil
}

// frequent returns the n tokens that are most frequent in the documents, in ascending order; of equals the lower ids.
func frequent(docs []data.Document, vocab, n int) []int32 {
	counts := make([]int, vocab)
	ids := make([]int32, vocab)
	for i := range ids {
		ids[i] = int32(i)
	}
	for _, d := range docs {
		for _, id := range d.IDs {
			counts[id]++
		}
	}
	slices.SortStableFunc(ids, func(a, b int32) int { return cmp.Compare(counts[b], counts[a]) })
	ids = ids[:n]
	slices.Sort(ids)
	return ids
}

// sampled returns documents from all over, of acceptanceTokens together.
func sampled(docs []data.Document) [][]int32 {
	total := 0
	for _, d := range docs {
		total += len(d.IDs)
	}
	step := max(1, total/acceptanceTokens)
	var texts [][]int32
	for i := 0; i < len(docs); i += step {
		texts = append(texts, docs[i].IDs)
	}
	return texts
}
