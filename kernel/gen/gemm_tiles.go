package main

import "fmt"

// The bf16 product by AMX: eight registers of 16 rows × 64 bytes. A tile of A is 16 rows of 16 pairs of bf16, a tile of B 16 pairs of rows by 16
// columns, a tile of C 16 × 16 float32. The assembler knows none of these instructions; all are VEX-encoded, opcode map 0F38, W0, 128 bits.

// Numbers of general registers, as instructions encode them.
const (
	regAX  = 0
	regCX  = 1
	regDX  = 2
	regBX  = 3
	regSI  = 6
	regDI  = 7
	regR9  = 9
	regR10 = 10
)

var regNames = map[int]string{regAX: "AX", regCX: "CX", regDX: "DX", regBX: "BX", regSI: "SI", regDI: "DI", regR9: "R9", regR10: "R10"}

// Mandatory prefixes, as VEX encodes them.
const (
	prefixF3 = 2
	prefixF2 = 3
)

// tileMemory writes an instruction on tile register tile and the memory at base + disp, whose rows are index bytes apart.
func (g *gen) tileMemory(name string, prefix, tile, base, index, disp int) {
	vex := 0x82 | (1^index>>3)<<6 | (1^base>>3)<<5
	mod, tail, at := 0, "", fmt.Sprintf("(%s)(%s*1)", regNames[base], regNames[index])
	if disp != 0 {
		mod, tail, at = 1, fmt.Sprintf("; BYTE $0x%02x", disp), fmt.Sprint(disp)+at
	}
	operands := fmt.Sprintf("%s, T%d", at, tile)
	if prefix == prefixF3 {
		operands = fmt.Sprintf("T%d, %s", tile, at)
	}
	g.f("BYTE $0xc4; BYTE $0x%02x; BYTE $0x%02x; BYTE $0x4b; BYTE $0x%02x; BYTE $0x%02x%s // %s %s",
		vex, 0x78|prefix, mod<<6|tile<<3|4, index&7<<3|base&7, tail, name, operands)
}

func (g *gen) tileLoad(tile, base, index, disp int) {
	g.tileMemory("TILELOADD", prefixF2, tile, base, index, disp)
}

func (g *gen) tileStore(tile, base, index, disp int) {
	g.tileMemory("TILESTORED", prefixF3, tile, base, index, disp)
}

// tileDot adds to tile dst the product of the tiles a and b: TDPBF16PS.
func (g *gen) tileDot(dst, a, b int) {
	g.f("BYTE $0xc4; BYTE $0xe2; BYTE $0x%02x; BYTE $0x5c; BYTE $0x%02x // TDPBF16PS T%d, T%d, T%d", (^b&15)<<3|prefixF3, 0xc0|dst<<3|a, b, a, dst)
}

func (g *gen) tileZero(tile int) {
	g.f("BYTE $0xc4; BYTE $0xe2; BYTE $0x7b; BYTE $0x49; BYTE $0x%02x // TILEZERO T%d", 0xc0|tile<<3, tile)
}

// tileConfigure makes all eight tiles 16 rows of 64 bytes. The address goes through AX.
func (g *gen) tileConfigure() {
	g.f("LEAQ tileShapes<>(SB), AX")
	g.f("BYTE $0xc4; BYTE $0xe2; BYTE $0x78; BYTE $0x49; BYTE $0x00 // LDTILECFG (AX)")
}

func (g *gen) tileRelease() {
	g.f("BYTE $0xc4; BYTE $0xe2; BYTE $0x78; BYTE $0x49; BYTE $0xc0 // TILERELEASE")
}

// tilesAhead is how many steps before its use a tile of B is fetched.
const tilesAhead = 2

