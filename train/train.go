// Package train is the one training loop: accumulate, reduce, clip, step, log, save, resume. It knows no recipe and no file format: what a
// batch is, what its loss is and how a state is saved are passed in.
package train

import (
	"context"
	"fmt"
	"math"
	"time"

	"krait/autograd"
	"krait/loss"
	"krait/optim"
)

// Config is the loop's part of a recipe.
type Config struct {
	Steps      int // optimiser steps in all
	Accumulate int // batches whose gradients are summed before a step
	Schedule   optim.Schedule
	Clip       float64 // limit of the gradient's norm, 0 for none
	SaveEvery  int     // steps between saved states, 0 for none
}

// Step is what the loop reports of one optimiser step. Loss and Parts are means over the step's Tokens.
type Step struct {
	Step     int                `json:"step"` // from 1
	Loss     float64            `json:"loss"`
	Parts    map[string]float64 `json:"parts,omitempty"`
	Tokens   int                `json:"tokens"`
	Total    int                `json:"num_tokens"` // tokens in all steps so far
	LR       float64            `json:"learning_rate"`
	GradNorm float64            `json:"grad_norm"`
	Seconds  float64            `json:"seconds"` // of this step
	Eval     *Eval              `json:"eval,omitempty"`
}

// Eval is what the model does on held-out text after a step. KL and Top1 are against the teacher, where there is one.
type Eval struct {
	Loss float64 `json:"loss"` // nats a token
	KL   float64 `json:"kl,omitempty"`
	Top1 float64 `json:"top1,omitempty"`
}

// Progress is where a run stands: what Save must keep, beside weights and moments, and what Loop needs to go on.
type Progress struct {
	Step  int `json:"step"`
	Total int `json:"num_tokens"`
}

// Run is one training run over batches of type B. Loop fills Progress as it goes.
type Run[B any] struct {
	Config
	Optimizer *optim.AdamW
	Next      func() B
	Loss      func(*autograd.Tape, B) loss.Total
	Progress  Progress
	Log       func(Step) error // after every step
	Save      func() error     // every SaveEvery steps and when the context ends
	Profile   *autograd.Profile
}

// Loop trains from Progress to Config.Steps. It ends early, with a state saved, when ctx ends; and with an error, leaving the last saved state
// as it is, when the loss or a gradient is not finite.
func (r *Run[B]) Loop(ctx context.Context) error {
	tape := autograd.NewTape()
	tape.SetProfile(r.Profile)
	for r.Progress.Step < r.Steps {
		if err := ctx.Err(); err != nil {
			if r.SaveEvery > 0 {
				if err := r.Save(); err != nil {
					return err
				}
			}
			return err
		}
		s, err := r.step(tape)
		if err != nil {
			return err
		}
		if err := r.Log(s); err != nil {
			return err
		}
		if r.SaveEvery > 0 && r.Progress.Step%r.SaveEvery == 0 && r.Progress.Step < r.Steps {
			if err := r.Save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// step makes one optimiser step. Gradients are sums over tokens; the division by their number, made once, is part of the update.
func (r *Run[B]) step(tape *autograd.Tape) (Step, error) {
	start := time.Now()
	total := loss.Total{Parts: map[string]float64{}}
	for range max(1, r.Accumulate) {
		tape.Reset()
		t := r.Loss(tape, r.Next())
		tape.Backward()
		total.Sum += t.Sum
		total.Tokens += t.Tokens
		for k, v := range t.Parts {
			total.Parts[k] += v
		}
	}
	reduce(r.Optimizer.Params, &total)
	n := float64(max(1, total.Tokens))
	s := Step{
		Step: r.Progress.Step + 1, Loss: total.Sum / n, Tokens: total.Tokens, Total: r.Progress.Total + total.Tokens,
		LR:       r.Schedule.Rate(r.Progress.Step),
		GradNorm: optim.GradNorm(r.Optimizer.Params, 1/n),
	}
	if math.IsNaN(s.Loss+s.GradNorm) || math.IsInf(s.Loss+s.GradNorm, 0) {
		return s, fmt.Errorf("step %d: loss %g, gradient norm %g: training diverged; lower the learning rate or the clipping limit", s.Step, s.Loss, s.GradNorm)
	}
	if len(total.Parts) > 0 {
		s.Parts = map[string]float64{}
		for k, v := range total.Parts {
			s.Parts[k] = v / n
		}
	}
	r.Optimizer.Update(s.LR, optim.ClipScale(s.GradNorm, r.Clip)/n)
	r.Progress = Progress{Step: s.Step, Total: s.Total}
	s.Seconds = time.Since(start).Seconds()
	return s, nil
}

// reduce is where the gradient sums and token counts of many machines become one; on one machine they are that already.
func reduce([]optim.Param, *loss.Total) {}
