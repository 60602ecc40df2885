package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"krait/recipe"
	"krait/sample"
)

func preferCommand(u *ui) *cobra.Command {
	var c recipe.PreferConfig
	var asJSON bool
	cmd := verb("prefer A B", cobra.Command{
		Short: "choose between two models' answers: pairs for reward, dpo and ppo",
		Long: `Two models, or one twice, answer each prompt; the two answers are shown in a random order that does not say who wrote them,
and you type which is better: 1, 2, t (alike), s (skip) or q (go on another time). The preferences go into a file that reward
and dpo read; all decisions are in a file of the same name with .votes, from which the same command goes on.
With --judge a reward model or a rule chooses instead.`,
		Example: `  krait prefer tuned aligned --prompts prompts.txt --as-chat --out pairs.jsonl
  krait prefer stories stories --judge rule:happy --count 1000 --out pairs.jsonl`,
	}, func(cmd *cobra.Command, args []string) error {
		c.A, c.B = args[0], args[1]
		if err := requireFlags(cmd, "out"); err != nil {
			return err
		}
		switch {
		case c.MaxTokens < 1:
			return usage(cmd, "--max-tokens is %d, want a positive number", c.MaxTokens)
		case c.Count < 0:
			return usage(cmd, "--count is %d, want a positive number, or 0 for each prompt once", c.Count)
		}
		if err := (sample.Options{Temperature: c.Temperature, TopP: c.TopP}).Validate(); err != nil {
			return usage(cmd, "%v", err)
		}
		return prefer(cmd.Context(), u, c, asJSON)
	})
	f := cmd.Flags()
	f.StringVar(&c.Out, "out", "", "`FILE` of preferences to make or go on with")
	f.StringVar(&c.Prompts, "prompts", "", "prompts: a text file with one a line, or `DATA` with rows of a \"prompt\" each (default: the beginning of a text)")
	f.BoolVar(&c.AsChat, "as-chat", false, "prompts are said by the user in a conversation; otherwise they begin a text")
	f.StringVar(&c.Judge, "judge", "", "directory of a reward `MODEL`, or a rule such as rule:happy, that chooses instead of you")
	f.IntVar(&c.Count, "count", 0, "`N` comparisons, prompts are used in turn; 0: each prompt once")
	f.IntVar(&c.MaxTokens, "max-tokens", 128, "at most `N` tokens of an answer")
	f.Float64Var(&c.Temperature, "temperature", 1, "divides the logits by `T`; 0 is greedy")
	f.Float64Var(&c.TopP, "top-p", 1, "sample from the fewest tokens whose probabilities sum to `P`; 1: all")
	f.Uint64Var(&c.Seed, "seed", 0, "`SEED` of the sampling and the order")
	f.BoolVar(&asJSON, "json", false, "print one JSON object when done")
	return cmd
}

// prefer asks for each comparison and says what came out.
func prefer(ctx context.Context, u *ui, c recipe.PreferConfig, asJSON bool) error {
	for _, dir := range []string{c.A, c.B} {
		if isEmbedded(dir) {
			return fmt.Errorf("%s is not a directory here: write the embedded model to one with \"krait example %s\"", dir, dir)
		}
	}
	input := newLines(ctx, u, isTerminal(u.in))
	report := u.report
	if c.Judge == "" {
		report = func(e recipe.Event) { // the questions show how it goes
			if e.Note != "" {
				u.report(e)
			}
		}
	}
	result, err := recipe.Prefer(ctx, c, func(x recipe.Comparison) (string, error) { return choose(u, input, x) }, report)
	u.close()
	if errors.Is(err, context.Canceled) {
		return &interrupted{hint: fmt.Sprintf("%s holds the decisions so far, the same command goes on from there", c.Out)}
	}
	if err != nil {
		return err
	}
	if asJSON {
		return u.json(result)
	}
	u.table([][]string{{"A, " + c.A, fmt.Sprint(result.A)}, {"B, " + c.B, fmt.Sprint(result.B)}, {"alike", fmt.Sprint(result.Alike)},
		{"skipped", fmt.Sprint(result.Skipped)}, {"left", fmt.Sprint(result.Left)}})
	return nil
}

// choose shows a comparison and reads which answer is better.
func choose(u *ui, input *lines, x recipe.Comparison) (string, error) {
	u.say(fmt.Sprintf("\n%d of %d: %s\n\n[1]%s\n\n[2]%s\n", x.Number, x.Of, x.Prompt, spaced(x.First), spaced(x.Second)))
	for {
		u.say("1, 2, t (alike), s (skip) or q (quit)?")
		typed, err := input.read("> ")
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, errInterrupted):
			return recipe.ChooseQuit, nil
		case err != nil:
			return "", err
		}
		choice := strings.ToLower(strings.TrimSpace(typed))
		if slices.Contains([]string{recipe.ChooseFirst, recipe.ChooseSecond, recipe.ChooseNone, recipe.ChooseSkip, recipe.ChooseQuit}, choice) {
			return choice, nil
		}
	}
}

// spaced puts a space before an answer that has none.
func spaced(answer string) string {
	if strings.HasPrefix(answer, " ") || strings.HasPrefix(answer, "\n") {
		return answer
	}
	return " " + answer
}
