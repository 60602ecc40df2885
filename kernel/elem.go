package kernel

import (
	"iter"
	"math"
)

// spanMax bounds the elements that one call of an elementwise kernel works on: assembly can't be preempted, and this much takes less
// than 100 µs.
const spanMax = 1 << 16

// sumSpan is the length of the ranges whose sums are added up at the end: it keeps the rounding errors of long sums small.
const sumSpan = 1 << 12

// spans cuts n elements into ranges of at most size.
func spans(n, size int) iter.Seq2[int, int] {
	return func(yield func(lo, hi int) bool) {
		for lo := 0; lo < n && yield(lo, min(lo+size, n)); lo += size {
		}
	}
}

// Exp sets y[i] = exp(x[i]).
func Exp(y, x []float32) {
	for lo, hi := range spans(len(y), spanMax) {
		active.exp(y[lo:hi], x[lo:hi])
	}
}

func expPortable(y, x []float32) {
	for i, v := range x {
		y[i] = float32(math.Exp(float64(v)))
	}
}

// ExpSum sets y[i] = exp(x[i]-m) and returns the sum of y. The order of the sum depends on i alone, so trailing zeros change nothing.
func ExpSum(y, x []float32, m float32) float32 {
	var sum float32
	for lo, hi := range spans(len(y), sumSpan) {
		sum += active.expSum(y[lo:hi], x[lo:hi], m)
	}
	return sum
}

func expSumPortable(y, x []float32, m float32) float32 {
	var sum float32
	for i, v := range x {
		e := float32(math.Exp(float64(v - m)))
		y[i] = e
		sum += e
	}
	return sum
}

// Max returns the largest x[i], or -Inf for an empty x; NaNs are passed over.
func Max(x []float32) float32 {
	m := float32(math.Inf(-1))
	for lo, hi := range spans(len(x), spanMax) {
		m = max(m, active.max(x[lo:hi]))
	}
	return m
}

func maxPortable(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		if v > m {
			m = v
		}
	}
	return m
}

// Dot returns Σ a[i]·b[i].
func Dot(a, b []float32) float32 {
	var sum float32
	for lo, hi := range spans(len(a), sumSpan) {
		sum += active.dot(a[lo:hi], b[lo:hi])
	}
	return sum
}

func dotPortable(a, b []float32) float32 {
	var sum float32
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

// Sum returns Σ x[i].
func Sum(x []float32) float32 {
	var sum float32
	for lo, hi := range spans(len(x), sumSpan) {
		sum += active.sum(x[lo:hi])
	}
	return sum
}

func sumPortable(x []float32) float32 {
	var sum float32
	for _, v := range x {
		sum += v
	}
	return sum
}

// Add adds x to y.
func Add(y, x []float32) { Axpy(y, 1, x) }

// Axpy adds a·x to y.
func Axpy(y []float32, a float32, x []float32) {
	for lo, hi := range spans(len(y), spanMax) {
		active.axpy(y[lo:hi], a, x[lo:hi])
	}
}

func axpyPortable(y []float32, a float32, x []float32) {
	for i, v := range x {
		y[i] += a * v
	}
}

// Scale sets y = a·x; y and x may be the same.
func Scale(y []float32, a float32, x []float32) {
	for lo, hi := range spans(len(y), spanMax) {
		active.scale(y[lo:hi], a, x[lo:hi])
	}
}

func scalePortable(y []float32, a float32, x []float32) {
	for i, v := range x {
		y[i] = a * v
	}
}

// Mul sets y[i] = a[i]·b[i].
func Mul(y, a, b []float32) {
	for lo, hi := range spans(len(y), spanMax) {
		active.mul(y[lo:hi], a[lo:hi], b[lo:hi])
	}
}

func mulPortable(y, a, b []float32) {
	for i := range y {
		y[i] = a[i] * b[i]
	}
}

// MulAdd adds a[i]·b[i] to y[i].
func MulAdd(y, a, b []float32) {
	for lo, hi := range spans(len(y), spanMax) {
		active.mulAdd(y[lo:hi], a[lo:hi], b[lo:hi])
	}
}

func mulAddPortable(y, a, b []float32) {
	for i := range y {
		y[i] += a[i] * b[i]
	}
}

// SiLU sets y[i] = x[i]·σ(x[i]).
func SiLU(y, x []float32) {
	for lo, hi := range spans(len(y), spanMax) {
		active.silu(y[lo:hi], x[lo:hi])
	}
}

func siluPortable(y, x []float32) {
	for i, v := range x {
		y[i] = v * sigmoid(v)
	}
}

// SiLUGrad adds dy·d silu(x)/dx to dx.
func SiLUGrad(dx, dy, x []float32) {
	for lo, hi := range spans(len(dx), spanMax) {
		active.siluGrad(dx[lo:hi], dy[lo:hi], x[lo:hi])
	}
}

func siluGradPortable(dx, dy, x []float32) {
	for i, v := range x {
		s := sigmoid(v)
		dx[i] += dy[i] * s * (1 + v*(1-s))
	}
}

// SwiGLU sets y[i] = silu(gate[i])·up[i] (Shazeer 2020).
func SwiGLU(y, gate, up []float32) {
	for lo, hi := range spans(len(y), spanMax) {
		active.swiglu(y[lo:hi], gate[lo:hi], up[lo:hi])
	}
}

func swigluPortable(y, gate, up []float32) {
	for i, v := range gate {
		y[i] = v * sigmoid(v) * up[i]
	}
}

// SwiGLUGrad adds the gradients of SwiGLU to dgate and dup.
func SwiGLUGrad(dgate, dup, dy, gate, up []float32) {
	for lo, hi := range spans(len(dgate), spanMax) {
		active.swigluGrad(dgate[lo:hi], dup[lo:hi], dy[lo:hi], gate[lo:hi], up[lo:hi])
	}
}

func swigluGradPortable(dgate, dup, dy, gate, up []float32) {
	for i, v := range gate {
		s := sigmoid(v)
		dgate[i] += dy[i] * up[i] * s * (1 + v*(1-s))
		dup[i] += dy[i] * v * s
	}
}

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }

