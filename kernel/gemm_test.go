package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// gemmTolerance bounds the error of a product relative to Σ|a·b|: two orders of summation differ by about √k roundings, and none of
// the shapes here reaches 16 of them.
const gemmTolerance = 16 * 0x1p-24

// onLevels runs f once for each level but the portable one.
func onLevels(t *testing.T, f func(t *testing.T)) {
	was := Level()
	for _, level := range Levels()[1:] {
		t.Run(level, func(t *testing.T) {
			if err := SetLevel(level); err != nil {
				t.Fatal(err)
			}
			defer SetLevel(was)
			f(t)
		})
	}
}

// seeded returns a generator with a new seed, which a failing test prints.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

func randoms(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// canary surrounds what a kernel must not touch.
const canary = 12345678

// guarded returns a slice of n canaries, which ends where its array ends.
func guarded(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = canary
	}
	return x
}

// operand returns a random matrix whose last element is the last of its slice, with canaries between the rows: a kernel that reads
// them gives a visibly wrong result.
func operand(rng *rand.Rand, rows, cols, gap int, trans bool) Operand {
	if trans {
		rows, cols = cols, rows
	}
	o := Operand{Stride: cols + gap, Trans: trans}
	o.Data = guarded(max(0, (rows-1)*o.Stride+cols))
	for i := range rows {
		copy(o.Data[i*o.Stride:], randoms(rng, cols))
	}
	return o
}

// checkProduct compares c with A·B (+ c0 with add) and checks the canaries between its rows. Of a large product it looks at the last row
// and column, and at one element in eight in a pattern that meets every lane of a tile.
func checkProduct(t *testing.T, what string, c, c0 []float32, ldc int, a, b Operand, m, n, k int, add bool) {
	t.Helper()
	for i := range m {
		for j := range ldc {
			at := i*ldc + j
			if at >= len(c) {
				break
			}
			if j >= n {
				if c[at] != canary {
					t.Fatalf("%s: wrote beyond row %d: column %d of %d", what, i, j, n)
				}
				continue
			}
			if m*n*k > 1<<14 && i != m-1 && j != n-1 && (7*i+j)%8 != 0 {
				continue
			}
			var sum, abs float64
			if add {
				sum = float64(c0[at])
				abs = math.Abs(sum)
			}
			for l := range k {
				v := float64(a.at(i, l)) * float64(b.at(l, j))
				sum += v
				abs += math.Abs(v)
			}
			if err := math.Abs(float64(c[at]) - sum); !(err <= gemmTolerance*abs) {
				t.Fatalf("%s: c[%d][%d] = %g, want %g", what, i, j, c[at], sum)
			}
		}
	}
}

func randomC(rng *rand.Rand, m, n, ldc int) []float32 {
	c := guarded((m-1)*ldc + n)
	for i := range m {
		copy(c[i*ldc:], randoms(rng, n))
	}
	return c
}

func testShape(t *testing.T, rng *rand.Rand, m, n, k int) {
	t.Helper()
	for variant := range 8 {
		aTrans, bTrans, add := variant&1 != 0, variant&2 != 0, variant&4 != 0
		a, b := operand(rng, m, k, rng.IntN(3), aTrans), operand(rng, k, n, rng.IntN(3), bTrans)
		ldc := n + rng.IntN(3)
		c0 := randomC(rng, m, n, ldc)
		what := fmt.Sprintf("%dx%dx%d aTrans=%v bTrans=%v add=%v", m, n, k, aTrans, bTrans, add)
		seq, par := append([]float32(nil), c0...), append([]float32(nil), c0...)
		GemmSeq(seq, ldc, a, b, m, n, k, add)
		checkProduct(t, what, seq, c0, ldc, a, b, m, n, k, add)
		Gemm(par, ldc, a, b, m, n, k, add)
		sameBits(t, what+": Gemm and GemmSeq", par, seq)
	}
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d: %x, want %x", what, i, math.Float32bits(got[i]), math.Float32bits(want[i]))
		}
	}
}

