package kernel

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"
)

// table is one implementation of every kernel that has more than the portable one.
type table struct {
	name             string
	exp              func(y, x []float32)
	expSum           func(y, x []float32, m float32) float32
	max, sum         func(x []float32) float32
	dot              func(a, b []float32) float32
	axpy, scale      func(y []float32, a float32, x []float32)
	mul, mulAdd      func(y, a, b []float32)
	silu             func(y, x []float32)
	siluGrad         func(dx, dy, x []float32)
	swiglu           func(y, gate, up []float32)
	swigluGrad       func(dgate, dup, dy, gate, up []float32)
	rope             func(x []float32, ldx int, cos, sin []float32, rows, heads, p int, sign float32)
	softplus         func(y, x []float32)
	adamw            func(p, m, v, g []float32, s AdamWStep)
	rmsNorm          func(y, rstd, x, w []float32, rows, dim int, eps float32)
	rmsNormGrad      func(dx, dw, dy, x, w, rstd []float32, rows, dim int)
	gatedRMSNorm     func(y, rstd, x, z []float32, ldz int, w []float32, rows, groups, p int, eps float32)
	gatedRMSNormGrad func(dx, dz, dw, dy, x, z []float32, ldz int, w, rstd []float32, rows, groups, p int)
	conv1D           func(y []float32, ldy int, x []float32, ldx int, w, bias []float32, rows, dim, width int)
	conv1DGrad       func(dx []float32, lddx int, dw, db, dy []float32, lddy int, x []float32, ldx int, w []float32, rows, dim, width int)
	ssdStep          func(y []float32, ldy int, s, decay, dt []float32, ldh int, x []float32, ldx int, b []float32, ldb int, c []float32, ldc int, p, n, tokens, write, quiet int)
	scanStep         scanStep
	gemm             func(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool)
	packPanel        func(dst, w []float32, rows, k int)
	transpose        func(y, x []float32, rows, cols int)
	gemmBF16         func(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool)
	gemmPairs        func(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) // by instructions for bf16; nil: the level has none
	mulBrain         func(y []float32, ldy int, x []float32, ldx, rows int, p *QuantPanels)           // many rows on panels of bf16; nil: as few rows
	mulPanels        func(y []float32, ldy int, x []float32, ldx, rows int, p *Panels)
	peak             func(turns int) // runs multiply-adds on registers
	peakFlops        float64         // operations in a turn
	peakBF16         func(turns int) // runs multiply-adds of pairs of bf16, twice the operations; nil: the level has none
	peakTiles        func(turns int) // runs products of tiles of bf16; nil: the level has none
	tilesFlops       float64         // operations in a turn of it
	narrow           [panelFormats]narrow
	peakDot          [panelFormats]dotPeak
	stream           func(p []byte) // reads memory
	mulPanel         func(c []float32, ldc int, a []float32, lda, m int, b []float32, ldb, k, cols int, accumulate bool)
	toHalf           func(y []uint16, x []float32)
	fromHalf         func(y []float32, x []uint16)
	mulHalf          func(c []float32, ldc int, a []float32, lda, m int, b []uint16, ldb, k, cols int, accumulate bool) // the bits of mulPanel, for cols and ldb multiples of PanelWidth
	halfRows         int                                                                                                // most rows of mulHalf; 0: the level has none
}

var portable = table{
	name: "portable",
	exp:  expPortable, expSum: expSumPortable, max: maxPortable, sum: sumPortable, dot: dotPortable,
	axpy: axpyPortable, scale: scalePortable, mul: mulPortable, mulAdd: mulAddPortable,
	silu: siluPortable, siluGrad: siluGradPortable, swiglu: swigluPortable, swigluGrad: swigluGradPortable,
	softplus: softplusPortable, rope: ropePortable, adamw: adamwPortable,
	rmsNorm: rmsNormPortable, rmsNormGrad: rmsNormGradPortable,
	gatedRMSNorm: gatedRMSNormPortable, gatedRMSNormGrad: gatedRMSNormGradPortable,
	conv1D: conv1DPortable, conv1DGrad: conv1DGradPortable, ssdStep: ssdStepPortable, scanStep: scanStepBy(exp2Portable, mulPortable, axpyPortable),
	gemm: gemmPortable, gemmBF16: gemmBF16Portable, packPanel: packPanelPortable, transpose: transposePortable, mulPanels: mulPanelsPortable, mulPanel: mulPanelPortable,
	narrow: narrowPortable, stream: streamPortable, toHalf: toHalfPortable, fromHalf: fromHalfPortable,
}

