package main

import (
	"fmt"
	"strings"
)

// The narrow panels. A q8 superblock holds 64 k of 16 rows: 16 times 64 bytes, each 4 k of the 16 rows as q+128, then 2 times 16 f16
// scales. A q4 superblock holds nibbles q+8: for each half of 32 k, 4 times 64 bytes whose low nibbles are 4 k of the 16 rows and whose
// high nibbles are the 4 k 16 further on. A bf16 panel holds 32 rows: [k/2][32][2]. Activations are one row after the other, in groups
// of 32 for q8 and q4: the numbers, the f32 scale, and the int32 that the products' sum begins with, so that the bias of the weights is free.
// The numbers are bytes beside q4 and 16 bits beside q8: where instructions multiply bytes, 32 high ones and then 32 low ones, both signed,
// and elsewhere words, of which each four stand as 0, 2, 1, 3.
const (
	q8Block, q4Block = 1088, 576
	lowDigits        = 32 // from the high bytes of a group to the low ones
)

// panelBlock is the size of a superblock.
func panelBlock(bits int) int { return map[int]int{8: q8Block, 4: q4Block}[bits] }

// quantScale is where the scale of a group of activations beside weights of so many bits stands, quantOffset where the offset does.
func quantScale(bits int) int  { return 8 * bits }
func quantOffset(bits int) int { return quantScale(bits) + 4 }

// quantGroup is the size of a group of activations.
func quantGroup(bits int) int { return quantScale(bits) + 8 }

// panelParams: n rows of y, each ldy bytes after the last, get the products of k columns of the panel w with n rows of x added, each ldx
// bytes after the last. Weights are fetched ahead by so many bytes: with more work to a cache line, the processor's own fetching is late. 0 is
// for weights that are near.
const panelParams = "k int, w, x *byte, ldx int, y *float32, ldy, ahead int"

// quantPanels writes the kernels of narrow panels, one for each number of rows.
func (g *gen) quantPanels() {
	if g.lanes == 16 {
		for _, bits := range []int{8, 4} {
			g.perRows(fmt.Sprintf("panelQ%d", bits), 8, func(n int) { g.panelVNNI(n, bits) })
		}
		g.perRows("panelBF16", 8, g.panelBF16Dot)
		return
	}
	g.perRows("panelQ8", 4, g.panelWords)
	g.perRows("panelQ4", 4, g.panelNibble)
	g.perRows("panelBF16", 4, g.panelWiden)
	g.quantizeRow()
	g.quantizeRow16("Words", g.packWords)
	g.quantizeRow16("Digits", g.packDigits)
	g.brainRow()
}

// perRows writes the kernels for 1…most rows and the function that chooses among them.
func (g *gen) perRows(name string, most int, write func(n int)) {
	name += g.name
	var cases strings.Builder
	for n := 1; n <= most; n++ {
		g.function(fmt.Sprintf("%s_%d", name, n), panelParams, "", "")
		if !g.arm {
			g.panelArgs(n)
		}
		write(n)
		fmt.Fprintf(&cases, "\tcase %d:\n\t\t%s_%d(k, w, x, ldx, y, ldy, ahead)\n", n, name, n)
	}
	fmt.Fprintf(&g.stubs, "\n// %s runs the kernel for n ≤ %d rows.\n", name, most)
	fmt.Fprintf(&g.stubs, "func %s(n, %s) {\n\tswitch n {\n%s\tdefault:\n\t\tpanic(\"kernel: no such panel kernel\")\n\t}\n}\n", name, panelParams, cases.String())
}

// panelArgs loads the arguments of a panel kernel of n rows.
func (g *gen) panelArgs(n int) {
	g.load("k", "CX")
	g.load("w", "BX")
	g.load("x", "AX")
	g.load("ldx", "R8")
	g.load("y", "DI")
	g.load("ldy", "SI")
	g.load("ahead", "R12")
	if n > 3 {
		g.f("LEAQ (R8)(R8*2), R9")
	}
	if n > 5 {
		g.f("LEAQ (AX)(R8*4), R10")
		g.f("ADDQ R8, R10")
	}
}

// advance moves the pointers of x and the weights and loops while k columns are left.
func (g *gen) advance(n, xBytes, wBytes, k int, loop string) {
	g.f("ADDQ $%d, AX", xBytes)
	if n > 5 {
		g.f("ADDQ $%d, R10", xBytes)
	}
	g.f("ADDQ $%d, BX", wBytes)
	g.f("SUBQ $%d, CX", k)
	g.f("JG %s", loop)
}

