package main

import (
	"fmt"
	"math"
)

// exp is eˣ: clamp, n = round(x·log₂e), r = x - n·ln 2 in two parts, a polynomial of degree 6 (Cephes expf) and a scaling by 2ⁿ. The
// relative error is below 1e-7; results below 2⁻¹²⁵ may come out as 0, because denormal ones cost a hundred cycles each. NaN stays NaN.
func (b *body) exp(x val) val {
	return b.expBelow(b.op("VMINPS", b.c("expMax", 89), x))
}

// expBelow is exp for x that is known to be below 89. The clamps take x as the instruction's second source, which is the one it
// returns when either is NaN.
func (b *body) expBelow(x val) val {
	low := b.c("expMin", -87.3365) // AVX2 builds 2ⁿ⁻¹ from exponent bits: n ≥ -126
	normal := fmt.Sprintf("K%d", 2+b.copy)
	if b.lanes == 16 {
		b.rawStore("VCMPPS $5, %[2]s, %[1]s, "+normal, x, low) // not less than, hence also NaN
	}
	x = b.op("VMAXPS", low, x)
	n := b.unary(b.round(), b.mul(x, b.c("log2e", math.Log2E)))
	const ln2High = 0.693145751953125
	r := b.fnma(n, b.c("ln2High", ln2High), x)
	r = b.fnma(n, b.c("ln2Low", math.Ln2-ln2High), r)
	p := b.fma(r, b.inReg(b.c("exp6", 1.9875691500e-4)), b.c("exp5", 1.3981999507e-3))
	p = b.fma(p, r, b.c("exp4", 8.3334519073e-3))
	p = b.fma(p, r, b.c("exp3", 4.1665795894e-2))
	p = b.fma(p, r, b.c("exp2", 1.6666665459e-1))
	p = b.fma(p, r, b.c("exp1", 5.0000001201e-1))
	p = b.fma(p, b.mul(r, r), r)
	p = b.add(p, b.c("one", 1))
	if b.lanes == 16 {
		return b.raw("VSCALEFPS.Z %[2]s, %[1]s, "+normal+", %[3]s", p, n)
	}
	n = b.op("VPADDD", b.unary("VCVTPS2DQ", n), val{mem: b.bits("bias", 126)})
	return b.mul(b.add(p, p), b.unary("VPSLLD $23,", n)) // 2p·2ⁿ⁻¹: 2¹²⁸ has no exponent
}

func (b *body) round() string {
	if b.lanes == 16 {
		return "VRNDSCALEPS $8,"
	}
	return "VROUNDPS $8,"
}

// sigmoid is 1/(1+e⁻ˣ) through e = exp(-|x|) ≤ 1, so that nothing overflows: 1/(1+e) for x ≥ 0, e/(1+e) below.
func (b *body) sigmoid(x val) val {
	e := b.expBelow(b.op("VORPS", x, val{mem: b.bits("signMask", 0x80000000)}))
	d := b.add(e, b.c("one", 1))
	r := b.reciprocal(d)
	if b.arm {
		return b.neonIfNegative(x, b.mul(r, e), r)
	}
	if b.lanes == 8 {
		return b.raw("VBLENDVPS %s, %s, %s, %s", x, b.mul(r, e), r)
	}
	negative := fmt.Sprintf("K%d", 2+b.copy)
	b.rawStore("VPMOVD2M %s, "+negative, x)
	return b.raw("VBLENDMPS %s, %s, "+negative+", %s", b.mul(r, e), r)
}

// reciprocal is 1/d for d of moderate size. On AVX-512 an estimate of 14 bits and a Newton step cost half of a division.
func (b *body) reciprocal(d val) val {
	if b.lanes < 16 {
		return b.div(b.c("one", 1), d)
	}
	r := b.unary("VRCP14PS", d)
	return b.fma(r, b.fnma(d, r, b.inReg(b.c("one", 1))), r)
}

// sqrt is √v for v ≥ 0; on AVX-512 by an estimate of 1/√v and a Newton step, exact 0 at 0 and too small below 1e-36.
func (b *body) sqrt(v val) val {
	if b.lanes < 16 {
		return b.unary("VSQRTPS", v)
	}
	return b.mul(v, b.inverseSqrt(b.op("VMAXPS", b.c("sqrtMin", 1e-36), v)))
}

// inverseSqrt is 1/√v for v > 0.
func (b *body) inverseSqrt(v val) val {
	if b.lanes < 16 {
		return b.div(b.c("one", 1), b.unary("VSQRTPS", v))
	}
	r := b.unary("VRSQRT14PS", v)
	half := b.mul(b.mul(v, b.c("half", 0.5)), r)
	return b.mul(r, b.fnma(half, r, b.inReg(b.c("oneAndHalf", 1.5))))
}

