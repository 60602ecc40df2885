package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"krait/model"
	"krait/recipe"
)

func initCommand(u *ui) *cobra.Command {
	var c recipe.InitConfig
	var layers string
	var every int
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
		if f.Changed("attn-layers") {
			if c.AttnLayers, err = parseLayers(layers); err != nil {
				return usage(cmd, "--attn-layers %v", err)
			}
		} else if every < 1 {
			return usage(cmd, "--every is %d, want a positive number", every)
		}
		return u.stage(cmd.Context(), c.Out, asJSON, []string{c.Teacher}, func(ctx context.Context, report recipe.Report) error {
			if f.Changed("every") {
				if c.AttnLayers, err = everyLayer(c.Teacher, every); err != nil {
					return err
				}
			}
			return recipe.Init(ctx, c, report)
		})
	})
	f := cmd.Flags()
	f.StringVar(&c.Out, "out", "", "directory to make: `DIR`")
	f.StringVar(&layers, "attn-layers", "", "`LIST` of layers to keep as attention, from 0, such as 1,3; none keeps none")
	f.IntVar(&every, "every", 0, "keep every `K`-th layer as attention: layers K-1, 2K-1, …")
	f.StringVar(&c.Init, "init", "attention", "`HOW` new layers begin: attention, linear or random")
	f.Uint64Var(&c.Seed, "seed", 0, "`SEED` of what begins at random")
	f.BoolVar(&c.Identity, "identity-activation", false, "no activation behind the convolution")
	f.BoolVar(&c.ZBias, "z-bias", false, "give the gate a bias")
	f.BoolVar(&c.NoNorm, "no-norm", false, "no gated norm")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// everyLayer lists the layers i of a model with i%k == k-1. Too large a k is an error, since it would keep none.
func everyLayer(dir string, k int) ([]int, error) {
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, err
	}
	var config struct {
		Layers int `json:"num_hidden_layers"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("load %s: config.json: %w", dir, err)
	}
	layers := []int{}
	for i := k - 1; i < config.Layers; i += k {
		layers = append(layers, i)
	}
	if len(layers) == 0 {
		return nil, fmt.Errorf("--every %d keeps none of the model's %d layers: if that is meant, say --attn-layers none", k, config.Layers)
	}
	return layers, nil
}
