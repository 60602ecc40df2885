package kernel

// PanelWidth is the number of output columns in one panel of packed weights, on every processor.
const PanelWidth = 32

// Operand is a matrix argument of Gemm: row-major with row stride Stride; with Trans its transpose is meant.
type Operand struct {
	Data   []float32
	Stride int
	Trans  bool
}

// Gemm computes C = A·B, or C += A·B with accumulate, over all cores: C (m,n), A (m,k), B (k,n). An element of C is the same bits
// whatever m, n and the number of cores are: its sum runs along k in an order that depends on k alone.
func Gemm(c []float32, ldc int, a, b Operand, m, n, k int, accumulate bool) {
	active.gemm(c, ldc, a, b, m, n, k, accumulate, true)
}

// GemmSeq is Gemm on the calling goroutine alone, for use inside a parallel region and for small matrices. The bits are the same.
func GemmSeq(c []float32, ldc int, a, b Operand, m, n, k int, accumulate bool) {
	active.gemm(c, ldc, a, b, m, n, k, accumulate, false)
}

func gemmPortable(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) {
	if m == 0 || n == 0 {
		return
	}
	if parallel && m*n*k > 1<<16 {
		gemmRowsParallel(c, ldc, a, b, m, n, k, accumulate)
		return
	}
	for i := range m {
		gemmRowPortable(c[i*ldc:][:n], a, b, i, k, accumulate)
	}
}

// gemmRowsParallel stands apart from gemmPortable so that only large products allocate what a parallel region's closure holds.
func gemmRowsParallel(c []float32, ldc int, a, b Operand, m, n, k int, accumulate bool) {
	Parallel(m, func(i int) { gemmRowPortable(c[i*ldc:][:n], a, b, i, k, accumulate) })
}

// gemmRowPortable is row i of A·B.
func gemmRowPortable(ci []float32, a, b Operand, i, k int, accumulate bool) {
	if !accumulate {
		clear(ci)
	}
	for l := range k {
		ail := a.at(i, l)
		if !b.Trans {
			axpyPortable(ci, ail, b.Data[l*b.Stride:][:len(ci)])
			continue
		}
		for j := range ci {
			ci[j] += ail * b.Data[j*b.Stride+l]
		}
	}
}

func (o *Operand) at(i, j int) float32 {
	if o.Trans {
		i, j = j, i
	}
	return o.Data[i*o.Stride+j]
}

func mulPanelsPortable(y []float32, ldy int, x []float32, ldx, rows int, p *Panels) {
	for j := 0; j < p.N; j += PanelWidth {
		mulPanelPortable(y[j:], ldy, x, ldx, rows, p.Data[j*p.K:], PanelWidth, p.K, min(PanelWidth, p.N-j), false)
	}
}

// MulPanel sets C (m,cols) = A (m,k)·B (k,cols), or adds to it with accumulate, on the calling goroutine: A has row stride lda, B has
// row stride ldb, cols ≤ PanelWidth. Its use is a block of packed weights, packed keys or a head's values. Only the cols
// columns of C and B are touched. An element's sum runs along k in order, whatever m is.
func MulPanel(c []float32, ldc int, a []float32, lda, m int, b []float32, ldb, k, cols int, accumulate bool) {
	active.mulPanel(c, ldc, a, lda, m, b, ldb, k, cols, accumulate)
}

func mulPanelPortable(c []float32, ldc int, a []float32, lda, m int, b []float32, ldb, k, cols int, accumulate bool) {
	gemmPortable(c, ldc, Operand{Data: a, Stride: lda}, Operand{Data: b, Stride: ldb}, m, cols, k, accumulate, false)
}
