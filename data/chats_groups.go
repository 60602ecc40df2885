package data

import "errors"

// Sequence is token ids, and for each whether it is to be learnt: predicted from those before it.
type Sequence struct {
	IDs   []int32
	Learn []bool
}

// Learns returns the number of tokens to be learnt. The first has nothing before it.
func (s *Sequence) Learns() int {
	n := 0
	for i := 1; i < len(s.Learn); i++ {
		if s.Learn[i] {
			n++
		}
	}
	return n
}

// Cut returns the sequence's first n tokens at most.
func (s *Sequence) Cut(n int) Sequence {
	n = min(n, len(s.IDs))
	return Sequence{IDs: s.IDs[:n], Learn: s.Learn[:n]}
}

// Groups deals groups of sequences, which stay together, into batches of about as many tokens as it is told, in a Stream's order. A conversation is a
// group of one, a pair of answers a group of two. Nothing is cut and nothing padded: each sequence is a run of its own.
type Groups struct {
	order  Stream
	groups [][]Sequence
	first  int // number of the first group
}

// NewGroups returns a stream over the groups, or an error if there are none.
func NewGroups(groups [][]Sequence, tokens int, seed uint64) (*Groups, error) {
	if len(groups) == 0 {
		return nil, errors.New("the data has no rows to learn from")
	}
	g := &Groups{groups: groups, order: Stream{docs: make([]Document, len(groups)), tokens: tokens, seed: seed}}
	g.Seek(Cursor{})
	return g, nil
}

// Cursor returns the place of the next batch.
func (g *Groups) Cursor() Cursor { return g.order.Cursor() }

// Epoch returns how often the groups have been dealt, with the part of the pass that is under way.
func (g *Groups) Epoch() float64 { return g.order.Epoch() }

// Seek goes to a place that Cursor returned.
func (g *Groups) Seek(c Cursor) { g.order.Seek(c) }

// Once makes a batch end where a pass over the groups does, and counts the groups from first.
func (g *Groups) Once(first int) { g.order.Once, g.first = true, first }

// Next returns the next batch: at least one group, and as many as fit.
func (g *Groups) Next() Batch {
	var b Batch
	for {
		at := &g.order.at
		if at.Position == len(g.order.order) {
			if g.order.Once && len(b.Tokens) > 0 {
				return b
			}
			g.Seek(Cursor{Epoch: at.Epoch + 1})
		}
		n := g.order.order[at.Position]
		size := 0
		for _, s := range g.groups[n] {
			size += len(s.IDs)
		}
		if len(b.Tokens) > 0 && len(b.Tokens)+size > g.order.tokens {
			return b
		}
		for _, s := range g.groups[n] {
			b.addSequence(s)
		}
		b.Groups = append(b.Groups, g.first+n)
		at.Position++
	}
}

// BatchOf returns sequences laid end to end.
func BatchOf(sequences ...Sequence) Batch {
	var b Batch
	for _, s := range sequences {
		b.addSequence(s)
	}
	return b
}

// addSequence appends a sequence: row i predicts token i+1 if that is to be learnt.
func (b *Batch) addSequence(s Sequence) {
	b.Tokens = append(b.Tokens, s.IDs...)
	b.Lens = append(b.Lens, len(s.IDs))
	for i := range s.IDs {
		target := int32(-1)
		if i+1 < len(s.IDs) && s.Learn[i+1] {
			target = s.IDs[i+1]
		}
		b.Targets = append(b.Targets, target)
	}
}
