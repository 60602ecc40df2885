// Package eval measures models: how fast they are, as shares of what the machine can do in the same seconds.
package eval

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"krait/engine"
	"krait/kernel"
	"krait/model"
)

// BenchConfig says what Bench measures. Each test is timed Runs times, for about Seconds each where it can be cut.
type BenchConfig struct {
	Tests   []string // empty: all
	Runs    int
	Seconds float64
	Peer    *Peer                              // takes turns with us where it has the test; may be nil
	Train   *TrainPeer                         // the same for training
	Report  func(done, total int, what string) // may be nil
}

// BenchTests lists the tests in the order in which they run.
func BenchTests() []string {
	return []string{"gemm_f32", "gemm_bf16", "tg128", "verify2", "verify4", "verify8", "verify16", "batch8", "pp512", "depth4096", "depth32768", "train2048", "train2048_bf16"}
}

// CheckBenchTests refuses names that are no tests.
func CheckBenchTests(names []string) error {
	for _, name := range names {
		if !slices.Contains(BenchTests(), name) {
			return fmt.Errorf("no test is called %q: want some of %s", name, strings.Join(BenchTests(), ","))
		}
	}
	return nil
}

// BenchSubject is a model to be measured. Name is what reports call it.
type BenchSubject struct {
	Name  string
	Model *model.Model
}

// BenchReport is the JSON object of krait bench.
type BenchReport struct {
	ISA        string      `json:"isa"`
	Processor  string      `json:"processor,omitempty"`
	Threads    int         `json:"threads"`
	Shape      string      `json:"shape"`
	Vocabulary int         `json:"vocabulary"`
	Type       string      `json:"type"`
	KV         string      `json:"kv"` // the format of keys and values
	Layers     BenchLayers `json:"layers"`
	Parameters int         `json:"parameters"`
	Weights    BenchBytes  `json:"weights"`
	Rows       []BenchRow  `json:"rows"`
	Peer       *Peer       `json:"peer,omitempty"`
	TrainPeer  *TrainPeer  `json:"train_peer,omitempty"`
	Probes     BenchProbes `json:"probes"`
}

// BenchLayers counts the layers of each kind.
type BenchLayers struct {
	Attention int `json:"attention"`
	Mamba     int `json:"mamba"`
}

// BenchBytes is the work of a step: the weights that it multiplies by each row, and the bytes of them that it reads once.
type BenchBytes struct {
	Multiplied int `json:"multiplied"`
	Bytes      int `json:"bytes"`
}

// BenchRow is one test. Milliseconds are those of a step (gemm_f32: a product, pp512: the whole prompt); all figures are medians over
// Runs, each judged by probes of its own seconds.
type BenchRow struct {
	Test            string      `json:"test"`
	ISA             string      `json:"isa"`
	TokensPerSecond float64     `json:"tokens_per_second,omitempty"`
	Milliseconds    float64     `json:"milliseconds,omitempty"`
	Range           []float64   `json:"milliseconds_range,omitempty"` // of the runs: fastest, slowest
	Limit           float64     `json:"limit_milliseconds,omitempty"`
	FractionOfLimit float64     `json:"fraction_of_limit,omitempty"`
	Ratio           float64     `json:"ratio,omitempty"` // verify: over tg128; batch8, depths: too
	Tokens          int         `json:"tokens,omitempty"`
	Runs            int         `json:"runs,omitempty"`
	Disturbed       int         `json:"disturbed_runs,omitempty"` // left out: other programs had the processors for part of the time
	AllOverOne      float64     `json:"all_over_one,omitempty"`   // gemm: all threads over one
	GEMMShare       float64     `json:"gemm_share,omitempty"`     // train: of the step's time
	KVOverLimit     float64     `json:"kv_over_limit,omitempty"`
	Cases           []BenchCase `json:"cases,omitempty"`
	Peer            *BenchPeer  `json:"peer,omitempty"`
	Absent          bool        `json:"absent"`            // this processor, or this program, has no instructions for it
	Skipped         string      `json:"skipped,omitempty"` // why there are no figures
}

// BenchCase is one shape of a matrix product (m,k)·(k,n): one core against one core's peak.
type BenchCase struct {
	M               int     `json:"m"`
	N               int     `json:"n"`
	K               int     `json:"k"`
	GFlops          float64 `json:"gflops"`
	Milliseconds    float64 `json:"milliseconds"`
	FractionOfLimit float64 `json:"fraction_of_limit"`
	AllOverOne      float64 `json:"all_over_one"`
}

