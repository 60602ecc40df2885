package checkpoint

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

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

// LoadPacked is Load for inference: the model's matrices are packed in the format of this name, or if it is empty as they are stored, and
// are not in memory in another form. Weights that are stored in the format are taken as they are.
func LoadPacked(dir, format string) (*Checkpoint, error) { return LoadPackedProgress(dir, format, nil) }

// LoadPackedProgress is LoadPacked for someone who waits; p may be nil.
func LoadPackedProgress(dir, format string, p Progress) (*Checkpoint, error) {
	c, err := loadPacked(dir, format, p)
	return mustWrite(dir, c, err)
}

func loadPacked(dir, format string, p Progress) (*Checkpoint, error) {
	w := wanted{packed: true, format: format, progress: p}
	if IsGGUF(dir) {
		return loadGGUF(dir, w)
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, unwrapPath(err))
	}
	c, err := loadDir(dir, w)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, err)
	}
	return c, nil
}

// LoadPackedFS is LoadPacked for a file system that holds a single model.safetensors.
func LoadPackedFS(files fs.FS, format string) (*Checkpoint, error) {
	return loadFS(files, wanted{packed: true, format: format})
}

// narrowTensors are tensors, some of them packed panels: those have the shape of what they stand for, and a type of their own.
type narrowTensors struct {
	tensors
	weights map[string]quantShape
}

// panelType begins the types that narrowTensors gives to panels.
const panelType = "panels of "

// panelsOf returns the format of panels.
func panelsOf(t safetensors.DType) (quant.Format, bool) {
	name, ok := strings.CutPrefix(string(t), panelType)
	if !ok {
		return 0, false
	}
	f, err := quant.Parse(name)
	return f, err == nil
}

// Tensor returns a tensor by its name.
func (n narrowTensors) Tensor(name string) (safetensors.Tensor, bool) {
	t, ok := n.tensors.Tensor(name)
	if s, packed := n.weights[name]; packed && ok {
		t.DType, t.Shape = safetensors.DType(panelType+s.Format), s.Shape
	}
	return t, ok
}

// narrow returns the tensors of a model whose quantization_config is ours, and the model's format.
func (c *Checkpoint) narrow(from tensors) (quant.Format, tensors, error) {
	var q quantizationConfig
	if err := json.Unmarshal(c.config[quantField], &q); err != nil {
		return 0, nil, fmt.Errorf("config.json: %s: %w", quantField, err)
	}
	if q.Version != quantVersion {
		return 0, nil, fmt.Errorf("config.json: %s: version %d, this program reads %d", quantField, q.Version, quantVersion)
	}
	f, err := quant.Parse(q.Format)
	if err != nil {
		return 0, nil, fmt.Errorf("config.json: %s: %w", quantField, err)
	}
	delete(c.config, quantField)
	for _, name := range slices.Sorted(maps.Keys(q.Weights)) {
		if err := checkPanels(from, name, q.Weights[name]); err != nil {
			return 0, nil, fmt.Errorf("%s: %w", called(from, name), err)
		}
	}
	return f, narrowTensors{from, q.Weights}, nil
}

// checkPanels checks that a tensor has the bytes of what it is said to stand for.
func checkPanels(from tensors, name string, s quantShape) error {
	f, err := quant.Parse(s.Format)
	if err != nil {
		return err
	}
	t, ok := from.Tensor(name)
	if !ok {
		return fmt.Errorf("it is missing")
	}
	const most = 1 << 28 // so that sizes do not overflow
	if t.DType != "U8" || len(s.Shape) != 2 || s.Shape[0] <= 0 || s.Shape[1] <= 0 || s.Shape[0] > most || s.Shape[1] > most {
		return fmt.Errorf("%s for a matrix of shape %v in %v", t.DType, s.Shape, f)
	}
	_, err = quant.View(t.Data, s.Shape[0], s.Shape[1], f)
	return err
}
