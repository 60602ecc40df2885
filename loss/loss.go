// Package loss holds the training losses. A loss is a sum over tokens with its count; the training loop divides once per optimiser step.
// Every loss sets the gradients it starts from, so Tape.Backward goes on from there.
package loss

import (
	"fmt"
	"math"
	"sync"

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

// Weights are the weights of the distillation loss's two terms: the divergence from the teacher, and cross-entropy on the labels.
type Weights struct {
	KL, CE     float64
	Divergence Divergence
	Mix        float64 // of the divergences that have a mixture
	Unmasked   bool    // the divergence is summed over all rows, also those without a target
}

// chunkRows is the number of rows whose logits are in memory at a time.
const chunkRows = 256

// Head is one side of a loss over the vocabulary: hidden rows (rows, hidden) after the final norm and the output weight (vocab, hidden).
type Head struct {
	Hidden      *tensor.Tensor
	Weight      autograd.Weight
	Temperature float64 // divides the logits; 0 means 1
}

// Distill is the loss of stage one, summed over the rows whose target is not negative (method §3.2):
//
//	Σ_t  w.KL · D(p_teacher, p_student)  +  w.CE · (-log p_student[target])
//
// D is KL(p_teacher ‖ p_student) or another Divergence. teacher may be the zero Head if w.KL is 0. Logits exist for chunkRows rows at a
// time, and their gradient is computed in the same pass: for KL (w.KL + w.CE)·p_student - w.KL·p_teacher - w.CE·onehot.
func Distill(t *autograd.Tape, student, teacher Head, targets []int32, w Weights) Total {
	return (&distill{student: student, teacher: teacher, w: w}).total(t, targets)
}

// DistillTopK is Distill from a teacher of which each row's likeliest tokens are known. The divergence is between distributions over those
// tokens and one more outcome, all the other tokens together: it is never more than that of the whole rows.
func DistillTopK(t *autograd.Tape, student Head, teacher *TopK, targets []int32, w Weights) Total {
	return (&distill{student: student, topK: teacher, w: w}).total(t, targets)
}

// total adds up the loss of all rows.
func (d *distill) total(t *autograd.Tape, targets []int32) Total {
	defer t.Stop(autograd.GEMM, t.Start())
	d.record(t)
	total := Total{Tokens: d.rows(targets), Parts: map[string]float64{}}
	w := d.w
	if w.KL != 0 {
		total.Parts[w.Divergence.String()] = d.kl
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
	topK                     *TopK // instead of teacher
	dense                    autograd.Dense
	w                        Weights
	recording                bool
	ceWeights                []float64 // w.CE row by row, where rows differ
	logps                    []float64 // takes log p[target] of each row, where somebody asks
	entropies                []float64 // takes the entropy of each row, where somebody asks
	kl, ce                   float64
	hidden, logits, teachers []float32
	grad, hiddenGrad         []float32
	teacherHidden            []float32
	tape                     *autograd.Tape // whose memory holds a chunk
}

// record makes the tape's gradients those that rows adds to.
func (d *distill) record(t *autograd.Tape) {
	d.tape = t
	if dense, ok := d.student.Weight.(autograd.Dense); ok {
		d.dense = dense
	}
	if d.recording = t.Recording(d.student.Hidden, d.dense.Tensor); d.recording {
		d.hiddenGrad = t.Grad(d.student.Hidden)
	}
}

// rows adds the loss of the rows that count, chunk by chunk, and returns the number of those whose target is not negative.
func (d *distill) rows(targets []int32) int {
	if rows := d.student.Hidden.Rows(); len(targets) != rows {
		panic(fmt.Sprintf("loss: %d targets for %d rows", len(targets), rows))
	}
	var index []int32
	counted := 0
	for i, target := range targets {
		if target >= 0 {
			counted++
		}
		if target >= 0 || d.w.Unmasked && d.w.KL != 0 {
			index = append(index, int32(i))
		}
	}
	for at := 0; at < len(index); at += chunkRows {
		d.chunk(index[at:min(at+chunkRows, len(index))], targets)
	}
	return counted
}

// mulRows sets logits (n, vocab) to those of hidden rows (n, hidden), divided by the temperature.
func (h *Head) mulRows(logits, hidden []float32, n int) {
	h.Weight.MulRows(logits, hidden, n)
	if h.Temperature != 0 && h.Temperature != 1 {
		kernel.Scale(logits, float32(1/h.Temperature), logits)
	}
}

// chunk adds the loss of a few rows and, when recording, their gradients.
func (d *distill) chunk(index, targets []int32) {
	n := len(index)
	vocab, width := d.student.Weight.Dims()
	d.hidden = d.gather(d.hidden, d.student.Hidden, index)
	d.logits = d.grow(d.logits, n*vocab)
	d.student.mulRows(d.logits, d.hidden, n)
	if d.w.KL != 0 && d.topK == nil {
		_, teacherWidth := d.teacher.Weight.Dims()
		d.teacherHidden = d.gather(d.teacherHidden, d.teacher.Hidden, index)
		d.teachers = d.grow(d.teachers, n*vocab)
		if len(d.teacherHidden) != n*teacherWidth {
			panic("loss: teacher rows and teacher head differ in width")
		}
		d.teacher.mulRows(d.teachers, d.teacherHidden, n)
	}
	kl, ce := make([]float64, n), make([]float64, n)
	tensor.Rows(n, 8*vocab, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			kl[i], ce[i] = d.anyRow(i, int(index[i]), targets[index[i]], vocab)
		}
	})
	for i := range n { // in order, so that the sum does not depend on the number of cores
		d.kl += kl[i]
		d.ce += ce[i]
		if d.logps != nil {
			d.logps[index[i]] = -ce[i]
		}
	}
	if d.recording {
		d.spread(index, n, width, vocab)
	}
}

