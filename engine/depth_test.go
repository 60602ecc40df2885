package engine

import (
	"math/rand/v2"
	"testing"
	"time"
)

// simulate runs rounds of a target whose round of n rows takes 1+row·(n-1), with a draft that costs draft a token and whose tokens are
// accepted with probability accept. It returns tokens a unit of time, so plain decoding is 1, and the mean depth. What the controller
// measures is longer by up to a twentieth, and in a part hiccups of the rounds up to nine times as long.
func simulate(d *depth, rounds int, row, draft, accept, hiccups float64, rng *rand.Rand) (rate, mean float64) {
	const unit = float64(10 * time.Millisecond)
	noise := func() float64 {
		x := 1 + 0.05*rng.Float64()
		if rng.Float64() < hiccups {
			x *= 1 + 8*rng.Float64()
		}
		return x
	}
	tokens, total, depths := 0, 0.0, 0
	for range rounds {
		k := d.choose(fromModel, 1000)
		verify, propose := 1+row*float64(k), draft*float64(k)
		d.verified(k+1, time.Duration(verify*noise()*unit))
		n := 0
		for n < k && rng.Float64() < accept {
			n++
		}
		if k > 0 {
			d.drafted(fromModel, k, time.Duration(propose*noise()*unit))
			d.accepted(fromModel, k, n)
		}
		total += verify + propose
		tokens += n + 1
		depths += k
	}
	return float64(tokens) / total, float64(depths) / float64(rounds)
}

func TestDepthFollowsCost(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 7))
	for _, c := range []struct {
		name                        string
		row, draft, accept, hiccups float64
		rate                        float64 // at least; the best that can be had is 1, 1, 1, 1, 4.05, 4.05 and 1.51
		least, most                 float64 // mean depth
	}{
		{"useless draft", 0.2, 0.1, 0.02, 0, 0.97, 0, 0.1},
		{"useless draft, hiccups", 0.2, 0.1, 0.02, 0.05, 0.95, 0, 0.2},
		{"good but dear draft", 0.5, 1, 0.8, 0, 0.97, 0, 0.2},
		{"rows as dear as rounds", 1, 0, 0.9, 0, 0.95, 0, 0.3},
		{"good and cheap", 0.05, 0.02, 0.9, 0, 3.5, 6, 12},
		{"good and cheap, hiccups", 0.05, 0.02, 0.9, 0.05, 3.2, 6, 12},
		{"fair and cheap", 0.1, 0.05, 0.6, 0, 1.4, 1, 5},
	} {
		rate, mean := simulate(newDepth(12, false), 1000, c.row, c.draft, c.accept, c.hiccups, rng)
		if rate < c.rate || mean < c.least || mean > c.most {
			t.Errorf("%s: %.3f times plain decoding with mean depth %.2f", c.name, rate, mean)
		}
	}
}

// TestDepthRecovers gives a draft that becomes useful after it was given up.
func TestDepthRecovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 8))
	d := newDepth(8, false)
	simulate(d, 300, 0.1, 0.05, 0, 0, rng)
	if _, mean := simulate(d, 2000, 0.1, 0.05, 0.9, 0, rng); mean < 2 {
		t.Errorf("mean depth %.2f after recovery", mean)
	}
}
