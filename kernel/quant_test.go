package kernel

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"runtime"
	"testing"
	"unsafe"
)

var narrowFormats = []PanelFormat{BF16, Q8, Q4}

// exactBF16 reports whether the level in use computes bf16 products bit for bit as the portable one does.
func exactBF16() bool { return active.narrow[BF16].few.rows != 8 }

// awkward are shapes (N, K): tails of every kind, one row, one column, several blocks of columns, several chunks.
var awkward = [][2]int{{1, 1}, {1, 64}, {16, 64}, {15, 63}, {17, 65}, {32, 128}, {33, 31}, {31, 1}, {64, 172}, {172, 64}, {5, 300}, {100, 1030}, {40, 2050}, {300, 96}, {513, 257}}

// atLevel runs f at a level of kernels.
func atLevel(t testing.TB, level string, f func()) {
	t.Helper()
	was := Level()
	defer SetLevel(was)
	if err := SetLevel(level); err != nil {
		t.Fatal(err)
	}
	f()
}

// TestNarrowProductsAreThePortableOnes compares every level with the portable definition.
func TestNarrowProductsAreThePortableOnes(t *testing.T) {
	rng := seeded(t)
	for _, s := range awkward {
		n, k := s[0], s[1]
		if testing.Short() && n*k > 12000 {
			continue
		}
		w := randoms(rng, n*k)
		for _, f := range narrowFormats {
			p := Quantize(f, w, n, k, nil)
			for _, rows := range []int{1, 2, 3, 4, 5, 7, 8, 9, 17} {
				x := operand(rng, rows, k, rng.IntN(3), false)
				ldy := n + rng.IntN(3)
				want := guarded((rows-1)*ldy + n)
				atLevel(t, "portable", func() { p.Mul(want, ldy, x.Data, x.Stride, rows) })
				checkNarrow(t, fmt.Sprintf("portable %v %dx%d rows=%d", f, n, k, rows), want, ldy, p, x, rows)
				onLevels(t, func(t *testing.T) {
					got := guarded((rows-1)*ldy + n)
					p.Mul(got, ldy, x.Data, x.Stride, rows)
					what := fmt.Sprintf("%v %dx%d rows=%d", f, n, k, rows)
					checkNarrow(t, what, got, ldy, p, x, rows)
					if f != BF16 || exactBF16() {
						sameBits(t, what, got, want)
					}
				})
			}
		}
	}
}

// checkNarrow compares y with the product in float64 of the weights' values and x, within what rounding x costs, and looks at the canaries.
func checkNarrow(t *testing.T, what string, y []float32, ldy int, p *QuantPanels, x Operand, rows int) {
	t.Helper()
	row := make([]float32, p.K)
	for c := range ldy {
		if c < p.N {
			p.Row(row, c)
		}
		for r := range rows {
			if r*ldy+c >= len(y) {
				continue
			}
			if c >= p.N {
				if y[r*ldy+c] != canary {
					t.Fatalf("%s: wrote beyond row %d", what, r)
				}
				continue
			}
			want, slack := 0.0, 0.0
			var group float64
			for l, w := range row {
				v := float64(x.Data[r*x.Stride+l])
				want += v * float64(w)
				slack += math.Abs(v*float64(w)) * (0x1p-8 + gemmTolerance)
				if p.Format == BF16 {
					continue
				}
				if l%quantGroupLen == 0 {
					group = 0
					for _, v := range x.Data[r*x.Stride+l:][:min(quantGroupLen, p.K-l)] {
						group = max(group, math.Abs(float64(v)))
					}
				}
				slack += group / []float64{Q8: 2 * mostQ8 * 0.99, Q4: 253}[p.Format] * math.Abs(float64(w))
			}
			if d := math.Abs(float64(y[r*ldy+c]) - want); !(d <= slack) {
				t.Fatalf("%s: y[%d][%d] = %g, want %g ± %g", what, r, c, y[r*ldy+c], want, slack)
			}
		}
	}
}