var (
	levels     []*table // what this machine can run, slowest first
	active     *table   // the implementation in use
	asked      string   // what KRAIT_KERNELS says
	levelError error
)

func init() {
	levels = tables()
	asked = os.Getenv("KRAIT_KERNELS")
	active, levelError = choose(asked)
}

// choose returns the table for a level, or the best one for the empty name, and with an error for a name it can't serve.
func choose(name string) (*table, error) {
	best := levels[len(levels)-1]
	if name == "" {
		return best, nil
	}
	if t := find(name); t != nil {
		return t, nil
	}
	return best, fmt.Errorf("KRAIT_KERNELS=%s: this machine can run %s", name, strings.Join(Levels(), ", "))
}

func find(name string) *table {
	for _, t := range levels {
		if t.name == name {
			return t
		}
	}
	return nil
}

// Level names the implementation in use: portable, avx2, avx512 or neon.
func Level() string { return active.name }

// Why says in a phrase how the level was chosen, and what the processor, the system or the build lacks for a better one.
func Why() string {
	why := "the best that this processor and this build have"
	if asked != "" && levelError == nil {
		why = "KRAIT_KERNELS=" + asked
	}
	if m := missing(); m != "" {
		why += "; " + m
	}
	if names := active.leftPortable(); len(names) > 0 && active != levels[0] {
		why += "; portable at this level: " + strings.Join(names, ", ")
	}
	return why
}

// leftPortable names the kernels for which the level has only the portable definition.
func (t *table) leftPortable() []string {
	var names []string
	own, base := reflect.ValueOf(*t), reflect.ValueOf(portable)
	for i := range own.NumField() {
		if f := own.Type().Field(i); f.Type.Kind() == reflect.Func && !base.Field(i).IsNil() && own.Field(i).Pointer() == base.Field(i).Pointer() {
			names = append(names, f.Name)
		}
	}
	for f := range PanelFormat(panelFormats) {
		if reflect.ValueOf(t.narrow[f].few.panel).Pointer() == reflect.ValueOf(portable.narrow[f].few.panel).Pointer() {
			names = append(names, "products with "+f.String())
		}
	}
	return names
}

// LevelError says why the level that KRAIT_KERNELS asks for is not in use, or is nil.
func LevelError() error { return levelError }

// Levels names the implementations this machine can run, slowest first.
func Levels() []string {
	names := make([]string, len(levels))
	for i, t := range levels {
		names[i] = t.name
	}
	return names
}

// SetLevel chooses the implementation by name. It is for tests and benchmarks: nothing else may be running.
func SetLevel(name string) error {
	t := find(name)
	if t == nil {
		return fmt.Errorf("kernel level %s: this machine can run %s", name, strings.Join(Levels(), ", "))
	}
	active = t
	return nil
}

// FMAPeak returns the GFLOP/s that this core reaches with multiply-adds on registers at the level in use, the best of several tries
// within about d: the limit of every float32 product. It is 0 for the portable level.
func FMAPeak(d time.Duration) float64 { return peakRate(active.peak, active.peakFlops, d) }

// peakRate returns the GFLOP/s of the fastest of several tries at peak, which makes flops operations a turn, or 0 for none.
func peakRate(peak func(turns int), flops float64, d time.Duration) float64 {
	if peak == nil {
		return 0
	}
	const turns = 1000
	best := time.Duration(1 << 62)
	for end := time.Now().Add(d); time.Now().Before(end); {
		start := time.Now()
		peak(turns)
		best = min(best, time.Since(start))
	}
	return turns * flops / float64(best.Nanoseconds())
}
