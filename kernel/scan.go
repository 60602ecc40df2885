package kernel

import "math"

// ScanStep advances the state of a group of p channels of a Mamba1 layer over tokens tokens, one after another:
//
//	s[j][i] = 2^(a[j][i]·delta[t][i])·s[j][i] + delta[t][i]·x[t][i]·b[t][j]
//	y[t][i] += Σ_j s[j][i]·c[t][j]                      for t ≥ quiet
//
// s and a are (n, p), none of a·delta above 0, so that vector lanes run along channels. What write, quiet and the strides mean, and that a token has the same bits
// alone, in a draft and replayed, is as for SSDStep; rows of delta stand at t·ldd. The decays never leave the registers: in memory
// they would take as much room as the state, for each token.
func ScanStep(y []float32, ldy int, s, a, delta []float32, ldd int, x []float32, ldx int, b []float32, ldb int, c []float32, ldc int,
	p, n, tokens, write, quiet int) {
	active.scanStep(y, ldy, s, a, delta, ldd, x, ldx, b, ldb, c, ldc, p, n, tokens, write, quiet)
}

type scanStep = func(y []float32, ldy int, s, a, delta []float32, ldd int, x []float32, ldx int, b []float32, ldb int, c []float32, ldc int,
	p, n, tokens, write, quiet int)

var scanScratch = freeList[[]float32]{make: func() *[]float32 { return new([]float32) }}

// scanStepBy makes the step of elementwise kernels.
func scanStepBy(exp2 func(y, x []float32), mul func(y, a, b []float32), axpy func(y []float32, a float32, x []float32)) scanStep {
	return func(y []float32, ldy int, s, a, delta []float32, ldd int, x []float32, ldx int, b []float32, ldb int, c []float32, ldc int,
		p, n, tokens, write, quiet int) {
		scratch := scanScratch.get()
		defer scanScratch.put(scratch)
		*scratch = grow(*scratch, n*p+2*p)
		decay, dx, provisional := (*scratch)[:p], (*scratch)[p:2*p], (*scratch)[2*p:]
		for t := range tokens {
			if t == write {
				s = provisional[:copy(provisional, s[:n*p])]
			}
			d := delta[t*ldd:][:p]
			mul(dx, d, x[t*ldx:][:p])
			for j := range n {
				sj := s[j*p:][:p]
				mul(decay, a[j*p:][:p], d)
				exp2(decay, decay)
				mul(sj, sj, decay)
				axpy(sj, b[t*ldb+j], dx)
				if t >= quiet {
					axpy(y[t*ldy:][:p], c[t*ldc+j], sj)
				}
			}
		}
	}
}

func exp2Portable(y, x []float32) {
	for i, v := range x {
		y[i] = float32(math.Exp2(float64(v)))
	}
}
