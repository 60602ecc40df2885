package eval

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"krait/kernel"
)

// gemmShapes are products of training: (m,k)·(k,n).
var gemmShapes = [][3]int{{512, 1536, 576}, {2048, 576, 576}, {1024, 8192, 2048}}

// gemmTime is how long a product is repeated on one core, and on all.
const gemmTime = 60 * time.Millisecond

// product is a kind of matrix product: on one core, on all, and the peak of a core that it is compared with.
type product struct {
	one, all func(c []float32, ldc int, a, b kernel.Operand, m, n, k int, accumulate bool)
	peak     func(d time.Duration) float64
}

var (
	productF32  = product{kernel.GemmSeq, kernel.Gemm, kernel.FMAPeak}
	productBF16 = product{kernel.GemmBF16Seq, kernel.GemmBF16, kernel.GemmBF16Peak}
)

// gemmRun returns a test that times the training shapes: on one core against that core's peak just before and after, and on all cores
// against one.
func gemmRun(p product) func(ctx context.Context) (timing, error) {
	return func(ctx context.Context) (timing, error) {
		var t timing
		for _, s := range gemmShapes {
			if err := ctx.Err(); err != nil {
				return t, err
			}
			t.cases = append(t.cases, p.time(s[0], s[1], s[2]))
		}
		return t, nil
	}
}

// time measures one shape.
func (p product) time(m, n, k int) BenchCase {
	a, b, c := ramp(m*k), ramp(n*k), make([]float32, m*n)
	x, w := kernel.Operand{Data: a, Stride: k}, kernel.Operand{Data: b, Stride: k, Trans: true}
	peak := p.peak(fmaProbe)
	one := fastest(func() { p.one(c, n, x, w, m, n, k, false) })
	all := fastest(func() { p.all(c, n, x, w, m, n, k, false) })
	peak = max(peak, p.peak(fmaProbe)) * 1e9
	flops := 2 * float64(m) * float64(n) * float64(k)
	g := BenchCase{M: m, N: n, K: k, GFlops: flops / one / 1e9, Milliseconds: 1e3 * one, AllOverOne: one / all}
	if peak > 0 {
		g.FractionOfLimit = flops / peak / one
	}
	return g
}

// ramp returns n small numbers.
func ramp(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(uniform(uint64(i))) - 0.5
	}
	return x
}

// fastest returns the seconds of the fastest call of f within a while: what disturbs a call only makes it longer, and the peaks that
// products are compared with are the fastest of their tries too.
func fastest(f func()) float64 {
	f()
	best := 1e9
	for start, n := time.Now(), 0; n < 3 || time.Since(start) < gemmTime; n++ {
		at := time.Now()
		f()
		best = min(best, time.Since(at).Seconds())
	}
	return best
}

// worstCase fills a row with the medians of the cases, and with the case that is farthest from its limit.
func worstCase(r *BenchRow, runs []timing) {
	for i := range gemmShapes {
		pick := func(f func(c BenchCase) float64) float64 {
			var list []float64
			for _, t := range runs {
				list = append(list, f(t.cases[i]))
			}
			return median(list)
		}
		c := runs[0].cases[i]
		r.Cases = append(r.Cases, BenchCase{
			M: c.M, N: c.N, K: c.K, GFlops: pick(func(c BenchCase) float64 { return c.GFlops }),
			Milliseconds:    pick(func(c BenchCase) float64 { return c.Milliseconds }),
			FractionOfLimit: pick(func(c BenchCase) float64 { return c.FractionOfLimit }),
			AllOverOne:      pick(func(c BenchCase) float64 { return c.AllOverOne }),
		})
	}
	worst := slices.MinFunc(r.Cases, func(a, b BenchCase) int {
		if a.FractionOfLimit < b.FractionOfLimit {
			return -1
		}
		return 1
	})
	r.Milliseconds, r.FractionOfLimit, r.AllOverOne = worst.Milliseconds, worst.FractionOfLimit, r.Cases[0].AllOverOne
	for _, c := range r.Cases {
		r.AllOverOne = min(r.AllOverOne, c.AllOverOne)
	}
	r.Limit = r.Milliseconds * r.FractionOfLimit
}

// processor returns the processor's name where the system tells it.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
