package kernel

import "math"

// A row of activations is, for bf16, the numbers rounded to bf16; for Q8 and Q4 groups of 32 numbers: the integers q = round(x·most/max|x|), the
// scale max|x|/most as float32, and the int32 -Σq·bias, with the bias of the weights, 128 or 8. A group below 2⁻¹⁰⁰ counts as zero.
// A NaN or an Inf makes the scale, and so the row's products, NaN. Beside Q4, q is a byte. Beside Q8 the error of 8 bits would be most of
// a product's, so there q has 16: words, of which each four stand as 0, 2, 1, 3, the order in which a level without products of bytes finds the weights'
// bytes; or, where a level has such products, 32 high bytes and 32 low ones, q = 256·high + low, both signed. A sum of a group's products, at
// most 32·255·32639, is exact in int32 either way.
const (
	quantTiny   = 0x1p-100
	mostQ8      = 127<<8 + 127 // so that the high byte, rounded, is at most 127
	mostQ4      = 127
	digitStride = 32 // bytes from a group's high bytes to its low ones
)

// groupBytes is the size of a group of activations.
func (f PanelFormat) groupBytes() int {
	if f == Q8 {
		return 2*quantGroupLen + 8
	}
	return quantGroupLen + 8
}

// scaleAt and offsetAt are where in a group the scale and the offset stand.
func (f PanelFormat) scaleAt() int  { return f.groupBytes() - 8 }
func (f PanelFormat) offsetAt() int { return f.groupBytes() - 4 }

// activationBytes is the size of a row of k activations.
func (f PanelFormat) activationBytes(k int) int {
	if f == BF16 {
		return 2 * k
	}
	return k / quantGroupLen * f.groupBytes()
}

// Digits is the number of products of bytes that stand for one of a weight and a number of x: two beside Q8, whose activations have 16 bits.
func (f PanelFormat) Digits() int {
	if f == Q8 {
		return 2
	}
	return 1
}

// shift is the binary logarithm of the bias.
func (f PanelFormat) shift() int {
	if f == Q8 {
		return 7
	}
	return 3
}

func brainRowPortable(dst []byte, x []float32) {
	for i, v := range x {
		h := floatToBrain(v)
		dst[2*i], dst[2*i+1] = byte(h), byte(h>>8)
	}
}

// quantizeRowPortable writes activations beside f, with put for the integer at i of a group.
func quantizeRowPortable(f PanelFormat, most float32, put func(dst []byte, i int, q int32)) func(dst []byte, x []float32) {
	return func(dst []byte, x []float32) {
		for ; len(x) > 0; x, dst = x[quantGroupLen:], dst[f.groupBytes():] {
			var top uint32 // the order of magnitudes is that of their bits, NaN last
			for _, v := range x[:quantGroupLen] {
				top = max(top, math.Float32bits(v)&0x7fffffff)
			}
			largest := math.Float32frombits(top)
			inverse, scale := most/largest, largest*(1/most)
			switch {
			case !(largest <= math.MaxFloat32):
				inverse, scale = 0, float32(math.NaN())
			case largest < quantTiny:
				inverse, scale = 0, 0
			}
			sum := int32(0)
			for i, v := range x[:quantGroupLen] {
				q := int32(0)
				if inverse != 0 {
					q = int32(math.RoundToEven(float64(v * inverse)))
				}
				sum += q
				put(dst, i, q)
			}
			putLE32(dst[f.scaleAt():], math.Float32bits(scale))
			putLE32(dst[f.offsetAt():], uint32(-sum<<f.shift()))
		}
	}
}

func putByte(dst []byte, i int, q int32) { dst[i] = byte(q) }

func putWord(dst []byte, i int, q int32) {
	at := 2 * wordAt(i)
	dst[at], dst[at+1] = byte(q), byte(q>>8)
}

// wordAt is the place of a group's integer i among its words.
func wordAt(i int) int { return i&^3 | i&1<<1 | i>>1&1 }

func byteOf(a []byte, i int) int32 { return int32(int8(a[i])) }
func wordOf(a []byte, i int) int32 { return int32(int16(le16(a[2*wordAt(i):]))) }
