package recipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/engine"
	"krait/loss"
	"krait/model"
	"krait/sample"
)

// rollout is one response of the policy to a prompt, and what was thought of it when it was made. Of n tokens of a response, LogProbs and Ref have one
// number each. Values are those before each token, and one more behind the last if the response ended before its time, where it is rewarded.
type rollout struct {
	Prompt   []int32   `json:"prompt"`
	Response []int32   `json:"response"`
	Ended    bool      `json:"ended"` // by an end-of-text token
	LogProbs []float64 `json:"logprobs"`
	Ref      []float64 `json:"ref_logprobs"`
	Values   []float64 `json:"values"`
	Score    float64   `json:"score"` // without penalty

	advantages, returns []float64
}

// rollouts deals the micro-batches of PPO: the responses of an iteration, in a new order in each epoch. It is made for the current weights by
// collect, which must be called where an iteration begins, and it is kept in a file until a later iteration is saved.
type rollouts struct {
	c        *PPOConfig
	dir      string // the stage's partial directory
	prompts  [][]int32
	policy   *checkpoint.Checkpoint
	value    *model.Model
	ref      *model.Model
	beside   []*model.Model                                   // all that are only read
	draft    *model.Model                                     // guesses responses ahead; nil: none
	drafted  engine.Stats                                     // sums of the guesses
	judge    func(ctx context.Context, list []*rollout) error // fills the scores
	respond  func(ctx context.Context) ([]*rollout, error)
	report   Report
	at       data.Cursor // Epoch is the iteration, Position the micro-batch within it
	loaded   int         // the iteration that list is of, -1 for none
	list     []*rollout
	figures  map[string]float64
	dealt    []*rollout // of the latest micro-batch
	counts   [2]int     // tokens and values of its mini-batch
	saved    int        // the iteration of the latest saved state
	profile  *autograd.Profile
	steering []int32 // end-of-text tokens
}

// microBatches returns the number of micro-batches of an iteration.
func (s *rollouts) microBatches() int { return s.c.PPOEpochs * s.c.MiniBatches * s.c.Accumulate }

// Epoch returns the passes over the prompts so far.
func (s *rollouts) Epoch() float64 {
	done := float64(s.at.Epoch) + float64(s.at.Position)/float64(s.microBatches())
	return done * float64(s.c.Batch) / float64(len(s.prompts))
}

// Cursor returns the place of the next micro-batch.
func (s *rollouts) Cursor() data.Cursor {
	s.saved = s.at.Epoch
	return s.at
}

// Seek goes to a place that Cursor returned.
func (s *rollouts) Seek(c data.Cursor) { s.at, s.saved = c, c.Epoch }

// Next returns the next micro-batch. Its rollouts must be there: collected, or in their file.
func (s *rollouts) Next() data.Batch {
	if s.loaded != s.at.Epoch {
		if err := s.read(); err != nil {
			panic(err) // collect makes sure of the file
		}
	}
	micro, mini := s.at.Position%s.c.Accumulate, s.at.Position/s.c.Accumulate%s.c.MiniBatches
	epoch := s.at.Position / s.c.Accumulate / s.c.MiniBatches
	order := rand.New(rand.NewPCG(s.c.Seed, uint64(s.at.Epoch)<<16+uint64(epoch))).Perm(len(s.list))
	size := len(order) / s.c.MiniBatches
	order = order[mini*size : (mini+1)*size]
	s.counts = [2]int{}
	for _, n := range order {
		s.counts[0] += len(s.list[n].Response)
		s.counts[1] += len(s.list[n].Values)
	}
	size /= s.c.Accumulate
	s.dealt = nil
	for _, n := range order[micro*size : (micro+1)*size] {
		s.dealt = append(s.dealt, s.list[n])
	}
	if s.at.Position++; s.at.Position == s.microBatches() {
		s.at = data.Cursor{Epoch: s.at.Epoch + 1}
	}
	return rolloutBatch(s.dealt)
}

