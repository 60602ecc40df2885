//go:build !purego

package kernel

import (
	"fmt"
	"testing"

	"golang.org/x/sys/cpu"
)

// TestProductsOfOlderProcessors: processors that lack USDOT, or SDOT, compute the same bits. The weights' bytes are all there are, and so are the
// activations'.
func TestProductsOfOlderProcessors(t *testing.T) {
	rng := seeded(t)
	was := active
	defer func() { active = was }()
	var others []*table
	for _, sdot := range []bool{false, true} {
		if sdot && !cpu.ARM64.HasASIMDDP {
			continue
		}
		other := *find("neon")
		other.narrow = narrowNEON(sdot, false)
		others = append(others, &other)
	}
	for _, s := range [][2]int{{1, 1}, {17, 65}, {33, 31}, {64, 172}, {5, 300}} {
		n, k := s[0], s[1]
		for _, f := range []PanelFormat{Q8, Q4} {
			p := Quantize(f, randoms(rng, n*k), n, k, nil)
			for i := range p.Data[:f.block()-64] { // codes that packing does not write are read as well
				if i%3 == 0 {
					p.Data[i] = []byte{0, 255, byte(rng.IntN(256))}[rng.IntN(3)]
				}
			}
			for rows := 1; rows <= 5; rows++ {
				x := randoms(rng, rows*k)
				for i := 0; i < len(x); i += 3 { // the largest activations, ±127
					x[i] = float32(2 - 4*rng.IntN(2))
				}
				want, got := make([]float32, rows*n), make([]float32, rows*n)
				active = &portable
				p.Mul(want, n, x, k, rows)
				for i, other := range others {
					active = other
					p.Mul(got, n, x, k, rows)
					sameBits(t, fmt.Sprintf("%v %dx%d rows=%d, SDOT %d", f, n, k, rows, i), got, want)
				}
			}
		}
	}
}
