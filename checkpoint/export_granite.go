package checkpoint

import (
	"fmt"
	"math"
	"slices"

	"krait/gguf"
	"krait/model"
	"krait/tensor"
)

// graniteHybrid is the architecture of llama.cpp's that computes what a hybrid with Mamba2 layers in the paper's form does: rotary
// attention, SwiGLU, and Mamba2 layers whose gated norm is over each group. It demands an inner width of twice the hidden size, so heads
// of zeros are added until there are as many: they change nothing but the size (method §6.5, option B).
const graniteHybrid = "granitehybrid"

// graniteEps is the epsilon of the gated norm in the paper's layer; the architecture has one for all norms.
const graniteEps = 1e-5

// checkGranite says what of a hybrid llama.cpp cannot express.
func checkGranite(c *model.Config) error {
	m := c.Mamba
	refuse := func(what string) error {
		return fmt.Errorf("this hybrid cannot be written as GGUF: llama.cpp's granitehybrid has no %s", what)
	}
	switch {
	case m.Backbone:
		return refuse("models without attention and MLPs")
	case m.DTRank > 0:
		return refuse("Mamba1 layers")
	case m.Identity:
		return refuse("convolution without activation (ssm_cfg.activation identity)")
	case m.ZBias || m.NoNorm:
		return refuse("gate with a bias, and no layer without gated norm (z_bias, rmsnorm false)")
	case c.QKVBias || c.OBias || c.MLPBias || c.QKNorm:
		return refuse("biases, and no norms of queries and keys")
	case c.RMSNormEps != graniteEps || m.RMSNormEps != graniteEps:
		return refuse(fmt.Sprintf("norms with epsilons of their own: rms_norm_eps is %g, of the Mamba blocks %g, of the gated norm %g", c.RMSNormEps, m.RMSNormEps, graniteEps))
	case m.IntermediateSize != c.IntermediateSize:
		return refuse(fmt.Sprintf("MLPs of different widths (%d and %d)", c.IntermediateSize, m.IntermediateSize))
	case 2*c.HiddenSize%m.DState != 0 || 2*c.HiddenSize < m.DInner:
		return refuse(fmt.Sprintf("inner width but twice the hidden size %d, and heads of %d do not make that", c.HiddenSize, m.DState))
	}
	return nil
}

// graniteEntries adds the metadata of the Mamba2 layers. A layer without key-value heads is one of them.
func graniteEntries(list []gguf.KV, c *model.Config) []gguf.KV {
	heads := make([]int32, c.NumHiddenLayers)
	for i := range heads {
		if c.IsAttention(i) {
			heads[i] = int32(c.NumKeyValueHeads)
		}
	}
	for i := range list {
		if list[i].Key == graniteHybrid+".attention.head_count_kv" {
			list[i].Value = heads
		}
	}
	n := uint32(2 * c.HiddenSize / c.Mamba.DState)
	for _, e := range []gguf.KV{
		{Key: "rope.scaling.finetuned", Value: true}, // the switch for rotary positions
		{Key: "ssm.conv_kernel", Value: uint32(c.Mamba.DConv)}, {Key: "ssm.inner_size", Value: uint32(2 * c.HiddenSize)},
		{Key: "ssm.state_size", Value: uint32(c.Mamba.DState)}, {Key: "ssm.time_step_rank", Value: n}, {Key: "ssm.group_count", Value: n},
	} {
		list = append(list, gguf.KV{Key: graniteHybrid + "." + e.Key, Value: e.Value})
	}
	return list
}

