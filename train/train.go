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
	EvalEvery  int     // steps between evaluations, 0 for none
	Patience   int     // evaluations without a better loss after which training ends, 0 for no such end
	Spike      float64 // a loss so many times its running mean is as bad as one that is no number, 0 for no limit
}

// What the guard against broken steps does: after badSteps of them one after another it goes back to the last good state, and after
// maxRewinds of that it gives up. The running mean of the loss takes in a new one by meanShare.
const (
	badSteps   = 3
	maxRewinds = 3
	meanShare  = 0.05
)

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
	Epoch    float64            `json:"epoch,omitempty"`
	Skipped  string             `json:"skipped,omitempty"` // why the weights were left as they are
	Eval     *Eval              `json:"eval,omitempty"`
}

// Eval is what the model does on held-out rows and text after a step. KL and Top1 are against the teacher, where there is one.
type Eval struct {
	Loss  float64            `json:"loss,omitempty"` // of held-out rows, as the training's own
	Parts map[string]float64 `json:"parts,omitempty"`
	NLL   float64            `json:"nll,omitempty"` // of a text, nats a token
	KL    float64            `json:"kl,omitempty"`
	Top1  float64            `json:"top1,omitempty"`
	EMA   *Eval              `json:"ema,omitempty"` // of the weights' average, where that is not what becomes of the training
}

// measure is what an early end is judged by.
func (e *Eval) measure() float64 {
	if e.Loss != 0 {
		return e.Loss
	}
	return e.NLL
}

// Progress is where a run stands: what Save must keep, beside weights and moments, and what Loop needs to go on.
type Progress struct {
	Step    int     `json:"step"`
	Total   int     `json:"num_tokens"`
	Mean    float64 `json:"mean_loss,omitempty"` // running
	Bad     int     `json:"bad_steps,omitempty"` // the latest steps, one after another, that were skipped
	Skipped int     `json:"skipped_steps,omitempty"`
	Rewinds int     `json:"rewinds,omitempty"`
	Best    float64 `json:"best_eval,omitempty"`
	Stale   int     `json:"stale_evals,omitempty"` // evaluations since the best one
	Ended   bool    `json:"ended,omitempty"`       // early
}

// Run is one training run over batches of type B. Loop fills Progress as it goes.
type Run[B any] struct {
	Config
	Optimizer *optim.AdamW
	Next      func() B
	Loss      func(*autograd.Tape, B) loss.Total
	Progress  Progress
	Log       func(Step) error                     // after every step
	Save      func() error                         // every SaveEvery steps and when the context ends
	Eval      func(context.Context) (*Eval, error) // every EvalEvery steps and after the last
	Rewind    func() (string, error)               // sets weights and moments to the last good state, and names it; nil where there is none
	Reduce    func([]optim.Param, *loss.Total) error
	Profile   *autograd.Profile
	EMA       *optim.EMA // takes in the weights after every step that is not skipped; or nil
	TapeBytes int        // memory of the activations of the steps so far
}

// Loop trains from Progress to Config.Steps. It ends early, with a state saved, when ctx ends; and without an error when evaluations stop getting
// better. A step whose loss or gradient is no number, or a spike, changes nothing: it is skipped. Several in a row set weights and moments
// back to the last good state while the data goes on, and when that does not help either Loop ends with an error.
func (r *Run[B]) Loop(ctx context.Context) error {
	tape := autograd.NewTape()
	tape.SetProfile(r.Profile)
	for r.Progress.Step < r.Steps && !r.Progress.Ended {
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
		if err := r.evaluate(ctx, &s); err != nil {
			return err
		}
		if err := r.Log(s); err != nil {
			return err
		}
		if r.SaveEvery > 0 && r.Progress.Bad == 0 && r.Progress.Step%r.SaveEvery == 0 && r.Progress.Step < r.Steps {
			if err := r.Save(); err != nil {
				return err
			}
		}
	}
	return nil
}

