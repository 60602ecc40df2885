package kernel

// SSDStep advances the recurrent state of one head over tokens tokens, one after another:
//
//	s[j][i] = decay[t]·s[j][i] + dt[t]·x[t][i]·b[t][j]
//	y[t][i] = Σ_j s[j][i]·c[t][j]                       for t ≥ quiet
//
// s is (n, p), the transpose of the paper's (p × N), so that vector lanes run along p and no sum is horizontal. The state after the
// first write tokens is stored back in s (write = 0 leaves s as it was); the tokens after them are provisional. The first quiet
// tokens give no output. Row t of x, b, c and y stands at t·ldx, t·ldb, t·ldc, t·ldy; decay and dt at t·ldh. The arithmetic
// of a token is the same whatever tokens, write and quiet are: a token has the same bits alone, in a draft, and when it is replayed.
func SSDStep(y []float32, ldy int, s, decay, dt []float32, ldh int, x []float32, ldx int, b []float32, ldb int, c []float32, ldc int,
	p, n, tokens, write, quiet int) {
	active.ssdStep(y, ldy, s, decay, dt, ldh, x, ldx, b, ldb, c, ldc, p, n, tokens, write, quiet)
}

func ssdStepPortable(y []float32, ldy int, s, decay, dt []float32, ldh int, x []float32, ldx int, b []float32, ldb int, c []float32, ldc int,
	p, n, tokens, write, quiet int) {
	for t := quiet; t < tokens; t++ {
		clear(y[t*ldy:][:p])
	}
	var provisional [64]float32 // a row's state after token write; a row is independent of the others
	for lo := 0; lo < p; lo += len(provisional) {
		width := min(len(provisional), p-lo)
		for j := range n {
			sj := s[j*p+lo:][:width]
			for t := range tokens {
				if t == write {
					sj = provisional[:copy(provisional[:], sj)]
				}
				a, d, bj := decay[t*ldh], dt[t*ldh], b[t*ldb+j]
				for i, v := range x[t*ldx+lo:][:width] {
					sj[i] = a*sj[i] + d*v*bj
				}
				if t >= quiet {
					axpyPortable(y[t*ldy+lo:][:width], c[t*ldc+j], sj)
				}
			}
		}
	}
}
