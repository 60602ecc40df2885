package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"krait/checkpoint"
	"krait/kernel"
	"krait/model"
	"krait/recipe"
	"krait/tokenizer"
)

// embeddedName is the name of the model inside the program, wherever no directory has it.
const embeddedName = "stories260k"

// isEmbedded reports whether a MODEL argument means the embedded model.
func isEmbedded(name string) bool {
	if name != embeddedName {
		return false
	}
	_, err := os.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// loaded is a model with its tokenizer, which is nil where it has none.
type loaded struct {
	*checkpoint.Checkpoint
	name      string
	tokenizer *tokenizer.Tokenizer
}

// loadCheckpoint reads a MODEL and leaves its tokenizer unread.
func (u *ui) loadCheckpoint(name string) (*checkpoint.Checkpoint, error) {
	if isEmbedded(name) {
		return checkpoint.LoadFS(recipe.Stories260K())
	}
	return checkpoint.LoadProgress(name, u.loading(name))
}

// load reads a MODEL. It need not have a tokenizer.
func (u *ui) load(name string) (*loaded, error) {
	c, err := u.loadCheckpoint(name)
	if err != nil {
		return nil, err
	}
	return withTokenizer(name, c)
}

// outline reads a MODEL, a reward model too, without its weights.
func outline(name string) (*loaded, error) {
	var c *checkpoint.Checkpoint
	var err error
	if isEmbedded(name) {
		c, err = checkpoint.OutlineFS(recipe.Stories260K())
	} else {
		c, err = checkpoint.Outline(name)
	}
	if err != nil {
		return nil, err
	}
	return withTokenizer(name, c)
}

// kvUsage describes --kv.
const kvUsage = "`TYPE` of keys and values in memory: f32 or f16 (default: f16 with weights of a narrow type, f32 with f32)"

// checkKV refuses types of keys and values that there are not.
func checkKV(cmd *cobra.Command, name string) error {
	if _, err := kernel.ParseKV(name); err != nil && (name != "" || cmd.Flags().Changed("kv")) {
		return usage(cmd, "--kv %q: want f32 or f16", name)
	}
	return nil
}

// setKV makes models keep keys and values in what --kv says, if it says something.
func setKV(name string, models ...*model.Model) {
	if f, err := kernel.ParseKV(name); err == nil {
		for _, m := range models {
			m.SetKV(f)
		}
	}
}

// loadPacked reads a MODEL for inference with weights of a type, as they are stored if it is empty.
func (u *ui) loadPacked(name, weights string) (*loaded, error) {
	c, err := u.loadPackedCheckpoint(name, weights)
	if err != nil {
		return nil, err
	}
	return withTokenizer(name, c)
}

// loadDraft is loadPacked for what guesses ahead, which may be a draft head.
func (u *ui) loadDraft(name, weights string) (*loaded, error) {
	c, err := u.loadDraftCheckpoint(name, weights)
	if err != nil {
		return nil, err
	}
	return withTokenizer(name, c)
}

func (u *ui) loadDraftCheckpoint(name, weights string) (*checkpoint.Checkpoint, error) {
	if isEmbedded(name) {
		return checkpoint.LoadPackedFS(recipe.Stories260K(), weights)
	}
	return checkpoint.LoadDraftPacked(name, weights, u.loading(name))
}

func (u *ui) loadPackedCheckpoint(name, weights string) (*checkpoint.Checkpoint, error) {
	if isEmbedded(name) {
		return checkpoint.LoadPackedFS(recipe.Stories260K(), weights)
	}
	return checkpoint.LoadPackedProgress(name, weights, u.loading(name))
}

// loading shows how much of a large model's weights is read.
func (u *ui) loading(name string) checkpoint.Progress { return recipe.Loading(u.report, name) }

// withTokenizer reads the tokenizer of a MODEL, where it has one.
func withTokenizer(name string, c *checkpoint.Checkpoint) (*loaded, error) {
	var err error
	l := &loaded{Checkpoint: c, name: name}
	if !l.HasTokenizer() {
		return l, nil
	}
	if l.tokenizer, err = c.Tokenizer(); err != nil {
		return nil, fmt.Errorf("load the tokenizer of %s: %w", name, err)
	}
	return l, nil
}

// loadTokenizer reads the tokenizer of a MODEL that need not have anything else.
func loadTokenizer(name string) (*tokenizer.Tokenizer, error) {
	var t *tokenizer.Tokenizer
	var err error
	if checkpoint.IsGGUF(name) {
		if t, err = checkpoint.GGUFTokenizer(name); err != nil {
			return nil, fmt.Errorf("load the tokenizer of %w", err) // it names the file
		}
	} else if isEmbedded(name) {
		var data []byte
		if data, err = fs.ReadFile(recipe.Stories260K(), "tokenizer.json"); err == nil {
			t, err = tokenizer.Parse(data)
		}
	} else {
		t, err = tokenizer.Load(name)
	}
	if err != nil {
		return nil, fmt.Errorf("load the tokenizer of %s: %w", name, err)
	}
	return t, nil
}

// mustTokenize reports that text needs a tokenizer.
func (l *loaded) mustTokenize(instead string) error {
	if l.tokenizer == nil {
		return fmt.Errorf("%s has neither tokenizer.json nor tokenizer.model, so it cannot read text%s", l.name, instead)
	}
	return nil
}

// sameTokens reports why two models' token ids do not mean the same. A model without a tokenizer is judged by its vocabulary alone; of two
// with one tokenizer the vocabularies may be padded to different sizes.
func sameTokens(a, b *loaded) error {
	if x, y := a.Model.Config.VocabSize, b.Model.Config.VocabSize; x != y && (a.tokenizer == nil || b.tokenizer == nil) {
		return fmt.Errorf("%s has a vocabulary of %d tokens, %s of %d: they must share one", a.name, x, b.name, y)
	}
	if a.tokenizer == nil || b.tokenizer == nil || bytes.Equal(a.Files["tokenizer.json"], b.Files["tokenizer.json"]) {
		return nil
	}
	for id := range int32(max(a.tokenizer.VocabSize(), b.tokenizer.VocabSize())) {
		x, ok1 := a.tokenizer.Token(id)
		y, ok2 := b.tokenizer.Token(id)
		if x != y || ok1 != ok2 {
			return fmt.Errorf("the tokenizers differ: token %d is %q in %s and %q in %s", id, x, a.name, y, b.name)
		}
	}
	return nil
}

// readText reads a text file and its token ids, BOS included where the tokenizer adds it.
func (l *loaded) readText(path string) (ids []int32, bytes int, err error) {
	if err := l.mustTokenize(""); err != nil {
		return nil, 0, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	if at := invalidUTF8(data); at >= 0 {
		return nil, 0, fmt.Errorf("%s: not valid UTF-8 at byte %d: convert the text to UTF-8", path, at)
	}
	if ids, err = l.tokenizer.Encode(string(data), true); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	return ids, len(data), nil
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}
