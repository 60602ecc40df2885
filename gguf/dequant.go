package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Float32s converts all elements of t to float32 into dst, whose length must be t.Len().
func Float32s(dst []float32, t Tensor) error {
	if err := Dequantize(dst, t.Type, t.Data); err != nil {
		return fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	return nil
}

// decoders convert one block. The products are rounded before they are added, as ggml's definition does: hence the conversions, which
// keep a compiler from fusing the two.
var decoders = map[Type]func(dst []float32, b []byte){
	Q4_0: decodeQ4_0, Q4_1: decodeQ4_1, Q5_0: decodeQ5_0, Q5_1: decodeQ5_1, Q8_0: decodeQ8_0, Q4_K: decodeQ4_K, Q5_K: decodeQ5_K, Q6_K: decodeQ6_K,
}

// Convertible reports whether Dequantize knows the type.
func Convertible(t Type) bool {
	return t == F32 || t == F16 || t == BF16 || decoders[t] != nil
}

// Dequantize converts the blocks in src to float32 into dst, whose length must be the number of elements.
func Dequantize(dst []float32, t Type, src []byte) error {
	if !Convertible(t) {
		return fmt.Errorf("%s does not convert to float32 (F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K do)", t)
	}
	elements, bytes := t.Block()
	if len(src)%bytes != 0 || len(src)/bytes*elements != len(dst) {
		return fmt.Errorf("%d bytes of %s, want %d elements", len(src), t, len(dst))
	}
	switch t {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = half(src[2*i:])
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	default:
		decode := decoders[t]
		for i := range len(src) / bytes {
			decode(dst[i*elements:(i+1)*elements:(i+1)*elements], src[i*bytes:(i+1)*bytes:(i+1)*bytes])
		}
	}
	return nil
}

// decodeQ8_0: scale, 32 signed bytes.
func decodeQ8_0(dst []float32, b []byte) {
	d, q := half(b), b[2:34]
	for i := range dst[:32] {
		dst[i] = d * float32(int8(q[i]))
	}
}

// decodeQ4_0: scale, 32 nibbles less 8; the low ones come first.
func decodeQ4_0(dst []float32, b []byte) {
	d, q := half(b), b[2:18]
	lo, hi := dst[:16], dst[16:32]
	for i, v := range q {
		lo[i] = d * float32(int(v&15)-8)
		hi[i] = d * float32(int(v>>4)-8)
	}
}

// decodeQ4_1: scale, minimum, 32 nibbles.
func decodeQ4_1(dst []float32, b []byte) {
	d, m, q := half(b), half(b[2:]), b[4:20]
	lo, hi := dst[:16], dst[16:32]
	for i, v := range q {
		lo[i] = float32(d*float32(v&15)) + m
		hi[i] = float32(d*float32(v>>4)) + m
	}
}

// decodeQ5_0: scale, 32 fifth bits, 32 nibbles; the value less 16.
func decodeQ5_0(dst []float32, b []byte) {
	d, h, q := half(b), binary.LittleEndian.Uint32(b[2:]), b[6:22]
	lo, hi := dst[:16], dst[16:32]
	for i, v := range q {
		lo[i] = d * float32(int(v&15|byte(h>>i&1)<<4)-16)
		hi[i] = d * float32(int(v>>4|byte(h>>(i+16)&1)<<4)-16)
	}
}

// decodeQ5_1: scale, minimum, 32 fifth bits, 32 nibbles.
func decodeQ5_1(dst []float32, b []byte) {
	d, m, h, q := half(b), half(b[2:]), binary.LittleEndian.Uint32(b[4:]), b[8:24]
	lo, hi := dst[:16], dst[16:32]
	for i, v := range q {
		lo[i] = float32(d*float32(v&15|byte(h>>i&1)<<4)) + m
		hi[i] = float32(d*float32(v>>4|byte(h>>(i+16)&1)<<4)) + m
	}
}

// scaleMin unpacks the j-th of 8 pairs of 6-bit scales and minima from 12 bytes.
func scaleMin(s []byte, j int) (scale, minimum byte) {
	if j < 4 {
		return s[j] & 63, s[j+4] & 63
	}
	return s[j+4]&15 | s[j-4]>>6<<4, s[j+4]>>4 | s[j]>>6<<4
}

// decodeQ4_K: scale, scale of minima, 8 scales and minima, 256 nibbles; each 32 bytes hold two groups of 32.
func decodeQ4_K(dst []float32, b []byte) {
	d, dmin, s, q := half(b), half(b[2:]), b[4:16], b[16:144]
	for j := range 8 {
		scale, minimum := scaleMin(s, j)
		ds, dm := d*float32(scale), dmin*float32(minimum)
		shift := 4 * (j & 1)
		out := dst[32*j : 32*j+32]
		for i, v := range q[j/2*32 : j/2*32+32] {
			out[i] = float32(ds*float32(v>>shift&15)) - dm
		}
	}
}

// decodeQ5_K: as Q4_K with 256 fifth bits; bit j of byte i is that of element i of group j.
func decodeQ5_K(dst []float32, b []byte) {
	d, dmin, s, h, q := half(b), half(b[2:]), b[4:16], b[16:48], b[48:176]
	for j := range 8 {
		scale, minimum := scaleMin(s, j)
		ds, dm := d*float32(scale), dmin*float32(minimum)
		shift := 4 * (j & 1)
		out := dst[32*j : 32*j+32]
		for i, v := range q[j/2*32 : j/2*32+32] {
			out[i] = float32(ds*float32(v>>shift&15|h[i]>>j&1<<4)) - dm
		}
	}
}

// decodeQ6_K: 256 low nibbles, 256 high pairs of bits, 16 signed scales, scale; the value less 32.
func decodeQ6_K(dst []float32, b []byte) {
	ql, qh, s, d := b[:128], b[128:192], b[192:208], half(b[208:])
	var scales [16]float32
	for i, v := range s {
		scales[i] = d * float32(int8(v))
	}
	for j := range 8 { // groups of 32; four of them share 64 bytes of ql and 32 of qh
		low := ql[j/4*64+j%2*32:][:32]
		high := qh[j/4*32:][:32]
		lowShift, highShift := j%4/2*4, j%4*2
		out := dst[32*j : 32*j+32]
		for i := range out {
			v := int(low[i]>>lowShift&15|high[i]>>highShift&3<<4) - 32
			out[i] = scales[2*j+i/16] * float32(v)
		}
	}
}
