package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"krait/checkpoint"
	"krait/model"
	"krait/quant"
)

// quantized is the JSON object of quantize.
type quantized struct {
	Out        string  `json:"out"`
	Type       string  `json:"type"`
	Parameters int     `json:"parameters"`
	Bytes      int     `json:"bytes"` // of the weights
	Bits       float64 `json:"bits_per_weight"`
}

func quantizeCommand(u *ui) *cobra.Command {
	var weights, out string
	var asJSON bool
	cmd := verb("quantize MODEL", cobra.Command{
		Short: "write a model with smaller weights: q8, q4 or bf16",
		Long: `Write a model whose matrices take 8.5 bits a weight (q8), 4.5 (q4) or 16 (bf16), as every verb reads them. Embeddings and output
layer of a q4 model are q8, and the projections of attention's values one type finer (bf16 in q8, q8 in q4); norms, convolutions and the A, D and Δ of Mamba layers stay float32. The directory is this program's own kind:
"krait export" writes GGUF files for others. generate and run use the small weights as they are; other verbs compute in float32 from
their values unless --type says otherwise. "krait eval agreement OUT MODEL --type q8" shows what was lost.`,
		Example: `  krait quantize stories260k --type q8 --out stories-q8
  krait generate stories-q8 --prompt "Once upon a time"`,
	}, func(cmd *cobra.Command, args []string) error {
		if err := requireFlags(cmd, "type", "out"); err != nil {
			return err
		}
		f, err := quant.Parse(weights)
		if err != nil || f == quant.F32 {
			return usage(cmd, "--type %q: want q8, q4 or bf16", weights)
		}
		if err := checkpoint.RefuseExisting(out); err != nil {
			return err
		}
		c, err := u.loadDraftCheckpoint(args[0], weights)
		if err != nil {
			return err
		}
		if err := checkpoint.SaveQuantized(out, c); err != nil {
			return err
		}
		r := quantized{Out: out, Type: weights, Parameters: c.Model.NumParams(), Bytes: packedBytes(c.Model)}
		r.Bits = 8 * float64(r.Bytes) / float64(r.Parameters)
		if asJSON {
			return u.json(r)
		}
		u.table([][]string{
			{"written", out},
			{"weights", fmt.Sprintf("%s, %s, %.2f bits each", strings.ToUpper(weights), formatBytes(int64(r.Bytes)), r.Bits)},
		})
		return nil
	})
	f := cmd.Flags()
	f.StringVar(&weights, "type", "", "`TYPE` of the weights: q8, q4 or bf16")
	f.StringVar(&out, "out", "", "`DIR` to write, which must not exist")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// packedBytes is the size of a packed model's weights.
func packedBytes(m *model.Model) int {
	n := 4 * m.NumParams()
	for _, x := range m.Matrices {
		out, in := x.Dims()
		n += len(x.Data()) - 4*out*in
	}
	return n
}
