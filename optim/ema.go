package optim

import (
	"krait/kernel"
	"krait/tensor"
)

// EMA is the exponential moving average of weights: after every step Values ← Decay·Values + (1-Decay)·weights, element by element, from the weights
// as they start (Polyak and Juditsky 1992, Acceleration of Stochastic Approximation by Averaging; with a decay as in Tarvainen and Valpola 2017).
type EMA struct {
	Decay  float64
	Params []Param
	Values [][]float32
}

// NewEMA returns the average of the parameters as they are.
func NewEMA(decay float64, params []Param) *EMA {
	e := &EMA{Decay: decay, Params: params}
	for _, p := range params {
		e.Values = append(e.Values, append([]float32(nil), p.Tensor.Data...))
	}
	return e
}

// Update takes in the weights of a step.
func (e *EMA) Update() {
	for i, p := range e.Params {
		v := e.Values[i]
		tensor.Rows(len(v), 2, func(lo, hi int) {
			kernel.Scale(v[lo:hi], float32(e.Decay), v[lo:hi])
			kernel.Axpy(v[lo:hi], float32(1-e.Decay), p.Tensor.Data[lo:hi])
		})
	}
}

// Swap puts the averages in the place of the weights, which it keeps; again it puts them back.
func (e *EMA) Swap() {
	for i, p := range e.Params {
		p.Tensor.Data, e.Values[i] = e.Values[i], p.Tensor.Data
	}
}
