package checkpoint

import (
	"fmt"
	"slices"
	"strings"

	"krait/kernel"
	"krait/model"
	"krait/quant"
	"krait/safetensors"
)

// fillPiece is the number of weights that are converted at a time: enough to be worth a hand-over to another core.
const fillPiece = 1 << 20

// fill copies the weights into the model. Every weight must be there in its shape, and nothing else.
func fill(m *model.Model, from tensors) error { return fillProgress(m, from, nil) }

func fillProgress(m *model.Model, from tensors, p Progress) error {
	if err := matches(m, from); err != nil {
		return err
	}
	return fillMatched(m, from, newCount(m, from, p))
}

// count tells a Progress how far a load is.
type count struct {
	done, total int64
	progress    Progress
}

func newCount(m *model.Model, from tensors, p Progress) *count {
	c := &count{progress: p}
	for name := range m.Params {
		t, _ := from.Tensor(name)
		c.total += int64(len(t.Data))
	}
	return c
}

// consumed counts a tensor that has been read and lets go of its pages.
func (c *count) consumed(t safetensors.Tensor) {
	c.done += int64(len(t.Data))
	if c.progress != nil {
		c.progress(c.done, c.total)
	}
	if t.Mapped {
		kernel.DropPages(t.Data)
	}
}

// fillMatched copies the weights that have room for numbers.
func fillMatched(m *model.Model, from tensors, c *count) error {
	for name, p := range m.Params {
		if p.Data == nil {
			continue
		}
		t, _ := from.Tensor(name)
		if f, ok := panelsOf(t.DType); ok {
			x, err := quant.View(t.Data, p.Rows(), p.Cols(), f)
			if err != nil {
				return fmt.Errorf("%s: %w", called(from, name), err)
			}
			x.Dequantize(p.Data)
		} else if err := convertTensor(p.Data, t); err != nil {
			return fmt.Errorf("%s: %w", called(from, name), err)
		}
		if scale := fileScale(name); scale != 1 {
			kernel.Scale(p.Data, scale, p.Data)
		}
		c.consumed(t)
	}
	return nil
}

// convertTensor fills dst with the elements of t, on all cores.
func convertTensor(dst []float32, t safetensors.Tensor) error {
	if err := convertible(t); err != nil {
		return err
	}
	size := t.DType.Bits() / 8
	kernel.Parallel((len(dst)+fillPiece-1)/fillPiece, func(i int) {
		lo, hi := i*fillPiece, min((i+1)*fillPiece, len(dst))
		mustConvert(dst[lo:hi], t, lo*size, hi*size)
	})
	return nil
}

// convertible checks that the elements of a tensor can be read as float32.
func convertible(t safetensors.Tensor) error {
	if !safetensors.Convertible(t.DType) {
		return fmt.Errorf("dtype %q does not convert to float32 (only F32, F16, BF16, F64 do)", t.DType)
	}
	if size := t.DType.Bits() / 8; len(t.Data) != t.Len()*size {
		return fmt.Errorf("%d bytes of %s for shape %v", len(t.Data), t.DType, t.Shape)
	}
	return nil
}

// mustConvert converts the bytes lo…hi-1 of a tensor that is convertible.
func mustConvert(dst []float32, t safetensors.Tensor, lo, hi int) {
	t.Data = t.Data[lo:hi]
	if err := safetensors.Float32s(dst, t); err != nil {
		panic(err)
	}
}

// freeze reads a model for inference: each matrix goes from its place in the file into the panels of format f, and never stands in memory in
// another form.
func freeze(config model.Config, f quant.Format, from tensors, p Progress) (*model.Model, error) {
	m, err := model.NewFrozen(config, f)
	if err != nil {
		return nil, err
	}
	if err := matches(m, from); err != nil {
		return nil, err
	}
	c := newCount(m, from, p)
	if err := fillMatched(m, from, c); err != nil {
		return nil, err
	}
	var memory kernel.Memory
	return m, m.PackFrom(func(name string, out, in int, g quant.Format) (quant.Matrix, error) {
		t, _ := from.Tensor(name)
		x, err := packTensor(t, out, in, g, &memory)
		if err != nil {
			return x, fmt.Errorf("%s: %w", called(from, name), err)
		}
		c.consumed(t)
		return x, nil
	})
}

// packTensor packs a matrix (out, in). Panels of the format are taken as they are.
func packTensor(t safetensors.Tensor, out, in int, f quant.Format, memory *kernel.Memory) (quant.Matrix, error) {
	if g, ok := panelsOf(t.DType); ok {
		if g == f {
			return quant.FromBytes(t.Data, out, in, f, memory)
		}
		x, err := quant.View(t.Data, out, in, g)
		if err != nil {
			return x, err
		}
		return quant.Pack(x.Rows(), out, in, f, memory), nil
	}
	if err := convertible(t); err != nil {
		return quant.Matrix{}, err
	}
	return quant.Pack(rowsOf(t, in), out, in, f, memory), nil
}

// dropAhead is the size of a tensor from which the pages of its rows go as soon as they have been read, not with the whole.
const dropAhead = 16 << 20

// rowsOf returns the rows, of cols numbers each, of a matrix that is convertible.
func rowsOf(t safetensors.Tensor, cols int) kernel.Rows {
	if w, ok := safetensors.Float32View(t); ok {
		return kernel.DenseRows(w, cols)
	}
	bytes := cols * t.DType.Bits() / 8
	return func(scratch []float32, lo, hi int) []float32 {
		mustConvert(scratch, t, lo*bytes, hi*bytes)
		if t.Mapped && len(t.Data) >= dropAhead {
			kernel.DropPages(t.Data[lo*bytes : hi*bytes])
		}
		return scratch
	}
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
			return fmt.Errorf("%s: shape %v, want %v", called(from, name), t.Shape, p.Shape)
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
		return fmt.Errorf("%s is unknown%s: the model is not of the kind that its config.json says", called(from, unknown[0]), andMore(len(unknown)))
	}
	return nil
}

// readable checks what can be known of weights without reading them.
func readable(m *model.Model, from tensors) error {
	if err := matches(m, from); err != nil {
		return err
	}
	for name := range m.Params {
		t, _ := from.Tensor(name)
		if _, ok := panelsOf(t.DType); ok {
			continue
		}
		if err := convertible(t); err != nil {
			return fmt.Errorf("%s: %w", called(from, name), err)
		}
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
