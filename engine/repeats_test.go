package engine

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// answer is what a model answered to a prompt that its answer repeats, edits or quotes.
type answer struct {
	Kind           string
	Prompt, Answer []int32
}

// guessed lets n-grams guess an answer whose steps of n rows take step(n) plain ones, and returns that time. What is measured is
// up to a tenth longer, and, one time in ten, up to four times as long.
func (a *answer) guessed(t *testing.T, c *costs, step func(n int) float64, rng *rand.Rand) (took float64) {
	g := &generation{Request: Request{NGram: true, Speculate: 16}, costs: c, automaton: newAutomaton(), stats: &Stats{}, tokens: a.Prompt[:len(a.Prompt):len(a.Prompt)]}
	g.limit = len(a.Prompt) + len(a.Answer)
	for left := a.Answer; len(left) > 0; {
		g.choice[0] = choice{}
		g.alone[0] = g.offers()
		c.plan(g.choice[:], g.alone[:])
		k, right := g.choice[0].k, 0
		g.fed = g.fed[:0]
		if err := g.propose(context.Background(), g.choice[0]); err != nil {
			t.Fatal(err)
		}
		for right < min(k, len(left)) && g.fed[right] == left[right] {
			right++
		}
		n := min(right+1, len(left))
		g.tokens, left = append(g.tokens, left[:n]...), left[n:]
		if k > 0 {
			c.judged(g.recordOf(g.source), &g.seen[g.source], k, right)
		}
		took += step(1 + k)
		measured := step(1+k) * (1 + rng.Float64()/10)
		if rng.IntN(10) == 0 {
			measured *= 1 + 3*rng.Float64()
		}
		c.stepped(1, k, 0, n, time.Duration(measured*float64(10*time.Millisecond)), proposal{g.records[g.source], k, right, 0})
	}
	return took
}

// TestRepeats: real answers to prompts that ask to repeat a passage, to edit it and to quote from it are guessed from the prompts, on a machine whose
// rows cost as measured with integer products of vectors, and on one where a row costs a fifth of a step. Measured times are disturbed.
func TestRepeats(t *testing.T) {
	data, err := os.ReadFile("testdata/repeats.json")
	if err != nil {
		t.Fatal(err)
	}
	var answers []answer
	if err := json.Unmarshal(data, &answers); err != nil {
		t.Fatal(err)
	}
	cheap := func(n int) float64 { // 1, 1.04, 1.15, 1.42 and 1.86 for 1, 2, 4, 8 and 16
		return 1 + 0.06*float64(min(n, 16)-1) + 0.2*float64(max(n, 16)-16)
	}
	dear := func(n int) float64 { return 1 + 0.2*float64(n-1) }
	for stream := range uint64(5) {
		rng := rand.New(rand.NewPCG(*seed, 40+stream))
		for _, want := range []struct {
			kind        string
			cheap, dear float64
		}{{"repeat", 2.9, 2}, {"edit", 2.4, 1.8}, {"summarise", 3.2, 2}} {
			for _, m := range []struct {
				step  func(n int) float64
				least float64
			}{{cheap, want.cheap}, {dear, want.dear}} {
				c, took, tokens := newCosts(), 0.0, 0
				for _, a := range answers {
					if a.Kind == want.kind {
						took += a.guessed(t, c, m.step, rng)
						tokens += len(a.Answer)
					}
				}
				if rate := float64(tokens) / took; rate < m.least {
					t.Errorf("%s: %.2f times plain decoding where 4 rows take %.2f, want %.2f", want.kind, rate, m.step(4), m.least)
				}
			}
		}
	}
}
