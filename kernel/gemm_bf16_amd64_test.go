//go:build !purego

package kernel

import "testing"

// A processor with AVX-512 but without BF16 runs the rounded form of both vector widths: the bits must not tell which.
func TestRoundedForms(t *testing.T) {
	if find("avx512") == nil {
		t.Skip("no AVX-512")
	}
	rng := seeded(t)
	for _, s := range [][3]int{{1, 1, 1}, {15, 33, 17}, {40, 70, 390}, {100, 300, 801}} {
		for variant := range 8 {
			m, n, k := s[0], s[1], s[2]
			a, b := operand(rng, m, k, 1, variant&1 != 0), operand(rng, k, n, 2, variant&2 != 0)
			wide := randomC(rng, m, n, n+1)
			narrow, c0 := append([]float32(nil), wide...), append([]float32(nil), wide...)
			gemmRoundedAVX512(wide, n+1, a, b, m, n, k, variant&4 != 0, true)
			gemmRoundedAVX2(narrow, n+1, a, b, m, n, k, variant&4 != 0, false)
			sameBits(t, "AVX-512 and AVX2", wide, narrow)
			checkProduct(t, "rounded", wide, c0, n+1, rounded(a), rounded(b), m, n, k, variant&4 != 0)
		}
	}
}
