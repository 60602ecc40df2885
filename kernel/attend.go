package kernel

import "math"

const (
	// attendBlockKeys is the grid of key positions on which the sum over values is cut, and attendPartKeys, a multiple, that on which the whole
	// softmax is, so that a row has the same bits in every batch, its scores stay in the cache, and cores share a row. Parts are put
	// together in order (Dao et al. 2022).
	attendBlockKeys = 256
	attendPartKeys  = 1024
)

// AttendBlock is causal softmax attention of a block of query rows over one key-value head. Row i of q and y (rows, P) is the query of
// token pos+i/group; q is scaled already. A token sees the keys up to its own position, and only the last window of them if window
// is positive. stats (rows, 2) receives each row's maximum score and 1/Σexp, for the gradient; it may be nil. scratch is grown as
// needed and returned. A row's bits do not depend on the other rows.
func AttendBlock(y, stats, q []float32, kv *KV, pos, rows, group, window int, scratch []float32) []float32 {
	first, end := AttendParts(pos, rows, group, window)
	size := rows * (kv.P + 2)
	scratch = Grow(scratch, rows*2+size+AttendScratch(rows, kv))
	sums, part, rest := scratch[:2*rows], scratch[2*rows:][:size], scratch[2*rows+size:]
	if stats != nil {
		sums = stats[:2*rows]
	}
	AttendPart(y, sums, q, kv, pos, rows, group, window, first, rest)
	for n := first + 1; n < end; n++ {
		AttendPart(part, part[rows*kv.P:], q, kv, pos, rows, group, window, n, rest)
		AttendFold(y, sums, part, part[rows*kv.P:], rows, kv.P)
	}
	AttendEnd(y, sums, rows, kv.P)
	return scratch
}

// AttendParts returns the parts [first,end) of the key positions that AttendBlock of these arguments looks at.
func AttendParts(pos, rows, group, window int) (first, end int) {
	b := newAttendSpan(pos, rows, group, window)
	return b.lo / attendPartKeys, (b.hi-1)/attendPartKeys + 1
}

// AttendPart is AttendBlock over a part of the key positions: y (rows, P) is Σ exp(score-max)·value, and sums (rows, 2) are each row's max and
// Σ exp(score-max), which is 0 where it sees none of the part.
func AttendPart(y, sums, q []float32, kv *KV, pos, rows, group, window, part int, scratch []float32) []float32 {
	b := newAttendSpan(pos, rows, group, window)
	b.clip(part*attendPartKeys, (part+1)*attendPartKeys)
	scratch = Grow(scratch, AttendScratch(rows, kv))
	s, wide := scratch[:rows*b.ld], scratch[rows*b.ld:]
	b.keyScores(s, q, kv, wide)
	for i := range rows {
		row := s[i*b.ld:][:b.ld]
		lo, hi := b.visible(i)
		if lo >= hi {
			clear(row)
			sums[2*i], sums[2*i+1] = float32(math.Inf(-1)), 0
			continue
		}
		m := Max(row[lo:hi])
		clear(row[:lo])
		sums[2*i], sums[2*i+1] = m, ExpSum(row[lo:hi], row[lo:hi], m)
		clear(row[hi:])
	}
	for at := b.lo; at < b.hi; {
		end := min(b.hi, (at/attendBlockKeys+1)*attendBlockKeys)
		kv.addValues(y, s[at-b.lo:], b.ld, rows, at, end, at > b.lo, wide)
		at = end
	}
	return scratch
}

// AttendFold adds to y and sums the results of the next part that AttendPart gave, rows of p.
func AttendFold(y, sums, part, partSums []float32, rows, p int) {
	for i := range rows {
		a, b := sums[2*i:][:2], partSums[2*i:][:2]
		to, from := y[i*p:][:p], part[i*p:][:p]
		switch {
		case b[1] == 0:
		case a[1] == 0:
			copy(to, from)
			copy(a, b)
		default:
			m := max(a[0], b[0])
			u, v := float32(math.Exp(float64(a[0]-m))), float32(math.Exp(float64(b[0]-m)))
			Scale(to, u, to)
			Axpy(to, v, from)
			a[0], a[1] = m, a[1]*u+b[1]*v
		}
	}
}

// AttendEnd divides y by the sums, of which it leaves the maximum and 1/Σexp.
func AttendEnd(y, sums []float32, rows, p int) {
	for i := range rows {
		sums[2*i+1] = 1 / sums[2*i+1]
		Scale(y[i*p:][:p], sums[2*i+1], y[i*p:][:p])
	}
}

// AttendScratch is the number of floats that AttendPart needs: scores, and a float32 copy of keys or values kept in f16.
func AttendScratch(rows int, kv *KV) int {
	n := rows * (min(kv.Len/PanelWidth*PanelWidth, attendPartKeys) + PanelWidth)
	if kv.Format == KVF16 {
		n += attendBlockKeys * kv.P
	}
	return n
}

// attendSpan is the range of key positions [lo,hi) that a block of query rows touches; lo is a multiple of PanelWidth.
type attendSpan struct {
	pos, rows, group, window int
	lo, hi, ld               int
}

func newAttendSpan(pos, rows, group, window int) attendSpan {
	b := attendSpan{pos: pos, rows: rows, group: group, window: window, hi: pos + (rows-1)/group + 1}
	if window > 0 {
		b.lo = max(0, pos+1-window) / PanelWidth * PanelWidth
	}
	b.clip(b.lo, b.hi)
	return b
}

