package main

import "strings"

// rstd turns the sum in fixed register 0 into 1/√(sum/n + eps), stores it as the result and broadcasts it; len is the argument that n
// is the length of.
func (g *gen) rstd(length string) {
	x := g.reduce("VADDPS", 0)
	g.load("len "+length, "CX")
	if g.arm {
		g.neonRstd()
		return
	}
	g.f("VXORPS X1, X1, X1")
	g.f("VCVTSI2SSQ CX, X1, X1")
	g.f("VDIVSS X1, %s, %[1]s", x)
	g.f("VADDSS %s, %s, %[2]s", g.args["eps"], x)
	g.f("VSQRTSS %s, %[1]s, %[1]s", x)
	g.f("VMOVSS %s, X0", g.constant("one", 1))
	g.f("VDIVSS %s, X0, %[1]s", x)
	g.f("VMOVSS %s, %s", x, g.args["ret"])
	g.f("VBROADCASTSS %s, %s", x, g.v(fixed(g.pin(0))))
}

// normGradScalars turns the sum of dy·w·v in fixed register 0 into rstd³·sum/n, broadcast, and puts rstd into fixed register 1: with v the
// normalised vector's input, dv = rstd·dy·w - v·(rstd³·sum/n).
func (g *gen) normGradScalars(length string) {
	x := g.reduce("VADDPS", 0)
	g.load("len "+length, "CX")
	if g.arm {
		g.neonNormGrad()
		g.broadcastArg("rstd", 1)
		return
	}
	g.f("VXORPS X1, X1, X1")
	g.f("VCVTSI2SSQ CX, X1, X1")
	g.f("VDIVSS X1, %s, %[1]s", x)
	g.f("VMOVSS %s, X0", g.args["rstd"])
	g.f("VMULSS X0, X0, X1")
	g.f("VMULSS X0, X1, X1")
	g.f("VMULSS X1, %s, %[1]s", x)
	g.f("VBROADCASTSS %s, %s", x, g.v(fixed(g.pin(0))))
	g.broadcastArg("rstd", 1)
}

func (g *gen) norms() {
	g.function("rmsNormRow"+g.name, "y, x, w []float32, eps float32", "float32", "")
	g.streams("y", "x", "w")
	g.clearPins(0, 4)
	g.elements(4, 4, func(b *body) { x := b.load("SI"); b.accumulate(g.pin(b.copy), x, x) })
	g.sumPins("VADDPS", 0, 4)
	g.rstd("y")
	g.elements(4, 1, func(b *body) { b.store(b.mul(b.mul(b.load("SI"), g.pin(0)), b.load("R8")), "DI") })
	g.ret()

	g.function("rmsNormGradRow"+g.name, "dx, dw, dy, x, w []float32, rstd float32", "", "")
	g.streams("dx", "dw", "dy", "x", "w")
	g.clearPins(0, 4)
	g.elements(4, 4, func(b *body) { b.accumulate(g.pin(b.copy), b.mul(b.load("R8"), b.load("R10")), b.load("R9")) })
	g.sumPins("VADDPS", 0, 4)
	g.normGradScalars("dx")
	g.elements(2, 2, func(b *body) {
		dy, x := b.load("R8"), b.load("R9")
		dys := b.mul(dy, g.pin(1))
		b.store(b.fma(dys, x, b.load("SI")), "SI")
		dx := b.fma(dys, b.load("R10"), b.load("DI"))
		b.store(b.fnma(x, g.pin(0), dx), "DI")
	})
	g.ret()
	g.gatedGroup()
	g.gatedGroupGrad()
	if !g.arm { // four lanes hold half of a group of eight
		g.gatedRow8()
		g.gatedRow8Grad()
	}
}

// gatedGroup is one group of GatedRMSNorm.
func (g *gen) gatedGroup() {
	g.function("gatedGroup"+g.name, "y, x, z, w []float32, eps float32", "float32", "")
	g.streams("y", "x", "z", "w")
	chains := g.unroll(4, 2)
	g.clearPins(0, chains)
	g.elements(chains, chains, func(b *body) {
		z := b.load("R8")
		v := b.mul(b.mul(z, b.sigmoid(z)), b.load("SI"))
		b.store(v, "DI")
		b.accumulate(g.pin(b.copy), v, v)
	})
	g.sumPins("VADDPS", 0, chains)
	g.rstd("y")
	g.elements(4, 1, func(b *body) { b.store(b.mul(b.mul(b.load("DI"), g.pin(0)), b.load("R9")), "DI") })
	g.ret()
}

