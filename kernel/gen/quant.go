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
// bytes after the last. Kernels of pairs read a second panel, between bytes after the first, for columns of y 16 further on. For each line of w, one of
// at, and one between bytes after it, is brought into the second cache; at walks by step bytes then. NEON's kernels fetch nothing.
const panelParams = "k int, w *byte, between int, x *byte, ldx int, y *float32, ldy int, at uintptr, step int"

// paramNames are the names in a list of parameters.
func paramNames(params string) string {
	var names []string
	for _, p := range strings.Split(params, ", ") {
		names = append(names, strings.Fields(p)[0])
	}
	return strings.Join(names, ", ")
}

// quantPanels writes the kernels of narrow panels, one for each number of rows.
func (g *gen) quantPanels() {
	if g.lanes == 16 {
		g.perRows("panelQ8", 4, func(n int) { g.panelVNNI(n, 1, 8) })
		g.perRows("panelQ4", 8, func(n int) { g.panelVNNI(n, 1, 4) })
		g.perRows("pairQ8", 4, func(n int) { g.panelVNNI(n, 2, 8) })
		g.perRows("pairQ4", 6, func(n int) { g.panelVNNI(n, 2, 4) })
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
		fmt.Fprintf(&cases, "\tcase %d:\n\t\t%s_%d(%s)\n", n, name, n, paramNames(panelParams))
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
	if g.lanes == 16 {
		g.load("between", "R11")
	}
	g.load("step", "R12")
	g.load("at", "R13")
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

// panelVNNI is the AVX-512 kernel: one dot product instruction for 4 k of 16 rows of a panel, sums of a group in int32, then one multiply-add.
// The sums of q8's high bytes come to those of the low ones, which begin with the offset. Of two panels, both take a number of x that is loaded
// once: with many rows, loading one for each product would take as long as the products.
func (g *gen) panelVNNI(n, panels, bits int) {
	const mask = 31
	block, group := panelBlock(bits), quantGroup(bits)
	r := vnniRegs{n, panels, bits / 4}
	panel := func(o, p int) string { return fmt.Sprintf("%d(BX)", o) + []string{"", "(R11*1)"}[p] }
	r.eachAcc(g, func(acc int, y string) { g.f("VMOVUPS %s, Z%d", y, acc) })
	if bits == 4 {
		g.f("VMOVUPS %s, Z%d", g.bits("nibbles", 0x0f0f0f0f), mask)
	}
	loop := g.newLabel("loop")
	g.label(loop)
	for half := range 2 {
		x := half * group
		for i := range n {
			g.f("VPBROADCASTD %d%s, Z%d", x+quantOffset(bits), aAddress(i), r.sum(i, 0, 0))
			for p := range panels {
				if p > 0 {
					g.f("VMOVDQA32 Z%d, Z%d", r.sum(i, 0, 0), r.sum(i, p, 0))
				}
				if r.digits > 1 {
					g.zero(r.sum(i, p, 1))
				}
			}
		}
		for t := range bits {
			at := half*(block-64)/2 + t*64
			g.fetch(panels, at)
			w := vnniWeights
			if bits == 8 {
				w += 2 * (t % 2)
			}
			for p := range panels {
				g.f("VMOVDQU32 %s, Z%d", panel(at, p), w+p)
			}
			if bits == 8 {
				for i := range n {
					r.dot(g, i, x+4*t+lowDigits, w, 0)
					r.dot(g, i, x+4*t, w, 1)
				}
				continue
			}
			for p := range panels {
				g.f("VPSRLD $4, Z%d, Z%d", w+p, w+2+p)
				g.f("VPANDD Z%d, Z%d, Z%[2]d", mask, w+p)
				g.f("VPANDD Z%d, Z%d, Z%[2]d", mask, w+2+p)
			}
			for i := range n {
				r.dot(g, i, x+4*t, w, 0)
				r.dot(g, i, x+16+4*t, w+2, 0)
			}
		}
		r.scale(g, x+quantScale(bits), func(p int) string { return panel(block-64+32*half, p) })
	}
	g.fetch(panels, block-64)
	g.advance(n, 2*group, block, 64, loop)
	r.eachAcc(g, func(acc int, y string) { g.f("VMOVUPS Z%d, %s", acc, y) })
	g.ret()
}

// vnniRegs lays out the registers of panelVNNI: for n rows and some panels, sums of integers, one or two of them for the digits of x, and the
// accumulators; then four of weights, and three for numbers of x.
type vnniRegs struct{ n, panels, digits int }

const vnniWeights, vnniX = 24, 28

// sum is that of row i and panel p; d = 1 is of the high bytes.
func (r vnniRegs) sum(i, p, d int) int { return (r.panels*i+p)*r.digits + d }

func (r vnniRegs) acc(i, p int) int { return r.n*r.panels*r.digits + r.panels*i + p }

func (r vnniRegs) eachAcc(g *gen, f func(acc int, y string)) {
	g.eachY(r.n, func(i int, addr string) {
		for p := range r.panels {
			f(r.acc(i, p), fmt.Sprintf("%d%s", 64*p, addr))
		}
	})
}

// dot multiplies 4 k of row i, at x, by the weights in register w and, of a second panel, in the next.
func (r vnniRegs) dot(g *gen, i, x, w, d int) {
	if r.panels == 1 {
		g.f("VPDPBUSD.BCST %d%s, Z%d, Z%d", x, aAddress(i), w, r.sum(i, 0, d))
		return
	}
	t := vnniX + (i*r.digits+d)%3
	g.f("VPBROADCASTD %d%s, Z%d", x, aAddress(i), t)
	for p := range r.panels {
		g.f("VPDPBUSD Z%d, Z%d, Z%d", t, w+p, r.sum(i, p, d))
	}
}

// scale adds the sums of a group, times the scales of x, at x, and of the panels, to the accumulators.
func (r vnniRegs) scale(g *gen, x int, scales func(p int) string) {
	const scale, both = vnniWeights, vnniWeights + 2
	for p := range r.panels {
		g.f("VCVTPH2PS %s, Z%d", scales(p), scale+p)
	}
	for i := range r.n {
		for p := range r.panels {
			s, product := r.sum(i, p, 0), both+(r.panels*i+p)%2
			if r.digits > 1 {
				g.f("VPSLLD $8, Z%d, Z%[1]d", r.sum(i, p, 1))
				g.f("VPADDD Z%d, Z%d, Z%[2]d", r.sum(i, p, 1), s)
			}
			g.f("VCVTDQ2PS Z%d, Z%[1]d", s)
			g.f("VMULPS.BCST %d%s, Z%d, Z%d", x, aAddress(i), scale+p, product)
			g.f("VFMADD231PS Z%d, Z%d, Z%d", product, s, r.acc(i, p))
		}
	}
}

// fetch brings lines of weights that follow into the second cache and, of a panel alone, one that is near to that at offset o into the first.
func (g *gen) fetch(panels, o int) {
	g.f("PREFETCHT1 (R13)")
	if panels > 1 {
		g.f("PREFETCHT1 (R13)(R11*1)")
	} else {
		g.f("PREFETCHT0 %d(BX)", o+fetchNear)
	}
	g.f("ADDQ R12, R13")
}

// fetchNear is the distance at which weights are fetched from the second cache into the first. The first alone cannot wait for as many lines as
// memory's latency asks for. (Zen 5: 4096 is 3 to 5 % faster than 1024; Sapphire Rapids was measured with 1024 only.)
const fetchNear = 4096

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
			g.fetch(1, half*512+t*64)
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
	g.fetch(1, q8Block-64)
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
			g.fetch(1, half*256+t*64)
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
	g.fetch(1, q4Block-64)
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
		g.fetch(1, 128*u)
		g.fetch(1, 128*u+64)
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
				g.fetch(1, 128*u+o)
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
