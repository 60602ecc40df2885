package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"krait/checkpoint"
	"krait/recipe"
)

func selectCommand(u *ui) *cobra.Command {
	c := recipe.DefaultSelect()
	var asJSON bool
	cmd := verb("select TEACHER", cobra.Command{
		Short: "choose which layers of a Transformer stay attention",
		Long: `Choose --keep layers that stay attention in a hybrid. uniform spreads them evenly; leave-one-out keeps those without whose
attention the teacher changes most; kl-restore those that bring a --student without attention nearest to the teacher, each put
back alone; greedy puts back the best one beside those already chosen. KL is measured on --text, after --steps of distillation
of each candidate on --labels. The directory has the table (selection.json) and a picture; init takes it as --attn-layers.
A run that was stopped goes on when the same command is given again.`,
		Example: `  krait example teacher
  krait select teacher --keep 2 --method leave-one-out --out chosen
  krait init teacher --attn-layers chosen --out hybrid`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Teacher = args[0]
		if err := requireFlags(cmd, "keep", "out"); err != nil {
			return err
		}
		if c.Steps > 0 {
			if err := checkTrain(cmd, &c.TrainConfig); err != nil {
				return err
			}
		} else if c.Steps < 0 {
			return usage(cmd, "--steps is %d, want a number from 0 up", c.Steps)
		}
		return selectLayers(cmd.Context(), u, c, asJSON)
	})
	f := cmd.Flags()
	trainFlags(f, &c.TrainConfig)
	c.TrainConfig = recipe.DefaultSelect().TrainConfig
	rowDefaults(f)
	weightFlags(f, &c.TrainConfig)
	f.IntVar(&c.Keep, "keep", 0, "`N` layers to keep as attention")
	f.StringVar(&c.Method, "method", c.Method, "`HOW` to choose: uniform, leave-one-out, kl-restore or greedy")
	f.StringVar(&c.Student, "student", "", "directory of the `MODEL` without attention, for kl-restore and greedy")
	f.StringVar(&c.Labels, "labels", "", "directory that label made, to distil each candidate on: `DIR`")
	f.StringVar(&c.Text, "text", "", "held-out text to measure on: `FILE` (default: stories inside this program)")
	f.StringVar(&c.Out, "out", "", "directory to make: `DIR`")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// selectLayers runs the selection and prints its table.
func selectLayers(ctx context.Context, u *ui, c recipe.SelectConfig, asJSON bool) error {
	if isEmbedded(c.Teacher) {
		return fmt.Errorf("%s is not a directory here: write the embedded model to one with \"krait example %s\"", c.Teacher, c.Teacher)
	}
	if err := checkpoint.RefuseExisting(c.Out); err != nil {
		return err
	}
	r, err := recipe.Select(ctx, c, u.report)
	u.close()
	if errors.Is(err, context.Canceled) {
		return &interrupted{hint: fmt.Sprintf("%s holds the work so far, the same command goes on from there", checkpoint.Partial(c.Out))}
	}
	if err != nil {
		return err
	}
	if asJSON {
		return u.json(r)
	}
	rows := [][]string{{"layer", "KL", "round"}}
	for _, x := range r.Candidates {
		mark := ""
		if i := slices.Index(r.Ranked, x.Layer); i >= 0 && (r.Method != "greedy" || i == x.Round-1) {
			mark = " *"
		}
		rows = append(rows, []string{strconv.Itoa(x.Layer) + mark, fmt.Sprintf("%.4f", x.KL), strconv.Itoa(x.Round)})
	}
	if len(rows) > 1 {
		u.table(rows)
	}
	if c.Student != "" {
		u.table([][]string{{"KL with them", fmt.Sprintf("%.4f", r.KL)}, {"evenly spread", fmt.Sprintf("%.4f", r.UniformKL)}, {"without attention", fmt.Sprintf("%.4f", r.StudentKL)}})
	}
	u.print("%s\n", joinLayers(r.AttnLayers))
	return nil
}

// joinLayers writes a list as --attn-layers reads it.
func joinLayers(layers []int) string {
	var words []string
	for _, l := range layers {
		words = append(words, strconv.Itoa(l))
	}
	return strings.Join(words, ",")
}