// rolloutBatch lays responses with their prompts end to end. Rows that predict a response's tokens have them as targets.
func rolloutBatch(list []*rollout) data.Batch {
	var b data.Batch
	for _, r := range list {
		b.Tokens = append(append(b.Tokens, r.Prompt...), r.Response...)
		b.Lens = append(b.Lens, len(r.Prompt)+len(r.Response))
		for range len(r.Prompt) - 1 {
			b.Targets = append(b.Targets, -1)
		}
		b.Targets = append(append(b.Targets, r.Response...), -1)
	}
	return b
}

// spreadRows puts a number of each response token, and of the place behind the last one where there is one, into the rows of rolloutBatch.
func spreadRows(list []*rollout, of func(r *rollout) []float64) (rows []float64, counted []bool) {
	for _, r := range list {
		row := make([]float64, len(r.Prompt)+len(r.Response))
		count := make([]bool, len(row))
		for i, v := range of(r) {
			row[len(r.Prompt)-1+i], count[len(r.Prompt)-1+i] = v, true
		}
		rows, counted = append(rows, row...), append(counted, count...)
	}
	return rows, counted
}

func (s *rollouts) path(iteration int) string {
	return filepath.Join(s.dir, "rollout-"+strconv.Itoa(iteration)+".json")
}

// collect makes the rollouts of the iteration that begins, if one does and they are not there.
func (s *rollouts) collect(ctx context.Context) error {
	if s.at.Position > 0 || s.loaded == s.at.Epoch {
		return nil
	}
	err := s.read()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := s.respond(ctx)
	if err != nil {
		return err
	}
	if err := s.measure(ctx, list); err != nil {
		return err
	}
	line, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := checkpoint.WriteFile(s.path(s.at.Epoch), line); err != nil {
		return err
	}
	if err := s.prune(s.saved); err != nil {
		return err
	}
	return s.read()
}

// read takes the iteration's rollouts from their file and computes what follows from them.
func (s *rollouts) read() error {
	text, err := os.ReadFile(s.path(s.at.Epoch))
	if err != nil {
		return err
	}
	var list []*rollout
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("%s: %w", s.path(s.at.Epoch), err)
	}
	if len(list) != s.c.Batch {
		return fmt.Errorf("%s: %d rollouts, want %d", s.path(s.at.Epoch), len(list), s.c.Batch)
	}
	s.list, s.loaded = list, s.at.Epoch
	s.figures = s.c.advantages(list)
	return nil
}

