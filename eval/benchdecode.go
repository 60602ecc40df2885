package eval

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"krait/autograd"
	"krait/engine"
	"krait/model"
	"krait/quant"
	"krait/sample"
	"krait/tensor"
)

// work is what a step multiplies: every matrix but an embedding that is not the head too.
type work struct {
	format              quant.Format
	weights, parameters int // numbers
	bytes, headBytes    int
	ops, headOps        operations // of a row
}

func workOf(m *model.Model) work {
	w := work{format: m.Format()}
	formats := map[string]quant.Format{}
	for name, f := range m.Formats(w.format) {
		formats[name] = f
	}
	head := w.format.Head()
	w.headBytes = head.Bytes(m.Config.HeadRows(), m.Config.HiddenSize)
	w.headOps[head] = float64(2 * head.Digits() * m.Config.HeadRows() * m.Config.HiddenSize)
	for name, p := range m.Params {
		n := tensor.Size(p.Shape)
		w.parameters += n
		switch {
		case len(p.Shape) != 2 || strings.HasSuffix(name, "A_log"):
		case p == m.EmbedTokens && !m.Config.TieWordEmbeddings:
		default:
			w.weights += n
			f := formats[name]
			w.bytes += f.Bytes(p.Shape[0], p.Shape[1])
			w.ops[f] += float64(2 * f.Digits() * n)
		}
	}
	return w
}

// step returns the cost of a step of n rows that all become logits.
func (w work) step(n int) (bytes float64, ops operations) {
	return float64(w.bytes), w.ops.times(float64(n))
}

// prompt returns the cost of a step of n rows none of which become logits.
func (w work) prompt(n int) (bytes float64, ops operations) {
	for f := range ops {
		ops[f] = w.ops[f] - w.headOps[f]
	}
	return float64(w.bytes - w.headBytes), ops.times(float64(n))
}

// The sizes that the tests have in their names.
const (
	generated  = 128
	promptRows = 512
	sequences  = 8
	nearDepth  = 512 // tokens that a sequence is fed before it is made long
	farTokens  = 8
	trainRows  = 2048
	leastSteps = 8
	mostRounds = 32 // of verification in a run
	prefixRows = 32 // tokens before them
)

// test sets up a test by name.
func (b *bench) test(name string) *benchTest {
	t := &benchTest{name: name, runs: b.Runs, cost: func(t timing) (float64, operations) { return b.work.step(t.tokens) }}
	window := b.model.Config.MaxPositionEmbeddings
	if window == 0 {
		window = math.MaxInt
	}
	tooLong := func(n int) string {
		if n <= window {
			return ""
		}
		return fmt.Sprintf("the model's context has %d tokens, this needs %d", window, n)
	}
	switch name {
	case "gemm_f32":
		t.run, t.cost = gemmRun(productF32), nil
	case "gemm_bf16":
		t.run, t.cost = gemmRun(productBF16), nil
		t.needBF16()
	case "tg128":
		t.run = b.decodeRun
		t.skip = tooLong(2 * leastSteps)
	case "batch8":
		t.run = b.batchRun
		t.skip = tooLong(2 * leastSteps)
	case "pp512":
		rows := min(promptRows, window-1)
		t.run = func(ctx context.Context) (timing, error) { return b.prefillRun(ctx, rows) }
		t.cost = func(t timing) (float64, operations) { return b.work.prompt(t.tokens) }
	case "depth4096", "depth32768":
		depth := depthOf(name)
		t.run = b.depthRun(depth)
		t.skip = tooLong(depth + b.Runs*farTokens)
		t.cost = func(t timing) (float64, operations) {
			bytes, ops := b.work.step(1)
			return bytes + float64(b.cacheBytes(depth)), ops
		}
	case "train2048", bf16Train:
		b.trainTest(t, name == bf16Train)
	default: // verifyN
		n, _ := strconv.Atoi(strings.TrimPrefix(name, "verify"))
		t.run = func(ctx context.Context) (timing, error) { return b.verifyRun(ctx, n) }
		t.skip = tooLong(prefixRows + 2*n)
	}
	return t
}

// depthOf returns the tokens before those of a test of depth, or 0 for another test.
func depthOf(test string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(test, "depth"))
	return n
}

// cacheBytes is what a step at a depth reads of keys and values.
func (b *bench) cacheBytes(depth int) int { return b.model.StateBytes(depth) - b.model.StateBytes(0) }

// decodeRun decodes plainly, through the engine as a user does, until there are enough tokens or the time is up.
func (b *bench) decodeRun(ctx context.Context) (timing, error) {
	var stats engine.Stats
	r := engine.Request{Prompt: []int32{1}, MaxTokens: generated}
	if n, err := generateFor(ctx, b.engine, r, &stats, b.Seconds, generated); err != nil || n == nil {
		return timing{}, err
	}
	return timing{seconds: stats.Decode.Seconds() / float64(stats.Rounds), tokens: 1, steps: stats.Rounds}, nil
}

