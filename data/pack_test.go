package data

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// TestPacking: each group is dealt once an epoch, no batch is over its size but for a group that is alone, and best fit wastes less than a thirtieth where
// taking rows as they come wastes a tenth and more.
func TestPacking(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var groups [][]Sequence
	total := 0
	for i := range 900 {
		n := 20 + rng.IntN(500)
		if i == 7 {
			n = 1500 // more than a batch
		}
		total += n
		groups = append(groups, []Sequence{{IDs: make([]int32, n), Learn: make([]bool, n)}})
	}
	const tokens = 1000
	g, err := NewGroups(groups, tokens, 3)
	if err != nil {
		t.Fatal(err)
	}
	for epoch := range 2 {
		seen := make([]int, len(groups))
		batches := 0
		for g.Epoch() < float64(epoch+1) {
			b := g.Next()
			batches++
			if len(b.Tokens) > tokens && len(b.Groups) > 1 {
				t.Errorf("a batch of %d tokens from %d groups", len(b.Tokens), len(b.Groups))
			}
			for _, n := range b.Groups {
				seen[n]++
			}
		}
		if slices.Min(seen) != 1 || slices.Max(seen) != 1 {
			t.Errorf("epoch %d dealt groups %d to %d times", epoch, slices.Min(seen), slices.Max(seen))
		}
		if waste := 1 - float64(total)/float64(batches*tokens); waste > 1./30 {
			t.Errorf("epoch %d wastes %.3f of %d batches", epoch, waste, batches)
		}
	}
}

// TestStore: what is put into a file comes out as it was, and leaves no file.
func TestStore(t *testing.T) {
	dir := t.TempDir()
	s, err := NewStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	groups := [][]Sequence{{{IDs: []int32{1, 70000, 3}, Learn: []bool{false, true, true}}, {IDs: []int32{9}, Learn: []bool{true}}}, {{IDs: []int32{}, Learn: []bool{}}}, {{IDs: []int32{5, 6}, Learn: []bool{false, false}}}}
	for _, g := range groups {
		if err := s.Add(g...); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	for i, want := range groups {
		if got := s.Group(i); !reflect.DeepEqual(got, want) || s.Size(i) != memory(groups).Size(i) {
			t.Errorf("group %d: %v, want %v", i, got, want)
		}
	}
	p := Part{s, 1, 3}
	if p.Len() != 2 || p.Size(1) != 2 || !reflect.DeepEqual(p.Group(1), groups[2]) {
		t.Errorf("%d groups, the last %v", p.Len(), p.Group(1))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestOverlap: a run of 13 words of an evaluation set is found in other writing and other punctuation, a shorter text as a whole, and what only begins
// alike is not.
func TestOverlap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eval.jsonl")
	if err := os.WriteFile(path, []byte(`{"question":"Natalia sold clips to 48 of her friends in April, and then she sold half as many in May.","answer":["Yes"]}
{"task":"Write a function that adds two numbers"}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := NewOverlap(13, path)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"Q: natalia sold CLIPS to 48 of her friends in April - and then she sold half!": true,
		"Natalia sold clips to 48 of her friends in April, and the sun shone.":          false,
		"Please: write a function that adds two numbers.":                               true,
		"Write a function that adds two":                                                false,
		"Yes":                                                                           false,
	} {
		if set, got := o.In(text); got != want || got && set != path {
			t.Errorf("%q: %v in %q", text, got, set)
		}
	}
}
