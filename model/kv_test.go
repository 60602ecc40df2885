package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"krait/kernel"
)

// TestLongSequencesAreExact grows sequences over the ends of attention's parts by pieces of a prompt, trees, rollbacks and a restored snapshot,
// beside a short neighbour, in both formats of keys and values: every row has the bits of one fresh run over the same tokens.
func TestLongSequencesAreExact(t *testing.T) {
	for _, f := range []kernel.KVFormat{kernel.KVF32, kernel.KVF16} {
		for _, window := range []int{0, 900} {
			m := tinyLike(t, 21, 2, window, []int{0, 1, 2}, func(c *Config) { c.MaxPositionEmbeddings = 2300 })
			m.SetKV(f)
			checkLong(t, fmt.Sprintf("%v, window %d", f, window), m)
		}
	}
}

func checkLong(t *testing.T, what string, m *Model) {
	t.Helper()
	rng := rand.New(rand.NewPCG(8, 9))
	random := func(n int) []int32 {
		x := make([]int32, n)
		for i := range x {
			x[i] = rng.Int32N(13)
		}
		return x
	}
	said := random(2200)
	whole := m.Forward(nil, Single(said, nil))
	s, short := m.NewState(), m.NewState()
	m.Forward(nil, Batch{Tokens: []int32{1, 2}, Runs: []Run{{Len: 2, State: short}}})
	feed := func(to int) { m.Forward(nil, Single(said[s.Len():to], s)) }
	for _, end := range []int{1024, 2048} {
		feed(end - 400)
		feed(end - 9)
		snapshot := s.Snapshot()
		m.Forward(nil, Single(random(30), s)) // another answer, which is taken back
		s.Restore(snapshot)
		for range 4 {
			at, wrong := s.Len(), random(5)
			s.Mark()
			b := Batch{Tokens: slices.Concat([]int32{7}, said[at:at+2], wrong, said[at+2:at+6]),
				Runs: []Run{{Len: 1, State: short}, {Len: 7, State: s}, {Len: 4, State: s, Rewind: 5}}}
			got := m.Forward(nil, b)
			for i, row := range []int{1, 2, 8, 9, 10, 11} {
				if !slices.Equal(got.Row(row), whole.Row(at+i)) {
					t.Fatalf("%s: token %d in a tree differs from one run", what, at+i)
				}
			}
			s.Keep(5)
		}
	}
	if got := m.Forward(nil, Single(said[s.Len():s.Len()+1], s)); !slices.Equal(got.Row(0), whole.Row(s.Len()-1)) {
		t.Errorf("%s: token %d alone differs", what, s.Len()-1)
	}
	if want := 2 * m.KV().Bytes() * s.Len() * 3 * 2 * 8; s.Bytes() != want || m.StateBytes(s.Len()) != want {
		t.Errorf("%s: %d and %d bytes, want %d", what, s.Bytes(), m.StateBytes(s.Len()), want)
	}
}
