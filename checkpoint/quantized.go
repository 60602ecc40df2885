package checkpoint

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"krait/kernel"
	"krait/model"
	"krait/quant"
	"krait/safetensors"
)

// quantField is the field of config.json that says how weights are stored.
const quantField = "quantization_config"

// quantMethod is this program's own: the tensors named in it are the bytes of packed panels, dtype U8, which products read as they are.
const quantMethod = "krait"

// quantizationConfig is quantization_config.
type quantizationConfig struct {
	Method  string                `json:"quant_method"`
	Version int                   `json:"version"`
	Format  string                `json:"format"`
	Weights map[string]quantShape `json:"weights"`
}

// quantShape is what a tensor of bytes stands for.
type quantShape struct {
	Format string `json:"format"`
	Shape  []int  `json:"shape"`
}

// quantVersion counts changes of the panels' layout.
const quantVersion = 1

// isOurs reports whether a quantization_config is of the kind that SaveQuantized writes.
func isOurs(raw json.RawMessage) bool {
	var q quantizationConfig
	return json.Unmarshal(raw, &q) == nil && q.Method == quantMethod
}

// SaveQuantized is Save with the weights that the model's PackAs made narrow stored as they are packed.
func SaveQuantized(dir string, c *Checkpoint) error {
	q := quantizationConfig{Method: quantMethod, Version: quantVersion, Format: c.Model.Format().String(), Weights: map[string]quantShape{}}
	matrices := map[string]quant.Matrix{}
	for name, x := range c.Model.Matrices {
		out, in := x.Dims()
		matrices[name], q.Weights[name] = x, quantShape{x.Format().String(), []int{out, in}}
	}
	if len(matrices) == 0 {
		return fmt.Errorf("write %s: the model's weights are float32", dir)
	}
	field, err := json.Marshal(q)
	if err != nil {
		return err
	}
	stored := *c
	if stored.config = maps.Clone(c.config); stored.config == nil {
		stored.config = map[string]json.RawMessage{}
	}
	stored.config[quantField] = field
	list, data := paramTensors(c.Model.Params, safetensors.F32)
	for i, t := range list {
		if x, ok := matrices[t.Name]; ok {
			list[i].DType, list[i].Shape = "U8", []int{len(x.Data())}
		}
	}
	return save(dir, func(tmp string) error {
		err := safetensors.WriteSharded(tmp, list, map[string]string{"format": "pt"}, maxShard, func(t safetensors.Tensor) ([]byte, error) {
			if x, ok := matrices[t.Name]; ok {
				return x.Data(), nil
			}
			return data(t)
		})
		if err != nil {
			return err
		}
		return stored.writeFiles(tmp)
	})
}

// LoadPacked is Load for inference: the model's weights are packed in the format of this name, or if it is empty as they are stored. Weights
// that are stored in the format are taken as they are, and the model then has no float32 ones of them.
func LoadPacked(dir, format string) (*Checkpoint, error) {
	if IsGGUF(dir) {
		c, err := loadGGUF(dir)
		return c.packAs(format, err)
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, unwrapPath(err))
	}
	c, err := loadDirAs(dir, nil, true, format)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, err)
	}
	if c.Model.Format() != quant.F32 {
		return c, nil
	}
	return c.packAs(format, nil)
}

// LoadPackedFS is LoadPacked for a file system that holds a single model.safetensors.
func LoadPackedFS(files fs.FS, format string) (*Checkpoint, error) {
	c, err := LoadFS(files)
	return c.packAs(format, err)
}

func (c *Checkpoint) packAs(format string, err error) (*Checkpoint, error) {
	if err != nil {
		return nil, err
	}
	f := quant.F32
	if format != "" {
		if f, err = quant.Parse(format); err != nil {
			return nil, err
		}
	}
	c.Model.PackAs(f)
	return c, nil
}

// narrowTensors are tensors, some of them packed panels, in the shapes that they stand for. The panels have no Data.
type narrowTensors struct {
	tensors
	matrices map[string]quant.Matrix
}

// Tensor returns a tensor by its name.
func (n narrowTensors) Tensor(name string) (safetensors.Tensor, bool) {
	t, ok := n.tensors.Tensor(name)
	if x, packed := n.matrices[name]; packed && ok {
		out, in := x.Dims()
		t = safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: []int{out, in}}
	}
	return t, ok
}

// readNarrow reads a model whose quantization_config is ours: packed, if that is wanted in the format that is stored, else as float32.
func (c *Checkpoint) readNarrow(config model.Config, from tensors, packed bool, format string) error {
	var q quantizationConfig
	if err := json.Unmarshal(c.config[quantField], &q); err != nil {
		return fmt.Errorf("config.json: %s: %w", quantField, err)
	}
	if q.Version != quantVersion {
		return fmt.Errorf("config.json: %s: version %d, this program reads %d", quantField, q.Version, quantVersion)
	}
	f, err := quant.Parse(q.Format)
	if err != nil {
		return fmt.Errorf("config.json: %s: %w", quantField, err)
	}
	delete(c.config, quantField)
	n := narrowTensors{from, map[string]quant.Matrix{}}
	memory := new(kernel.Memory)
	for _, name := range slices.Sorted(maps.Keys(q.Weights)) {
		if n.matrices[name], err = readMatrix(from, name, q.Weights[name], memory); err != nil {
			return fmt.Errorf("tensor %s: %w", name, err)
		}
	}
	if err := justify(&config, n); err != nil {
		return err
	}
	if c.Model, err = model.New(config); err != nil {
		return err
	}
	if err := matches(c.Model, n); err != nil {
		return err
	}
	for name, g := range c.Model.Formats(f) {
		if x, ok := n.matrices[name]; !ok || x.Format() != g {
			return fmt.Errorf("tensor %s is not %v, as a model in %v has it", name, g, f)
		}
	}
	for name, p := range c.Model.Params {
		x, narrow := n.matrices[name]
		switch {
		case !narrow:
			t, _ := from.Tensor(name)
			if err := safetensors.Float32s(p.Data, t); err != nil {
				return err
			}
			kernel.Scale(p.Data, fileScale(name), p.Data)
		case !packed || format != "" && format != q.Format:
			x.Dequantize(p.Data)
		}
	}
	if packed && (format == "" || format == q.Format) {
		c.Model.PackFrom(f, n.matrices)
	}
	return nil
}

// readMatrix copies the bytes of one matrix into memory.
func readMatrix(from tensors, name string, s quantShape, memory *kernel.Memory) (quant.Matrix, error) {
	f, err := quant.Parse(s.Format)
	if err != nil {
		return quant.Matrix{}, err
	}
	t, ok := from.Tensor(name)
	if !ok {
		return quant.Matrix{}, fmt.Errorf("it is missing")
	}
	const most = 1 << 28 // so that sizes do not overflow
	if t.DType != "U8" || len(s.Shape) != 2 || s.Shape[0] <= 0 || s.Shape[1] <= 0 || s.Shape[0] > most || s.Shape[1] > most {
		return quant.Matrix{}, fmt.Errorf("%s for a matrix of shape %v in %v", t.DType, s.Shape, f)
	}
	return quant.FromBytes(t.Data, s.Shape[0], s.Shape[1], f, memory)
}
