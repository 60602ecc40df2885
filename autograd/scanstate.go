package autograd

// ScanRun is one sequence's rows in a batch: Len rows from row Start on. State is the sequence's recurrent state; nil is a fresh sequence that
// nobody continues. Provisional rows may be forgotten later.
type ScanRun struct {
	Start, Len  int
	State       *ScanState
	Provisional bool
}

// ScanState is the recurrent state of one sequence in one Mamba1 layer, and a log of the inputs of the tokens since, as in SSDState: the first
// kept entries are committed and move into S with the next step, the others are provisional, and a rollback shortens the log.
type ScanState struct {
	S           []float32 // (G, N, P)
	x, delta, b []float32 // the log: (len, Dim), (len, Dim), (len, KB·N)
	len, kept   int
}

// NewScanState returns the state of an empty sequence.
func NewScanState(s ScanShape) *ScanState { return &ScanState{S: make([]float32, s.Dim()*s.N)} }

// Keep commits the first n provisional tokens and forgets the rest.
func (s *ScanState) Keep(n int) { s.len, s.kept = n, n }

// Rewind forgets the last n provisional tokens.
func (s *ScanState) Rewind(n int) { s.len -= n }

// Clone returns a copy that shares nothing.
func (s *ScanState) Clone() *ScanState {
	c := *s
	c.S = append([]float32(nil), s.S...)
	c.x, c.delta, c.b = append([]float32(nil), s.x...), append([]float32(nil), s.delta...), append([]float32(nil), s.b...)
	return &c
}

// LogBytes returns the memory of the log.
func (s *ScanState) LogBytes() int { return 4 * (len(s.x) + len(s.delta) + len(s.b)) }

// Bytes returns the memory of the state proper, without the log.
func (s *ScanState) Bytes() int { return 4 * len(s.S) }

// row returns what entry i of the log brings to group g; nobody wants its output again.
func (s *ScanState) row(b *scan, i, g int) scanRow {
	o := i*b.Dim() + g*b.P
	return scanRow{delta: s.delta[o:][:b.P], x: s.x[o:][:b.P], b: s.b[b.bAt(i, g):][:b.N]}
}

// advance ends a step: what was committed leaves the log, new tokens enter it if they are provisional.
func (s *ScanState) advance(b *scan, r ScanRun) {
	dim, width := b.Dim(), b.KB*b.N
	if !r.Provisional { // then the whole log was committed
		s.len, s.kept = 0, 0
		return
	}
	s.x = append(s.x[:0], s.x[s.kept*dim:s.len*dim]...)
	s.delta = append(s.delta[:0], s.delta[s.kept*dim:s.len*dim]...)
	s.b = append(s.b[:0], s.b[s.kept*width:s.len*width]...)
	s.x = append(s.x, b.x.Data[r.Start*dim:][:r.Len*dim]...)
	s.delta = append(s.delta, b.delta[r.Start*dim:][:r.Len*dim]...)
	s.b = append(s.b, b.b.Data[r.Start*width:][:r.Len*width]...)
	s.len += r.Len - s.kept
	s.kept = 0
}