// TestNarrowRowsAreExact: a row is the same bits alone, beside others, on one core and on all.
func TestNarrowRowsAreExact(t *testing.T) {
	for _, level := range Levels() {
		shapes := [][3]int{{40, 200, 23}, {272, 2112, 40}, {1040, 576, 300}}
		if slow := find(level).narrow[Q8].few.rows == 1; slow || testing.Short() {
			shapes = shapes[:1]
		}
		atLevel(t, level, func() {
			rng := seeded(t)
			for _, s := range shapes {
				n, k, most := s[0], s[1], s[2]
				w, x := randoms(rng, n*k), randoms(rng, most*k)
				for _, f := range narrowFormats {
					p := Quantize(f, w, n, k, nil)
					all := make([]float32, most*n)
					p.Mul(all, n, x, k, most)
					for rows := 1; rows <= min(most, 20); rows++ {
						at := rng.IntN(most - rows + 1)
						got := make([]float32, rows*n)
						p.Mul(got, n, x[at*k:], k, rows)
						sameBits(t, fmt.Sprintf("%s %v %dx%d, %d rows", level, f, n, k, rows), got, all[at*n:][:rows*n])
					}
					procs := runtime.GOMAXPROCS(1)
					got := make([]float32, most*n)
					p.Mul(got, n, x, k, most)
					runtime.GOMAXPROCS(procs)
					sameBits(t, fmt.Sprintf("%s %v %dx%d, one core", level, f, n, k), got, all)
				}
			}
		})
	}
}

// TestNarrowNaN: what is not a number in a row of x makes that row NaN, and no other.
func TestNarrowNaN(t *testing.T) {
	rng := seeded(t)
	const n, k = 20, 100
	for _, level := range Levels() {
		atLevel(t, level, func() {
			for _, f := range narrowFormats {
				p := Quantize(f, randoms(rng, n*k), n, k, nil)
				x := randoms(rng, 3*k)
				x[k+70] = float32(math.NaN())
				y := make([]float32, 3*n)
				p.Mul(y, n, x, k, 3)
				for i, v := range y {
					if (v != v) != (i/n == 1) {
						t.Fatalf("%s %v: row %d is %g", level, f, i/n, v)
					}
				}
			}
		})
	}
}

// weights are rows of every kind of group: ordinary, tiny, one-sided, with outliers, with the largest number of either sign, zero.
func weights(rng *rand.Rand, n, k int) []float32 {
	w := randoms(rng, n*k)
	for g := 0; g < len(w); g += 32 {
		group := w[g:min(g+32, len(w))]
		scale := float32(math.Ldexp(1, -rng.IntN(30)))
		kind := rng.IntN(6)
		for i := range group {
			group[i] *= scale
			switch kind {
			case 1:
				group[i] = max(group[i], -group[i])
			case 2:
				group[i] = float32(math.Copysign(float64(scale), float64(group[i])))
			case 3:
				group[i] = 0
			}
		}
		if kind == 4 {
			group[rng.IntN(len(group))] *= 50
		}
	}
	return w
}

func TestQuantize(t *testing.T) {
	rng := seeded(t)
	for _, s := range awkward {
		n, k := s[0], s[1]
		w := weights(rng, n, k)
		for _, f := range narrowFormats {
			p := Quantize(f, w, n, k, new(Memory))
			if len(p.Data) != QuantSize(f, n, k) || uintptr(unsafe.Pointer(&p.Data[0]))%64 != 0 {
				t.Fatalf("%v %dx%d: %d bytes at %p", f, n, k, len(p.Data), &p.Data[0])
			}
			d := make([]float32, n*k)
			p.Dequantize(d)
			checkError(t, f, w, d, n, k)
			again := Quantize(f, d, n, k, nil)
			if !bytes.Equal(again.Data, p.Data) {
				t.Fatalf("%v %dx%d: packing the values again gives other bytes", f, n, k)
			}
		}
	}
}

// checkError holds the error of packing against half a step.
func checkError(t *testing.T, f PanelFormat, w, d []float32, n, k int) {
	t.Helper()
	for r := range n {
		for g := 0; g < k; g += quantGroupLen {
			src, got := w[r*k+g:][:min(quantGroupLen, k-g)], d[r*k+g:]
			var low, high float64
			for _, v := range src {
				low, high = min(low, float64(v)), max(high, float64(v))
			}
			top := max(high, -low)
			for i, v := range src {
				var bound float64
				switch f {
				case BF16:
					bound = math.Abs(float64(v)) * 0x1p-8
				case Q8:
					bound = top/127/2*1.001 + f16Step/2 // scales are rounded to f16, small ones to its denormal numbers
					if top < 127*127*f16Step {          // the scale is a power of two
						bound = max(2*bound, f16Step/2)
					}
				case Q4:
					bound = max(top/8, min(high, -low)/7.5)/2*(1+0x1p-7) + 8*f16Step/2
					if top < 0x1p-18 {
						bound = top
					}
				}
				if e := math.Abs(float64(got[i]) - float64(v)); e > bound {
					t.Fatalf("%v: %g became %g: off by %g, want at most %g (group from %g to %g)", f, v, got[i], e, bound, low, high)
				}
			}
		}
	}
}

