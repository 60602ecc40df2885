package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// rowTolerance is relative to the largest magnitude in an output, or 1, the size of the inputs, where their products cancel: norms,
// rotations, filters and scans are sums of up to 200 products in another order, some with a sigmoid among the factors.
const rowTolerance = 3e-5

// rowKernel is a kernel over rows, made ready for random sizes: outputs are compared between the portable table and the active one, whole,
// so that what must not be touched is compared too.
type rowKernel struct {
	name string
	make func(rng *rand.Rand) (outs [][]float32, run func(t *table, o [][]float32), what string)
}

func rowKernels() []rowKernel {
	dims := []int{1, 3, 7, 8, 15, 16, 17, 31, 40, 64, 65, 100, 200}
	return []rowKernel{
		{"RMSNorm", func(rng *rand.Rand) ([][]float32, func(*table, [][]float32), string) {
			rows, dim := rng.IntN(5), dims[rng.IntN(len(dims))]
			x, w := randoms(rng, rows*dim), randoms(rng, dim)
			return [][]float32{guarded(rows*dim + 1), guarded(rows + 1)}, func(t *table, o [][]float32) { t.rmsNorm(o[0], o[1], x, w, rows, dim, 1e-5) }, fmt.Sprint(rows, dim)
		}},
		{"RMSNormGrad", func(rng *rand.Rand) ([][]float32, func(*table, [][]float32), string) {
			rows, dim := rng.IntN(5), dims[rng.IntN(len(dims))]
			x, w, dy, rstd := randoms(rng, rows*dim), randoms(rng, dim), randoms(rng, rows*dim), positives(rng, rows)
			return [][]float32{randoms(rng, rows*dim+1), randoms(rng, dim+1)}, func(t *table, o [][]float32) { t.rmsNormGrad(o[0], o[1], dy, x, w, rstd, rows, dim) }, fmt.Sprint(rows, dim)
		}},
		{"GatedRMSNorm", func(rng *rand.Rand) ([][]float32, func(*table, [][]float32), string) {
			rows, groups, p := rng.IntN(5), 1+rng.IntN(9), []int{8, 8, 4, 16, 64, 13, 100}[rng.IntN(7)]
			dim := groups * p
			ldz := dim + rng.IntN(3)
			x, z, w := randoms(rng, rows*dim), randoms(rng, rows*ldz), randoms(rng, dim)
			return [][]float32{guarded(rows*dim + 1), guarded(rows*groups + 1)},
				func(t *table, o [][]float32) { t.gatedRMSNorm(o[0], o[1], x, z, ldz, w, rows, groups, p, 1e-5) }, fmt.Sprint(rows, groups, p)
		}},
		{"GatedRMSNormGrad", func(rng *rand.Rand) ([][]float32, func(*table, [][]float32), string) {
			rows, groups, p := rng.IntN(5), 1+rng.IntN(9), []int{8, 8, 4, 16, 64, 13, 100}[rng.IntN(7)]
			dim := groups * p
			ldz := dim + rng.IntN(3)
			x, z, w, dy, rstd := randoms(rng, rows*dim), randoms(rng, rows*ldz), randoms(rng, dim), randoms(rng, rows*dim), positives(rng, rows*groups)
			return [][]float32{randoms(rng, rows*dim+1), randoms(rng, rows*ldz+1), randoms(rng, dim+1)},
				func(t *table, o [][]float32) {
					t.gatedRMSNormGrad(o[0], o[1], o[2], dy, x, z, ldz, w, rstd, rows, groups, p)
				}, fmt.Sprint(rows, groups, p)
		}},
		{"Rope", func(rng *rand.Rand) ([][]float32, func(*table, [][]float32), string) {
			rows, heads, p := rng.IntN(5), rng.IntN(5), []int{8, 16, 64, 2 * (1 + rng.IntN(70))}[rng.IntN(4)]
			ldx := heads*p + rng.IntN(3)
			cos, sin := randoms(rng, rows*p/2), randoms(rng, rows*p/2)
			sign := float32(1 - 2*rng.IntN(2))
			return [][]float32{randoms(rng, rows*ldx+1)}, func(t *table, o [][]float32) { t.rope(o[0], ldx, cos, sin, rows, heads, p, sign) }, fmt.Sprint(rows, heads, p)
		}},
		{"Conv1D", func(rng *rand.Rand) ([][]float32, func(*table, [][]float32), string) {
			rows, dim, width := rng.IntN(9), rng.IntN(101), 1+rng.IntN(6)
			ldx, ldy := dim+rng.IntN(3), dim+rng.IntN(3)
			x, w, bias := randoms(rng, (rows+width)*ldx), randoms(rng, width*dim), randoms(rng, dim)
			return [][]float32{guarded(rows*ldy + 1)}, func(t *table, o [][]float32) { t.conv1D(o[0], ldy, x, ldx, w, bias, rows, dim, width) }, fmt.Sprint(rows, dim, width)
		}},
		{"Conv1DGrad", func(rng *rand.Rand) ([][]float32, func(*table, [][]float32), string) {
			rows, dim, width := rng.IntN(9), rng.IntN(101), 1+rng.IntN(6)
			ldx, ldy, lddx := dim+rng.IntN(3), dim+rng.IntN(3), dim+rng.IntN(3)
			x, w, dy := randoms(rng, (rows+width)*ldx), randoms(rng, width*dim), randoms(rng, rows*ldy)
			return [][]float32{randoms(rng, (rows+width)*lddx), randoms(rng, width*dim+1), randoms(rng, dim+1)},
				func(t *table, o [][]float32) {
					t.conv1DGrad(o[0], lddx, o[1], o[2], dy, ldy, x, ldx, w, rows, dim, width)
				}, fmt.Sprint(rows, dim, width)
		}},
		{"SSDStep", func(rng *rand.Rand) ([][]float32, func(*table, [][]float32), string) {
			p, n, tokens := []int{8, 16, 24, 32, 64, 5}[rng.IntN(6)], rng.IntN(40), rng.IntN(7)
			write, quiet := rng.IntN(tokens+1), rng.IntN(tokens+1)
			s := newSSD(rng, p, n, tokens)
			return [][]float32{guarded(tokens*s.ldy + 1), randoms(rng, n*p+1)}, func(t *table, o [][]float32) { s.run(t, o[0], o[1], 0, tokens, write, quiet) },
				fmt.Sprintf("p=%d n=%d tokens=%d write=%d quiet=%d", p, n, tokens, write, quiet)
		}},
		{"ScanStep", func(rng *rand.Rand) ([][]float32, func(*table, [][]float32), string) {
			p, n, tokens := []int{8, 16, 24, 32, 5}[rng.IntN(5)], rng.IntN(40), rng.IntN(7)
			write, quiet := rng.IntN(tokens+1), rng.IntN(tokens+1)
			s := newSSD(rng, p, n, tokens).perChannel(rng, tokens)
			return [][]float32{randoms(rng, tokens*s.ldy+1), randoms(rng, n*p+1)}, func(t *table, o [][]float32) { s.run(t, o[0], o[1], 0, tokens, write, quiet) },
				fmt.Sprintf("p=%d n=%d tokens=%d write=%d quiet=%d", p, n, tokens, write, quiet)
		}},
	}
}

