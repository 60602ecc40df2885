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

// TestScanTransactions feeds tokens in random transactions, some of them sure, some rewound, and compares bits with tokens fed one by one.
func TestScanTransactions(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	s := ScanShape{4, 8, 3, 2, 4}
	r := func(cols int) *tensor.Tensor { return random(rng, 1, 400, cols) }
	x, dt, b, c := r(s.Dim()), r(s.Dim()), r(s.KB*s.N), r(s.KC*s.N)
	bias, a, d := random(rng, 1, s.Dim()), random(rng, 0.5, s.Dim(), s.N), random(rng, 1, s.Dim())
	feed := func(state *ScanState, from, to int, provisional bool) *tensor.Tensor {
		return SelectiveScan(nil, x.Slice(from, to), dt.Slice(from, to), b.Slice(from, to), c.Slice(from, to), bias, a, d, nil, s,
			[]ScanRun{{Len: to - from, State: state, Provisional: provisional}})
	}
	plain, state := NewScanState(s), NewScanState(s)
	var want [][]float32
	for i := range 400 {
		want = append(want, feed(plain, i, i+1, false).Data)
	}
	foreseen := 0
	for at := 0; at < 380; {
		compare := func(from, to int, provisional bool) {
			for i, row := range feed(state, from, to, provisional).Data {
				if row != want[from+i/s.Dim()][i%s.Dim()] {
					t.Fatalf("token %d: the bits differ", from+i/s.Dim())
				}
			}
		}
		if rng.IntN(4) == 0 {
			n := 1 + rng.IntN(3)
			compare(at, at+n, false)
			at += n
			continue
		}
		sure, more := rng.IntN(3), 1+rng.IntN(5)
		state.Mark(sure)
		if rng.IntN(3) == 0 { // a branch beside the chain
			compare(at, at+sure+1, true)
			state.Rewind(1)
			compare(at+sure, at+sure+more, true)
		} else {
			cut := rng.IntN(sure + more)
			if cut > 0 {
				compare(at, at+cut, true)
			}
			compare(at+cut, at+sure+more, true)
		}
		kept := sure + rng.IntN(more+1)
		state.Keep(kept)
		if kept == sure+more || kept == sure {
			foreseen++
			if state.len != 0 {
				t.Fatalf("%d of %d tokens kept, %d of them sure: %d are to be replayed", kept, sure+more, sure, state.len)
			}
		}
		if rng.IntN(5) == 0 {
			state = state.Clone()
		}
		at += kept
	}
	if foreseen == 0 {
		t.Error("no transaction was kept whole")
	}
}
