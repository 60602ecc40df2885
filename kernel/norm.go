package kernel

import "math"

// RMSNorm normalises each of rows rows of dim elements: y = x·rstd·w with rstd = 1/sqrt(mean(x²)+eps) (Zhang and Sennrich 2019). rstd (rows) is an output.
func RMSNorm(y, rstd, x, w []float32, rows, dim int, eps float32) {
	active.rmsNorm(y, rstd, x, w, rows, dim, eps)
}

func rmsNormPortable(y, rstd, x, w []float32, rows, dim int, eps float32) {
	for r := range rows {
		xr, yr := x[r*dim:][:dim], y[r*dim:][:dim]
		s := 1 / float32(math.Sqrt(float64(dotPortable(xr, xr)/float32(dim)+eps)))
		rstd[r] = s
		for i, v := range xr {
			yr[i] = v * s * w[i]
		}
	}
}

// RMSNormGrad adds the gradients of RMSNorm to dx (rows, dim) and dw (dim).
func RMSNormGrad(dx, dw, dy, x, w, rstd []float32, rows, dim int) {
	active.rmsNormGrad(dx, dw, dy, x, w, rstd, rows, dim)
}

func rmsNormGradPortable(dx, dw, dy, x, w, rstd []float32, rows, dim int) {
	for r := range rows {
		xr, dyr, dxr := x[r*dim:][:dim], dy[r*dim:][:dim], dx[r*dim:][:dim]
		s := rstd[r]
		var dot float32 // Σ dy·w·x̂
		for i, v := range xr {
			dot += dyr[i] * w[i] * v * s
		}
		for i, v := range xr {
			xhat := v * s
			dw[i] += dyr[i] * xhat
			dxr[i] += s * (dyr[i]*w[i] - xhat*dot/float32(dim))
		}
	}
}

// GatedRMSNorm gates first and normalises each group after: g = x·silu(z), y = g·rstd·w with rstd over each of groups groups of p
// elements. x and y are (rows, groups·p); z has the row stride ldz; w is (groups·p); rstd (rows, groups) is an output.
func GatedRMSNorm(y, rstd, x, z []float32, ldz int, w []float32, rows, groups, p int, eps float32) {
	active.gatedRMSNorm(y, rstd, x, z, ldz, w, rows, groups, p, eps)
}

func gatedRMSNormPortable(y, rstd, x, z []float32, ldz int, w []float32, rows, groups, p int, eps float32) {
	dim := groups * p
	for r := range rows {
		yr := y[r*dim:][:dim]
		swigluPortable(yr, z[r*ldz:][:dim], x[r*dim:][:dim])
		for g := range groups {
			yg, wg := yr[g*p:][:p], w[g*p:][:p]
			s := 1 / float32(math.Sqrt(float64(dotPortable(yg, yg)/float32(p)+eps)))
			rstd[r*groups+g] = s
			for i := range yg {
				yg[i] *= s * wg[i]
			}
		}
	}
}

// GatedRMSNormGrad adds the gradients of GatedRMSNorm to dx (rows, groups·p), dz (row stride ldz) and dw (groups·p).
func GatedRMSNormGrad(dx, dz, dw, dy, x, z []float32, ldz int, w, rstd []float32, rows, groups, p int) {
	active.gatedRMSNormGrad(dx, dz, dw, dy, x, z, ldz, w, rstd, rows, groups, p)
}

func gatedRMSNormGradPortable(dx, dz, dw, dy, x, z []float32, ldz int, w, rstd []float32, rows, groups, p int) {
	dim := groups * p
	for r := range rows {
		for g := range groups {
			o, s := r*dim+g*p, rstd[r*groups+g]
			var dot float32 // Σ dy·w·ĝ
			for i := range p {
				zi := z[r*ldz+g*p+i]
				dot += dy[o+i] * w[g*p+i] * x[o+i] * zi * sigmoid(zi) * s
			}
			for i := range p {
				zi := z[r*ldz+g*p+i]
				sig := sigmoid(zi)
				ghat := x[o+i] * zi * sig * s
				dw[g*p+i] += dy[o+i] * ghat
				dg := s * (dy[o+i]*w[g*p+i] - ghat*dot/float32(p))
				dx[o+i] += dg * zi * sig
				dz[r*ldz+g*p+i] += dg * x[o+i] * sig * (1 + zi*(1-sig))
			}
		}
	}
}
