package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"krait/model"
	"krait/safetensors"
)

// eagleType is draft_type of a draft head.
const eagleType = "eagle"

// ErrEagle is the reason why a draft head is not read as a language model.
var ErrEagle = errors.New("it is a draft head, which guesses on the hidden states of its target and cannot write by itself: give it as --draft")

// LoadDraft reads what guesses ahead: a language model or a draft head.
func LoadDraft(dir string) (*Checkpoint, error) { return mustGuess(dir)(loadProgress(dir, nil)) }

// LoadDraftPacked is LoadDraft for inference, as LoadPackedProgress is Load.
func LoadDraftPacked(dir, format string, p Progress) (*Checkpoint, error) {
	return mustGuess(dir)(loadPacked(dir, format, p))
}

// mustGuess refuses a reward model.
func mustGuess(dir string) func(c *Checkpoint, err error) (*Checkpoint, error) {
	return func(c *Checkpoint, err error) (*Checkpoint, error) {
		if err == nil && c.Model.Config.NumLabels > 0 {
			return nil, fmt.Errorf("load %s: %w", dir, ErrReward)
		}
		return c, err
	}
}

// Fingerprint returns the SHA-256 of a model's vectors: norms, biases, Δ and D. They are float32 in every format, so that of a quantised copy is that of
// the model, and training changes it.
func Fingerprint(m *model.Model) string {
	h := sha256.New()
	for name, p := range m.Params {
		if len(p.Shape) == 1 && p.Data != nil {
			io.WriteString(h, name)
			h.Write(safetensors.EncodeFloat32s(safetensors.F32, p.Data))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// draftFields writes what config.json says of a draft.
func (c *Checkpoint) draftFields(out map[string]any) {
	for _, name := range []string{"draft_head_tokens", "draft_type", "draft_target"} {
		delete(out, name)
	}
	mc := &c.Model.Config
	if len(mc.HeadTokens) > 0 {
		out["draft_head_tokens"] = mc.HeadTokens
	}
	if mc.Eagle {
		out["draft_type"] = eagleType
	}
	if mc.Eagle && c.Target != "" {
		out["draft_target"] = c.Target
	}
}

// CheckHead returns why a draft does not fit its target, which only a head may not: sure is an error, perhaps a doubt about it.
func CheckHead(target, draft *Checkpoint) (perhaps string, sure error) {
	t, d := &target.Model.Config, &draft.Model.Config
	switch {
	case !d.Eagle:
	case d.HiddenSize != t.HiddenSize:
		return "", fmt.Errorf("it is a head on hidden states of %d numbers, the model's have %d: it was made for another model", d.HiddenSize, t.HiddenSize)
	case d.VocabSize != t.VocabSize:
		return "", fmt.Errorf("it is a head for a vocabulary of %d tokens, the model's has %d: it was made for another model", d.VocabSize, t.VocabSize)
	case draft.Target != Fingerprint(target.Model):
		return "it is the head of a model with other weights, perhaps of an earlier stage: the output stays what it is, but fewer guesses may be right", nil
	}
	return "", nil
}
