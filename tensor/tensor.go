// Package tensor holds the one tensor of this project, dense row-major float32, the arena that activations live in, and the loop over rows.
package tensor

import (
	"fmt"

	"krait/kernel"
)

// Tensor is a dense, row-major array. Grad is nil where no gradient is wanted: a frozen weight, an activation that depends on nothing
// trainable, everything in inference.
type Tensor struct {
	Shape      []int
	Data, Grad []float32
}

// New returns a zero tensor without gradient.
func New(shape ...int) *Tensor { return Of(make([]float32, Size(shape)), shape...) }

// Shaped returns a tensor without numbers, Data being nil.
func Shaped(shape ...int) *Tensor { return &Tensor{Shape: shape} }

// Of wraps data; its length must be the product of shape.
func Of(data []float32, shape ...int) *Tensor {
	if len(data) != Size(shape) {
		panic(fmt.Sprintf("tensor: %d elements for shape %v", len(data), shape))
	}
	return &Tensor{Shape: shape, Data: data}
}

// Size returns the number of elements of a shape.
func Size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Rows returns the first dimension.
func (t *Tensor) Rows() int { return t.Shape[0] }

// Cols returns the number of elements in a row.
func (t *Tensor) Cols() int { return Size(t.Shape[1:]) }

// Row returns row i.
func (t *Tensor) Row(i int) []float32 {
	c := t.Cols()
	return t.Data[i*c:][:c:c]
}

// Slice returns rows lo…hi-1 as a tensor that shares Data and Grad.
func (t *Tensor) Slice(lo, hi int) *Tensor {
	c := t.Cols()
	s := &Tensor{Shape: append([]int{hi - lo}, t.Shape[1:]...), Data: t.Data[lo*c : hi*c : hi*c]}
	if t.Grad != nil {
		s.Grad = t.Grad[lo*c : hi*c : hi*c]
	}
	return s
}

// Clone returns a copy that shares nothing; its gradient, where there is one, is zero.
func (t *Tensor) Clone() *Tensor {
	c := Of(append([]float32(nil), t.Data...), append([]int(nil), t.Shape...)...)
	if t.Grad != nil {
		c.Grad = make([]float32, len(c.Data))
	}
	return c
}

// rowBlockWork is the number of elements below which a block of rows is not worth a hand-over to another core (about 2 µs of simple work).
const rowBlockWork = 1 << 14

// Rows calls f for blocks of rows [lo,hi) that cover [0,rows), on all cores. cols, the elements of work in a row, sets the size of a
// block; the cut depends on rows and cols alone, never on the number of cores.
func Rows(rows, cols int, f func(lo, hi int)) {
	block := max(1, rowBlockWork/max(1, cols))
	if rows <= block {
		f(0, rows)
		return
	}
	kernel.Parallel((rows+block-1)/block, func(i int) { f(i*block, min(rows, (i+1)*block)) })
}

// Few reports whether Rows would make a single block. A caller that then does the work itself saves the closure, which a step of decoding
// would leave to the garbage collector dozens of times.
func Few(rows, cols int) bool { return rows <= max(1, rowBlockWork/max(1, cols)) }

// SumBlocks adds to dst the results of f over blocks of rows. f must add its block's sum to part, which starts at zero; the
// parts are added in order, so the bits do not depend on the number of cores.
func SumBlocks(dst []float32, rows, cols int, f func(part []float32, lo, hi int)) {
	block := max(1, 4*rowBlockWork/max(1, cols))
	n := (rows + block - 1) / block
	parts := make([]float32, n*len(dst))
	kernel.Parallel(n, func(i int) { f(parts[i*len(dst):][:len(dst)], i*block, min(rows, (i+1)*block)) })
	for i := range n {
		kernel.Add(dst, parts[i*len(dst):][:len(dst)])
	}
}
