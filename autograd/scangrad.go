package autograd

import (
	"math"

	"krait/kernel"
)

// scanGrads is where the gradients go: those of dt, dtBias, aLog and d by run, summed over runs in order at the end.
type scanGrads struct {
	x, dt, b, c   []float32
	da, dd, ddelt []float32 // (runs, G, N, P), (runs, Dim) twice
}

// backward adds the gradients, one task for each run and each range of groups that share a row of B, so that no two tasks write to the
// same place.
func (s *scan) backward(t *Tape) {
	dim, runs := s.Dim(), len(s.runs)
	rates := s.a
	s.a = t.Scratch(len(rates)) // A itself from here on
	kernel.Scale(s.a, math.Ln2, rates)
	g := &scanGrads{x: t.gradOrScratch(s.x), dt: t.gradOrScratch(s.dt), b: t.gradOrScratch(s.b), c: t.gradOrScratch(s.c),
		da: make([]float32, runs*dim*s.N), dd: make([]float32, runs*dim), ddelt: make([]float32, runs*dim)}
	shared := min(s.KB, s.KC) // the wider of the two ranges holds whole ranges of the other
	kernel.Parallel(runs*shared, func(i int) {
		size := s.N * s.P
		w := &scanGradWork{states: make([]float32, (scanChunk+1)*size), decays: make([]float32, scanChunk*size), dState: make([]float32, size),
			dx: make([]float32, s.P), q: make([]float32, s.P), dDelta: make([]float32, s.P)}
		per := s.G / shared
		for group := i % shared * per; group < (i%shared+1)*per; group++ {
			s.groupGrad(g, w, i/shared, group)
		}
	})
	for i := range runs {
		if s.d.Grad != nil {
			kernel.Add(s.d.Grad, g.dd[i*dim:][:dim])
		}
		if s.dtBias.Grad != nil {
			kernel.Add(s.dtBias.Grad, g.ddelt[i*dim:][:dim])
		}
		if s.aLog.Grad == nil {
			continue
		}
		for c := range dim {
			for n := range s.N {
				o := (c/s.P*s.N+n)*s.P + c%s.P
				s.aLog.Grad[c*s.N+n] += g.da[i*dim*s.N+o] * s.a[o] // A = -exp(aLog)
			}
		}
	}
}

// scanGradWork is a task's memory: the states before and after each token of a chunk (scanChunk+1, N, P), the decays (scanChunk, N, P), the
// gradient of the state (N, P), Δ·x, its gradient and that of Δ through the decay (P).
type scanGradWork struct{ states, decays, dState, dx, q, dDelta []float32 }

// groupGrad walks a run's chunks backwards for group g, carrying the gradient of the state.
func (s *scan) groupGrad(out *scanGrads, w *scanGradWork, run, g int) {
	r, size := s.runs[run], s.N*s.P
	a := s.a[g*size:][:size]
	clear(w.dState)
	for chunk := (r.Len - 1) / scanChunk; chunk >= 0; chunk-- {
		lo := chunk * scanChunk
		n := min(scanChunk, r.Len-lo)
		copy(w.states, s.starts[run][(chunk*s.G+g)*size:][:size])
		for t := range n {
			after := w.states[(t+1)*size:][:size]
			copy(after, w.states[t*size:][:size])
			s.token(after, a, w.decays[t*size:][:size], w.dx, s.row(r.Start+lo+t, g))
		}
		for t := n - 1; t >= 0; t-- {
			s.tokenGrad(out, w, run, r.Start+lo+t, t, g)
		}
	}
}

// scanRow is what one token brings to a group: Δ, x and D (P), B and C (N).
type scanRow struct{ delta, x, b, c, d []float32 }

// row returns what row row of the batch brings to group g.
func (s *scan) row(row, g int) scanRow {
	o, p := row*s.Dim()+g*s.P, s.P
	return scanRow{s.delta[o:][:p], s.x.Data[o:][:p], s.b.Data[s.bAt(row, g):][:s.N], s.c.Data[s.cAt(row, g):][:s.N], s.d.Data[g*p:][:p]}
}

// token advances the state (N, P) of a group by one token, much as kernel.ScanStep does. decay (N, P) is left as exp(A·Δ), dx (P)
// as Δ·x.
func (s *scan) token(state, a, decay, dx []float32, r scanRow) {
	p := s.P
	for n := range s.N {
		kernel.Mul(decay[n*p:][:p], a[n*p:], r.delta)
	}
	kernel.Exp(decay, decay)
	kernel.Mul(dx, r.delta, r.x)
	for n, b := range r.b {
		sn := state[n*p:][:p]
		kernel.Mul(sn, sn, decay[n*p:])
		kernel.Axpy(sn, b, dx)
	}
}

// tokenGrad adds the gradients of token t of a chunk, which is row row. w.dState holds the gradient of the state after it and receives that of
// the state before.
func (s *scan) tokenGrad(out *scanGrads, w *scanGradWork, run, row, t, g int) {
	p, size, dim := s.P, s.N*s.P, s.Dim()
	before, after, decay := w.states[t*size:][:size], w.states[(t+1)*size:][:size], w.decays[t*size:][:size]
	in, o, a := s.row(row, g), row*dim+g*p, s.a[g*size:][:size]
	dy := s.y.Grad[o:][:p]
	db, dc := out.b[s.bAt(row, g):][:s.N], out.c[s.cAt(row, g):][:s.N]
	da := out.da[(run*s.G+g)*size:][:size]
	kernel.Mul(w.dx, in.delta, in.x)
	clear(w.q)
	clear(w.dDelta)
	for n := range s.N {
		k := n * p
		ds := w.dState[k:][:p]
		dc[n] += kernel.Dot(dy, after[k:][:p])
		kernel.Axpy(ds, in.c[n], dy)
		db[n] += kernel.Dot(ds, w.dx)
		kernel.Axpy(w.q, in.b[n], ds)
		for i := range ds {
			e := ds[i] * decay[k+i]
			v := e * before[k+i]
			da[k+i] += v * in.delta[i]
			w.dDelta[i] += v * a[k+i]
			ds[i] = e
		}
	}
	dd, ddelt := out.dd[run*dim+g*p:][:p], out.ddelt[run*dim+g*p:][:p]
	for i, q := range w.q { // q is the gradient of Δ·x
		out.x[o+i] += in.d[i]*dy[i] + q*in.delta[i]
		dd[i] += dy[i] * in.x[i]
		v := (w.dDelta[i] + q*in.x[i]) * (1 - float32(math.Exp(-float64(in.delta[i])))) // softplus' = 1 - exp(-softplus)
		out.dt[o+i] += v
		ddelt[i] += v
	}
}