// prune removes the files of rollouts before an iteration.
func (s *rollouts) prune(before int) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), "rollout-")
		if n, err := strconv.Atoi(strings.TrimSuffix(name, ".json")); ok && err == nil && n < before {
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// sample lets the policy respond. Each response depends on the weights, the seed and its number alone, and on what guesses ahead, which changes
// no distribution (Leviathan et al. 2023): what is learnt from are the policy's own log-probabilities in any case.
func (s *rollouts) sample(ctx context.Context) ([]*rollout, error) {
	m := s.policy.Model
	defer withoutGradients(m)()
	list := make([]*rollout, s.c.Batch)
	sent, done := 0, 0
	var stats []*engine.Stats
	next := func() (engine.Request, bool) {
		if sent == len(list) {
			return engine.Request{}, false
		}
		episode := s.at.Epoch*len(list) + sent
		list[sent] = &rollout{Prompt: s.prompt(episode)}
		sent++
		stats = append(stats, new(engine.Stats))
		return engine.Request{Draft: s.draft, NGram: s.c.NGram, Speculate: s.c.Speculate, FixedDepth: true, Stats: stats[sent-1], Prompt: list[sent-1].Prompt, MaxTokens: s.c.ResponseLength, Sampling: sample.Options{Temperature: s.c.Temperature, TopP: 1},
			Seed: s.c.Seed<<32 + uint64(episode) + 1, Stop: s.steering}, true
	}
	err := engine.New(m, s.draft).Batch(ctx, max(1, s.c.Width), next, func(i int, tokens []int32, finish string) error {
		list[i].Response, list[i].Ended = append([]int32{}, tokens...), finish == engine.FinishStop
		done++
		s.report(Event{Stage: "ppo", Done: done, Total: len(list), Unit: "responses", Text: fmt.Sprintf("of iteration %d", s.at.Epoch+1)})
		return nil
	})
	for _, x := range stats {
		s.drafted.Rounds += x.Rounds
		s.drafted.Drafted += x.Drafted
		s.drafted.Accepted += x.Accepted
	}
	return list, err
}

// prompt returns the prompt of an episode: all of them in a new order in each pass.
func (s *rollouts) prompt(episode int) []int32 {
	pass, n := episode/len(s.prompts), episode%len(s.prompts)
	return s.prompts[rand.New(rand.NewPCG(s.c.Seed, ^uint64(pass))).Perm(len(s.prompts))[n]]
}

// withoutGradients takes the gradients from a model's weights, so that it decodes from packed ones, until the returned function is called.
func withoutGradients(m *model.Model) (restore func()) {
	grads := map[string][]float32{}
	for name, p := range m.Params {
		grads[name], p.Grad = p.Grad, nil
	}
	return func() {
		for name, p := range m.Params {
			p.Grad = grads[name]
		}
	}
}

// measure fills in what the policy, the reference, the value model and the judge say of responses. The policy's log-probabilities are computed as
// those of the training are, so that the ratio is 1 where it begins.
func (s *rollouts) measure(ctx context.Context, list []*rollout) error {
	scratch := autograd.NewScratch()
	for at := 0; at < len(list); {
		if err := ctx.Err(); err != nil {
			return err
		}
		to, size := at, 0
		for to < len(list) && (to == at || size+len(list[to].Prompt)+len(list[to].Response) <= s.c.BatchTokens) {
			size += len(list[to].Prompt) + len(list[to].Response)
			to++
		}
		part := list[at:to]
		b := rolloutBatch(part)
		for _, x := range []struct {
			m   *model.Model
			put func(r *rollout, values []float64)
		}{
			{s.policy.Model, func(r *rollout, v []float64) { r.LogProbs = v }}, {s.ref, func(r *rollout, v []float64) { r.Ref = v }},
		} {
			scratch.Reset()
			logps := loss.LogProbs(scratch, s.c.head(x.m, x.m.Forward(scratch, modelBatch(b))), b.Targets)
			eachResponse(part, logps, false, x.put)
		}
		scratch.Reset()
		values := s.value.Logits(scratch, s.value.Forward(scratch, modelBatch(b)))
		wide := make([]float64, len(values.Data))
		for i, v := range values.Data {
			wide[i] = float64(v)
		}
		eachResponse(part, wide, true, func(r *rollout, v []float64) { r.Values = v })
		at = to
	}
	if err := s.judge(ctx, list); err != nil {
		return err
	}
	for i, r := range list {
		sum := r.Score
		for j := range r.LogProbs {
			sum += r.LogProbs[j] + r.Ref[j] + r.Values[j]
		}
		if math.IsNaN(sum) || math.IsInf(sum, 0) {
			return fmt.Errorf("iteration %d: response %d has the score %g and log-probabilities or values that are no numbers", s.at.Epoch+1, i+1, r.Score)
		}
	}
	return nil
}

// eachResponse cuts the rows of rolloutBatch into those of each response's tokens, with one more for values of responses that ended by themselves.
func eachResponse(list []*rollout, rows []float64, values bool, put func(r *rollout, v []float64)) {
	at := 0
	for _, r := range list {
		n := len(r.Response)
		if values && r.Ended {
			n++
		}
		put(r, append([]float64{}, rows[at+len(r.Prompt)-1:][:n]...))
		at += len(r.Prompt) + len(r.Response)
	}
}
