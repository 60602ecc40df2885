package autograd

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkSelectiveScan is the scan of the paper's 8B hybrids and of a pure Mamba of 130M, a token and 64 at a time.
func BenchmarkSelectiveScan(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for name, s := range map[string]ScanShape{"8b": {256, 16, 16, 64, 256}, "130m": {96, 16, 16, 1, 1}} {
		for _, rows := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/%d", name, rows), func(b *testing.B) {
				x, dt := random(rng, 1, rows, s.Dim()), random(rng, 1, rows, s.Dim())
				bb, c := random(rng, 1, rows, s.KB*s.N), random(rng, 1, rows, s.KC*s.N)
				bias, a, d := random(rng, 1, s.Dim()), random(rng, 1, s.Dim(), s.N), random(rng, 1, s.Dim())
				rates, state, tape := s.Rates(a.Data), NewScanState(s), NewScratch()
				for b.Loop() {
					tape.Reset()
					SelectiveScan(tape, x, dt, bb, c, bias, a, d, rates, s, []ScanRun{{Start: 0, Len: rows, State: state}})
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rows), "µs/token")
			})
		}
	}
}
