package autograd

import (
	"fmt"

	"krait/kernel"
	"krait/tensor"
)

// Weight is a matrix (out, in) that Linear multiplies with. A *Dense has a gradient; packed forms have none.
type Weight interface {
	// Dims returns (out, in).
	Dims() (out, in int)
	// MulRows sets y (rows, out) = x (rows, in)·Wᵀ.
	MulRows(y, x []float32, rows int)
}

// Dense is a weight as a plain matrix (out, in), row-major. With BF16 its products, those of the gradients too, are of operands rounded to
// bf16, with float32 sums (kernel.GemmBF16); the weight itself and its gradient are float32 in any case.
type Dense struct {
	*tensor.Tensor
	BF16 bool
}

// Dims returns (out, in).
func (d Dense) Dims() (out, in int) { return d.Shape[0], d.Shape[1] }

// gemm is the product in the weight's format; see kernel.Gemm.
func (d Dense) gemm(c []float32, ldc int, a, b kernel.Operand, m, n, k int, accumulate bool) {
	if d.BF16 {
		kernel.GemmBF16(c, ldc, a, b, m, n, k, accumulate)
	} else {
		kernel.Gemm(c, ldc, a, b, m, n, k, accumulate)
	}
}

// MulRows sets y (rows, out) = x (rows, in)·Wᵀ.
func (d Dense) MulRows(y, x []float32, rows int) {
	out, in := d.Dims()
	d.gemm(y, out, kernel.Operand{Data: x, Stride: in}, kernel.Operand{Data: d.Data, Stride: in, Trans: true}, rows, out, in, false)
}

// InputGrad sets dx (rows, in) to dy (rows, out)·W, the gradient of MulRows with respect to x, or adds it.
func (d Dense) InputGrad(dx, dy []float32, rows int, accumulate bool) {
	out, in := d.Dims()
	d.gemm(dx, in, kernel.Operand{Data: dy, Stride: out}, kernel.Operand{Data: d.Data, Stride: in}, rows, in, out, accumulate)
}

// WeightGrad adds dyᵀ·x to the weight's gradient, for dy (rows, out) and x (rows, in).
func (d Dense) WeightGrad(dy, x []float32, rows int) {
	out, in := d.Dims()
	d.gemm(d.Grad, in, kernel.Operand{Data: dy, Stride: out, Trans: true}, kernel.Operand{Data: x, Stride: in}, out, in, rows, true)
}

// Linear returns x (rows, in) · Wᵀ + bias: (rows, out). bias (out) may be nil.
func Linear(t *Tape, x *tensor.Tensor, w Weight, bias *tensor.Tensor) *tensor.Tensor {
	defer t.Stop(GEMM, t.Start())
	rows := x.Rows()
	out, in := w.Dims()
	if x.Cols() != in {
		panic(fmt.Sprintf("autograd: Linear of width %d times weight (%d, %d)", x.Cols(), out, in))
	}
	dense, _ := w.(Dense)
	y := t.New(rows, out, x, dense.Tensor, bias)
	w.MulRows(y.Data, x.Data, rows)
	if bias != nil {
		for r := range rows {
			kernel.Add(y.Row(r), bias.Data)
		}
	}
	if !t.Recording(x, dense.Tensor, bias) {
		return y
	}
	t.Record(GEMM, func() {
		if x.Grad != nil {
			dense.InputGrad(x.Grad, y.Grad, rows, true)
		}
		if dense.Tensor != nil && dense.Grad != nil {
			dense.WeightGrad(y.Grad, x.Data, rows)
		}
		if bias != nil && bias.Grad != nil {
			sumRows(bias.Grad, y.Grad, rows)
		}
	})
	return y
}
