package recipe

import (
	"context"
	"fmt"
	"math/rand/v2"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/loss"
	"krait/model"
	"krait/score"
	"krait/tensor"
)

// EagleConfig is what a draft head learns beside the target's distribution.
type EagleConfig struct {
	Unroll int     `json:"unroll,omitempty"`        // guesses in a row that it learns; 0: 3
	Hidden float64 `json:"hidden_weight,omitempty"` // weight of the smooth L1 distance between its hidden states and the target's
}

// HeadEagle is the kind of draft head there is.
const HeadEagle = "eagle"

// MostUnroll bounds EagleConfig.Unroll.
const MostUnroll = 8

const defaultUnroll = 3

// frozenInHead are the weights of a draft head that stay the target's unless the configuration says which are trained.
var frozenInHead = []string{"embed", "lm_head"}

// validateHead checks the configuration of a draft head and fills in what it leaves open.
func (c *DraftConfig) validateHead() error {
	if c.Unroll == 0 {
		c.Unroll = defaultUnroll
	}
	switch {
	case c.Head != HeadEagle:
		return fmt.Errorf("head %q: want %q, or nothing for a draft that is a model of its own", c.Head, HeadEagle)
	case c.From != "" && c.From != c.Teacher:
		return fmt.Errorf("from %s: a draft head begins with layers of its target", c.From)
	case c.Unroll < 1 || c.Unroll > MostUnroll:
		return fmt.Errorf("unroll is %d, want a number from 1 to %d", c.Unroll, MostUnroll)
	case !(c.Hidden >= 0):
		return fmt.Errorf("hidden_weight is %g, want none negative", c.Hidden)
	case c.EvalText != "":
		return fmt.Errorf("eval_text: a draft head has no likelihood of text; eval_rows holds out rows of the labels")
	case c.PaperKLScale:
		return fmt.Errorf("paper_kl_scale is for students, not for a draft head")
	}
	if len(c.Train) == 0 && len(c.Freeze) == 0 {
		c.Freeze = frozenInHead
	}
	return nil
}

// draftHead is Draft for a head on the target's hidden states.
func draftHead(ctx context.Context, c DraftConfig, report Report) error {
	if err := c.validateHead(); err != nil {
		return err
	}
	w, err := c.weights()
	if err != nil {
		return err
	}
	c.Student = c.Teacher
	from, target, docs, err := c.load(report, Report.load)
	if err != nil {
		return err
	}
	t := target.Model
	c.pack(t)
	if len(c.Layers) == 0 {
		c.Layers = []int{t.Config.NumHiddenLayers - 1}
	}
	known, err := c.known(docs, t.Config.VocabSize)
	if err != nil {
		return err
	}
	head, err := model.NewEagle(from.Model, c.Layers, known, rand.New(rand.NewPCG(c.Seed, 0x6561676c65)))
	if err != nil {
		return err
	}
	out := from.With(head)
	out.Target = checkpoint.Fingerprint(t)
	r := c.training("draft", c, out, eagleLoss(&c, w, head, t), docs, report)
	r.prepare = func(ctx context.Context) error { return fitHead(ctx, head, t, docs) }
	r.after = func(ctx context.Context) (map[string]float64, error) {
		return headFigures(ctx, head, t, docs, c.Unroll)
	}
	return r.run(ctx)
}

// eagleLoss compares a head's distributions with those of the target, whose hidden states it reads. It goes over the text unroll times: first each
// row has the target's hidden state before it, then the head's own of the time before (training-time test; Zhang et al. 2024, HASS; Li et al.
// 2025, EAGLE-3). There, a row's context has the head's own states too, where a proposal has the target's up to its beginning.
func eagleLoss(c *DraftConfig, w loss.Weights, head, target *model.Model) profiledLoss {
	profile := new(autograd.Profile)
	scratch := autograd.NewScratch()
	scratch.SetProfile(profile)
	known := head.Config.HeadTokens
	weight := target.Head()
	if len(known) > 0 {
		weight = autograd.Dense{Tensor: target.HeadOf(known)}
	}
	w.KL, w.CE = w.KL/float64(c.Unroll), w.CE/float64(c.Unroll)
	hiddenWeight := c.Hidden / float64(c.Unroll)
	return profiledLoss{profile: profile, loss: func(tape *autograd.Tape, b data.Batch) loss.Total {
		mb, targets := modelBatch(b), headRows(b.Targets, known)
		scratch.Reset()
		truth := target.Forward(scratch, mb)
		mb.Hidden = autograd.Before(scratch, truth, b.Lens)
		total := loss.Total{Parts: map[string]float64{}}
		for i := range c.Unroll {
			own := head.Forward(tape, mb)
			l := loss.Distill(tape, loss.Head{Hidden: own, Weight: head.Head()}, loss.Head{Hidden: truth, Weight: weight}, targets, w)
			total.Sum, total.Tokens = total.Sum+l.Sum, l.Tokens
			for name, part := range l.Parts {
				total.Parts[fmt.Sprintf("%s_%d", name, i+1)] = part
			}
			if hiddenWeight > 0 {
				total.Sum += hiddenLoss(tape, own, truth, targets, hiddenWeight, total.Parts)
			}
			mb.Hidden = autograd.Before(tape, own, b.Lens)
		}
		return total
	}}
}

// hiddenLoss returns the smooth L1 part of the loss.
func hiddenLoss(t *autograd.Tape, own, truth *tensor.Tensor, targets []int32, weight float64, parts map[string]float64) float64 {
	l := loss.SmoothL1(t, own, truth.Data, targets, weight)
	parts["hidden"] += l / weight
	return l
}

// headFigures are how often the guesses of a head will probably be accepted, place by place.
func headFigures(ctx context.Context, head, target *model.Model, docs []data.Document, guesses int) (map[string]float64, error) {
	a, err := score.AcceptChain(ctx, head, target, sampled(docs), guesses)
	if err != nil {
		return nil, err
	}
	figures := map[string]float64{"expected_acceptance": a[0].Expected, "top1": a[0].Top1}
	for i := 1; i < len(a); i++ {
		figures[fmt.Sprintf("expected_acceptance_%d", i+1)] = a[i].Expected
		figures[fmt.Sprintf("top1_%d", i+1)] = a[i].Top1
	}
	return figures, nil
}
