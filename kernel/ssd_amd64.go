//go:build !purego

package kernel

import "unsafe"

// ssdStepVectors takes vectors of 16 where the level has them and p is a multiple, and else of 8. The bits differ between the two, which
// does no harm: p belongs to the model.
func ssdStepVectors(y []float32, ldy int, s, decay, dt []float32, ldh int, x []float32, ldx int, b []float32, ldb int, c []float32, ldc int, p, n, tokens, write, quiet int) {
	if p%8 != 0 || p == 0 || n == 0 || tokens == 0 {
		ssdStepPortable(y, ldy, s, decay, dt, ldh, x, ldx, b, ldb, c, ldc, p, n, tokens, write, quiet)
		return
	}
	if quiet < tokens {
		checkMatrix("y", y, tokens, p, ldy)
	}
	checkMatrix("s", s, n, p, p)
	checkMatrix("decay", decay, tokens, 1, ldh)
	checkMatrix("dt", dt, tokens, 1, ldh)
	checkMatrix("x", x, tokens, p, ldx)
	checkMatrix("b", b, tokens, n, ldb)
	checkMatrix("c", c, tokens, n, ldc)
	a := ssdArgs{
		decay: unsafe.Pointer(&decay[0]), dt: unsafe.Pointer(&dt[0]), b: unsafe.Pointer(&b[0]), c: unsafe.Pointer(&c[0]),
		ldy: 4 * ldy, lds: 4 * p, ldh: 4 * ldh, ldx: 4 * ldx, ldb: 4 * ldb, ldc: 4 * ldc, n: n, tokens: tokens, write: write, quiet: quiet,
	}
	lanes := 8
	if p%16 == 0 && active.lanes == 16 {
		lanes = 16
	}
	for i := 0; i < p; i += lanes {
		a.s, a.x = unsafe.Pointer(&s[i]), unsafe.Pointer(&x[i])
		if quiet < tokens {
			a.y = unsafe.Pointer(&y[i])
		}
		if lanes == 16 {
			ssdStepAVX512(&a)
		} else {
			ssdStepAVX2(&a)
		}
	}
}
