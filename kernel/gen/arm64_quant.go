package main

import "fmt"

// The products of narrow panels on arm64 (layouts in quant.go). Integers are summed exactly, so all paths agree in all bits.
//
// R0 counts k, R1 points at the weights, R2 at their scales, R4…R7 at the rows of x, R9…R12 at the rows of y; R13 is the stride of x, R14 that of y.

const neonPanelRows = 4

func (g *gen) neonQuant() {
	for _, bits := range []int{8, 4} {
		digits := bits / 4
		g.perRows(fmt.Sprintf("panelQ%dDot", bits), neonPanelRows/digits, func(n int) { g.neonPanel(n, bits, 2, g.neonDot) })
		g.perRows(fmt.Sprintf("panelQ%dLong", bits), 2/digits, func(n int) { g.neonPanel(n, bits, 1, g.neonLong) })
	}
	g.perRows("panelQ8Mixed", neonPanelRows/2, func(n int) { g.neonPanel(n, 8, 2, g.neonMixed) })
	g.perRows("panelBF16", neonPanelRows, g.neonWiden)
	g.neonQuantizeRow()
	g.neonQuantizeDigits()
	g.neonBrainRow()
}

// neonPanelArgs loads the arguments of a panel kernel of n rows.
func (g *gen) neonPanelArgs(n int) {
	for _, a := range [][2]string{{"k", "R0"}, {"w", "R1"}, {"x", "R4"}, {"ldx", "R13"}, {"y", "R9"}, {"ldy", "R14"}} {
		g.f("MOVD %s, %s", g.args[a[0]], a[1])
	}
	for i := 1; i < n; i++ {
		g.f("ADD R13, R%d, R%d", 3+i, 4+i)
		g.f("ADD R14, R%d, R%d", 8+i, 9+i)
	}
}

// neonYs loads or stores vecs registers of each row of y, from register first on, at an offset.
func (g *gen) neonYs(store bool, n, vecs, first, offset int) {
	for i := range n {
		for v := 0; v < vecs; v += 2 {
			r := first + i*vecs + v
			if store {
				g.f("FSTPQ (F%d, F%d), %d(R%d)", r, r+1, offset+16*v, 9+i)
			} else {
				g.f("FLDPQ %d(R%d), (F%d, F%d)", offset+16*v, 9+i, r, r+1)
			}
		}
	}
}

// neonRegsQuant is the assignment of registers in a kernel of q8 or q4: four sums a row from 0 on, two registers of x a row, four of
// weights, and with few rows four of y a row.
type neonRegsQuant struct{ x, w, y, mask int }

