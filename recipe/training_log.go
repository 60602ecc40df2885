package recipe

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/loss"
	"krait/train"
)

// trainingGC is the garbage, as a percentage of what is alive, that a training loop may leave.
const trainingGC = 10

// loop runs the training with its log, and leaves its figures in p.
func (t *training) loop(ctx context.Context, r *train.Run[data.Batch], epoch func() float64, p *checkpoint.Provenance) error {
	metrics, err := t.openMetrics(r.Progress.Step)
	if err != nil {
		return err
	}
	defer metrics.Close()
	unit := cmp.Or(t.unit, "tokens")
	events, err := t.openEvents()
	if err != nil {
		return err
	}
	defer events.Close()
	var memory memorySplit
	r.Log = func(s train.Step) error {
		s.Epoch = epoch()
		if memory.most(t.memory(r)); s.Step == 1 {
			defer t.report(Event{Stage: t.stage, Note: memory.String()})
		}
		t.show(s, unit)
		line, err := json.Marshal(t.line(s))
		if err != nil {
			return err
		}
		_, err = metrics.Write(append(line, '\n'))
		return errors.Join(err, events.step(s, time.Now()), t.prepareNext(ctx, s.Step))
	}
	if err := t.prepareNext(ctx, r.Progress.Step); err != nil {
		return err
	}
	// What a step needs stays for the next one, and what it throws away is little. At the usual 100 % the heap would still grow to twice the
	// weights, their moments and all activations before that little is taken back; looking at memory without pointers costs nothing.
	defer debug.SetGCPercent(debug.SetGCPercent(trainingGC))
	start, before := time.Now(), r.Progress.Total
	if err := r.Loop(ctx); err != nil {
		return err
	}
	p.Metrics = map[string]float64{"num_" + unit: float64(r.Progress.Total)}
	if t.unit != "" {
		p.Metrics["num_tokens"] = float64(t.tokens.total)
	}
	maps.Copy(p.Metrics, t.figures)
	maps.Copy(p.Metrics, memory.figures())
	if r.Progress.Skipped > 0 {
		p.Metrics["skipped_steps"], p.Metrics["rewinds"] = float64(r.Progress.Skipped), float64(r.Progress.Rewinds)
	}
	if r.Progress.Ended {
		p.Metrics["ended_at_step"] = float64(r.Progress.Step)
		t.report(Event{Stage: t.stage, Note: fmt.Sprintf("ended at step %d: %d measurements on what is held out brought nothing better than %.4f", r.Progress.Step, r.Progress.Stale, r.Progress.Best)})
	}
	if t.last != nil {
		for name, v := range map[string]float64{"eval_loss": t.last.Loss, "eval_nll": t.last.NLL, "eval_kl": t.last.KL, "eval_top1": t.last.Top1} {
			if v != 0 {
				p.Metrics[name] = v
			}
		}
	}
	if t.last != nil && t.last.EMA != nil {
		for name, v := range map[string]float64{"eval_ema_loss": t.last.EMA.Loss, "eval_ema_nll": t.last.EMA.NLL} {
			if v != 0 {
				p.Metrics[name] = v
			}
		}
	}
	if elapsed := time.Since(start).Seconds(); r.Progress.Total > before {
		p.Metrics[unit+"_per_second"] = float64(r.Progress.Total-before) / elapsed
		for kind, d := range r.Profile {
			p.Metrics["share_"+autograd.Kind(kind).String()] = d.Seconds() / elapsed
		}
	}
	return metrics.Sync()
}

