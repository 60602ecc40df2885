package autograd

import (
	"math"
	"sync"

	"krait/kernel"
	"krait/tensor"
)

// SSDShape is the shape of a Mamba2 mixer's heads: H heads with a state of (P × N) each; x and B come at the width of K key-value heads
// and each serves H/K heads. A row of the mixer's xBC is [x (K·P), B (K·N), C (H·N)].
type SSDShape struct{ H, K, P, N int }

// Width returns the number of columns of xBC.
func (s SSDShape) Width() int { return s.K*s.P + s.K*s.N + s.H*s.N }

// Chunk returns the length of the pieces in which a run without a state is computed as matrix products: the pairwise
// work of a token grows with the chunk, the work on the state falls, and they meet near the head's width.
func (s SSDShape) Chunk() int { return min(128, max(16, (s.P+15)/16*16)) }

// SSDRun is one sequence's rows in a batch: Len rows from row Start on. State is the sequence's recurrent state; nil is a fresh sequence
// that nobody continues. Provisional rows may be forgotten later.
type SSDRun struct {
	Start, Len  int
	State       *SSDState
	Provisional bool
}

// SSD is the selective state-space model of Mamba2 (Dao and Gu 2024) for each head h with key-value head g = h/(H/K):
//
//	Δ_t = softplus(dt_t + dtBias),  S_t = exp(-exp(aLog)·Δ_t)·S_{t-1} + Δ_t·x_t·B_tᵀ,  y_t = S_t·C_t + d·x_t
//
// xbc (rows, Width), dt (rows, H), dtBias, aLog and d (H), result (rows, H·P). A run without a state, whose gradient may be wanted, is computed
// by matrix products, chunk by chunk; a run with one token by token, so that a token's bits don't depend on how a sequence was cut.
func SSD(t *Tape, xbc, dt, dtBias, aLog, d *tensor.Tensor, shape SSDShape, runs []SSDRun) *tensor.Tensor {
	defer t.Stop(Scan, t.Start())
	s := ssds.Get().(*ssd)
	s.SSDShape, s.group, s.xbc, s.dt, s.dtBias, s.aLog, s.d, s.runs = shape, shape.H/shape.K, xbc, dt, dtBias, aLog, d, runs
	rows := xbc.Rows()
	s.y = t.New(rows, shape.H*shape.P, xbc, dt, dtBias, aLog, d)
	s.delta, s.lam = t.Scratch(rows*shape.H), t.Scratch(rows*shape.H)
	s.rates(t.Scratch(shape.H))
	for _, r := range runs {
		if r.State != nil {
			s.rate = t.Scratch(rows * shape.H)
			kernel.Exp(s.rate, s.lam)
			break
		}
	}
	if !t.Recording(xbc, dt, dtBias, aLog, d) {
		y := s.y
		s.forward()
		s.forget()
		return y
	}
	s.starts = make([][]float32, len(runs))
	for i, r := range runs {
		s.starts[i] = t.Scratch(s.chunks(r.Len) * shape.H * shape.N * shape.P)
	}
	s.forward()
	t.Record(Scan, func() { s.backward(t) })
	return s.y
}

// ssds keeps what inference needs for one layer at a time. One whose gradient is recorded is the tape's.
var ssds = sync.Pool{New: func() any {
	s := new(ssd)
	s.heads = func(i int) { s.runHeads(i/s.K, i%s.K) }
	return s
}}

// forget gives s back.
func (s *ssd) forget() {
	*s = ssd{plans: s.plans[:0], heads: s.heads}
	ssds.Put(s)
}

type ssd struct {
	SSDShape
	group                       int
	xbc, dt, dtBias, aLog, d, y *tensor.Tensor
	delta, lam                  []float32   // (rows, H): Δ and A·Δ
	rate                        []float32   // (rows, H): exp(A·Δ), for the token-by-token form
	runs                        []SSDRun    //
	plans                       []ssdPlan   // of each run with a state
	heads                       func(i int) // computes a run for a key-value head
	starts                      [][]float32 // of each run: the state before each chunk (chunks, H, N, P), for the gradient
}

func (s *ssd) chunks(tokens int) int { return (tokens + s.Chunk() - 1) / s.Chunk() }

// rates sets Δ and A·Δ, in float32 as the method demands, and a (H) to A.
func (s *ssd) rates(a []float32) {
	h := s.H
	for i, v := range s.aLog.Data {
		a[i] = -float32(math.Exp(float64(v)))
	}
	rows := s.dt.Rows()
	if tensor.Few(rows, 8*h) {
		s.ratesOf(a, 0, rows)
	} else {
		tensor.Rows(rows, 8*h, func(lo, hi int) { s.ratesOf(a, lo, hi) })
	}
}

// ratesOf is rates for rows lo to hi-1; a (H) is A.
func (s *ssd) ratesOf(a []float32, lo, hi int) {
	h := s.H
	delta, lam := s.delta[lo*h:hi*h], s.lam[lo*h:hi*h]
	copy(delta, s.dt.Data[lo*h:])
	for r := 0; r < len(delta); r += h {
		kernel.Add(delta[r:r+h], s.dtBias.Data)
	}
	kernel.Softplus(delta, delta)
	for r := 0; r < len(delta); r += h {
		kernel.Mul(lam[r:r+h], delta[r:r+h], a)
	}
}

// offsets returns where row's x, B and C of head h begin in xbc.
func (s *ssd) offsets(row, h int) (x, b, c int) {
	o, g := row*s.Width(), h/s.group
	return o + g*s.P, o + s.K*s.P + g*s.N, o + s.K*(s.P+s.N) + h*s.N
}

