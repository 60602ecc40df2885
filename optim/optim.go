// Package optim updates weights from gradients: AdamW with float32 state, learning-rate schedules and clipping.
package optim

import (
	"math"

	"krait/kernel"
	"krait/tensor"
)

// Config holds AdamW's constants.
type Config struct {
	Beta1, Beta2, Eps, WeightDecay float64
}

// Param is one weight under optimisation. Scale multiplies the learning rate; Decay says whether weight decay applies.
type Param struct {
	Name   string
	Tensor *tensor.Tensor
	Scale  float64
	Decay  bool
}

// AdamW is decoupled Adam (Loshchilov and Hutter 2019). M and V are the moments of each parameter, Steps the number of updates made.
type AdamW struct {
	Config
	Params []Param
	M, V   [][]float32
	Steps  int
}

// NewAdamW returns an optimiser for the parameters; they must have gradients.
func NewAdamW(c Config, params []Param) *AdamW {
	a := &AdamW{Config: c, Params: params}
	for _, p := range params {
		a.M = append(a.M, make([]float32, len(p.Tensor.Data)))
		a.V = append(a.V, make([]float32, len(p.Tensor.Data)))
	}
	return a
}

// Update makes one step with gradients multiplied by scale, and clears them.
func (a *AdamW) Update(lr, scale float64) {
	a.Steps++
	step := kernel.AdamWStep{
		Beta1: float32(a.Beta1), Beta2: float32(a.Beta2), Eps: float32(a.Eps), Scale: float32(scale),
		C1: float32(1 - math.Pow(a.Beta1, float64(a.Steps))), C2: float32(1 - math.Pow(a.Beta2, float64(a.Steps))),
	}
	for i, p := range a.Params {
		s := step
		s.LR = float32(lr * p.Scale)
		if p.Decay {
			s.WeightDecay = float32(a.WeightDecay)
		}
		t := p.Tensor
		tensor.Rows(len(t.Data), 4, func(lo, hi int) {
			kernel.AdamW(t.Data[lo:hi], a.M[i][lo:hi], a.V[i][lo:hi], t.Grad[lo:hi], s)
			clear(t.Grad[lo:hi])
		})
	}
}

// GradNorm returns the Euclidean norm of all gradients together, each multiplied by scale.
func GradNorm(params []Param, scale float64) float64 {
	var sum float64
	for _, p := range params {
		g := p.Tensor.Grad
		const block = 4096 // float32 inside a block, float64 across blocks
		for lo := 0; lo < len(g); lo += block {
			b := g[lo:min(len(g), lo+block)]
			sum += float64(kernel.Dot(b, b))
		}
	}
	return math.Sqrt(sum) * scale
}

// ClipScale returns the factor that limits a gradient of the given norm to limit; 0 means no limit. It is PyTorch's clip_grad_norm_.
func ClipScale(norm, limit float64) float64 {
	if limit <= 0 {
		return 1
	}
	return min(1, limit/(norm+1e-6))
}
