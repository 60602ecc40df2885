package autograd

import (
	"fmt"
	"slices"

	"krait/kernel"
	"krait/tensor"
)

// Embed returns the rows of table (vocab, dim) that tokens name: (len(tokens), dim).
func Embed(t *Tape, table *tensor.Tensor, tokens []int32) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	y := t.New(len(tokens), table.Cols(), table)
	for i, id := range tokens {
		copy(y.Row(i), table.Row(int(id)))
	}
	if t.Recording(table) {
		t.Record(Elementwise, func() {
			d := table.Cols()
			for i, id := range tokens {
				kernel.Add(table.Grad[int(id)*d:][:d], y.Grad[i*d:][:d])
			}
		})
	}
	return y
}

// sumRows adds the rows of m (rows, len(dst)) to dst.
func sumRows(dst, m []float32, rows int) {
	d := len(dst)
	tensor.SumBlocks(dst, rows, d, func(part []float32, lo, hi int) {
		for r := lo; r < hi; r++ {
			kernel.Add(part, m[r*d:][:d])
		}
	})
}

// RMSNorm returns x·w/sqrt(mean(x²)+eps) row by row (Zhang and Sennrich 2019): x (rows, dim), w (dim).
func RMSNorm(t *Tape, x, w *tensor.Tensor, eps float32) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	rows, d := x.Rows(), x.Cols()
	y := t.New(rows, d, x, w)
	rstd := t.Scratch(rows)
	if tensor.Few(rows, d) {
		kernel.RMSNorm(y.Data, rstd, x.Data, w.Data, rows, d, eps)
	} else {
		tensor.Rows(rows, d, func(lo, hi int) {
			kernel.RMSNorm(y.Data[lo*d:], rstd[lo:], x.Data[lo*d:], w.Data, hi-lo, d, eps)
		})
	}
	if !t.Recording(x, w) {
		return y
	}
	t.Record(Elementwise, func() {
		dx := t.gradOrScratch(x)
		tensor.SumBlocks(t.gradOrScratch(w), rows, d, func(part []float32, lo, hi int) {
			kernel.RMSNormGrad(dx[lo*d:], part, y.Grad[lo*d:], x.Data[lo*d:], w.Data, rstd[lo:], hi-lo, d)
		})
	})
	return y
}

// HeadRMSNorm is RMSNorm of each head by itself: x (rows, heads·p), w (p), the same for all heads.
func HeadRMSNorm(t *Tape, x, w *tensor.Tensor, heads int, eps float32) *tensor.Tensor {
	y := RMSNorm(t, reshape(t, x, x.Rows()*heads, x.Cols()/heads), w, eps)
	return reshape(t, y, x.Rows(), x.Cols())
}

// reshape returns x as (rows, cols): the same elements.
func reshape(t *Tape, x *tensor.Tensor, rows, cols int) *tensor.Tensor {
	y := &tensor.Tensor{Shape: []int{rows, cols}, Data: x.Data}
	if t.Recording(x) {
		t.result(y, x)
		t.Record(Elementwise, func() { kernel.Add(x.Grad, y.Grad) })
	}
	return y
}

// GatedRMSNorm returns the Mamba2 mixer's norm of y·silu(z): the gate first, then an RMS norm over each of groups groups (Dao and Gu
// 2024, as the paper's release computes it). y and z are (rows, dim), w is (dim).
func GatedRMSNorm(t *Tape, y, z, w *tensor.Tensor, groups int, eps float32) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	rows, d := y.Rows(), y.Cols()
	p := d / groups
	o := t.New(rows, d, y, z, w)
	rstd := t.Scratch(rows * groups)
	if tensor.Few(rows, 4*d) {
		kernel.GatedRMSNorm(o.Data, rstd, y.Data, z.Data, d, w.Data, rows, groups, p, eps)
	} else {
		tensor.Rows(rows, 4*d, func(lo, hi int) {
			kernel.GatedRMSNorm(o.Data[lo*d:], rstd[lo*groups:], y.Data[lo*d:], z.Data[lo*d:], d, w.Data, hi-lo, groups, p, eps)
		})
	}
	if !t.Recording(y, z, w) {
		return o
	}
	t.Record(Elementwise, func() {
		dy, dz := t.gradOrScratch(y), t.gradOrScratch(z)
		tensor.SumBlocks(t.gradOrScratch(w), rows, 4*d, func(part []float32, lo, hi int) {
			kernel.GatedRMSNormGrad(dy[lo*d:], dz[lo*d:], part, o.Grad[lo*d:], y.Data[lo*d:], z.Data[lo*d:], d,
				w.Data, rstd[lo*groups:], hi-lo, groups, p)
		})
	})
	return o
}

// Rope returns x with each head's halves rotated by its row's angles: x (rows, heads·p), cos and sin (rows, p/2).
func Rope(t *Tape, x *tensor.Tensor, cos, sin []float32, heads int) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	rows, d := x.Rows(), x.Cols()
	p := d / heads
	y := t.New(rows, d, x)
	copy(y.Data, x.Data)
	rotate(y.Data, cos, sin, rows, heads, p, 1)
	if t.Recording(x) {
		t.Record(Elementwise, func() {
			rotate(y.Grad, cos, sin, rows, heads, p, -1)
			kernel.Add(x.Grad, y.Grad)
		})
	}
	return y
}

