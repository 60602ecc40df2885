// Package engine turns tokens into tokens: prefill, decoding, lossless speculation and continuous batching. It knows no text and no files.
package engine

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"krait/autograd"
	"krait/model"
	"krait/sample"
)

// Engine generates with one target model. Its methods may be called from several goroutines at once.
type Engine struct {
	Target *model.Model
	costs  *costs
	mu     sync.Mutex
	tapes  []*autograd.Tape // free; their arenas are worth keeping between requests
}

// New returns an engine for the target, and packs the weights of the target and of the drafts that its requests will name. Weights
// that change afterwards need another New.
func New(target *model.Model, drafts ...*model.Model) *Engine {
	target.Pack()
	for _, d := range drafts {
		if d != nil && d != target {
			d.Pack()
		}
	}
	return &Engine{Target: target, costs: newCosts()}
}

// takeTape returns a scratch tape for one goroutine.
func (e *Engine) takeTape() *autograd.Tape {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.tapes)
	if n == 0 {
		return autograd.NewScratch()
	}
	t := e.tapes[n-1]
	e.tapes = e.tapes[:n-1]
	return t
}

func (e *Engine) returnTape(t *autograd.Tape) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tapes = append(e.tapes, t)
}

// Request is one generation. The output ends at a stop token, after MaxTokens tokens, or where the target's context is full.
type Request struct {
	Prompt    []int32
	MaxTokens int
	Sampling  sample.Options
	Seed      uint64
	Stop      []int32 // the token that ends the output is its last one

	Draft     *model.Model // proposes tokens: a model, or a head on the target's hidden states; its ids mean what the target's mean, though a model may have more or fewer; nil is none
	NGram     bool         // proposes what followed the same tokens before, in the prompt or the output
	Corpus    *Corpus      // proposes what follows the same tokens there; nil is none
	Speculate int          // the most tokens a round proposes; 0 is plain decoding
	// FixedDepth proposes Speculate tokens in every round. Otherwise each round's number, 0 included, is the one that measured times and
	// acceptance promise to be fastest; it does not change greedy output, but sampled output is then reproducible only in distribution.
	FixedDepth bool
	// Branch lets the draft propose a second token for the first place in every round of fixed depth; otherwise it does where that pays.
	Branch   bool
	LogProbs bool   // tokens come with their log-probabilities
	Stats    *Stats // of a Batch: takes what the request did; may be nil
	// Synthetic is for measurements alone: it replaces the decision how many of k proposed tokens are accepted, so the output means nothing.
	Synthetic func(k int) int
}

// Token is one token of the output. Drafted tells that it was proposed and accepted.
type Token struct {
	ID      int32
	Drafted bool
	LogProb float64 // natural, under the target's own distribution: temperature 1, nothing adjusted; 0 unless LogProbs
}

// Reasons for the end of an output.
const (
	FinishStop   = "stop"   // a stop token was produced
	FinishLength = "length" // MaxTokens or the context is reached
)

// Stats is what a generation did. Times do not include the consumer's.
type Stats struct {
	PromptTokens int
	Tokens       int // yielded
	Rounds       int // steps of the target after prefill: Tokens/Rounds is the number of tokens a step
	Drafted      int // tokens proposed, one for each place: what Accepted is a share of
	Accepted     int // of those places, how many a proposed token filled, be it the second candidate
	Alternatives int // second candidates for first places: rows that were judged beside those of Drafted
	Branched     int // rounds that went on with the second candidate for their first token
	Prefill      time.Duration
	Decode       time.Duration
	FinishReason string // FinishStop or FinishLength; empty where the generation was cut off
	DraftedAt    []int  // rounds that proposed a token number i
	JudgedAt     []int  // rounds that judged it: those before it were accepted
	AcceptedAt   []int  // rounds that accepted token number i
}

// maxSpeculate bounds Speculate: no measured setting gains beyond a tenth of it.
const maxSpeculate = 256

// check refuses a request that the target cannot serve, with the reason.
func (e *Engine) check(r *Request) error {
	c := &e.Target.Config
	if err := r.Sampling.Validate(); err != nil {
		return err
	}
	switch {
	case c.Eagle:
		return fmt.Errorf("the model is a draft head, which cannot write by itself")
	case r.Draft != nil && r.Draft.Config.Eagle && (r.Draft.Config.HiddenSize != c.HiddenSize || r.Draft.Config.VocabSize != c.VocabSize):
		return fmt.Errorf("the draft is a head on hidden states of %d numbers for a vocabulary of %d, the model has %d and %d",
			r.Draft.Config.HiddenSize, r.Draft.Config.VocabSize, c.HiddenSize, c.VocabSize)
	case len(r.Prompt) == 0:
		return fmt.Errorf("prompt is empty, want at least one token")
	case c.MaxPositionEmbeddings > 0 && len(r.Prompt) > c.MaxPositionEmbeddings:
		return fmt.Errorf("prompt has %d tokens, the model's context has %d", len(r.Prompt), c.MaxPositionEmbeddings)
	case r.MaxTokens < 1:
		return fmt.Errorf("max tokens is %d, want a positive number", r.MaxTokens)
	case r.Speculate < 0 || r.Speculate > maxSpeculate:
		return fmt.Errorf("speculate is %d, want a number from 1 to %d, or 0 for plain decoding", r.Speculate, maxSpeculate)
	case r.Speculate > 0 && r.Draft == nil && !r.NGram && r.Corpus == nil:
		return fmt.Errorf("speculate is %d, but there is neither a draft model nor n-grams nor a corpus to propose tokens", r.Speculate)
	}
	for i, id := range r.Prompt {
		if id < 0 || int(id) >= c.VocabSize {
			return fmt.Errorf("prompt token %d is %d, the vocabulary has %d", i, id, c.VocabSize)
		}
	}
	return nil
}

// limit returns the number of tokens, prompt included, at which the request ends. The last token is not fed, so it may stand behind the context.
func (e *Engine) limit(r *Request) int {
	n := len(r.Prompt) + r.MaxTokens
	if context := e.Target.Config.MaxPositionEmbeddings; context > 0 {
		n = min(n, context+1)
	}
	return n
}

// newRNG returns a request's source of randomness. Nothing else draws from it, so its output depends on no other request.
func newRNG(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x6b72616974)) }
