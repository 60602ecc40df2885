package main

// The peaks of integer products: each is the dot product of the panel kernels on registers alone, with what is done to weights shared by as
// many rows as a pass of the kernel serves, and in as many chains as hide the latency. Loads, scales and sums of floats are left out.

// dotPeaks writes the peaks for amd64.
func (g *gen) dotPeaks() {
	if g.lanes == 16 {
		g.peakLoop("peakDot8", "24 times 4 products in each of 16 lanes", func() {
			for i := range 24 {
				g.f("VPDPBUSD Z24, Z25, Z%d", i)
			}
		})
		g.peakLoop("peakDot4", "32 times 4 products in each of 16 lanes, nibbles of 4 vectors for 8 rows", func() {
			for i := range 2 {
				w := 26 + 2*i
				g.f("VPSRLD $4, Z24, Z%d", w+1)
				g.f("VPANDD Z31, Z24, Z%d", w)
				g.f("VPANDD Z31, Z%d, Z%[1]d", w+1)
				for row := range 16 {
					g.f("VPDPBUSD Z25, Z%d, Z%d", w+row%2, row)
				}
			}
		})
		return
	}
	g.peakLoop("peakDot8", "8 times 4 products, of 16 bits of activations, in each of 8 lanes, weights of 2 vectors for 4 rows", func() {
		for h := range 2 {
			g.f("VPAND Y15, Y12, Y%d", 8+h)
			g.f("VPSRLW $8, Y12, Y%d", 10+h)
		}
		for i := range 4 {
			for odd := range 2 {
				for h := range 2 {
					g.f("VPMADDWD Y12, Y%d, Y%d", 8+2*odd+h, 13+h)
				}
				for h := range 2 {
					g.f("VPADDD Y%d, Y%d, Y%[2]d", 13+h, 2*i+h)
				}
			}
		}
	})
	g.peakLoop("peakDot4", "64 times 4 products in each of 8 lanes, nibbles of 8 vectors for 4 rows", func() {
		for t := range 8 {
			if t%2 == 0 {
				for h := range 2 {
					g.f("VPSRLW $4, Y15, Y%d", 10+h)
					g.f("VPAND Y14, Y15, Y%d", 8+h)
					g.f("VPAND Y14, Y%d, Y%[1]d", 10+h)
				}
			}
			for i := range 8 {
				w := 8 + 2*(t%2) + i%2
				if t == 0 {
					g.f("VPMADDUBSW Y15, Y%d, Y%d", w, i)
					continue
				}
				g.f("VPMADDUBSW Y15, Y%d, Y%d", w, 12+i%2)
				g.f("VPADDW Y%d, Y%d, Y%[2]d", 12+i%2, i)
			}
		}
		for i := range 8 {
			g.f("VPMADDWD Y14, Y%d, Y%[1]d", i)
			g.f("VPADDD Y14, Y%d, Y%[1]d", i)
		}
	})
}

// neonDotPeaks writes the peaks for arm64, with and without SDOT.
func (g *gen) neonDotPeaks() {
	g.peakLoop("peakDot8Dot", "24 times 4 products in each of 4 lanes", func() {
		for i := range 24 {
			g.w("sdot", i, 24, 25, 0)
		}
	})
	g.peakLoop("peakDot4Dot", "32 times 4 products in each of 4 lanes, nibbles of 4 vectors for 4 rows", func() {
		for t := range 4 {
			w := 20 + 2*t
			g.f("VUSHR $4, V%d.B16, V%d.B16", 16, w+1)
			g.f("VAND V%d.B16, V%d.B16, V%d.B16", 17, 16, w)
			for i := range 8 {
				g.w("sdot", 8*(t%2)+i, w+i%2, 18, 0)
			}
		}
	})
	long := func(products, sum, w, x int) {
		for h, suffix := range []string{"", "2"} {
			g.w("smull"+suffix, products+h, w, x)
			g.w("smlal"+suffix, products+h, w+1, x)
		}
		for h := range 2 {
			g.w("sadalp", sum+h, products+h)
		}
	}
	g.peakLoop("peakDot8Long", "16 times 8 products in 4 lanes", func() {
		for i := range 4 {
			long(16+2*i, 2*i, 28, 30)
		}
	})
	g.peakLoop("peakDot4Long", "16 times 8 products in 4 lanes, nibbles of a vector for a row", func() {
		for i := range 4 {
			g.f("VUSHR $4, V31.B16, V29.B16")
			g.f("VAND V30.B16, V31.B16, V28.B16")
			long(16+2*i, 2*i, 28, 30)
		}
	})
}

// peakLoop writes a function that runs a body n times on registers that begin with zeros.
func (g *gen) peakLoop(name, what string, body func()) {
	g.function(name+g.name, "n int", "", "runs n turns of "+what)
	for i := range map[bool]int{true: 32, false: 16}[g.arm || g.lanes == 16] {
		g.zero(i)
	}
	loop := g.newLabel("loop")
	if g.arm {
		g.f("MOVD %s, R8", g.args["n"])
	} else {
		g.load("n", "CX")
	}
	g.label(loop)
	body()
	if g.arm {
		g.f("SUBS $1, R8")
		g.f("BNE %s", loop)
	} else {
		g.f("DECQ CX")
		g.f("JNZ %s", loop)
	}
	g.ret()
}