// softplus is log(1+eˣ) = max(x,0) + log1p(exp(-|x|)), all of it positive; with e ≤ 1, log1p(e) = 2·artanh(e/(2+e)), whose series
// in (e/(2+e))² ≤ 1/9 ends early. Above 20 it is x to the last bit.
func (b *body) softplus(x val) val {
	e := b.expBelow(b.op("VORPS", x, val{mem: b.bits("signMask", 0x80000000)}))
	s := b.mul(e, b.reciprocal(b.add(e, b.c("two", 2))))
	q := b.mul(s, s)
	names := []string{"third", "fifth", "seventh", "ninth", "eleventh", "thirteenth", "fifteenth"}
	p := b.inReg(b.c(names[6], 1./15))
	for i := 5; i >= 0; i-- {
		p = b.fma(p, q, b.c(names[i], 1/float64(2*i+3)))
	}
	s = b.add(s, s)
	return b.add(b.fma(p, b.mul(q, s), s), b.op("VMAXPS", b.c("zero", 0), x))
}

// streams loads the slices' addresses into registers and the length of the first into CX.
func (g *gen) streams(names ...string) {
	g.load("len "+names[0], "CX")
	for i, name := range names {
		g.load(name, streamRegs[i])
	}
}

var streamRegs = []string{"DI", "SI", "R8", "R9", "R10", "R11", "R12"}

// mapKernel writes a function over slices of one length: write computes one vector from the streams in streamRegs order.
func (g *gen) mapKernel(name string, slices []string, unroll int, write func(b *body)) {
	params := ""
	for i, s := range slices {
		if i > 0 {
			params += ", "
		}
		params += s
	}
	g.function(name+g.name, params+" []float32", "", "")
	g.streams(slices...)
	g.elements(unroll, 0, write)
	g.ret()
}

func (g *gen) elementwise() {
	const y, a, x = "DI", "SI", "R8" // y, a, b in that order
	g.mapKernel("exp", []string{"y", "x"}, g.unroll(4, 3), func(b *body) { b.store(b.exp(b.load(a)), y) })
	g.mapKernel("mul", []string{"y", "a", "b"}, 4, func(b *body) { b.store(b.mul(b.load(a), b.load(x)), y) })
	g.mapKernel("mulAdd", []string{"y", "a", "b"}, 4, func(b *body) { b.store(b.fma(b.load(a), b.load(x), b.load(y)), y) })
	g.mapKernel("silu", []string{"y", "x"}, g.unroll(4, 2), func(b *body) { v := b.load(a); b.store(b.mul(v, b.sigmoid(v)), y) })
	g.mapKernel("softplus", []string{"y", "x"}, g.unroll(4, 2), func(b *body) { b.store(b.softplus(b.load(a)), y) })
	g.mapKernel("swiglu", []string{"y", "gate", "up"}, g.unroll(4, 2), func(b *body) {
		v := b.load(a)
		b.store(b.mul(b.mul(v, b.sigmoid(v)), b.load(x)), y)
	})
	g.mapKernel("siluGrad", []string{"dx", "dy", "x"}, g.unroll(4, 2), func(b *body) {
		v := b.load(x)
		_, slope := b.siluSlope(v)
		b.store(b.fma(b.load(a), slope, b.load(y)), y)
	})
	g.mapKernel("swigluGrad", []string{"dgate", "dup", "dy", "gate", "up"}, g.unroll(3, 1), func(b *body) {
		gate := b.load("R9")
		value, slope := b.siluSlope(gate)
		dy := b.load("R8")
		b.store(b.fma(dy, value, b.load("SI")), "SI")
		b.store(b.fma(b.mul(dy, b.load("R10")), slope, b.load("DI")), "DI")
	})
	g.scalars()
	g.reductions()
	g.adamw()
}

// siluSlope returns silu(v) and its derivative s·(1 + v·(1-s)) = s + silu·(1-s).
func (b *body) siluSlope(v val) (value, slope val) {
	s := b.sigmoid(v)
	value = b.mul(v, s)
	return value, b.fma(value, b.sub(b.c("one", 1), s), s)
}

