package main

import "fmt"

// A body is the straight-line code that a loop runs for one vector of elements, in virtual registers. The loop is written with
// several copies of the body side by side, so that their latencies overlap, then with one, then masked for the tail; each time the
// registers are assigned anew.

// val is an operand: a virtual register (id > 0), a fixed register (id < 0, see pin) or memory.
type val struct {
	id  int
	mem string
}

type instruction struct {
	in  []val
	out int // virtual register, 0 for none
	// emit writes the instruction; reg names the register of a val. fused picks the register that out shares with a dying input.
	emit func(reg func(val) string, out string)
	// early: out is written before all inputs are read, so it may not take the place of one.
	early bool
	fma   string // for multiply-adds, whose form depends on which input dies: VFMADD, VFNMADD, VFMSUB
}

type body struct {
	*gen
	code   []instruction
	copy   int  // which of the copies side by side
	masked bool // the tail
	tail   int  // on arm64: its length
	next   *int
}

// pin returns the i-th fixed register, counted from the last but one: the last is the AVX2 mask. Fixed registers keep their value
// through a loop.
func (g *gen) pin(i int) val { return val{id: -(g.regs - 2 - i) - 1} }

// fixed is the hardware number of a fixed register.
func fixed(v val) int { return -v.id - 1 }

func (g *gen) maskReg() int { return g.regs - 1 }

func (b *body) add1(in []val, emit func(reg func(val) string, out string)) val {
	*b.next++
	b.code = append(b.code, instruction{in: in, out: *b.next, emit: emit})
	return val{id: *b.next}
}

// address is element 0 of the current vector of the stream in register p.
func (b *body) address(p string) string {
	return fmt.Sprintf("%d(%s)(DX*4)", b.copy*b.bytes(), p)
}

func (b *body) load(p string) val {
	addr := b.address(p)
	return b.add1(nil, func(_ func(val) string, out string) {
		switch {
		case b.arm:
			b.neonMove(false, out, p)
		case !b.masked:
			b.f("VMOVUPS %s, %s", addr, out)
		case b.lanes == 16:
			b.f("VMOVUPS.Z %s, K1, %s", addr, out)
		default:
			b.f("VMASKMOVPS %s, %s, %s", addr, b.v(b.maskReg()), out)
		}
	})
}

func (b *body) store(v val, p string) {
	addr := b.address(p)
	b.code = append(b.code, instruction{in: []val{v}, emit: func(reg func(val) string, _ string) {
		switch {
		case b.arm:
			b.neonMove(true, reg(v), p)
		case !b.masked:
			b.f("VMOVUPS %s, %s", reg(v), addr)
		case b.lanes == 16:
			b.f("VMOVUPS %s, K1, %s", reg(v), addr)
		default:
			b.f("VMASKMOVPS %s, %s, %s", reg(v), b.v(b.maskReg()), addr)
		}
	}})
}

// c is the constant x in every lane.
func (b *body) c(name string, x float64) val { return val{mem: b.constant(name, x)} }

// inReg loads a memory operand into a register; several instructions take their second operand only there.
func (b *body) inReg(v val) val {
	if v.mem == "" || b.arm {
		return v
	}
	return b.add1(nil, func(_ func(val) string, out string) { b.f("VMOVUPS %s, %s", v.mem, out) })
}

// op is x op y for the instruction mnemonic; only y may be memory.
func (b *body) op(mnemonic string, x, y val) val {
	x = b.inReg(x)
	return b.add1([]val{x, y}, func(reg func(val) string, out string) {
		if b.arm {
			b.neonOp(mnemonic, reg(y), reg(x), out)
			return
		}
		b.f("%s %s, %s, %s", mnemonic, reg(y), reg(x), out)
	})
}

// unary is an instruction with one source, such as VSQRTPS or, with its immediate in the mnemonic, VRNDSCALEPS $8,.
func (b *body) unary(mnemonic string, x val) val {
	return b.add1([]val{x}, func(reg func(val) string, out string) {
		if b.arm {
			b.neonUnary(mnemonic, reg(x), out)
			return
		}
		b.f("%s %s, %s", mnemonic, reg(x), out)
	})
}

func (b *body) add(x, y val) val {
	if x.mem != "" {
		x, y = y, x
	}
	return b.op("VADDPS", x, y)
}

func (b *body) mul(x, y val) val {
	if x.mem != "" {
		x, y = y, x
	}
	return b.op("VMULPS", x, y)
}

func (b *body) sub(x, y val) val { return b.op("VSUBPS", x, y) }
func (b *body) div(x, y val) val { return b.op("VDIVPS", x, y) }

// fma is x·y + z; at most one of them memory.
func (b *body) fma(x, y, z val) val { return b.multiplyAdd("VFMADD", x, y, z) }

// fnma is z - x·y.
func (b *body) fnma(x, y, z val) val { return b.multiplyAdd("VFNMADD", x, y, z) }