// eachY calls f with the address of each row of y in turn; DX walks.
func (g *gen) eachY(n int, f func(i int, addr string)) {
	g.f("MOVQ DI, DX")
	for i := range n {
		f(i, "(DX)")
		if i < n-1 {
			g.f("ADDQ SI, DX")
		}
	}
}

// panelVNNI is the AVX-512 kernel: one dot product instruction for 4 k of 16 rows, sums of a group in int32, then one multiply-add. The
// sums of q8's high bytes come to those of the low ones, which begin with the offset.
func (g *gen) panelVNNI(n, bits int) {
	const scales, product, mask = 26, 27, 31
	block, group, sums, digits := panelBlock(bits), quantGroup(bits), n, bits/4
	g.eachY(n, func(i int, addr string) { g.f("VMOVUPS %s, Z%d", addr, i) })
	if bits == 4 {
		g.f("VMOVUPS %s, Z%d", g.bits("nibbles", 0x0f0f0f0f), mask)
	}
	loop := g.newLabel("loop")
	g.label(loop)
	for o := 0; o < block; o += 64 {
		g.fetchTwice(o)
	}
	for half := range 2 {
		x := half * group
		for i := range n {
			g.f("VPBROADCASTD %d%s, Z%d", x+quantOffset(bits), aAddress(i), sums+i)
			if digits > 1 {
				g.zero(sums + n + i)
			}
		}
		dot := func(w, k int) {
			for d := digits - 1; d >= 0; d-- { // the low bytes first
				for i := range n {
					high := digits - 1 - d
					g.f("VPDPBUSD.BCST %d%s, Z%d, Z%d", x+k+d*lowDigits, aAddress(i), w, sums+n*high+i)
				}
			}
		}
		for t := range bits {
			if bits == 8 {
				w := 24 + t%2
				g.f("VMOVDQU32 %d(BX), Z%d", half*512+t*64, w)
				dot(w, 4*t)
				continue
			}
			g.f("VMOVDQU32 %d(BX), Z24", half*256+t*64)
			g.f("VPSRLD $4, Z24, Z25")
			g.f("VPANDD Z%d, Z24, Z24", mask)
			g.f("VPANDD Z%d, Z25, Z25", mask)
			dot(24, 4*t)
			dot(25, 16+4*t)
		}
		g.f("VCVTPH2PS %d(BX), Z%d", block-64+32*half, scales)
		for i := range n {
			if digits > 1 {
				g.f("VPSLLD $8, Z%d, Z%[1]d", sums+n+i)
				g.f("VPADDD Z%d, Z%d, Z%[2]d", sums+n+i, sums+i)
			}
			g.f("VCVTDQ2PS Z%d, Z%[1]d", sums+i)
			g.f("VMULPS.BCST %d%s, Z%d, Z%d", x+quantScale(bits), aAddress(i), scales, product+i%2)
			g.f("VFMADD231PS Z%d, Z%d, Z%d", product+i%2, sums+i, i)
		}
	}
	g.advance(n, 2*group, block, 64, loop)
	g.eachY(n, func(i int, addr string) { g.f("VMOVUPS Z%d, %s", i, addr) })
	g.ret()
}

// yAddress is the address of half h (8 columns) of row i of y in the AVX2 kernels; R11 holds three strides.
func yAddress(i, h int) string {
	return fmt.Sprintf("%d(DI)", 32*h) + []string{"", "(SI*1)", "(SI*2)", "(R11*1)"}[i]
}

// scaleAndAdd turns the int32 sums of row i in registers 2i and 2i+1 into float32 and adds them, times the scale at x, to y. The weights'
// scales are in registers 8 and 9.
func (g *gen) scaleAndAdd(i, x int) {
	g.f("VBROADCASTSS %d%s, Y13", x, aAddress(i))
	for h := range 2 {
		g.f("VCVTDQ2PS Y%d, Y%[1]d", 2*i+h)
		g.f("VMULPS Y13, Y%d, Y14", 8+h)
		g.f("VFMADD213PS %s, Y14, Y%d", yAddress(i, h), 2*i+h)
		g.f("VMOVUPS Y%d, %s", 2*i+h, yAddress(i, h))
	}
}

// fetchTwice fetches the line at offset o of the weights from far ahead into the second cache, and from nearer into the first.
func (g *gen) fetchTwice(o int) {
	g.f("PREFETCHT1 %d(BX)(R12*8)", o)
	g.f("PREFETCHT0 %d(BX)(R12*1)", o)
}