const gatedGradParams = "dx, dz, dw, dy, x, z, w []float32, rstd "

func (g *gen) gatedGroupGrad() {
	g.function("gatedGroupGrad"+g.name, gatedGradParams+"float32", "", "")
	g.streams("dx", "dz", "dw", "dy", "x", "z", "w")
	chains := g.unroll(4, 1)
	g.clearPins(0, chains)
	g.elements(chains, chains, func(b *body) {
		z := b.load("R11")
		v := b.mul(b.mul(z, b.sigmoid(z)), b.load("R10"))
		b.accumulate(g.pin(b.copy), b.mul(b.load("R9"), b.load("R12")), v)
	})
	g.sumPins("VADDPS", 0, chains)
	g.normGradScalars("dx")
	g.elements(g.unroll(2, 1), 2, func(b *body) {
		z := b.load("R11")
		silu, slope := b.siluSlope(z)
		b.gatedGradEnd(silu, slope, b.load("R10"), b.load("R9"), g.pin(1), func(val, val) val { return g.pin(0) })
	})
	g.ret()
}

// gatedGradEnd adds the gradients of one vector: dv is the gradient of v = x·silu(z); coefficient, which gets dy·w·v and rstd, is
// rstd³/p times the sum of dy·w·v over the group.
func (b *body) gatedGradEnd(silu, slope, x, dy, rstd val, coefficient func(dyw, v val) val) {
	v := b.mul(x, silu)
	dyw := b.mul(dy, b.load("R12"))
	c := coefficient(dyw, v)
	dys := b.mul(dy, rstd)
	b.store(b.fma(dys, v, b.load("R8")), "R8")
	dv := b.fnma(v, c, b.mul(dyw, rstd))
	b.store(b.fma(dv, silu, b.load("DI")), "DI")
	b.store(b.fma(b.mul(dv, x), slope, b.load("SI")), "SI")
}

// sumOf8 gives every lane the sum of the eight lanes that its group of eight holds.
func (b *body) sumOf8(x val) val {
	for _, imm := range []string{"$0xb1", "$0x4e"} {
		x = b.add(b.unary("VPERMILPS "+imm+",", x), x)
	}
	if b.lanes == 16 {
		return b.add(b.raw("VSHUFF32X4 $0xb1, %[1]s, %[1]s, %[2]s", x), x)
	}
	return b.add(b.raw("VPERM2F128 $1, %[1]s, %[1]s, %[2]s", x), x)
}

// gatedRow8 is a row of GatedRMSNorm with groups of 8: a group is a YMM register or half of a ZMM one, and its sum stays in it.
func (g *gen) gatedRow8() {
	g.function("gatedRow8"+g.name, "y, rstd, x, z, w []float32, eps float32", "", "")
	g.streams("y", "rstd", "x", "z", "w")
	g.broadcastArg("eps", 0)
	if g.lanes == 16 {
		g.f("MOVL $0x0101, DX")
		g.f("KMOVW DX, K6")
		g.f("MOVL $3, DX")
		g.f("KMOVW DX, K7")
	}
	g.elements(g.unroll(4, 2), 1, func(b *body) {
		z := b.load("R9")
		v := b.mul(b.mul(z, b.sigmoid(z)), b.load("R8"))
		t := b.fma(b.sumOf8(b.mul(v, v)), b.inReg(b.c("eighth", 1./8)), g.pin(0))
		rstd := b.inverseSqrt(t)
		b.store(b.mul(b.mul(v, rstd), b.load("R10")), "DI")
		b.storeGroupScalar(rstd, "SI")
	})
	g.ret()
}

// storeGroupScalar stores the first lane of each group of eight in the stream p, which has one element a group.
func (b *body) storeGroupScalar(v val, p string) {
	b.groupIndex()
	if b.lanes == 8 {
		b.code = append(b.code, instruction{in: []val{v}, emit: func(reg func(val) string, _ string) {
			b.f("VMOVSS %s, %d(%s)(R13*4)", strings.Replace(reg(v), "Y", "X", 1), 4*b.copy, p)
		}})
		return
	}
	if b.masked { // half a vector: one group
		b.rawStore("KSHIFTRW $1, K7, K7")
	}
	first := b.raw("VCOMPRESSPS %s, K6, %s", v)
	b.code = append(b.code, instruction{in: []val{first}, emit: func(reg func(val) string, _ string) {
		b.f("VMOVUPS %s, K7, %d(%s)(R13*4)", reg(first), 8*b.copy, p)
	}})
}

