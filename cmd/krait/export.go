package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"krait/checkpoint"
	"krait/gguf"
)

func exportCommand(u *ui) *cobra.Command {
	var format, weights, out string
	cmd := verb("export MODEL", cobra.Command{
		Short: "write a model in another form: a GGUF file, or a directory",
		Long: `Write a model for other programs. --format gguf makes one file that llama.cpp runs, tokenizer and chat template included, with
its matrices in the --type f32, f16, bf16, q8_0 or q4_0: Llama, Mistral, Qwen2 and Qwen3 models, and hybrids with the paper's
Mamba2 layers, which llama.cpp runs as granitehybrid (their heads are doubled with zeros, as it demands; what it cannot
express is refused), and pure Mamba models with Mamba1 layers. --format hf makes a directory that Transformers reads, in float32, also from a GGUF file or a pure Mamba model; --format mil
the same for a hybrid, in the form of the paper's releases.`,
		Example: `  krait export stories260k --format gguf --type q8_0 --out stories.gguf
  krait export stories.gguf --format hf --out stories`,
	}, func(cmd *cobra.Command, args []string) error {
		if err := requireFlags(cmd, "format", "out"); err != nil {
			return err
		}
		t, known := gguf.ParseType(strings.ToUpper(weights))
		switch {
		case format != "gguf" && format != "hf" && format != "mil":
			return usage(cmd, "--format %q: want gguf, hf or mil", format)
		case format == "gguf" && !known:
			return usage(cmd, "--type %q: want f32, f16, bf16, q8_0 or q4_0", weights)
		case format != "gguf" && cmd.Flags().Changed("type"):
			return usage(cmd, "--type goes with --format gguf only: a directory has float32 weights")
		}
		if err := checkpoint.RefuseExisting(out); err != nil {
			return err
		}
		c, err := u.loadCheckpoint(args[0])
		if err != nil {
			return err
		}
		return u.export(c, format, out, t)
	})
	f := cmd.Flags()
	f.StringVar(&format, "format", "", "`FORM` to write: gguf, hf or mil")
	f.StringVar(&weights, "type", "f16", "`TYPE` of a GGUF file's matrices: f32, f16, bf16, q8_0 or q4_0")
	f.StringVar(&out, "out", "", "`PATH` of the file or directory to make")
	return cmd
}

func (u *ui) export(c *checkpoint.Checkpoint, format, out string, t gguf.Type) error {
	config := c.Model.Config
	switch {
	case format == "gguf":
		if err := checkpoint.ExportGGUF(out, c, t); err != nil {
			return fmt.Errorf("export to %s: %w", out, err)
		}
		if config.SlidingWindow > 0 {
			u.note("llama.cpp does not know this model's window of %d tokens: texts beyond it come out differently there", config.SlidingWindow)
		}
	case format == "hf" && config.Mamba != nil && !config.Mamba.Backbone:
		return fmt.Errorf("export to %s: Transformers has no model with Mamba and attention layers of this kind: use --format mil", out)
	default:
		if err := checkpoint.Save(out, c); err != nil {
			return err
		}
	}
	info, err := os.Stat(out)
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		u.note("%s: %s", out, formatBytes(info.Size()))
	}
	return nil
}
