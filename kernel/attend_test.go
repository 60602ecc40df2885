package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestHalfConversions compares the conversions of every level with the portable ones over all halves, and over floats around all of them and
// the specials.
func TestHalfConversions(t *testing.T) {
	halves := make([]uint16, 1<<16)
	var floats []float32
	for i := range halves {
		halves[i] = uint16(i)
		v := halfToFloat(uint16(i))
		next := halfToFloat(uint16(i) + 1)
		floats = append(floats, v, (v+next)/2, math.Nextafter32((v+next)/2, v), math.Nextafter32((v+next)/2, next))
	}
	inf := float32(math.Inf(1))
	floats = append(floats, inf, -inf, 65504, 65519, 65520, -65520, 1e30, -1e30, 0x1p-24, 0x1p-25, 0x1.8p-25, 0x1p-149, float32(math.NaN()))
	want, got := make([]uint16, len(floats)), make([]uint16, len(floats))
	for i, v := range floats {
		want[i] = floatToHalf(v)
		if v == v && want[i]&0x7fff > 0x7bff { // only finite numbers and NaN
			want[i] = want[i]&0x8000 | 0x7bff
		}
	}
	isNaN := func(h uint16) bool { return h&0x7fff > 0x7c00 }
	onLevels(t, func(t *testing.T) {
		active.toHalf(got, floats)
		for i, h := range got {
			if h != want[i] && !(isNaN(h) && isNaN(want[i])) {
				t.Fatalf("%g becomes %#04x, want %#04x", floats[i], h, want[i])
			}
		}
		for _, n := range []int{0, 1, 15, 16, 17, 40, 1 << 16} {
			wide := guarded(n)
			active.fromHalf(wide, halves[:n])
			for i, v := range wide {
				if w := halfToFloat(halves[i]); math.Float32bits(v) != math.Float32bits(w) && (v == v || w == w) {
					t.Fatalf("%#04x becomes %g, want %g", halves[i], v, w)
				}
			}
		}
	})
}

// attention is a case of AttendBlock.
type attention struct{ p, length, rows, group, window int }

var attentions = []attention{
	{8, 5, 3, 1, 0}, {64, 1, 4, 4, 0}, {64, 300, 4, 4, 0}, {64, 300, 1, 1, 0}, {64, 1100, 9, 3, 0}, {40, 1030, 12, 4, 0}, {128, 2100, 8, 8, 0},
	{64, 2080, 56, 4, 0}, {32, 1500, 5, 1, 700}, {64, 2090, 24, 4, 1050}, {96, 1040, 14, 7, 30}, {16, 2500, 2, 2, 100}, {400, 70, 4, 2, 0},
}

// fill returns queries, and caches of both formats with the same numbers, which f16 can hold.
func (a attention) fill(rng *rand.Rand) (q []float32, full, half *KV) {
	n := a.length * a.p
	k, v := randoms(rng, n), randoms(rng, n)
	half, full = &KV{P: a.p, Format: KVF16}, &KV{P: a.p}
	half.Append(k, a.p, v, a.p, a.length)
	for _, x := range [][]float32{k, v} {
		h := make([]uint16, n)
		toHalfPortable(h, x)
		fromHalfPortable(x, h)
	}
	full.Append(k, a.p, v, a.p, a.length)
	q = randoms(rng, a.rows*a.p)
	Scale(q, float32(1/math.Sqrt(float64(a.p))), q)
	return q, full, half
}

// block runs AttendBlock on the rows from row on.
func (a attention) block(q []float32, kv *KV, row, rows int) (y, stats []float32) {
	y, stats = guarded(rows*a.p), guarded(2*rows)
	pos := a.length - (a.rows+a.group-1)/a.group
	AttendBlock(y, stats, q[row*a.p:][:rows*a.p], kv, pos+row/a.group, rows, a.group, a.window, nil)
	return y, stats
}

// reference is the definition in float64, on numbers as they are kept.
func (a attention) reference(q []float32, kv *KV, row int) []float64 {
	t := a.length - (a.rows+a.group-1)/a.group + row/a.group
	lo := 0
	if a.window > 0 {
		lo = max(0, t+1-a.window)
	}
	y, sum := make([]float64, a.p), 0.0
	for s := lo; s <= t; s++ {
		score := 0.0
		for i := range a.p {
			score += float64(q[row*a.p+i]) * float64(kv.K[s/PanelWidth*PanelWidth*a.p+i*PanelWidth+s%PanelWidth])
		}
		e := math.Exp(score)
		sum += e
		for i := range a.p {
			y[i] += e * float64(kv.V[s*a.p+i])
		}
	}
	for i := range y {
		y[i] /= sum
	}
	return y
}

// TestAttendBlock: the definition's values; a row has the same bits alone, in parts and among others; and keys and values kept in f16 give
// the bits that the same numbers in float32 give.
func TestAttendBlock(t *testing.T) {
	for _, a := range attentions {
		t.Run(fmt.Sprint(a), func(t *testing.T) {
			withPortable(t, a.check)
		})
	}
}

