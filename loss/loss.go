// Package loss holds the training losses. A loss is a sum over tokens with its count; the training loop divides once per optimiser step.
// Every loss sets the gradients it starts from, so Tape.Backward goes on from there.
package loss

import (
	"fmt"
	"math"

	"krait/autograd"
	"krait/kernel"
	"krait/tensor"
)

// Total is a sum over Tokens target tokens, not yet a mean. Parts are its terms by name, for the log.
type Total struct {
	Sum    float64
	Tokens int
	Parts  map[string]float64
}

// Weights are the weights of the distillation loss's two terms: forward KL to the teacher, and cross-entropy on the labels.
type Weights struct{ KL, CE float64 }

// chunkRows is the number of rows whose logits are in memory at a time.
const chunkRows = 256

// Head is one side of a loss over the vocabulary: hidden rows (rows, hidden) after the final norm and the output weight (vocab, hidden).
type Head struct {
	Hidden *tensor.Tensor
	Weight autograd.Weight
}

// Distill is the loss of stage one, summed over the rows whose target is not negative (method §3.2):
//
//	Σ_t  w.KL · KL(p_teacher ‖ p_student)  +  w.CE · (-log p_student[target])
//
// teacher may be the zero Head if w.KL is 0. Logits exist for chunkRows rows at a time, and their gradient is computed in the same
// pass: (w.KL + w.CE)·p_student - w.KL·p_teacher - w.CE·onehot.
func Distill(t *autograd.Tape, student, teacher Head, targets []int32, w Weights) Total {
	defer t.Stop(autograd.GEMM, t.Start())
	d := &distill{student: student, teacher: teacher, w: w}
	d.record(t)
	total := Total{Tokens: d.rows(targets), Parts: map[string]float64{}}
	if w.KL != 0 {
		total.Parts["kl"] = d.kl
		total.Sum += w.KL * d.kl
	}
	if w.CE != 0 {
		total.Parts["ce"] = d.ce
		total.Sum += w.CE * d.ce
	}
	return total
}

// CrossEntropy is -Σ_t log p[target] over the rows whose target is not negative.
func CrossEntropy(t *autograd.Tape, head Head, targets []int32) Total {
	return Distill(t, head, Head{}, targets, Weights{CE: 1})
}

type distill struct {
	student, teacher         Head
	dense                    autograd.Dense
	w                        Weights
	recording                bool
	ceWeights                []float64 // w.CE row by row, where rows differ
	logps                    []float64 // takes log p[target] of each row, where somebody asks
	kl, ce                   float64
	hidden, logits, teachers []float32
	grad                     []float32
}

// record makes the tape's gradients those that rows adds to.
func (d *distill) record(t *autograd.Tape) {
	if dense, ok := d.student.Weight.(autograd.Dense); ok {
		d.dense = dense
	}
	d.recording = t.Recording(d.student.Hidden, d.dense.Tensor)
}

// rows adds the loss of the rows whose target is not negative, chunk by chunk, and returns their number.
func (d *distill) rows(targets []int32) int {
	if rows := d.student.Hidden.Rows(); len(targets) != rows {
		panic(fmt.Sprintf("loss: %d targets for %d rows", len(targets), rows))
	}
	var index []int32
	for i, target := range targets {
		if target >= 0 {
			index = append(index, int32(i))
		}
	}
	for at := 0; at < len(index); at += chunkRows {
		d.chunk(index[at:min(at+chunkRows, len(index))], targets)
	}
	return len(index)
}

