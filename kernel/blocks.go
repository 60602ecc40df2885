package kernel

// kBlockMax bounds a block of k so that a panel of A and the current rows of B stay in L1 and a block of B in L2.
const kBlockMax = 384

// kBlock is the length of the blocks in which a product adds up k terms; the last block may be shorter. Each block's sum starts at zero
// and runs in k order in one chain, and is then added to C. Nothing but k may decide it: it decides the bits.
func kBlock(k int) int {
	blocks := (k + kBlockMax - 1) / kBlockMax
	if blocks <= 1 {
		return k
	}
	return roundUp((k+blocks-1)/blocks, 8)
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// checkMatrix panics if a matrix does not fit its slice, before a kernel writes beside it.
func checkMatrix(name string, data []float32, rows, cols, stride int) {
	if rows > 0 && cols > 0 && (stride < cols && rows > 1 || (rows-1)*stride+cols > len(data)) {
		panic("kernel: matrix " + name + " does not fit its slice")
	}
}