func positives(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = 0.5 + rng.Float32()
	}
	return x
}

func TestRowKernels(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for _, k := range rowKernels() {
			for range 300 {
				got, run, what := k.make(rng)
				want := make([][]float32, len(got))
				for i := range got {
					want[i] = append([]float32(nil), got[i]...)
				}
				run(&portable, want)
				run(active, got)
				for i := range got {
					closeTo(t, fmt.Sprintf("%s %s, output %d", k.name, what, i), got[i], want[i])
				}
			}
		}
	})
}

// closeTo compares two outputs; canaries must be the same exactly.
func closeTo(t *testing.T, what string, got, want []float32) {
	t.Helper()
	most := 1.0
	for _, v := range want {
		if v != canary {
			most = max(most, math.Abs(float64(v)))
		}
	}
	for i, v := range got {
		if err := math.Abs(float64(v) - float64(want[i])); !(err <= rowTolerance*most) && v != want[i] || want[i] == canary && v != canary {
			t.Fatalf("%s: element %d of %d is %g, want %g", what, i, len(got), v, want[i])
		}
	}
}

// ssd is one head's inputs.
type ssd struct {
	p, n, ldy, ldh, ldx, ldb, ldc int
	decay, dt, x, b, c            []float32
	a                             []float32 // of a group with a decay for each number, for ScanStep: (n, p); dt has p columns then
}

