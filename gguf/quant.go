package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Quantize returns src as blocks of type t, one of F32, F16, BF16, Q8_0 and Q4_0, rounded as ggml's reference does. The number of
// elements must be a multiple of the block's, and the quantised types take finite numbers only.
func Quantize(t Type, src []float32) ([]byte, error) {
	elements, bytes := t.Block()
	if elements == 0 || len(src)%elements != 0 {
		return nil, fmt.Errorf("%d elements are not whole blocks of %s", len(src), t)
	}
	out := make([]byte, len(src)/elements*bytes)
	encode := encodeQ8_0
	switch t {
	case F32:
		for i, v := range src {
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(v))
		}
		return out, nil
	case F16:
		for i, v := range src {
			binary.LittleEndian.PutUint16(out[2*i:], floatToHalf(v))
		}
		return out, nil
	case BF16:
		for i, v := range src {
			binary.LittleEndian.PutUint16(out[2*i:], floatToBrain(v))
		}
		return out, nil
	case Q8_0:
	case Q4_0:
		encode = encodeQ4_0
	default:
		return nil, fmt.Errorf("float32 does not convert to %s (to F32, F16, BF16, Q8_0, Q4_0 it does)", t)
	}
	for i, v := range src {
		if v-v != 0 {
			return nil, fmt.Errorf("element %d is %v, which %s cannot hold", i, v, t)
		}
	}
	for i := range len(src) / elements {
		encode(out[i*bytes:(i+1)*bytes], src[i*elements:(i+1)*elements])
	}
	return out, nil
}

// inverse returns 1/d, and 0 for a scale too small to have one.
func inverse(d float32) float32 {
	if i := 1 / d; i-i == 0 {
		return i
	}
	return 0
}

// encodeQ8_0: the largest magnitude becomes ±127; halves round away from zero.
func encodeQ8_0(dst []byte, x []float32) {
	var largest float32
	for _, v := range x {
		largest = max(largest, float32(math.Abs(float64(v))))
	}
	d := largest / 127
	id := inverse(d)
	binary.LittleEndian.PutUint16(dst, floatToHalf(d))
	for i, v := range x {
		dst[2+i] = byte(int8(math.Round(float64(float32(v * id)))))
	}
}

// encodeQ4_0: the value of largest magnitude, with its sign, becomes -8.
func encodeQ4_0(dst []byte, x []float32) {
	var largest, extreme float32
	for _, v := range x {
		if a := float32(math.Abs(float64(v))); a > largest {
			largest, extreme = a, v
		}
	}
	d := extreme / -8
	id := float64(inverse(d))
	binary.LittleEndian.PutUint16(dst, floatToHalf(d))
	nibble := func(v float32) byte {
		return byte(min(float32(float64(v)*id+8.5), 15)) // the product is exact in float64; never below 0.5
	}
	for i := range 16 {
		dst[2+i] = nibble(x[i]) | nibble(x[16+i])<<4
	}
}
