package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"krait/checkpoint"
	"krait/recipe"
)

func demoCommand(u *ui) *cobra.Command {
	c := recipe.DemoConfig{Seed: 1}
	var jsonFile string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "run the whole method on the embedded model",
		Long: `Demo runs the whole method on the embedded Llama of 260 k parameters: the teacher writes pseudo-labels; a hybrid with 3 of 5
layers Mamba2 and a model with all 5 are initialised from the teacher's attention, aligned layer by layer, and
distilled end to end; a draft model is distilled from the hybrid; all are measured on held-out stories, and the hybrid
decodes plainly and with speculation. It ends in a table and an HTML report. Stages that are whole already are kept,
an interrupted one goes on. What it makes is the recipe demo ("krait recipe cat demo").`,
		Example: `  krait demo
  krait demo --dir out --json out.json
  krait demo --scale 0.05 --dir trial`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !(c.Scale > 0 && c.Scale <= 100) {
				return usage(cmd, "--scale is %g, want a positive number of at most 100", c.Scale)
			}
			return u.demo(cmd.Context(), c, jsonFile)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.Dir, "dir", "krait-demo", "directory for the stages and the report")
	f.StringVar(&jsonFile, "json", "", "file to write every figure to")
	f.Float64Var(&c.Scale, "scale", 1, "factor on the amounts of text and of training steps")
	f.Uint64Var(&c.Seed, "seed", 1, "seed of everything random")
	f.BoolVar(&c.Force, "force", false, "replace what was made with another scale or seed")
	return cmd
}

func (u *ui) demo(ctx context.Context, c recipe.DemoConfig, jsonFile string) error {
	r, err := recipe.Demo(ctx, c, u.report)
	u.close()
	if errors.Is(err, context.Canceled) {
		return &interrupted{hint: fmt.Sprintf("%s holds the work so far, the same command goes on from there", c.Dir)}
	}
	if err != nil {
		return err
	}
	report := filepath.Join(c.Dir, "report.html")
	if err := recipe.WriteReport(report, r); err != nil {
		return err
	}
	if jsonFile != "" {
		j, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := checkpoint.WriteFile(jsonFile, append(j, '\n')); err != nil {
			return err
		}
	}
	u.demoTables(r)
	u.print("\nreport: %s\n", report)
	return nil
}

// demoTables prints what the demo measured.
func (u *ui) demoTables(r *recipe.DemoResult) {
	rows := [][]string{{"model", "nats/token", "perplexity", "ratio", "parameters", "state at 512 tokens"}}
	for _, m := range []struct {
		name string
		recipe.DemoModel
	}{{"teacher", r.Teacher}, {"hybrid at init", r.HybridInit}, {"hybrid distilled", r.Hybrid},
		{"pure Mamba at init", r.PureInit}, {"pure Mamba distilled", r.Pure}, {"draft", r.Draft}} {
		rows = append(rows, []string{m.name, fmt.Sprintf("%.4f", m.NLL), fmt.Sprintf("%.3f", m.Perplexity), fmt.Sprintf("%.3f", m.Ratio),
			fmt.Sprint(m.Parameters), fmt.Sprintf("%.1f KiB", float64(m.StateBytes512)/1024)})
	}
	u.table(rows)
	u.print("\n")
	rows = [][]string{{"decoding of the hybrid", "tokens/s", "tokens/step", "depth", "accepted", "speed-up", "output"},
		{"plain", fmt.Sprintf("%.0f", r.PlainTokensPerSecond), "1.00", "", "", "1.00x", ""}}
	var why []string
	for _, s := range []struct {
		name string
		recipe.DemoSpeculation
	}{{"draft model and n-grams", r.Speculative}, {"draft model alone", r.DraftOnly}, {"n-grams alone", r.NGram}} {
		same := "identical"
		if !s.Identical {
			same = "DIFFERS"
		}
		rows = append(rows, []string{s.name, fmt.Sprintf("%.0f", s.TokensPerSecond), fmt.Sprintf("%.2f", s.TokensPerStep),
			fmt.Sprintf("%d (mean %.2f)", s.Depth, s.MeanDepth), fmt.Sprintf("%.0f%%", 100*s.Acceptance), fmt.Sprintf("%.2fx", s.Speedup), same})
		for _, w := range s.Why {
			if !slices.Contains(why, w) {
				why = append(why, w)
			}
		}
	}
	u.table(rows)
	u.print("\nWhat chooses the depth, step by step:\n")
	for _, w := range why {
		u.print("  %s\n", w)
	}
	u.print("\ntrained on %d tokens at %.0f tokens/s (gemm %.0f%%, scan %.0f%%, attention %.0f%%, elementwise %.0f%%, overhead %.0f%%); whole demo %s, kernels %s\n",
		r.Training.Tokens, r.Training.TokensPerSecond, 100*r.Training.Shares["gemm"], 100*r.Training.Shares["scan"], 100*r.Training.Shares["attention"],
		100*r.Training.Shares["elementwise"], 100*r.Training.Shares["overhead"], time.Duration(r.Seconds*float64(time.Second)).Round(time.Second), r.Kernels)
}