func newSSD(rng *rand.Rand, p, n, tokens int) *ssd {
	s := &ssd{p: p, n: n, ldy: p + rng.IntN(3), ldh: 1 + rng.IntN(3), ldx: p + rng.IntN(3), ldb: n + rng.IntN(3), ldc: n + rng.IntN(3)}
	s.decay, s.dt = positives(rng, tokens*s.ldh), positives(rng, tokens*s.ldh)
	for i := range s.decay {
		s.decay[i] -= 0.5
	}
	s.x, s.b, s.c = randoms(rng, tokens*s.ldx), randoms(rng, tokens*s.ldb), randoms(rng, tokens*s.ldc)
	return s
}

// perChannel makes it a group of Mamba1's channels.
func (s *ssd) perChannel(rng *rand.Rand, tokens int) *ssd {
	s.ldh = s.p + rng.IntN(3)
	s.dt, s.a = positives(rng, tokens*s.ldh), positives(rng, s.n*s.p)
	for i := range s.a {
		s.a[i] *= -1
	}
	return s
}

// run advances state by tokens tokens from token first on.
func (s *ssd) run(t *table, y, state []float32, first, tokens, write, quiet int) {
	if s.a != nil {
		t.scanStep(y, s.ldy, state, s.a, s.dt[first*s.ldh:], s.ldh, s.x[first*s.ldx:], s.ldx, s.b[first*s.ldb:], s.ldb, s.c[first*s.ldc:], s.ldc, s.p, s.n, tokens, write, quiet)
		return
	}
	t.ssdStep(y, s.ldy, state, s.decay[first*s.ldh:], s.dt[first*s.ldh:], s.ldh, s.x[first*s.ldx:], s.ldx, s.b[first*s.ldb:], s.ldb, s.c[first*s.ldc:], s.ldc,
		s.p, s.n, tokens, write, quiet)
}

// A token's bits are the same alone, in a batch, provisional, and replayed.
func TestScanBits(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for range 200 {
			p, n, tokens := []int{8, 16, 64}[rng.IntN(3)], 1+rng.IntN(70), 1+rng.IntN(9)
			s := newSSD(rng, p, n, tokens)
			if rng.IntN(2) == 0 {
				s.perChannel(rng, tokens)
			}
			start := randoms(rng, n*p)
			state, y := append([]float32(nil), start...), make([]float32, tokens*s.ldy)
			for tok := range tokens {
				s.run(active, y[tok*s.ldy:], state, tok, 1, 1, 0)
			}
			write, quiet := rng.IntN(tokens+1), rng.IntN(tokens+1)
			what := fmt.Sprintf("p=%d n=%d tokens=%d write=%d quiet=%d", p, n, tokens, write, quiet)
			state2, y2 := append([]float32(nil), start...), make([]float32, tokens*s.ldy)
			s.run(active, y2, state2, 0, tokens, write, quiet)
			for tok := quiet; tok < tokens; tok++ {
				sameBits(t, what, y2[tok*s.ldy:][:p], y[tok*s.ldy:][:p])
			}
			for _, v := range y2[:quiet*s.ldy] {
				if v != 0 {
					t.Fatalf("%s: a quiet token gave output", what)
				}
			}
			if write < tokens { // replay what was provisional
				s.run(active, make([]float32, tokens*s.ldy), state2, write, tokens-write, tokens-write, tokens-write)
			}
			sameBits(t, what+": state", state2, state)
		}
	})
}

