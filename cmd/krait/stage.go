package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"krait/checkpoint"
	"krait/optim"
	"krait/recipe"
)

// stageSummary is the JSON object of a verb that makes a directory.
type stageSummary struct {
	Stage   string             `json:"stage"`
	Out     string             `json:"out"`
	Seconds float64            `json:"seconds"`
	Metrics map[string]float64 `json:"metrics"`
}

// stage runs a stage that makes the directory out, and prints what it made.
func (u *ui) stage(ctx context.Context, out string, asJSON bool, inputs []string, run func(context.Context, recipe.Report) error) error {
	for _, dir := range inputs {
		if isEmbedded(dir) {
			return fmt.Errorf("%s is not a directory here: write the embedded model to one with \"krait example %s\"", dir, dir)
		}
	}
	if err := checkpoint.RefuseExisting(out); err != nil {
		return err
	}
	start := time.Now()
	err := run(ctx, u.report)
	u.close()
	if errors.Is(err, context.Canceled) {
		stopped := &interrupted{}
		if _, missing := os.Stat(checkpoint.Partial(out)); missing == nil {
			stopped.hint = fmt.Sprintf("%s holds the work so far, the same command goes on from there", checkpoint.Partial(out))
		}
		return stopped
	}
	if err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(out, "krait.json"))
	if err != nil {
		return err
	}
	var p checkpoint.Provenance
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("%s: krait.json: %w", out, err)
	}
	s := stageSummary{Stage: p.Stage, Out: out, Seconds: time.Since(start).Seconds(), Metrics: p.Metrics}
	if s.Metrics == nil {
		s.Metrics = map[string]float64{}
	}
	if asJSON {
		return u.json(s)
	}
	rows := [][]string{{s.Stage, s.Out}, {"seconds", fmt.Sprintf("%.1f", s.Seconds)}}
	for _, name := range slices.Sorted(maps.Keys(s.Metrics)) {
		rows = append(rows, []string{name, strconv.FormatFloat(s.Metrics[name], 'g', 6, 64)})
	}
	u.table(rows)
	return nil
}

// parseLayers reads "1,3", or "none" for an empty list.
func parseLayers(s string) ([]int, error) {
	layers := []int{}
	if s == "none" {
		return layers, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, errLast := strconv.Atoi(to)
		if err != nil || errLast != nil || first < 0 || last < first || last-first > 1<<20 {
			return nil, fmt.Errorf("%q: want numbers of layers, such as 1,3 or 0-5", s)
		}
		for l := first; l <= last; l++ {
			if slices.Contains(layers, l) {
				return nil, fmt.Errorf("%q: layer %d stands twice", s, l)
			}
			layers = append(layers, l)
		}
	}
	return layers, nil
}

// trainFlags binds the flags of stages that train.
func trainFlags(f *pflag.FlagSet, c *recipe.TrainConfig) {
	*c = recipe.DefaultTrain()
	f.IntVar(&c.Steps, "steps", c.Steps, "`N` optimiser steps")
	f.IntVar(&c.BatchTokens, "batch-tokens", c.BatchTokens, "`N` tokens of a batch")
	f.IntVar(&c.Accumulate, "accumulate", c.Accumulate, "`N` batches of a step")
	f.IntVar(&c.Context, "context", c.Context, "cut documents after `N` tokens")
	f.Float64Var(&c.Crop, "crop", c.Crop, "let this `SHARE` of the documents begin at a random place")
	f.Float64Var(&c.LR, "lr", c.LR, "peak learning `RATE` of AdamW")
	f.Float64Var(&c.RestLR, "rest-lr-scale", c.RestLR, "`FACTOR` on the rate of weights that are not a Mamba mixer's")
	f.Float64Var(&c.Epochs, "epochs", 0, "instead of --steps: `N` passes over the text")
	f.StringVar(&c.Schedule, "schedule", c.Schedule, "`COURSE` of the rate: cosine, linear, constant or wsd")
	f.Float64Var(&c.FloorLR, "min-lr-rate", c.FloorLR, "end of the rate's fall, as a `SHARE` of the peak")
	f.IntVar(&c.Warmup, "warmup", c.Warmup, "`N` steps in which the rate rises; without the flag at most a tenth of --steps")
	f.Float64Var(&c.Clip, "clip", c.Clip, "limit of the gradient's `NORM`; 0: none")
	f.Float64Var(&c.WeightDecay, "weight-decay", c.WeightDecay, "AdamW's weight `DECAY` of matrices")
	f.Float64Var(&c.Beta1, "beta1", c.Beta1, "AdamW's `DECAY` of the first moment")
	f.Float64Var(&c.Beta2, "beta2", c.Beta2, "AdamW's `DECAY` of the second moment")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "`SEED` of the order of documents")
	f.StringVar(&c.Compute, "compute", c.Compute, "`FORMAT` of the operands of matrix products: f32 or bf16; weights and sums are float32")
	f.Float64Var(&c.EMADecay, "ema-decay", 0, "keep an average of the weights that forgets with this `DECAY`, such as 0.99, and measure it on what is held out; 0: none")
	f.BoolVar(&c.EMAResult, "ema-result", false, "make the average of the weights the result")
	f.BoolVar(&c.Recompute, "recompute", false, "keep only what goes into each layer in memory and run the layer again for its gradients, which stay the same")
	f.IntVar(&c.SaveEvery, "save-steps", c.SaveEvery, "save a state to go on from every `N` steps; 0: never")
	f.IntVar(&c.SaveLimit, "save-total-limit", 1, "keep the latest `N` states while training")
	f.IntVar(&c.EvalEvery, "eval-steps", 0, "measure on what is held out every `N` steps; 0: never")
	f.IntVar(&c.EvalRows, "eval-rows", 0, "hold out the last `N` documents or rows (with --eval-steps and no --eval-text: 32)")
	f.StringVar(&c.EvalText, "eval-text", "", "measure on the text `FILE` as well")
	f.IntVar(&c.Patience, "early-stopping-patience", 0, "end after `N` measurements without a better one; 0: do not")
	f.Float64Var(&c.Spike, "loss-spike-factor", 0, "skip steps whose loss is more than `N` times its running mean; 0: none")
}