// timing is one run of a test. seconds are those of a step, in which tokens are made or read; limit is the least they can be.
type timing struct {
	seconds, limit float64
	tokens         int // of a step
	steps          int
	base           float64 // seconds of the step that it is compared with
	share          float64
	waited         float64 // share of the threads' time in which they waited for a processor
	peer, peerBase float64 // seconds of the peer's step, and of its step that it is compared with
	cases          []BenchCase
}

// benchTest is a test on its way.
type benchTest struct {
	name   string
	runs   int
	run    func(ctx context.Context) (timing, error)
	cost   func(t timing) (bytes float64, ops operations) // of a step; nil: run sets limit itself
	skip   string
	free   func() // of train2048: gives back what runs hold for one another
	absent bool   // this processor, or the level in use, has no instructions for it
	done   []timing
}

// bench is a measurement on its way.
type bench struct {
	BenchConfig
	engine *engine.Engine
	model  *model.Model
	prober *prober
	tests  []*benchTest
	work   work
	plain  float64 // seconds of a decoding step in the present run
	theirs float64 // the peer's
	moment rates   // the latest
}

// Bench measures a model. Tests take turns, and the machine is probed between them, so that each figure has a limit of its own seconds.
func Bench(ctx context.Context, s BenchSubject, c BenchConfig) (*BenchReport, error) {
	b := &bench{BenchConfig: c, model: s.Model, work: workOf(s.Model)}
	if err := b.plan(); err != nil {
		return nil, err
	}
	b.engine = engine.New(s.Model)
	b.prober = newProber(b.work.bytes)
	if err := b.run(ctx); err != nil {
		return nil, err
	}
	r := &BenchReport{
		ISA: kernel.Level(), Processor: processor(), Threads: runtime.GOMAXPROCS(0), Shape: s.Name, Vocabulary: s.Model.Config.VocabSize, Type: s.Model.Format().String(), KV: s.Model.KV().String(),
		Parameters: s.Model.NumParams(), Weights: BenchBytes{b.work.weights, b.work.bytes}, Probes: b.prober.probes(), Peer: c.Peer, TrainPeer: c.Train,
	}
	for i := range s.Model.Config.NumHiddenLayers {
		if s.Model.Config.IsAttention(i) {
			r.Layers.Attention++
		} else {
			r.Layers.Mamba++
		}
	}
	for _, t := range b.tests {
		r.Rows = append(r.Rows, b.row(t))
	}
	return r, nil
}

// plan sets up the tests that are asked for, and the plain decoding that others are compared with.
func (b *bench) plan() error {
	if err := CheckBenchTests(b.Tests); err != nil {
		return err
	}
	wanted := func(name string) bool {
		if len(b.Tests) == 0 || slices.Contains(b.Tests, name) {
			return true
		}
		return name == "tg128" && slices.ContainsFunc(b.Tests, func(t string) bool { return compared(t) })
	}
	for _, name := range BenchTests() {
		if wanted(name) {
			b.tests = append(b.tests, b.test(name))
		}
	}
	return nil
}

// compared reports whether a test's time is given as a ratio to plain decoding.
func compared(test string) bool {
	return strings.HasPrefix(test, "verify") || test == "batch8" || depthOf(test) > 0
}