// show tells how a step went.
func (t *training) show(s train.Step, unit string) {
	text := fmt.Sprintf("%s  %.0f %s/s", t.describe(s), float64(s.Tokens)/s.Seconds, unit)
	if s.Eval != nil {
		t.last = s.Eval
	}
	switch e := t.last; {
	case e == nil:
	case e.Loss != 0:
		text += fmt.Sprintf("  held-out %.4f", e.Loss)
	default:
		text += fmt.Sprintf("  held-out %.4f nats", e.NLL)
	}
	if m := memoryInUse(); m > 0 {
		text += "  " + size(m)
	}
	if s.Skipped != "" {
		t.report(Event{Stage: t.stage, Note: fmt.Sprintf("step %d skipped: %s", s.Step, s.Skipped)})
	}
	t.report(Event{Stage: t.stage, Done: s.Step, Total: t.Steps, Unit: "steps", Text: text})
}

// evaluation returns what measures the model on held-out rows and text, nil where there are none.
func (t *training) evaluation() (func(context.Context) (*train.Eval, error), error) {
	if t.EvalEvery == 0 {
		return nil, nil
	}
	var text *heldOutText
	if t.EvalText != "" {
		b, err := os.ReadFile(t.EvalText)
		if err != nil {
			return nil, err
		}
		if text, err = heldOut(t.checkpoint, string(b), t.Context); err != nil {
			return nil, fmt.Errorf("%s: %w", t.EvalText, err)
		}
		text.teacher = t.teacher
	}
	measure := func(ctx context.Context) (*train.Eval, error) {
		e := &train.Eval{}
		if t.held != nil {
			if err := t.measureRows(ctx, e); err != nil {
				return nil, err
			}
		}
		if text != nil {
			f, err := text.measure(ctx, t.checkpoint.Model)
			if err != nil {
				return nil, err
			}
			e.NLL, e.KL, e.Top1 = f.NLL, f.KL, f.Top1
		}
		return e, nil
	}
	return func(ctx context.Context) (*train.Eval, error) { return t.measured(ctx, measure) }, nil
}

// measured measures what will be the result, and beside the weights their average where there is one.
func (t *training) measured(ctx context.Context, measure func(context.Context) (*train.Eval, error)) (e *train.Eval, err error) {
	if !t.EMAResult {
		if e, err = measure(ctx); err != nil || t.ema == nil {
			return e, err
		}
	}
	t.ema.Swap()
	mean, err := measure(ctx)
	t.ema.Swap()
	if err != nil || t.EMAResult {
		return mean, err
	}
	e.EMA = mean
	return e, nil
}

// measureRows measures the training's own loss on the rows that are held out.
func (t *training) measureRows(ctx context.Context, e *train.Eval) error {
	scratch := autograd.NewScratch()
	total := loss.Total{Parts: map[string]float64{}}
	t.held.Seek(data.Cursor{})
	for t.held.Epoch() < 1 {
		if err := ctx.Err(); err != nil {
			return err
		}
		scratch.Reset()
		l := t.loss(scratch, t.held.Next())
		total.Sum += l.Sum
		total.Tokens += l.Tokens
		for k, v := range l.Parts {
			total.Parts[k] += v
		}
	}
	n := float64(max(1, total.Tokens))
	e.Loss = total.Sum / n
	e.Parts = map[string]float64{}
	for k, v := range total.Parts {
		e.Parts[k] = v / n
	}
	return nil
}

// openMetrics opens metrics.jsonl for the lines after step: later ones, of work that was lost, are cut off.
func (t *training) openMetrics(step int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(checkpoint.Partial(t.out), "metrics.jsonl"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	var keep int64
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		var s train.Step
		if err != nil || json.Unmarshal(line, &s) != nil || s.Step > step {
			break
		}
		keep += int64(len(line))
	}
	if err := f.Truncate(keep); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.Seek(keep, 0)
	return f, err
}

// ReadMetrics returns the training steps that a stage logged.
func ReadMetrics(dir string) ([]train.Step, error) {
	f, err := os.Open(filepath.Join(dir, "metrics.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var steps []train.Step
	dec := json.NewDecoder(f)
	for dec.More() {
		var s train.Step
		if err := dec.Decode(&s); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		steps = append(steps, s)
	}
	return steps, nil
}
