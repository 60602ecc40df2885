package checkpoint

import (
	"fmt"
	"slices"
	"strings"

	"krait/gguf"
	"krait/kernel"
	"krait/model"
	"krait/quant"
	"krait/tensor"
)

// ggufNames are the parts of a layer's names, Hugging Face's and llama.cpp's.
var ggufNames = strings.NewReplacer("model.embed_tokens.", "token_embd.", "model.norm.", "output_norm.", "lm_head.", "output.", "model.layers.", "blk.",
	"input_layernorm.", "attn_norm.", "post_attention_layernorm.", "ffn_norm.", "self_attn.q_proj.", "attn_q.", "self_attn.k_proj.", "attn_k.",
	"self_attn.v_proj.", "attn_v.", "self_attn.q_norm.", "attn_q_norm.", "self_attn.k_norm.", "attn_k_norm.",
	"self_attn.o_proj.", "attn_output.", "mlp.gate_proj.", "ffn_gate.", "mlp.up_proj.", "ffn_up.", "mlp.down_proj.", "ffn_down.")

// rotaryHead returns the width of the heads whose rows files of architecture llama keep in another order, and 0 for other tensors.
func rotaryHead(name string, c *model.Config) int {
	if strings.Contains(name, ".self_attn.q_proj.") || strings.Contains(name, ".self_attn.k_proj.") {
		return c.HeadDim
	}
	return 0
}

// ggufWeights are the weights of a GGUF file. Files of architecture llama keep the rows of queries and keys interleaved, in the order of ggml's
// rotary embedding, which turns neighbours.
type ggufWeights struct {
	*gguf.File
	config      *model.Config
	interleaved bool
	progress    Progress
	done, total int64
}

// fill converts the weights that have room for numbers. Every weight must be there in its shape, and nothing else.
func (g *ggufWeights) fill(m *model.Model) error {
	used := map[string]bool{"rope_freqs.weight": true}
	for _, name := range g.Names() {
		if t, _ := g.Tensor(name); !used[name] {
			g.total += int64(len(t.Data))
		}
	}
	for name, p := range m.Params {
		from := ggufNames.Replace(name)
		t, ok := g.Tensor(from)
		if !ok {
			return fmt.Errorf("tensor %s is missing", from)
		}
		used[from] = true
		if !slices.Equal(t.Shape(), p.Shape) {
			return fmt.Errorf("tensor %s: shape %v, want %v", from, t.Shape(), p.Shape)
		}
		if p.Data == nil {
			continue
		}
		if err := g.convert(name, p, t); err != nil {
			return fmt.Errorf("tensor %s: %w", from, err)
		}
		g.consumed(t)
	}
	for _, name := range g.Names() {
		if !used[name] {
			return fmt.Errorf("tensor %s is unknown: the model is not of the kind that its metadata says", name)
		}
	}
	return nil
}

// pack gives a frozen model its matrices.
func (g *ggufWeights) pack(m *model.Model) error {
	var memory kernel.Memory
	return m.PackFrom(func(name string, out, in int, f quant.Format) (quant.Matrix, error) {
		t, _ := g.Tensor(ggufNames.Replace(name))
		x := quant.Pack(ggufRows(t, out, g.head(name)), out, in, f, &memory)
		g.consumed(t)
		return x, nil
	})
}

// consumed counts a tensor that has been read and lets go of its pages.
func (g *ggufWeights) consumed(t gguf.Tensor) {
	g.done += int64(len(t.Data))
	if g.progress != nil {
		g.progress(g.done, g.total)
	}
	if t.Mapped {
		kernel.DropPages(t.Data)
	}
}

// head returns the width of the heads whose rows are interleaved in a weight, or 0.
func (g *ggufWeights) head(name string) int {
	if !g.interleaved {
		return 0
	}
	return rotaryHead(name, g.config)
}

// convert fills p with the elements of t.
func (g *ggufWeights) convert(name string, p *tensor.Tensor, t gguf.Tensor) error {
	head := g.head(name)
	if len(p.Shape) == 1 {
		flat := p.Data
		if head > 0 {
			flat = make([]float32, len(p.Data))
		}
		if err := gguf.Float32s(flat, t); err != nil || head == 0 {
			return err
		}
		for r := range p.Data {
			p.Data[r] = flat[interleavedRow(r, head)]
		}
		return nil
	}
	rows := ggufRows(t, p.Rows(), head)
	tensor.Rows(p.Rows(), p.Cols(), func(lo, hi int) { rows(p.Data[lo*p.Cols():hi*p.Cols()], lo, hi) })
	return nil
}

// ggufRows returns the rows of a matrix with n of them, put in the order of halves where head is not 0.
func ggufRows(t gguf.Tensor, n, head int) kernel.Rows {
	bytes := len(t.Data) / n
	return func(scratch []float32, lo, hi int) []float32 {
		if head == 0 {
			mustDequantize(scratch, t.Type, t.Data[lo*bytes:hi*bytes])
			return scratch
		}
		cols := len(scratch) / (hi - lo)
		for r := lo; r < hi; r++ {
			at := interleavedRow(r, head) * bytes
			mustDequantize(scratch[(r-lo)*cols:][:cols], t.Type, t.Data[at:at+bytes])
		}
		return scratch
	}
}

// interleavedRow returns where a file has the row of a head whose rows stand here as two halves and there as pairs: the inverse of halves.
func interleavedRow(row, head int) int {
	i := row % head
	return row - i + i%(head/2)*2 + i/(head/2)
}

// halves returns where a row goes when pairs of neighbours become halves of a head.
func halves(row, head int) int {
	i := row % head
	return row - i + i%2*head/2 + i/2
}

// mustDequantize converts rows whose type and size are known to fit.
func mustDequantize(dst []float32, t gguf.Type, src []byte) {
	if err := gguf.Dequantize(dst, t, src); err != nil {
		panic(err)
	}
}
