package kernel

// KV holds the keys and values of one key-value head: keys in panels [Len/32][P][32], so that scores need no packing, values in rows
// (Len, P). Cutting it back is a change of Len.
type KV struct {
	P, Len int
	K, V   []float32
}

// Append adds rows keys and values with row strides ldk and ldv.
func (c *KV) Append(k []float32, ldk int, v []float32, ldv, rows int) {
	c.grow(c.Len + rows)
	for r := range rows {
		t := c.Len + r
		panel := c.K[t/PanelWidth*PanelWidth*c.P+t%PanelWidth:]
		for i, x := range k[r*ldk:][:c.P] {
			panel[i*PanelWidth] = x
		}
		copy(c.V[t*c.P:][:c.P], v[r*ldv:])
	}
	c.Len += rows
}

// grow makes room for n tokens.
func (c *KV) grow(n int) {
	if n*c.P <= len(c.V) {
		return
	}
	n = max(2*len(c.V)/c.P, (n+PanelWidth-1)/PanelWidth*PanelWidth)
	c.K = append(make([]float32, 0, n*c.P), c.K...)[:n*c.P]
	c.V = append(make([]float32, 0, n*c.P), c.V...)[:n*c.P]
}

// attendBlockKeys is the grid of key positions on which the sum over values is cut, so that a row has the same bits in every batch.
const attendBlockKeys = 256

// AttendBlock is causal softmax attention of a block of query rows over one key-value head. Row i of q and y (rows, P) is the query of
// token pos+i/group; q is scaled already. A token sees the keys up to its own position, and only the last window of them if window
// is positive. stats (rows, 2) receives each row's maximum score and 1/Σexp, for the gradient; it may be nil. scratch is grown as
// needed and returned. A row's bits do not depend on the other rows.
func AttendBlock(y, stats, q []float32, kv *KV, pos, rows, group, window int, scratch []float32) []float32 {
	b := newAttendSpan(pos, rows, group, window)
	scratch = Grow(scratch, rows*b.ld)
	b.scores(scratch, q, kv.K, kv.P)
	p := kv.P
	for i := range rows {
		row := scratch[i*b.ld:][:b.ld]
		lo, hi := b.visible(i)
		m := Max(row[lo:hi])
		clear(row[:lo])
		inv := 1 / ExpSum(row[lo:hi], row[lo:hi], m)
		clear(row[hi:])
		if stats != nil {
			stats[2*i], stats[2*i+1] = m, inv
		}
		row[b.ld-1] = inv // the span is at least one longer than any row: see newAttendSpan
	}
	for at := b.lo; at < b.hi; {
		end := min(b.hi, (at/attendBlockKeys+1)*attendBlockKeys)
		for c := 0; c < p; c += PanelWidth {
			MulPanel(y[c:], p, scratch[at-b.lo:], b.ld, rows, kv.V[at*p+c:], p, end-at, min(PanelWidth, p-c), at > b.lo)
		}
		at = end
	}
	for i := range rows {
		Scale(y[i*p:][:p], scratch[i*b.ld+b.ld-1], y[i*p:][:p])
	}
	return scratch
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
	b.ld = (b.hi-b.lo)/PanelWidth*PanelWidth + PanelWidth // a multiple of the panel with at least one column to spare
	return b
}

// visible returns the columns of row i's scores that it may look at.
func (b *attendSpan) visible(i int) (lo, hi int) {
	t := b.pos + i/b.group + 1
	if b.window > 0 {
		lo = max(0, t-b.window-b.lo)
	}
	return lo, t - b.lo
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
	transpose(qT, q, rows, p)
	transpose(dyT, dy, rows, p)
	for c := 0; c < p; c += PanelWidth {
		MulPanel(dq[c:], p, ds, b.ld, rows, g.KRows[b.lo*p+c:], p, width, min(PanelWidth, p-c), true)
	}
	for j := b.lo; j < b.hi; j += PanelWidth {
		MulPanel(g.DKT[j:], g.LD, qT, rows, p, ds[j-b.lo:], b.ld, rows, PanelWidth, true)
		MulPanel(g.DVT[j:], g.LD, dyT, rows, p, prob[j-b.lo:], b.ld, rows, PanelWidth, true)
	}
	return scratch
}

// transpose sets y (cols, rows) to the transpose of x (rows, cols).
func transpose(y, x []float32, rows, cols int) {
	for r := range rows {
		for c, v := range x[r*cols:][:cols] {
			y[c*rows+r] = v
		}
	}
}

// Grow returns s with length n, reusing its memory where it is large enough. The contents are undefined.
func Grow(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n+n/4)[:n]
	}
	return s[:n]
}
