// Package checkpoint turns directories into models and models into directories: Hugging Face's config.json with model.safetensors or
// pytorch_model.bin, the paper's mamba_config.json, and krait.json with where a model came from.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"krait/model"
	"krait/quant"
	"krait/safetensors"
	"krait/tensor"
	"krait/tokenizer"
	"krait/torchfile"
)

// Checkpoint is a model with what belongs to it.
type Checkpoint struct {
	Model      *model.Model
	BOS, EOS   []int32           // bos_token_id and eos_token_id
	Provenance *Provenance       // krait.json, nil where there is none
	Files      map[string][]byte // the tokenizer's and the generation's files, carried as they are
	Stored     quant.Format      // of the weights as they are stored: what a packed load without a format leaves them
	DType      safetensors.DType // in which Save writes the weights: F32 (also ""), BF16 or F16. A load leaves it alone
	Target     string            // of a draft head: the Fingerprint of the model it is a head of
	config     map[string]json.RawMessage
	tokenizer  func() (*tokenizer.Tokenizer, error) // parses on its first call
}

// carried are the files that go from a checkpoint to whatever is made of it.
var carried = []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "generation_config.json", "chat_template.jinja", "added_tokens.json", "LICENSE", "README.md"}

// maxSmallFile bounds the JSON files of a checkpoint; the largest tokenizer known is under 40 MB.
const maxSmallFile = 256 << 20

// weights are tensors in files.
type weights interface {
	tensors
	Close() error
}

// openWeights opens a directory's weights: safetensors, else what torch.save wrote.
func openWeights(dir string) (weights, error) {
	set, err := safetensors.OpenDir(dir)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || anyExists(dir, safetensors.SingleName, safetensors.IndexName) {
		return set, err
	}
	torch, err := torchfile.OpenDir(dir)
	if err != nil && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no weights: neither %s nor %s, whole or in shards with an index", safetensors.SingleName, torchfile.SingleName)
	}
	return torch, err
}

func anyExists(dir string, names ...string) bool {
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// Load reads a language model: a checkpoint directory or a GGUF file. Errors name the file and the tensor or field.
func Load(dir string) (*Checkpoint, error) { return LoadProgress(dir, nil) }

// ErrReward is the reason why a reward model is not read as a language model.
var ErrReward = errors.New("it is a reward model, which judges text and cannot write it")

// LoadReward reads a reward model.
func LoadReward(dir string) (*Checkpoint, error) {
	c, err := loadProgress(dir, nil)
	if err == nil && c.Model.Config.NumLabels == 0 {
		return nil, fmt.Errorf("load %s: it is a language model: want a reward model, as krait reward makes it", dir)
	}
	return c, err
}

// mustWrite refuses a reward model and a draft head.
func mustWrite(dir string, c *Checkpoint, err error) (*Checkpoint, error) {
	switch {
	case err != nil:
	case c.Model.Config.NumLabels > 0:
		return nil, fmt.Errorf("load %s: %w", dir, ErrReward)
	case c.Model.Config.Eagle:
		return nil, fmt.Errorf("load %s: %w", dir, ErrEagle)
	}
	return c, err
}

// Outline reads what there is to know of a model, a reward model too, without its weights: the Model of the result has shapes and computes
// nothing. A file that Load would refuse for its names, shapes or configuration is refused.
func Outline(dir string) (*Checkpoint, error) { return loadWanted(dir, wanted{outline: true}) }

// OutlineFS is Outline for a file system, as LoadFS has it.
func OutlineFS(files fs.FS) (*Checkpoint, error) { return loadFS(files, wanted{outline: true}) }

// Progress is told how many bytes of weights have been read, of how many, after each tensor.
type Progress func(done, total int64)

// LoadProgress is Load for someone who waits; p may be nil.
func LoadProgress(dir string, p Progress) (*Checkpoint, error) {
	c, err := loadProgress(dir, p)
	return mustWrite(dir, c, err)
}

func loadProgress(dir string, p Progress) (*Checkpoint, error) {
	return loadWanted(dir, wanted{progress: p})
}

func loadWanted(dir string, w wanted) (*Checkpoint, error) {
	if IsGGUF(dir) {
		return loadGGUF(dir, w)
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, unwrapPath(err))
	} else if !info.IsDir() {
		return nil, fmt.Errorf("load %s: not a directory", dir)
	}
	c, err := loadDir(dir, w)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, err)
	}
	return c, nil
}

