package main

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"krait/checkpoint"
	"krait/eval"
	"krait/gguf"
	"krait/model"
	"krait/quant"
	"krait/recipe"
	"krait/tensor"
)

// benchFlags are what krait bench and krait bench spec have in common.
type benchFlags struct {
	shape, weights string
	kv             string
	threads, runs  int
	seconds        float64
	seed           uint64
	json           bool
	format         quant.Format
	compare        []string // peers
	python         string   // that runs them
}

func (b *benchFlags) flags(cmd *cobra.Command, seconds float64) {
	f := cmd.Flags()
	f.StringVar(&b.shape, "shape", "", "measure a model of random weights, of this `NAME`: "+strings.Join(eval.ShapeNames(), ", "))
	f.StringVar(&b.weights, "type", "", weightsUsage+" (default: as MODEL's are stored; f32 for a shape)")
	f.StringVar(&b.kv, "kv", "", kvUsage)
	f.IntVar(&b.threads, "threads", 0, "use `N` threads (default: the machine's processors)")
	f.IntVar(&b.runs, "runs", 5, "time everything `N` times")
	f.Float64Var(&b.seconds, "seconds", seconds, "cut a run of decoding off after about `N` seconds")
	f.Uint64Var(&b.seed, "seed", 1, "draw random weights from seed `N`")
	f.BoolVar(&b.json, "json", false, "print one JSON object")
}

// validate checks the flags and sets the number of threads.
func (b *benchFlags) validate(cmd *cobra.Command, args []string) error {
	name := strings.TrimPrefix(cmd.CommandPath(), "krait ")
	switch {
	case len(args) == 0 && b.shape == "":
		return usage(cmd, "%s: neither MODEL nor --shape NAME says what to measure", name)
	case len(args) == 1 && b.shape != "":
		return usage(cmd, "%s: %s and --shape %s are two models: want one", name, args[0], b.shape)
	case b.threads < 0 || cmd.Flags().Changed("threads") && b.threads == 0:
		return usage(cmd, "--threads is %d, want a positive number", b.threads)
	case b.runs < 1:
		return usage(cmd, "--runs is %d, want a positive number", b.runs)
	case !(b.seconds > 0):
		return usage(cmd, "--seconds is %g, want a positive number", b.seconds)
	}
	if b.shape != "" {
		if _, err := eval.ShapeConfig(b.shape); err != nil {
			return usage(cmd, "--shape: %v", err)
		}
	}
	if err := cmp.Or(checkType(cmd, b.weights), checkKV(cmd, b.kv)); err != nil {
		return err
	}
	b.format, _ = quant.Parse(b.weights) // the type that is asked for, or f32
	if b.threads > 0 {
		runtime.GOMAXPROCS(b.threads)
	}
	return nil
}

// atMostOne refuses a second argument.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage(cmd, "%s: argument %q is one too many", cmd.Name(), args[1])
	}
	return nil
}

// subject returns the model to measure: a directory's, or one of random weights.
func (b *benchFlags) subject(u *ui, args []string) (eval.BenchSubject, error) {
	if n := runtime.NumCPU(); b.threads > n {
		u.note("%d threads on %d processors take turns", b.threads, n)
	}
	if b.shape == "" {
		c, err := u.loadPackedCheckpoint(args[0], b.weights)
		if err != nil {
			return eval.BenchSubject{}, err
		}
		b.format = c.Model.Format()
		setKV(b.kv, c.Model)
		return eval.BenchSubject{Name: args[0], Model: c.Model}, nil
	}
	m, err := b.random(b.shape, 0)
	return eval.BenchSubject{Name: b.shape, Model: m}, err
}

// random returns a model of a shape with random weights; a positive vocabulary takes the place of the shape's own.
func (b *benchFlags) random(shape string, vocabulary int) (*model.Model, error) {
	c, err := eval.ShapeConfig(shape)
	if err != nil {
		return nil, err
	}
	if vocabulary > 0 {
		c.VocabSize = vocabulary
	}
	m, err := eval.RandomModel(c, b.seed, b.format)
	if err == nil {
		setKV(b.kv, m)
	}
	return m, err
}

// compareFlags are those of a comparison with peers, which what says.
func (b *benchFlags) compareFlags(cmd *cobra.Command, what string) {
	cmd.Flags().StringSliceVar(&b.compare, "compare", nil, "run a `PEER` in turns: "+what)
	cmd.Flags().StringVar(&b.python, "python", "python3", "the `PROGRAM` that has the peer's package (xllamacpp, torch)")
}

// validateCompare refuses peers other than those.
func (b *benchFlags) validateCompare(cmd *cobra.Command, peers ...string) error {
	for _, peer := range b.compare {
		if !slices.Contains(peers, peer) {
			return usage(cmd, "--compare %q: want %s", peer, strings.Join(peers, " or "))
		}
	}
	return nil
}

