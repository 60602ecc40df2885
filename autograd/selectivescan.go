package autograd

import (
	"math"
	"sync"

	"krait/kernel"
	"krait/tensor"
)

// ScanShape is the shape of a Mamba1 mixer's scan: G groups of P channels, each channel with N states. B comes as KB rows of N and C as
// KC rows of N; each serves G/KB or G/KC neighbouring groups.
type ScanShape struct{ G, P, N, KB, KC int }

// Dim returns the number of channels.
func (s ScanShape) Dim() int { return s.G * s.P }

// Rates returns -exp(aLog)·log₂e for aLog (Dim, N), in the scan's own order: (G, N, P), so that vector lanes run along channels.
func (s ScanShape) Rates(aLog []float32) []float32 {
	a := make([]float32, len(aLog))
	kernel.Exp(a, aLog)
	out := make([]float32, len(aLog))
	for c := range s.Dim() {
		g, i := c/s.P, c%s.P
		for n := range s.N {
			out[(g*s.N+n)*s.P+i] = -a[c*s.N+n] * math.Log2E
		}
	}
	return out
}

// scanChunk is the number of tokens between the states that a forward keeps for the gradient, which computes those in between again.
const scanChunk = 32

// SelectiveScan is the selective state-space model of Mamba (Gu and Dao 2023) for each channel c of group g and state n:
//
//	Δ_t = softplus(dt_t + dtBias),  S_t = exp(-exp(aLog)·Δ_t)·S_{t-1} + Δ_t·x_t·B_t,  y_t = Σ_n S_t·C_t + d·x_t
//
// x and dt (rows, Dim), b (rows, KB·N), c (rows, KC·N), dtBias and d (Dim), aLog (Dim, N), result (rows, Dim). rates is s.Rates(aLog), or nil to
// compute it here. Tokens are computed one after another, whatever run they came in, so a token's bits depend on the tokens before it alone.
func SelectiveScan(t *Tape, x, dt, b, c, dtBias, aLog, d *tensor.Tensor, rates []float32, shape ScanShape, runs []ScanRun) *tensor.Tensor {
	defer t.Stop(Scan, t.Start())
	if rates == nil {
		rates = shape.Rates(aLog.Data)
	}
	s := scans.Get().(*scan)
	s.ScanShape, s.x, s.dt, s.b, s.c, s.dtBias, s.aLog, s.d, s.a, s.runs = shape, x, dt, b, c, dtBias, aLog, d, rates, runs
	rows, dim := x.Rows(), shape.Dim()
	s.y = t.New(rows, dim, x, dt, b, c, dtBias, aLog, d)
	s.delta = t.Scratch(rows * dim)
	if tensor.Few(rows, 8*dim) {
		s.steps(0, rows)
	} else {
		tensor.Rows(rows, 8*dim, s.steps)
	}
	if !t.Recording(x, dt, b, c, dtBias, aLog, d) {
		y := s.y
		s.forward()
		s.forget()
		return y
	}
	s.starts = make([][]float32, len(runs))
	for i, r := range runs {
		s.starts[i] = t.Scratch((r.Len + scanChunk - 1) / scanChunk * dim * shape.N)
	}
	s.forward()
	t.Record(Scan, func() { s.backward(t) })
	return s.y
}

// scans keeps what inference needs for one layer at a time. One whose gradient is recorded is the tape's.
var scans = sync.Pool{New: func() any {
	s := new(scan)
	s.task = s.runTask
	return s
}}

// forget gives s back.
func (s *scan) forget() {
	*s = scan{task: s.task}
	scans.Put(s)
}

// steps sets Δ of rows lo to hi-1, and what x adds to their outputs beside the states.
func (s *scan) steps(lo, hi int) {
	dim := s.Dim()
	delta := s.delta[lo*dim : hi*dim]
	copy(delta, s.dt.Data[lo*dim:])
	for r := 0; r < len(delta); r += dim {
		kernel.Add(delta[r:r+dim], s.dtBias.Data)
	}
	kernel.Softplus(delta, delta)
	for r := lo; r < hi; r++ {
		kernel.Mul(s.y.Row(r), s.d.Data, s.x.Row(r))
	}
}

