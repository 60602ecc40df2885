package main

import (
	"context"

	"github.com/spf13/cobra"

	"krait/recipe"
)

func alignCommand(u *ui) *cobra.Command {
	var c recipe.DistillConfig
	var asJSON bool
	cmd := verb("align STUDENT", cobra.Command{
		Short: "train each Mamba layer to do what the teacher's attention did",
		Long: `Train each Mamba mixer of a student by itself: for the input of the teacher's layer it is to put out what the
teacher's attention puts out. All layers learn from one pass of the teacher. It is quick, and a good start for distill.
A run that was stopped goes on when the same command is given again, bit for bit.`,
		Example: `  krait example teacher
  krait label teacher --out labels --count 200
  krait init teacher --attn-layers 1,3 --out hybrid
  krait align hybrid --teacher teacher --labels labels --out aligned --steps 100`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Student = args[0]
		if err := requireFlags(cmd, "teacher", "labels", "out"); err != nil {
			return err
		}
		if err := checkTrain(cmd, &c.TrainConfig); err != nil {
			return err
		}
		return u.stage(cmd.Context(), c.Out, asJSON, []string{c.Student, c.Teacher}, func(ctx context.Context, report recipe.Report) error {
			return recipe.Align(ctx, c, report)
		})
	})
	f := cmd.Flags()
	f.StringVar(&c.Teacher, "teacher", "", "directory of the teacher: `MODEL`")
	f.StringVar(&c.Labels, "labels", "", "directory that label made: `DIR`")
	f.StringVar(&c.Out, "out", "", "directory to make: `DIR`")
	trainFlags(f, &c.TrainConfig)
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