// neonPanel is a kernel of q8 or q4. dot adds the products of a group, 32 k of 16 columns, of weights that are signed (but see neonMixed): q8 loses its bias by
// flipping the top bit, and the bias of q4 is in the offset that its sums begin with. dot takes the high and the low bytes of a row of q8 as two
// rows. Up to few of these, y stays in registers.
func (g *gen) neonPanel(n, bits, few int, dot func(n, bits int, r neonRegsQuant)) {
	block, group, digits := panelBlock(bits), quantGroup(bits), bits/4
	byteRows := n * digits
	r := neonRegsQuant{x: 4 * byteRows, w: 6 * byteRows, y: 6*byteRows + 4, mask: 31}
	inRegs := byteRows <= few
	g.neonPanelArgs(n)
	g.f("ADD $%d, R1, R2", block-64)
	g.f("MOVD $constants<>(SB), R16")
	mask := g.bits("nibbles", 0x0f0f0f0f)
	if bits == 8 {
		mask = g.bits("bytes80", 0x80808080)
	}
	g.f("FMOVQ %s, F%d", mask, r.mask)
	if inRegs {
		g.neonYs(false, n, 4, r.y, 0)
	}
	loop := g.newLabel("loop")
	g.f("PCALIGN $16")
	g.label(loop)
	for half := range 2 {
		for i := range byteRows {
			g.f("FLDPQ %d(R%d), (F%d, F%d)", i%digits*lowDigits, 4+i/digits, r.x+2*i, r.x+2*i+1)
		}
		dot(byteRows, bits, r)
		g.f("FLDPQ %d(R2), (F%d, F%d)", 32*half, r.w, r.w+2)
		for v := 2; v >= 0; v -= 2 {
			g.w("fcvtl2", r.w+v+1, r.w+v)
			g.w("fcvtl", r.w+v, r.w+v)
		}
		for i := range n {
			y := r.y + 4*i
			if !inRegs { // x is no longer needed
				y = r.x
				g.f("FLDPQ (R%d), (F%d, F%d)", 9+i, y, y+1)
				g.f("FLDPQ 32(R%d), (F%d, F%d)", 9+i, y+2, y+3)
			}
			const scale, product = 30, 29
			g.f("FMOVS %d(R%d), F%d", quantScale(bits), 4+i, scale)
			for v := range 4 {
				sum := 4*i*digits + v
				if digits > 1 {
					g.f("VSHL $8, V%d.S4, V%[1]d.S4", sum)
					g.f("VADD V%d.S4, V%d.S4, V%[2]d.S4", sum+4, sum)
				}
				g.w("scvtf", sum, sum)
				g.w("fmul element", product, r.w+v, scale, 0)
				g.f("VFMLA V%d.S4, V%d.S4, V%d.S4", product, sum, y+v)
			}
			if !inRegs {
				g.f("FSTPQ (F%d, F%d), (R%d)", y, y+1, 9+i)
				g.f("FSTPQ (F%d, F%d), 32(R%d)", y+2, y+3, 9+i)
			}
			g.f("ADD $%d, R%d", group, 4+i)
		}
	}
	g.f("ADD $64, R1")
	g.f("ADD $%d, R2", block)
	g.f("SUBS $64, R0")
	g.f("BGT %s", loop)
	if inRegs {
		g.neonYs(true, n, 4, r.y, 0)
	}
	g.ret()
}

// neonSums begins the four sums of each row of bytes: with the offset where weights have their bias, else with zero. The high bytes of q8 begin
// with zero.
func (g *gen) neonSums(n, bits int, biased bool) {
	digits := bits / 4
	for i := range n {
		biased := biased && i%digits == digits-1
		if biased {
			g.f("MOVWU %d(R%d), R17", quantOffset(bits), 4+i/digits)
		}
		for v := range 4 {
			if biased {
				g.f("VDUP R17, V%d.S4", 4*i+v)
			} else {
				g.zero(4*i + v)
			}
		}
	}
}

// neonDot multiplies by SDOT: a register of weights is 4 k of 4 columns, and an element of x the same 4 k.
func (g *gen) neonDot(n, bits int, r neonRegsQuant) {
	g.neonSums(n, bits, bits == 4)
	dot := func(v, w, x, element int) {
		for i := range n {
			g.w("sdot", 4*i+v, w, r.x+2*i+x, element)
		}
	}
	for t := range bits {
		for v := 0; v < 4; v += 2 {
			g.f("FLDPQ.P 32(R1), (F%d, F%d)", r.w, r.w+1)
			for h := range 2 {
				w := r.w + h
				if bits == 8 {
					g.f("VEOR V%d.B16, V%d.B16, V%[2]d.B16", r.mask, w)
					dot(v+h, w, t/4, t%4)
					continue
				}
				g.f("VUSHR $4, V%d.B16, V%d.B16", w, w+2)
				g.f("VAND V%d.B16, V%d.B16, V%[2]d.B16", r.mask, w)
				dot(v+h, w, 0, t)
				dot(v+h, w+2, 1, t)
			}
		}
	}
}

