package gguf

import (
	"encoding/binary"
	"math"
)

// half returns the IEEE binary16 number at b.
func half(b []byte) float32 { return halfToFloat(binary.LittleEndian.Uint16(b)) }

// halfToFloat widens an IEEE binary16 value. The packages of the ground floor do not know each other, so safetensors has its own.
func halfToFloat(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, frac := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exp {
	case 0: // zero or subnormal: frac · 2⁻²⁴ is exact in float32
		return math.Float32frombits(math.Float32bits(float32(frac)*0x1p-24) | sign)
	case 0x1f:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}

// floatToHalf rounds v to IEEE binary16, to even.
func floatToHalf(v float32) uint16 {
	b := math.Float32bits(v)
	sign, mag := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case mag > 0x7f800000: // NaN
		return sign | 0x7e00 | uint16(mag>>13&0x3ff)
	case mag >= 0x477ff000: // 65520 and above round to Inf
		return sign | 0x7c00
	case mag < 0x38800000: // below 2⁻¹⁴: adding 0.5 leaves a multiple of 2⁻²⁴ in the low bits, rounded to even by the adder
		return sign | uint16(math.Float32bits(math.Float32frombits(mag)+0.5)-math.Float32bits(0.5))
	}
	mag += 0xfff + mag>>13&1
	return sign | uint16((mag-(127-15)<<23)>>13)
}

// floatToBrain rounds v to bfloat16, to even; a NaN becomes a quiet one.
func floatToBrain(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
