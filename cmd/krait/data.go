package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"krait/data"
	"krait/recipe"
)

func dataCommand(u *ui) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data",
		Short: "look at files of training data",
		Long:  "Look at files of training data as the stages see them.",
	}
	onlySubVerbs(cmd)
	cmd.AddCommand(inspectCommand(u))
	return cmd
}

func inspectCommand(u *ui) *cobra.Command {
	c := recipe.InspectConfig{Context: 2048}
	var rows int
	var asJSON bool
	cmd := verb("inspect FILE", cobra.Command{
		Short: "show what training would learn from the rows of a file",
		Long: `Show the rows of a file as training sees them: their tokens, those to be learnt marked (in colour on a terminal, in [brackets]
elsewhere), their lengths, and which rows are left out and why. Tokens and conversations are those of --model. With --pairs the rows
are preferences, of which the chosen answer comes first.`,
		Example: `  krait data inspect chats.jsonl --model stories --as-chat
  krait data inspect pairs.parquet --model tuned --pairs --rows 2
  krait data inspect big.jsonl.zst --model tuned --rows 0 --json --decontaminate gsm8k.jsonl`,
	}, func(cmd *cobra.Command, args []string) error {
		if err := requireFlags(cmd, "model"); err != nil {
			return err
		}
		if isEmbedded(c.Model) {
			return fmt.Errorf("%s is not a directory here: write the embedded model to one with \"krait example %s\"", c.Model, c.Model)
		}
		if err := checkRows(cmd, &c.RowsConfig); err != nil {
			return err
		}
		if c.Context < 2 || rows < 0 {
			return usage(cmd, "--context is %d and --rows %d: want at least 2, and none negative", c.Context, rows)
		}
		var err error
		if c.Files, err = dataPaths(args[0]); err != nil {
			return err
		}
		in, err := recipe.NewInspector(c)
		if err != nil {
			return err
		}
		shown := 0
		counts, err := in.Inspect(func(r recipe.InspectedRow) bool {
			if shown < rows && !asJSON {
				u.inspected(in, r)
			}
			shown++
			return cmd.Context().Err() == nil
		})
		if err != nil {
			return err
		}
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		if asJSON {
			return u.json(counts)
		}
		u.counts(counts)
		return nil
	})
	f := cmd.Flags()
	f.StringVar(&c.Model, "model", "", "directory of the `MODEL` whose tokens and chat template are used")
	f.BoolVar(&c.Pairs, "pairs", false, "the rows are preferences")
	f.IntVar(&c.Context, "context", c.Context, "sequences of at most `N` tokens")
	f.IntVar(&rows, "rows", 5, "show `N` rows; all are counted")
	rowFlags(f, &c.RowsConfig)
	f.BoolVar(&asJSON, "json", false, "print the counts as one JSON object")
	return cmd
}

// inspected prints a row.
func (u *ui) inspected(in *recipe.Inspector, r recipe.InspectedRow) {
	if r.Reason != "" {
		u.print("%s:%d  left out: %s\n\n", r.File, r.Line, r.Reason)
		return
	}
	for i, s := range r.Group {
		side := ""
		if len(r.Group) == 2 {
			side = []string{"chosen, ", "rejected, "}[i]
		}
		cut := ""
		if r.Cut {
			cut = ", cut"
		}
		u.print("%s:%d  %s%d tokens, %d to be learnt%s\n%s\n\n", r.File, r.Line, side, len(s.IDs), s.Learns(), cut, u.masked(in, s))
	}
}

// masked writes a sequence with the tokens to be learnt marked.
func (u *ui) masked(in *recipe.Inspector, s data.Sequence) string {
	before, behind := "[", "]"
	if u.color {
		before, behind = "\x1b[32m", "\x1b[0m"
	}
	var b strings.Builder
	for i, text := range in.Texts(s.IDs) {
		learn := s.Learn[i] && i > 0
		if learn && !(i > 1 && s.Learn[i-1]) {
			b.WriteString(before)
		}
		if u.color || !strings.ContainsAny(text, "\n\t") {
			b.WriteString(text)
		} else {
			b.WriteString(strings.Trim(strconv.Quote(text), `"`))
		}
		if learn && !(i+1 < len(s.IDs) && s.Learn[i+1]) {
			b.WriteString(behind)
		}
	}
	return b.String()
}

// counts prints what became of the rows.
func (u *ui) counts(c recipe.RowCounts) {
	rows := [][]string{
		{"rows", fmt.Sprintf("%d, %d used, %d of them cut", c.Rows, c.Used, c.Cut)},
		{"tokens", fmt.Sprintf("%d, %d to be learnt", c.Tokens, c.Learnt)},
		{"lengths", fmt.Sprintf("median %d, 95 %% within %d, longest %d", c.Median, c.P95, c.Longest)},
	}
	for _, why := range slices.Sorted(maps.Keys(c.Dropped)) {
		rows = append(rows, []string{"left out", fmt.Sprintf("%d: %s", c.Dropped[why], why)})
	}
	u.table(rows)
}
