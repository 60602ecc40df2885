package recipe

import (
	"context"
	"fmt"
	"path/filepath"

	"krait/checkpoint"
	"krait/tensor"
	"krait/train"
)

// prepareNext makes what the batch after step needs. Where the run is being stopped that is left to the one that goes on.
func (t *training) prepareNext(ctx context.Context, step int) error {
	if t.ahead == nil || step >= t.Steps || ctx.Err() != nil {
		return nil
	}
	if err := t.ahead(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// describe says how a step went.
func (t *training) describe(s train.Step) string {
	if t.says != nil {
		return t.says(s.Parts)
	}
	return fmt.Sprintf("loss %.4f", s.Loss)
}

// valuePrefix stands before the names of the value model's weights.
const valuePrefix = "value_model."

// weights yields those of the model and, with a prefix, those of the value model.
func (t *training) weights(yield func(name string, p *tensor.Tensor) bool) {
	for name, p := range t.checkpoint.Model.Params {
		if !yield(name, p) {
			return
		}
	}
	if t.value == nil {
		return
	}
	for name, p := range t.value.Params {
		if !yield(valuePrefix+name, p) {
			return
		}
	}
}

// writeWeights puts the weights of a state into its directory.
func (t *training) writeWeights(dir string) error {
	err := checkpoint.WriteParams(t.checkpoint.Model, filepath.Join(dir, "model.safetensors"))
	if err != nil || t.value == nil {
		return err
	}
	return checkpoint.WriteParams(t.value, filepath.Join(dir, "value.safetensors"))
}

// fillWeights takes the weights of a state from its directory.
func (t *training) fillWeights(dir string) error {
	err := checkpoint.FillParams(t.checkpoint.Model, filepath.Join(dir, "model.safetensors"))
	if err != nil || t.value == nil {
		return err
	}
	return checkpoint.FillParams(t.value, filepath.Join(dir, "value.safetensors"))
}
