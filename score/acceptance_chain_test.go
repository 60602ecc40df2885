package score

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"krait/autograd"
	"krait/model"
)

// TestAcceptChain compares with chains that are computed from nothing, at every place where one begins.
func TestAcceptChain(t *testing.T) {
	m := stories(t)
	rng := rand.New(rand.NewPCG(2, 3))
	head, err := model.NewEagle(m, []int{4}, nil, rng)
	if err != nil {
		t.Fatal(err)
	}
	for i := range head.Fusion.Proj.Weight.Data {
		head.Fusion.Proj.Weight.Data[i] += float32(rng.NormFloat64() * 0.1)
	}
	text := []int32{1, 403, 407, 261, 378, 400, 300, 320, 403, 407, 261, 378, 400, 300, 320, 350, 360, 370, 380, 390}
	texts := [][]int32{text, {1}, text[3:9]}
	const guesses = 3
	got, err := AcceptChain(context.Background(), head, m, texts, guesses)
	if err != nil {
		t.Fatal(err)
	}
	for i := range guesses {
		want, n := 0.0, 0
		for _, text := range texts {
			truth := m.Forward(nil, model.Single(text, nil))
			for at := 0; at+i+1 < len(text); at++ {
				if i > 0 && at%chainEvery != 0 {
					continue
				}
				b := model.Single(text[:at+1], nil)
				b.Hidden = autograd.Before(nil, truth.Slice(0, at+1), []int{at + 1})
				own := head.Forward(nil, b)
				for j := 1; j <= i; j++ { // one more token, with the head's own row before it
					longer := model.Single(text[:at+j+1], nil)
					longer.Hidden = autograd.Before(nil, truth.Slice(0, at+j+1), []int{at + j + 1})
					for k := 1; k <= j; k++ {
						copy(longer.Hidden.Row(at+k), own.Row(at+k-1))
					}
					own = head.Forward(nil, longer)
				}
				q, p := probabilities(head.Logits(nil, own.Slice(at+i, at+i+1)).Row(0)), probabilities(m.Logits(nil, truth.Slice(at+i, at+i+1)).Row(0))
				for v := range q {
					want += min(q[v], p[v])
				}
				n++
			}
		}
		if got[i].Tokens != n || math.Abs(got[i].Expected-want/float64(n)) > 1e-4 {
			t.Errorf("guess %d: %+v, want %g of %d", i+1, got[i], want/float64(n), n)
		}
	}
	if _, err := AcceptChain(context.Background(), head, m, [][]int32{{1, 2, 3}}, guesses); err == nil {
		t.Error("a text too short for three guesses")
	}
	if _, err := Perplexity(context.Background(), head, text, 8, 8); err == nil {
		t.Error("the likelihood of a head")
	}
}
