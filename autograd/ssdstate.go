package autograd

import "krait/kernel"

// SSDState is the recurrent state of one sequence in one Mamba2 layer: the state S after Pos tokens, and a log of the inputs of the
// tokens since. The first kept entries of the log are committed: the next step replays them into S while it has S in registers (the
// paper's Algorithm 2). The others are provisional: a rollback shortens the log and touches no state.
type SSDState struct {
	Pos              int
	S                []float32 // (H, N, P)
	width, heads     int
	xbc, delta, rate []float32 // the log: (len, width), (len, H), (len, H) with rate = exp(A·Δ)
	len, kept        int
}

// NewSSDState returns the state of an empty sequence.
func NewSSDState(s SSDShape) *SSDState {
	return &SSDState{S: make([]float32, s.H*s.N*s.P), width: s.Width(), heads: s.H}
}

// Keep commits the first n provisional tokens and forgets the rest.
func (s *SSDState) Keep(n int) { s.len, s.kept = n, n }

// Rewind forgets the last n provisional tokens.
func (s *SSDState) Rewind(n int) { s.len -= n }

// Clone returns a copy that shares nothing.
func (s *SSDState) Clone() *SSDState {
	c := *s
	c.S = append([]float32(nil), s.S...)
	c.xbc = append([]float32(nil), s.xbc[:s.len*s.width]...)
	c.delta = append([]float32(nil), s.delta[:s.len*s.heads]...)
	c.rate = append([]float32(nil), s.rate[:s.len*s.heads]...)
	return &c
}

// LogBytes returns the memory of the log.
func (s *SSDState) LogBytes() int { return 4 * s.len * (s.width + 2*s.heads) }

// Bytes returns the memory of the state proper, without the log.
func (s *SSDState) Bytes() int { return 4 * len(s.S) }

// ssdPlan cuts a continued run: first tokens go token by token after the log, then chunks whole chunks of the grid of absolute positions
// as matrix products, then tail tokens token by token. Where a token falls depends on its position and on the run, and a
// provisional run has no chunks, so that verifying a draft is the arithmetic of decoding.
type ssdPlan struct{ first, chunks, tail int }

func (s *ssd) plan(r SSDRun) ssdPlan {
	l := s.Chunk()
	toGrid := (l - (r.State.Pos+r.State.len)%l) % l
	if r.Provisional || r.Len < toGrid+l {
		return ssdPlan{first: r.Len}
	}
	rest := r.Len - toGrid
	return ssdPlan{first: toGrid, chunks: rest / l, tail: rest % l}
}

// append adds n rows from row on to the log.
func (s *SSDState) append(b *ssd, row, n int) {
	w, h := s.width, s.heads
	s.xbc = append(s.xbc[:s.len*w], b.xbc.Data[row*w:][:n*w]...)
	s.delta = append(s.delta[:s.len*h], b.delta[row*h:][:n*h]...)
	s.rate = append(s.rate[:s.len*h], b.rate[row*h:][:n*h]...)
	s.len += n
}

// continued computes head h of a run that goes on from a state. The log holds the first tokens already.
func (b *ssd) continued(r SSDRun, plan ssdPlan, h int) {
	s := r.State
	state := s.S[h*b.N*b.P:][:b.N*b.P]
	write := s.kept
	if plan.chunks > 0 {
		write = s.len
	}
	b.steps(r.Start, state, s.xbc, s.delta, s.rate, h, s.len, write, s.len-plan.first)
	if plan.chunks == 0 {
		return
	}
	row := r.Start + plan.first
	w := b.newChunk()
	for range plan.chunks {
		b.chunk(w, state, row, b.Chunk(), h)
		row += b.Chunk()
	}
	w.free()
	b.steps(row, state, b.xbc.Data[row*b.Width():], b.delta[row*b.H:], b.rate[row*b.H:], h, plan.tail, 0, 0)
}

// steps runs tokens tokens, given as rows of xbc, delta and rate, through the state of head h; see kernel.SSDStep for write and quiet.
// The outputs go to rows of y from row on.
func (b *ssd) steps(row int, state, xbc, delta, rate []float32, h, tokens, write, quiet int) {
	if tokens == 0 {
		return
	}
	xo, bo, co := b.offsets(0, h)
	ld, ldy := b.Width(), b.H*b.P
	y := b.y.Data[row*ldy+h*b.P:]
	if quiet > 0 {
		// Outputs start at token quiet; the kernel counts rows of y from token 0.
		buf := scratchPool.Get().(*[]float32)
		*buf = kernel.Grow(*buf, tokens*b.P)
		tmp := *buf
		kernel.SSDStep(tmp, b.P, state, rate[h:], delta[h:], b.H, xbc[xo:], ld, xbc[bo:], ld, xbc[co:], ld, b.P, b.N, tokens, write, quiet)
		for t := quiet; t < tokens; t++ {
			copy(y[(t-quiet)*ldy:][:b.P], tmp[t*b.P:])
		}
		scratchPool.Put(buf)
	} else {
		kernel.SSDStep(y, ldy, state, rate[h:], delta[h:], b.H, xbc[xo:], ld, xbc[bo:], ld, xbc[co:], ld, b.P, b.N, tokens, write, quiet)
	}
	for t := quiet; t < tokens; t++ {
		kernel.Axpy(y[(t-quiet)*ldy:][:b.P], b.d.Data[h], xbc[xo+t*ld:])
	}
}

// advance ends a step: what was replayed leaves the log, the new tokens are committed unless they are provisional.
func (s *SSDState) advance(b *ssd, r SSDRun, plan ssdPlan) {
	if plan.chunks > 0 {
		row := r.Start + r.Len - plan.tail
		s.Pos += s.len + plan.chunks*b.Chunk()
		s.len = 0
		s.append(b, row, plan.tail)
	} else {
		s.Pos += s.kept
		s.len -= s.kept
		copy(s.xbc, s.xbc[s.kept*s.width:][:s.len*s.width])
		copy(s.delta, s.delta[s.kept*s.heads:][:s.len*s.heads])
		copy(s.rate, s.rate[s.kept*s.heads:][:s.len*s.heads])
	}
	s.kept = s.len
	if r.Provisional {
		s.kept = 0
	}
}