func BenchmarkRows(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	onLevelsBench(b, func(b *testing.B) {
		bench := func(name string, elements int, f func()) {
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					f()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(elements), "ns/element")
			})
		}
		for _, s := range [][2]int{{256, 64}, {32, 576}, {8, 2048}} {
			rows, dim := s[0], s[1]
			n := rows * dim
			x, w, y, rstd, dx, dw := randoms(rng, n), randoms(rng, dim), randoms(rng, n), positives(rng, rows), make([]float32, n), make([]float32, dim)
			filter, dfilter, db := randoms(rng, 4*dim), make([]float32, 4*dim), make([]float32, dim)
			bench(fmt.Sprintf("RMSNorm/%dx%d", rows, dim), n, func() { RMSNorm(y, rstd, x, w, rows, dim, 1e-5) })
			bench(fmt.Sprintf("RMSNormGrad/%dx%d", rows, dim), n, func() { RMSNormGrad(dx, dw, y, x, w, rstd, rows, dim) })
			bench(fmt.Sprintf("Conv1D/%dx%d", rows-3, dim), n, func() { Conv1D(y, dim, x, dim, filter, w, rows-3, dim, 4) })
			bench(fmt.Sprintf("Conv1DGrad/%dx%d", rows-3, dim), n, func() { Conv1DGrad(dx, dim, dfilter, db, y, dim, x, dim, filter, rows-3, dim, 4) })
		}
		for _, s := range [][3]int{{256, 8, 8}, {32, 8, 64}, {8, 32, 64}} {
			rows, groups, p := s[0], s[1], s[2]
			dim := groups * p
			n := rows * dim
			x, z, w, y, rstd := randoms(rng, n), randoms(rng, n), randoms(rng, dim), randoms(rng, n), positives(rng, rows*groups)
			dx, dz, dw := make([]float32, n), make([]float32, n), make([]float32, dim)
			cos, sin := make([]float32, n), make([]float32, n)
			for i := range cos {
				sin[i], cos[i] = 0.6, 0.8
			}
			bench(fmt.Sprintf("GatedRMSNorm/%dx%dx%d", rows, groups, p), n, func() { GatedRMSNorm(y, rstd, x, z, dim, w, rows, groups, p, 1e-5) })
			bench(fmt.Sprintf("GatedRMSNormGrad/%dx%dx%d", rows, groups, p), n, func() { GatedRMSNormGrad(dx, dz, dw, y, x, z, dim, w, rstd, rows, groups, p) })
			bench(fmt.Sprintf("Rope/%dx%dx%d", rows, groups, p), n, func() { Rope(x, dim, cos, sin, rows, groups, p, 1) })
		}
		for _, tokens := range []int{1, 5} { // of the paper's hybrids
			group := newSSD(rng, 16, 16, tokens).perChannel(rng, tokens)
			state, y := randoms(rng, 256), make([]float32, tokens*group.ldy)
			bench(fmt.Sprintf("ScanStep/tokens=%d", tokens), 256*tokens, func() { group.run(active, y, state, 0, tokens, 1, 0) })
		}
		for _, s := range [][3]int{{8, 8, 1}, {8, 8, 4}, {64, 64, 1}, {64, 64, 5}, {64, 128, 1}} {
			p, n, tokens := s[0], s[1], s[2]
			head := newSSD(rng, p, n, tokens)
			state, y := randoms(rng, n*p), make([]float32, tokens*head.ldy)
			bench(fmt.Sprintf("SSDStep/p=%d/n=%d/tokens=%d", p, n, tokens), n*p*tokens, func() { head.run(active, y, state, 0, tokens, 1, 0) })
		}
	})
}