func TestGemmShapes(t *testing.T) {
	large := [][3]int{{16, 8, 16}, {64, 64, 64}, {97, 101, 390}, {200, 172, 64}, {64, 172, 900}, {3, 300, 800}, {1, 500, 385}, {2, 129, 384},
		{300, 260, 70}, {130, 1600, 20}, {100, 64, 1100}, {40, 200, 1024}}
	step, random := 1, 20
	if testing.Short() { // an emulated processor takes a minute for all of it
		large, step, random = large[:2], 3, 2
		large = append(large, [3]int{41, 65, 390}, [3]int{1, 200, 385}, [3]int{70, 130, 20})
	}
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for m := 1; m <= 33; m += step {
			testShape(t, rng, m, 1+rng.IntN(70), 1+rng.IntN(40))
		}
		for n := 1; n <= 70; n += step {
			testShape(t, rng, 1+rng.IntN(30), n, 1+rng.IntN(40))
		}
		for _, s := range large {
			testShape(t, rng, s[0], s[1], s[2])
		}
		for range random {
			testShape(t, rng, 1+rng.IntN(100), 1+rng.IntN(150), 1+rng.IntN(400/step))
		}
	})
}

func TestGemmWithoutTerms(t *testing.T) {
	for _, level := range Levels() {
		SetLevel(level)
		c := []float32{1, 2, 9, 3, 4}
		Gemm(c, 3, Operand{Stride: 0}, Operand{Stride: 2}, 2, 2, 0, true)
		sameBits(t, level, c, []float32{1, 2, 9, 3, 4})
		GemmSeq(c, 3, Operand{Stride: 0}, Operand{Stride: 2}, 2, 2, 0, false)
		sameBits(t, level, c, []float32{0, 0, 9, 0, 0})
		Gemm(nil, 0, Operand{}, Operand{}, 0, 5, 3, false)
		Gemm(nil, 0, Operand{}, Operand{}, 5, 0, 3, false)
	}
}

func TestGemmRefusesShortSlices(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		full := func(rows, cols int) Operand { return Operand{Data: make([]float32, rows*cols), Stride: cols} }
		for name, f := range map[string]func(){
			"A": func() { GemmSeq(make([]float32, 6), 3, full(2, 3), full(4, 3), 2, 3, 4, false) },
			"B": func() { GemmSeq(make([]float32, 6), 3, full(2, 4), full(3, 3), 2, 3, 4, false) },
			"C": func() { GemmSeq(make([]float32, 5), 3, full(2, 4), full(4, 3), 2, 3, 4, false) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("a short %s was accepted", name)
					}
				}()
				f()
			}()
		}
	})
}

// The bits rule: an element depends on its row of A, its column of B and k, whatever computes it.
func TestProductBits(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for _, k := range []int{1, 7, 64, 172, 384, 385, 576, 1536, 2048} {
			if testing.Short() && k > 400 {
				break
			}
			const m, n = 61, 203
			a, w := operand(rng, m, k, 0, false), operand(rng, k, n, 0, true)
			want := make([]float32, m*n)
			Gemm(want, n, a, w, m, n, k, false)
			panels := PackPanels(w.Data, n, k)
			for _, rows := range []int{1, 2, 3, 4, 5, 8, 15, 16, 17, 31, m} {
				got := make([]float32, rows*n)
				at := rng.IntN(m - rows + 1)
				panels.Mul(got, n, a.Data[at*k:], k, rows)
				sameBits(t, fmt.Sprintf("Panels.Mul of %d rows, k=%d", rows, k), got, want[at*n:][:rows*n])
				cols := 1 + rng.IntN(n)
				part := make([]float32, rows*cols)
				GemmSeq(part, cols, Operand{a.Data[at*k:], k, false}, w, rows, cols, k, false)
				for r := range rows {
					sameBits(t, fmt.Sprintf("GemmSeq of %dx%d, k=%d", rows, cols, k), part[r*cols:][:cols], want[(at+r)*n:][:cols])
				}
				j := rng.IntN(n/PanelWidth) * PanelWidth
				cols = 1 + rng.IntN(PanelWidth)
				part = make([]float32, rows*cols)
				MulPanel(part, cols, a.Data[at*k:], k, rows, panels.Data[j*k:], PanelWidth, k, cols, false)
				for r := range rows {
					sameBits(t, fmt.Sprintf("MulPanel of %dx%d, k=%d", rows, cols, k), part[r*cols:][:cols], want[(at+r)*n+j:][:cols])
				}
			}
		}
	})
}

func TestMulPanelTouchesItsColumnsOnly(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		for cols := 1; cols <= PanelWidth; cols++ {
			for _, add := range []bool{false, true} {
				m, k := 1+rng.IntN(20), 1+rng.IntN(50)
				a, b := operand(rng, m, k, 1, false), operand(rng, k, cols, rng.IntN(9), false)
				ldc := cols + 3
				c := randomC(rng, m, cols, ldc)
				c0 := append([]float32(nil), c...)
				MulPanel(c, ldc, a.Data, a.Stride, m, b.Data, b.Stride, k, cols, add)
				checkProduct(t, fmt.Sprintf("%dx%dx%d", m, cols, k), c, c0, ldc, a, b, m, cols, k, add)
			}
		}
	})
}

