package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"krait/chat"
	"krait/engine"
	"krait/eval"
)

// textFlags are what krait bench spec is told about real text.
type textFlags struct {
	files     []string
	prompts   int
	maxTokens int
	atOnce    int
	raw       bool
	identical bool
	generateConfig
}

func (t *textFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&t.files, "text", nil, "real prompts, of `FILE`: JSON lines with a prompt each, or text with blank lines between (may be given several times)")
	f.IntVar(&t.prompts, "prompts", 5, "take the first `N` prompts of each --text")
	f.IntVar(&t.maxTokens, "max-tokens", 128, "end an answer after `N` tokens")
	f.IntVar(&t.atOnce, "at-once", 1, "answer `N` prompts of a --text together")
	f.BoolVar(&t.raw, "raw", false, "prompts are texts to continue, whatever the chat template says")
	f.BoolVar(&t.identical, "check-identical", false, "measure no speed: compare greedy answers with plain ones, for every number of guesses, branches and batches")
	f.StringVar(&t.draft, "draft", "", "directory of a draft `MODEL` that guesses ahead")
	f.StringVar(&t.selfDraft, "self-draft", "", "let these layers of MODEL itself guess ahead: a `LIST` such as 0-5 or 0,2,29")
	f.BoolVar(&t.request.NGram, "ngram", false, "guess ahead what followed the same words before")
	f.StringVar(&t.corpus, "ngram-corpus", "", "guess ahead what follows the same words in this text `FILE`, too")
	f.IntVar(&t.request.Speculate, "speculate", defaultSpeculate, "guess at most `N` tokens ahead")
}

// validate checks what goes with --text.
func (t *textFlags) validate(cmd *cobra.Command, shape string) error {
	f := cmd.Flags()
	t.request.NGram = t.request.NGram || t.corpus != ""
	switch {
	case len(t.files) == 0:
		for _, name := range []string{"draft", "self-draft", "ngram", "ngram-corpus", "prompts", "max-tokens", "at-once", "raw", "speculate", "check-identical"} {
			if f.Changed(name) {
				return usage(cmd, "--%s goes with --text FILE", name)
			}
		}
		return nil
	case shape != "":
		return usage(cmd, "--text: a model of random weights says nothing of sense, give a MODEL")
	case f.Changed("synthetic") || f.Changed("depth") || f.Changed("draft-shape"):
		return usage(cmd, "--text: with real text nothing is synthetic, and measured cost chooses the depth")
	case !t.guesses():
		return usage(cmd, "--text needs --draft MODEL, --self-draft LAYERS or --ngram to guess tokens")
	case t.prompts < 1 || t.maxTokens < 2 || t.atOnce < 1:
		return usage(cmd, "--prompts %d, --max-tokens %d and --at-once %d: want positive numbers", t.prompts, t.maxTokens, t.atOnce)
	case t.identical && t.atOnce > 1:
		return usage(cmd, "--at-once: --check-identical has batches of its own")
	case t.request.Speculate < 1 || t.request.Speculate > 256:
		return usage(cmd, "--speculate is %d, want a number from 1 to 256", t.request.Speculate)
	}
	return t.checkSelfDraft(cmd)
}

// config returns the model and what is to be measured.
func (t *textFlags) config(u *ui, b *benchFlags, name string) (eval.BenchSubject, eval.TextConfig, error) {
	t.model, t.weights, t.kv = name, b.weights, b.kv
	target, draft, err := t.load(u)
	if err != nil {
		return eval.BenchSubject{}, eval.TextConfig{}, err
	}
	c := eval.TextConfig{AtOnce: t.atOnce, MaxTokens: t.maxTokens, Most: t.request.Speculate, Stop: target.EOS, Runs: b.runs, Report: progressOf(u, "spec", "answers")}
	for _, path := range t.files {
		text, err := t.read(target, path)
		if err != nil {
			return eval.BenchSubject{}, c, err
		}
		c.Texts = append(c.Texts, text)
	}
	d := eval.BenchSubject{Name: t.draft, Model: draft}
	if t.selfDraft != "" {
		d.Name = "layers " + t.selfDraft
	}
	if t.request.NGram {
		c.Sources = append(c.Sources, eval.SpecSource{Name: "n-grams", NGram: true, Corpus: t.request.Corpus})
	}
	if draft != nil {
		c.Sources = append(c.Sources, eval.SpecSource{Name: "draft", Draft: d})
	}
	if t.request.NGram && draft != nil {
		c.Sources = append(c.Sources, eval.SpecSource{Name: "both", Draft: d, NGram: true, Corpus: t.request.Corpus})
	}
	return eval.BenchSubject{Name: name, Model: target.Model}, c, nil
}

