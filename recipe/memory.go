package recipe

import (
	"fmt"
	"math"

	"krait/autograd"
	"krait/data"
	"krait/model"
	"krait/train"
)

// memorySplit is where a training's memory is, in bytes. Rest is what the program holds besides: the runtime, data, code, and garbage.
type memorySplit struct {
	Weights, Gradients, Optimizer, Activations, Teacher, TeacherActivations, Resident int
}

// memory measures the split after a step. Activations are those of the step that needed most.
func (t *training) memory(r *train.Run[data.Batch]) memorySplit {
	s := memorySplit{Weights: t.checkpoint.Model.Bytes(), Activations: r.TapeBytes, Resident: memoryInUse()}
	if t.value != nil {
		s.Weights += t.value.Bytes()
	}
	for _, p := range r.Optimizer.Params {
		s.Gradients += 4 * len(p.Tensor.Grad)
	}
	for i := range r.Optimizer.M {
		s.Optimizer += 4 * (len(r.Optimizer.M[i]) + len(r.Optimizer.V[i]))
	}
	if t.ema != nil {
		for _, v := range t.ema.Values {
			s.Optimizer += 4 * len(v)
		}
	}
	for _, m := range t.beside() {
		s.Teacher += m.Bytes()
	}
	if t.scratch != nil {
		s.TeacherActivations = t.scratch.Bytes()
	}
	return s
}

// beside lists the models that the training only reads.
func (t *training) beside() []*model.Model {
	if t.teacher != nil {
		return append([]*model.Model{t.teacher}, t.frozen...)
	}
	return t.frozen
}

// most takes the larger of each figure.
func (s *memorySplit) most(x memorySplit) {
	s.Weights, s.Gradients, s.Optimizer = max(s.Weights, x.Weights), max(s.Gradients, x.Gradients), max(s.Optimizer, x.Optimizer)
	s.Activations, s.Teacher, s.TeacherActivations = max(s.Activations, x.Activations), max(s.Teacher, x.Teacher), max(s.TeacherActivations, x.TeacherActivations)
	s.Resident = max(s.Resident, x.Resident)
}

// figures are the split in MiB, by the names that a stage's record has them under. What is not known or not there is not among them.
func (s *memorySplit) figures() map[string]float64 {
	m := map[string]float64{}
	for name, n := range map[string]int{"weights": s.Weights, "gradients": s.Gradients, "optimizer": s.Optimizer, "activations": s.Activations, "teacher": s.Teacher,
		"teacher_activations": s.TeacherActivations, "resident": s.Resident, "peak": memoryPeak()} {
		if n > 0 {
			m["memory_"+name+"_mib"] = math.Round(float64(n)/(1<<20)*10) / 10
		}
	}
	return m
}

// String says the split in a sentence.
func (s *memorySplit) String() string {
	text := fmt.Sprintf("memory: weights %s, gradients %s, optimiser %s, activations %s", size(s.Weights), size(s.Gradients), size(s.Optimizer), size(s.Activations))
	if s.Teacher > 0 {
		text += fmt.Sprintf(", models that are only read %s", size(s.Teacher))
	}
	if s.TeacherActivations > 0 {
		text += fmt.Sprintf(" and their activations %s", size(s.TeacherActivations))
	}
	if s.Resident > 0 {
		text += fmt.Sprintf("; %s in all", size(s.Resident))
	}
	return text
}

// keepLess makes the models that are trained forget what their gradients can make again.
func (t *training) keepLess() {
	t.checkpoint.Model.Recompute(t.Recompute)
	if t.value != nil {
		t.value.Recompute(t.Recompute)
	}
}

// withScratch is a tape for the models beside the training, whose work counts in the profile.
func withScratch(p *autograd.Profile) *autograd.Tape {
	scratch := autograd.NewScratch()
	scratch.SetProfile(p)
	return scratch
}
