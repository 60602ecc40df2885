package checkpoint

import (
	"fmt"
	"strings"

	"krait/model"
	"krait/safetensors"
)

// tensors is where weights come from.
type tensors interface {
	Names() []string
	Tensor(name string) (safetensors.Tensor, bool)
}

// hint is what the names and shapes of a file's tensors say about its Mamba layers. They are believed before mamba_config.json, which does
// not say everything.
type hint struct {
	mamba1, mamba2 string // the tensor that shows layers of the kind, or ""
	heads          int    // of Mamba2
	dtRank         int    // of Mamba1
	convChannels   int
}

func hintOf(from tensors) hint {
	var h hint
	for _, name := range from.Names() {
		_, part, ok := strings.Cut(name, ".mamba.")
		if !ok {
			continue
		}
		first := func() int { return dimension(from, name, 0) }
		switch {
		case part == "dt_bias" && h.mamba2 == "":
			h.mamba2, h.heads = name, first()
		case part == "dt_proj.weight" && h.mamba1 == "":
			h.mamba1, h.dtRank = name, dimension(from, name, 1)
		case part == "conv1d.weight" && h.convChannels == 0:
			h.convChannels = first()
		}
	}
	return h
}

func dimension(from tensors, name string, i int) int {
	if t, ok := from.Tensor(name); ok && i < len(t.Shape) {
		return t.Shape[i]
	}
	return 0
}

// renamed is a set of tensors some of which are called by other names: whole, or as a range of rows.
type renamed struct {
	tensors
	pieces map[string]piece
	hidden map[string]bool // the names that the pieces stand for
}

type piece struct {
	of     string
	lo, hi int // rows; hi = 0 is all
}

// Names implements tensors.
func (r *renamed) Names() []string {
	var names []string
	for _, name := range r.tensors.Names() {
		if !r.hidden[name] {
			names = append(names, name)
		}
	}
	for name := range r.pieces {
		names = append(names, name)
	}
	return names
}

// Tensor implements tensors.
func (r *renamed) Tensor(name string) (safetensors.Tensor, bool) {
	p, ok := r.pieces[name]
	if !ok {
		if r.hidden[name] {
			return safetensors.Tensor{}, false
		}
		return r.tensors.Tensor(name)
	}
	t, ok := r.tensors.Tensor(p.of)
	if !ok || p.hi == 0 {
		return t, ok
	}
	row := len(t.Data) / t.Shape[0]
	t.Data = t.Data[p.lo*row : p.hi*row]
	t.Shape = append([]int{p.hi - p.lo}, t.Shape[1:]...)
	return t, true
}

// called returns the words by which a sentence names a tensor: its file, where it has one, and its name there.
func called(from tensors, name string) string {
	file, name := fileOf(from, name)
	return file + "tensor " + name
}

// fileOf returns the file that holds a tensor, as the beginning of a sentence, and the tensor's name there.
func fileOf(from tensors, name string) (file, there string) {
	switch f := from.(type) {
	case *renamed:
		if p, ok := f.pieces[name]; ok {
			name = p.of
		}
		return fileOf(f.tensors, name)
	case narrowTensors:
		return fileOf(f.tensors, name)
	case interface{ File(tensor string) string }:
		if file = f.File(name); file != "" {
			file += ": "
		}
	}
	return file, name
}

// part is a piece to be cut and its rows.
type part struct {
	name string
	rows int
}

// cut gives ranges of rows of the tensor of names of their own.
func (r *renamed) cut(of string, parts ...part) error {
	t, ok := r.tensors.Tensor(of)
	if !ok {
		return nil
	}
	sum := 0
	for _, p := range parts {
		r.pieces[p.name] = piece{of, sum, sum + p.rows}
		sum += p.rows
	}
	if len(t.Shape) == 0 || t.Shape[0] != sum {
		return fmt.Errorf("%s: shape %v, want %d rows", called(r.tensors, of), t.Shape, sum)
	}
	r.hidden[of] = true
	return nil
}

// rename calls a tensor by another name.
func (r *renamed) rename(of, name string) {
	if _, ok := r.tensors.Tensor(of); ok {
		r.pieces[name], r.hidden[of] = piece{of: of}, true
	}
}

// trainingNames gives the tensors the names of the training layout, which are the model's, whichever of the paper's two layouts they
// have (method §6.1): in the other, q, k and v are one matrix, and so are the projections of Mamba1.
func trainingNames(c *model.Config, from tensors) (tensors, error) {
	r := &renamed{from, map[string]piece{}, map[string]bool{}}
	if c.Mamba != nil && c.Mamba.Backbone {
		r.rename("backbone.embedding.weight", "backbone.embeddings.weight") // as Mamba's authors write it
		return r, nil
	}
	q, kv := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	for i := range c.NumHiddenLayers {
		layer := fmt.Sprintf("model.layers.%d.", i)
		if c.IsAttention(i) {
			for _, suffix := range []string{".weight", ".bias"} {
				att := layer + "self_attn."
				if err := r.cut(layer+"mha.in_proj"+suffix, part{att + "q_proj" + suffix, q}, part{att + "k_proj" + suffix, kv}, part{att + "v_proj" + suffix, kv}); err != nil {
					return nil, err
				}
				r.rename(layer+"mha.out_proj"+suffix, att+"o_proj"+suffix)
			}
			continue
		}
		if m := c.Mamba; m.DTRank > 0 {
			p := layer + "mamba."
			if err := r.cut(p+"in_proj.weight", part{p + "in_proj_z.weight", m.DInner}, part{p + "in_proj_x.weight", m.DXB}, part{p + "B_proj.weight", m.DXB},
				part{p + "C_proj.weight", m.DInner}, part{p + "dt_proj_down.weight", m.DTRank}); err != nil {
				return nil, err
			}
		}
	}
	if len(r.pieces) == 0 {
		return from, nil
	}
	return r, nil
}

// fileScale returns the number by which the model's weight is larger than the file's. The releases' Mamba1 layer adds the bias of its
// step sizes twice (method §1.3); the model has the sum. Twice and half of a float are exact.
func fileScale(name string) float32 {
	if strings.HasSuffix(name, ".mamba.dt_proj.bias") {
		return 2
	}
	return 1
}
