package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"krait/checkpoint"
	"krait/engine"
	"krait/model"
	"krait/quant"
	"krait/tokenizer"
)

// generateConfig is what generate is asked for.
type generateConfig struct {
	model, draft      string
	corpus            string // a text file
	selfDraft         string // layers
	adjust            adjustConfig
	prompt, promptIDs string
	request           engine.Request
	ignoreEOS         bool
	weights, kv       string
	json              bool
}

// How many tokens a round proposes when there is someone to propose them: at most, where measurement decides, and always, where a seed is to
// give the same text again.
const (
	defaultSpeculate = 16
	fixedSpeculate   = 4
)

// fixDepth makes sampled output with a seed reproducible: what was measured has no say in how many tokens are guessed.
func fixDepth(r *engine.Request, seeded, asked bool) {
	if r.FixedDepth = seeded && !r.Sampling.Greedy(); r.FixedDepth && !asked {
		r.Speculate = min(r.Speculate, fixedSpeculate)
	}
}

func generateCommand(u *ui) *cobra.Command {
	var c generateConfig
	cmd := verb("generate MODEL", cobra.Command{
		Aliases: []string{"gen"},
		Short:   "continue a prompt, with lossless speculation on request",
		Long: `Continue a prompt. The text streams to standard output; how fast it went stands on standard error.

With --draft or --ngram, tokens are guessed ahead and checked in one pass of the model: the output is that of
the model alone, and greedy output is the same bytes. The number guessed follows what measurement says pays,
from 0 to --speculate. Sampled output with a --seed guesses --speculate tokens always (4 unless it is given), so that
the seed gives it again.`,
		Example: `  krait generate stories260k --prompt "Once upon a time"
  krait generate stories260k --prompt "Once upon a time" --temperature 0.8 --top-p 0.95 --seed 7
  krait generate stories260k --prompt-ids "[1,403,407]" --ngram --speculate 8 --json
  echo "The big dog" | krait generate stories260k --prompt - --max-tokens 50`,
	}, func(cmd *cobra.Command, args []string) error {
		c.model = args[0]
		if err := c.validate(cmd); err != nil {
			return err
		}
		return generate(cmd.Context(), u, &c)
	})
	r, f := &c.request, cmd.Flags()
	f.StringVarP(&c.prompt, "prompt", "p", "", "the `TEXT` to continue; - reads standard input")
	f.StringVar(&c.promptIDs, "prompt-ids", "", "the prompt as a JSON `ARRAY` of token ids")
	f.IntVarP(&r.MaxTokens, "max-tokens", "n", 256, "end after `N` tokens")
	c.adjust.flags(f, &r.Sampling)
	f.Uint64Var(&r.Seed, "seed", 0, "`SEED` of the sampling")
	f.StringVar(&c.draft, "draft", "", "directory of a draft `MODEL` that guesses ahead")
	f.StringVar(&c.selfDraft, "self-draft", "", "let these layers of MODEL itself guess ahead: a `LIST` such as 0-5 or 0,2,29")
	f.BoolVar(&r.NGram, "ngram", false, "guess ahead what followed the same words before")
	f.StringVar(&c.corpus, "ngram-corpus", "", "guess ahead what follows the same words in this text `FILE`, too")
	f.IntVar(&r.Speculate, "speculate", defaultSpeculate, "guess at most `N` tokens ahead; 0: none")
	f.BoolVar(&c.ignoreEOS, "ignore-eos", false, "go on behind the end-of-text token")
	f.StringVar(&c.weights, "type", "", weightsUsage+" (default: as they are stored)")
	f.StringVar(&c.kv, "kv", "", kvUsage)
	f.BoolVar(&r.LogProbs, "logprobs", false, "with --json, give the log-probability of each token")
	f.BoolVar(&c.json, "json", false, "print one JSON object when done")
	return cmd
}

func (c *generateConfig) validate(cmd *cobra.Command) error {
	f, r := cmd.Flags(), &c.request
	r.NGram = r.NGram || c.corpus != ""
	guesses := c.guesses()
	switch {
	case f.Changed("prompt") == f.Changed("prompt-ids"):
		return usage(cmd, "generate: give either --prompt or --prompt-ids")
	case r.MaxTokens < 1:
		return usage(cmd, "--max-tokens is %d, want a positive number", r.MaxTokens)
	case f.Changed("speculate") && !guesses:
		return usage(cmd, "--speculate needs --draft MODEL or --ngram to guess tokens")
	case r.Speculate < 0 || r.Speculate > 256:
		return usage(cmd, "--speculate is %d, want a number from 0 to 256", r.Speculate)
	case f.Changed("draft") && c.draft == "":
		return usage(cmd, "--draft is empty, want a MODEL")
	case f.Changed("ngram-corpus") && c.corpus == "":
		return usage(cmd, "--ngram-corpus is empty, want a text FILE")
	}
	if err := c.checkSelfDraft(cmd); err != nil {
		return err
	}
	if err := c.adjust.check(cmd, &r.Sampling); err != nil {
		return err
	}
	if c.adjust.regex != "" && c.ignoreEOS {
		return usage(cmd, "--regex ends the output where it matches: it does not go with --ignore-eos")
	}
	if err := cmp.Or(checkType(cmd, c.weights), checkKV(cmd, c.kv)); err != nil {
		return err
	}
	if !guesses {
		r.Speculate = 0
	}
	fixDepth(r, f.Changed("seed"), f.Changed("speculate"))
	if f.Changed("prompt-ids") {
		dec := json.Unmarshal([]byte(c.promptIDs), &r.Prompt)
		if dec != nil || len(r.Prompt) == 0 {
			return usage(cmd, "--prompt-ids %q: want a JSON array of token ids", c.promptIDs)
		}
	}
	return nil
}

