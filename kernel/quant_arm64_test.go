//go:build !purego

package kernel

import (
	"fmt"
	"testing"
)

// TestProductsWithoutSDOT: processors that lack SDOT compute the same bits. The weights' bytes are all there are, and so are the activations'.
func TestProductsWithoutSDOT(t *testing.T) {
	rng := seeded(t)
	was := active
	defer func() { active = was }()
	plain := *find("neon")
	plain.narrow = narrowNEON(false)
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
				active = &plain
				p.Mul(got, n, x, k, rows)
				sameBits(t, fmt.Sprintf("%v %dx%d rows=%d", f, n, k, rows), got, want)
			}
		}
	}
}
