package checkpoint

import (
	"fmt"
	"slices"
	"strings"

	"krait/kernel"
	"krait/model"
	"krait/safetensors"
)

// fillPiece is the number of weights that are converted at a time: enough to be worth a hand-over to another core.
const fillPiece = 1 << 20

// fill copies the weights into the model. Every weight must be there in its shape, and nothing else.
func fill(m *model.Model, from tensors) error { return fillProgress(m, from, nil) }

func fillProgress(m *model.Model, from tensors, progress Progress) error {
	if err := matches(m, from); err != nil {
		return err
	}
	var done, total int64
	for name := range m.Params {
		t, _ := from.Tensor(name)
		total += int64(len(t.Data))
	}
	for name, p := range m.Params {
		t, _ := from.Tensor(name)
		if len(p.Data) == 0 || len(t.Data)%len(p.Data) != 0 {
			return fmt.Errorf("tensor %s: %d bytes of %s for shape %v", name, len(t.Data), t.DType, t.Shape)
		}
		size, scale := len(t.Data)/len(p.Data), fileScale(name)
		pieces := (len(p.Data) + fillPiece - 1) / fillPiece
		errs := make([]error, pieces)
		kernel.Parallel(pieces, func(i int) {
			lo, hi := i*fillPiece, min((i+1)*fillPiece, len(p.Data))
			piece, dst := t, p.Data[lo:hi]
			piece.Data = t.Data[lo*size : hi*size]
			errs[i] = safetensors.Float32s(dst, piece)
			if scale != 1 {
				kernel.Scale(dst, scale, dst)
			}
		})
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		done += int64(len(t.Data))
		if progress != nil {
			progress(done, total)
		}
	}
	return nil
}

// matches checks that the files have the model's weights in their shapes, and nothing else.
func matches(m *model.Model, from tensors) error {
	used := map[string]bool{}
	var missing, unknown []string
	for name, p := range m.Params {
		t, ok := from.Tensor(name)
		if !ok {
			missing = append(missing, name)
			continue
		}
		used[name] = true
		if !slices.Equal(t.Shape, p.Shape) {
			return fmt.Errorf("tensor %s: shape %v, want %v", name, t.Shape, p.Shape)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("tensor %s is missing%s", missing[0], andMore(len(missing)))
	}
	for _, name := range from.Names() {
		if !used[name] && !harmless(name, m.Config.TieWordEmbeddings) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		return fmt.Errorf("tensor %s is unknown%s: the model is not of the kind that its config.json says", unknown[0], andMore(len(unknown)))
	}
	return nil
}

func andMore(n int) string {
	if n == 1 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n-1)
}

// harmless reports whether an unused tensor changes nothing: a head that repeats tied embeddings, a table of rotary frequencies.
func harmless(name string, tied bool) bool {
	return tied && name == "lm_head.weight" || strings.HasSuffix(name, ".rotary_emb.inv_freq")
}