// tileProduct writes the sweep: two tiles of rows of A against pairs of tiles of columns of B. Tiles 0 to 3 hold C, 4 and 5 A, 6 and 7 B.
func (g *gen) tileProduct() {
	g.function("sweepTilesAMX", "t *tileSweep", "", "multiplies 32 packed rows of A with t.pairs times 32 packed columns of B")
	g.tileConfigure()
	g.load("t", "R8")
	g.f("MOVQ tileSweep_b(R8), R11")
	g.f("MOVQ tileSweep_c(R8), DI")
	g.f("MOVQ tileSweep_cRow(R8), R9")
	g.f("MOVQ tileSweep_panel(R8), R12")
	g.f("MOVQ tileSweep_pairs(R8), R13")
	g.f("MOVQ $64, SI")
	columns, fresh, multiply, steps := g.newLabel("columns"), g.newLabel("fresh"), g.newLabel("multiply"), g.newLabel("steps")
	g.label(columns)
	g.f("MOVQ R9, R10")
	g.f("SHLQ $4, R10")
	g.f("ADDQ DI, R10") // row 16 of C
	g.f("CMPQ tileSweep_add(R8), $0")
	g.f("JEQ %s", fresh)
	each := func(do func(tile, base, disp int)) {
		for tile := range 4 {
			do(tile, []int{regDI, regR10}[tile/2], tile%2*64)
		}
	}
	each(func(tile, base, disp int) { g.tileLoad(tile, base, regR9, disp) })
	g.f("JMP %s", multiply)
	g.label(fresh)
	for tile := range 4 {
		g.tileZero(tile)
	}
	g.label(multiply)
	g.f("MOVQ tileSweep_a(R8), AX")
	g.f("LEAQ (AX)(R12*1), CX")
	g.f("MOVQ R11, DX")
	g.f("LEAQ (DX)(R12*1), BX")
	g.f("MOVQ tileSweep_steps(R8), R15")
	g.f("PCALIGN $32")
	g.label(steps)
	ahead := func(base string, half int) { // columns of B come from L2
		for line := range 8 {
			g.f("PREFETCHT0 %d(%s)", tilesAhead*1024+512*half+64*line, base)
		}
	}
	g.tileLoad(4, regAX, regSI, 0)
	g.tileLoad(6, regDX, regSI, 0)
	ahead("DX", 0)
	g.tileDot(0, 4, 6)
	g.tileLoad(7, regBX, regSI, 0)
	ahead("DX", 1)
	g.tileDot(1, 4, 7)
	g.tileLoad(5, regCX, regSI, 0)
	ahead("BX", 0)
	g.tileDot(2, 5, 6)
	ahead("BX", 1)
	g.tileDot(3, 5, 7)
	for _, r := range []string{"AX", "CX", "DX", "BX"} {
		g.f("ADDQ $1024, %s", r)
	}
	g.f("DECQ R15")
	g.f("JNZ %s", steps)
	each(func(tile, base, disp int) { g.tileStore(tile, base, regR9, disp) })
	g.f("LEAQ (R11)(R12*2), R11")
	g.f("ADDQ $128, DI")
	g.f("DECQ R13")
	g.f("JNZ %s", columns)
	g.tileRelease()
	g.f("RET")
}

// packTileRows writes the packing of rows of A, whose k is contiguous: tiles of 16 rows × 32 k one behind the other.
func (g *gen) packTileRows() {
	g.function("packTileRowsAMX", "dst *float32, src *float32, srcStride, rows, k int", "",
		"rounds rows ≤ 16 rows of k numbers, srcStride bytes apart, to bf16, in tiles of 32 k; the last is filled with zeros")
	g.load("dst", "DI")
	g.load("src", "SI")
	g.load("srcStride", "R9")
	g.load("rows", "R10")
	row, loop, tail, next := g.newLabel("row"), g.newLabel("loop"), g.newLabel("tail"), g.newLabel("next")
	g.label(row)
	g.load("k", "BX")
	g.f("MOVQ SI, R8")
	g.f("MOVQ DI, R11")
	g.label(loop)
	g.f("SUBQ $32, BX")
	g.f("JLT %s", tail)
	g.f("VMOVUPS (R8), Z0")
	g.f("VMOVUPS 64(R8), Z1")
	g.roundBF16(1, 0, 2)
	g.f("VMOVUPS Z2, (R11)")
	g.f("ADDQ $128, R8")
	g.f("ADDQ $1024, R11")
	g.f("JMP %s", loop)
	g.label(tail)
	g.f("ADDQ $32, BX")
	g.f("JZ %s", next)
	g.halfMasks()
	g.f("VMOVUPS.Z (R8), K1, Z0")
	g.f("VMOVUPS.Z 64(R8), K2, Z1")
	g.roundBF16(1, 0, 2)
	g.f("VMOVUPS Z2, (R11)")
	g.label(next)
	g.f("ADDQ R9, SI")
	g.f("ADDQ $64, DI")
	g.f("DECQ R10")
	g.f("JNZ %s", row)
	g.ret()
}

// transposeTiles writes the step from columns of pairs, as packCopyBF16 leaves them, to the rows of pairs that A wants.
func (g *gen) transposeTiles() {
	g.function("transposeTilesAVX512", "x *float32, n int", "", "transposes n squares of 16 × 16 elements, one behind the other, in place")
	g.load("x", "SI")
	g.load("n", "CX")
	loop := g.newLabel("loop")
	g.label(loop)
	for i := range 16 {
		g.f("VMOVUPS %d(SI), Z%d", 64*i, i)
	}
	g.transpose()
	for i := range 16 {
		g.f("VMOVUPS Z%d, %d(SI)", i, 64*i)
	}
	g.f("ADDQ $1024, SI")
	g.f("DECQ CX")
	g.f("JNZ %s", loop)
	g.ret()
}

// peakTiles writes the peak of the tiles' products, in as many chains as hide their latency.
func (g *gen) peakTiles() {
	g.function("peakTilesAMX", "n int", "", "runs n turns of 12 products of tiles, 8,192 multiply-adds each")
	g.tileConfigure()
	g.load("n", "CX")
	for tile := range 8 {
		g.tileZero(tile)
	}
	loop := g.newLabel("loop")
	g.label(loop)
	for i := range 12 {
		g.tileDot(i%6, 6, 7)
	}
	g.f("DECQ CX")
	g.f("JNZ %s", loop)
	g.tileRelease()
	g.f("RET")
}
