package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"krait/eval"
)

func benchSpecCommand(u *ui) *cobra.Command {
	var b benchFlags
	c := eval.SpecConfig{Depth: -1}
	var text textFlags
	var draftShape, plot string
	cmd := &cobra.Command{
		Use:                   "spec [MODEL] [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "what speculation gains, on your text or for a draft that is right as often as you say",
		Long: `With --text, measure speculation on real prompts: plain decoding and speculation take turns, prompt by prompt, and measured cost
decides who guesses how many tokens. Name data sets with --text FILE, guessers with --draft, --self-draft or --ngram. With --check-identical,
compare every way of guessing with plain greedy decoding instead, and fail where one token differs.

Otherwise measure speculation with synthetic acceptance: a draft of random weights proposes tokens, the model verifies them, and how
many of them count as accepted is drawn so that a step yields the asked number of tokens on average. Everything else is real: drafting,
verification, commit, roll-back, the choice of tokens. Plain decoding and speculation take turns; figures are medians.

The depth is the one that measured times promise to be fastest for a draft of that quality, 0 where none is; --depth sets it.
"identical" says whether greedy output with the same draft and depth, nothing synthetic, is that of plain decoding.`,
		Example: `  krait bench spec --shape hybrid1b --synthetic 2.5,3.4
  krait bench spec stories260k --synthetic 2 --depth 3 --json
  krait bench spec smol --text chat.jsonl --text stories.txt --ngram --draft small --plot spec.svg
  krait bench spec smol --text chat.jsonl --prompts 200 --ngram --draft small --check-identical`,
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
		if err := text.validate(cmd, b.shape); err != nil {
			return err
		}
		if err := b.validateCompare(cmd, "llama.cpp"); err != nil {
			return err
		}
		if len(b.compare) > 0 && b.shape == "" {
			return usage(cmd, "--compare needs --shape: a peer speculates on models of random weights alone")
		}
		if text.identical && plot != "" {
			return usage(cmd, "--plot: --check-identical measures nothing to draw")
		}
		if len(text.files) > 0 {
			return text.run(cmd, u, &b, args[0], plot)
		}
		return b.runSynthetic(cmd, u, args, c, draftShape, plot)
	}
	b.flags(cmd, 4)
	b.compareFlags(cmd, "llama.cpp, on GGUF files of --shape and of the draft's shape")
	text.flags(cmd)
	f := cmd.Flags()
	f.Float64SliceVar(&c.Synthetic, "synthetic", []float64{2.5, 3.4}, "tokens that a step yields on average, a `LIST` with commas")
	f.IntVar(&c.Depth, "depth", -1, "propose `N` tokens in each step (default: chosen by measured cost)")
	f.StringVar(&plot, "plot", "", "draw tokens a step, speed-up, acceptance and T(n) into this SVG `FILE`")
	f.StringVar(&draftShape, "draft-shape", "", "the draft's shape, with the model's vocabulary, by `NAME` (default: one that suits the model)")
	return cmd
}

// runSynthetic measures with synthetic acceptance, beside a peer if there is to be one.
func (b *benchFlags) runSynthetic(cmd *cobra.Command, u *ui, args []string, c eval.SpecConfig, draftShape, plot string) error {
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
	if len(b.compare) > 0 {
		if c.Peer, err = b.startSpeculatingPeer(cmd, u, draftShape, target.Model.Config.VocabSize); err != nil {
			return err
		}
		if c.Peer != nil {
			defer c.Peer.Close()
		}
	}
	c.Runs, c.Seconds, c.Report = b.runs, b.seconds, progressOf(u, "spec", "runs")
	r, err := eval.BenchSpec(cmd.Context(), target, eval.BenchSubject{Name: draftShape, Model: draft}, c)
	if err != nil {
		return err
	}
	return showSpec(u, r, plot, b.json)
}

// showSpec prints the report and draws its plot, if there is to be one.
func showSpec(u *ui, r *eval.SpecReport, plot string, asJSON bool) error {
	if plot != "" {
		if err := os.WriteFile(plot, r.Plot(), 0o644); err != nil {
			return err
		}
	}
	if asJSON {
		return u.json(r)
	}
	printSpec(u, r)
	return nil
}

// printSpec prints the table for people.
func printSpec(u *ui, r *eval.SpecReport) {
	u.print("%s: %s in %s, %s kernels, %d threads\n", r.Shape, millions(r.Parameters), r.Type, r.ISA, r.Threads)
	if len(r.Rows) > 0 {
		if d := r.Rows[len(r.Rows)-1].Draft; d.Layers > 0 {
			u.print("draft %s: %s, %d layers of %d, MLP %d, vocabulary %d", d.Name, millions(d.Parameters), d.Layers, d.Hidden, d.MLP, d.Vocabulary)
			if r.DraftMS > 0 {
				u.print("; %.2f ms a token", r.DraftMS)
			}
			u.print("\n")
		}
	}
	if r.AtOnce > 1 {
		u.print("a step of %d sequences with 0, 1, … guesses takes", r.AtOnce)
	} else {
		u.print("a step of 1, 2, … rows takes")
	}
	for _, t := range r.StepMS {
		if t == 0 {
			u.print(" –") // not measured
		} else {
			u.print(" %s", figure(t))
		}
	}
	u.print(" ms\n")
	if x := r.Rollback; x != nil {
		u.print("rolling back costs %.1f %% of a step of %d rows, at worst %.1f %%; its log takes %d KiB a sequence, copies of the state would take %d KiB\n",
			100*x.Share, x.Rows, 100*x.WorstShare, x.LogBytes>>10, x.CopiesByte>>10)
	}
	u.print("\n")
	rows := [][]string{{"", "tokens/step", "depth", "acceptance", "plain tokens/s", "tokens/s", "speed-up", "least", "identical"}}
	for _, x := range r.Rows {
		depth, acceptance, least := fmt.Sprint(x.Depth), fmt.Sprintf("%.2f", x.Acceptance), ""
		if x.LeastSpeedup > 0 {
			depth, acceptance, least = fmt.Sprintf("%.1f", x.MeanDepth), percents(x.AcceptanceAt), fmt.Sprintf("%.2fx", x.LeastSpeedup)
		}
		rows = append(rows, []string{x.Name, fmt.Sprintf("%.2f", x.TokensPerStep), depth, acceptance, figure(x.PlainTokensPerSecond),
			figure(x.TokensPerSecond), fmt.Sprintf("%.2fx", x.Speedup), least, fmt.Sprint(x.Identical)})
	}
	u.table(rows)
	for _, x := range r.Rows {
		if p := x.Peer; p != nil {
			how := map[string]string{"cut": "its memory forgets guesses", "copy": "it goes back to a copy of its state and is fed again what stays"}[p.Rollback]
			u.print("%s by %s (%s), as many guesses and as many accepted: plain %s tokens/s, speculating %s, %.2fx; %s\n", x.Name, r.Peer.Name, r.Peer.Version,
				figure(p.PlainTokensPerSecond), figure(p.TokensPerSecond), p.Speedup, how)
		}
	}
}

// percents writes the first of shares.
func percents(shares []float64) string {
	var s []string
	for _, x := range shares[:min(4, len(shares))] {
		s = append(s, fmt.Sprintf("%.0f", 100*x))
	}
	return strings.Join(s, " ") + " %"
}
