//go:build (amd64 || arm64) && !purego

package kernel

import "unsafe"

// This file gives the kernels that work on one row, or one group of a row, the loops over rows. Each function returns a table entry made
// of a level's assembly.

func rmsNormBy(row func(y, x, w []float32, eps float32) float32) func(y, rstd, x, w []float32, rows, dim int, eps float32) {
	return func(y, rstd, x, w []float32, rows, dim int, eps float32) {
		for r := range rows {
			rstd[r] = row(y[r*dim:][:dim], x[r*dim:][:dim], w[:dim], eps)
		}
	}
}

func rmsNormGradBy(row func(dx, dw, dy, x, w []float32, rstd float32)) func(dx, dw, dy, x, w, rstd []float32, rows, dim int) {
	return func(dx, dw, dy, x, w, rstd []float32, rows, dim int) {
		for r := range rows {
			row(dx[r*dim:][:dim], dw[:dim], dy[r*dim:][:dim], x[r*dim:][:dim], w[:dim], rstd[r])
		}
	}
}

func gatedRMSNormBy(group func(y, x, z, w []float32, eps float32) float32, row8 func(y, rstd, x, z, w []float32, eps float32)) func(y, rstd, x, z []float32, ldz int, w []float32, rows, groups, p int, eps float32) {
	return func(y, rstd, x, z []float32, ldz int, w []float32, rows, groups, p int, eps float32) {
		dim := groups * p
		for r := range rows {
			yr, xr, zr, wr, sr := y[r*dim:][:dim], x[r*dim:][:dim], z[r*ldz:][:dim], w[:dim], rstd[r*groups:][:groups]
			if p == 8 && row8 != nil {
				row8(yr, sr, xr, zr, wr, eps)
				continue
			}
			for g := range sr {
				lo, hi := g*p, (g+1)*p
				sr[g] = group(yr[lo:hi], xr[lo:hi], zr[lo:hi], wr[lo:hi], eps)
			}
		}
	}
}

func gatedRMSNormGradBy(group func(dx, dz, dw, dy, x, z, w []float32, rstd float32), row8 func(dx, dz, dw, dy, x, z, w, rstd []float32)) func(dx, dz, dw, dy, x, z []float32, ldz int, w, rstd []float32, rows, groups, p int) {
	return func(dx, dz, dw, dy, x, z []float32, ldz int, w, rstd []float32, rows, groups, p int) {
		dim := groups * p
		for r := range rows {
			dxr, dzr, dyr, xr, zr, sr := dx[r*dim:][:dim], dz[r*ldz:][:dim], dy[r*dim:][:dim], x[r*dim:][:dim], z[r*ldz:][:dim], rstd[r*groups:][:groups]
			if p == 8 && row8 != nil {
				row8(dxr, dzr, dw[:dim], dyr, xr, zr, w[:dim], sr)
				continue
			}
			for g, s := range sr {
				lo, hi := g*p, (g+1)*p
				group(dxr[lo:hi], dzr[lo:hi], dw[lo:hi], dyr[lo:hi], xr[lo:hi], zr[lo:hi], w[lo:hi], s)
			}
		}
	}
}

// ropeBy takes the kernel of a level, one for halves that are an odd multiple of 8, and one for halves of 4.
func ropeBy(row, row8, row4 func(x, cos, sin []float32, heads int, sign float32)) func(x []float32, ldx int, cos, sin []float32, rows, heads, p int, sign float32) {
	return func(x []float32, ldx int, cos, sin []float32, rows, heads, p int, sign float32) {
		half := p / 2
		if heads == 0 || half == 0 {
			return
		}
		row := row
		switch {
		case row4 == nil: // one kernel for all
		case half == 4:
			row = row4
		case half%16 == 8:
			row = row8 // no partial vector at its width
		}
		for t := range rows {
			row(x[t*ldx:][:heads*p], cos[t*half:][:half], sin[t*half:][:half], heads, sign)
		}
	}
}

// convRows bounds the elements of one call of a convolution, as spanMax does for elementwise kernels.
func convRows(dim int) int { return max(1, spanMax/dim) }

type convKernel func(y *float32, ldy int, x *float32, ldx int, w, bias *float32, rows, dim int)

