package main

// ssdStep advances one vector's width of a head's state over all tokens, a tile of state rows at a time: the tile is loaded once, lives
// in registers through all tokens, and is stored once, after the tokens that are kept. A tile's share of y is summed in a fixed
// number of chains and added to y in memory, tile after tile.
//
// DX points at the arguments; R8 and R9 are the tile and its row stride, R12 the offset of the tile's first row in b and c, R13 the
// rows left; AX, BX, SI, R10, R11, DI the token's decay, dt, x, b, c, y; R15 counts tokens.
func (g *gen) ssdStep() {
	g.function("ssdStep"+g.name, "a *ssdArgs", "", "")
	g.load("a", "DX")
	field := func(name string) string { return "ssdArgs_" + name + "(DX)" }
	g.f("MOVQ %s, R8", field("s"))
	g.f("MOVQ %s, R9", field("lds"))
	g.f("MOVQ %s, R13", field("n"))
	g.f("XORQ R12, R12")
	for rows := g.unroll(16, 8); rows > 0; rows /= 2 {
		tiles, next := g.newLabel("tiles"), g.newLabel("fewer")
		g.label(tiles)
		g.f("CMPQ R13, $%d", rows)
		g.f("JLT %s", next)
		g.ssdTile(rows, field)
		g.f("ADDQ $%d, R12", 4*rows)
		g.f("SUBQ $%d, R13", rows)
		g.f("JMP %s", tiles)
		g.label(next)
	}
	g.ret()
}

func (g *gen) ssdTile(rows int, field func(string) string) {
	g.f("MOVQ R8, CX")
	for j := range rows {
		g.f("VMOVUPS (CX), %s", g.v(j))
		g.f("ADDQ R9, CX")
	}
	for _, a := range [][2]string{{"decay", "AX"}, {"dt", "BX"}, {"x", "SI"}, {"b", "R10"}, {"c", "R11"}, {"y", "DI"}} {
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
	g.f("MOVQ R8, CX")
	for j := range rows {
		g.f("VMOVUPS %s, (CX)", g.v(j))
		g.f("ADDQ R9, CX")
	}
	g.label(check)
	g.f("CMPQ R15, %s", field("tokens"))
	g.f("JGE %s", done)
	g.ssdToken(rows, field, silent)
	g.label(silent)
	g.f("MOVQ %s, CX", field("ldh"))
	g.f("ADDQ CX, AX")
	g.f("ADDQ CX, BX")
	for _, a := range [][2]string{{"ldx", "SI"}, {"ldb", "R10"}, {"ldc", "R11"}, {"ldy", "DI"}} {
		g.f("ADDQ %s, %s", field(a[0]), a[1])
	}
	g.f("INCQ R15")
	g.f("JMP %s", token)
	g.label(done)
	g.f("MOVQ R9, CX")
	g.f("IMULQ $%d, CX", rows)
	g.f("ADDQ CX, R8")
}

// ssdToken is s = decay·s + (dt·x)·b, then y += s·c unless the token is quiet.
func (g *gen) ssdToken(rows int, field func(string) string, silent string) {
	a, x := g.unroll(16, 8), g.unroll(17, 9)
	y, chains := x+1, min(rows, g.unroll(4, 2))
	tmp := y + g.unroll(4, 2)
	g.f("VBROADCASTSS (AX), %s", g.v(a))
	g.f("VBROADCASTSS (BX), %s", g.v(x))
	g.f("VMULPS (SI), %s, %[1]s", g.v(x))
	multiplyAdd := func(j int, ptr string, v, to int) {
		if g.lanes == 16 {
			g.f("VFMADD231PS.BCST %d(%s), %s, %s", 4*j, ptr, g.v(v), g.v(to))
			return
		}
		g.f("VBROADCASTSS %d(%s), %s", 4*j, ptr, g.v(tmp+j%3))
		g.f("VFMADD231PS %s, %s, %s", g.v(tmp+j%3), g.v(v), g.v(to))
	}
	for j := range rows {
		g.f("VMULPS %s, %s, %[2]s", g.v(a), g.v(j))
		multiplyAdd(j, "R10", x, j)
	}
	g.f("CMPQ R15, %s", field("quiet"))
	g.f("JLT %s", silent)
	for i := range chains {
		g.zero(y + i)
	}
	for j := range rows {
		multiplyAdd(j, "R11", j, y+j%chains)
	}
	for n := chains; n > 1; n /= 2 {
		for i := range n / 2 {
			g.f("VADDPS %s, %s, %[2]s", g.v(y+i+n/2), g.v(y+i))
		}
	}
	store := g.newLabel("store")
	g.f("TESTQ R12, R12")
	g.f("JZ %s", store)
	g.f("VADDPS (DI), %s, %[1]s", g.v(y))
	g.label(store)
	g.f("VMOVUPS %s, (DI)", g.v(y))
}

func (g *gen) scans() {
	for _, w := range convWidths {
		g.conv1D(w)
		g.conv1DGrad(w)
	}
	g.ssdStep()
	g.scanStep()
}
