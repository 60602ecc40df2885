package tensor

import (
	"math/rand/v2"
	"testing"
)

// Steps whose sizes change from one to the next must not make the arena grow for ever, as they do where a slice that fits no chunk passes
// over all of them.
func TestArenaBounded(t *testing.T) {
	var a Arena
	r := rand.New(rand.NewPCG(1, 2))
	most := 0
	for range 200 {
		a.Reset()
		rows := 3000 + r.IntN(1000)
		sum := 0
		for _, cols := range []int{7, 200, 1500, 400, 100, 1500, 3, 1200} {
			sum += 4 * rows * cols
			a.Raw(rows * cols)
		}
		most = max(most, sum)
	}
	if got := a.Bytes(); got > most*3/2 {
		t.Errorf("the arena holds %d bytes for steps of at most %d", got, most)
	}
}

// What is handed out at one time never overlaps, whatever was released before.
func TestArenaApart(t *testing.T) {
	var a Arena
	r := rand.New(rand.NewPCG(3, 4))
	var live [][]float32
	var places []Place
	var counts []int
	take := func() {
		n := 1 + r.IntN(1000)
		if r.IntN(3) == 0 {
			n = arenaChunk/4 + r.IntN(arenaChunk)
		}
		s := a.Raw(n)
		s[0], s[n-1] = float32(len(live)), float32(len(live))
		live = append(live, s)
	}
	for range 2000 {
		switch {
		case r.IntN(10) == 0 && len(places) > 0:
			at := r.IntN(len(places))
			a.Release(places[at])
			live, places, counts = live[:counts[at]], places[:at], counts[:at]
		case r.IntN(6) == 0 && len(places) < 8:
			places, counts = append(places, a.Place()), append(counts, len(live))
		case len(live) < 40:
			take()
		}
		for i, s := range live {
			if s[0] != float32(i) || s[len(s)-1] != float32(i) {
				t.Fatalf("slice %d was overwritten", i)
			}
		}
	}
}
