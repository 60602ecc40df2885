package score

import (
	"context"
	"math"
	"testing"

	"krait/model"
)

// TestAccept compares with the definition, and with what must be: a model accepts all that it guesses itself, and of a head cut to what it
// never says, nothing.
func TestAccept(t *testing.T) {
	m := stories(t)
	texts := [][]int32{{1, 403, 407, 261, 378}, {1}, {1, 400, 300, 320}}
	a, err := Accept(context.Background(), m, m, texts)
	if err != nil || a.Tokens != 7 || a.Top1 != 1 || math.Abs(a.Expected-1) > 1e-5 {
		t.Errorf("a model for itself: %+v, %v", a, err)
	}
	draft, err := model.Subset(m, []int{0, 4}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = Accept(context.Background(), draft, m, texts); err != nil {
		t.Fatal(err)
	}
	want := 0.0
	for _, text := range texts {
		if len(text) < 2 {
			continue
		}
		b := model.Single(text[:len(text)-1], nil)
		x, y := draft.Logits(nil, draft.Forward(nil, b)), m.Logits(nil, m.Forward(nil, b))
		for r := range x.Rows() {
			q, p := probabilities(x.Row(r)), probabilities(y.Row(r))
			for i := range q {
				want += min(q[i], p[i]) / 7
			}
		}
	}
	if math.Abs(a.Expected-want) > 1e-5 || a.Top1 >= 1 {
		t.Errorf("%+v, want %g", a, want)
	}
	cut, err := model.Subset(m, []int{0, 1, 2, 3, 4}, []int32{0, 2})
	if err != nil {
		t.Fatal(err)
	}
	if a, err = Accept(context.Background(), cut, m, texts); err != nil || a.Expected > 0.01 || a.Top1 != 0 {
		t.Errorf("a head of two tokens that are never said: %+v, %v", a, err)
	}
	if _, err = Perplexity(context.Background(), cut, texts[0], 4, 4); err == nil {
		t.Error("the likelihood of a cut head")
	}
	if _, err = Accept(context.Background(), m, m, texts[1:2]); err == nil {
		t.Error("no tokens")
	}
}

func probabilities(logits []float32) []float64 {
	p, sum := make([]float64, len(logits)), 0.0
	for i, l := range logits {
		p[i] = math.Exp(float64(l))
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}
