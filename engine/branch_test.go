package engine

import (
	"context"
	"slices"
	"testing"

	"krait/model"
)

// TestBranchesAreTaken: with a draft that is often wrong at first, second candidates are accepted, in plain requests, in batches and in a
// session that goes on afterwards, and the output is that of plain decoding.
func TestBranchesAreTaken(t *testing.T) {
	for name, m := range map[string]*model.Model{"stories260k": stories(t), "hybrid": randomModel(t, 12, 0, 3, []int{1}, 9), "mamba1": tiny(t, "tiny-mamba1")} {
		noise := 0.1
		if name == "stories260k" {
			noise = 0.02
		}
		draft := subset(t, m, seq(m.Config.NumHiddenLayers), noise)
		e := New(m, draft)
		r := Request{Prompt: []int32{1, 5, 3}, MaxTokens: 90}
		plain, _ := generate(t, e, r)
		s := r
		s.Draft, s.Speculate, s.FixedDepth, s.Branch = draft, 3, true, true
		got, stats := generate(t, e, s)
		if !slices.Equal(got, plain) || stats.Branched == 0 && *seed == 1 || stats.Branched > stats.Rounds/2 {
			t.Errorf("%s: %d branches of %d rounds: %v, want %v", name, stats.Branched, stats.Rounds, got, plain)
		}
		outputs, _ := runBatch(t, e, 3, []Request{s, r, s, s})
		for i, got := range outputs {
			if !slices.Equal(got, plain) {
				t.Errorf("%s, request %d of a batch: %v, want %v", name, i, got, plain)
			}
		}
		session := e.NewSession(draft)
		for n := 20; n <= 90; n += 35 {
			turn := s
			turn.Prompt = append(slices.Clone(r.Prompt), plain[:n-20]...)
			turn.MaxTokens = 20
			var got []int32
			for token, err := range session.Generate(context.Background(), turn, nil) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, token.ID)
			}
			if !slices.Equal(got, plain[n-20:n]) {
				t.Errorf("%s, turn from token %d: %v, want %v", name, n-20, got, plain[n-20:n])
			}
		}
	}
}