// run makes all runs of all tests.
func (b *bench) run(ctx context.Context) error {
	total := 0
	for _, t := range b.tests {
		if t.skip == "" {
			total += t.runs
		}
	}
	done := 0
	for turn := range b.Runs {
		b.moment = b.prober.measure()
		for _, t := range b.tests {
			if t.skip != "" || turn >= t.runs {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			b.report(done, total, t.name)
			if err := b.time(ctx, t); err != nil {
				return err
			}
			done++
		}
	}
	b.report(total, total, "")
	return nil
}

// time makes a run of a test, and the peer's run of it beside.
func (b *bench) time(ctx context.Context, t *benchTest) error {
	waited := watch(0)
	x, err := t.run(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	x.waited = waited()
	before := b.moment
	b.moment = b.prober.measure()
	if t.cost != nil {
		x.limit = before.between(b.moment).limit(t.cost(x))
	}
	if t.name == "tg128" {
		b.plain = x.seconds
	}
	x.base = b.plain
	if err := b.against(ctx, t, &x); err != nil {
		return err
	}
	t.done = append(t.done, x)
	return nil
}

// against makes the peer's run of a test beside ours, where a peer has it.
func (b *bench) against(ctx context.Context, t *benchTest, x *timing) (err error) {
	switch {
	case b.Train != nil && t.free != nil:
		t.free()
		var waited float64
		if x.peer, waited, err = b.Train.step(ctx, b.model, t.name == bf16Train); err != nil {
			return err
		}
		x.waited = max(x.waited, waited)
	case b.Peer != nil:
		waited := watch(b.Peer.cmd.Process.Pid)
		if x.peer, err = b.Peer.against(t, *x); err != nil || x.peer == 0 {
			return err
		}
		if t.name == "tg128" {
			b.theirs = x.peer
		}
		x.peerBase = b.theirs
		x.waited = max(x.waited, waited())
	default:
		return nil
	}
	b.moment = b.prober.measure()
	return nil
}

func (b *bench) report(done, total int, what string) {
	if b.Report != nil {
		b.Report(done, total, what)
	}
}

// row returns the medians of a test's runs.
func (b *bench) row(t *benchTest) BenchRow {
	r := BenchRow{Test: t.name, ISA: kernel.Level(), Skipped: t.skip, Runs: len(t.done)}
	if r.Absent = t.absent; len(t.done) == 0 {
		return r
	}
	runs := undisturbed(t.done, func(t timing) float64 { return t.waited })
	r.Runs, r.Disturbed = len(runs), len(t.done)-len(runs)
	pick := func(f func(t timing) float64) float64 {
		var list []float64
		for _, x := range runs {
			list = append(list, f(x))
		}
		return median(list)
	}
	seconds := func(t timing) float64 { return t.seconds }
	if strings.HasPrefix(t.name, "gemm") {
		worstCase(&r, runs)
		return r
	}
	r.Milliseconds = 1e3 * pick(seconds)
	r.Range = []float64{1e3 * slices.MinFunc(runs, bySeconds).seconds, 1e3 * slices.MaxFunc(runs, bySeconds).seconds}
	r.TokensPerSecond = pick(func(t timing) float64 { return float64(t.tokens) / t.seconds })
	r.Limit = 1e3 * pick(func(t timing) float64 { return t.limit })
	r.FractionOfLimit = pick(func(t timing) float64 { return t.limit / t.seconds })
	r.GEMMShare = pick(func(t timing) float64 { return t.share })
	r.Tokens = runs[0].tokens * runs[0].steps
	if compared(t.name) {
		r.Ratio = pick(func(t timing) float64 { return t.seconds / t.base })
	}
	if runs[0].peer > 0 {
		seconds := pick(func(t timing) float64 { return t.peer })
		r.Peer = &BenchPeer{
			TokensPerSecond: float64(runs[0].tokens) / seconds, Milliseconds: 1e3 * seconds,
			Speedup: pick(func(t timing) float64 { return t.peer / t.seconds }),
		}
		if compared(t.name) {
			r.Peer.Ratio = pick(func(t timing) float64 { return t.peer / t.peerBase })
		}
	}
	if depth := depthOf(t.name); depth > 0 && b.cacheBytes(depth) > 0 {
		r.KVOverLimit = pick(func(t timing) float64 {
			return (t.seconds - t.base) / (t.limit * float64(b.cacheBytes(depth)) / float64(b.cacheBytes(depth)+b.work.bytes))
		})
	}
	return r
}

func bySeconds(a, b timing) int {
	switch {
	case a.seconds < b.seconds:
		return -1
	case a.seconds > b.seconds:
		return 1
	}
	return 0
}

// mostWaited is the share of a run's time for which its threads may have waited for a processor in all, and still count.
const mostWaited = 0.04

// undisturbed returns the runs in which other programs did not take the processors, by the scheduler's account; if there is no such
// run, the one that waited least. What a run measured has no part in the choice.
func undisturbed[T any](runs []T, waited func(T) float64) []T {
	least := 1e9
	for _, r := range runs {
		least = min(least, waited(r))
	}
	return slices.DeleteFunc(slices.Clone(runs), func(r T) bool { return waited(r) > max(mostWaited, least) })
}

// watch returns a function that tells for which share of the time until then threads of a process (0: this one) wanted a processor and
// had none.
func watch(pid int) func() float64 {
	start, waited := time.Now(), processorWait(pid)
	return func() float64 {
		return (processorWait(pid) - waited).Seconds() / time.Since(start).Seconds() / float64(runtime.GOMAXPROCS(0))
	}
}

func median(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}
