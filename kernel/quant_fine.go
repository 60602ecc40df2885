package kernel

import "math"

// Digits is the number of rows of activations for a row of x, and so of integer products for a weight and a row. With Q8 weights the error of 8-bit activations would be most of a product's, so
// they get 16: the second row is, rounded in the same way, what the first left over. A panel is multiplied with both in one pass over it,
// as with two rows of x, and the two sums are added at the end; so a row's bits still depend on no other row. The scales of a group's
// digits are their own, and no sum of integers grows.
func (f PanelFormat) Digits() int {
	if f == Q8 {
		return 2
	}
	return 1
}

// prepareRow writes a row of x, whose length is a multiple of 64, as its digits, ldact bytes apart.
func (j *quantJob) prepareRow(act []byte, x []float32) {
	j.activations(act, x)
	if j.format.Digits() == 1 {
		return
	}
	s := packScratch.get()
	s.data = grow(s.data, len(x))
	active.residual(s.data, x, act)
	j.activations(act[j.ldact:], s.data)
	packScratch.put(s)
}

// residualPortable sets dst to x less what its groups of activations stand for.
func residualPortable(dst, x []float32, act []byte) {
	for ; len(x) > 0; x, dst, act = x[quantGroupLen:], dst[quantGroupLen:], act[quantGroupBytes:] {
		scale := math.Float32frombits(le32(act[scaleAt:]))
		for i, v := range x[:quantGroupLen] {
			dst[i] = v - float32(scale*float32(int8(act[i]))) // converted, so that no processor fuses it
		}
	}
}

// finePart is part for two digits.
func (j *quantJob) finePart(m *quantPart, lo, hi int) {
	width := j.format.width()
	nearby, step := hi-lo, j.format.columnBlock(2*j.rows <= j.narrow.rows)
	if j.rows <= fewRows {
		nearby = panelsNearby
	}
	s := packScratch.get()
	for r := 0; r < j.rows; r += rowBlock {
		rows := min(rowBlock, j.rows-r)
		size := 2 * rows * width // sums of a panel: a row's digits are neighbours
		s.data = grow(s.data, size*min(nearby, hi-lo))
		for p := lo; p < hi; p += nearby {
			panels := min(nearby, hi-p)
			clear(s.data[:size*panels])
			for k := 0; k < j.cols; k += step {
				for q := range panels {
					j.digitBlock(m, s.data[q*size:][:size], p+q, r, rows, k, min(step, j.cols-k))
				}
			}
			for q := range panels {
				j.addDigits(m, s.data[q*size:][:size], p+q, r, rows)
			}
		}
	}
	packScratch.put(s)
}

// digitBlock adds the products of n columns from k on of panel q to the sums of rows r…r+rows-1.
func (j *quantJob) digitBlock(m *quantPart, sums []float32, q, r, rows, k, n int) {
	width := j.format.width()
	w := m.Data[(q*j.cols+k)/superblock*j.format.block():][:n/superblock*j.format.block()]
	for i := 0; i < 2*rows; i += j.narrow.rows {
		x := j.act[(2*r+i)*j.ldact+j.format.activationBytes(k):]
		j.panel(sums[i*width:], width, w, x, j.ldact, min(j.narrow.rows, 2*rows-i), n)
	}
}

// addDigits sets the columns of panel q of rows r…r+rows-1 of y to the digits' sums.
func (j *quantJob) addDigits(m *quantPart, sums []float32, q, r, rows int) {
	width := j.format.width()
	cols := min(width, m.N-q*width)
	for i := range rows {
		y := m.Y[(r+i)*m.Ldy+q*width:][:cols]
		copy(y, sums[2*i*width:])
		Add(y, sums[(2*i+1)*width:][:cols])
	}
}
