package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"krait/checkpoint"
	"krait/gguf"
	"krait/model"
	"krait/recipe"
	"krait/safetensors"
)

func showCommand(u *ui) *cobra.Command {
	var asJSON bool
	cmd := verb("show MODEL", cobra.Command{
		Short: "what a model is: layers, parameters, memory of a sequence, origin",
		Long: `Show what a model is: its architecture, its layers, its parameters, the memory that a sequence takes as it grows, and
where it came from. Given one .safetensors file, show its tensors; a .gguf file is a model, and --json lists its tensors too.`,
		Example: `  krait show stories260k
  krait example teacher
  krait show teacher/model.safetensors --json`,
	}, func(_ *cobra.Command, args []string) error {
		if info, err := os.Stat(args[0]); err == nil && info.Mode().IsRegular() && !checkpoint.IsGGUF(args[0]) {
			return showFile(u, args[0], asJSON)
		}
		return showModel(u, args[0], asJSON)
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// shown is the JSON object of show.
type shown struct {
	Path         string                 `json:"path"`
	Architecture string                 `json:"architecture"` // llama, mamba1, mamba2, or hybrid of attention and one of these
	Config       shownConfig            `json:"config"`
	Layers       []string               `json:"layers"` // each layer's kind
	LayersByKind map[string][]int       `json:"layers_by_kind"`
	Parameters   int                    `json:"parameters"`
	Bytes        int64                  `json:"bytes"` // of the weights in their files
	StateBytes   stateBytes             `json:"state_bytes"`
	Tokenizer    bool                   `json:"tokenizer"`
	Provenance   *checkpoint.Provenance `json:"provenance"`
	Tensors      []shownTensor          `json:"tensors,omitempty"` // of a GGUF file, as they are stored

	mamba *model.MambaConfig
}

// shownConfig is the model's shape in Hugging Face's terms.
type shownConfig struct {
	HiddenSize            int     `json:"hidden_size"`
	IntermediateSize      int     `json:"intermediate_size"`
	NumHiddenLayers       int     `json:"num_hidden_layers"`
	NumAttentionHeads     int     `json:"num_attention_heads"`
	NumKeyValueHeads      int     `json:"num_key_value_heads"`
	HeadDim               int     `json:"head_dim"`
	VocabSize             int     `json:"vocab_size"`
	MaxPositionEmbeddings int     `json:"max_position_embeddings"`
	RopeTheta             float64 `json:"rope_theta"`
	TieWordEmbeddings     bool    `json:"tie_word_embeddings"`
	SlidingWindow         int     `json:"sliding_window,omitempty"`
	NumLabels             int     `json:"num_labels,omitempty"` // 1 for a reward model
}

// stateBytes is what one sequence takes: Fixed + PerToken·length.
type stateBytes struct {
	Fixed    int            `json:"fixed"`
	PerToken int            `json:"per_token"`
	At       map[string]int `json:"at"` // by length
	KV       string         `json:"kv"` // the format of keys and values unless --kv says otherwise
}

var stateLengths = []int{512, 4096, 32768}

func showModel(u *ui, name string, asJSON bool) error {
	c, err := outline(name)
	if err != nil {
		return err
	}
	m, h := c.Model, c.Model.Config
	s := shown{
		Path: name, Architecture: "llama", Layers: []string{}, LayersByKind: map[string][]int{}, Parameters: m.NumParams(),
		Tokenizer: c.tokenizer != nil, Provenance: c.Provenance, mamba: h.Mamba,
		Config: shownConfig{
			HiddenSize: h.HiddenSize, IntermediateSize: h.IntermediateSize, NumHiddenLayers: h.NumHiddenLayers, NumAttentionHeads: h.NumAttentionHeads,
			NumKeyValueHeads: h.NumKeyValueHeads, HeadDim: h.HeadDim, VocabSize: h.VocabSize, MaxPositionEmbeddings: h.MaxPositionEmbeddings,
			RopeTheta: h.RopeTheta, TieWordEmbeddings: h.TieWordEmbeddings, SlidingWindow: h.SlidingWindow,
			NumLabels: h.NumLabels,
		},
	}
	for i := range h.NumHiddenLayers {
		kind := mambaKind(&h)
		if h.IsAttention(i) {
			kind = "attention"
		}
		s.Layers = append(s.Layers, kind)
		s.LayersByKind[kind] = append(s.LayersByKind[kind], i)
	}
	switch kind := mambaKind(&h); len(s.LayersByKind[kind]) {
	case 0:
	case h.NumHiddenLayers:
		s.Architecture = kind
	default:
		s.Architecture = "hybrid"
	}
	m.SetKV(model.DefaultKV(c.Stored))
	s.StateBytes = sequenceState(m)
	if checkpoint.IsGGUF(name) {
		err = s.readGGUF(name)
	} else {
		s.Bytes, err = weightBytes(name)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return u.json(s)
	}
	u.table(s.rows())
	return nil
}

// inWords gives the size of a sequence's state, and the format of keys and values where there are some.
func (b *stateBytes) inWords() string {
	text := fmt.Sprintf("%s + %s a token", formatBytes(int64(b.Fixed)), formatBytes(int64(b.PerToken)))
	if b.PerToken > 0 {
		text += ", keys and values in " + b.KV
	}
	return text
}

func sequenceState(m *model.Model) stateBytes {
	b := stateBytes{Fixed: m.StateBytes(0), At: map[string]int{}, KV: m.KV().String()}
	b.PerToken = m.StateBytes(1) - b.Fixed
	for _, n := range stateLengths {
		b.At[strconv.Itoa(n)] = m.StateBytes(n)
	}
	return b
}

// weightBytes returns the bytes of a MODEL's tensors as they are stored.
func weightBytes(name string) (int64, error) {
	var names []string
	var tensor func(string) (safetensors.Tensor, bool)
	if isEmbedded(name) {
		data, err := fs.ReadFile(recipe.Stories260K(), safetensors.SingleName)
		if err != nil {
			return 0, err
		}
		f, err := safetensors.Parse(data)
		if err != nil {
			return 0, err
		}
		names, tensor = f.Names(), f.Tensor
	} else {
		set, err := safetensors.OpenDir(name)
		if err != nil {
			return 0, fmt.Errorf("load %s: %w", name, err)
		}
		defer set.Close()
		names, tensor = set.Names(), set.Tensor
	}
	var n int64
	for _, name := range names {
		t, _ := tensor(name)
		n += int64(len(t.Data))
	}
	return n, nil
}

// readGGUF lists the tensors of a GGUF file.
func (s *shown) readGGUF(name string) error {
	f, err := gguf.Open(name)
	if err != nil {
		return fmt.Errorf("load %w", err)
	}
	defer f.Close()
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		s.Tensors = append(s.Tensors, shownTensor{name, t.Type.String(), t.Shape(), len(t.Data)})
		s.Bytes += int64(len(t.Data))
	}
	return nil
}

// weightTypes returns "Q4_1 210, F32 61": how many tensors of a GGUF file are of each type.
func (s *shown) weightTypes() string {
	count := map[string]int{}
	var types []string
	for _, t := range s.Tensors {
		if count[t.DType]++; count[t.DType] == 1 {
			types = append(types, t.DType)
		}
	}
	slices.SortStableFunc(types, func(a, b string) int { return count[b] - count[a] })
	for i, t := range types {
		types[i] = fmt.Sprintf("%s %d", t, count[t])
	}
	return strings.Join(types, ", ")
}

// rows returns the table for people.
func (s *shown) rows() [][]string {
	c, weights := s.Config, formatBytes(s.Bytes)
	if len(s.Tensors) > 0 {
		weights += fmt.Sprintf(" in %d tensors: %s", len(s.Tensors), s.weightTypes())
	}
	rows := [][]string{
		{"model", s.Path},
		{"architecture", s.Architecture},
		{"layers", fmt.Sprintf("%d: %s", c.NumHiddenLayers, s.layersInWords())},
	}
	rows = append(rows, s.shapeRows()...)
	rows = append(rows, [][]string{
		{"vocabulary", fmt.Sprintf("%d tokens", c.VocabSize)},
		{"context", contextOf(c.MaxPositionEmbeddings)},
		{"parameters", fmt.Sprint(s.Parameters)},
		{"weights", weights},
		{"state", s.StateBytes.inWords()},
	}...)
	for _, n := range stateLengths {
		if n > max(c.MaxPositionEmbeddings, stateLengths[0]) || s.StateBytes.PerToken == 0 {
			break
		}
		rows = append(rows, []string{"", fmt.Sprintf("%s at %d tokens", formatBytes(int64(s.StateBytes.At[strconv.Itoa(n)])), n)})
	}
	if p := s.Provenance; p != nil {
		rows = append(rows, []string{"made by", fmt.Sprintf("krait %s %s", p.Version, p.Stage)})
		for _, in := range p.Inputs {
			rows = append(rows, []string{"from", fmt.Sprintf("%s (sha256 %.12s…)", in.Path, in.SHA256)})
		}
		if len(p.Config) > 0 {
			var flat bytes.Buffer
			if json.Compact(&flat, p.Config) == nil {
				rows = append(rows, []string{"config", flat.String()})
			}
		}
	}
	return rows
}

// shapeRows are the rows of what a model's layers are made of: a pure Mamba model has neither heads of attention nor an MLP.
func (s *shown) shapeRows() [][]string {
	c, m := s.Config, s.mamba
	hidden := fmt.Sprint(c.HiddenSize)
	if c.IntermediateSize > 0 {
		hidden += fmt.Sprintf(", MLP %d", c.IntermediateSize)
	}
	rows := [][]string{{"hidden size", hidden}}
	if c.NumAttentionHeads > 0 {
		rows = append(rows, []string{"heads", fmt.Sprintf("%d of %d, %d key-value heads", c.NumAttentionHeads, c.HeadDim, c.NumKeyValueHeads)})
	}
	switch {
	case m == nil:
	case m.DTRank > 0:
		rows = append(rows, []string{"mamba1", fmt.Sprintf("%d channels, state %d, convolution %d, rank of Δ %d", m.DInner, m.DState, m.DConv, m.DTRank)})
	default:
		rows = append(rows, []string{"mamba2", fmt.Sprintf("%d heads of %d, state %d, convolution %d", m.NGroups, m.DInner/m.NGroups, m.DState, m.DConv)})
	}
	return rows
}

// contextOf returns the longest text a model was made for, where its configuration says.
func contextOf(n int) string {
	if n == 0 {
		return "not limited"
	}
	return fmt.Sprintf("%d tokens", n)
}

// mambaKind names the Mamba layers of a configuration.
func mambaKind(c *model.Config) string {
	if c.Mamba != nil && c.Mamba.DTRank > 0 {
		return "mamba1"
	}
	return "mamba2"
}

// layersInWords returns "attention 1,3; mamba2 0,2,4".
func (s *shown) layersInWords() string {
	var parts []string
	for _, kind := range []string{"attention", "mamba1", "mamba2"} {
		if layers := s.LayersByKind[kind]; len(layers) > 0 {
			numbers := strings.Trim(strings.ReplaceAll(fmt.Sprint(layers), " ", ","), "[]")
			parts = append(parts, kind+" "+numbers)
		}
	}
	return strings.Join(parts, "; ")
}

// shownFile is the JSON object of show for a safetensors file.
type shownFile struct {
	Path       string            `json:"path"`
	Metadata   map[string]string `json:"metadata"`
	Tensors    []shownTensor     `json:"tensors"`
	Parameters int               `json:"parameters"`
	Bytes      int64             `json:"bytes"`
}

type shownTensor struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
	Bytes int    `json:"bytes"`
}

func showFile(u *ui, path string, asJSON bool) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	s := shownFile{Path: path, Metadata: f.Metadata(), Tensors: []shownTensor{}}
	rows := [][]string{{"tensor", "type", "shape", "size"}}
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		shape := append([]int{}, t.Shape...)
		s.Tensors = append(s.Tensors, shownTensor{name, string(t.DType), shape, len(t.Data)})
		s.Parameters += t.Len()
		s.Bytes += int64(len(t.Data))
		rows = append(rows, []string{name, string(t.DType), fmt.Sprint(shape), formatBytes(int64(len(t.Data)))})
	}
	if asJSON {
		return u.json(s)
	}
	u.table(append(rows, []string{fmt.Sprintf("%d tensors", len(s.Tensors)), "", fmt.Sprintf("%d elements", s.Parameters), formatBytes(s.Bytes)}))
	return nil
}