// progressOf shows how far a measurement is.
func progressOf(u *ui, stage, unit string) func(done, total int, what string) {
	return func(done, total int, what string) {
		u.report(recipe.Event{Stage: stage, Done: done, Total: total, Unit: unit, Text: what})
	}
}

func benchCommand(u *ui) *cobra.Command {
	var b benchFlags
	var tests []string
	cmd := &cobra.Command{
		Use:                   "bench [MODEL] [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "how fast a model runs here, as a share of what the machine can do",
		Long: `Measure the speed of a model: matrix products, prefill, decoding, verification of drafts, batches, long contexts and
training. Memory and processor are probed between the runs, so that every figure has its share of the limit in the same seconds:
limit(n) = max(bytes of weights / read, operations of n rows / multiply-adds). Figures are medians.

--shape NAME measures a model of random weights, so nothing needs to be downloaded. Tests: ` + strings.Join(eval.BenchTests(), ", ") + `.`,
		Example: `  krait bench stories260k
  krait bench --shape smol135m --tests tg128,verify4 --json
  krait bench spec --shape hybrid1b --synthetic 2.5`,
	}
	cmd.Args = atMostOne
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := b.validate(cmd, args); err != nil {
			return err
		}
		if err := eval.CheckBenchTests(tests); err != nil {
			return usage(cmd, "--tests: %v", err)
		}
		if err := b.validateCompare(cmd, "llama.cpp", "pytorch"); err != nil {
			return err
		}
		c := eval.BenchConfig{Tests: tests, Runs: b.runs, Seconds: b.seconds, Report: progressOf(u, "bench", "runs")}
		if slices.Contains(b.compare, "llama.cpp") {
			peer, err := b.startPeer(cmd, u, args)
			if err != nil {
				return err
			}
			if peer != nil {
				defer peer.Close()
			}
			c.Peer = peer
		}
		s, err := b.subject(u, args)
		if err != nil {
			return err
		}
		if slices.Contains(b.compare, "pytorch") {
			if c.Train, err = eval.NewTrainPeer(cmd.Context(), b.python, &s.Model.Config); err != nil {
				u.note("no comparison of training: %v", err)
			}
		}
		r, err := eval.Bench(cmd.Context(), s, c)
		if err != nil {
			return err
		}
		if b.json {
			return u.json(r)
		}
		printBench(u, r)
		return nil
	}
	b.flags(cmd, 2)
	cmd.Flags().StringSliceVar(&tests, "tests", nil, "measure only these: a `LIST` with commas")
	b.compareFlags(cmd, "llama.cpp, on MODEL.gguf or a GGUF file of the shape; pytorch, for train2048")
	cmd.AddCommand(benchSpecCommand(u))
	return cmd
}

// startPeer runs llama.cpp on MODEL, or on a GGUF file that it makes of a shape's model, or says why there is no comparison and returns
// nil. The file is gone when it returns: the peer has read it.
func (b *benchFlags) startPeer(cmd *cobra.Command, u *ui, args []string) (*eval.Peer, error) {
	if b.shape == "" && !checkpoint.IsGGUF(args[0]) {
		u.note("no comparison: llama.cpp reads GGUF files, and %s is none (krait export makes one)", args[0])
		return nil, nil
	}
	if err := eval.PeerPython(cmd.Context(), b.python); err != nil {
		u.note("no comparison: %v", err)
		return nil, nil
	}
	file := ""
	if b.shape == "" {
		file = args[0]
	} else {
		dir, err := os.MkdirTemp("", "krait-bench")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		file = filepath.Join(dir, b.shape+".gguf")
		if err := b.exportShape(file, b.shape, 0); err != nil {
			return nil, err
		}
	}
	return eval.StartPeer(cmd.Context(), b.python, file, runtime.GOMAXPROCS(0))
}

