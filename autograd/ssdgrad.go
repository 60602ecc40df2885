package autograd

import (
	"math"

	"krait/kernel"
)

// ssdGrads is where the gradients of an SSD go. Sums over rows are kept by run and head and added in order at the end.
type ssdGrads struct {
	xbc, dt     []float32 // (rows, Width), (rows, H)
	da, dd, ddt []float32 // (runs, H): with respect to A, D and dtBias
}

// backward adds the gradients of SSD, one task for each run and key-value head, so that no two tasks write to the same place.
func (s *ssd) backward(t *Tape) {
	n := len(s.runs) * s.H
	g := &ssdGrads{xbc: t.gradOrScratch(s.xbc), dt: t.gradOrScratch(s.dt), da: make([]float32, n), dd: make([]float32, n), ddt: make([]float32, n)}
	kernel.Parallel(len(s.runs)*s.K, func(i int) {
		run, kv := i/s.K, i%s.K
		for h := kv * s.group; h < (kv+1)*s.group; h++ {
			s.headGrad(g, run, h)
		}
	})
	for i := range n {
		h := i % s.H
		if s.aLog.Grad != nil {
			s.aLog.Grad[h] -= g.da[i] * float32(math.Exp(float64(s.aLog.Data[h]))) // A = -exp(aLog)
		}
		if s.d.Grad != nil {
			s.d.Grad[h] += g.dd[i]
		}
		if s.dtBias.Grad != nil {
			s.dtBias.Grad[h] += g.ddt[i]
		}
	}
}

// headGrad walks a run's chunks backwards for head h, carrying the gradient of the state.
func (s *ssd) headGrad(g *ssdGrads, run, h int) {
	r := s.runs[run]
	w := s.newChunk()
	defer w.free()
	size := s.N * s.P
	dState := make([]float32, size)
	for i := s.chunks(r.Len) - 1; i >= 0; i-- {
		lo := i * s.Chunk()
		start := s.starts[run][(i*s.H+h)*size:][:size]
		s.chunkGrad(w, g, start, dState, r.Start+lo, min(s.Chunk(), r.Len-lo), run, h)
	}
}

// chunkGrad adds the gradients of one chunk. start is the state before it; dState (N, P) holds the gradient of the state after it
// and receives that of the state before. The letters are those of SSD's comment, with G the running sum of A·Δ in the chunk:
//
//	y_t = Σ_{s≤t} (C_t·B_s) exp(G_t-G_s) Δ_s x_s + exp(G_t) S₀ C_t + D x_t,   S' = exp(G_L) S₀ + Σ_s exp(G_L-G_s) Δ_s x_s B_sᵀ
func (s *ssd) chunkGrad(w *chunkWork, g *ssdGrads, start, dState []float32, row, n, run, h int) {
	s.pairs(w, row, n, h)
	xo, bo, co := s.offsets(row, h)
	ld, ldy := s.Width(), s.H*s.P
	data := s.xbc.Data
	x, b, c := kernel.Operand{Data: data[xo:], Stride: ld}, kernel.Operand{Data: data[bo:], Stride: ld}, kernel.Operand{Data: data[co:], Stride: ld}
	dy := kernel.Operand{Data: s.y.Grad[row*ldy+h*s.P:], Stride: ldy}
	dx, db, dc := g.xbc[xo:], g.xbc[bo:], g.xbc[co:]
	dG, dDelta := w.dG[:n], w.dDelta[:n]
	clear(dG)
	clear(dDelta)

	// Through S': w.last weighs each token's write.
	kernel.GemmSeq(w.rows, s.N, x, kernel.Operand{Data: dState, Stride: s.P, Trans: true}, n, s.N, s.P, false) // X·dS'ᵀ (n, N)
	var dLast float32
	for i := range n {
		xds := w.rows[i*s.N:][:s.N]
		q := kernel.Dot(xds, b.Data[i*ld:])
		kernel.Axpy(db[i*ld:][:s.N], w.last[i], xds)
		dDelta[i] += q * w.last[i] / w.delta[i]
		dG[i] -= q * w.last[i]
		dLast += q * w.last[i]
	}
	s.scaledB(w, bo, n)
	kernel.GemmSeq(dx, ld, kernel.Operand{Data: w.rows, Stride: s.N}, kernel.Operand{Data: dState, Stride: s.P}, n, s.P, s.N, true)
	dG[n-1] += dLast + w.eg[n-1]*kernel.Dot(start, dState)
	kernel.Scale(dState, w.eg[n-1], dState)

	// Through the state before the chunk.
	kernel.GemmSeq(w.rows, s.N, dy, kernel.Operand{Data: start, Stride: s.P, Trans: true}, n, s.N, s.P, false) // dY·S₀ᵀ (n, N)
	for i := range n {
		dys, ci := w.rows[i*s.N:][:s.N], c.Data[i*ld:]
		kernel.Axpy(dc[i*ld:][:s.N], w.eg[i], dys)
		dG[i] += w.eg[i] * kernel.Dot(dys, ci)
		kernel.Scale(w.rows2[i*s.N:][:s.N], w.eg[i], ci)
	}
	kernel.GemmSeq(dState, s.P, kernel.Operand{Data: w.rows2, Stride: s.N, Trans: true}, dy, s.N, s.P, n, true)

	s.pairsGrad(w, x, b, c, dy, dx, db, dc, n)
	for i := range n {
		kernel.Axpy(dx[i*ld:][:s.P], s.d.Data[h], dy.Data[i*ldy:])
		g.dd[run*s.H+h] += kernel.Dot(dy.Data[i*ldy:][:s.P], x.Data[i*ld:])
	}
	s.ratesGrad(w, g, row, n, run, h)
}

