package kernel

import "math"

// halfToFloat returns the value of an IEEE half-precision number.
func halfToFloat(h uint16) float32 {
	sign, exp, frac := uint32(h&0x8000)<<16, uint32(h>>10&31), uint32(h&0x3ff)
	switch exp {
	case 0:
		v := float32(frac) * 0x1p-24
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// floatToHalf rounds to the nearest half-precision number, ties to even; a NaN becomes the quiet NaN.
func floatToHalf(v float32) uint16 {
	b := math.Float32bits(v)
	sign, b := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00
	case b >= 0x477ff000: // 65520 rounds to infinity
		return sign | 0x7c00
	case b < 0x38800000: // below 2⁻¹⁴: a multiple of 2⁻²⁴, added so that the rounding falls there
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	}
	b += 0xfff + b>>13&1
	return sign | uint16((b-112<<23)>>13)
}

// floatToBrain rounds to the nearest bf16, ties to even; a NaN becomes the quiet NaN.
func floatToBrain(v float32) uint16 {
	b := math.Float32bits(v)
	if b&0x7fffffff > 0x7f800000 {
		return 0x7fc0
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

func brainToFloat(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// multiplyAdd is x·y + z rounded once, as the processors' instruction does. The product is exact in float64; the sum is rounded to odd
// there, so that rounding it again to float32 gives the right result (Boldo and Melquiond 2008).
func multiplyAdd(x, y, z float32) float32 {
	p, c := float64(x)*float64(y), float64(z)
	s := p + c
	t := s - p
	if e := (p - (s - t)) + (c - t); e != 0 && !math.IsInf(s, 0) && s == s {
		if b := math.Float64bits(s); b&1 == 0 {
			if (e > 0) == (s > 0) {
				b++
			} else {
				b--
			}
			s = math.Float64frombits(b)
		}
	}
	return float32(s)
}

// toHalfPortable sets y to x in f16, to nearest even; numbers beyond ±65504 become ±65504, and a NaN stays one.
func toHalfPortable(y []uint16, x []float32) {
	for i, v := range x {
		y[i] = floatToHalf(max(-maxHalf, min(maxHalf, v)))
	}
}

// maxHalf is the largest finite f16.
const maxHalf = 65504

// fromHalfPortable sets y to the values of x.
func fromHalfPortable(y []float32, x []uint16) {
	for i, h := range x {
		y[i] = halfToFloat(h)
	}
}