type scan struct {
	ScanShape
	x, dt, b, c, dtBias, aLog, d, y *tensor.Tensor
	delta                           []float32 // (rows, Dim): Δ
	a                               []float32 // (G, N, P): A·log₂e
	runs                            []ScanRun
	per, blocks                     int         // groups of a task, and tasks of a run
	task                            func(i int) // runTask
	starts                          [][]float32 // of each run: the state before each chunk (chunks, G, N, P), for the gradient
}

// scanWork is the number of states of a task: enough to be worth a hand-over to another core.
const scanWork = 1 << 13

func (s *scan) forward() {
	for _, r := range s.runs {
		if r.State != nil && r.certain() < r.Len && r.State.ahead == nil {
			r.State.ahead = make([]float32, len(r.State.S))
		}
	}
	per := max(1, min(s.G, scanWork/(s.N*s.P)))
	s.per, s.blocks = per, (s.G+per-1)/per
	if n := len(s.runs) * s.blocks; s.x.Rows()*s.Dim()*s.N < 1<<14 { // less than a hand-over costs
		for i := range n {
			s.runTask(i)
		}
	} else {
		kernel.Parallel(n, s.task)
	}
	for _, r := range s.runs {
		if r.State != nil {
			r.State.advance(s, r)
		}
	}
}

// runTask computes a run for a block of groups.
func (s *scan) runTask(i int) {
	r, lo := i/s.blocks, i%s.blocks*s.per
	buf := scratchPool.Get().(*[]float32)
	*buf = kernel.Grow(*buf, s.N*s.P)
	for g := lo; g < min(s.G, lo+s.per); g++ {
		s.runGroup(r, g, *buf)
	}
	scratchPool.Put(buf)
}

// scanSpan bounds the tokens that one call of the kernel takes, which can't be preempted.
const scanSpan = 256

// runGroup computes a run for group g. The log's committed tokens move into the state, and so do the run's that are sure; what is provisional
// goes on in a state of its own, where it will be found if all of it is kept.
func (s *scan) runGroup(run, g int, own []float32) {
	r := s.runs[run]
	if r.State == nil {
		clear(own)
		s.advance(own, run, 0, r.Len, g)
		return
	}
	log, size := r.State, s.N*s.P
	state := log.S[g*size:][:size]
	s.replay(state, log, 0, log.kept, g)
	sure := r.certain()
	s.advance(state, run, 0, sure, g)
	if sure < r.Len {
		ahead := log.ahead[g*size:][:size]
		if !log.isAhead {
			copy(ahead, state)
			s.replay(ahead, log, log.kept, log.len, g)
		}
		s.advance(ahead, run, sure, r.Len, g)
	}
}

// advance advances the state (N, P) of group g by rows from to to-1 of a run.
func (s *scan) advance(state []float32, run, from, to, g int) {
	span := scanSpan
	if s.starts != nil {
		span = scanChunk
	}
	for t := from; t < to; t += span {
		if s.starts != nil {
			copy(s.starts[run][(t/scanChunk*s.G+g)*len(state):], state)
		}
		s.tokens(state, s.runs[run].Start+t, min(span, to-t), g)
	}
}

// tokens advances the state (N, P) of group g by rows row to row+n-1 of the batch.
func (s *scan) tokens(state []float32, row, n, g int) {
	o, dim := row*s.Dim()+g*s.P, s.Dim()
	kernel.ScanStep(s.y.Data[o:], dim, state, s.a[g*len(state):], s.delta[o:], dim, s.x.Data[o:], dim, s.b.Data[s.bAt(row, g):], s.KB*s.N,
		s.c.Data[s.cAt(row, g):], s.KC*s.N, s.P, s.N, n, n, 0)
}

// replay advances the state (N, P) of group g by entries from to to-1 of a log.
func (s *scan) replay(state []float32, log *ScanState, from, to, g int) {
	if n := to - from; n > 0 {
		o, dim := from*s.Dim()+g*s.P, s.Dim()
		kernel.ScanStep(nil, 0, state, s.a[g*len(state):], log.delta[o:], dim, log.x[o:], dim, log.b[s.bAt(from, g):], s.KB*s.N, nil, 0, s.P, s.N, n, n, n)
	}
}

// bAt and cAt return where row's B and C of group g begin.
func (s *scan) bAt(row, g int) int { return (row*s.KB + g/(s.G/s.KB)) * s.N }
func (s *scan) cAt(row, g int) int { return (row*s.KC + g/(s.G/s.KC)) * s.N }