// weightFlags binds the choice of the weights to train.
func weightFlags(f *pflag.FlagSet, c *recipe.TrainConfig) {
	f.StringSliceVar(&c.Train, "train", nil, "train only weights whose names hold one of these `PARTS`, such as .mamba.")
	f.StringSliceVar(&c.Freeze, "freeze", nil, "leave weights whose names hold one of these `PARTS` as they are, such as .mlp.")
}

// checkTrain refuses values that no training can have, by the names of their flags.
func checkTrain(cmd *cobra.Command, c *recipe.TrainConfig) error {
	if f := cmd.Flags(); !f.Changed("warmup") && !f.Changed("epochs") {
		c.Warmup = min(c.Warmup, c.Steps/10)
	}
	if _, err := optim.ParseSchedule(c.Schedule); err != nil {
		return usage(cmd, "--schedule %q: want cosine, linear, constant or wsd", c.Schedule)
	}
	if f := cmd.Flags(); f.Changed("epochs") {
		if f.Changed("steps") || !(c.Epochs > 0) {
			return usage(cmd, "--epochs is %g: want a positive number, and no --steps beside it", c.Epochs)
		}
		c.Steps = 0
	}
	switch {
	case c.Compute != "f32" && c.Compute != "bf16":
		return usage(cmd, "--compute %q: want f32 or bf16", c.Compute)
	case c.Warmup < 0 || c.Warmup > c.Steps && c.Steps > 0:
		return usage(cmd, "--warmup is %d, want a number from 0 to the %d steps", c.Warmup, c.Steps)
	case c.Context < 2:
		return usage(cmd, "--context is %d, want at least 2", c.Context)
	case !(c.LR > 0):
		return usage(cmd, "--lr is %g, want a positive number", c.LR)
	case !(c.Crop >= 0 && c.Crop <= 1):
		return usage(cmd, "--crop is %g, want a share from 0 to 1", c.Crop)
	case !(c.FloorLR >= 0 && c.FloorLR <= 1):
		return usage(cmd, "--min-lr-rate is %g, want a share from 0 to 1", c.FloorLR)
	case !(c.Beta1 >= 0 && c.Beta1 < 1) || !(c.Beta2 >= 0 && c.Beta2 < 1):
		return usage(cmd, "--beta1 %g and --beta2 %g: want numbers from 0 to below 1", c.Beta1, c.Beta2)
	case c.EvalEvery == 0 && (c.EvalRows > 0 || c.EvalText != "" || c.Patience > 0):
		return usage(cmd, "--eval-rows, --eval-text and --early-stopping-patience need --eval-steps: how often to measure")
	case c.SaveLimit < 0 || c.EvalEvery < 0 || c.EvalRows < 0 || c.Patience < 0 || c.Spike != 0 && !(c.Spike > 1):
		return usage(cmd, "--save-total-limit, --eval-steps, --eval-rows, --early-stopping-patience: none negative; --loss-spike-factor: more than 1")
	case !(c.EMADecay >= 0 && c.EMADecay < 1) || c.EMAResult && c.EMADecay == 0:
		return usage(cmd, "--ema-decay is %g, want a share from 0 to below 1, and above 0 with --ema-result", c.EMADecay)
	case c.SaveEvery < 0:
		return usage(cmd, "--save-steps is %d, want a positive number, or 0 for never", c.SaveEvery)
	}
	counts := map[string]int{"steps": c.Steps, "batch-tokens": c.BatchTokens, "accumulate": c.Accumulate}
	if c.Epochs > 0 {
		delete(counts, "steps")
	}
	if err := positive(cmd, counts); err != nil {
		return err
	}
	return notNegative(cmd, map[string]float64{"rest-lr-scale": c.RestLR, "clip": c.Clip, "weight-decay": c.WeightDecay})
}

// positive refuses flags that are not above zero, the first by name.
func positive(cmd *cobra.Command, values map[string]int) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if values[name] <= 0 {
			return usage(cmd, "--%s is %d, want a positive number", name, values[name])
		}
	}
	return nil
}

// notNegative refuses flags that are below zero or no number, the first by name.
func notNegative(cmd *cobra.Command, values map[string]float64) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !(values[name] >= 0) {
			return usage(cmd, "--%s is %g, want a number from 0 up", name, values[name])
		}
	}
	return nil
}
