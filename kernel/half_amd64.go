//go:build !purego

package kernel

import "unsafe"

func mulHalfAVX512(c []float32, ldc int, a []float32, lda, m int, b []uint16, ldb, k, cols int, accumulate bool) {
	t := newHalfTile(c, ldc, a, lda, m, b, ldb, k, cols, accumulate)
	for j := 0; j < cols; {
		vecs := 2
		if m <= 4 && cols-j >= 64 {
			vecs = 4
		}
		runHalfAVX512(&t, m, vecs, false)
		t.b, t.c = unsafe.Add(t.b, 2*16*vecs), unsafe.Add(t.c, 4*16*vecs)
		j += 16 * vecs
	}
}

func mulHalfAVX2(c []float32, ldc int, a []float32, lda, m int, b []uint16, ldb, k, cols int, accumulate bool) {
	t := newHalfTile(c, ldc, a, lda, m, b, ldb, k, cols, accumulate)
	for range cols / 16 {
		runHalfAVX2(&t, m, 2, false)
		t.b, t.c = unsafe.Add(t.b, 2*16), unsafe.Add(t.c, 4*16)
	}
}

// newHalfTile returns the tile of the first columns, after it has checked the bounds of all.
func newHalfTile(c []float32, ldc int, a []float32, lda, m int, b []uint16, ldb, k, cols int, accumulate bool) tile {
	checkMatrix("C", c, m, cols, ldc)
	checkMatrix("A", a, m, k, lda)
	if cols%PanelWidth != 0 || ldb < cols || k < 1 || k > kBlockMax || (k-1)*ldb+cols > len(b) {
		panic("kernel: matrix B of f16 does not fit its slice or its kernel")
	}
	t := tile{a: unsafe.Pointer(&a[0]), b: unsafe.Pointer(&b[0]), c: unsafe.Pointer(&c[0]), k: k, aRow: 4 * lda, aK: 4, bK: 2 * ldb, cRow: 4 * ldc}
	if accumulate {
		t.add = 1
	}
	return t
}