// pairsGrad adds the gradients through M = C·Bᵀ ⊙ exp(G_t-G_s)·Δ_s.
func (s *ssd) pairsGrad(w *chunkWork, x, b, c, dy kernel.Operand, dx, db, dc []float32, n int) {
	ld := s.Width()
	kernel.GemmSeq(dx, ld, kernel.Operand{Data: w.m, Stride: n, Trans: true}, dy, n, s.P, n, true)
	xT := x
	xT.Trans = true
	kernel.GemmSeq(w.dm, n, dy, xT, n, n, s.P, false)
	for i := range n {
		dm, decay, cb := w.dm[i*n:][:n], w.decay[i*n:][:n], w.cb[i*n:][:n]
		kernel.Mul(dm, dm, decay) // dM ⊙ exp(G_t-G_s), zero above the diagonal
		kernel.Mul(w.tmp[:n], dm, cb)
		kernel.Add(w.dDelta[:n], w.tmp)
		kernel.Mul(w.tmp[:n], w.tmp, w.delta)
		w.dG[i] += kernel.Sum(w.tmp[:n])
		kernel.Axpy(w.dG[:n], -1, w.tmp)
		kernel.Mul(dm, dm, w.delta) // now the gradient of C·Bᵀ
	}
	dcb := kernel.Operand{Data: w.dm, Stride: n}
	kernel.GemmSeq(dc, ld, dcb, b, n, s.N, n, true)
	dcb.Trans = true
	kernel.GemmSeq(db, ld, dcb, c, n, s.N, n, true)
}

// ratesGrad turns the gradients of G and Δ into those of dt, dtBias and A. G_t sums A·Δ up to t, so its gradient sums from t on.
func (s *ssd) ratesGrad(w *chunkWork, g *ssdGrads, row, n, run, h int) {
	a := -float32(math.Exp(float64(s.aLog.Data[h])))
	var sum float32
	for i := n - 1; i >= 0; i-- {
		sum += w.dG[i]
		o := (row+i)*s.H + h
		g.da[run*s.H+h] += sum * w.delta[i]
		d := w.dDelta[i] + sum*a
		d *= 1 - float32(math.Exp(-float64(w.delta[i]))) // softplus' = 1 - exp(-softplus)
		g.dt[o] += d
		g.ddt[run*s.H+h] += d
	}
}