// anyRow returns the KL and cross-entropy of row i of the chunk, which is row at of the batch, and leaves its gradient.
func (d *distill) anyRow(i, at int, target int32, vocab int) (kl, ce float64) {
	logits, w := d.logits[i*vocab:][:vocab], d.w
	if d.ceWeights != nil {
		w.CE = d.ceWeights[at]
	}
	if d.entropies != nil {
		d.entropies[at] = entropy(logits)
	}
	var teacher []float32
	if w.KL != 0 && d.topK == nil {
		teacher = d.teachers[i*vocab:][:vocab]
	}
	if w.KL != 0 && (d.topK != nil || w.Divergence != ForwardKL) || target < 0 {
		kl, ce = d.divergedRow(logits, teacher, at, target, w)
	} else {
		kl, ce = d.row(logits, teacher, target, w)
	}
	if t := d.student.Temperature; d.recording && t != 0 && t != 1 {
		kernel.Scale(logits, float32(1/t), logits)
	}
	return kl, ce
}

// spread adds the gradient of a chunk, which stands where its logits were, to the hidden rows and the head.
func (d *distill) spread(index []int32, n, width, vocab int) {
	dy := d.logits[:n*vocab]
	if grad := d.hiddenGrad; grad != nil {
		d.grad = d.grow(d.grad, n*width)
		d.dense.InputGrad(d.grad, dy, n, false)
		for i, r := range index {
			kernel.Add(grad[int(r)*width:][:width], d.grad[i*width:])
		}
	}
	if d.dense.Tensor != nil && d.dense.Grad != nil {
		d.dense.WeightGrad(dy, d.hidden, n)
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
		buffer := rowBuffers.Get().(*[]float32)
		*buffer = kernel.Grow(*buffer, len(teacher))
		diff := *buffer
		copy(diff, teacher)
		kernel.Axpy(diff, -1, logits)
		sum := kernel.ExpSum(teacher, teacher, tm) // teacher now holds exp(l_T - max)
		teacherInv = 1 / sum
		teacherLog = float64(tm) + math.Log(float64(sum))
		dot = float64(kernel.Dot(teacher, diff)) * float64(teacherInv)
		rowBuffers.Put(buffer)
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
func (d *distill) gather(dst []float32, x *tensor.Tensor, index []int32) []float32 {
	c := x.Cols()
	dst = d.grow(dst, len(index)*c)
	for i, r := range index {
		copy(dst[i*c:][:c], x.Row(int(r)))
	}
	return dst
}

// grow returns s with n elements, or as many of the tape's: the first chunk is the largest, so that each buffer is taken once.
func (d *distill) grow(s []float32, n int) []float32 {
	if n <= cap(s) {
		return s[:n]
	}
	return d.tape.Scratch(n)
}

// rowBuffers keeps a row's differences between calls.
var rowBuffers = sync.Pool{New: func() any { return new([]float32) }}

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
		kernel.Axpy(t.Grad(x), float32(2/scale), diff)
	}
	return Total{Sum: err / scale, Tokens: rows}
}

// SmoothL1 is weight · Σ_t mean_i s(x_ti - target_ti), summed over the rows whose target token is not negative, with s(d) = d²/2 for |d| < 1,
// else |d| - 1/2: how far a draft head's hidden rows x (rows, hidden) are from the target's (EAGLE, Li et al. 2024).
func SmoothL1(t *autograd.Tape, x *tensor.Tensor, target []float32, targets []int32, weight float64) float64 {
	defer t.Stop(autograd.Elementwise, t.Start())
	d := x.Cols()
	var grad []float32
	if t.Recording(x) {
		grad = t.Grad(x)
	}
	scale, sum := weight/float64(d), 0.0
	for r := range x.Rows() {
		if targets[r] < 0 {
			continue
		}
		for i := r * d; i < (r+1)*d; i++ {
			e := x.Data[i] - target[i]
			slope := min(max(e, -1), 1)
			sum += float64(slope*e - slope*slope/2)
			if grad != nil {
				grad[i] += float32(scale) * slope
			}
		}
	}
	return scale * sum
}