// neonMixed multiplies q8 by USDOT, which takes the weights as they are, unsigned with their bias.
func (g *gen) neonMixed(n, bits int, r neonRegsQuant) {
	g.neonSums(n, bits, true)
	for t := range 8 {
		for v := 0; v < 4; v += 2 {
			g.f("FLDPQ.P 32(R1), (F%d, F%d)", r.w+v, r.w+v+1)
		}
		for v := range 4 {
			for i := range n {
				g.w("usdot", 4*i+v, r.w+v, r.x+2*i+t/4, t%4)
			}
		}
	}
}

// neonLong multiplies without SDOT, one row after another: two products of bytes, at most 2·128·127, fit int16; their pairs are added to
// int32, and the pairs of a column to each other at the end. With the weights read again for each row, it needs no more than 8 sums.
func (g *gen) neonLong(n, bits int, r neonRegsQuant) {
	const pairs, products, xs = 20, 28, 30 // 8 sums of pairs, 2 products, x of two times 4 k; the weights in between
	const w = 16
	for i := range n {
		g.f("MOVD R1, R3")
		for v := range 8 {
			g.zero(pairs + v)
		}
		for t := 0; t < 8; t += 2 {
			x := r.x + 2*i
			first, second := [2]int{x + t/4, t % 4}, [2]int{x + (t+1)/4, (t + 1) % 4}
			if bits == 4 { // low nibbles are 4 k, high ones the 4 k 16 further on
				first, second = [2]int{x, t / 2}, [2]int{x + 1, t / 2}
			}
			g.f("VDUP V%d.S[%d], V%d.S4", first[0], first[1], xs)
			for v := range 4 {
				g.neonLongWeights(bits, v, w, r.mask)
				if v == 0 {
					g.f("VDUP V%d.S[%d], V%d.S4", second[0], second[1], w+2)
				}
				for h, suffix := range []string{"", "2"} {
					g.w("smull"+suffix, products+h, w, xs)
					g.w("smlal"+suffix, products+h, w+1, w+2)
				}
				for h := range 2 {
					g.w("sadalp", pairs+2*v+h, products+h)
				}
			}
			if bits == 8 {
				g.f("ADD $128, R3")
			} else {
				g.f("ADD $64, R3")
			}
		}
		for v := range 4 {
			g.f("VADDP V%d.S4, V%d.S4, V%d.S4", pairs+2*v+1, pairs+2*v, 4*i+v)
		}
	}
	if bits == 4 {
		for i := range n {
			g.f("MOVWU %d(R%d), R17", quantOffset(bits), 4+i)
			g.f("VDUP R17, V%d.S4", products)
			for v := range 4 {
				g.f("VADD V%d.S4, V%d.S4, V%[2]d.S4", products, 4*i+v)
			}
		}
	}
	g.f("ADD $%d, R1", bits*64)
}

// neonLongWeights loads, at R3, vector v of the weights of two times 4 k into registers w and w+1.
func (g *gen) neonLongWeights(bits, v, w, mask int) {
	g.f("FMOVQ %d(R3), F%d", 16*v, w)
	if bits == 8 {
		g.f("FMOVQ %d(R3), F%d", 64+16*v, w+1)
		g.f("VEOR V%d.B16, V%d.B16, V%[2]d.B16", mask, w)
		g.f("VEOR V%d.B16, V%d.B16, V%[2]d.B16", mask, w+1)
		return
	}
	g.f("VUSHR $4, V%d.B16, V%d.B16", w, w+1)
	g.f("VAND V%d.B16, V%d.B16, V%[2]d.B16", mask, w)
}

