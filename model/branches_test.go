package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"krait/kernel"
	"krait/quant"
)

// tree is tokens in preorder: node i's parent is a node before it, or -1, what was said before.
type tree struct {
	tokens []int32
	parent []int
}

func randomTree(rng *rand.Rand, n, vocab int) tree {
	var t tree
	for i := range n {
		parent := i - 1
		for parent >= 0 && rng.IntN(4) == 0 { // on the way from the node before to the root
			parent = t.parent[parent]
		}
		t.tokens, t.parent = append(t.tokens, rng.Int32N(int32(vocab))), append(t.parent, parent)
	}
	return t
}

// path returns the nodes from the root to node i.
func (t *tree) path(i int) []int {
	var p []int
	for ; i >= 0; i = t.parent[i] {
		p = append(p, i)
	}
	slices.Reverse(p)
	return p
}

// runs returns the tree as runs on a state.
func (t *tree) runs(s *State) []Run {
	var runs []Run
	for i := range t.tokens {
		if i > 0 && t.parent[i] == i-1 {
			runs[len(runs)-1].Len++
			continue
		}
		r := Run{Len: 1, State: s}
		if i > 0 {
			r.Rewind = len(t.path(i-1)) - len(t.path(i)) + 1
		}
		runs = append(runs, r)
	}
	return runs
}

// TestTreesAreExact verifies trees of guesses of several sequences in one batch: at every node the logits are, bit for bit, those of the
// tokens from the root to the node fed one by one, and so are those after a part of the last branch was kept.
func TestTreesAreExact(t *testing.T) {
	was := kernel.Level()
	defer kernel.SetLevel(was)
	for _, level := range kernel.Levels() {
		kernel.SetLevel(level)
		for n, m := range fuzzModels(t) {
			for _, f := range []quant.Format{quant.F32, quant.BF16, quant.Q8, quant.Q4} {
				if f != quant.F32 && (n+int(f))%3 != 0 { // each format with some of the models
					continue
				}
				m.PackAs(f)
				checkTrees(t, fmt.Sprintf("%s, model %d, %v", level, n, f), m, uint64(n))
			}
		}
	}
}

func checkTrees(t *testing.T, what string, m *Model, stream uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, stream))
	const sequences = 3
	states, said := make([]*State, sequences), make([][]int32, sequences)
	alone := func(tokens []int32) []float32 {
		s := m.NewState()
		var last []float32
		for _, x := range tokens {
			last = m.Logits(nil, m.Forward(nil, Single([]int32{x}, s))).Data
		}
		return last
	}
	for i := range states {
		states[i] = m.NewState()
	}
	for range 4 {
		var b Batch
		trees := make([]tree, sequences)
		for i, s := range states {
			s.Mark()
			trees[i] = randomTree(rng, 1+rng.IntN(9), 13)
			b.Tokens, b.Runs = append(b.Tokens, trees[i].tokens...), append(b.Runs, trees[i].runs(s)...)
		}
		logits := m.Logits(nil, m.Forward(nil, b))
		row := 0
		for i, s := range states {
			for node := range trees[i].tokens {
				tokens := slices.Clone(said[i])
				for _, p := range trees[i].path(node) {
					tokens = append(tokens, trees[i].tokens[p])
				}
				if !slices.Equal(logits.Row(row), alone(tokens)) {
					t.Fatalf("%s: node %d of %+v after %v differs from the chain", what, node, trees[i], said[i])
				}
				row++
			}
			last := trees[i].path(len(trees[i].tokens) - 1)
			n := rng.IntN(len(last) + 1)
			s.Keep(n)
			for _, p := range last[:n] {
				said[i] = append(said[i], trees[i].tokens[p])
			}
			if s.Len() != len(said[i]) {
				t.Fatalf("%s: the state has %d tokens, want %d", what, s.Len(), len(said[i]))
			}
		}
	}
}

func TestBadRewind(t *testing.T) {
	m := tiny(t, 1, 2, 0, 1)
	for name, runs := range map[string]func(s *State) []Run{
		"not marked":        func(s *State) []Run { return []Run{{Len: 2, State: s}, {Len: 1, State: s, Rewind: 1}} },
		"more than was fed": func(s *State) []Run { s.Mark(); return []Run{{Len: 2, State: s}, {Len: 1, State: s, Rewind: 3}} },
		"negative":          func(s *State) []Run { s.Mark(); return []Run{{Len: 2, State: s}, {Len: 1, State: s, Rewind: -1}} },
		"no state":          func(s *State) []Run { return []Run{{Len: 2}, {Len: 1, Rewind: 1}} },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			s := m.NewState()
			m.Forward(nil, Single([]int32{1, 2}, s))
			m.Forward(nil, Batch{Tokens: []int32{1, 2, 3}, Runs: runs(s)})
		}()
	}
}