// scalars writes the kernels that take a number beside their slices.
func (g *gen) scalars() {
	for _, name := range []string{"axpy", "scale"} {
		g.function(name+g.name, "y []float32, a float32, x []float32", "", "")
		g.streams("y", "x")
		g.broadcastArg("a", 0)
		g.elements(4, 1, func(b *body) {
			if name == "axpy" {
				b.store(b.fma(b.load("SI"), g.pin(0), b.load("DI")), "DI")
			} else {
				b.store(b.mul(b.load("SI"), g.pin(0)), "DI")
			}
		})
		g.ret()
	}
	// One accumulator: lane i mod lanes takes element i, so that the order of the sum depends on the index alone.
	g.function("expSum"+g.name, "y, x []float32, m float32", "float32", "")
	g.streams("y", "x")
	g.broadcastArg("m", 0)
	g.clearPins(1, 2)
	g.elements(g.unroll(4, 3), 2, func(b *body) {
		e := b.exp(b.sub(b.load("SI"), g.pin(0)))
		b.store(e, "DI")
		b.accumulate(g.pin(1), b.fill(e, b.c("zero", 0)), val{})
	})
	g.result(g.reduce("VADDPS", 1))
	g.ret()
}

func (g *gen) reductions() {
	const chains = 4
	minusInf := val{mem: g.constant("minusInf", math.Inf(-1))}
	g.function("max"+g.name, "x []float32", "float32", "")
	g.load("x", "SI")
	g.load("len x", "CX")
	for i := range chains {
		g.fillPin(i, minusInf)
	}
	g.elements(chains, chains, func(b *body) { b.assign("VMAXPS", g.pin(b.copy), b.fill(b.load("SI"), minusInf)) })
	g.sumPins("VMAXPS", 0, chains)
	g.result(g.reduce("VMAXPS", 0))
	g.ret()
	for _, name := range []string{"sum", "dot"} {
		params := map[string]string{"sum": "x []float32", "dot": "x, y []float32"}[name]
		g.function(name+g.name, params, "float32", "")
		g.load("x", "SI")
		g.load("len x", "CX")
		if name == "dot" {
			g.load("y", "DI")
		}
		g.clearPins(0, chains)
		g.elements(chains, chains, func(b *body) {
			y := val{}
			x := b.load("SI")
			if name == "dot" {
				y = b.load("DI")
			}
			b.accumulate(g.pin(b.copy), x, y)
		})
		g.sumPins("VADDPS", 0, chains)
		g.result(g.reduce("VADDPS", 0))
		g.ret()
	}
}

// Fixed registers of adamw.
const beta1, rest1, beta2, rest2, scale, eps, perC2, keep, rate = 0, 1, 2, 3, 4, 5, 6, 7, 8

// adamw: p·(1-lr·wd) - (lr/c1)·m / (√(v/c2) + eps).
func (g *gen) adamw() {
	g.function("adamw"+g.name, "p, m, v, g []float32, s AdamWStep", "", "")
	g.streams("p", "m", "v", "g")
	if g.arm {
		g.neonAdamW()
	} else {
		g.adamwScalars()
	}
	g.elements(g.unroll(2, 1), 9, func(b *body) {
		grad := b.mul(b.load("R9"), g.pin(scale))
		m := b.fma(grad, g.pin(rest1), b.mul(b.load("SI"), g.pin(beta1)))
		v := b.fma(b.mul(grad, grad), g.pin(rest2), b.mul(b.load("R8"), g.pin(beta2)))
		b.store(m, "SI")
		b.store(v, "R8")
		d := b.add(b.sqrt(b.mul(v, g.pin(perC2))), g.pin(eps))
		step := b.mul(b.mul(m, g.pin(rate)), b.reciprocal(d))
		b.store(b.sub(b.mul(b.load("DI"), g.pin(keep)), step), "DI")
	})
	g.ret()
}

// adamwScalars fills the fixed registers of adamw.
func (g *gen) adamwScalars() {
	one := g.constant("one", 1)
	scalar := func(pin int, ops ...string) { // leaves the scalar in X0
		for _, op := range ops {
			g.f("%s", op)
		}
		g.f("VBROADCASTSS X0, %s", g.v(fixed(g.pin(pin))))
	}
	arg := func(n string) string { return "VMOVSS " + g.args[n] + ", X0" }
	scalar(beta1, arg("Beta1"))
	scalar(rest1, "VMOVSS "+one+", X0", "VSUBSS "+g.args["Beta1"]+", X0, X0")
	scalar(beta2, arg("Beta2"))
	scalar(rest2, "VMOVSS "+one+", X0", "VSUBSS "+g.args["Beta2"]+", X0, X0")
	scalar(scale, arg("Scale"))
	scalar(eps, arg("Eps"))
	scalar(perC2, "VMOVSS "+one+", X0", "VDIVSS "+g.args["C2"]+", X0, X0")
	scalar(keep, "VMOVSS "+one+", X0", "VMOVSS "+g.args["LR"]+", X1", "VMULSS "+g.args["WeightDecay"]+", X1, X1", "VSUBSS X1, X0, X0")
	scalar(rate, arg("LR"), "VDIVSS "+g.args["C1"]+", X0, X0")
}