func (b *body) multiplyAdd(kind string, x, y, z val) val {
	if x.mem != "" {
		x, y = y, x
	}
	*b.next++
	b.code = append(b.code, instruction{in: []val{x, y, z}, out: *b.next, fma: kind})
	return val{id: *b.next}
}

// accumulate adds x·y to the fixed register acc, or x if y is the zero val.
func (b *body) accumulate(acc, x, y val) {
	in := []val{acc, x}
	if y != (val{}) {
		in = append(in, y)
	}
	b.code = append(b.code, instruction{in: in, emit: func(reg func(val) string, _ string) {
		switch {
		case b.arm && y == (val{}):
			b.w("fadd", vn(reg(acc)), vn(reg(acc)), vn(reg(x)))
		case b.arm:
			b.f("VFMLA %s.S4, %s.S4, %s.S4", reg(y), reg(x), reg(acc))
		case y == (val{}):
			b.f("VADDPS %s, %s, %s", reg(x), reg(acc), reg(acc))
		default:
			b.f("VFMADD231PS %s, %s, %s", reg(y), reg(x), reg(acc))
		}
	}})
}

// assign sets the fixed register acc to acc op x.
func (b *body) assign(mnemonic string, acc, x val) {
	b.code = append(b.code, instruction{in: []val{acc, x}, emit: func(reg func(val) string, _ string) {
		if b.arm {
			b.neonCombine(mnemonic, vn(reg(x)), vn(reg(acc)))
			return
		}
		b.f("%s %s, %s, %s", mnemonic, reg(acc), reg(x), reg(acc))
	}})
}

// fill replaces the lanes beyond the tail by those of c; without a tail it does nothing.
func (b *body) fill(v, c val) val {
	if !b.masked {
		return v
	}
	c = b.inReg(c)
	if b.arm {
		return b.neonFill(v, c)
	}
	return b.add1([]val{v, c}, func(reg func(val) string, out string) {
		if b.lanes == 16 {
			b.f("VBLENDMPS %s, %s, K1, %s", reg(v), reg(c), out)
		} else {
			b.f("VBLENDVPS %s, %s, %s, %s", b.v(b.maskReg()), reg(v), reg(c), out)
		}
	})
}

// raw adds an instruction that reads in and writes out; format sees the registers of in, then of out.
func (b *body) raw(format string, in ...val) val {
	return b.add1(in, func(reg func(val) string, out string) {
		names := make([]any, 0, len(in)+1)
		for _, v := range in {
			names = append(names, reg(v))
		}
		b.f(format, append(names, out)...)
	})
}

// rawStore adds an instruction that only reads in.
func (b *body) rawStore(format string, in ...val) {
	b.code = append(b.code, instruction{in: in, emit: func(reg func(val) string, _ string) {
		names := make([]any, 0, len(in))
		for _, v := range in {
			names = append(names, reg(v))
		}
		b.f(format, names...)
	}})
}

// elements writes the loop over the CX elements of the streams; unroll is the number of copies side by side, pins the number of
// fixed registers. Uses DX (index), R15, CX.
func (g *gen) elements(unroll, pins int, write func(b *body)) {
	if g.arm {
		g.neonElements(unroll, pins, write)
		return
	}
	single, tail, done := g.newLabel("single"), g.newLabel("tail"), g.newLabel("done")
	g.f("XORQ DX, DX")
	loop := func(copies int, next string) {
		l := g.newLabel("loop")
		step := copies * g.lanes
		g.f("LEAQ %d(DX), R15", step)
		g.f("CMPQ R15, CX")
		g.f("JGT %s", next)
		g.label(l)
		g.bodies(copies, pins, false, write)
		g.f("MOVQ R15, DX")
		g.f("ADDQ $%d, R15", step)
		g.f("CMPQ R15, CX")
		g.f("JLE %s", l)
	}
	if unroll > 1 {
		loop(unroll, single)
		g.label(single)
	}
	loop(1, tail)
	g.label(tail)
	g.f("SUBQ DX, CX")
	g.f("JZ %s", done)
	g.setMask(g.maskReg(), "R15")
	g.bodies(1, pins, true, write)
	g.label(done)
}

// bodies writes copies of the body, interleaved.
func (g *gen) bodies(copies, pins int, masked bool, write func(b *body)) {
	g.assignRegisters(g.interleave(copies, masked, 0, write), pins)
}

// interleave returns the code of copies of the body, an instruction of each in turn.
func (g *gen) interleave(copies int, masked bool, tail int, write func(b *body)) []instruction {
	next := 0
	var all [][]instruction
	for c := range copies {
		b := &body{gen: g, copy: c, masked: masked, tail: tail, next: &next}
		write(b)
		all = append(all, b.code)
	}
	var code []instruction
	for i := range all[0] {
		for _, one := range all {
			code = append(code, one[i])
		}
	}
	return code
}