// clip leaves of the span what lies in [lo,hi), lo a multiple of PanelWidth.
func (b *attendSpan) clip(lo, hi int) {
	b.lo, b.hi = max(b.lo, lo), min(b.hi, hi)
	b.ld = roundUp(b.hi-b.lo, PanelWidth)
}

// visible returns the columns of row i's scores that it may look at; none if lo ≥ hi.
func (b *attendSpan) visible(i int) (lo, hi int) {
	t := b.pos + i/b.group + 1
	if b.window > 0 {
		lo = max(0, t-b.window-b.lo)
	}
	return lo, min(t, b.hi) - b.lo
}

// keyScores sets s (rows, ld) to q·kᵀ over the span. wide has room for a panel.
func (b *attendSpan) keyScores(s, q []float32, kv *KV, wide []float32) {
	p := kv.P
	switch {
	case kv.Format == KVF32:
		b.scores(s, q, kv.K, p)
	case b.rows <= active.halfRows && p <= kBlockMax:
		for j := b.lo; j < b.hi; j += PanelWidth { // a panel is whole, and so is s
			active.mulHalf(s[j-b.lo:], b.ld, q, p, b.rows, kv.HalfK[j*p:], PanelWidth, p, PanelWidth, false)
		}
	default:
		wide = wide[:p*PanelWidth]
		for j := b.lo; j < b.hi; j += PanelWidth {
			active.fromHalf(wide, kv.HalfK[j*p:][:len(wide)])
			MulPanel(s[j-b.lo:], b.ld, q, p, b.rows, wide, PanelWidth, p, min(PanelWidth, b.hi-j), false)
		}
	}
}

// addValues sets y (rows, P) to s (rows, end-at), of row stride lds, times the values of the positions at…end-1, or adds to it. wide has room for them.
func (c *KV) addValues(y, s []float32, lds, rows, at, end int, accumulate bool, wide []float32) {
	p, k, v := c.P, end-at, wide
	switch {
	case c.Format == KVF32:
		v = c.V[at*p:]
	case rows <= active.halfRows && p%PanelWidth == 0:
		active.mulHalf(y, p, s, lds, rows, c.HalfV[at*p:], p, k, p, accumulate)
		return
	default:
		active.fromHalf(v[:k*p], c.HalfV[at*p:][:k*p])
	}
	for col := 0; col < p; col += PanelWidth {
		MulPanel(y[col:], p, s, lds, rows, v[col:], p, k, min(PanelWidth, p-col), accumulate)
	}
}

// scores sets s (rows, ld) to rows of a (rows, p) times the panels of keys (or values) over the span.
func (b *attendSpan) scores(s, a, panels []float32, p int) {
	for j := b.lo; j < b.hi; j += PanelWidth {
		MulPanel(s[j-b.lo:], b.ld, a, p, b.rows, panels[j*p:], PanelWidth, p, min(PanelWidth, b.hi-j), false)
	}
}

// AttendGrad is what AttendBlockGrad needs of one key-value head beside the block: the panels of keys and of values, the keys in rows
// (stride P), and where the gradients go, transposed: DKT and DVT are (P, LD) with LD a multiple of PanelWidth.
type AttendGrad struct {
	P, LD             int
	K, VPanels, KRows []float32
	DKT, DVT          []float32
}

// AttendBlockGrad adds the gradients of AttendBlock: dq (rows, P) with respect to the scaled q, and those of keys and values. y and
// stats are AttendBlock's results. The scores are computed again rather than kept (Dao et al. 2022).
func AttendBlockGrad(dq, dy, y, stats, q []float32, g *AttendGrad, pos, rows, group, window int, scratch []float32) []float32 {
	b := newAttendSpan(pos, rows, group, window)
	p := g.P
	scratch = Grow(scratch, 2*rows*b.ld+2*rows*p)
	prob, ds := scratch[:rows*b.ld], scratch[rows*b.ld:][:rows*b.ld]
	qT, dyT := scratch[2*rows*b.ld:][:rows*p], scratch[2*rows*b.ld+rows*p:][:rows*p]
	b.scores(prob, q, g.K, p)
	b.scores(ds, dy, g.VPanels, p)
	width := b.hi - b.lo
	for i := range rows {
		pr, dr := prob[i*b.ld:][:b.ld], ds[i*b.ld:][:b.ld]
		lo, hi := b.visible(i)
		clear(pr[:lo])
		ExpSum(pr[lo:hi], pr[lo:hi], stats[2*i])
		Scale(pr[lo:hi], stats[2*i+1], pr[lo:hi])
		clear(pr[hi:])
		Mul(dr[:width], dr, pr)
		clear(dr[width:])
		Axpy(dr, -Dot(dy[i*p:][:p], y[i*p:][:p]), pr)
	}
	Transpose(qT, q, rows, p)
	Transpose(dyT, dy, rows, p)
	for c := 0; c < p; c += PanelWidth {
		MulPanel(dq[c:], p, ds, b.ld, rows, g.KRows[b.lo*p+c:], p, width, min(PanelWidth, p-c), true)
	}
	for j := b.lo; j < b.hi; j += PanelWidth {
		MulPanel(g.DKT[j:], g.LD, qT, rows, p, ds[j-b.lo:], b.ld, rows, PanelWidth, true)
		MulPanel(g.DVT[j:], g.LD, dyT, rows, p, prob[j-b.lo:], b.ld, rows, PanelWidth, true)
	}
	return scratch
}

// Grow returns s with length n, reusing its memory where it is large enough. The contents are undefined.
func Grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n+n/4)[:n]
	}
	return s[:n]
}
