//go:build !purego

package kernel

import "unsafe"

// geometryTiles is the geometry of GemmBF16 on a processor with AMX: a block is swept by rows of 32 and packed in tiles of 1 KiB.
var geometryTiles = geometry{avx512: true, pairs: true, rows: tileRows, lanes: 16, tiles: true}

const (
	tileRows    = 32      // rows of A, and columns of B, that are multiplied together: two tiles of each
	tileStep    = 32      // k in a tile
	tileFloats  = 256     // a tile's size, in float32
	tileDepth   = 16 * 32 // most k of a block: 32 rows of A and the columns of B that pass by are near L1
	tileColumns = 1024    // of B, packed for that k, which fill half of L2
)

// tileSweep is the argument of sweepTilesAMX: packed rows of A and columns of B, and C.
type tileSweep struct {
	a, b, c unsafe.Pointer
	steps   int // tiles along k
	panel   int // bytes from a tile of 16 rows of A, or columns of B, to the next 16
	cRow    int // bytes from a row of C to the next
	pairs   int // of tiles of columns
	add     int // 1: add to C; 0: overwrite it
}

func gemmTiles(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) {
	gemmBlocked(&geometryTiles, c, ldc, a, b, m, n, k, accumulate, parallel)
}

// tileBlock is block by tiles. An element is a chain over blocks of k, whatever the block of C that it is in.
func (p *product) tileBlock(s *scratch, i0, i1, j0, j1 int) {
	s.c = grow(s.c, tileRows*tileRows)
	blocks := (p.k + tileDepth - 1) / tileDepth
	depth := roundUp((p.k+blocks-1)/blocks, tileStep)
	for j := j0; j < j1; j += tileColumns {
		je := min(j+tileColumns, j1)
		for l := 0; l < p.k; l += depth {
			k := min(depth, p.k-l)
			steps := (k + tileStep - 1) / tileStep
			t := tileSweep{steps: steps, panel: 4 * tileFloats * steps}
			if p.add || l > 0 {
				t.add = 1
			}
			s.b = grow(s.b, roundUp(je-j, tileRows)*16*steps)
			for c := j; c < je; c += 16 {
				dst := s.b[(c-j)*16*steps:][:tileFloats*steps]
				clear(dst[(k+1)/2*16:])
				packPairs(&dst[0], 64, p.bAt(l, c), 4*p.ldb, min(16, je-c), k, p.bTrans)
			}
			s.a = grow(s.a, 2*tileFloats*steps)
			for i := i0; i < i1; i += tileRows {
				rows := min(tileRows, i1-i)
				for r := 0; r < rows; r += 16 {
					p.packTiles(s.a[r*16*steps:][:tileFloats*steps], i+r, min(16, rows-r), l, k, steps)
				}
				t.a, t.b = unsafe.Pointer(&s.a[0]), unsafe.Pointer(&s.b[0])
				whole := (je - j) / tileRows
				if rows == tileRows && whole > 0 {
					t.c, t.cRow, t.pairs = unsafe.Pointer(p.cAt(i, j)), 4*p.ldc, whole
					sweepTilesAMX(&t)
				} else {
					whole = 0
				}
				for c := j + whole*tileRows; c < je; c += tileRows { // what is no whole square goes through one
					t.b = unsafe.Pointer(&s.b[(c-j)*16*steps])
					p.tileEdge(&t, s.c, i, rows, c, min(tileRows, je-c))
				}
			}
		}
	}
}

// packTiles packs up to 16 rows of A from row i on, terms l…l+k.
func (p *product) packTiles(dst []float32, i, rows, l, k, steps int) {
	if !p.aTrans {
		packTileRowsAMX(&dst[0], p.aAt(i, l), 4*p.lda, rows, k)
		return
	}
	clear(dst[(k+1)/2*16:])
	packPairs(&dst[0], 64, p.aAt(i, l), 4*p.lda, rows, k, false)
	transposeTilesAVX512(&dst[0], steps)
}

// tileEdge computes a square of C that is not whole.
func (p *product) tileEdge(t *tileSweep, square []float32, i, rows, j, cols int) {
	if t.add != 0 {
		for r := range rows {
			copy(square[r*tileRows:], unsafe.Slice(p.cAt(i+r, j), cols))
		}
	}
	t.c, t.cRow, t.pairs = unsafe.Pointer(&square[0]), 4*tileRows, 1
	sweepTilesAMX(t)
	for r := range rows {
		copy(unsafe.Slice(p.cAt(i+r, j), cols), square[r*tileRows:])
	}
}
