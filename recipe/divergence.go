package recipe

import (
	"errors"
	"fmt"

	"krait/data"
	"krait/loss"
)

// DivergenceConfig says how a student is compared with its teacher.
type DivergenceConfig struct {
	Divergence   string  `json:"divergence,omitempty"`     // forward (also ""), reverse, js, skew or skew-reverse
	Mix          float64 `json:"divergence_mix,omitempty"` // the mixture's weight; 0: 0.5 for js, 0.1 for the skewed ones
	PaperKLScale bool    `json:"paper_kl_scale,omitempty"` // the sum over all positions of a document instead of the mean over tokens (method §3.2)
}

// weights checks and returns the weights of the loss.
func (c *DistillConfig) weights() (loss.Weights, error) {
	w := loss.Weights{KL: c.KL, CE: c.CE, Mix: c.Mix, Unmasked: c.PaperKLScale}
	if c.KL < 0 || c.CE < 0 || c.KL+c.CE == 0 {
		return w, fmt.Errorf("kl weight %g and ce weight %g: want none negative and one positive", c.KL, c.CE)
	}
	if c.Divergence != "" {
		var err error
		if w.Divergence, err = loss.ParseDivergence(c.Divergence); err != nil {
			return w, err
		}
	}
	switch mixes := w.Divergence.Mixes(); {
	case !mixes && c.Mix != 0:
		return w, fmt.Errorf("divergence mix %g: the divergence %s has no mixture", c.Mix, c.Divergence)
	case mixes && c.Mix == 0 && w.Divergence == loss.JS:
		w.Mix = 0.5
	case mixes && c.Mix == 0:
		w.Mix = 0.1
	case mixes && !(c.Mix > 0 && c.Mix < 1):
		return w, fmt.Errorf("divergence mix %g: want a number above 0 and below 1", c.Mix)
	}
	return w, nil
}

// scaled returns the weights for a batch. The paper's code divides the divergence by the number of documents and the cross-entropy by that of
// tokens; what the loop divides by tokens must be so much more.
func (c *DistillConfig) scaled(w loss.Weights, b *data.Batch) loss.Weights {
	if c.PaperKLScale {
		w.KL *= float64(b.Counted()) / float64(len(b.Lens))
	}
	return w
}

// whole returns a stream of whole documents, which says which it dealt.
func (c *DistillConfig) whole(docs []data.Document) (*data.Groups, error) {
	if c.Crop != 0 {
		return nil, errors.New("the teacher's stored logits are of whole documents: without a teacher crop must be 0")
	}
	groups := make([][]data.Sequence, len(docs))
	for i, d := range docs {
		if len(d.IDs) > c.Context {
			return nil, fmt.Errorf("document %d has %d tokens, the context %d, and the teacher's stored logits are of whole documents: raise the context",
				i+1, len(d.IDs), c.Context)
		}
		s := data.Sequence{IDs: d.IDs, Learn: make([]bool, len(d.IDs))}
		for j := range s.Learn {
			s.Learn[j] = j >= d.Prompt
		}
		groups[i] = []data.Sequence{s}
	}
	stream, err := data.NewGroups(groups, c.BatchTokens, c.Seed)
	if err != nil {
		return nil, err
	}
	return stream.LikeStream(), nil // the batches of a training with the teacher
}
