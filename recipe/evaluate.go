package recipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"unicode/utf8"

	"krait/checkpoint"
	"krait/engine"
)

// evalFile holds the rows of an evaluation.
const evalFile = "eval.json"

// EvalConfig is the configuration of Eval.
type EvalConfig struct {
	Teacher   string   `json:"teacher"` // what the models are compared with
	Models    []string `json:"models"`
	Out       string   `json:"-"`
	Text      string   `json:"text"`       // a text file; empty: the stories inside this program
	MaxBytes  int      `json:"max_bytes"`  // read no more of it; 0: all
	Context   int      `json:"max_length"` // tokens of a window
	Prompt    string   `json:"prompt"`     // each model goes on from it; empty: none does
	MaxTokens int      `json:"max_tokens"` // of that text
}

// DefaultEval returns the defaults of Eval.
func DefaultEval() EvalConfig { return EvalConfig{Context: 512, MaxTokens: 160} }

// slots returns what a recipe fills; without a list the latest model is measured.
func (c *EvalConfig) slots() slots {
	s := slots{out: &c.Out, refs: []ref{{"teacher", &c.Teacher, base}}, files: []*string{&c.Text}}
	if len(c.Models) == 0 {
		c.Models = []string{""}
	}
	for i := range c.Models {
		s.refs = append(s.refs, ref{fmt.Sprintf("models[%d]", i), &c.Models[i], latest})
	}
	return s
}

// EvalRow is what was measured of one model.
type EvalRow struct {
	Model           string  `json:"model"`
	Attention       []int   `json:"attn_layers"`
	Layers          int     `json:"num_layers"`
	Parameters      int     `json:"parameters"`
	StateBytes      int     `json:"state_bytes"` // of one sequence of Context tokens
	NLL             float64 `json:"nll"`         // nats a token
	Perplexity      float64 `json:"perplexity"`
	Ratio           float64 `json:"perplexity_ratio"` // to the teacher's
	KL              float64 `json:"kl"`               // nats a token, KL(teacher ‖ model)
	Top1            float64 `json:"top1"`             // share of tokens with the teacher's first choice
	Tokens          int     `json:"tokens"`
	Sample          string  `json:"sample,omitempty"`
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"` // of writing the sample
}

// Eval measures models on a text that they were not trained on, beside their teacher, and lets them write.
func Eval(ctx context.Context, c EvalConfig, report Report) error {
	text, err := c.text()
	if err != nil {
		return err
	}
	p, err := provenance("eval", c, append([]string{c.Teacher, c.Text}, c.Models...)...)
	if err != nil {
		return err
	}
	teacher, err := report.load(c.Teacher)
	if err != nil {
		return err
	}
	teacher.Model.Pack()
	rows := []EvalRow{}
	p.Metrics = map[string]float64{}
	for i, path := range slices.Concat([]string{c.Teacher}, c.Models) {
		row, err := c.measure(ctx, report, path, teacher, text)
		runtime.GC() // the model's panels are not of the Go heap, whose growth would have them collected
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		row.Ratio = row.Perplexity
		if i > 0 {
			row.Ratio = row.Perplexity / rows[0].Perplexity
		} else {
			row.Ratio = 1
		}
		rows = append(rows, row)
		for name, v := range map[string]float64{"perplexity": row.Perplexity, "perplexity_ratio": row.Ratio, "kl": row.KL, "top1": row.Top1} {
			p.Metrics[name+"."+row.Model] = v
		}
		report(Event{Stage: "eval", Done: i + 1, Total: 1 + len(c.Models), Unit: "models", Text: fmt.Sprintf("%s: perplexity %.4f", row.Model, row.Perplexity)})
	}
	j, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return writeResult(c.Out, p, func(tmp string) error { return checkpoint.WriteFile(filepath.Join(tmp, evalFile), j) })
}

// text reads the text.
func (c *EvalConfig) text() (string, error) {
	text := HeldOut()
	if c.Text != "" {
		b, err := os.ReadFile(c.Text)
		if err != nil {
			return "", err
		}
		text = string(b)
	}
	if c.MaxBytes > 0 && len(text) > c.MaxBytes {
		n := c.MaxBytes
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n]
	}
	if !utf8.ValidString(text) {
		return "", fmt.Errorf("%s: not valid UTF-8", c.Text)
	}
	return text, nil
}

// measure measures one model.
func (c *EvalConfig) measure(ctx context.Context, report Report, path string, teacher *checkpoint.Checkpoint, text string) (EvalRow, error) {
	row := EvalRow{Model: filepath.Base(path)}
	m, err := report.load(path)
	if err != nil {
		return row, err
	}
	held, err := heldOut(m, text, c.Context)
	if err != nil {
		return row, err
	}
	held.teacher = teacher.Model
	m.Model.Pack()
	f, err := held.measure(ctx, m.Model)
	if err != nil {
		return row, err
	}
	config := &m.Model.Config
	for l := range config.NumHiddenLayers {
		if config.IsAttention(l) {
			row.Attention = append(row.Attention, l)
		}
	}
	row.Layers, row.Parameters, row.StateBytes = config.NumHiddenLayers, m.Model.NumParams(), m.Model.StateBytes(held.context)
	row.NLL, row.Perplexity, row.KL, row.Top1, row.Tokens = f.NLL, math.Exp(f.NLL), f.KL, f.Top1, f.Tokens
	if c.Prompt == "" {
		return row, nil
	}
	tok, err := m.Tokenizer()
	if err != nil {
		return row, err
	}
	prompt, err := tok.Encode(c.Prompt, true)
	if err != nil {
		return row, err
	}
	var stats engine.Stats
	ids := slices.Clone(prompt)
	for t, err := range engine.New(m.Model).Generate(ctx, engine.Request{Prompt: prompt, MaxTokens: c.MaxTokens, Stop: m.EOS}, &stats) {
		if err != nil {
			return row, err
		}
		ids = append(ids, t.ID)
	}
	if s := stats.Decode.Seconds(); s > 0 {
		row.TokensPerSecond = float64(stats.Tokens) / s
	}
	row.Sample, err = tok.Decode(ids, true)
	return row, err
}

// ReadEval returns the rows of an evaluation, none where there is none.
func ReadEval(dir string) ([]EvalRow, error) {
	b, err := os.ReadFile(filepath.Join(dir, evalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var rows []EvalRow
	if err := json.Unmarshal(b, &rows); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, evalFile), err)
	}
	return rows, nil
}