// check compares rows with the definition, and with the same rows alone, at the level in use.
func (a attention) check(t *testing.T) {
	q, full, half := a.fill(seeded(t))
	y, stats := a.block(q, full, 0, a.rows)
	for row := range a.rows {
		for i, want := range a.reference(q, full, row) {
			if got := float64(y[row*a.p+i]); !(math.Abs(got-want) <= 1e-5*math.Max(1, math.Abs(want))) {
				t.Fatalf("row %d: element %d is %g, want %g", row, i, got, want)
			}
		}
	}
	halfY, halfStats := a.block(q, half, 0, a.rows)
	sameBits(t, "f16", halfY, y)
	sameBits(t, "f16's stats", halfStats, stats)
	for row := 0; row < a.rows; row += a.group {
		n := min(a.group, a.rows-row)
		for format, kv := range []*KV{full, half} {
			alone, aloneStats := a.block(q, kv, row, n)
			what := fmt.Sprintf("%v, row %d alone", KVFormat(format), row)
			sameBits(t, what, alone, y[row*a.p:][:n*a.p])
			sameBits(t, what+": stats", aloneStats, stats[2*row:][:2*n])
		}
	}
}

// withPortable is onLevels, and once more at the portable level.
func withPortable(t *testing.T, f func(t *testing.T)) {
	was := Level()
	t.Run("portable", func(t *testing.T) {
		if err := SetLevel("portable"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = SetLevel(was) }()
		f(t)
	})
	onLevels(t, f)
}

// TestKVFormats: a cache of f16 takes half the bytes, its clone shares nothing, and cutting it back and going on gives what never went wrong.
func TestKVFormats(t *testing.T) {
	rng := seeded(t)
	const p, n = 24, 70
	k, v := randoms(rng, n*p), randoms(rng, n*p)
	for _, f := range []KVFormat{KVF32, KVF16} {
		straight, cut := KV{P: p, Format: f}, KV{P: p, Format: f}
		straight.Append(k, p, v, p, n)
		cut.Append(k, p, v, p, 50)
		other := CloneKV([]KV{cut})[0]
		other.Append(v, p, k, p, 9)
		cut.Append(v[3:], p, k[3:], p, 11) // provisional
		cut.Len = 40
		cut.Append(k[40*p:], p, v[40*p:], p, n-40)
		if got, want := cut.Bytes(), n*p*2*f.Bytes(); got != want || straight.Bytes() != want {
			t.Errorf("%v: %d and %d bytes, want %d", f, got, straight.Bytes(), want)
		}
		for at := range n * p {
			panel := at / p / PanelWidth * PanelWidth * p
			panel += at%p*PanelWidth + at/p%PanelWidth
			if f == KVF16 && (cut.HalfK[panel] != straight.HalfK[panel] || cut.HalfV[at] != straight.HalfV[at]) ||
				f == KVF32 && (cut.K[panel] != straight.K[panel] || cut.V[at] != straight.V[at]) {
				t.Fatalf("%v: number %d differs after a cut", f, at)
			}
		}
	}
	for _, f := range []KVFormat{KVF32, KVF16} {
		long := KV{P: p, Format: f}
		long.Append(k, p, v, p, n)
		long.Repeat(300)
		for at := range 300 * p { // 70 tokens have 64 in whole panels
			if f == KVF16 && long.HalfV[at] != long.HalfV[at%(64*p)] || f == KVF32 && long.V[at] != v[at%(64*p)] {
				t.Fatalf("%v: number %d of a repetition differs", f, at)
			}
		}
		if long.Len != 300 || long.Bytes() != 300*p*2*f.Bytes() {
			t.Errorf("%v: %d tokens", f, long.Len)
		}
	}
	if _, err := ParseKV("f8"); err == nil {
		t.Error("ParseKV takes f8")
	}
	if f, err := ParseKV("f16"); f != KVF16 || err != nil {
		t.Errorf("ParseKV(f16) is %v, %v", f, err)
	}
}

// BenchmarkDecodeAttention is a token's attention with 32 heads on 8 of keys and values of 64, over fresh memory as a model's layers have:
// GB/s of keys and values, beside the probe's.
func BenchmarkDecodeAttention(b *testing.B) {
	const heads, group, p = 8, 4, 64
	for _, depth := range []int{4096, 32768} {
		for _, f := range []KVFormat{KVF32, KVF16} {
			b.Run(fmt.Sprintf("depth=%d/%v", depth, f), func(b *testing.B) {
				rng := rand.New(rand.NewPCG(1, 2))
				layers := max(1, (256<<20)/(heads*depth*p*2*f.Bytes()))
				caches := make([]KV, layers*heads)
				x := randoms(rng, 1024*p)
				for i := range caches {
					if caches[i] = (KV{P: p, Format: f}); i%heads == heads-1 {
						ReserveKV(caches[i+1-heads:i+1], depth)
					}
				}
				for i := range caches {
					caches[i].Append(x, p, x, p, 1024)
					caches[i].Repeat(depth)
				}
				q := randoms(rng, group*p)
				scratch, y := make([][]float32, heads), make([]float32, heads*group*p)
				b.SetBytes(int64(heads * caches[0].Bytes()))
				at := 0
				head := func(g int) {
					scratch[g] = AttendBlock(y[g*group*p:], nil, q, &caches[at*heads+g], depth-1, group, group, 0, scratch[g])
				}
				for b.Loop() {
					Parallel(heads, head)
					at = (at + 1) % layers
				}
			})
		}
	}
	b.Run("probe", func(b *testing.B) {
		rates := []float64{}
		for b.Loop() {
			rates = append(rates, ReadProbe(1e8))
		}
		b.ReportMetric(slices.Max(rates)*1000, "MB/s")
	})
}
