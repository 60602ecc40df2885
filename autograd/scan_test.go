package autograd

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"krait/tensor"
)

func TestScanGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	r := func(shape ...int) *tensor.Tensor { return random(rng, 1, shape...) }
	t.Run("HeadRMSNorm", func(t *testing.T) {
		x, w := r(4, 24), r(8)
		check(t, func(tp *Tape) *tensor.Tensor { return HeadRMSNorm(tp, x, w, 3, 1e-5) }, x, w)
	})
	t.Run("Columns", func(t *testing.T) {
		x := r(5, 9)
		check(t, func(tp *Tape) *tensor.Tensor { return Columns(tp, x, append(Repeat(1, 2, 3, 2), 0, 8)) }, x)
	})
	// The first run crosses a chunk. Groups share B, C, both or neither.
	for _, s := range []ScanShape{{4, 2, 3, 2, 4}, {3, 2, 2, 1, 1}, {2, 3, 2, 2, 1}, {2, 4, 4, 2, 2}} {
		t.Run(fmt.Sprintf("SelectiveScan%v", s), func(t *testing.T) {
			const rows = scanChunk + 7
			x, dt, b, c := r(rows, s.Dim()), r(rows, s.Dim()), r(rows, s.KB*s.N), r(rows, s.KC*s.N)
			bias, a, d := r(s.Dim()), random(rng, 0.5, s.Dim(), s.N), r(s.Dim())
			runs := []ScanRun{{Start: 0, Len: scanChunk + 3}, {Start: scanChunk + 3, Len: 1}, {Start: scanChunk + 4, Len: 3}}
			check(t, func(tp *Tape) *tensor.Tensor { return SelectiveScan(tp, x, dt, b, c, bias, a, d, nil, s, runs) }, x, dt, b, c, bias, a, d)
		})
	}
}
