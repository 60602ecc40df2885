package model

import (
	"krait/autograd"
	"krait/tensor"
)

// Recompute makes training keep only the rows that go into each block, and run the block again for its gradients, which stay the same bit by bit:
// the memory of one block's activations instead of all blocks', for the time of another forward pass.
func (m *Model) Recompute(on bool) { m.recompute = on }

// block runs one block, of which only the rows that go in stay in memory where Recompute asks for it. A run with a state would advance it twice.
func (m *Model) block(t *autograd.Tape, b *Block, x *tensor.Tensor, l *layout, layer int) *tensor.Tensor {
	if !m.recompute || l.stateful() {
		return b.Forward(t, x, l, layer)
	}
	return autograd.Recompute(t, x, func(t *autograd.Tape, x *tensor.Tensor) *tensor.Tensor { return b.Forward(t, x, l, layer) })
}