// neonWiden is the kernel for bf16: both operands are widened to float32, one multiply-add an element, in k order. Up to two rows take all
// 32 columns at a time; more take 16, twice.
func (g *gen) neonWiden(n int) {
	vecs := 8
	if n > 2 {
		vecs = 4
	}
	const mask = 31
	x := n * vecs // even and odd k of a row's 8
	w := x + 2*n  // two registers
	for v0 := 0; v0 < 8; v0 += vecs {
		g.neonPanelArgs(n)
		g.f("MOVD $constants<>(SB), R16")
		g.f("FMOVQ %s, F%d", g.bits("highWords", 0xffff0000), mask)
		g.neonYs(false, n, vecs, 0, 16*v0)
		if v0 > 0 {
			g.f("ADD $%d, R1", 16*v0)
		}
		loop := g.newLabel("loop")
		g.f("PCALIGN $16")
		g.label(loop)
		for i := range n {
			g.f("FMOVQ.P 16(R%d), F%d", 4+i, x+2*i+1)
			g.neonPair(x+2*i, mask)
		}
		for u := range 4 {
			for v := range vecs {
				e := w + v%2*2
				if e+1 >= mask {
					e = w
				}
				g.f("FMOVQ %d(R1), F%d", 128*u+16*v, e+1)
				g.neonPair(e, mask)
				for odd := range 2 {
					for i := range n {
						g.w("fmla", i*vecs+v, e+odd, x+2*i+odd, u)
					}
				}
			}
		}
		g.f("ADD $512, R1")
		g.f("SUBS $8, R0")
		g.f("BGT %s", loop)
		g.neonYs(true, n, vecs, 0, 16*v0)
	}
	g.ret()
}

// neonPair makes float32 of pairs of bf16 in register r+1: of the first of each in r, of the second in r+1.
func (g *gen) neonPair(r, mask int) {
	g.f("VSHL $16, V%d.S4, V%d.S4", r+1, r)
	g.f("VAND V%d.B16, V%d.B16, V%[2]d.B16", mask, r+1)
}

// neonQuantizeRow is quantizeRow.
func (g *gen) neonQuantizeRow() {
	g.function("quantizeRowNEON", "dst *byte, x *float32, groups int", "", "writes groups of 32 of x as 32 bytes q, their scale and -8·Σq")
	g.neonQuantizeGroups(4, 127, func() { g.neonPackBytes(1, 0) })
}

// neonQuantizeDigits is quantizeRow16 with packDigits: a low byte stands for itself less 256 where it is negative, which rounding the high ones makes up for.
func (g *gen) neonQuantizeDigits() {
	g.function("quantizeDigitsNEON", "dst *byte, x *float32, groups int", "", "writes groups of 32 of x as 16 bits q each, their scale and -128·Σq")
	g.neonQuantizeGroups(8, 32639, func() {
		g.neonPackBytes(1, lowDigits)
		g.f("FMOVQ %s, F20", g.bits("words128", 0x00800080))
		for v := range 4 {
			g.f("VADD V20.H8, V%d.H8, V%[1]d.H8", 8+v)
		}
		g.neonPackBytes(2, 0)
	})
}

// neonPackBytes writes the low bytes (1) or the high ones (2) of the words in registers 8…11.
func (g *gen) neonPackBytes(which, at int) {
	for v := range 2 {
		g.f("VUZP%d V%d.B16, V%d.B16, V%d.B16", which, 9+2*v, 8+2*v, 16+v)
	}
	g.f("FSTPQ (F16, F17), %d(R0)", at)
}

