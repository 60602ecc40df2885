package main

// The kernels of half-precision numbers (f16), in which keys and values can be kept.

// maxHalf is the largest finite f16.
const maxHalf = 65504

// halfFar and halfNear are the distances in bytes at which products fetch B, into the second cache and from there into the first. The first alone
// cannot wait for as many lines as memory's latency asks for.
const halfFar, halfNear = 8192, 1024

const (
	toHalfDoc   = "sets dst[i] = f16(x[i]), to nearest even; numbers beyond ±65504 become ±65504; n > 0 is a multiple of 16"
	fromHalfDoc = "sets dst[i] = x[i]; n > 0 is a multiple of 16"
)

// halfTiles lists the microkernels whose B is f16: few rows, since more repay a copy of B in float32.
func (l level) halfTiles() []tileKernel {
	var ks []tileKernel
	for r := 1; r <= min(8, l.maxRows()); r++ {
		ks = append(ks, tileKernel{rows: r, vecs: 2, half: true})
		if l.regs == 32 && r <= 4 {
			ks = append(ks, tileKernel{rows: r, vecs: 4, half: true})
		}
	}
	return ks
}

func (g *gen) halves() {
	g.tiles("Half"+g.name, g.halfTiles())
	loop := func(body func()) {
		g.load("dst", "DI")
		g.load("x", "SI")
		g.load("n", "CX")
		l := g.newLabel("loop")
		g.label(l)
		body()
		g.f("SUBQ $16, CX")
		g.f("JG %s", l)
		g.ret()
	}
	g.function("toHalf"+g.name, "dst *uint16, x *float32, n int", "", toHalfDoc)
	g.f("VMOVUPS %s, %s", g.constant("halfMost", maxHalf), g.v(14))
	g.f("VMOVUPS %s, %s", g.constant("halfLeast", -maxHalf), g.v(15))
	loop(func() {
		for o := range 16 / g.lanes { // a NaN is the second operand of a comparison, which is what comes out
			g.f("VMOVUPS %d(SI), %s", o*g.bytes(), g.v(o))
			g.f("VMINPS %s, %s, %[1]s", g.v(o), g.v(14))
			g.f("VMAXPS %s, %s, %[1]s", g.v(o), g.v(15))
			g.f("VCVTPS2PH $0, %s, %d(DI)", g.v(o), o*g.bytes()/2)
		}
		g.f("ADDQ $64, SI")
		g.f("ADDQ $32, DI")
	})
	g.function("fromHalf"+g.name, "dst *float32, x *uint16, n int", "", fromHalfDoc)
	loop(func() {
		for o := range 16 / g.lanes {
			g.f("VCVTPH2PS %d(SI), %s", o*g.bytes()/2, g.v(o))
			g.f("VMOVUPS %s, %d(DI)", g.v(o), o*g.bytes())
		}
		g.f("ADDQ $32, SI")
		g.f("ADDQ $64, DI")
	})
}

// neonHalves writes the conversions; products go by a copy in float32.
func (g *gen) neonHalves() {
	loop := func(body func()) {
		for i, name := range []string{"dst", "x", "n"} {
			g.f("MOVD %s, R%d", g.args[name], i)
		}
		l := g.newLabel("loop")
		g.label(l)
		body()
		g.f("SUBS $16, R2")
		g.f("BGT %s", l)
		g.ret()
	}
	const most, least = 30, 31
	g.function("toHalfNEON", "dst *uint16, x *float32, n int", "", toHalfDoc)
	g.f("MOVD $constants<>(SB), R16")
	g.f("FMOVQ %s, F%d", g.constant("halfMost", maxHalf), most)
	g.f("FMOVQ %s, F%d", g.constant("halfLeast", -maxHalf), least)
	loop(func() {
		for v := 0; v < 4; v += 2 {
			g.f("FLDPQ.P 32(R1), (F%d, F%d)", v, v+1)
		}
		for v := range 4 {
			g.w("fmin", v, v, most)
			g.w("fmax", v, v, least)
			g.w([]string{"fcvtn", "fcvtn2"}[v%2], 8+v/2, v)
		}
		g.f("FSTPQ.P (F8, F9), 32(R0)")
	})
	g.function("fromHalfNEON", "dst *float32, x *uint16, n int", "", fromHalfDoc)
	loop(func() {
		g.f("FLDPQ.P 32(R1), (F8, F9)")
		for v := range 4 {
			g.w([]string{"fcvtl", "fcvtl2"}[v%2], v, 8+v/2)
		}
		for v := 0; v < 4; v += 2 {
			g.f("FSTPQ.P (F%d, F%d), 32(R0)", v, v+1)
		}
	})
}