// conv1DBy takes the kernels for widths 2, 3, … ; other widths are portable.
func conv1DBy(kernels ...convKernel) func(y []float32, ldy int, x []float32, ldx int, w, bias []float32, rows, dim, width int) {
	return func(y []float32, ldy int, x []float32, ldx int, w, bias []float32, rows, dim, width int) {
		if width < 2 || width-2 >= len(kernels) || dim <= 0 || rows <= 0 {
			conv1DPortable(y, ldy, x, ldx, w, bias, rows, dim, width)
			return
		}
		checkMatrix("y", y, rows, dim, ldy)
		checkMatrix("x", x, rows+width-1, dim, ldx)
		checkMatrix("w", w, width, dim, dim)
		checkMatrix("bias", bias, 1, dim, dim)
		for t, step := 0, convRows(dim); t < rows; t += step {
			kernels[width-2](&y[t*ldy], 4*ldy, &x[t*ldx], 4*ldx, &w[0], &bias[0], min(step, rows-t), dim)
		}
	}
}

type convGradKernel func(dx *float32, lddx int, dw, db, dy *float32, lddy int, x *float32, ldx int, w *float32, rows, dim int)

func conv1DGradBy(kernels ...convGradKernel) func(dx []float32, lddx int, dw, db, dy []float32, lddy int, x []float32, ldx int, w []float32, rows, dim, width int) {
	return func(dx []float32, lddx int, dw, db, dy []float32, lddy int, x []float32, ldx int, w []float32, rows, dim, width int) {
		if width < 2 || width-2 >= len(kernels) || dim <= 0 || rows <= 0 {
			conv1DGradPortable(dx, lddx, dw, db, dy, lddy, x, ldx, w, rows, dim, width)
			return
		}
		checkMatrix("dx", dx, rows+width-1, dim, lddx)
		checkMatrix("x", x, rows+width-1, dim, ldx)
		checkMatrix("dy", dy, rows, dim, lddy)
		checkMatrix("w", w, width, dim, dim)
		checkMatrix("dw", dw, width, dim, dim)
		checkMatrix("db", db, 1, dim, dim)
		for t, step := 0, convRows(dim); t < rows; t += step {
			kernels[width-2](&dx[t*lddx], 4*lddx, &dw[0], &db[0], &dy[t*lddy], 4*lddy, &x[t*ldx], 4*ldx, &w[0], min(step, rows-t), dim)
		}
	}
}

// ssdArgs is the argument of the SSD kernels, which advance one vector's width of the state; strides are in bytes.
type ssdArgs struct {
	y, s, decay, dt, x, b, c     unsafe.Pointer
	ldy, lds, ldh, ldx, ldb, ldc int
	n, tokens, write, quiet      int
}

// ssdStepVectors advances ssdLanes(p) columns of the state at a time. The bits may depend on their number, which does no harm: p belongs to the
// model. The kernels are called directly, so that their arguments stay on the stack.
func ssdStepVectors(y []float32, ldy int, s, decay, dt []float32, ldh int, x []float32, ldx int, b []float32, ldb int, c []float32, ldc int, p, n, tokens, write, quiet int) {
	if p%8 != 0 || p == 0 || n == 0 || tokens == 0 {
		ssdStepPortable(y, ldy, s, decay, dt, ldh, x, ldx, b, ldb, c, ldc, p, n, tokens, write, quiet)
		return
	}
	if quiet < tokens {
		checkMatrix("y", y, tokens, p, ldy)
	}
	checkMatrix("s", s, n, p, p)
	checkMatrix("decay", decay, tokens, 1, ldh)
	checkMatrix("dt", dt, tokens, 1, ldh)
	checkMatrix("x", x, tokens, p, ldx)
	checkMatrix("b", b, tokens, n, ldb)
	checkMatrix("c", c, tokens, n, ldc)
	a := ssdArgs{
		decay: unsafe.Pointer(&decay[0]), dt: unsafe.Pointer(&dt[0]), b: unsafe.Pointer(&b[0]), c: unsafe.Pointer(&c[0]),
		ldy: 4 * ldy, lds: 4 * p, ldh: 4 * ldh, ldx: 4 * ldx, ldb: 4 * ldb, ldc: 4 * ldc, n: n, tokens: tokens, write: write, quiet: quiet,
	}
	lanes := ssdLanes(p)
	for i := 0; i < p; i += lanes {
		a.s, a.x = unsafe.Pointer(&s[i]), unsafe.Pointer(&x[i])
		if quiet < tokens {
			a.y = unsafe.Pointer(&y[i])
		}
		ssdVector(&a, lanes)
	}
}
