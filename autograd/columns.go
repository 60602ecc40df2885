package autograd

import (
	"krait/kernel"
	"krait/tensor"
)

// Columns returns the columns of x (rows, dim) that index names, in its order and as often as it names them: (rows, len(index)).
func Columns(t *Tape, x *tensor.Tensor, index []int32) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	rows, n, d := x.Rows(), len(index), x.Cols()
	y := t.New(rows, n, x)
	if tensor.Few(rows, n) {
		columns(y, x, index, 0, rows)
	} else {
		tensor.Rows(rows, n, func(lo, hi int) { columns(y, x, index, lo, hi) })
	}
	if t.Recording(x) {
		t.Record(Elementwise, func() {
			tensor.Rows(rows, n, func(lo, hi int) {
				for r := lo; r < hi; r++ {
					to, from := x.Grad[r*d:][:d], y.Grad[r*n:][:n]
					for i, c := range index {
						to[c] += from[i]
					}
				}
			})
		})
	}
	return y
}

// columns is Columns for rows lo to hi-1.
func columns(y, x *tensor.Tensor, index []int32, lo, hi int) {
	n, d := len(index), x.Cols()
	for r := lo; r < hi; r++ {
		from, to := x.Data[r*d:][:d], y.Data[r*n:][:n]
		for i, c := range index {
			to[i] = from[c]
		}
	}
}

// Repeat returns the index for Columns that repeats each of groups groups of width columns times times, side by side, from column first
// on: 0,0,1,1,… for times = 2.
func Repeat(first, groups, width, times int) []int32 {
	index := make([]int32, 0, groups*width*times)
	for g := range groups {
		for range times {
			for i := range width {
				index = append(index, int32(first+g*width+i))
			}
		}
	}
	return index
}

// Beside returns the columns of a and, right of them, those of b: a and b (rows, dim) with the same rows.
func Beside(t *Tape, a, b *tensor.Tensor) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	rows, da, db := a.Rows(), a.Cols(), b.Cols()
	y := t.New(rows, da+db, a, b)
	for r := range rows {
		copy(y.Row(r), a.Row(r))
		copy(y.Row(r)[da:], b.Row(r))
	}
	if t.Recording(a, b) {
		t.Record(Elementwise, func() {
			for r := range rows {
				dy := y.Grad[r*(da+db):][:da+db]
				if a.Grad != nil {
					kernel.Add(a.Grad[r*da:][:da], dy)
				}
				if b.Grad != nil {
					kernel.Add(b.Grad[r*db:][:db], dy[da:])
				}
			}
		})
	}
	return y
}

// Before returns for each row of x (rows, dim), which is laid end to end of sequences of these lengths, the row before it in its
// sequence; zeros for a sequence's first.
func Before(t *Tape, x *tensor.Tensor, lens []int) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	d := x.Cols()
	y := t.New(x.Rows(), d, x)
	start := 0
	for _, n := range lens {
		clear(y.Row(start))
		copy(y.Data[(start+1)*d:(start+n)*d], x.Data[start*d:])
		start += n
	}
	if t.Recording(x) {
		t.Record(Elementwise, func() {
			start := 0
			for _, n := range lens {
				kernel.Add(x.Grad[start*d:(start+n-1)*d], y.Grad[(start+1)*d:])
				start += n
			}
		})
	}
	return y
}
