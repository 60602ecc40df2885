package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// DType is an element type as the format spells it. Names this package does not know are kept as they are.
type DType string

// The element types that convert to and from float32.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

// Bits returns the bits of one element, or 0 for a type this package does not know.
func (d DType) Bits() int {
	switch d {
	case "F4":
		return 4
	case "F6_E2M3", "F6_E3M2":
		return 6
	case "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0":
		return 8
	case "U16", "I16", F16, BF16:
		return 16
	case "U32", "I32", F32:
		return 32
	case "U64", "I64", F64, "C64":
		return 64
	}
	return 0
}

// Convertible reports whether Float32s converts elements of type d.
func Convertible(d DType) bool { return d == F32 || d == F16 || d == BF16 || d == F64 }

// Float32s converts the elements of t to float32 into dst, whose length must be the number of elements.
// F32, F16 and BF16 convert exactly; F64 rounds to nearest even; other types are an error.
func Float32s(dst []float32, t Tensor) error {
	size := t.DType.Bits() / 8
	if !Convertible(t.DType) {
		return fmt.Errorf("tensor %q: dtype %q does not convert to float32 (only F32, F16, BF16, F64 do)", t.Name, t.DType)
	}
	if len(t.Data)%size != 0 || len(t.Data)/size != len(dst) {
		return fmt.Errorf("tensor %q: %d bytes of %s, want %d elements", t.Name, len(t.Data), t.DType, len(dst))
	}
	src := t.Data
	switch t.DType {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	case F16:
		for i := range dst {
			dst[i] = halfToFloat(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
		}
	}
	return nil
}

// Float32View returns the elements of t where they lie, if they are float32 in the order of this machine.
func Float32View(t Tensor) ([]float32, bool) {
	p := unsafe.Pointer(unsafe.SliceData(t.Data))
	if t.DType != F32 || len(t.Data)%4 != 0 || uintptr(p)%4 != 0 || !littleEndian {
		return nil, false
	}
	return unsafe.Slice((*float32)(p), len(t.Data)/4), true
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// EncodeFloat32s returns src as little-endian elements of dtype, which must be F32, BF16 or F16 (it panics otherwise).
// BF16 and F16 round to nearest even; a NaN stays a NaN.
func EncodeFloat32s(dtype DType, src []float32) []byte {
	switch dtype {
	case F32:
		out := make([]byte, 4*len(src))
		for i, v := range src {
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(v))
		}
		return out
	case BF16:
		out := make([]byte, 2*len(src))
		for i, v := range src {
			binary.LittleEndian.PutUint16(out[2*i:], floatToBrain(v))
		}
		return out
	case F16:
		out := make([]byte, 2*len(src))
		for i, v := range src {
			binary.LittleEndian.PutUint16(out[2*i:], floatToHalf(v))
		}
		return out
	}
	panic(fmt.Sprintf("safetensors: EncodeFloat32s to %q, want F32, BF16 or F16", dtype))
}

// floatToBrain rounds v to bfloat16.
func floatToBrain(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 0x40 // a NaN whose payload sits in the low half must not become Inf
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// halfToFloat widens an IEEE binary16 value.
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

// floatToHalf rounds v to IEEE binary16.
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
