package recipe

import (
	"strings"

	"krait/optim"
	"krait/tensor"
)

// decays reports whether weight decay applies: to matrices, not to norms, biases, the convolution, A, D and Δ's bias. Mamba1's A has two
// dimensions and is no matrix of a product.
func decays(name string, p *tensor.Tensor) bool {
	return len(p.Shape) >= 2 && !strings.HasSuffix(name, "conv1d.weight") && !strings.HasSuffix(name, ".A_log")
}

// params lists the weights under optimisation.
func (t *training) params() []optim.Param {
	var params []optim.Param
	for name, p := range t.weights {
		if p.Grad == nil {
			continue
		}
		scale := t.RestLR
		if strings.Contains(name, ".mamba.") {
			scale = 1
		}
		params = append(params, optim.Param{Name: name, Tensor: p, Scale: scale, Decay: decays(name, p)})
	}
	return params
}