// startSpeculatingPeer is startPeer with a draft of a shape.
func (b *benchFlags) startSpeculatingPeer(cmd *cobra.Command, u *ui, draftShape string, vocabulary int) (*eval.Peer, error) {
	if err := eval.PeerPython(cmd.Context(), b.python); err != nil {
		u.note("no comparison: %v", err)
		return nil, nil
	}
	dir, err := os.MkdirTemp("", "krait-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file, draft := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "draft.gguf")
	if err := b.exportShape(file, b.shape, 0); err != nil {
		return nil, err
	}
	if err := b.exportShape(draft, draftShape, vocabulary); err != nil {
		return nil, err
	}
	return eval.StartSpeculatingPeer(cmd.Context(), b.python, file, draft, runtime.GOMAXPROCS(0))
}

// exportShape writes a shape's model in the type of llama.cpp that is nearest to that of the measurement; a positive vocabulary takes the place of the
// shape's own.
func (b *benchFlags) exportShape(file, shape string, vocabulary int) error {
	c, err := eval.ShapeConfig(shape)
	if err != nil {
		return err
	}
	if vocabulary > 0 {
		c.VocabSize = vocabulary
	}
	m, weights, err := eval.RandomShape(c, b.seed, quant.Q8)
	if err != nil {
		return err
	}
	t := map[quant.Format]gguf.Type{quant.F32: gguf.F32, quant.BF16: gguf.BF16, quant.Q8: gguf.Q8_0, quant.Q4: gguf.Q4_0}[b.format]
	tokens, err := fs.ReadFile(recipe.Stories260K(), "tokenizer.json") // llama.cpp runs no model without a tokenizer; any will do
	if err != nil {
		return err
	}
	fill := func(name string, data []float32, cols int) {
		part := weights(name, cols)
		tensor.Rows(len(data), 4, func(lo, hi int) { part(data[lo:hi], lo) })
	}
	return checkpoint.ExportGGUFFrom(file, &checkpoint.Checkpoint{Model: m, Files: map[string][]byte{"tokenizer.json": tokens}}, t, fill)
}

// printBench prints the table for people.
func printBench(u *ui, r *eval.BenchReport) {
	u.print("%s: %s, %d attention and %d Mamba layers, vocabulary %d, %s in %s, keys and values in %s\n", r.Shape, millions(r.Parameters), r.Layers.Attention, r.Layers.Mamba,
		r.Vocabulary, formatBytes(int64(r.Weights.Bytes)), r.Type, r.KV)
	if share := r.Probes.ProcessorShare; share > 0 && share < 0.95 {
		u.note("other programs were busy: this one got %s of the processors, so figures are low and vary", percent(share))
	}
	u.print("%s, %d threads, %s kernels: reads %.1f GB/s (weights: %.1f); GFLOP/s %s in f32, %s in bf16; Gop/s %s with q8, %s with q4\n\n", orUnknown(r.Processor), r.Threads, r.ISA,
		r.Probes.ReadGBPerSecond, r.Probes.WeightsReadGBPerSec, orAbsent(r.Probes.FMAGFlops), orAbsent(r.Probes.BF16GFlops), orAbsent(r.Probes.Dot8GOps), orAbsent(r.Probes.Dot4GOps))
	if r.Peer != nil {
		u.print("peer: %s (%s)\n\n", r.Peer.Name, r.Peer.Version)
	}
	if r.TrainPeer != nil && r.TrainPeer.Version != "" {
		u.print("peer of training: %s (%s), %.1f GiB of memory\n\n", r.TrainPeer.Name, r.TrainPeer.Version, r.TrainPeer.PeakGiB)
	}
	rows := [][]string{{"test", "isa", "tokens/s", "ms", "limit", "of limit", "over tg128", ""}}
	for _, x := range r.Rows {
		rows = append(rows, benchRow(x))
	}
	u.table(rows)
}

// orAbsent returns a rate, or says that the level has none.
func orAbsent(x float64) string {
	if x == 0 {
		return "absent"
	}
	return fmt.Sprintf("%.0f", x)
}

// benchRow is a row of the table.
func benchRow(x eval.BenchRow) []string {
	if x.Milliseconds == 0 {
		why := "skipped: " + x.Skipped
		if x.Absent {
			why = "absent: " + x.Skipped
		}
		return []string{x.Test, x.ISA, "", "", "", "", "", why}
	}
	ratio := ""
	if x.Ratio > 0 {
		ratio = fmt.Sprintf("%.2fx", x.Ratio)
	}
	var notes []string
	note := func(when bool, format string, args ...any) {
		if when {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	note(x.AllOverOne > 0, "all threads %.2fx one", x.AllOverOne)
	note(x.KVOverLimit > 0, "keys and values %.2fx their limit", x.KVOverLimit)
	note(x.GEMMShare > 0, "%s in products", percent(x.GEMMShare))
	if p := x.Peer; p != nil {
		note(true, "%.2fx the peer's %s tokens/s", p.Speedup, figure(p.TokensPerSecond))
		note(p.Ratio > 0, "the peer's over its tg128: %.2fx", p.Ratio)
	}
	return []string{x.Test, x.ISA, figure(x.TokensPerSecond), figure(x.Milliseconds), figure(x.Limit), percent(x.FractionOfLimit), ratio, strings.Join(notes, ", ")}
}

func millions(n int) string {
	if n < 1e6 {
		return fmt.Sprintf("%d parameters", n)
	}
	return fmt.Sprintf("%.1f M parameters", float64(n)/1e6)
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown processor"
	}
	return s
}

// figure returns a number with three digits, or nothing for zero.
func figure(x float64) string {
	switch {
	case x == 0:
		return ""
	case x < 0.1:
		return fmt.Sprintf("%.4f", x)
	}
	return formatRate(x)
}

func percent(x float64) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100*x)
}