// assignRegisters writes the code with hardware registers: a virtual register lives from its definition to its last use.
func (g *gen) assignRegisters(code []instruction, pins int) {
	last := map[int]int{}
	for i, in := range code {
		for _, v := range in.in {
			last[v.id] = i
		}
	}
	var free []int
	for r := g.regs - 2 - pins; r >= 0; r-- {
		free = append(free, r)
	}
	home := map[int]int{}
	name := func(v val) string {
		switch {
		case v.mem != "":
			return v.mem
		case v.id < 0:
			return g.v(fixed(v))
		}
		return g.v(home[v.id])
	}
	for i, in := range code {
		var dying []int
		seen := map[int]bool{}
		for _, v := range in.in {
			if v.id > 0 && last[v.id] == i && !seen[v.id] {
				dying = append(dying, v.id)
				seen[v.id] = true
			}
		}
		if in.fma != "" {
			g.placeMultiplyAdd(in, dying, home, &free, name)
		} else {
			for _, id := range dying { // the output may take the place of an input that dies here
				free = append(free, home[id])
			}
			out := ""
			if in.out > 0 {
				home[in.out] = take(&free, g.name)
				out = g.v(home[in.out])
			}
			in.emit(func(v val) string { return name(v) }, out)
		}
	}
}

func take(free *[]int, where string) int {
	if len(*free) == 0 {
		panic(where + ": out of vector registers: unroll less")
	}
	r := (*free)[len(*free)-1]
	*free = (*free)[:len(*free)-1]
	return r
}

// placeMultiplyAdd writes x·y ± z in the form that overwrites an input which dies here, or copies one.
func (g *gen) placeMultiplyAdd(in instruction, dying []int, home map[int]int, free *[]int, name func(val) string) {
	dies := func(v val) bool {
		for _, id := range dying {
			if v.id == id {
				return true
			}
		}
		return false
	}
	x, y, z := in.in[0], in.in[1], in.in[2]
	form := func(order string, a, b val, over val) {
		home[in.out] = home[over.id]
		g.f("%s%sPS %s, %s, %s", in.fma, order, name(a), name(b), name(over))
		for _, id := range dying {
			if id != over.id {
				*free = append(*free, home[id])
			}
		}
	}
	switch {
	case dies(z) && z.id != x.id && z.id != y.id:
		form("231", y, x, z)
	case dies(x) && y.mem == "" && x.id != y.id:
		form("213", z, y, x)
	case dies(x) && y.mem != "":
		form("132", y, z, x)
	case dies(y) && x.id != y.id:
		form("213", z, x, y)
	default:
		r := take(free, g.name)
		out := g.v(r)
		if z.mem != "" {
			g.f("VMOVAPS %s, %s", name(x), out)
			g.f("%s213PS %s, %s, %s", in.fma, name(z), name(y), out)
		} else {
			g.f("VMOVAPS %s, %s", name(z), out)
			g.f("%s231PS %s, %s, %s", in.fma, name(y), name(x), out)
		}
		for _, id := range dying {
			*free = append(*free, home[id])
		}
		home[in.out] = r
	}
}

// clearPins zeroes fixed registers from…to-1.
func (g *gen) clearPins(from, to int) {
	for i := from; i < to; i++ {
		g.zero(fixed(g.pin(i)))
	}
}

// broadcastArg fills fixed register i with a float32 argument.
func (g *gen) broadcastArg(name string, i int) {
	if g.arm {
		g.f("FMOVS %s, F0", g.args[name])
		g.neonBroadcast(i)
		return
	}
	g.f("VBROADCASTSS %s, %s", g.args[name], g.v(fixed(g.pin(i))))
}

// sumPins adds fixed registers from…to-1 into the first.
func (g *gen) sumPins(op string, from, to int) {
	for i := from + 1; i < to; i++ {
		if g.arm {
			g.neonCombine(op, fixed(g.pin(i)), fixed(g.pin(from)))
			continue
		}
		g.f("%s %s, %s, %[3]s", op, g.v(fixed(g.pin(i))), g.v(fixed(g.pin(from))))
	}
}

// result stores the scalar in register x as the function's result.
func (g *gen) result(x string) {
	if g.arm {
		g.f("FMOVS %s, %s", x, g.args["ret"])
		return
	}
	g.f("VMOVSS %s, %s", x, g.args["ret"])
}

// reduce combines the lanes of fixed register i, in an order that never changes, into lane 0 of the same register's X name, which it returns.
func (g *gen) reduce(op string, i int) string {
	r := fixed(g.pin(i))
	if g.arm {
		return g.neonReduce(op, r)
	}
	if g.lanes == 16 {
		g.f("VEXTRACTF64X4 $1, Z%d, Y0", r)
		g.f("%s Y0, Y%d, Y%[2]d", op, r)
		g.f("VEXTRACTF32X4 $1, Y%d, X0", r)
	} else {
		g.f("VEXTRACTF128 $1, Y%d, X0", r)
	}
	g.f("%s X0, X%d, X%[2]d", op, r)
	g.f("VPERMILPS $0x4e, X%d, X0", r)
	g.f("%s X0, X%d, X%[2]d", op, r)
	g.f("VPERMILPS $0xb1, X%d, X0", r)
	g.f("%s X0, X%d, X%[2]d", op, r)
	return fmt.Sprintf("X%d", r)
}
