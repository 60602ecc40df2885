package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"krait/model"
)

// turn runs one turn and returns its output.
func turn(t *testing.T, s *Session, r Request) ([]int32, Stats) {
	t.Helper()
	var stats Stats
	var out []int32
	for token, err := range s.Generate(context.Background(), r, &stats) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, token.ID)
	}
	return out, stats
}

// TestSession holds random conversations, some of which change what was said, with and without speculation: each turn's output is that of a
// fresh generation, and only what is new is fed.
func TestSession(t *testing.T) {
	const vocab, room = 40, 800
	hybrid := randomModel(t, vocab, room, 4, []int{1, 3}, *seed)
	pure := randomModel(t, vocab, room, 2, nil, *seed+1)
	for name, m := range map[string]*model.Model{"hybrid": hybrid, "mamba": pure} {
		draft := subset(t, m, []int{0}, 0.01)
		e := New(m, draft)
		rng := rand.New(rand.NewPCG(*seed, 21))
		for round := range 6 {
			var drafts *model.Model
			r := Request{MaxTokens: 1 + rng.IntN(20)}
			if round%2 == 1 {
				drafts, r.Speculate, r.NGram = draft, 4, round%4 == 1
			}
			s := e.NewSession(drafts)
			var said []int32
			for n := range 8 {
				fresh := randomPrompt(rng, vocab, 1+rng.IntN(60))
				if n == round%4 { // longer than the chunks of a scan without a state
					fresh = randomPrompt(rng, vocab, 80+rng.IntN(70))
				}
				before := len(said)
				if n > 0 && rng.IntN(3) == 0 { // the end of what was said is told otherwise
					before -= 1 + rng.IntN(min(before-1, 25))
					said = said[:before]
				}
				said = append(said, fresh...)
				r.Prompt = said
				got, _ := turn(t, s, r)
				plain := r
				plain.Draft = drafts
				want, _ := generate(t, e, plain)
				if !slices.Equal(got, want) {
					t.Fatalf("%s, round %d, turn %d: %v, a fresh generation gives %v", name, round, n, got, want)
				}
				kept, again := s.Fed()
				if n > 0 && (kept+again > len(said)-1 || kept+again < min(before, len(said)-1)-1) {
					t.Fatalf("%s, turn %d: kept %d, again %d of %d", name, n, kept, again, before)
				}
				said = append(said, got...)
			}
		}
	}
}

func TestSessionFeedsOnlyNew(t *testing.T) {
	m := randomModel(t, 40, 600, 3, []int{1}, *seed)
	s := New(m).NewSession(nil)
	rng := rand.New(rand.NewPCG(*seed, 22))
	first := randomPrompt(rng, 40, 50)
	out, _ := turn(t, s, Request{Prompt: first, MaxTokens: 10})
	for _, c := range []struct {
		name        string
		prompt      []int32
		kept, again int
	}{
		{"it goes on", slices.Concat(first, out, first), 59, 0}, // the last token of an answer has not been fed
		{"the answer is told otherwise", slices.Concat(first, out[:4], first[:7]), 49, 5},
		{"the second answer is dropped", slices.Concat(first, out[:4]), 49, 4},
		{"the same again", slices.Concat(first, out[:4]), 53, 0},
		{"something else", slices.Concat(first[:5], first), 0, 5},
	} {
		if c.name == "the answer is told otherwise" && out[4] == first[0] {
			t.Skip("this seed tells the same")
		}
		turn(t, s, Request{Prompt: c.prompt, MaxTokens: 1})
		if kept, again := s.Fed(); kept != c.kept || again != c.again {
			t.Errorf("%s: kept %d, again %d, want %d, %d", c.name, kept, again, c.kept, c.again)
		}
	}
}

// TestSessionStops leaves answers in the middle in every way there is; the next turn is right all the same.
func TestSessionStops(t *testing.T) {
	m := randomModel(t, 40, 600, 3, []int{1}, *seed)
	draft := subset(t, m, []int{0, 1}, 0.01)
	e := New(m, draft)
	s := e.NewSession(draft)
	rng := rand.New(rand.NewPCG(*seed, 23))
	said := randomPrompt(rng, 40, 300)
	for n := range 12 {
		ctx, cancel := context.WithCancel(context.Background())
		r := Request{Prompt: said, MaxTokens: 20, Speculate: 4}
		var out []int32
		if n == 3 {
			cancel() // while the prompt is fed
		}
		for token, err := range s.Generate(ctx, r, nil) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				break
			}
			if out = append(out, token.ID); len(out) == 7 && n%3 == 0 {
				cancel()
			} else if len(out) == 5 && n%3 == 1 {
				break
			}
		}
		cancel()
		r.Prompt = append(slices.Clone(said), out...)
		got, _ := turn(t, s, r)
		r.Draft = draft
		if want, _ := generate(t, e, r); !slices.Equal(got, want) {
			t.Fatalf("turn %d: %v, want %v", n, got, want)
		}
		said = append(said, out...)
	}
	for _, err := range s.Generate(context.Background(), Request{Prompt: []int32{99}, MaxTokens: 1}, nil) {
		if err == nil {
			t.Error("no error for a token that there is not")
		}
	}
}
