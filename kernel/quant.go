package kernel

import (
	"fmt"
	"math"
	"runtime"
)

// PanelFormat is a number format of packed weights that is narrower than float32.
type PanelFormat int

// The narrow formats. Q8 and Q4 are signed integers with one f16 scale for 32 consecutive weights of a row: 8.5 and 4.5 bits a weight.
const (
	BF16 PanelFormat = iota
	Q8
	Q4
	panelFormats = iota
)

// String returns the format's name.
func (f PanelFormat) String() string { return [...]string{"bf16", "q8", "q4"}[f] }

const (
	quantGroupLen = 32 // weights, or activations, that share a scale
	superblock    = 64 // columns of a superblock, to a multiple of which K is padded with zeros
)

// width is the number of rows of W in a panel.
func (f PanelFormat) width() int {
	if f == BF16 {
		return PanelWidth
	}
	return 16
}

// block is the number of bytes of a panel's superblock.
func (f PanelFormat) block() int { return [...]int{4096, 1088, 576}[f] }

// QuantPanels is a weight matrix W (N,K) in a narrow format, packed for multiplication. A panel of bf16 is 32 rows as [K/2][32][2]. A
// panel of Q8 or Q4 is 16 rows in superblocks of 64 columns; one of Q8 is [16][16 rows][4] bytes q+128 and [2][16 rows] scales, one of Q4
// is [2][4][16 rows][4] pairs of nibbles q+8, column c of 32 in the low and c+16 in the high one, and [2][16 rows] scales. Rows and
// columns are padded with zeros. Data begins on a cache line; it may stand in a Memory.
type QuantPanels struct {
	Format PanelFormat
	N, K   int
	Data   []byte
	memory *Memory // kept alive
}

// QuantSize returns the bytes of W (n,k) in format f.
func QuantSize(f PanelFormat, n, k int) int {
	return roundUp(n, f.width()) / f.width() * (roundUp(k, superblock) / superblock) * f.block()
}

// NewQuantPanels returns W (n,k) of zero bytes in memory m, to be filled with bytes in the format, or of the Go heap if m is nil.
func NewQuantPanels(f PanelFormat, n, k int, m *Memory) *QuantPanels {
	p := &QuantPanels{Format: f, N: n, K: k, memory: m}
	if size := QuantSize(f, n, k); m != nil {
		p.Data = m.Bytes(size)
	} else {
		p.Data = alignedBytes(size)
	}
	return p
}

// Quantize packs w (n,k), row-major, over all cores. Q8 and Q4 round to the nearest multiple of the group's scale: the error is at most half
// of it (for Q4, plus what rounding the scale to f16 costs at -8 and 7). Groups whose largest magnitude is below 2⁻²⁵ (Q8) or 2⁻¹⁸ (Q4) become zero; a
// group with NaN or Inf becomes NaN. Packing the values of packed weights gives the same bytes.
func Quantize(f PanelFormat, w []float32, n, k int, m *Memory) *QuantPanels {
	checkSize(w, n, k)
	return QuantizeRows(f, DenseRows(w, k), n, k, m)
}

// QuantizeRows is Quantize for a matrix (n,k) that need not be in memory as a whole.
func QuantizeRows(f PanelFormat, rows Rows, n, k int, m *Memory) *QuantPanels {
	p := NewQuantPanels(f, n, k, m)
	width, size := f.width(), roundUp(k, superblock)/superblock*f.block()
	eachPanel(rows, n, k, width, func(i int, w []float32, rows int) {
		panel := p.Data[i*size:][:size]
		if f == BF16 && k%brainVector == 0 {
			packBrainPanel(panel, w, rows, k)
			return
		}
		for r := range width {
			if r < rows {
				p.encode(panel, r, w[r*k:][:k])
			} else {
				p.encode(panel, r, nil)
			}
		}
	})
	runtime.KeepAlive(m)
	return p
}

// brainVector is the multiple of numbers that a level rounds to bf16 at a time.
const brainVector = 16

// packBrainPanel writes a panel of bf16, zeros before: it is that of float32 with pairs of bf16 for numbers.
func packBrainPanel(panel []byte, w []float32, rows, k int) {
	s := packScratch.get()
	s.data = grow(s.data, rows*k/2)
	for r := range rows {
		active.narrow[BF16].activations(bytesOf(s.data[r*k/2:][:k/2]), w[r*k:][:k])
	}
	active.packPanel(floatsOf(panel)[:PanelWidth*k/2], s.data, rows, k/2)
	packScratch.put(s)
}

func checkSize(w []float32, n, k int) {
	if n < 0 || k < 0 || len(w) != n*k {
		panic(fmt.Sprintf("kernel: matrix (%d, %d) of %d numbers", n, k, len(w)))
	}
}