// groupIndex sets R13 to the index of the group of eight; one instruction to the interleaving of copies, which would mix its halves.
func (b *body) groupIndex() {
	b.code = append(b.code, instruction{emit: func(func(val) string, string) {
		b.f("MOVQ DX, R13")
		b.f("SHRQ $3, R13")
	}})
}

// loadGroupScalar gives every lane its group's element of the stream p.
func (b *body) loadGroupScalar(p string) val {
	b.groupIndex()
	return b.add1(nil, func(_ func(val) string, out string) {
		b.f("VBROADCASTSS %d(%s)(R13*4), %s", b.copy*b.lanes/2, p, out)
		if b.lanes == 16 && !b.masked {
			b.f("VBROADCASTSS %d(%s)(R13*4), K6, %s", b.copy*8+4, p, out)
		}
	})
}

func (g *gen) gatedRow8Grad() {
	g.function("gatedRow8Grad"+g.name, gatedGradParams+"[]float32", "", "")
	g.streams("dx", "dz", "dw", "dy", "x", "z", "w")
	g.load("rstd", "AX")
	if g.lanes == 16 {
		g.f("MOVL $0xff00, DX")
		g.f("KMOVW DX, K6")
	}
	g.elements(g.unroll(2, 1), 0, func(b *body) {
		z := b.load("R11")
		silu, slope := b.siluSlope(z)
		rstd := b.loadGroupScalar("AX")
		b.gatedGradEnd(silu, slope, b.load("R10"), b.load("R9"), rstd, func(dyw, v val) val {
			cube := b.mul(b.mul(rstd, rstd), rstd)
			return b.mul(b.mul(b.sumOf8(b.mul(dyw, v)), b.c("eighth", 1./8)), cube)
		})
	})
	g.ret()
}

// rope rotates the heads of one row.
func (g *gen) rope() {
	g.function("ropeRow"+g.name, "x, cos, sin []float32, heads int, sign float32", "", "")
	g.load("x", "DI")
	g.load("cos", "R8")
	g.load("sin", "R9")
	g.load("heads", "BX")
	g.load("len cos", "AX")
	if g.arm {
		g.f("ADD R19<<2, R0, R1")
	} else {
		g.f("LEAQ (DI)(AX*4), SI")
	}
	g.broadcastArg("sign", 0)
	head := g.newLabel("head")
	g.label(head)
	if g.arm {
		g.f("MOVD R19, R8")
	} else {
		g.f("MOVQ AX, CX")
	}
	g.elements(2, 1, func(b *body) {
		lo, hi, cos, sin := b.load("DI"), b.load("SI"), b.load("R8"), b.mul(b.load("R9"), g.pin(0))
		b.store(b.fnma(hi, sin, b.mul(lo, cos)), "DI")
		b.store(b.fma(lo, sin, b.mul(hi, cos)), "SI")
	})
	if g.arm {
		g.f("ADD R19<<3, R0")
		g.f("ADD R19<<3, R1")
		g.f("SUBS $1, R20")
		g.f("BNE %s", head)
	} else {
		g.f("LEAQ (DI)(AX*8), DI")
		g.f("LEAQ (SI)(AX*8), SI")
		g.f("DECQ BX")
		g.f("JNZ %s", head)
	}
	g.ret()
}

// rope4 is rope for heads of 8, whose halves fill an XMM register: a masked store of half a vector would hold up the load of the next head.
func (g *gen) rope4() {
	g.function("ropeRow4", "x, cos, sin []float32, heads int, sign float32", "", "")
	g.load("x", "DI")
	g.load("cos", "R8")
	g.load("sin", "R9")
	g.load("heads", "BX")
	g.f("VBROADCASTSS %s, X0", g.args["sign"])
	g.f("VMULPS (R9), X0, X0")
	g.f("VMOVUPS (R8), X1")
	head := g.newLabel("head")
	g.label(head)
	g.f("VMOVUPS (DI), X2")
	g.f("VMOVUPS 16(DI), X3")
	g.f("VMULPS X1, X2, X4")
	g.f("VMULPS X1, X3, X5")
	g.f("VFNMADD231PS X0, X3, X4")
	g.f("VFMADD231PS X0, X2, X5")
	g.f("VMOVUPS X4, (DI)")
	g.f("VMOVUPS X5, 16(DI)")
	g.f("ADDQ $32, DI")
	g.f("DECQ BX")
	g.f("JNZ %s", head)
	g.ret()
}
