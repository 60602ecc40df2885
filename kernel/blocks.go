package kernel

// kBlockMax bounds a block of k so that a panel of A and the current rows of B stay in L1 and a block of B in L2.
const kBlockMax = 384

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// checkMatrix panics if a matrix does not fit its slice, before a kernel writes beside it.
func checkMatrix(name string, data []float32, rows, cols, stride int) {
	if rows > 0 && cols > 0 && (stride < cols && rows > 1 || (rows-1)*stride+cols > len(data)) {
		panic("kernel: matrix " + name + " does not fit its slice")
	}
}
