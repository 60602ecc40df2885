package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"krait/model"
	"krait/recipe"
)

func initCommand(u *ui) *cobra.Command {
	var c recipe.InitConfig
	var layers string
	var asJSON bool
	cmd := verb("init TEACHER", cobra.Command{
		Short: "make a hybrid from a Transformer",
		Long: `Make a hybrid from a Transformer: every layer becomes Mamba2 except those that --attn-layers names or --every keeps.
With --init attention the new layers begin with the projections of the attention that they replace (the method of
"The Mamba in the Llama"); linear also makes their convolution the identity; random takes nothing from it.`,
		Example: `  krait example teacher
  krait init teacher --attn-layers 1,3 --out hybrid
  krait init teacher --every 2 --out half
  krait init teacher --attn-layers none --out pure`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Teacher = args[0]
		f := cmd.Flags()
		if err := requireFlags(cmd, "out"); err != nil {
			return err
		}
		if f.Changed("attn-layers") == f.Changed("every") {
			return usage(cmd, "init: give either --attn-layers LIST or --every K")
		}
		if _, err := model.ParseInit(c.Init); err != nil {
			return usage(cmd, "--%v", err)
		}
		var err error
		if info, stat := os.Stat(layers); f.Changed("attn-layers") && stat == nil && info.IsDir() {
			c.Selection = layers
		} else if f.Changed("attn-layers") {
			if c.AttnLayers, err = parseLayers(layers); err != nil {
				return usage(cmd, "--attn-layers %v", err)
			}
		} else if c.Every < 1 {
			return usage(cmd, "--every is %d, want a positive number", c.Every)
		}
		return u.stage(cmd.Context(), c.Out, asJSON, []string{c.Teacher, c.MambaFrom}, func(ctx context.Context, report recipe.Report) error {
			return recipe.Init(ctx, c, report)
		})
	})
	f := cmd.Flags()
	f.StringVar(&c.Out, "out", "", "directory to make: `DIR`")
	f.StringVar(&layers, "attn-layers", "", "`LIST` of layers to keep as attention, from 0, such as 1,3; none keeps none; or what select made: a directory")
	f.IntVar(&c.Every, "every", 0, "keep every `K`-th layer as attention: layers K-1, 2K-1, …")
	f.StringVar(&c.Init, "init", "attention", "`HOW` new layers begin: attention, linear or random")
	f.StringVar(&c.MambaFrom, "mamba-from", "", "take the Mamba layers of this student, such as align made, instead of new ones: `MODEL`")
	f.Uint64Var(&c.Seed, "seed", 0, "`SEED` of what begins at random")
	f.BoolVar(&c.Identity, "identity-activation", false, "no activation behind the convolution")
	f.BoolVar(&c.ZBias, "z-bias", false, "give the gate a bias")
	f.BoolVar(&c.NoNorm, "no-norm", false, "no gated norm")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