// guesses reports whether there is anyone to guess tokens.
func (c *generateConfig) guesses() bool { return c.draft != "" || c.selfDraft != "" || c.request.NGram }

// checkSelfDraft checks --self-draft.
func (c *generateConfig) checkSelfDraft(cmd *cobra.Command) error {
	layers, err := parseLayers(c.selfDraft)
	switch {
	case !cmd.Flags().Changed("self-draft"):
		return nil
	case err != nil || len(layers) == 0:
		return usage(cmd, "--self-draft %q: want numbers of layers, each once, such as 0-5 or 0,2,29", c.selfDraft)
	case c.draft != "":
		return usage(cmd, "--draft %s and --self-draft %s are two drafts: want one", c.draft, c.selfDraft)
	}
	return nil
}

// weightsUsage describes --type.
var weightsUsage = "`TYPE` of the weights in memory: " + quant.Names()

// checkType refuses types of weights that there are not.
func checkType(cmd *cobra.Command, name string) error {
	if _, err := quant.Parse(name); err != nil && (name != "" || cmd.Flags().Changed("type")) {
		return usage(cmd, "--type %q: want %s", name, quant.Names())
	}
	return nil
}

// generated is the JSON object of generate.
type generated struct {
	Text         string    `json:"text"`
	IDs          []int32   `json:"ids"`
	PromptTokens int       `json:"prompt_tokens"`
	Tokens       int       `json:"tokens"`
	FinishReason string    `json:"finish_reason"`
	PrefillRate  float64   `json:"prefill_tokens_per_second"`
	Rate         float64   `json:"tokens_per_second"`
	LogProbs     []float64 `json:"logprobs,omitempty"`
	*Speculated
}

// Speculated is the part of it that speculation has.
type Speculated struct {
	Drafted       int     `json:"drafted"`                // one guess a place
	Accepted      int     `json:"accepted"`               // of those places
	Alternatives  int     `json:"alternatives,omitempty"` // second guesses for a place, judged beside the first
	TokensPerStep float64 `json:"tokens_per_step"`
}

func generate(ctx context.Context, u *ui, c *generateConfig) error {
	target, draft, err := c.load(u)
	if err != nil {
		return err
	}
	r := c.request
	if r.Draft = draft; c.promptIDs == "" {
		if r.Prompt, err = c.encodePrompt(ctx, u, target); err != nil {
			return err
		}
	}
	if !c.ignoreEOS {
		r.Stop = target.EOS
	}
	w := newTextWriter(u, target.tokenizer, r.Prompt, c.json)
	w.mark = u.color && r.Speculate > 0
	var stats engine.Stats
	var failed error
	for token, err := range engine.New(target.Model, draft).Generate(ctx, r, &stats) {
		if err != nil {
			failed = err
			break
		}
		if w.push(token); u.out.err != nil {
			return nil // run reports it
		}
	}
	if len(w.ids) > 0 || failed == nil || errors.Is(failed, context.Canceled) {
		w.end()
	}
	if failed != nil && !errors.Is(failed, context.Canceled) {
		return failed
	}
	out := newGenerated(w, &stats, r.Speculate > 0)
	if r.LogProbs {
		out.LogProbs = w.logProbs
	}
	if failed != nil {
		out.FinishReason = "interrupted"
	}
	if c.json {
		if err := u.json(out); err != nil {
			return err
		}
	} else {
		footer(u, out, &stats)
	}
	return failed
}

