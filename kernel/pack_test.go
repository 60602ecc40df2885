package kernel

import (
	"bytes"
	"fmt"
	"testing"
)

// TestPackRows packs matrices of awkward shapes from rows that are a view and from rows made on the way, on every level: the panels are those
// that their layout says, on the Go heap and in a Memory.
func TestPackRows(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for _, s := range [][2]int{{1, 1}, {3, 2}, {31, 17}, {32, 16}, {33, 15}, {47, 64}, {48, 65}, {64, 100}, {77, 96}, {160, 31}, {5, 0}, {0, 5}} {
			n, k := s[0], s[1]
			w := randoms(rng, n*k)
			made := func(scratch []float32, lo, hi int) []float32 {
				if len(scratch) != (hi-lo)*k {
					t.Errorf("%v: scratch of %d for rows %d…%d", s, len(scratch), lo, hi)
				}
				copy(scratch, w[lo*k:hi*k])
				return scratch
			}
			want := make([]float32, roundUp(n, PanelWidth)*k)
			for r := range n {
				for l := range k {
					want[r/PanelWidth*PanelWidth*k+l*PanelWidth+r%PanelWidth] = w[r*k+l]
				}
			}
			var memory Memory
			for name, p := range map[string]*Panels{"view": PackPanels(w, n, k), "made": PackRows(made, n, k, nil), "memory": PackRows(DenseRows(w, k), n, k, &memory)} {
				sameBits(t, fmt.Sprintf("%s of (%d, %d)", name, n, k), p.Data, want)
				row := make([]float32, k)
				for r := range n {
					p.Row(row, r)
					sameBits(t, fmt.Sprintf("row %d of %s", r, name), row, w[r*k:][:k])
				}
			}
			for f := range PanelFormat(panelFormats) {
				if n*k == 0 {
					continue
				}
				want := NewQuantPanels(f, n, k, nil)
				for r := range roundUp(n, f.width()) {
					size := len(want.Data) / (roundUp(n, f.width()) / f.width())
					row := []float32(nil)
					if r < n {
						row = w[r*k:][:k]
					}
					want.encode(want.Data[r/f.width()*size:][:size], r%f.width(), row)
				}
				if got := QuantizeRows(f, made, n, k, &memory); !bytes.Equal(got.Data, want.Data) {
					t.Errorf("%v of (%d, %d): the panels are not those of single rows", f, n, k)
				}
			}
		}
	})
}

// TestTranspose turns matrices around on every level, also such as are narrower than a vector, and writes nothing beyond them.
func TestTranspose(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for _, s := range [][2]int{{1, 1}, {7, 4}, {8, 4}, {9, 3}, {16, 1}, {17, 4}, {31, 33}, {64, 16}, {100, 5}, {1536, 4}, {0, 3}, {3, 0}, {40, 0}} {
			rows, cols := s[0], s[1]
			x := randoms(rng, rows*cols)
			got, want := randoms(rng, rows*cols+40), make([]float32, rows*cols)
			rest := append([]float32(nil), got[rows*cols:]...)
			for r := range rows {
				for c := range cols {
					want[c*rows+r] = x[r*cols+c]
				}
			}
			Transpose(got, x, rows, cols)
			sameBits(t, fmt.Sprintf("(%d, %d)", rows, cols), got[:rows*cols], want)
			sameBits(t, fmt.Sprintf("beyond (%d, %d)", rows, cols), got[rows*cols:], rest)
		}
	})
}
