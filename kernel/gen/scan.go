package main

import "fmt"

// scanStep advances one vector's width of a group's state over all tokens, tile by tile as ssdStep does; what is different is that
// each element has a decay of its own, 2^(a·Δ), which is computed where it is used.
//
// DX points at the arguments; R8 and R9 are the tile and its row stride, DI the tile's a, R12 the offset of the tile's first row in b and c,
// R13 the rows left; AX, SI, R10, R11, BX the token's Δ, x, b, c, y; R15 counts tokens, CX walks over rows.
func (g *gen) scanStep() {
	g.function("scanStep"+g.name, "p *scanArgs", "", "")
	g.load("p", "DX")
	field := func(name string) string { return "scanArgs_" + name + "(DX)" }
	g.f("MOVQ %s, R8", field("s"))
	g.f("MOVQ %s, DI", field("a"))
	g.f("MOVQ %s, R9", field("lds"))
	g.f("MOVQ %s, R13", field("n"))
	g.f("XORQ R12, R12")
	for rows := g.unroll(16, 8); rows > 0; rows /= 2 {
		tiles, next := g.newLabel("tiles"), g.newLabel("fewer")
		g.label(tiles)
		g.f("CMPQ R13, $%d", rows)
		g.f("JLT %s", next)
		g.scanTile(rows, field)
		g.f("ADDQ $%d, R12", 4*rows)
		g.f("SUBQ $%d, R13", rows)
		g.f("JMP %s", tiles)
		g.label(next)
	}
	g.ret()
}

func (g *gen) scanTile(rows int, field func(string) string) {
	move := func(store bool) {
		g.f("MOVQ R8, CX")
		for j := range rows {
			if r := g.v(fixed(g.pin(j))); store {
				g.f("VMOVUPS %s, (CX)", r)
			} else {
				g.f("VMOVUPS (CX), %s", r)
			}
			g.f("ADDQ R9, CX")
		}
	}
	move(false)
	for _, a := range [][2]string{{"delta", "AX"}, {"x", "SI"}, {"b", "R10"}, {"c", "R11"}, {"y", "BX"}} {
		g.f("MOVQ %s, %s", field(a[0]), a[1])
	}
	g.f("ADDQ R12, R10")
	g.f("ADDQ R12, R11")
	g.f("XORQ R15, R15")
	token, check, done, silent := g.newLabel("token"), g.newLabel("check"), g.newLabel("done"), g.newLabel("silent")
	g.label(token)
	g.f("CMPQ R15, %s", field("write"))
	g.f("JNE %s", check)
	g.f("TESTQ R15, R15")
	g.f("JZ %s", check)
	move(true)
	g.label(check)
	g.f("CMPQ R15, %s", field("tokens"))
	g.f("JGE %s", done)
	g.scanToken(rows, field, silent)
	g.label(silent)
	for _, a := range [][2]string{{"ldd", "AX"}, {"ldx", "SI"}, {"ldb", "R10"}, {"ldc", "R11"}, {"ldy", "BX"}} {
		g.f("ADDQ %s, %s", field(a[0]), a[1])
	}
	g.f("INCQ R15")
	g.f("JMP %s", token)
	g.label(done)
	g.f("MOVQ R9, CX")
	g.f("IMULQ $%d, CX", rows)
	g.f("ADDQ CX, R8")
	g.f("ADDQ CX, DI")
}

// scanToken is s = 2^(a·Δ)·s + (Δ·x)·b, then y += s·c unless the token is quiet. The rows' chains of operations are independent, so that the
// processor runs them side by side.
func (g *gen) scanToken(rows int, field func(string) string, silent string) {
	pins := rows + 3
	delta, dx, y := g.pin(rows), g.pin(rows+1), g.pin(rows+2)
	g.f("VMOVUPS (AX), %s", g.v(fixed(delta)))
	g.f("VMULPS (SI), %s, %s", g.v(fixed(delta)), g.v(fixed(dx)))
	row := func(write func(b *body)) { g.assignRegisters(g.interleave(1, false, 0, write), pins) }
	g.f("MOVQ DI, CX")
	for j := range rows {
		row(func(b *body) {
			s := g.pin(j)
			decay := b.exp2Below(b.mul(delta, val{mem: "(CX)"}))
			b.assign("VMULPS", s, decay)
			b.accumulate(s, dx, b.broadcast("R10", j))
		})
		g.f("ADDQ R9, CX")
	}
	g.f("CMPQ R15, %s", field("quiet"))
	g.f("JLT %s", silent)
	g.f("VMOVUPS (BX), %s", g.v(fixed(y)))
	for j := range rows {
		row(func(b *body) { b.accumulate(y, g.pin(j), b.broadcast("R11", j)) })
	}
	g.f("VMOVUPS %s, (BX)", g.v(fixed(y)))
}

// broadcast is element j behind a pointer in every lane.
func (b *body) broadcast(pointer string, j int) val {
	return b.raw(fmt.Sprintf("VBROADCASTSS %d(%s), %%s", 4*j, pointer))
}

// exp2Below is 2ˣ for x ≤ 0: n = round(x), by adding and taking away a number whose last bit is 1, a minimax polynomial of degree 6 for
// 2^(x-n), and n added to its exponent. The relative error is below 1e-7; what is smaller than 2⁻¹²⁵ comes out as that.
func (b *body) exp2Below(x val) val {
	magic := b.inReg(b.c("exp2Magic", 3<<22))
	x = b.op("VMAXPS", b.c("exp2Min", -125), x)
	n := b.add(x, magic)
	f := b.sub(x, b.sub(n, magic))
	p := b.fma(f, b.inReg(b.c("exp2c6", 1.5353362e-4)), b.c("exp2c5", 1.33988747e-3))
	p = b.fma(p, f, b.c("exp2c4", 9.61843736e-3))
	p = b.fma(p, f, b.c("exp2c3", 5.550332471e-2))
	p = b.fma(p, f, b.c("exp2c2", 2.4022647914e-1))
	p = b.fma(p, f, b.c("exp2c1", 6.9314720286e-1))
	p = b.fma(p, f, b.c("one", 1))
	return b.op("VPADDD", p, b.unary("VPSLLD $23,", n))
}
