package kernel

// Conv1D is the causal depthwise convolution over time: y[t][c] = bias[c] + Σ_k w[k][c]·x[t+k][c]. x holds the width-1 rows of history
// before the first token and then the rows of the tokens, (rows+width-1, dim) with row stride ldx; w is (width, dim), the
// checkpoint's (dim, 1, width) transposed; y is (rows, dim) with row stride ldy.
func Conv1D(y []float32, ldy int, x []float32, ldx int, w, bias []float32, rows, dim, width int) {
	active.conv1D(y, ldy, x, ldx, w, bias, rows, dim, width)
}

func conv1DPortable(y []float32, ldy int, x []float32, ldx int, w, bias []float32, rows, dim, width int) {
	for t := range rows {
		yr := y[t*ldy:][:dim]
		copy(yr, bias[:dim])
		for k := range width {
			wk, xr := w[k*dim:][:dim], x[(t+k)*ldx:][:dim]
			for c, v := range xr {
				yr[c] += wk[c] * v
			}
		}
	}
}

// Conv1DGrad adds the gradients of Conv1D to dx (rows+width-1, dim), whose first width-1 rows belong to the history, dw (width, dim)
// and db (dim).
func Conv1DGrad(dx []float32, lddx int, dw, db, dy []float32, lddy int, x []float32, ldx int, w []float32, rows, dim, width int) {
	active.conv1DGrad(dx, lddx, dw, db, dy, lddy, x, ldx, w, rows, dim, width)
}

func conv1DGradPortable(dx []float32, lddx int, dw, db, dy []float32, lddy int, x []float32, ldx int, w []float32, rows, dim, width int) {
	for t := range rows {
		dyr := dy[t*lddy:][:dim]
		axpyPortable(db[:dim], 1, dyr)
		for k := range width {
			mulAddPortable(dx[(t+k)*lddx:][:dim], dyr, w[k*dim:][:dim])
			mulAddPortable(dw[k*dim:][:dim], dyr, x[(t+k)*ldx:][:dim])
		}
	}
}
