package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"krait/chat"
	"krait/engine"
)

// runConfig is what run is asked for.
type runConfig struct {
	generateConfig
	words        []string // the prompt
	system       string
	templateFile string
	interactive  bool
	verbose      bool
	showDraft    bool
	seeded       bool
	depthAsked   bool
}

func runCommand(u *ui) *cobra.Command {
	var c runConfig
	cmd := &cobra.Command{
		Use:     "run MODEL [PROMPT] [flags]",
		Aliases: []string{"chat"},
		Short:   "talk with a model",
		Long: `Talk with a model. Without a PROMPT, on a terminal, it is a conversation: /? lists what can be typed, """ begins and ends
a text of several lines, Ctrl-C ends an answer, Ctrl-D or /bye the conversation. With a PROMPT, or text on standard
input, which goes before it, there is one answer.

What was said stays in the model's state: a turn feeds only what is new. The prompt is what the model's chat template
makes of the conversation; a model without one continues the text. Sampling is as generation_config.json says, else greedy.

With --draft or --ngram, tokens are guessed ahead and checked: the answers are those of the model alone.
Lines typed are kept in a history in the user's state directory; KRAIT_NOHISTORY turns that off.`,
		Example: `  krait run SmolLM2-135M-Instruct
  krait run SmolLM2-135M-Instruct "Why is the sky blue?" --temperature 0.7 --verbose
  krait run stories260k "Once upon a time" --num-predict 40
  cat notes.txt | krait run zephyr "Sum this up."`,
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "run: MODEL is missing")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.model, c.words = args[0], args[1:]
			if err := c.validate(cmd); err != nil {
				return err
			}
			return converse(cmd, u, &c)
		},
	}
	r, f := &c.request, cmd.Flags()
	f.StringVar(&c.system, "system", "", "the system `TEXT`")
	f.IntVarP(&r.MaxTokens, "num-predict", "n", -1, "end an answer after `N` tokens; -1: when it ends or the context is full")
	c.adjust.flags(f, &r.Sampling)
	f.Uint64Var(&r.Seed, "seed", 0, "`SEED` of the sampling; without one each answer has its own")
	f.StringVar(&c.draft, "draft", "", "directory of a draft `MODEL` that guesses ahead")
	f.StringVar(&c.selfDraft, "self-draft", "", "let these layers of MODEL itself guess ahead: a `LIST` such as 0-5 or 0,2,29")
	f.BoolVar(&r.NGram, "ngram", false, "guess ahead what followed the same words before")
	f.StringVar(&c.corpus, "ngram-corpus", "", "guess ahead what follows the same words in this text `FILE`, too")
	f.IntVar(&r.Speculate, "speculate", defaultSpeculate, "guess at most `N` tokens ahead; 0: none")
	f.BoolVar(&c.showDraft, "show-draft", false, "colour the text that was guessed")
	f.StringVar(&c.templateFile, "chat-template-file", "", "take the chat template from `FILE`")
	f.BoolVarP(&c.interactive, "interactive", "i", false, "a conversation, though standard input is no terminal")
	f.BoolVar(&c.verbose, "verbose", false, "say after each answer how fast it went")
	f.StringVar(&c.weights, "type", "", weightsUsage+" (default: as they are stored)")
	f.StringVar(&c.kv, "kv", "", kvUsage)
	return cmd
}

func (c *runConfig) validate(cmd *cobra.Command) error {
	f, r := cmd.Flags(), &c.request
	r.NGram = r.NGram || c.corpus != ""
	switch {
	case r.MaxTokens < -1 || r.MaxTokens == 0:
		return usage(cmd, "--num-predict is %d, want a positive number, or -1 for no limit", r.MaxTokens)
	case f.Changed("speculate") && !c.guesses():
		return usage(cmd, "--speculate needs --draft MODEL or --ngram to guess tokens")
	case r.Speculate < 0 || r.Speculate > 256:
		return usage(cmd, "--speculate is %d, want a number from 0 to 256", r.Speculate)
	case f.Changed("draft") && c.draft == "":
		return usage(cmd, "--draft is empty, want a MODEL")
	case f.Changed("ngram-corpus") && c.corpus == "":
		return usage(cmd, "--ngram-corpus is empty, want a text FILE")
	case c.interactive && len(c.words) > 0:
		return usage(cmd, "--interactive: a conversation takes no PROMPT")
	}
	if err := c.checkSelfDraft(cmd); err != nil {
		return err
	}
	if err := c.adjust.check(cmd, &r.Sampling); err != nil {
		return err
	}
	c.seeded, c.depthAsked = f.Changed("seed"), f.Changed("speculate")
	return cmp.Or(checkType(cmd, c.weights), checkKV(cmd, c.kv))
}

// converse loads the models and holds the conversation.
func converse(cmd *cobra.Command, u *ui, c *runConfig) error {
	ctx := cmd.Context()
	start := time.Now()
	terminal := isTerminal(u.in)
	prompt := strings.Join(c.words, " ")
	repl := c.interactive || terminal && prompt == ""
	if !terminal && !c.interactive { // read first: there may be nothing to do
		data, err := io.ReadAll(u.stdin(ctx))
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		if at := invalidUTF8(data); at >= 0 {
			return fmt.Errorf("standard input: not valid UTF-8 at byte %d", at)
		}
		parts := slices.DeleteFunc([]string{strings.TrimRight(string(data), "\r\n"), prompt}, func(s string) bool { return s == "" })
		prompt = strings.Join(parts, " ")
		if prompt == "" {
			return errors.New("there is no prompt: give one, or run it on a terminal")
		}
	}
	conv, err := newConversation(u, c)
	if err != nil {
		return err
	}
	conv.defaults(cmd)
	conv.loading = time.Since(start)
	if repl {
		return newREPL(conv, terminal).run(ctx)
	}
	return conv.turn(ctx, prompt)
}

