package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"

	"github.com/spf13/cobra"

	"krait/model"
	"krait/recipe"
	"krait/safetensors"
)

func logitsCommand(u *ui) *cobra.Command {
	var ids, out, weights, kv string
	cmd := verb("logits MODEL", cobra.Command{
		Short: "write the logits of sequences of token ids",
		Long: `Write the logits at every position of sequences of token ids. IDS holds a JSON array of arrays of ids; OUT becomes a
safetensors file with logits.0, logits.1, … in float32, each (positions, vocabulary). MODEL needs no tokenizer.`,
		Example: `  echo '[[1,403,407],[1,2]]' > ids.json
  krait logits stories260k --ids ids.json --out logits.safetensors`,
	}, func(cmd *cobra.Command, args []string) error {
		if err := requireFlags(cmd, "ids", "out"); err != nil {
			return err
		}
		if err := cmp.Or(checkType(cmd, weights), checkKV(cmd, kv)); err != nil {
			return err
		}
		c, err := u.loadPackedCheckpoint(args[0], weights)
		if err != nil {
			return err
		}
		setKV(kv, c.Model)
		rows, err := readIDs(ids, c.Model.Config.VocabSize)
		if err != nil {
			return err
		}
		return writeLogits(cmd.Context(), u, c.Model, rows, out)
	})
	f := cmd.Flags()
	f.StringVar(&ids, "ids", "", "`FILE` with a JSON array of arrays of token ids")
	f.StringVar(&out, "out", "", "safetensors `FILE` to write")
	f.StringVar(&weights, "type", "f32", weightsUsage)
	f.StringVar(&kv, "kv", "", kvUsage)
	return cmd
}

// readIDs reads a JSON array of arrays of ids below vocab. Errors name the row and the position, from 0.
func readIDs(path string, vocab int) ([][]int32, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var raw [][]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("%s: want a JSON array of arrays of token ids: %w", path, err)
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("%s: want a JSON array of arrays of token ids, there is none in it", path)
	}
	rows := make([][]int32, len(raw))
	for i, row := range raw {
		if len(row) == 0 {
			return nil, fmt.Errorf("%s: row %d is empty, want at least one token id", path, i)
		}
		for j, item := range row {
			var id *int32
			if err := json.Unmarshal(item, &id); err != nil || id == nil || *id < 0 || int(*id) >= vocab {
				return nil, fmt.Errorf("%s: row %d, position %d: %s is not a token id of a vocabulary of %d", path, i, j, clip(item), vocab)
			}
			rows[i] = append(rows[i], *id)
		}
	}
	return rows, nil
}

// clip returns the beginning of what a user wrote.
func clip(b []byte) string {
	if len(b) > 40 {
		return string(b[:40]) + "…"
	}
	return string(b)
}

// writeLogits computes each row when the writer asks for it, so that one row's logits are in memory.
func writeLogits(ctx context.Context, u *ui, m *model.Model, rows [][]int32, path string) error {
	var list []safetensors.Tensor
	index := map[string]int{}
	for i, row := range rows {
		name := fmt.Sprintf("logits.%d", i)
		index[name] = i
		list = append(list, safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: []int{len(row), m.Config.VocabSize}})
	}
	return safetensors.WriteFunc(path, list, nil, func(t safetensors.Tensor) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		i := index[t.Name]
		x := m.Logits(nil, m.Forward(nil, model.Single(rows[i], nil))) // (positions, vocab)
		for j, v := range x.Data {
			if math.IsNaN(float64(v)) {
				return nil, fmt.Errorf("row %d, position %d: the logit of token %d is NaN: the model's weights are broken", i, j/x.Cols(), j%x.Cols())
			}
		}
		u.report(recipe.Event{Stage: "logits", Done: i + 1, Total: len(rows), Unit: "rows"})
		return safetensors.EncodeFloat32s(safetensors.F32, x.Data), nil
	})
}
