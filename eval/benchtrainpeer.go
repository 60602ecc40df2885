package eval

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"krait/model"
)

//go:embed train_peer.py
var trainPeerScript string

// TrainPeer is PyTorch, which makes a step of the same training in a process of its own, so that its memory is free again afterwards.
type TrainPeer struct {
	Name    string  `json:"name"`
	Version string  `json:"version"`
	PeakGiB float64 `json:"peak_gib"` // memory of the process
	python  string
}

// NewTrainPeer returns PyTorch as a Python has it, or why it cannot train such a model.
func NewTrainPeer(ctx context.Context, python string, c *model.Config) (*TrainPeer, error) {
	if _, err := trainShapeOf(c); err != nil {
		return nil, err
	}
	if _, err := exec.LookPath(python); err != nil {
		return nil, fmt.Errorf("there is no %s", python)
	}
	if err := exec.CommandContext(ctx, python, "-c", "import torch").Run(); err != nil {
		return nil, fmt.Errorf("%s has no package torch (pip install torch)", python)
	}
	return &TrainPeer{Name: "pytorch", python: python}, nil
}

// trainShape is the model and the step that the script makes.
type trainShape struct {
	Hidden     int     `json:"hidden"`
	Layers     int     `json:"layers"`
	Heads      int     `json:"heads"`
	KVHeads    int     `json:"kv_heads"`
	HeadWidth  int     `json:"head_width"`
	MLP        int     `json:"mlp"`
	Vocabulary int     `json:"vocabulary"`
	Eps        float32 `json:"eps"`
	Theta      float64 `json:"theta"`
	Tied       bool    `json:"tied"`
	Mamba      []int   `json:"mamba"` // the layers that are
	Tokens     int     `json:"tokens"`
	Threads    int     `json:"threads"`
	BF16       bool    `json:"bf16"` // by torch.autocast
}

// trainShapeOf returns the shape of a step of training, or says what the script cannot make.
func trainShapeOf(c *model.Config) (*trainShape, error) {
	switch m := c.Mamba; {
	case c.QKVBias || c.OBias || c.MLPBias || c.QKNorm || c.SlidingWindow > 0 || c.RopeScaling.Type != "" || len(c.HeadTokens) > 0 || c.NumLabels > 0:
		return nil, errors.New("PyTorch's step is that of plain Llama blocks, without biases, norms of queries, windows and scaled positions")
	case m != nil && (m.Backbone || m.DTRank > 0 || m.Identity || m.ZBias || m.NoNorm || m.RepeatFirst || m.DConv != 4 || m.IntermediateSize != c.IntermediateSize ||
		m.DState != c.HeadDim || m.NGroups != c.NumAttentionHeads || m.DXB != c.NumKeyValueHeads*c.HeadDim):
		return nil, errors.New("PyTorch's step is that of Mamba2 layers in the paper's form, as wide as the attention")
	}
	s := &trainShape{Hidden: c.HiddenSize, Layers: c.NumHiddenLayers, Heads: c.NumAttentionHeads, KVHeads: c.NumKeyValueHeads, HeadWidth: c.HeadDim, MLP: c.IntermediateSize,
		Vocabulary: c.VocabSize, Eps: c.RMSNormEps, Theta: c.RopeTheta, Tied: c.TieWordEmbeddings, Mamba: []int{}, Tokens: trainRows, Threads: runtime.GOMAXPROCS(0)}
	for i := range c.NumHiddenLayers {
		if !c.IsAttention(i) {
			s.Mamba = append(s.Mamba, i)
		}
	}
	return s, nil
}

// step returns the seconds of a step behind one that warms up, and the share of its threads' time in which they waited for a processor.
func (p *TrainPeer) step(ctx context.Context, m *model.Model, bf16 bool) (seconds, waited float64, err error) {
	shape, err := trainShapeOf(&m.Config)
	if err != nil {
		return 0, 0, err
	}
	shape.BF16 = bf16
	config, err := json.Marshal(shape)
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, p.python, "-c", trainPeerScript, string(config))
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("pytorch ended: %s", lastLine(said.String()))
	}
	var t struct {
		Version    string
		Seconds    float64
		Waited     float64
		Parameters int
		PeakGiB    float64 `json:"peak_gib"`
	}
	if err := json.Unmarshal(out.Bytes(), &t); err != nil {
		return 0, 0, fmt.Errorf("pytorch: %w", err)
	}
	if n := m.NumParams(); t.Parameters != n || !(t.Seconds > 0) {
		return 0, 0, fmt.Errorf("pytorch trained a model of %d parameters for %g s, ours has %d", t.Parameters, t.Seconds, n)
	}
	p.Version, p.PeakGiB = t.Version, max(p.PeakGiB, t.PeakGiB)
	return t.Seconds, t.Waited, nil
}