// chunk adds the loss of a few rows and, when recording, their gradients.
func (d *distill) chunk(index, targets []int32) {
	n := len(index)
	vocab, width := d.student.Weight.Dims()
	d.hidden = gather(d.hidden, d.student.Hidden, index)
	d.logits = kernel.Grow(d.logits, n*vocab)
	d.student.Weight.MulRows(d.logits, d.hidden, n)
	if d.w.KL != 0 {
		_, teacherWidth := d.teacher.Weight.Dims()
		th := gather(nil, d.teacher.Hidden, index)
		d.teachers = kernel.Grow(d.teachers, n*vocab)
		if len(th) != n*teacherWidth {
			panic("loss: teacher rows and teacher head differ in width")
		}
		d.teacher.Weight.MulRows(d.teachers, th, n)
	}
	kl, ce := make([]float64, n), make([]float64, n)
	tensor.Rows(n, 8*vocab, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			var teacher []float32
			if d.w.KL != 0 {
				teacher = d.teachers[i*vocab:][:vocab]
			}
			w := d.w
			if d.ceWeights != nil {
				w.CE = d.ceWeights[index[i]]
			}
			kl[i], ce[i] = d.row(d.logits[i*vocab:][:vocab], teacher, targets[index[i]], w)
		}
	})
	for i := range n { // in order, so that the sum does not depend on the number of cores
		d.kl += kl[i]
		d.ce += ce[i]
		if d.logps != nil {
			d.logps[index[i]] = -ce[i]
		}
	}
	if !d.recording {
		return
	}
	dy := kernel.Operand{Data: d.logits, Stride: vocab} // now the gradient
	if grad := d.student.Hidden.Grad; grad != nil {
		d.grad = kernel.Grow(d.grad, n*width)
		kernel.Gemm(d.grad, width, dy, kernel.Operand{Data: d.dense.Data, Stride: width}, n, width, vocab, false)
		for i, r := range index {
			kernel.Add(grad[int(r)*width:][:width], d.grad[i*width:])
		}
	}
	if d.dense.Tensor != nil && d.dense.Grad != nil {
		dy.Trans = true
		kernel.Gemm(d.dense.Grad, width, dy, kernel.Operand{Data: d.hidden, Stride: width}, vocab, width, n, true)
	}
}

// row returns one row's KL and cross-entropy and, when recording, replaces its logits by their gradient.
func (d *distill) row(logits, teacher []float32, target int32, w Weights) (kl, ce float64) {
	m := kernel.Max(logits)
	ce = float64(m) - float64(logits[target])
	var dot, teacherLog float64
	var teacherInv float32
	if teacher != nil {
		tm := kernel.Max(teacher)
		// KL = Σ p_T (log p_T - log p_S) = Σ p_T (l_T - l_S) - log Z_T + log Z_S
		diff := make([]float32, len(teacher))
		copy(diff, teacher)
		kernel.Axpy(diff, -1, logits)
		sum := kernel.ExpSum(teacher, teacher, tm) // teacher now holds exp(l_T - max)
		teacherInv = 1 / sum
		teacherLog = float64(tm) + math.Log(float64(sum))
		dot = float64(kernel.Dot(teacher, diff)) * float64(teacherInv)
	}
	sum := kernel.ExpSum(logits, logits, m)
	logZ := math.Log(float64(sum))
	ce += logZ
	if teacher != nil {
		kl = max(0, dot-teacherLog+float64(m)+logZ) // rounding may leave a few 1e-7 below zero
	}
	if d.recording {
		kernel.Scale(logits, float32(w.KL+w.CE)/sum, logits)
		logits[target] -= float32(w.CE)
		if teacher != nil {
			kernel.Axpy(logits, -float32(w.KL)*teacherInv, teacher)
		}
	}
	return kl, ce
}

// gather copies rows of x.
func gather(dst []float32, x *tensor.Tensor, index []int32) []float32 {
	d := x.Cols()
	dst = kernel.Grow(dst, len(index)*d)
	for i, r := range index {
		copy(dst[i*d:][:d], x.Row(int(r)))
	}
	return dst
}

// SquaredError is Σ (x-target)²/scale over all elements, counted per row: layer-local alignment of a mixer's output x (rows, hidden) with the
// teacher's. scale is the target's mean square per row, so layers of different size weigh the same.
func SquaredError(t *autograd.Tape, x *tensor.Tensor, target []float32) Total {
	defer t.Stop(autograd.Elementwise, t.Start())
	rows := x.Rows()
	diff := t.Scratch(len(x.Data))
	copy(diff, x.Data)
	kernel.Axpy(diff, -1, target)
	var err, size float64
	for r := range rows {
		d := x.Cols()
		err += float64(kernel.Dot(diff[r*d:][:d], diff[r*d:]))
		size += float64(kernel.Dot(target[r*d:][:d], target[r*d:]))
	}
	scale := max(size/float64(rows), 1e-12)
	if t.Recording(x) {
		kernel.Axpy(x.Grad, float32(2/scale), diff)
	}
	return Total{Sum: err / scale, Tokens: rows}
}
