package model

import (
	"strings"

	"krait/autograd"
	"krait/kernel"
	"krait/quant"
	"krait/tensor"
)

// Pack lays the weights out for inference: products read packed panels from here on. Weights that change afterwards need another Pack.
// A model that PackAs made narrow stays as it is, and so does a frozen one.
func (m *Model) Pack() {
	if m.format == quant.F32 && !m.frozen {
		m.PackAs(quant.F32)
	}
}

// PackAs is Pack in a format: products, and the embeddings' rows, then have its precision. With Q4, embeddings, output layer
// and attention's values are Q8; with Q8, attention's values are BF16. Norms, convolutions, A, D and Mamba's projection of Δ stay f32. Training reads the float32 weights in any case.
func (m *Model) PackAs(f quant.Format) {
	m.mustHaveNumbers()
	memory := new(kernel.Memory)
	m.format = f
	m.formatKV()
	_ = m.packWith(func(name string, l *Linear, g quant.Format) (quant.Matrix, error) {
		return quant.Quantize(l.Weight.Data, l.Weight.Shape[0], l.Weight.Shape[1], g, memory), nil
	})
}

// mustHaveNumbers refuses what a frozen model cannot do.
func (m *Model) mustHaveNumbers() {
	if m.frozen {
		panic("model: the model is for inference alone: its float32 weights are not in memory")
	}
}

// ComputeBF16 makes training's products those of operands rounded to bf16, where PackAs would make a weight bf16. Weights and gradients stay
// float32, and so do norms, scans, attention's scores and everything else.
func (m *Model) ComputeBF16() {
	for name, l := range m.linears {
		l.bf16 = m.formatOf(name, l, quant.BF16) == quant.BF16
	}
}

// PackForTraining lays out a model that a training reads and does not change, in float32 or in bf16 as the training computes. Matrix instructions
// for bf16 take the float32 weights as they are: they are many times as fast as products with panels of bf16, whose rows are exact.
func (m *Model) PackForTraining(bf16 bool) {
	switch {
	case bf16 && kernel.TilesBF16():
		m.ComputeBF16()
	case bf16:
		m.PackAs(quant.BF16)
	default:
		m.Pack()
	}
}

// Format returns the format that the weights are packed in, F32 also before Pack.
func (m *Model) Format() quant.Format { return m.format }

// PackFrom gives a model of NewFrozen its matrices, (out, in) in format g, by the names of Params and in their order. It returns the first
// error of matrix.
func (m *Model) PackFrom(matrix func(name string, out, in int, g quant.Format) (quant.Matrix, error)) error {
	return m.packWith(func(name string, l *Linear, g quant.Format) (quant.Matrix, error) {
		if l.Weight.Data != nil {
			return quant.Quantize(l.Weight.Data, l.Weight.Shape[0], l.Weight.Shape[1], g, nil), nil
		}
		return matrix(name, l.Weight.Shape[0], l.Weight.Shape[1], g)
	})
}

// Formats yields the parameters that PackAs(f) makes narrow, and the format of each.
func (m *Model) Formats(f quant.Format) func(yield func(name string, g quant.Format) bool) {
	return func(yield func(name string, g quant.Format) bool) {
		for name, l := range m.linears {
			if g := m.formatOf(name, l, f); g != quant.F32 && !yield(name, g) {
				return
			}
		}
	}
}

func (m *Model) formatOf(name string, l *Linear, f quant.Format) quant.Format {
	switch {
	case strings.HasSuffix(name, ".dt_proj.weight"):
		return quant.F32
	case strings.HasSuffix(name, ".v_proj.weight"):
		return f.Values()
	case l.Weight == m.EmbedTokens || l == m.head:
		return f.Head()
	}
	return f
}

// Matrices yields the narrow matrices of a packed model under their names in Params.
func (m *Model) Matrices(yield func(name string, x quant.Matrix) bool) {
	for name, l := range m.linears {
		x, ok := l.packed.(quant.Matrix)
		if l.Weight == m.EmbedTokens && m.embedded != nil {
			x, ok = *m.embedded, true
		}
		if ok && x.Format() != quant.F32 && !yield(name, x) {
			return
		}
	}
}

// packWith packs every matrix in the form that pack returns.
func (m *Model) packWith(pack func(name string, l *Linear, g quant.Format) (quant.Matrix, error)) error {
	m.embedded = nil
	for name, l := range m.linears {
		g := m.formatOf(name, l, m.format)
		embedding, standIn := l.Weight == m.EmbedTokens, l.Weight == m.EmbedTokens && l != m.head
		if standIn && g == quant.F32 { // rows are read as they are, products never
			continue
		}
		x, err := pack(name, l, g)
		if err != nil {
			return err
		}
		if embedding && (g != quant.F32 || m.frozen) {
			m.embedded = &x
		}
		if !standIn {
			l.packed = x
		}
	}
	for _, b := range m.Blocks {
		if x, ok := b.Mixer.(interface{ pack() }); ok {
			x.pack()
		}
	}
	return nil
}

// linears yields the model's matrices by the names of their weights in Params: the embeddings (the head, where they are tied, else a
// stand-in), the blocks' and the head.
func (m *Model) linears(yield func(name string, l *Linear) bool) {
	byWeight := map[*tensor.Tensor]*Linear{m.EmbedTokens: {Weight: m.EmbedTokens}}
	byWeight[m.head.Weight] = m.head
	if m.Fusion != nil {
		byWeight[m.Fusion.Proj.Weight] = m.Fusion.Proj
	}
	for _, b := range m.Blocks {
		list := b.Mixer.linears()
		if b.MLP != nil {
			list = append(list, b.MLP.GateProj, b.MLP.UpProj, b.MLP.DownProj)
		}
		for _, l := range list {
			byWeight[l.Weight] = l
		}
	}
	for name, p := range m.Params {
		if l := byWeight[p]; l != nil && !yield(name, l) {
			return
		}
	}
}

// embed returns the embeddings of tokens: (len(tokens), hidden).
func (m *Model) embed(t *autograd.Tape, tokens []int32) *tensor.Tensor {
	if m.embedded == nil || m.EmbedTokens.Grad != nil {
		return autograd.Embed(t, m.EmbedTokens, tokens)
	}
	defer t.Stop(autograd.Elementwise, t.Start())
	y := t.New(len(tokens), m.EmbedTokens.Cols())
	for i, id := range tokens {
		m.embedded.Row(y.Row(i), int(id))
	}
	return y
}

// Bytes returns the memory of the weights, packed ones too, without that of their gradients.
func (m *Model) Bytes() int {
	n := 0
	for _, p := range m.Params {
		n += 4 * len(p.Data)
	}
	for _, l := range m.linears {
		x, ok := l.packed.(quant.Matrix)
		if l.Weight == m.EmbedTokens && m.embedded != nil {
			x, ok = *m.embedded, true
		}
		if ok {
			n += x.Bytes()
		}
	}
	return n
}
