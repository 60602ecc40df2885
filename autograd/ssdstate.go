package autograd

import "krait/kernel"

// replayLog counts the tokens of a recurrent state's log, and those of a transaction that need no log because they will certainly be kept.
type replayLog struct {
	len, kept int
	due, sure int // tokens since Mark that are sure: still to come, and in the state
}

// Mark begins a transaction whose first tokens, so many, will certainly be kept.
func (l *replayLog) Mark(sure int) { l.due, l.sure = sure, 0 }

// certain returns how many of a run's n tokens will certainly be kept.
func (l *replayLog) certain(n int, provisional bool) int {
	if !provisional {
		return n
	}
	return min(l.due, n)
}

// SSDState is the recurrent state of one sequence in one Mamba2 layer: the state S, and a log of the inputs of the
// tokens since. The first kept entries of the log are committed: the next step replays them into S while it has S in registers (the
// paper's Algorithm 2). The others are provisional: a rollback shortens the log and touches no state. Tokens that will certainly be kept
// move into S at once.
type SSDState struct {
	replayLog
	S                []float32 // (H, N, P)
	width, heads     int
	xbc, delta, rate []float32 // the log: (len, width), (len, H), (len, H) with rate = exp(A·Δ)
}

// NewSSDState returns the state of an empty sequence.
func NewSSDState(s SSDShape) *SSDState {
	return &SSDState{S: make([]float32, s.H*s.N*s.P), width: s.Width(), heads: s.H}
}

// Keep commits the first n tokens since Mark, those that are sure among them, and forgets the rest.
func (s *SSDState) Keep(n int) {
	n -= s.sure
	s.len, s.kept, s.due, s.sure = n, n, 0, 0
}

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

// ssdPiece bounds the tokens of a long run that are computed together for a head: their rows and the state fit in the first-level cache.
const ssdPiece = 32

// ssdPlan says how a run goes on from a state: the first direct tokens move into the state from their rows, after the log's committed ones;
// the rest enters the log, whose first write entries move into the state.
type ssdPlan struct{ direct, write int }

func (r SSDRun) plan() ssdPlan {
	s, n := r.State, r.State.certain(r.Len, r.Provisional)
	if n == r.Len && s.len == 0 || n > ssdPiece {
		return ssdPlan{direct: n, write: s.kept}
	}
	return ssdPlan{write: s.kept + n}
}

// append adds n rows from row on to the log.
func (s *SSDState) append(b *ssd, row, n int) {
	w, h := s.width, s.heads
	s.xbc = append(s.xbc[:s.len*w], b.xbc.Data[row*w:][:n*w]...)
	s.delta = append(s.delta[:s.len*h], b.delta[row*h:][:n*h]...)
	s.rate = append(s.rate[:s.len*h], b.rate[row*h:][:n*h]...)
	s.len += n
}

// continued computes head h of a run that goes on from a state. What is not direct is in the log already.
func (b *ssd) continued(r SSDRun, plan ssdPlan, h int) {
	s := r.State
	state := s.S[h*b.N*b.P:][:b.N*b.P]
	from, rest := 0, r.Len-plan.direct
	if plan.direct > 0 {
		b.steps(0, state, s.xbc, s.delta, s.rate, h, plan.write, plan.write, plan.write)
		for lo := 0; lo < plan.direct; lo += ssdPiece {
			row, n := r.Start+lo, min(ssdPiece, plan.direct-lo)
			b.steps(row, state, b.xbc.Data[row*b.Width():], b.delta[row*b.H:], b.rate[row*b.H:], h, n, n, 0)
		}
		from = plan.write
	}
	b.steps(r.Start+plan.direct, state, s.xbc[from*s.width:], s.delta[from*s.heads:], s.rate[from*s.heads:], h, s.len-from, plan.write-from, s.len-rest-from)
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

// advance ends a step: what has moved into the state leaves the log.
func (s *SSDState) advance(b *ssd, r SSDRun, plan ssdPlan) {
	n := s.certain(r.Len, r.Provisional)
	if r.Provisional {
		s.due -= n
		s.sure += n
	}
	s.len -= plan.write
	s.kept = 0
	copy(s.xbc, s.xbc[plan.write*s.width:][:s.len*s.width])
	copy(s.delta, s.delta[plan.write*s.heads:][:s.len*s.heads])
	copy(s.rate, s.rate[plan.write*s.heads:][:s.len*s.heads])
}
