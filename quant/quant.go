// Package quant holds weights for inference in fewer bits: bf16, or integers of 8 and 4 bits with a scale for 32 weights. A Matrix serves
// decoding, verification and prefill from one copy, and is what a linear layer multiplies with.
package quant

import (
	"fmt"
	"strings"

	"krait/kernel"
)

// Format is a number format of weights.
type Format int

// The formats, by falling size: 32, 16, 8.5 and 4.5 bits a weight.
const (
	F32 Format = iota
	BF16
	Q8
	Q4
)

var names = []string{F32: "f32", BF16: "bf16", Q8: "q8", Q4: "q4"}

// String returns the format's name.
func (f Format) String() string { return names[f] }

// Names lists the formats for people.
func Names() string { return strings.Join(names, ", ") }

// Parse returns the format of a name.
func Parse(name string) (Format, error) {
	for f, n := range names {
		if n == name {
			return Format(f), nil
		}
	}
	return 0, fmt.Errorf("weights of type %q: want one of %s", name, Names())
}

// panels returns the kernel's format; F32 has none.
func (f Format) panels() kernel.PanelFormat {
	return [...]kernel.PanelFormat{BF16: kernel.BF16, Q8: kernel.Q8, Q4: kernel.Q4}[f]
}

// Head returns the format of embeddings and output layer in a model of format f: their errors meet every token, so q4 leaves them q8.
func (f Format) Head() Format {
	if f == Q4 {
		return Q8
	}
	return f
}

// Digits returns the number of products that a weight and a row take.
func (f Format) Digits() int {
	if f == F32 {
		return 1
	}
	return f.panels().Digits()
}

// Values returns the format of the projections that make attention's values in a model of format f: they are a fortieth of SmolLM2's weights
// and, of the matrices that are alike, the cause of a third of q8's divergence and a fifth of q4's, so they are one format finer.
func (f Format) Values() Format {
	switch f {
	case Q8:
		return BF16
	case Q4:
		return Q8
	}
	return f
}

// Bytes returns the size of a matrix (out, in).
func (f Format) Bytes(out, in int) int {
	if f == F32 {
		return 4 * out * in
	}
	return kernel.QuantSize(f.panels(), out, in)
}

// Matrix is a frozen weight W (out, in), packed for multiplication. It is an autograd.Weight.
type Matrix struct {
	format Format
	wide   *kernel.Panels
	narrow *kernel.QuantPanels
}

// Quantize packs w (out, in), row-major. An element's error is at most half a step of its group; packing the values of a Matrix again gives
// the same Matrix. The memory may be shared by several matrices; nil means one of its own.
func Quantize(w []float32, out, in int, f Format, memory *kernel.Memory) Matrix {
	return Pack(kernel.DenseRows(w, in), out, in, f, memory)
}

// Pack is Quantize for weights (out, in) that need not be in memory as a whole.
func Pack(rows kernel.Rows, out, in int, f Format, memory *kernel.Memory) Matrix {
	if memory == nil {
		memory = new(kernel.Memory)
	}
	if f == F32 {
		return Matrix{wide: kernel.PackRows(rows, out, in, memory)}
	}
	return Matrix{format: f, narrow: kernel.QuantizeRows(f.panels(), rows, out, in, memory)}
}

// FromBytes copies a Matrix (out, in) of a narrow format from what Data returned.
func FromBytes(data []byte, out, in int, f Format, memory *kernel.Memory) (Matrix, error) {
	x, err := View(data, out, in, f)
	if err != nil {
		return x, err
	}
	p := kernel.NewQuantPanels(f.panels(), out, in, memory)
	const piece = 1 << 20
	kernel.Parallel((len(data)+piece-1)/piece, func(i int) { copy(p.Data[i*piece:min((i+1)*piece, len(data))], data[i*piece:]) })
	return Matrix{format: f, narrow: p}, nil
}

// View returns a Matrix (out, in) of a narrow format that reads its values from what Data returned.
func View(data []byte, out, in int, f Format) (Matrix, error) {
	if f == F32 {
		return Matrix{}, fmt.Errorf("f32 weights are not kept as panels")
	}
	if want := f.Bytes(out, in); len(data) != want {
		return Matrix{}, fmt.Errorf("%d bytes, a matrix (%d, %d) of %v has %d", len(data), out, in, f, want)
	}
	return Matrix{format: f, narrow: &kernel.QuantPanels{Format: f.panels(), N: out, K: in, Data: data}}, nil
}

// Format returns the number format.
func (m Matrix) Format() Format { return m.format }

// Data returns the panels of a narrow Matrix, nil for f32.
func (m Matrix) Data() []byte {
	if m.narrow == nil {
		return nil
	}
	return m.narrow.Data
}

// Bytes returns the memory of the panels.
func (m Matrix) Bytes() int {
	if m.format == F32 {
		return 4 * m.wide.N * m.wide.K
	}
	return len(m.Data())
}

// Dims returns (out, in).
func (m Matrix) Dims() (out, in int) {
	if m.format == F32 {
		return m.wide.N, m.wide.K
	}
	return m.narrow.N, m.narrow.K
}

// MulRows sets y (rows, out) = x (rows, in)·Wᵀ. A row's bits do not depend on the rows beside it.
func (m Matrix) MulRows(y, x []float32, rows int) {
	if m.format == F32 {
		m.wide.Mul(y, m.wide.N, x, m.wide.K, rows)
		return
	}
	m.narrow.Mul(y, m.narrow.N, x, m.narrow.K, rows)
}

// MulEach is MulRows of the same x by several matrices, bit for bit: neighbours that are narrow and of one format take one pass over the cores.
func MulEach(ms []Matrix, ys [][]float32, x []float32, rows int) {
	for len(ms) > 0 {
		n := 1
		for n < len(ms) && ms[0].narrow != nil && ms[n].narrow != nil && ms[n].format == ms[0].format {
			n++
		}
		mulAlike(ms[:n], ys, x, rows)
		ms, ys = ms[n:], ys[n:]
	}
}

// mulAlike multiplies x by one matrix, or by several narrow ones of one format.
func mulAlike(ms []Matrix, ys [][]float32, x []float32, rows int) {
	var products [4]kernel.QuantProduct
	if len(ms) == 1 || len(ms) > len(products) {
		for i, m := range ms {
			m.MulRows(ys[i], x, rows)
		}
		return
	}
	for i, m := range ms {
		products[i] = kernel.QuantProduct{QuantPanels: m.narrow, Y: ys[i], Ldy: m.narrow.N}
	}
	kernel.MulEach(products[:len(ms)], x, ms[0].narrow.K, rows)
}

// Row sets dst (in) to the values of row r of W.
func (m Matrix) Row(dst []float32, r int) {
	if m.format != F32 {
		m.narrow.Row(dst, r)
		return
	}
	m.wide.Row(dst, r)
}

// Rows returns the values of W, row by row.
func (m Matrix) Rows() kernel.Rows {
	_, in := m.Dims()
	return func(scratch []float32, lo, hi int) []float32 {
		for r := lo; r < hi; r++ {
			m.Row(scratch[(r-lo)*in:][:in], r)
		}
		return scratch
	}
}

// Dequantize sets w (out, in), row-major, to the values of W.
func (m Matrix) Dequantize(w []float32) {
	out, in := m.Dims()
	kernel.Parallel(out, func(r int) { m.Row(w[r*in:][:in], r) })
}
