package kernel

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// TestActivations compares the vectors' rounding of activations with the portable one, where it is hardest.
func TestActivations(t *testing.T) {
	x := hardActivations(seeded(t))
	for _, f := range narrowFormats {
		want := make([]byte, f.activationBytes(len(x)))
		narrowPortable[f].activations(want, x)
		onLevels(t, func(t *testing.T) { checkActivations(t, f, active.narrow[f].activations, x, want) })
	}
}

// hardActivations are groups of all magnitudes, with ties, NaN, Inf and the largest and smallest numbers.
func hardActivations(rng *rand.Rand) []float32 {
	x := randoms(rng, 64*40)
	for g := 0; g < len(x); g += 32 {
		scale := float32(math.Ldexp(1, rng.IntN(280)-150))
		for i := range 32 {
			x[g+i] *= scale
			if rng.IntN(50) == 0 {
				x[g+i] = 0
			}
		}
		if g%256 == 0 {
			x[g+3] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.Float32frombits(0xffffffff), 0x1p-100, 0x1p-149, math.MaxFloat32, 0}[g/256%8]
		}
	}
	for i := range 64 { // ties
		x[i] = float32(i) / 2
	}
	for i := range 32 { // the same for 16 bits, and low bytes of -128 and 127
		x[64+i] = float32(i*128) + 0.5
	}
	x[64] = mostQ8
	return x
}

// checkActivations compares what a level makes of x with what the portable one does; high and low bytes count as the words that they stand for.
func checkActivations(t *testing.T, f PanelFormat, activations func(dst []byte, x []float32), x []float32, want []byte) {
	t.Helper()
	got, size := make([]byte, len(want)), f.groupBytes()
	activations(got, x)
	if f == BF16 && !bytes.Equal(got, want) {
		t.Fatal("bf16 differs")
	}
	for g := 0; f != BF16 && g < len(got); g += size {
		a, b := got[g:][:size], want[g:][:size]
		s, u := math.Float32frombits(le32(a[f.scaleAt():])), math.Float32frombits(le32(b[f.scaleAt():]))
		if s != s && u != u { // the numbers do not matter
			continue
		}
		if f == Q8 && !bytes.Equal(a, b) {
			a = wordsOfDigits(a)
		}
		if !bytes.Equal(a, b) {
			t.Fatalf("%v, group %d of %v:\n%v\n%v", f, g/size, x[g/size*32:][:32], a, b)
		}
	}
}

// wordsOfDigits returns a group with words for its high and low bytes.
func wordsOfDigits(a []byte) []byte {
	words := bytes.Clone(a)
	for i := range quantGroupLen {
		putWord(words, i, int32(int8(a[i]))<<8+int32(int8(a[digitStride+i])))
	}
	return words
}