// graniteItems lists the tensors of one Mamba2 layer, its groups' rows repeated for each head and its heads padded with zeros.
func graniteItems(layer int, x *model.Mamba2, c *model.Config, t gguf.Type) []exportItem {
	m := c.Mamba
	width, heads := m.DState, 2*c.HiddenSize/m.DState
	inner := m.NGroups * width
	each := func(first, n int) []int { return padded(seq(first, n), heads*n/m.NGroups) }
	shared := func(first int) []int { // x or B: the rows of the head's group
		var rows []int
		for h := range m.NGroups {
			rows = append(rows, seq(first+h*(m.DXB/width)/m.NGroups*width, width)...)
		}
		return padded(rows, heads*width)
	}
	in := slices.Concat(each(0, inner), shared(inner), shared(inner+m.DXB), each(inner+2*m.DXB, inner), each(2*inner+2*m.DXB, m.NGroups))
	conv := slices.Concat(shared(0), shared(m.DXB), each(2*m.DXB, inner))
	if m.RepeatFirst {
		conv = slices.Concat(each(0, inner), each(inner, inner), each(2*inner, inner))
	}
	one := each(0, m.NGroups)
	item := func(name string, typ gguf.Type, dims []int, from *tensor.Tensor, data func() *tensor.Tensor) exportItem {
		return exportItem{Tensor: gguf.Tensor{Name: fmt.Sprintf("blk.%d.%s", layer, name), Type: typ, Dims: dims}, data: data, from: from}
	}
	matrix := func(cols int) gguf.Type {
		if block, _ := t.Block(); cols%block != 0 {
			return gguf.F16
		}
		return t
	}
	return []exportItem{
		item("ssm_in.weight", matrix(c.HiddenSize), []int{c.HiddenSize, len(in)}, x.InProj.Weight, func() *tensor.Tensor { return gather(x.InProj.Weight, in, c.HiddenSize, 0) }),
		item("ssm_conv1d.weight", gguf.F32, []int{m.DConv, len(conv)}, x.ConvWeight, func() *tensor.Tensor { return gather(x.ConvWeight, conv, m.DConv, 0) }),
		item("ssm_conv1d.bias", gguf.F32, []int{len(conv)}, x.ConvBias, func() *tensor.Tensor { return gather(x.ConvBias, conv, 1, 0) }),
		item("ssm_dt.bias", gguf.F32, []int{heads}, x.DtBias, func() *tensor.Tensor { return gather(x.DtBias, one, 1, 0) }),
		item("ssm_a", gguf.F32, []int{1, heads}, x.ALog, func() *tensor.Tensor { return decay(gather(x.ALog, one, 1, 0)) }),
		item("ssm_d", gguf.F32, []int{1, heads}, x.D, func() *tensor.Tensor { return gather(x.D, one, 1, 0) }),
		item("ssm_norm.weight", gguf.F32, []int{width, heads}, x.NormWeight, func() *tensor.Tensor { return gather(x.NormWeight, each(0, inner), 1, 1) }),
		item("ssm_out.weight", matrix(heads*width), []int{heads * width, c.HiddenSize}, x.OutProj.Weight, func() *tensor.Tensor { return widen(x.OutProj.Weight, heads*width) }),
	}
}

// seq returns n numbers from first on.
func seq(first, n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = first + i
	}
	return list
}

// padded appends rows that are not there until there are n.
func padded(rows []int, n int) []int {
	for len(rows) < n {
		rows = append(rows, -1)
	}
	return rows
}

// gather returns rows of cols elements of p, and rows of fill for those that are not there: (len(rows), cols).
func gather(p *tensor.Tensor, rows []int, cols int, fill float32) *tensor.Tensor {
	out := tensor.New(len(rows), cols)
	for i, r := range rows {
		to := out.Row(i)
		if r >= 0 {
			copy(to, p.Data[r*cols:(r+1)*cols])
			continue
		}
		for j := range to {
			to[j] = fill
		}
	}
	return out
}

// decay turns the logarithms A_log into A; that of a head of zeros is -1.
func decay(p *tensor.Tensor) *tensor.Tensor {
	for i, v := range p.Data {
		p.Data[i] = float32(-math.Exp(float64(v)))
	}
	return p
}

// widen returns p with columns of zeros up to cols.
func widen(p *tensor.Tensor, cols int) *tensor.Tensor {
	out := tensor.New(p.Rows(), cols)
	for i := range p.Rows() {
		copy(out.Row(i), p.Row(i))
	}
	return out
}
