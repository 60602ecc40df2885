package autograd

import (
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