// rotate turns each head's halves in place.
func rotate(m, cos, sin []float32, rows, heads, p int, sign float32) {
	d := heads * p
	if tensor.Few(rows, d) {
		kernel.Rope(m, d, cos, sin, rows, heads, p, sign)
		return
	}
	tensor.Rows(rows, d, func(lo, hi int) {
		kernel.Rope(m[lo*d:], d, cos[lo*p/2:], sin[lo*p/2:], hi-lo, heads, p, sign)
	})
}

// SiLU returns x·σ(x).
func SiLU(t *Tape, x *tensor.Tensor) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	rows, d := x.Rows(), x.Cols()
	y := t.New(rows, d, x)
	if tensor.Few(rows, 4*d) {
		kernel.SiLU(y.Data, x.Data)
	} else {
		tensor.Rows(rows, 4*d, func(lo, hi int) { kernel.SiLU(y.Data[lo*d:hi*d], x.Data[lo*d:]) })
	}
	if t.Recording(x) {
		t.Record(Elementwise, func() {
			tensor.Rows(rows, 4*d, func(lo, hi int) { kernel.SiLUGrad(x.Grad[lo*d:hi*d], y.Grad[lo*d:], x.Data[lo*d:]) })
		})
	}
	return y
}

// SwiGLU returns silu(gate)·up.
func SwiGLU(t *Tape, gate, up *tensor.Tensor) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	rows, d := gate.Rows(), gate.Cols()
	y := t.New(rows, d, gate, up)
	if tensor.Few(rows, 4*d) {
		kernel.SwiGLU(y.Data, gate.Data, up.Data)
	} else {
		tensor.Rows(rows, 4*d, func(lo, hi int) { kernel.SwiGLU(y.Data[lo*d:hi*d], gate.Data[lo*d:], up.Data[lo*d:]) })
	}
	if !t.Recording(gate, up) {
		return y
	}
	t.Record(Elementwise, func() {
		dgate, dup := t.gradOrScratch(gate), t.gradOrScratch(up)
		tensor.Rows(rows, 4*d, func(lo, hi int) {
			kernel.SwiGLUGrad(dgate[lo*d:hi*d], dup[lo*d:], y.Grad[lo*d:], gate.Data[lo*d:], up.Data[lo*d:])
		})
	})
	return y
}

// Add returns a + b, equal shapes.
func Add(t *Tape, a, b *tensor.Tensor) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	rows, d := a.Rows(), a.Cols()
	y := t.New(rows, d, a, b)
	if tensor.Few(rows, d) {
		copy(y.Data, a.Data)
		kernel.Add(y.Data, b.Data)
	} else {
		tensor.Rows(rows, d, func(lo, hi int) {
			copy(y.Data[lo*d:hi*d], a.Data[lo*d:])
			kernel.Add(y.Data[lo*d:hi*d], b.Data[lo*d:])
		})
	}
	if t.Recording(a, b) {
		t.Record(Elementwise, func() { addGrad(a, y.Grad, rows); addGrad(b, y.Grad, rows) })
	}
	return y
}

// addGrad adds dy to x's gradient where x has one.
func addGrad(x *tensor.Tensor, dy []float32, rows int) {
	if x.Grad == nil {
		return
	}
	d := len(dy) / rows
	tensor.Rows(rows, d, func(lo, hi int) { kernel.Add(x.Grad[lo*d:hi*d], dy[lo*d:]) })
}

// AddRow returns x with the row b (cols) added to each of its rows.
func AddRow(t *Tape, x, b *tensor.Tensor) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	rows, d := x.Rows(), x.Cols()
	y := t.New(rows, d, x, b)
	copy(y.Data, x.Data)
	for r := range rows {
		kernel.Add(y.Row(r), b.Data)
	}
	if t.Recording(x, b) {
		t.Record(Elementwise, func() {
			addGrad(x, y.Grad, rows)
			if b.Grad != nil {
				sumRows(b.Grad, y.Grad, rows)
			}
		})
	}
	return y
}

// Mul returns a·b element by element, equal shapes.
func Mul(t *Tape, a, b *tensor.Tensor) *tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	y := t.New(a.Rows(), a.Cols(), a, b)
	kernel.Mul(y.Data, a.Data, b.Data)
	if t.Recording(a, b) {
		t.Record(Elementwise, func() {
			if a.Grad != nil {
				kernel.MulAdd(a.Grad, y.Grad, b.Data)
			}
			if b.Grad != nil {
				kernel.MulAdd(b.Grad, y.Grad, a.Data)
			}
		})
	}
	return y
}

// Split cuts the columns of x (rows, Σ widths) into matrices of the given widths.
func Split(t *Tape, x *tensor.Tensor, widths ...int) []*tensor.Tensor {
	defer t.Stop(Elementwise, t.Start())
	rows, d := x.Rows(), x.Cols()
	parts := t.list(len(widths))
	at := 0
	for i, w := range widths {
		y := t.New(rows, w, x)
		parts[i] = y
		o := at
		at += w
		for r := range rows {
			copy(y.Data[r*w:][:w], x.Data[r*d+o:])
		}
		if t.Recording(x) {
			t.Record(Elementwise, func() {
				tensor.Rows(rows, w, func(lo, hi int) {
					for r := lo; r < hi; r++ {
						kernel.Add(x.Grad[r*d+o:][:w], y.Grad[r*w:])
					}
				})
			})
		}
	}
	if at != d {
		panic(fmt.Sprintf("autograd: Split of width %d into %v", d, slices.Clone(widths))) // the clone lets widths stay off the heap
	}
	return parts
}