// fetchLine fetches cache line l of the weights ahead.
func (g *gen) fetchLine(l int) { g.f("PREFETCHT0 %d(BX)(R12*1)", 64*l) }

// panelWords is the exact AVX2 kernel for q8: weights with their bias, widened to words once for all rows, times words of x. A sum is at
// most 32·255·32639.
func (g *gen) panelWords(n int) {
	if n > 3 {
		g.f("LEAQ (SI)(SI*2), R11")
	}
	g.f("VMOVDQU %s, Y15", g.bits("lowBytes", 0x00ff00ff))
	loop := g.newLabel("loop")
	g.label(loop)
	for half := range 2 {
		x := half * quantGroup(8)
		for i := range 2 * n {
			g.f("VPBROADCASTD %d%s, Y%d", x+quantOffset(8), aAddress(i/2), i)
		}
		for t := range 8 {
			g.fetchLine(half*8 + t)
			for h := range 2 {
				g.f("VMOVDQU %d(BX), Y%d", half*512+t*64+h*32, 10+h)
				g.f("VPAND Y15, Y%d, Y%d", 10+h, 8+h)
				g.f("VPSRLW $8, Y%d, Y%[1]d", 10+h)
			}
			for i := range n {
				for odd := range 2 {
					g.f("VPBROADCASTD %d%s, Y12", x+8*t+4*odd, aAddress(i))
					for h := range 2 {
						g.f("VPMADDWD Y12, Y%d, Y%d", 8+2*odd+h, 13+h)
					}
					for h := range 2 {
						g.f("VPADDD Y%d, Y%d, Y%[2]d", 13+h, 2*i+h)
					}
				}
			}
		}
		for h := range 2 {
			g.f("VCVTPH2PS %d(BX), Y%d", q8Block-64+32*half+16*h, 8+h)
		}
		for i := range n {
			g.scaleAndAdd(i, x+quantScale(8))
		}
	}
	g.fetchLine(16)
	g.advance(n, 2*quantGroup(8), q8Block, 64, loop)
	g.ret()
}

// panelNibble is the exact AVX2 kernel for q4: nibbles are the unsigned operand, so a pair's sum is at most 2·15·127, and the 8 of a
// group add up in int16.
func (g *gen) panelNibble(n int) {
	if n > 3 {
		g.f("LEAQ (SI)(SI*2), R11")
	}
	g.f("VMOVDQU %s, Y15", g.bits("nibbles", 0x0f0f0f0f))
	loop := g.newLabel("loop")
	g.label(loop)
	for half := range 2 {
		x := half * quantGroup(4)
		first := true
		dot := func(w, k int) {
			for i := range n {
				g.f("VPBROADCASTD %d%s, Y12", x+k, aAddress(i))
				for h := range 2 {
					to := 13 + h
					if first {
						to = 2*i + h
					}
					g.f("VPMADDUBSW Y12, Y%d, Y%d", w+h, to)
				}
				for h := 0; h < 2 && !first; h++ {
					g.f("VPADDW Y%d, Y%d, Y%[2]d", 13+h, 2*i+h)
				}
			}
			first = false
		}
		for t := range 4 {
			g.fetchLine(half*4 + t)
			for h := range 2 {
				g.f("VMOVDQU %d(BX), Y%d", half*256+t*64+h*32, 10+h)
				g.f("VPAND Y15, Y%d, Y%d", 10+h, 8+h)
			}
			for h := range 2 {
				g.f("VPSRLW $4, Y%d, Y%[1]d", 10+h)
				g.f("VPAND Y15, Y%d, Y%[1]d", 10+h)
			}
			dot(8, 4*t)
			dot(10, 16+4*t)
		}
		for h := range 2 {
			g.f("VCVTPH2PS %d(BX), Y%d", q4Block-64+32*half+16*h, 8+h)
		}
		for i := range n {
			g.f("VPBROADCASTD %d%s, Y12", x+quantOffset(4), aAddress(i))
			for h := range 2 {
				g.f("VPMADDWD %s, Y%d, Y%[2]d", g.bits("words1", 0x00010001), 2*i+h)
				g.f("VPADDD Y12, Y%d, Y%[1]d", 2*i+h)
			}
			g.scaleAndAdd(i, x+quantScale(4))
		}
	}
	g.fetchLine(8)
	g.advance(n, 2*quantGroup(4), q4Block, 64, loop)
	g.ret()
}