// generateFor returns the output of a request, cut off when it has most tokens, or when the time is up and there are a few.
func generateFor(ctx context.Context, e *engine.Engine, r engine.Request, stats *engine.Stats, seconds float64, most int) ([]int32, error) {
	var out []int32
	start := time.Now()
	for token, err := range e.Generate(ctx, r, stats) {
		if err != nil {
			return nil, err
		}
		out = append(out, token.ID)
		if len(out) >= most || len(out) >= leastSteps && time.Since(start).Seconds() > seconds {
			break
		}
	}
	return out, nil
}

// prefillRun reads a prompt.
func (b *bench) prefillRun(ctx context.Context, rows int) (timing, error) {
	var stats engine.Stats
	r := engine.Request{Prompt: randomTokens(rows+1, b.model.Config.VocabSize, 7), MaxTokens: 1}
	if _, err := generateFor(ctx, b.engine, r, &stats, 0, 1); err != nil {
		return timing{}, err
	}
	return timing{seconds: stats.Prefill.Seconds(), tokens: rows, steps: 1}, nil
}

// stepper feeds a model as the engine's rounds do.
type stepper struct {
	model *model.Model
	state *model.State
	tape  *autograd.Tape
	runs  [1]model.Run
	rows  []int32 // tokens to feed, over and over
}

func newStepper(m *model.Model) *stepper {
	return &stepper{model: m, state: m.NewState(), tape: autograd.NewScratch(), rows: randomTokens(256, m.Config.VocabSize, 11)}
}

// prefix feeds n tokens, piece by piece.
func (s *stepper) prefix(ctx context.Context, n int) error {
	for s.state.Len() < n {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.model.Forward(nil, model.Single(s.rows[:min(len(s.rows), n-s.state.Len())], s.state))
	}
	return nil
}

// step feeds n tokens, chooses a token behind each, and keeps the first of what it fed; it returns the seconds.
func (s *stepper) step(n, keep int) (float64, error) {
	start := time.Now()
	if n > 1 {
		s.state.MarkAfter(min(keep, 1)) // the sequence's own token; the others are guesses
	}
	s.tape.Reset()
	s.runs[0] = model.Run{Len: n, State: s.state}
	logits := s.model.Logits(s.tape, s.model.Forward(s.tape, model.Batch{Tokens: s.rows[:n], Runs: s.runs[:]})) // (n, vocab)
	for i := range n {
		if _, err := sample.Argmax(logits.Row(i)); err != nil {
			return 0, err
		}
	}
	if n > 1 {
		s.state.Keep(keep)
	}
	return time.Since(start).Seconds(), nil
}

// verifyRun makes rounds of n rows, of which the first half is kept.
func (b *bench) verifyRun(ctx context.Context, n int) (timing, error) {
	s := newStepper(b.model)
	if err := s.prefix(ctx, prefixRows); err != nil {
		return timing{}, err
	}
	if _, err := s.step(n, 1); err != nil { // grows the arena and the caches
		return timing{}, err
	}
	keep, rounds, sum := (n+1)/2, 0, 0.0
	limit := b.model.Config.MaxPositionEmbeddings
	for rounds < mostRounds && (rounds < 3 || sum < b.Seconds/2) && ctx.Err() == nil {
		if limit > 0 && s.state.Len()+n > limit {
			break
		}
		t, err := s.step(n, keep)
		if err != nil {
			return timing{}, err
		}
		sum += t
		rounds++
	}
	return timing{seconds: sum / float64(max(1, rounds)), tokens: n, steps: rounds}, ctx.Err()
}

// depthRun returns a test that decodes far from the beginning. Its runs go on from one another. The keys and values are those of the first
// tokens over and over: a step reads them as it reads others.
func (b *bench) depthRun(depth int) func(ctx context.Context) (timing, error) {
	var s *stepper
	return func(ctx context.Context) (timing, error) {
		if s == nil {
			s = newStepper(b.model)
			if err := s.prefix(ctx, nearDepth); err != nil {
				return timing{}, err
			}
			s.state.Repeat(depth)
			if _, err := s.step(1, 1); err != nil { // grows the arena and the caches
				return timing{}, err
			}
		}
		sum := 0.0
		for range farTokens {
			t, err := s.step(1, 1)
			if err != nil {
				return timing{}, err
			}
			sum += t
		}
		return timing{seconds: sum / farTokens, tokens: 1, steps: farTokens}, ctx.Err()
	}
}

// batchRun decodes several sequences together.
func (b *bench) batchRun(ctx context.Context) (timing, error) {
	steps := generated / 2
	if b.plain > 0 {
		steps = min(max(int(b.Seconds/(2*b.plain)), leastSteps), steps)
	}
	asked := 0
	next := func() (engine.Request, bool) {
		asked++
		return engine.Request{Prompt: []int32{int32(asked)}, MaxTokens: steps}, asked <= sequences
	}
	start := time.Now()
	err := b.engine.Batch(ctx, sequences, next, func(int, []int32, string) error { return nil })
	return timing{seconds: time.Since(start).Seconds() / float64(steps), tokens: sequences, steps: steps}, err
}