func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// newConversation loads the models and the template.
func newConversation(u *ui, c *runConfig) (*conversation, error) {
	target, draft, err := c.load(u)
	if err != nil {
		return nil, err
	}
	if err := target.mustTokenize(": see krait generate --prompt-ids"); err != nil {
		return nil, err
	}
	conv := &conversation{ui: u, config: c, model: target, system: c.system}
	if c.templateFile != "" {
		source, err := os.ReadFile(c.templateFile)
		if err != nil {
			return nil, err
		}
		target.Files["chat_template.jinja"] = source
	}
	switch conv.template, err = chat.FromFiles(target.Files, ""); {
	case errors.Is(err, chat.ErrNoTemplate):
		if c.system != "" {
			return nil, fmt.Errorf("--system: %s has no chat template to put it in", c.model)
		}
		u.note("%s has no chat template: it continues the text", c.model)
	case err != nil:
		return nil, fmt.Errorf("load the chat template of %s: %w", c.model, err)
	default:
		conv.template.Now = time.Now
	}
	conv.stop = slices.Clone(target.EOS)
	if conv.template != nil {
		if id, ok := target.tokenizer.ID(conv.template.Token("eos_token")); ok && !slices.Contains(conv.stop, id) {
			conv.stop = append(conv.stop, id)
		}
	}
	if !c.guesses() {
		c.request.Speculate = 0
	}
	conv.session = engine.New(target.Model, draft).NewSession(draft)
	return conv, nil
}

// defaults takes what the model's generation_config.json says of sampling where no flag does.
func (c *conversation) defaults(cmd *cobra.Command) {
	var g struct {
		Sample      bool     `json:"do_sample"`
		Temperature *float64 `json:"temperature"`
		TopP        float64  `json:"top_p"`
		TopK        int      `json:"top_k"`
		Repetition  float64  `json:"repetition_penalty"`
	}
	o, f := &c.config.request.Sampling, cmd.Flags()
	if json.Unmarshal(c.model.Files["generation_config.json"], &g) != nil || !g.Sample || f.Changed("temperature") {
		return
	}
	before := *o
	o.Temperature = 1
	if g.Temperature != nil {
		o.Temperature = *g.Temperature
	}
	if !f.Changed("top-p") {
		o.TopP = g.TopP
	}
	if !f.Changed("top-k") {
		o.TopK = g.TopK
	}
	if !f.Changed("repetition-penalty") {
		o.Repetition = g.Repetition
	}
	if o.Validate() != nil {
		*o = before
	}
}

// noLimit is the number of tokens of an answer that only the context ends.
const noLimit = math.MaxInt32

// turnRequest returns the request of one turn.
func (c *conversation) turnRequest(prompt []int32) engine.Request {
	r := c.config.request
	r.Prompt, r.Stop = prompt, c.stop
	if r.MaxTokens < 0 {
		r.MaxTokens = noLimit
	}
	fixDepth(&r, c.config.seeded, c.config.depthAsked)
	if !c.config.seeded {
		r.Seed = uint64(time.Now().UnixNano())
	}
	return r
}

// verboseFooter says what a turn did, in ollama's words where it has some.
func (c *conversation) verboseFooter(total time.Duration, s *engine.Stats) {
	kept, again := c.session.Fed()
	fed := s.PromptTokens - kept
	row := func(name, format string, args ...any) {
		c.ui.say(fmt.Sprintf("%-22s", name+":") + fmt.Sprintf(format, args...))
	}
	row("total duration", "%v", total.Round(time.Millisecond))
	if c.loading > 0 {
		row("load duration", "%v", c.loading.Round(time.Millisecond))
		c.loading = 0
	}
	row("prompt eval count", "%d token(s)", fed)
	row("prompt eval duration", "%v", s.Prefill.Round(time.Microsecond))
	row("prompt eval rate", "%.2f tokens/s", perSecond(fed-1, s.Prefill))
	row("kept in the state", "%d token(s), %d more fed again", kept, again)
	row("eval count", "%d token(s)", s.Tokens)
	row("eval duration", "%v", s.Decode.Round(time.Microsecond))
	row("eval rate", "%.2f tokens/s", perSecond(s.Tokens, s.Decode))
	if s.Rounds > 0 && c.config.request.Speculate > 0 {
		row("draft acceptance", "%d of %d (%.1f %%), %.2f tokens per step", s.Accepted, s.Drafted,
			100*float64(s.Accepted)/float64(max(s.Drafted, 1)), float64(s.Tokens)/float64(s.Rounds))
	}
}

// ended says why an answer stopped short.
func (c *conversation) ended(ctx context.Context, s *engine.Stats) {
	window := c.model.Model.Config.MaxPositionEmbeddings
	switch {
	case ctx.Err() != nil || s.FinishReason != engine.FinishLength:
	case window > 0 && s.PromptTokens+s.Tokens > window:
		c.ui.note("the context of %d tokens is full: the answer ends here, and the conversation (/clear begins another)", window)
	default:
		c.ui.note("the answer ends after %d tokens (num_predict)", s.Tokens)
	}
}
