package recipe

import (
	"context"
	"fmt"

	"krait/checkpoint"
	"krait/model"
	"krait/score"
)

// heldOutText is text that models are measured on and never trained on.
type heldOutText struct {
	ids     []int32
	context int          // tokens of a window
	teacher *model.Model // nil: none to compare with
}

// heldFigures are what was measured on it.
type heldFigures struct {
	NLL, KL, Top1 float64 // nats a token, nats a token, a share; KL and Top1 are against the teacher
	Tokens        int
}

// heldOut encodes a text for a model; windows are as long as both the model and the caller allow.
func heldOut(c *checkpoint.Checkpoint, text string, context int) (*heldOutText, error) {
	if context < 2 {
		return nil, fmt.Errorf("max_length is %d, want at least 2", context)
	}
	tok, err := c.Tokenizer()
	if err != nil {
		return nil, err
	}
	ids, err := tok.Encode(text, true)
	if err != nil {
		return nil, err
	}
	if limit := c.Model.Config.MaxPositionEmbeddings; limit > 0 {
		context = min(context, limit)
	}
	return &heldOutText{ids: ids, context: context}, nil
}

// measure measures a model.
func (h *heldOutText) measure(ctx context.Context, m *model.Model) (f heldFigures, err error) {
	l, err := score.Perplexity(ctx, m, h.ids, h.context, h.context)
	if err != nil {
		return f, err
	}
	f.NLL, f.Tokens = l.Mean(), l.Tokens
	if h.teacher == nil {
		return f, nil
	}
	a, err := score.Agree(ctx, m, h.teacher, h.ids, h.context, h.context)
	f.KL, f.Top1 = a.KL, a.Top1
	return f, err
}
