package data

import (
	"errors"
	"math/rand/v2"
	"slices"
)

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

// Groups deals groups of sequences, which stay together, into batches of at most as many tokens as it is told, packed by best fit, in an order that is new in
// every epoch and depends on the seed alone. A conversation is a group of one, a pair of answers a group of two. Nothing is cut and nothing padded: each
// sequence is a run of its own, so nothing of one reaches another. A batch is of one epoch.
type Groups struct {
	source GroupSource
	tokens int
	seed   uint64
	first  int // number of the first group
	at     Cursor
	order  []int
	ends   []int // where in order each batch ends
	stream bool  // as a Stream deals
}

// GroupSource holds groups of sequences.
type GroupSource interface {
	Len() int
	Size(i int) int         // tokens of group i
	Group(i int) []Sequence // group i; it panics where the groups can no longer be read
}

// memory is groups in memory.
type memory [][]Sequence

func (m memory) Len() int               { return len(m) }
func (m memory) Group(i int) []Sequence { return m[i] }
func (m memory) Size(i int) (n int) {
	for _, s := range m[i] {
		n += len(s.IDs)
	}
	return n
}

// NewGroups returns a stream over groups in memory, or an error if there are none.
func NewGroups(groups [][]Sequence, tokens int, seed uint64) (*Groups, error) {
	return NewGroupsOf(memory(groups), tokens, seed)
}

// NewGroupsOf returns a stream over groups, or an error if there are none.
func NewGroupsOf(source GroupSource, tokens int, seed uint64) (*Groups, error) {
	if source.Len() == 0 {
		return nil, errors.New("the data has no rows to learn from")
	}
	g := &Groups{source: source, tokens: tokens, seed: seed}
	g.Seek(Cursor{})
	return g, nil
}

// LikeStream makes the groups come in the batches in which a Stream deals documents, unpacked, so that both can be compared.
func (g *Groups) LikeStream() *Groups {
	g.stream = true
	g.Seek(g.at)
	return g
}

// Len returns the number of groups.
func (g *Groups) Len() int { return g.source.Len() }

// Cursor returns the place of the next batch.
func (g *Groups) Cursor() Cursor { return g.at }

// Epoch returns how often the groups have been dealt, with the part of the pass that is under way.
func (g *Groups) Epoch() float64 {
	return float64(g.at.Epoch) + float64(g.at.Position)/float64(len(g.order))
}

// Seek goes to a place that Cursor returned.
func (g *Groups) Seek(c Cursor) {
	rng := rand.New(rand.NewPCG(g.seed, uint64(c.Epoch)))
	g.at = c
	if g.stream {
		g.order = rng.Perm(g.source.Len())
		return
	}
	g.order, g.ends = packed(rng.Perm(g.source.Len()), g.source.Size, g.tokens, rng)
}

// CountFrom sets the number of the first group.
func (g *Groups) CountFrom(first int) { g.first = first }

// add appends the group at a place of the order to a batch.
func (g *Groups) add(b *Batch, position int) {
	n := g.order[position]
	for _, s := range g.source.Group(n) {
		b.addSequence(s)
	}
	b.Groups = append(b.Groups, g.first+n)
	g.at.Position = position + 1
}

// nextLikeStream takes groups as they come, as many as fit.
func (g *Groups) nextLikeStream() Batch {
	var b Batch
	for {
		if g.at.Position == len(g.order) {
			g.Seek(Cursor{Epoch: g.at.Epoch + 1})
		}
		if len(b.Tokens) > 0 && len(b.Tokens)+g.source.Size(g.order[g.at.Position]) > g.tokens {
			return b
		}
		g.add(&b, g.at.Position)
	}
}

// Next returns the next batch.
func (g *Groups) Next() Batch {
	if g.stream {
		return g.nextLikeStream()
	}
	if g.at.Position == len(g.order) {
		g.Seek(Cursor{Epoch: g.at.Epoch + 1})
	}
	next, _ := slices.BinarySearch(g.ends, g.at.Position+1)
	var b Batch
	for g.at.Position < g.ends[next] {
		g.add(&b, g.at.Position)
	}
	return b
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
