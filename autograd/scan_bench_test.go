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

// BenchmarkSSD is the scan of Mamba2 layers as a sequence goes on: a token, a few that are verified, and a prompt.
func BenchmarkSSD(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for name, s := range map[string]SSDShape{"smol135m": {9, 3, 64, 64}, "1b": {32, 8, 64, 64}, "8b": {32, 8, 128, 128}} {
		for _, rows := range []int{1, 4, 512} {
			b.Run(fmt.Sprintf("%s/%d", name, rows), func(b *testing.B) {
				xbc, dt := random(rng, 1, rows, s.Width()), random(rng, 1, rows, s.H)
				bias, a, d := random(rng, 1, s.H), random(rng, 1, s.H), random(rng, 1, s.H)
				state, tape := NewSSDState(s), NewScratch()
				for b.Loop() {
					tape.Reset()
					SSD(tape, xbc, dt, bias, a, d, s, []SSDRun{{Start: 0, Len: rows, State: state}})
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rows), "µs/token")
			})
		}
	}
}