// evaluate measures the model where its turn has come.
func (r *Run[B]) evaluate(ctx context.Context, s *Step) (err error) {
	if r.EvalEvery <= 0 || s.Step%r.EvalEvery != 0 && s.Step != r.Steps {
		return nil
	}
	if s.Eval, err = r.Eval(ctx); err != nil {
		return err
	}
	p := &r.Progress
	if v := s.Eval.measure(); p.Best == 0 || v < p.Best {
		p.Best, p.Stale = v, 0
	} else {
		p.Stale++
	}
	p.Ended = r.Patience > 0 && p.Stale >= r.Patience
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
		r.TapeBytes = max(r.TapeBytes, tape.Bytes())
		total.Sum += t.Sum
		total.Tokens += t.Tokens
		for k, v := range t.Parts {
			total.Parts[k] += v
		}
	}
	if r.Reduce != nil {
		if err := r.Reduce(r.Optimizer.Params, &total); err != nil {
			return Step{}, err
		}
	}
	n := float64(max(1, total.Tokens))
	s := Step{
		Step: r.Progress.Step + 1, Loss: total.Sum / n, Tokens: total.Tokens, Total: r.Progress.Total + total.Tokens,
		LR:       r.Schedule.Rate(r.Progress.Step),
		GradNorm: optim.GradNorm(r.Optimizer.Params, 1/n),
	}
	r.Progress.Step, r.Progress.Total = s.Step, s.Total
	if s.Skipped = r.broken(&s); s.Skipped != "" {
		err := r.skip(&s)
		s.Seconds = time.Since(start).Seconds()
		return s, err
	}
	if len(total.Parts) > 0 {
		s.Parts = map[string]float64{}
		for k, v := range total.Parts {
			s.Parts[k] = v / n
		}
	}
	r.Progress.Bad = 0
	if r.Progress.Mean == 0 {
		r.Progress.Mean = s.Loss
	}
	r.Progress.Mean += meanShare * (s.Loss - r.Progress.Mean)
	r.Optimizer.Update(s.LR, optim.ClipScale(s.GradNorm, r.Clip)/n)
	if r.EMA != nil {
		r.EMA.Update()
	}
	s.Seconds = time.Since(start).Seconds()
	return s, nil
}

// broken says what is wrong with a step, if anything is.
func (r *Run[B]) broken(s *Step) string {
	switch sum := s.Loss + s.GradNorm; {
	case math.IsNaN(sum) || math.IsInf(sum, 0):
		return fmt.Sprintf("loss %g, gradient norm %g", s.Loss, s.GradNorm)
	case r.Spike > 0 && r.Progress.Mean > 0 && s.Loss > r.Spike*r.Progress.Mean:
		return fmt.Sprintf("loss %g is more than %g times its mean of %g", s.Loss, r.Spike, r.Progress.Mean)
	}
	return ""
}

// skip drops a broken step's gradients, and goes back to the last good state where it was not the first.
func (r *Run[B]) skip(s *Step) error {
	for _, p := range r.Optimizer.Params {
		clear(p.Tensor.Grad)
	}
	if math.IsNaN(s.Loss+s.GradNorm) || math.IsInf(s.Loss+s.GradNorm, 0) {
		s.Loss, s.GradNorm = 0, 0 // a log has no place for what is no number; Skipped says it
	}
	p := &r.Progress
	p.Bad++
	p.Skipped++
	if p.Bad < badSteps {
		return nil
	}
	hint := "training diverged; lower the learning rate or the clipping limit"
	if r.Rewind == nil || p.Rewinds == maxRewinds {
		return fmt.Errorf("step %d: %s, and %d steps before it were as bad: %s", s.Step, s.Skipped, p.Bad-1, hint)
	}
	name, err := r.Rewind()
	if err != nil {
		return fmt.Errorf("step %d: %s: %s; %w", s.Step, s.Skipped, hint, err)
	}
	p.Rewinds++
	p.Bad = 0
	s.Skipped += "; weights and moments are those of " + name + " again"
	return nil
}
