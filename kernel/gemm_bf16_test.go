package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// rounded returns the operand as GemmBF16 multiplies with it.
func rounded(o Operand) Operand {
	r := o
	r.Data = make([]float32, len(o.Data))
	for i, v := range o.Data {
		r.Data[i] = brainOperand(v)
	}
	return r
}

// testShapeBF16 holds every combination of transposed operands against the product in float64, and against the definition bit for bit.
func testShapeBF16(t *testing.T, rng *rand.Rand, m, n, k int) {
	t.Helper()
	for variant := range 8 {
		aTrans, bTrans, add := variant&1 != 0, variant&2 != 0, variant&4 != 0
		a, b := operand(rng, m, k, rng.IntN(3), aTrans), operand(rng, k, n, rng.IntN(3), bTrans)
		ldc := n + rng.IntN(3)
		c0 := randomC(rng, m, n, ldc)
		what := fmt.Sprintf("%dx%dx%d aTrans=%v bTrans=%v add=%v", m, n, k, aTrans, bTrans, add)
		seq, par := append([]float32(nil), c0...), append([]float32(nil), c0...)
		active.gemmBF16(seq, ldc, a, b, m, n, k, add, false)
		checkProduct(t, what, seq, c0, ldc, rounded(a), rounded(b), m, n, k, add)
		GemmBF16(par, ldc, a, b, m, n, k, add)
		sameBits(t, what+": on all cores and on one", par, seq)
		if active.gemmPairs == nil {
			continue
		}
		copy(seq, c0)
		copy(par, c0)
		active.gemmPairs(seq, ldc, a, b, m, n, k, add, false)
		checkProduct(t, what+" in pairs", seq, c0, ldc, rounded(a), rounded(b), m, n, k, add)
		active.gemmPairs(par, ldc, a, b, m, n, k, add, true)
		sameBits(t, what+": in pairs on all cores and on one", par, seq)
		if m*n*k < 1<<20 {
			copy(par, c0)
			gemmBF16Portable(par, ldc, a, b, m, n, k, add, true)
			sameBits(t, what+": definition", seq, par)
		}
	}
}

func TestGemmBF16Shapes(t *testing.T) {
	step := 1
	if testing.Short() { // an emulated processor takes a minute for all of it
		step = 5
	}
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for m := 1; m <= 33; m += step {
			testShapeBF16(t, rng, m, 1+rng.IntN(70), 1+rng.IntN(70))
		}
		for n := 1; n <= 70; n += step {
			testShapeBF16(t, rng, 1+rng.IntN(30), n, 1+rng.IntN(70))
		}
		for k := 1; k <= 66; k += step {
			testShapeBF16(t, rng, 1+rng.IntN(20), 1+rng.IntN(40), k)
		}
		for _, s := range [][3]int{{2, 129, 768}, {97, 101, 390}, {200, 172, 64}, {64, 172, 1801}, {3, 300, 800}, {1, 500, 769}, {130, 1600, 20}, {40, 200, 1540}} {
			testShapeBF16(t, rng, s[0], s[1], s[2])
			if testing.Short() {
				break
			}
		}
	})
}

// What is not a normal number: a NaN stays one, infinities multiply as they should, denormal operands count as zero, the largest float32
// rounds to infinity.
func TestGemmBF16Specials(t *testing.T) {
	was := Level()
	defer SetLevel(was)
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	for _, level := range Levels() {
		SetLevel(level)
		for _, c := range []struct{ a, b, want float32 }{
			{nan, 1, nan}, {inf, 2, inf}, {-inf, 2, -inf}, {inf, 0, nan}, {inf, 0x1p-130, nan}, {0x1p-130, 0x1p100, 0}, {-0x1p-127, 1, 0},
			{math.MaxFloat32, 1, inf}, {1 + 0x1p-8, 1, 1}, {1 + 3*0x1p-8, 1, 1 + 0x1p-6}, {math.Float32frombits(0x7f800001), 1, nan}, {0, nan, nan},
		} {
			for _, k := range []int{1, 2, 35} { // the element stands last
				a, b := make([]float32, 3*k), make([]float32, 3*k)
				for i := range 3 {
					a[i*k+k-1], b[i*k+k-1] = c.a, c.b
				}
				got := make([]float32, 18)
				GemmBF16(got, 3, Operand{Data: a, Stride: k}, Operand{Data: b, Stride: k, Trans: true}, 3, 3, k, false)
				if active.gemmPairs != nil {
					active.gemmPairs(got[9:], 3, Operand{Data: a, Stride: k}, Operand{Data: b, Stride: k, Trans: true}, 3, 3, k, false, false)
				} else {
					copy(got[9:], got)
				}
				for _, g := range got {
					if g != c.want && (g == g || c.want == c.want) {
						t.Errorf("%s: %g · %g = %g, want %g (k=%d)", level, c.a, c.b, g, c.want, k)
					}
				}
			}
		}
		one := []float32{1, 2, 9, 3, 4}
		GemmBF16(one, 3, Operand{}, Operand{Stride: 2}, 2, 2, 0, true)
		sameBits(t, level, one, []float32{1, 2, 9, 3, 4})
		GemmBF16(one, 3, Operand{}, Operand{Stride: 2}, 2, 2, 0, false)
		sameBits(t, level, one, []float32{0, 0, 9, 0, 0})
	}
}