// wanted is how a model is to be read: in float32, or packed for inference in the format of a name, or if that is empty as it is stored;
// or its outline alone.
type wanted struct {
	outline  bool
	packed   bool
	format   string
	progress Progress
}

func loadDir(dir string, w wanted) (*Checkpoint, error) {
	files := os.DirFS(dir)
	if _, err := fs.Stat(files, "config.json"); err != nil {
		return nil, fmt.Errorf("config.json: %w", unwrapPath(err))
	}
	set, err := openWeights(dir)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	return read(files, set, w)
}

// LoadFS reads a checkpoint with a single model.safetensors from a file system, such as an embedded one.
func LoadFS(files fs.FS) (*Checkpoint, error) { return loadFS(files, wanted{}) }

func loadFS(files fs.FS, w wanted) (*Checkpoint, error) {
	data, err := fs.ReadFile(files, safetensors.SingleName)
	if err != nil {
		return nil, err
	}
	f, err := safetensors.Parse(data)
	if err != nil {
		return nil, err
	}
	return read(files, f, w)
}

// read reads a checkpoint whose weights are in from.
func read(files fs.FS, from tensors, w wanted) (*Checkpoint, error) {
	c, config, err := readSmall(files, hintOf(from))
	if err != nil {
		return nil, err
	}
	c.parseTokenizer()
	stored := quant.F32
	if isOurs(c.config[quantField]) {
		if stored, from, err = c.narrow(from); err != nil {
			return nil, err
		}
	}
	c.Stored = stored
	if err := justify(&config, from); err != nil {
		return nil, err
	}
	if from, err = trainingNames(&config, from); err != nil {
		return nil, err
	}
	if w.outline {
		if c.Model, err = outlineOf(config); err != nil {
			return nil, err
		}
		return c, readable(c.Model, from)
	}
	if !w.packed {
		if c.Model, err = model.New(config); err != nil {
			return nil, err
		}
		return c, fillProgress(c.Model, from, w.progress)
	}
	if w.format != "" {
		if stored, err = quant.Parse(w.format); err != nil {
			return nil, err
		}
	}
	c.Model, err = freeze(config, stored, from, w.progress)
	return c, err
}

// outlineOf returns a model without matrices: in the narrowest format, hardly any are float32.
func outlineOf(c model.Config) (*model.Model, error) { return model.NewFrozen(c, quant.Q4) }

// justify refuses a configuration that has more weights than the files hold, before memory is taken for them.
func justify(c *model.Config, from tensors) error {
	have := 0.0
	for _, name := range from.Names() {
		if t, ok := from.Tensor(name); ok {
			have += float64(t.Len())
		}
	}
	if want := leastWeights(c); have < want {
		return fmt.Errorf("config.json describes a model of at least %.0f weights, the files have %.0f", want, have)
	}
	return nil
}

// leastWeights returns the number of weights of a configuration's matrices and no more: a float, because a hostile one overflows.
func leastWeights(c *model.Config) float64 {
	hidden, layers := float64(c.HiddenSize), float64(c.NumHiddenLayers)
	attention := float64(2*c.NumAttentionHeads+2*c.NumKeyValueHeads)*float64(c.HeadDim) + 3*float64(c.IntermediateSize) // columns of a layer
	n, attn, rest := float64(c.VocabSize), layers, 0.0
	if m := c.Mamba; m != nil {
		attn = float64(len(m.AttnLayers))
		inner, state, rank := float64(m.DInner), float64(m.DState), float64(m.DTRank)
		columns := 3*inner + 2*float64(m.DXB) + 3*float64(m.IntermediateSize)
		rest = inner*float64(m.DConv) + rank*(inner+state)
		if m.Backbone && m.DTRank == 0 {
			columns += 2 * float64(m.Groups) * state
		}
		if m.DTRank > 0 {
			rest += inner * state
		}
		n += (layers - attn) * columns
		rest *= layers - attn
	}
	if c.Eagle {
		n += 2 * hidden
	}
	return hidden*(n+attn*attention) + rest
}