func (s *ssd) forward() {
	s.plans = s.plans[:0]
	for _, r := range s.runs {
		var plan ssdPlan
		if r.State != nil {
			plan = r.plan()
			r.State.append(s, r.Start+plan.direct, r.Len-plan.direct)
		}
		s.plans = append(s.plans, plan)
	}
	work := s.xbc.Rows() * s.H * s.N * s.P
	if work < 1<<15 { // less than a hand-over to another core costs
		for i := range s.runs {
			for g := range s.K {
				s.runHeads(i, g)
			}
		}
	} else {
		kernel.Parallel(len(s.runs)*s.K, s.heads)
	}
	for i, r := range s.runs {
		if r.State != nil {
			r.State.advance(s, r, s.plans[i])
		}
	}
}

// runHeads computes a run for the heads of key-value head g.
func (s *ssd) runHeads(run, g int) {
	r := s.runs[run]
	for h := g * s.group; h < (g+1)*s.group; h++ {
		if r.State != nil {
			s.continued(r, s.plans[run], h)
			continue
		}
		w := s.newChunk()
		state := make([]float32, s.N*s.P)
		for i := range s.chunks(r.Len) {
			if s.starts != nil {
				copy(s.starts[run][(i*s.H+h)*s.N*s.P:], state)
			}
			lo := i * s.Chunk()
			s.chunk(w, state, r.Start+lo, min(s.Chunk(), r.Len-lo), h)
		}
		w.free()
	}
}

// chunkWork is the memory for one chunk of one head.
type chunkWork struct {
	pooled          *[]float32
	negG, eg, last  []float32 // (L): -G, exp(G), exp(G_last-G)·Δ with G the running sum of A·Δ
	delta           []float32 // (L)
	cb, m           []float32 // (L, L): C·Bᵀ; and that ⊙ exp(G_t-G_s)·Δ_s for s ≤ t
	decay, dm       []float32 // (L, L): exp(G_t-G_s), for the gradient
	rows, rows2     []float32 // (L, max(N,P)): scaled rows
	dG, dDelta, tmp []float32 // (L)
}

func (s *ssd) newChunk() *chunkWork {
	l, wide := s.Chunk(), max(s.N, s.P)
	w := &chunkWork{pooled: scratchPool.Get().(*[]float32)}
	buf := kernel.Grow(*w.pooled, 7*l+4*l*l+2*l*wide)
	*w.pooled = buf
	take := func(n int) []float32 { x := buf[:n:n]; buf = buf[n:]; return x }
	w.negG, w.eg, w.last, w.delta = take(l), take(l), take(l), take(l)
	w.dG, w.dDelta, w.tmp = take(l), take(l), take(l)
	w.cb, w.m, w.decay, w.dm = take(l*l), take(l*l), take(l*l), take(l*l)
	w.rows, w.rows2 = take(l*wide), take(l*wide)
	return w
}

func (w *chunkWork) free() { scratchPool.Put(w.pooled) }

// pairs fills w for n tokens from row on of head h: decays, C·Bᵀ and M.
func (s *ssd) pairs(w *chunkWork, row, n, h int) {
	var g float32
	for i := range n {
		o := (row+i)*s.H + h
		g += s.lam[o]
		w.negG[i], w.delta[i] = -g, s.delta[o]
	}
	for i := range n {
		w.tmp[i] = -w.negG[i]
	}
	kernel.Exp(w.eg[:n], w.tmp)
	kernel.ExpSum(w.last[:n], w.negG[:n], -g)
	kernel.Mul(w.last[:n], w.last, w.delta)
	_, b, c := s.offsets(row, h)
	ld := s.Width()
	kernel.GemmSeq(w.cb, n, kernel.Operand{Data: s.xbc.Data[c:], Stride: ld}, kernel.Operand{Data: s.xbc.Data[b:], Stride: ld, Trans: true}, n, n, s.N, false)
	for i := range n {
		decay, m := w.decay[i*n:][:n], w.m[i*n:][:n]
		kernel.ExpSum(decay[:i+1], w.negG[:i+1], w.negG[i])
		clear(decay[i+1:])
		kernel.Mul(m, decay, w.delta)
		kernel.Mul(m, m, w.cb[i*n:])
	}
}

// chunk computes n tokens from row on of head h and leaves in state (N, P) the state after them.
func (s *ssd) chunk(w *chunkWork, state []float32, row, n, h int) {
	s.pairs(w, row, n, h)
	xo, bo, co := s.offsets(row, h)
	ld, ldy := s.Width(), s.H*s.P
	x := kernel.Operand{Data: s.xbc.Data[xo:], Stride: ld}
	y := s.y.Data[row*ldy+h*s.P:]
	kernel.GemmSeq(y, ldy, kernel.Operand{Data: w.m, Stride: n}, x, n, s.P, n, false)
	for i := range n {
		kernel.Scale(w.rows[i*s.N:][:s.N], w.eg[i], s.xbc.Data[co+i*ld:])
	}
	kernel.GemmSeq(y, ldy, kernel.Operand{Data: w.rows, Stride: s.N}, kernel.Operand{Data: state, Stride: s.P}, n, s.P, s.N, true)
	for i := range n {
		kernel.Axpy(y[i*ldy:][:s.P], s.d.Data[h], x.Data[i*ld:])
	}
	s.scaledB(w, bo, n)
	kernel.Scale(state, w.eg[n-1], state)
	kernel.GemmSeq(state, s.P, kernel.Operand{Data: w.rows, Stride: s.N, Trans: true}, x, s.N, s.P, n, true)
}

// scaledB sets w.rows to the rows of B times their weight in the state after the chunk.
func (s *ssd) scaledB(w *chunkWork, bo, n int) {
	for i := range n {
		kernel.Scale(w.rows[i*s.N:][:s.N], w.last[i], s.xbc.Data[bo+i*s.Width():])
	}
}
