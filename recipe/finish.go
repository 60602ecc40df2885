package recipe

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"krait/checkpoint"
	"krait/gguf"
	"krait/quant"
)

// QuantizeConfig is the configuration of Quantize.
type QuantizeConfig struct {
	Model string `json:"model"`
	Out   string `json:"-"`
	Type  string `json:"type"` // q8, q4 or bf16
}

// DefaultQuantize returns the defaults of Quantize.
func DefaultQuantize() QuantizeConfig { return QuantizeConfig{Type: "q8"} }

// Quantize writes a model whose matrices take fewer bits.
func Quantize(_ context.Context, c QuantizeConfig, report Report) error {
	if f, err := quant.Parse(c.Type); err != nil || f == quant.F32 {
		return fmt.Errorf("type %q: want q8, q4 or bf16", c.Type)
	}
	p, err := provenance("quantize", c, c.Model)
	if err != nil {
		return err
	}
	m, err := report.loadDraftPacked(c.Model, c.Type)
	if err != nil {
		return err
	}
	m.Provenance = p
	if err := describe(m, p, c.Out, c.Model, "quantized"); err != nil {
		return err
	}
	if err := checkpoint.SaveQuantized(c.Out, m); err != nil {
		return err
	}
	report(Event{Stage: "quantize", Done: 1, Total: 1, Unit: "model"})
	return nil
}

// ExportConfig is the configuration of Export.
type ExportConfig struct {
	Model  string `json:"model"`
	Out    string `json:"-"`
	Format string `json:"format"` // gguf, hf or mil
	Type   string `json:"type"`   // of a GGUF file's matrices
}

// DefaultExport returns the defaults of Export.
func DefaultExport() ExportConfig { return ExportConfig{Format: "gguf", Type: "f16"} }

// Export writes a directory with the model in another form: model.gguf, or what Transformers or the paper's code reads.
func Export(_ context.Context, c ExportConfig, report Report) error {
	t, known := gguf.ParseType(strings.ToUpper(c.Type))
	if c.Format != "gguf" && c.Format != "hf" && c.Format != "mil" || c.Format == "gguf" && !known {
		return fmt.Errorf("format %q, type %q: want format gguf, hf or mil, and type f32, f16, bf16, q8_0 or q4_0", c.Format, c.Type)
	}
	p, err := provenance("export", c, c.Model)
	if err != nil {
		return err
	}
	m, err := report.load(c.Model)
	if err != nil {
		return err
	}
	m.Provenance = p
	if err := describe(m, p, c.Out, c.Model, "finetune"); err != nil {
		return err
	}
	if c.Format == "hf" && m.Model.Config.Mamba != nil {
		return fmt.Errorf("format hf: Transformers has no model with Mamba and attention layers of this kind: use mil")
	}
	defer report(Event{Stage: "export", Done: 1, Total: 1, Unit: "model"})
	if c.Format != "gguf" {
		return checkpoint.Save(c.Out, m)
	}
	return writeResult(c.Out, p, func(tmp string) error {
		if err := checkpoint.WriteFile(filepath.Join(tmp, cardFile), m.Files[cardFile]); err != nil {
			return err
		}
		return checkpoint.ExportGGUF(filepath.Join(tmp, "model.gguf"), m, t)
	})
}

// writeResult makes the directory out of what write puts into it and the record of how it came to be.
func writeResult(out string, p *checkpoint.Provenance, write func(tmp string) error) error {
	if err := checkpoint.RefuseExisting(out); err != nil {
		return err
	}
	tmp := checkpoint.Partial(out)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	if err := write(tmp); err != nil {
		return err
	}
	if err := writeProvenance(tmp, p); err != nil {
		return err
	}
	return checkpoint.Finish(out)
}
