package autograd

// ScanRun is one sequence's rows in a batch: Len rows from row Start on. State is the sequence's recurrent state; nil is a fresh sequence that
// nobody continues. Provisional rows may be forgotten later.
type ScanRun struct {
	Start, Len  int
	State       *ScanState
	Provisional bool
}

// certain returns how many of the run's rows will certainly be kept.
func (r ScanRun) certain() int { return r.State.certain(r.Len, r.Provisional) }

// ScanState is the recurrent state of one sequence in one Mamba1 layer, and a log of the inputs of the tokens since, as in SSDState: the first
// kept entries are committed and move into S with the next step, the others are provisional, and a rollback shortens the log.
//
// A replayed token costs an exponential for each number of the state, as it did the first time. So what can be foreseen is not replayed: tokens
// that are sure move into S at once, and the state after the provisional ones is kept beside S, whose place it takes if all of them stay.
type ScanState struct {
	replayLog
	S           []float32 // (G, N, P)
	ahead       []float32 // (G, N, P), or nil
	isAhead     bool      // ahead is the state after the whole log
	x, delta, b []float32 // the log: (len, Dim), (len, Dim), (len, KB·N)
}

// NewScanState returns the state of an empty sequence.
func NewScanState(s ScanShape) *ScanState { return &ScanState{S: make([]float32, s.Dim()*s.N)} }

// Keep commits the first n tokens since Mark, those that are sure among them, and forgets the rest.
func (s *ScanState) Keep(n int) {
	n -= s.sure
	s.due, s.sure = 0, 0
	if s.isAhead && n == s.len {
		s.S, s.ahead = s.ahead, s.S
		n = 0
	}
	s.len, s.kept, s.isAhead = n, n, false
}

// Rewind forgets the last n provisional tokens.
func (s *ScanState) Rewind(n int) { s.len, s.isAhead = s.len-n, false }

// Clone returns a copy that shares nothing.
func (s *ScanState) Clone() *ScanState {
	c := *s
	c.S, c.ahead, c.isAhead = append([]float32(nil), s.S...), nil, false
	c.x, c.delta, c.b = append([]float32(nil), s.x...), append([]float32(nil), s.delta...), append([]float32(nil), s.b...)
	return &c
}

// LogBytes returns the memory of the log and of the state after it.
func (s *ScanState) LogBytes() int { return 4 * (len(s.x) + len(s.delta) + len(s.b) + len(s.ahead)) }

// Bytes returns the memory of the state proper, without the log.
func (s *ScanState) Bytes() int { return 4 * len(s.S) }

// advance ends a step: what was committed leaves the log, new tokens enter it if they are provisional.
func (s *ScanState) advance(b *scan, r ScanRun) {
	dim, width, sure := b.Dim(), b.KB*b.N, r.certain()
	if !r.Provisional { // then the whole log was committed
		s.len, s.kept, s.isAhead = 0, 0, false
		return
	}
	s.due -= sure
	s.sure += sure
	s.x = append(s.x[:0], s.x[s.kept*dim:s.len*dim]...)
	s.delta = append(s.delta[:0], s.delta[s.kept*dim:s.len*dim]...)
	s.b = append(s.b[:0], s.b[s.kept*width:s.len*width]...)
	row, n := r.Start+sure, r.Len-sure
	s.x = append(s.x, b.x.Data[row*dim:][:n*dim]...)
	s.delta = append(s.delta, b.delta[row*dim:][:n*dim]...)
	s.b = append(s.b, b.b.Data[row*width:][:n*width]...)
	s.len += n - s.kept
	s.kept, s.isAhead = 0, s.isAhead && s.len > 0 || n > 0
}
