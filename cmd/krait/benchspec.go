package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"krait/eval"
)

func benchSpecCommand(u *ui) *cobra.Command {
	var b benchFlags
	c := eval.SpecConfig{Depth: -1}
	var draftShape string
	cmd := &cobra.Command{
		Use:                   "spec [MODEL] [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "what speculation gains, for a draft that is right as often as you say",
		Long: `Measure speculation with synthetic acceptance: a draft of random weights proposes tokens, the model verifies them, and how
many of them count as accepted is drawn so that a step yields the asked number of tokens on average. Everything else is real: drafting,
verification, commit, roll-back, the choice of tokens. Plain decoding and speculation take turns; figures are medians.

The depth is the one that measured times promise to be fastest for a draft of that quality, 0 where none is; --depth sets it.
"identical" says whether greedy output with the same draft and depth, nothing synthetic, is that of plain decoding.`,
		Example: `  krait bench spec --shape hybrid1b --synthetic 2.5,3.4
  krait bench spec stories260k --synthetic 2 --depth 3 --json`,
	}
	cmd.Args = atMostOne
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := b.validate(cmd, args); err != nil {
			return err
		}
		if cmd.Flags().Changed("depth") && (c.Depth < 0 || c.Depth > 64) {
			return usage(cmd, "--depth is %d, want a number from 0 to 64", c.Depth)
		}
		for _, mean := range c.Synthetic {
			if !(mean >= 1) || mean > 8 || c.Depth >= 0 && mean > float64(c.Depth+1) {
				return usage(cmd, "--synthetic %g: want tokens a step from 1 to 8, and at most one more than --depth", mean)
			}
		}
		target, err := b.subject(u, args)
		if err != nil {
			return err
		}
		if draftShape == "" {
			draftShape = eval.DraftShape(b.shape, &target.Model.Config)
		}
		draft, err := b.random(draftShape, target.Model.Config.VocabSize)
		if err != nil {
			return usage(cmd, "--draft-shape: %v", err)
		}
		c.Runs, c.Seconds, c.Report = b.runs, b.seconds, progressOf(u, "spec", "runs")
		r, err := eval.BenchSpec(cmd.Context(), target, eval.BenchSubject{Name: draftShape, Model: draft}, c)
		if err != nil {
			return err
		}
		if b.json {
			return u.json(r)
		}
		printSpec(u, r)
		return nil
	}
	b.flags(cmd, 4)
	f := cmd.Flags()
	f.Float64SliceVar(&c.Synthetic, "synthetic", []float64{2.5, 3.4}, "tokens that a step yields on average, a `LIST` with commas")
	f.IntVar(&c.Depth, "depth", -1, "propose `N` tokens in each step (default: chosen by measured cost)")
	f.StringVar(&draftShape, "draft-shape", "", "the draft's shape, with the model's vocabulary, by `NAME` (default: one that suits the model)")
	return cmd
}

// printSpec prints the table for people.
func printSpec(u *ui, r *eval.SpecReport) {
	u.print("%s: %s in %s, %s kernels, %d threads\n", r.Shape, millions(r.Parameters), r.Type, r.ISA, r.Threads)
	if len(r.Rows) > 0 {
		d := r.Rows[0].Draft
		u.print("draft %s: %s, %d layers of %d, MLP %d, vocabulary %d; %.2f ms a token\n", d.Name, millions(d.Parameters), d.Layers, d.Hidden, d.MLP, d.Vocabulary, r.DraftMS)
	}
	u.print("a step of 1, 2, … rows takes")
	for _, t := range r.StepMS {
		u.print(" %s", figure(t))
	}
	u.print(" ms\n\n")
	rows := [][]string{{"", "tokens/step", "depth", "plain tokens/s", "tokens/s", "speed-up", "identical"}}
	for _, x := range r.Rows {
		rows = append(rows, []string{x.Name, fmt.Sprintf("%.2f", x.TokensPerStep), fmt.Sprint(x.Depth), figure(x.PlainTokensPerSecond),
			figure(x.TokensPerSecond), fmt.Sprintf("%.2fx", x.Speedup), fmt.Sprint(x.Identical)})
	}
	u.table(rows)
}