// Softplus sets y[i] = log(1+exp(x[i])), and x[i] itself above 20, as PyTorch does.
func Softplus(y, x []float32) {
	for lo, hi := range spans(len(y), spanMax) {
		active.softplus(y[lo:hi], x[lo:hi])
	}
}

func softplusPortable(y, x []float32) {
	for i, v := range x[:len(y)] {
		if v <= 20 {
			v = float32(math.Log1p(math.Exp(float64(v))))
		}
		y[i] = v
	}
}

// Rope rotates each head's halves, (x[i], x[i+p/2]) by the angle whose cosine and sine stand at [row][i]: rotary position embedding
// with the half-split pairing of the Hugging Face checkpoints (Su et al. 2021). x is (rows, heads·p) with row stride ldx and is
// changed in place; cos and sin are (rows, p/2). A negative sign rotates back, which is the gradient.
func Rope(x []float32, ldx int, cos, sin []float32, rows, heads, p int, sign float32) {
	active.rope(x, ldx, cos, sin, rows, heads, p, sign)
}

func ropePortable(x []float32, ldx int, cos, sin []float32, rows, heads, p int, sign float32) {
	half := p / 2
	for t := range rows {
		c, s := cos[t*half:][:half], sin[t*half:][:half]
		for h := range heads {
			lo := x[t*ldx+h*p:][:half]
			hi := x[t*ldx+h*p+half:][:half]
			for i := range half {
				a, b := lo[i], hi[i]
				lo[i] = a*c[i] - sign*b*s[i]
				hi[i] = b*c[i] + sign*a*s[i]
			}
		}
	}
}

// AdamWStep holds the scalars of one optimiser step: LR is the learning rate of this step, C1 = 1-β₁ᵗ and C2 = 1-β₂ᵗ, and Scale
// multiplies the gradient first (1/tokens, and clipping).
type AdamWStep struct{ LR, Beta1, Beta2, Eps, WeightDecay, C1, C2, Scale float32 }

// AdamW updates the weights p and the moments m and v from the gradient g (Loshchilov and Hutter 2019, Algorithm 2).
func AdamW(p, m, v, g []float32, s AdamWStep) {
	for lo, hi := range spans(len(p), spanMax) {
		active.adamw(p[lo:hi], m[lo:hi], v[lo:hi], g[lo:hi], s)
	}
}

func adamwPortable(p, m, v, g []float32, s AdamWStep) {
	for i := range p {
		gi := g[i] * s.Scale
		m[i] = s.Beta1*m[i] + (1-s.Beta1)*gi
		v[i] = s.Beta2*v[i] + (1-s.Beta2)*gi*gi
		p[i] -= s.LR * (m[i]/s.C1/(float32(math.Sqrt(float64(v[i]/s.C2)))+s.Eps) + s.WeightDecay*p[i])
	}
}