// neonQuantizeGroups is quantizeGroups; the numbers are words in registers 8…11.
func (g *gen) neonQuantizeGroups(bits, most int, pack func()) {
	for i, name := range []string{"dst", "x", "groups"} {
		g.f("MOVD %s, R%d", g.args[name], i)
	}
	g.f("MOVD $constants<>(SB), R16")
	const zero, tiny, inverse, all, scale = 28, 29, 30, 31, 21
	g.zero(zero)
	g.f("FMOVQ %s, F%d", g.bits("quantTiny", 0x0d800000), tiny)
	g.f("FMOVQ %s, F%d", g.constant(fmt.Sprintf("inverse%d", most), 1/float64(most)), inverse)
	g.f("FMOVQ %s, F%d", g.constant(fmt.Sprintf("all%d", most), float64(most)), all)
	loop := g.newLabel("loop")
	g.label(loop)
	for v := 0; v < 8; v += 2 {
		g.f("FLDPQ.P 32(R1), (F%d, F%d)", v, v+1)
	}
	for v := range 8 {
		g.w("fabs", 8+v, v)
	}
	for step := 4; step > 0; step /= 2 {
		for v := range step {
			g.w("smax", 8+v, 8+v, 8+v+step)
		}
	}
	g.w("smaxv", 16, 8)
	g.f("FDIVS F16, F%d, F17", all)
	g.f("FMULS F16, F%d, F%d", inverse, scale)
	g.f("FSUBS F%d, F%[1]d, F19", scale)
	g.f("FADDS F19, F%d, F%[1]d", scale)
	g.f("FCMPS F%d, F16", tiny)
	g.f("FCSELS MI, F%d, F17, F17", zero)
	g.f("FCSELS MI, F%d, F%d, F%[2]d", zero, scale)
	for v := range 8 {
		g.w("fmul element", v, v, 17, 0)
		g.w("fcvtns", v, v)
	}
	for v := range 4 {
		g.f("VADD V%d.S4, V%d.S4, V%d.S4", v, v+4, 8+v)
	}
	g.f("VADD V8.S4, V9.S4, V8.S4")
	g.f("VADD V10.S4, V11.S4, V10.S4")
	g.f("VADD V8.S4, V10.S4, V8.S4")
	g.w("addv", 8, 8)
	g.f("FMOVS F8, R4")
	g.f("LSLW $%d, R4, R4", bits-1)
	g.f("NEGW R4, R4")
	for v := range 4 { // the numbers fit words: their low halves
		g.f("VUZP1 V%d.H8, V%d.H8, V%d.H8", 2*v+1, 2*v, 8+v)
	}
	pack()
	g.f("FMOVS F%d, %d(R0)", scale, quantScale(bits))
	g.f("MOVW R4, %d(R0)", quantOffset(bits))
	g.f("ADD $%d, R0", quantGroup(bits))
	g.f("SUBS $1, R2")
	g.f("BNE %s", loop)
	g.ret()
}

// neonBrainRow rounds float32 to bf16, to nearest even; a NaN becomes the quiet NaN.
func (g *gen) neonBrainRow() {
	g.function("brainRowNEON", "dst *byte, x *float32, n int", "", "sets dst[i] = bf16(x[i]); n > 0 is a multiple of 16")
	for i, name := range []string{"dst", "x", "n"} {
		g.f("MOVD %s, R%d", g.args[name], i)
	}
	g.f("MOVD $constants<>(SB), R16")
	const one, half, nan = 29, 30, 31
	g.f("FMOVQ %s, F%d", g.bits("one32", 1), one)
	g.f("FMOVQ %s, F%d", g.bits("roundHalf", 0x7fff), half)
	g.f("FMOVQ %s, F%d", g.bits("quietNaN32", 0x7fc00000), nan)
	loop := g.newLabel("loop")
	g.label(loop)
	for v := 0; v < 4; v += 2 {
		g.f("FLDPQ.P 32(R1), (F%d, F%d)", v, v+1)
	}
	for v := range 4 {
		g.w("fcmeq", 4+v, v, v)
		g.f("VUSHR $16, V%d.S4, V%d.S4", v, 8+v)
		g.f("VAND V%d.B16, V%d.B16, V%[2]d.B16", one, 8+v)
		g.f("VADD V%d.S4, V%d.S4, V%[2]d.S4", half, 8+v)
		g.f("VADD V%d.S4, V%d.S4, V%[2]d.S4", 8+v, v)
		g.f("VBIF V%d.B16, V%d.B16, V%d.B16", 4+v, nan, v)
	}
	for v := range 2 {
		g.f("VUZP2 V%d.H8, V%d.H8, V%d.H8", 2*v+1, 2*v, 16+v)
	}
	g.f("FSTPQ (F16, F17), (R0)")
	g.f("ADD $32, R0")
	g.f("SUBS $16, R2")
	g.f("BGT %s", loop)
	g.ret()
}