// encode writes one row, padded with zeros, into row r of its panel.
func (p *QuantPanels) encode(panel []byte, r int, row []float32) {
	if p.Format == BF16 {
		for l, v := range row {
			h := floatToBrain(v)
			at := (l/2*PanelWidth+r)*4 + l%2*2
			panel[at], panel[at+1] = byte(h), byte(h>>8)
		}
		return
	}
	var group [quantGroupLen]float32
	block := p.Format.block()
	for g := range roundUp(p.K, superblock) / quantGroupLen {
		clear(group[:])
		if at := g * quantGroupLen; at < len(row) {
			copy(group[:], row[at:])
		}
		b := panel[g/2*block:][:block]
		if p.Format == Q8 {
			encodeQ8(b, g%2, r, &group)
		} else {
			encodeQ4(b, g%2, r, &group)
		}
	}
}

// f16Step is the distance of the smallest half-precision numbers.
const f16Step = 0x1p-24

func putScale(b []byte, half, r int, h uint16) {
	at := len(b) - 64 + 32*half + 2*r
	b[at], b[at+1] = byte(h), byte(h>>8)
}

// encodeQ8 writes one group of a row: q = round(v/s), s = max|v|/127. Scales so small that half precision would round them by more than
// half a step of q are powers of two, at least max|v|/127, which packing a second time finds again.
func encodeQ8(b []byte, half, r int, group *[quantGroupLen]float32) {
	var top float32
	for _, v := range group {
		top = max(top, v, -v) // NaN if there is one
	}
	s := top / 127
	switch {
	case top <= f16Step/2:
		s = 0
	case s < 127*f16Step:
		s = max(f16Step, powerOfTwo(s))
	}
	h := floatToHalf(s)
	putScale(b, half, r, h)
	s = halfToFloat(h)
	for i, v := range group {
		q := int32(0)
		if s > 0 && s <= math.MaxFloat32 {
			q = int32(max(-127, min(127, math.RoundToEven(float64(v/s)))))
		}
		b[half*512+i/4*64+r*4+i%4] = byte(q + 128)
	}
}

// powerOfTwo returns the smallest power of two that is at least v > 0.
func powerOfTwo(v float32) float32 {
	frac, exp := math.Frexp(float64(v))
	if frac == 0.5 {
		exp--
	}
	return float32(math.Ldexp(1, exp))
}

// encodeQ4 writes one group of a row: the number of largest magnitude becomes -8, with a negative scale if it is positive, and the others
// round to -8…7. The scale is larger where 7 would else be more than half a step from the largest number of the other sign.
func encodeQ4(b []byte, half, r int, group *[quantGroupLen]float32) {
	var top, other float32
	at, nan := 0, false
	for i, v := range group {
		nan = nan || v != v
		if max(v, -v) > max(top, -top) {
			top, at = v, i
		}
	}
	for _, v := range group {
		if (v < 0) != (top < 0) {
			other = max(other, v, -v)
		}
	}
	s := max(max(top, -top)/8, other/7.5)
	switch {
	case nan:
		s = float32(math.NaN())
	case s < 8*f16Step:
		s = 0
	}
	if top > 0 && s != 0 {
		s = -s
	}
	h := floatToHalf(s)
	putScale(b, half, r, h)
	s = halfToFloat(h)
	finite := s != 0 && s-s == 0
	for i, v := range group {
		q := 0
		switch {
		case finite && i == at:
			q = -8
		case finite:
			q = int(max(-8, min(7, math.RoundToEven(float64(v/s)))))
		}
		byteAt := half*256 + i%16/4*64 + r*4 + i%4
		shift := i / 16 * 4
		b[byteAt] = b[byteAt]&(0xf0>>shift) | byte(q+8)<<shift
	}
}

// Row sets dst (K) to row r of W.
func (p *QuantPanels) Row(dst []float32, r int) {
	if r < 0 || r >= p.N || len(dst) != p.K {
		panic(fmt.Sprintf("kernel: row %d of (%d, %d) into %d numbers", r, p.N, p.K, len(dst)))
	}
	width, block := p.Format.width(), p.Format.block()
	size := roundUp(p.K, superblock) / superblock * block
	panel := p.Data[r/width*size:][:size]
	r %= width
	for l := range dst {
		b, c := panel[l/superblock*block:][:block], l%superblock
		half, i := c/quantGroupLen, c%quantGroupLen
		switch p.Format {
		case BF16:
			at := (c/2*PanelWidth+r)*4 + c%2*2
			dst[l] = brainToFloat(le16(b[at:]))
		case Q8:
			q := float32(int(b[half*512+i/4*64+r*4+i%4]) - 128)
			dst[l] = q * halfToFloat(le16(b[block-64+32*half+2*r:]))
		case Q4:
			q := float32(int(b[half*256+i%16/4*64+r*4+i%4]>>(i/16*4)&15) - 8)
			dst[l] = q * halfToFloat(le16(b[block-64+32*half+2*r:]))
		}
	}
	runtime.KeepAlive(p)
}

// Dequantize sets w (N,K), row-major, to the values of W, over all cores.
func (p *QuantPanels) Dequantize(w []float32) {
	checkSize(w, p.N, p.K)
	Parallel(p.N, func(r int) { p.Row(w[r*p.K:][:p.K], r) })
}

func le16(b []byte) uint16 { return uint16(b[0]) | uint16(b[1])<<8 }

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func putLE32(b []byte, v uint32) {
	b[0], b[1], b[2], b[3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
}
