//go:build !purego

package kernel

import "unsafe"

// ssdLanes is 16 where the level has vectors of 16 and p is a multiple, and else 8.
func ssdLanes(p int) int {
	if p%16 == 0 && active.name == "avx512" {
		return 16
	}
	return 8
}

func ssdVector(a *ssdArgs, lanes int) {
	if lanes == 16 {
		ssdStepAVX512(a)
	} else {
		ssdStepAVX2(a)
	}
}

// scanArgs is the argument of the scan's kernels, as ssdArgs.
type scanArgs struct {
	y, s, a, delta, x, b, c      unsafe.Pointer
	ldy, lds, ldd, ldx, ldb, ldc int
	n, tokens, write, quiet      int
}

// scanStepVectors advances ssdLanes(p) channels at a time; odd is for groups that are no multiple of 8.
func scanStepVectors(odd scanStep) scanStep {
	return func(y []float32, ldy int, s, a, delta []float32, ldd int, x []float32, ldx int, b []float32, ldb int, c []float32, ldc int, p, n, tokens, write, quiet int) {
		if p%8 != 0 || p == 0 || n == 0 || tokens == 0 {
			odd(y, ldy, s, a, delta, ldd, x, ldx, b, ldb, c, ldc, p, n, tokens, write, quiet)
			return
		}
		v := scanArgs{b: unsafe.Pointer(&b[0]), ldy: 4 * ldy, lds: 4 * p, ldd: 4 * ldd, ldx: 4 * ldx, ldb: 4 * ldb, ldc: 4 * ldc, n: n, tokens: tokens, write: write, quiet: quiet}
		if quiet < tokens {
			checkMatrix("y", y, tokens, p, ldy)
			checkMatrix("c", c, tokens, n, ldc)
			v.c = unsafe.Pointer(&c[0])
		}
		checkMatrix("s", s, n, p, p)
		checkMatrix("a", a, n, p, p)
		checkMatrix("delta", delta, tokens, p, ldd)
		checkMatrix("x", x, tokens, p, ldx)
		checkMatrix("b", b, tokens, n, ldb)
		lanes := ssdLanes(p)
		for i := 0; i < p; i += lanes {
			v.s, v.a, v.delta, v.x = unsafe.Pointer(&s[i]), unsafe.Pointer(&a[i]), unsafe.Pointer(&delta[i]), unsafe.Pointer(&x[i])
			if quiet < tokens {
				v.y = unsafe.Pointer(&y[i])
			}
			if lanes == 16 {
				scanStepAVX512(&v)
			} else {
				scanStepAVX2(&v)
			}
		}
	}
}