// run measures a model on the texts.
func (t *textFlags) run(cmd *cobra.Command, u *ui, b *benchFlags, name, plot string) error {
	target, c, err := t.config(u, b, name)
	if err != nil {
		return err
	}
	if !t.identical {
		r, err := eval.BenchSpecText(cmd.Context(), target, c)
		if err != nil {
			return err
		}
		return showSpec(u, r, plot, b.json)
	}
	r, err := eval.CheckIdentical(cmd.Context(), target, c)
	if err != nil {
		return err
	}
	if b.json {
		err = u.json(r)
	} else {
		printCheck(u, r)
	}
	if err == nil && !r.Identical {
		err = errors.New("some answers with guesses differ from plain ones, which is a bug: please report it")
	}
	return err
}

// printCheck prints the table for people.
func printCheck(u *ui, r *eval.CheckReport) {
	u.print("%s in %s, %s kernels: %d prompts, %d tokens of greedy answers\n\n", r.Shape, r.Type, r.ISA, r.Prompts, r.Tokens)
	rows := [][]string{{"guesses by", "depth", "at once", "accepted", "identical", ""}}
	for _, x := range r.Checks {
		depth, first := fmt.Sprint(x.Depth), ""
		switch {
		case x.Batch > 1:
			depth = "mixed"
		case x.Depth == 0:
			depth = "chosen"
		case x.Branch:
			depth += " and a branch"
		}
		accepted := ""
		if x.Drafted > 0 {
			accepted = fmt.Sprintf("%d of %d", x.Accepted, x.Drafted)
		}
		if len(x.Different) > 0 {
			first = "first difference: " + x.Different[0]
		}
		rows = append(rows, []string{x.Source, depth, fmt.Sprint(x.Batch), accepted, fmt.Sprintf("%d of %d", x.Identical, r.Prompts), first})
	}
	u.table(rows)
}

// read returns the prompts of a file.
func (t *textFlags) read(target *loaded, path string) (eval.SpecText, error) {
	set := eval.SpecText{Name: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))}
	if err := target.mustTokenize(""); err != nil {
		return set, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return set, err
	}
	prompts, err := promptsOf(data, strings.HasSuffix(path, "l"), t.prompts)
	if err != nil {
		return set, fmt.Errorf("%s: %w", path, err)
	}
	template, err := chat.FromFiles(target.Files, "")
	if err != nil && !errors.Is(err, chat.ErrNoTemplate) {
		return set, err
	}
	for _, p := range prompts {
		if template != nil && !t.raw {
			if p, err = template.Render([]chat.Message{{Role: "user", Content: p}}, true, nil); err != nil {
				return set, fmt.Errorf("%s: %w", path, err)
			}
		}
		ids, err := target.tokenizer.Encode(p, template == nil || t.raw)
		if err != nil {
			return set, fmt.Errorf("%s: %w", path, err)
		}
		if limit := target.Model.Config.MaxPositionEmbeddings; limit > 0 && len(ids)+t.maxTokens > limit {
			ids = ids[:max(1, limit-t.maxTokens)]
		}
		set.Prompts = append(set.Prompts, ids)
	}
	return set, nil
}

// promptFields are the fields of JSON lines in which data sets have their prompts.
var promptFields = []string{"prompt", "instruction", "question", "turns", "text"}

// promptsOf returns the first n prompts of a text, or of JSON lines: strings, or objects with one of promptFields.
func promptsOf(data []byte, lines bool, n int) ([]string, error) {
	var prompts []string
	if !lines {
		for p := range strings.SplitSeq(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n\n") {
			if p = strings.TrimSpace(p); p != "" && len(prompts) < n {
				prompts = append(prompts, p)
			}
		}
	}
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, 64<<20)
	for line := 1; lines && len(prompts) < n && scanner.Scan(); line++ {
		p := promptOf(scanner.Bytes())
		if p == "" {
			return nil, fmt.Errorf("line %d: want a JSON string, or an object with a string %s", line, strings.Join(promptFields, ", "))
		}
		prompts = append(prompts, p)
	}
	if err := scanner.Err(); err != nil {
		return nil, err
	}
	if len(prompts) == 0 {
		return nil, errors.New("there is no prompt in it")
	}
	return prompts, nil
}

// promptOf returns the prompt of a JSON line, or "".
func promptOf(line []byte) string {
	var s string
	if json.Unmarshal(line, &s) == nil {
		return s
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(line, &object) != nil {
		return ""
	}
	for _, name := range promptFields {
		var turns []string
		if raw := object[name]; json.Unmarshal(raw, &s) == nil && s != "" {
			return s
		} else if json.Unmarshal(raw, &turns) == nil && len(turns) > 0 {
			return turns[0]
		}
	}
	return ""
}

// corpusOf is what --ngram-corpus reads.
func corpusOf(target *loaded, path string) (*engine.Corpus, error) {
	ids, _, err := target.readText(path)
	if err != nil {
		return nil, fmt.Errorf("--ngram-corpus: %w", err)
	}
	return engine.NewCorpus(ids), nil
}