// readSmall reads everything but the weights: a checkpoint without its model, and the model's configuration.
func readSmall(files fs.FS, weights hint) (*Checkpoint, model.Config, error) {
	c := &Checkpoint{Files: map[string][]byte{}}
	var mc model.Config
	config, err := readFile(files, "config.json")
	if err != nil {
		return nil, mc, err
	}
	mamba, err := readOptional(files, "mamba_config.json")
	if err != nil {
		return nil, mc, err
	}
	mc, h, err := parseConfigFor(config, mamba, weights)
	if err != nil {
		return nil, mc, err
	}
	c.BOS, c.EOS, c.config, c.Target = h.BOSTokenID, h.EOSTokenID, h.fields, h.DraftTarget
	for _, name := range carried {
		data, err := readOptional(files, name)
		if err != nil {
			return nil, mc, err
		}
		if data != nil {
			c.Files[name] = data
		}
	}
	c.convertPieces()
	if err := c.generationStops(); err != nil {
		return nil, mc, fmt.Errorf("generation_config.json: %w", err)
	}
	provenance, err := readOptional(files, "krait.json")
	if err != nil {
		return nil, mc, err
	}
	if provenance != nil {
		if err := json.Unmarshal(provenance, &c.Provenance); err != nil {
			return nil, mc, fmt.Errorf("krait.json: %w", err)
		}
	}
	return c, mc, nil
}

// generationStops adds the end-of-text tokens that generation_config.json names: chat models list several there.
func (c *Checkpoint) generationStops() error {
	data, ok := c.Files["generation_config.json"]
	if !ok {
		return nil
	}
	var g struct {
		EOSTokenID tokenIDs `json:"eos_token_id"`
	}
	data, err := readJSON(data)
	if err == nil {
		err = json.Unmarshal(data, &g)
	}
	if err != nil {
		return err
	}
	for _, id := range g.EOSTokenID {
		if !slices.Contains(c.EOS, id) {
			c.EOS = append(c.EOS, id)
		}
	}
	return nil
}

func readOptional(files fs.FS, name string) ([]byte, error) {
	data, err := readFile(files, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func readFile(files fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(files, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, unwrapPath(err))
	}
	if info.Size() > maxSmallFile {
		return nil, fmt.Errorf("%s: %d bytes, more than such a file has", name, info.Size())
	}
	data, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, unwrapPath(err))
	}
	return data, nil
}

// unwrapPath drops the operation and the path that the caller's sentence has already.
func unwrapPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// convertPieces makes the tokenizer.json that a checkpoint with only a tokenizer.model lacks. Whoever needs text learns from Tokenizer why a
// model could not be converted; others need no tokenizer.
func (c *Checkpoint) convertPieces() {
	if c.Files["tokenizer.json"] != nil || c.Files["tokenizer.model"] == nil {
		return
	}
	if data, err := tokenizer.SentencePieceJSON(c.Files["tokenizer.model"], c.Files["added_tokens.json"], c.Files["tokenizer_config.json"]); err == nil {
		c.Files["tokenizer.json"] = data
	}
}

// HasTokenizer reports whether the checkpoint comes with a tokenizer, good or bad.
func (c *Checkpoint) HasTokenizer() bool {
	return c.Files["tokenizer.json"] != nil || c.Files["tokenizer.model"] != nil
}

