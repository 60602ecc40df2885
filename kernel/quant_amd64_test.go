//go:build !purego

package kernel

import "testing"

// TestDigits: high and low bytes, which only processors with VNNI multiply, are made by AVX2, so that every processor can look at them.
func TestDigits(t *testing.T) {
	if find("avx2") == nil {
		t.Skip("no AVX2")
	}
	x := hardActivations(seeded(t))
	want := make([]byte, Q8.activationBytes(len(x)))
	narrowPortable[Q8].activations(want, x)
	checkActivations(t, Q8, quantizeBy(Q8, quantizeDigitsAVX2), x, want)
}