// Panels of bf16 give a row the same bits whether it comes with few others or with many, and those of the product in pairs.
func TestManyRowsOnBrainPanels(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for _, s := range [][2]int{{33, 1}, {64, 172}, {100, 576}, {300, 1600}} {
			n, k := s[0], s[1]
			const rows = 45
			x, w := operand(rng, rows, k, 3, false), randoms(rng, n*k)
			p := Quantize(BF16, w, n, k, nil)
			many := make([]float32, rows*n)
			p.Mul(many, n, x.Data, x.Stride, rows)
			for _, r := range []int{0, 13, rows - 1} {
				one := make([]float32, n)
				p.Mul(one, n, x.Data[r*x.Stride:], x.Stride, 1)
				sameBits(t, fmt.Sprintf("row %d of (%d, %d)", r, n, k), one, many[r*n:][:n])
			}
			if active.gemmPairs != nil {
				whole := make([]float32, rows*n)
				active.gemmPairs(whole, n, x, Operand{Data: w, Stride: k, Trans: true}, rows, n, k, false, true)
				sameBits(t, fmt.Sprintf("product (%d, %d)", n, k), whole, many)
			}
		}
	})
}

func TestGemmBF16DoesNotAllocate(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		if active == &portable {
			t.Skip("the definition need not")
		}
		rng := seeded(t)
		a, b := operand(rng, 64, 64, 0, false), operand(rng, 64, 64, 0, true)
		c := make([]float32, 64*64)
		if n := testing.AllocsPerRun(50, func() { active.gemmBF16(c, 64, a, b, 64, 64, 64, true, false) }); n != 0 {
			t.Errorf("allocates %v times", n)
		}
	})
}

func BenchmarkGemmBF16(b *testing.B) {
	if !HasBF16() {
		b.Skip("no instructions for bf16")
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, s := range []struct {
		what    string
		m, n, k int
		at, bt  bool
	}{
		{"forward", 512, 1536, 576, false, true}, {"forward", 2048, 576, 576, false, true}, {"forward", 1024, 8192, 2048, false, true},
		{"dX", 2048, 576, 1536, false, false}, {"dW", 1536, 576, 2048, true, false}, {"head", 256, 49152, 576, false, true},
	} {
		x, y := operand(rng, s.m, s.k, 0, s.at), operand(rng, s.k, s.n, 0, s.bt)
		c := make([]float32, s.m*s.n)
		for cores := 1; cores <= 2; cores++ {
			b.Run(fmt.Sprintf("%s%dx%dx%d/cores=%d", s.what, s.m, s.n, s.k, cores), func(b *testing.B) {
				best := time.Duration(1 << 62)
				for b.Loop() {
					start := time.Now()
					active.gemmBF16(c, s.n, x, y, s.m, s.n, s.k, false, cores > 1)
					best = min(best, time.Since(start))
				}
				rate := 2 * float64(s.m*s.n*s.k) / float64(best.Nanoseconds())
				b.ReportMetric(rate, "best-GFLOP/s")
				b.ReportMetric(100*rate/GemmBF16Peak(20*time.Millisecond)/float64(cores), "%peak")
			})
		}
	}
}