// parseTokenizer begins to parse the tokenizer while the weights are read.
func (c *Checkpoint) parseTokenizer() {
	data, config := c.Files["tokenizer.json"], c.Files["tokenizer_config.json"]
	if data == nil {
		return
	}
	c.tokenizer = sync.OnceValues(func() (*tokenizer.Tokenizer, error) { return tokenizer.ParseWith(data, config) })
	go c.tokenizer()
}

// Tokenizer returns the checkpoint's tokenizer.
func (c *Checkpoint) Tokenizer() (*tokenizer.Tokenizer, error) {
	data, ok := c.Files["tokenizer.json"]
	if !ok && c.HasTokenizer() {
		_, err := tokenizer.SentencePieceJSON(c.Files["tokenizer.model"], c.Files["added_tokens.json"], c.Files["tokenizer_config.json"])
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("the model has neither tokenizer.json nor tokenizer.model")
	}
	parse := c.tokenizer
	if parse == nil {
		parse = func() (*tokenizer.Tokenizer, error) {
			return tokenizer.ParseWith(data, c.Files["tokenizer_config.json"])
		}
	}
	t, err := parse()
	if err != nil {
		return nil, err
	}
	if n := t.VocabSize(); n > c.Model.Config.VocabSize {
		return nil, fmt.Errorf("tokenizer.json has %d tokens, the model's vocabulary %d", n, c.Model.Config.VocabSize)
	}
	return t, nil
}

// With returns a checkpoint of another model with this one's tokenizer and configuration fields.
func (c *Checkpoint) With(m *model.Model) *Checkpoint {
	return &Checkpoint{Model: m, BOS: c.BOS, EOS: c.EOS, Files: c.Files, config: c.config}
}

// FillParams sets the weights of m from a safetensors file written by WriteParams.
func FillParams(m *model.Model, path string) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return fill(m, f)
}

// WriteParams writes the weights of m as float32.
func WriteParams(m *model.Model, path string) error {
	list, data := paramTensors(m.Params, safetensors.F32)
	return safetensors.WriteFunc(path, list, map[string]string{"format": "pt"}, data)
}

// paramTensors lists weights for the writer, all of one type.
func paramTensors(params func(func(string, *tensor.Tensor) bool), dtype safetensors.DType) ([]safetensors.Tensor, func(safetensors.Tensor) ([]byte, error)) {
	var list []safetensors.Tensor
	byName := map[string]*tensor.Tensor{}
	for name, p := range params {
		list = append(list, safetensors.Tensor{Name: name, DType: dtype, Shape: p.Shape})
		byName[name] = p
	}
	return list, func(t safetensors.Tensor) ([]byte, error) {
		data := byName[t.Name].Data
		if scale := fileScale(t.Name); scale != 1 {
			data = slices.Clone(data)
			for i := range data {
				data[i] /= scale
			}
		}
		return safetensors.EncodeFloat32s(t.DType, data), nil
	}
}

// Exists reports whether dir holds a whole checkpoint.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "config.json"))
	return err == nil
}

// shortFloat returns the float64 that prints as v does, so that 1e-5 is written as 1e-05 and not with the noise of float32.
func shortFloat(v float32) float64 {
	f, _ := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	return f
}

// ReadProvenance reads the krait.json of a directory.
func ReadProvenance(dir string) (*Provenance, error) {
	data, err := os.ReadFile(filepath.Join(dir, "krait.json"))
	if err != nil {
		return nil, err
	}
	p := new(Provenance)
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "krait.json"), err)
	}
	return p, nil
}

// ReadConfig reads a model's configuration and leaves its weights where they are.
func ReadConfig(dir string) (model.Config, error) {
	if IsGGUF(dir) {
		c, err := Load(dir)
		if err != nil {
			return model.Config{}, err
		}
		return c.Model.Config, nil
	}
	w, err := openWeights(dir)
	if err != nil {
		return model.Config{}, fmt.Errorf("load %s: %w", dir, err)
	}
	defer w.Close()
	_, config, err := readSmall(os.DirFS(dir), hintOf(w))
	if err != nil {
		return config, fmt.Errorf("load %s: %w", dir, err)
	}
	return config, nil
}