func TestProductsDoNotAllocate(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		a, b := operand(rng, 64, 64, 0, false), operand(rng, 64, 64, 0, true)
		c := make([]float32, 64*64)
		p := PackPanels(b.Data, 64, 64)
		for name, f := range map[string]func(){
			"GemmSeq":    func() { GemmSeq(c, 64, a, b, 64, 64, 64, false) },
			"Panels.Mul": func() { p.Mul(c, 64, a.Data, 64, 1) },
			"MulPanel":   func() { MulPanel(c, 64, a.Data, 64, 4, p.Data, 32, 64, 32, true) },
		} {
			if n := testing.AllocsPerRun(50, f); n != 0 {
				t.Errorf("%s allocates %v times", name, n)
			}
		}
	})
}

// reportRate adds GFLOP/s and the share of the FMA peak, measured just now.
func reportRate(b *testing.B, flops float64, cores int) {
	rate := flops * float64(b.N) / float64(b.Elapsed().Nanoseconds())
	b.ReportMetric(rate, "GFLOP/s")
	b.ReportMetric(100*rate/FMAPeak(5*time.Millisecond)/float64(cores), "%peak")
}

func onLevelsBench(b *testing.B, f func(b *testing.B)) {
	was := Level()
	defer SetLevel(was)
	for _, level := range Levels()[1:] {
		b.Run(level, func(b *testing.B) {
			SetLevel(level)
			f(b)
		})
	}
}

func BenchmarkGemm(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	onLevelsBench(b, func(b *testing.B) {
		for _, s := range []struct {
			what    string
			m, n, k int
			at, bt  bool
		}{
			{"", 512, 1536, 576, false, true}, {"", 2048, 576, 576, false, true}, {"forward", 2048, 64, 172, false, true}, {"forward", 2048, 172, 64, false, true},
			{"forward", 2048, 512, 64, false, true}, {"dX", 2048, 64, 172, false, false}, {"dW", 64, 172, 2048, true, false}, {"dW", 576, 576, 2048, true, false},
		} {
			x, y := operand(rng, s.m, s.k, 0, s.at), operand(rng, s.k, s.n, 0, s.bt)
			c := make([]float32, s.m*s.n)
			for _, par := range []bool{false, true} {
				name := fmt.Sprintf("%s%dx%dx%d", s.what, s.m, s.n, s.k)
				cores := 1
				if par {
					name += "/all"
					cores = 2
				}
				b.Run(name, func(b *testing.B) {
					for b.Loop() {
						active.gemm(c, s.n, x, y, s.m, s.n, s.k, false, par)
					}
					reportRate(b, 2*float64(s.m*s.n*s.k), cores)
				})
			}
		}
	})
}

func BenchmarkGemmTiny(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	onLevelsBench(b, func(b *testing.B) {
		for _, s := range [][3]int{{16, 8, 16}, {16, 16, 8}, {32, 32, 32}, {64, 64, 64}} {
			for variant := range 4 {
				x, y := operand(rng, s[0], s[2], 0, variant&1 != 0), operand(rng, s[2], s[1], 0, variant&2 != 0)
				c := make([]float32, s[0]*s[1])
				b.Run(fmt.Sprintf("%dx%dx%d/%c%c", s[0], s[1], s[2], "NT"[variant&1], "NT"[variant>>1]), func(b *testing.B) {
					for b.Loop() {
						GemmSeq(c, s[1], x, y, s[0], s[1], s[2], false)
					}
					reportRate(b, 2*float64(s[0]*s[1]*s[2]), 1)
				})
			}
		}
	})
}

func BenchmarkPanels(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	onLevelsBench(b, func(b *testing.B) {
		for _, s := range [][2]int{{64, 172}, {172, 64}, {576, 1536}, {1536, 576}} {
			p := PackPanels(randoms(rng, s[0]*s[1]), s[0], s[1])
			for _, rows := range []int{1, 2, 4, 8, 16, 512} {
				x, y := randoms(rng, rows*s[1]), make([]float32, rows*s[0])
				b.Run(fmt.Sprintf("%dx%d/rows=%d", s[0], s[1], rows), func(b *testing.B) {
					for b.Loop() {
						p.Mul(y, s[0], x, s[1], rows)
					}
					reportRate(b, 2*float64(rows*s[0]*s[1]), 1)
				})
			}
		}
	})
}