// load reads the models and the corpus.
func (c *generateConfig) load(u *ui) (target *loaded, draft *model.Model, err error) {
	if target, err = u.loadPacked(c.model, c.weights); err != nil {
		return nil, nil, err
	}
	setKV(c.kv, target.Model)
	if err := c.adjust.compile(target, &c.request.Sampling); err != nil {
		return nil, nil, err
	}
	if c.corpus != "" && c.request.Speculate > 0 {
		if c.request.Corpus, err = corpusOf(target, c.corpus); err != nil {
			return nil, nil, err
		}
	}
	if c.selfDraft != "" {
		layers, _ := parseLayers(c.selfDraft) // checkSelfDraft has seen it
		if draft, err = model.Shortcut(target.Model, layers); err != nil {
			err = fmt.Errorf("--self-draft: %w", err)
		}
		return target, draft, err
	}
	if c.draft == "" {
		return target, nil, nil
	}
	d, err := u.loadDraft(c.draft, c.weights)
	if err != nil {
		return nil, nil, err
	}
	setKV(c.kv, d.Model)
	perhaps, err := checkpoint.CheckHead(target.Checkpoint, d.Checkpoint)
	if err == nil {
		err = sameTokens(target, d)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("draft %s: %w", c.draft, err)
	}
	if perhaps != "" {
		u.note("draft %s: %s", c.draft, perhaps)
	}
	return target, d.Model, nil
}

func (c *generateConfig) encodePrompt(ctx context.Context, u *ui, target *loaded) ([]int32, error) {
	if err := target.mustTokenize(": give --prompt-ids"); err != nil {
		return nil, err
	}
	prompt := c.prompt
	if prompt == "-" {
		data, err := io.ReadAll(u.stdin(ctx))
		if err != nil {
			return nil, fmt.Errorf("read the prompt: %w", err)
		}
		prompt = string(data)
	}
	ids, err := target.tokenizer.Encode(prompt, true)
	if err != nil {
		return nil, fmt.Errorf("prompt: %w", err)
	}
	return ids, nil
}

// textWriter turns tokens into text as they come.
type textWriter struct {
	ui       *ui
	stream   *tokenizer.Stream // nil where the model has no tokenizer
	silent   bool              // collect only
	mark     bool              // colour accepted guesses
	text     []byte
	ids      []int32
	logProbs []float64
}

// newTextWriter returns a writer of what follows the prompt, which the stream must have seen: a space in front of a word is left out only
// at the beginning of a text.
func newTextWriter(u *ui, t *tokenizer.Tokenizer, prompt []int32, silent bool) *textWriter {
	w := &textWriter{ui: u, silent: silent, ids: []int32{}}
	if t != nil {
		w.stream = t.NewStream(true)
		for _, id := range prompt {
			w.stream.Push(id)
		}
	}
	return w
}

func (w *textWriter) push(t engine.Token) {
	w.ids = append(w.ids, t.ID)
	w.logProbs = append(w.logProbs, t.LogProb)
	if w.stream != nil {
		w.write(w.stream.Push(t.ID), t.Drafted)
	}
}

func (w *textWriter) write(s string, drafted bool) {
	w.text = append(w.text, s...)
	switch {
	case w.silent || s == "":
	case w.mark && drafted:
		w.ui.print("\x1b[32m%s\x1b[0m", s)
	default:
		w.ui.print("%s", s)
	}
}

// end writes what the stream held back, and the end of the line. Without a tokenizer the ids are the text.
func (w *textWriter) end() {
	if w.stream != nil {
		w.write(w.stream.Flush(), false)
	}
	if w.silent {
		return
	}
	if w.stream == nil {
		_ = w.ui.json(w.ids) // integers have a JSON form
		return
	}
	w.ui.print("\n")
}

func newGenerated(w *textWriter, s *engine.Stats, speculating bool) *generated {
	g := &generated{
		Text: string(w.text), IDs: w.ids, PromptTokens: s.PromptTokens, Tokens: s.Tokens, FinishReason: s.FinishReason,
		PrefillRate: perSecond(s.PromptTokens-1, s.Prefill), // the last token of the prompt is fed by the first step
		Rate:        perSecond(s.Tokens, s.Decode),
	}
	if speculating {
		g.Speculated = &Speculated{Drafted: s.Drafted, Accepted: s.Accepted, Alternatives: s.Alternatives}
		if s.Rounds > 0 {
			g.TokensPerStep = float64(s.Tokens) / float64(s.Rounds)
		}
	}
	return g
}

func perSecond(n int, d time.Duration) float64 {
	if n <= 0 || d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// footer says how fast it went.
func footer(u *ui, g *generated, s *engine.Stats) {
	if u.quiet {
		return
	}
	u.say("==========")
	prompt := fmt.Sprintf("Prompt: %d tokens", g.PromptTokens)
	if g.PrefillRate > 0 {
		prompt += fmt.Sprintf(", %.1f tokens-per-sec", g.PrefillRate)
	}
	u.say(prompt)
	u.say(fmt.Sprintf("Generation: %d tokens, %.1f tokens-per-sec, ended by %s", g.Tokens, g.Rate, g.FinishReason))
	if g.Speculated == nil {
		return
	}
	share := 0.0
	if s.Drafted > 0 {
		share = 100 * float64(s.Accepted) / float64(s.Drafted)
	}
	u.say(fmt.Sprintf("Speculation: %d of %d guesses accepted (%.1f %%), %.2f tokens per step", s.Accepted, s.Drafted, share, g.TokensPerStep))
}