func TestQuantizeNaN(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		w := make([]float32, 96)
		w[40] = bad
		for _, f := range []PanelFormat{Q8, Q4} {
			d := make([]float32, 96)
			Quantize(f, w, 1, 96, nil).Dequantize(d)
			for i, v := range d {
				if broken := i/32 == 1; (v-v != 0) != broken {
					t.Errorf("%v of %g: element %d is %g", f, bad, i, v)
				}
			}
		}
	}
}

func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		v := halfToFloat(uint16(h))
		if back := floatToHalf(v); back != uint16(h) && v == v {
			t.Fatalf("%#x is %g, and that is %#x", h, v, back)
		}
		next := halfToFloat(uint16(h + 1))
		if h&0x7fff >= 0x7bff || h&0x7fff == 0 {
			continue
		}
		middle := v/2 + next/2
		if got := floatToHalf(middle); got != uint16(h+h&1) {
			t.Fatalf("%g between %#x and the next is %#x", middle, h, got)
		}
		if got := floatToHalf(math.Nextafter32(middle, v)); got != uint16(h) {
			t.Fatalf("just before the middle above %#x is %#x", h, got)
		}
	}
}

// TestMultiplyAdd compares the software's multiply-add with exact arithmetic, most of all where rounding twice would go wrong.
func TestMultiplyAdd(t *testing.T) {
	rng := seeded(t)
	for range 200000 {
		x, y := float32(rng.NormFloat64()), float32(rng.NormFloat64())
		z := float32(rng.NormFloat64() * math.Ldexp(1, rng.IntN(60)-30))
		if rng.IntN(2) == 0 { // a product just beside the middle of two numbers
			x = 1 + float32(rng.IntN(1<<11))*0x1p-23
			y = 0x1p-24 * (1 + float32(rng.IntN(3)-1)*0x1p-23)
			z = 1 + float32(rng.IntN(1<<11))*0x1p-23
		}
		exact := new(big.Float).SetPrec(400).Mul(big.NewFloat(float64(x)), big.NewFloat(float64(y)))
		exact.Add(exact, big.NewFloat(float64(z)))
		if want, _ := exact.Float32(); multiplyAdd(x, y, z) != want {
			t.Fatalf("%g·%g + %g = %g, want %g", x, y, z, multiplyAdd(x, y, z), want)
		}
	}
}

func TestNarrowDoesNotAllocate(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		x, y := randoms(rng, 9*600), make([]float32, 9*800)
		for _, f := range narrowFormats {
			p := Quantize(f, randoms(rng, 800*600), 800, 600, new(Memory))
			if n := testing.AllocsPerRun(20, func() { p.Mul(y, 800, x, 600, 9) }); n != 0 {
				t.Errorf("%v: %v allocations", f, n)
			}
		}
	})
}

// TestMulEach compares several products in one pass with the same one by one: whole and partial panels, an empty matrix, one core.
func TestMulEach(t *testing.T) {
	onLevels(t, func(t *testing.T) {
		rng := seeded(t)
		const k = 200
		x := randoms(rng, 20*k)
		for _, f := range narrowFormats {
			for _, rows := range []int{1, 3, 9, 20} {
				var products []QuantProduct
				for _, n := range []int{64, 5, 0, 700, 33} {
					p := Quantize(f, randoms(rng, n*k), n, k, nil)
					products = append(products, QuantProduct{p, make([]float32, rows*(n+3)), n + 3})
				}
				for _, procs := range []int{1, runtime.GOMAXPROCS(0)} {
					before := runtime.GOMAXPROCS(procs)
					MulEach(products, x, k, rows)
					runtime.GOMAXPROCS(before)
					for _, p := range products {
						want := make([]float32, len(p.Y))
						p.Mul(want, p.Ldy, x, k, rows)
						sameBits(t, fmt.Sprintf("%v, %d of %d rows, %d cores", f, p.N, rows, procs), p.Y, want)
						clear(p.Y)
					}
				}
			}
			a, b := Quantize(f, randoms(rng, 64*k), 64, k, nil), Quantize(f, randoms(rng, 32*k), 32, k, nil)
			y := make([]float32, 96)
			if n := testing.AllocsPerRun(20, func() { MulEach([]QuantProduct{{a, y, 64}, {b, y[64:], 32}}, x, k, 1) }); n != 0 {
				t.Errorf("%v: %v allocations", f, n)
			}
		}
	})
}

func TestMemory(t *testing.T) {
	m := new(Memory)
	for _, n := range []int{1, 64, 100, 3 << 20, memoryUnit + 1} {
		b := m.Bytes(n)
		if len(b) != n || uintptr(unsafe.Pointer(&b[0]))%cacheLine != 0 || b[0] != 0 || b[n-1] != 0 {
			t.Fatalf("%d bytes: %d at %p", n, len(b), &b[0])
		}
		b[0], b[n-1] = 1, 1
	}
}