// panelBF16Dot is the kernel for processors that multiply bf16: two accumulators of 16 columns a row.
func (g *gen) panelBF16Dot(n int) {
	g.eachY(n, func(i int, addr string) {
		g.f("VMOVUPS %s, Z%d", addr, 2*i)
		g.f("VMOVUPS 64%s, Z%d", addr, 2*i+1)
	})
	loop := g.newLabel("loop")
	g.label(loop)
	const pairs = 4
	for u := range pairs {
		g.fetchTwice(128 * u)
		g.fetchTwice(128*u + 64)
		w := 24 + 2*(u%2)
		g.f("VMOVDQU32 %d(BX), Z%d", 128*u, w)
		g.f("VMOVDQU32 %d(BX), Z%d", 128*u+64, w+1)
		for i := range n {
			t := 28 + i%4
			g.f("VPBROADCASTD %d%s, Z%d", 4*u, aAddress(i), t)
			g.dotBF16(t, w, 2*i)
			g.dotBF16(t, w+1, 2*i+1)
		}
	}
	g.advance(n, 4*pairs, 128*pairs, 2*pairs, loop)
	g.eachY(n, func(i int, addr string) {
		g.f("VMOVUPS Z%d, %s", 2*i, addr)
		g.f("VMOVUPS Z%d, 64%s", 2*i+1, addr)
	})
	g.ret()
}

// panelWiden is the AVX2 kernel for bf16: both operands are widened to float32, one multiply-add an element, in k order. Up to two rows
// take all 32 columns at a time and keep x; more take 16, twice, and keep the weights.
func (g *gen) panelWiden(n int) {
	vecs := 4
	if n > 2 {
		vecs = 2
	}
	if n > 3 {
		g.f("LEAQ (SI)(SI*2), R11")
	}
	for v0 := 0; v0 < 4; v0 += vecs {
		each := func(f func(acc, i, v int)) {
			for i := range n {
				for v := range vecs {
					f(i*vecs+v, i, v0+v)
				}
			}
		}
		if v0 > 0 {
			g.load("k", "CX")
			g.load("w", "BX")
			g.load("x", "AX")
		}
		each(func(acc, i, v int) { g.f("VMOVUPS %s, Y%d", yAddress(i, v), acc) })
		loop := g.newLabel("loop")
		g.label(loop)
		const pairs = 2
		for u := range pairs {
			for o := 0; o < 128 && v0 == 0; o += 64 {
				g.f("PREFETCHT0 %d(BX)(R12*1)", 128*u+o)
			}
			weight := func(v, even, odd int) { g.widen(fmt.Sprintf("VMOVDQU %d(BX)", 128*u+32*(v0+v)), even, odd) }
			row := func(i, even, odd int) { g.widen(fmt.Sprintf("VPBROADCASTD %d%s", 4*u, aAddress(i)), even, odd) }
			g.widenedPair(n, vecs, row, weight)
		}
		g.advance(n, 4*pairs, 128*pairs, 2*pairs, loop)
		each(func(acc, i, v int) { g.f("VMOVUPS Y%d, %s", acc, yAddress(i, v)) })
	}
	g.ret()
}

// widen loads pairs of bf16 and makes float32 of the first and of the second of each.
func (g *gen) widen(load string, even, odd int) {
	g.f("%s, Y%d", load, odd)
	g.f("VPSLLD $16, Y%d, Y%d", odd, even)
	g.f("VPAND %s, Y%d, Y%[2]d", g.bits("highWords", 0xffff0000), odd)
}

// widenedPair multiplies two k of n rows and vecs vectors of columns; the operand with more users waits in registers 8…11.
func (g *gen) widenedPair(n, vecs int, row, weight func(i, even, odd int)) {
	if n <= 2 {
		for i := range n {
			row(i, 8+2*i, 9+2*i)
		}
		for v := range vecs {
			weight(v, 12+v%2*2, 13+v%2*2)
			for e := range 2 {
				for i := range n {
					g.f("VFMADD231PS Y%d, Y%d, Y%d", 8+2*i+e, 12+v%2*2+e, i*vecs+v)
				}
			}
		}
		return
	}
	for v := range vecs {
		weight(v, 8+2*v, 9+2*v)
	}
	for i := range n {
		row(i, 12+i%2*2, 13+i%2*2)
		for e := range 2 {
			for v := range vecs {
				g.f("VFMADD231PS Y%d, Y%d, Y%d", 12+i%2*2+e, 8+2*v+e, i*vecs+v)
			}
		}
	}
}
