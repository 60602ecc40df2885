package kernel

import (
	"fmt"
	"unsafe"
)

// KVFormat is the precision in which keys and values are kept.
type KVFormat uint8

// The formats of keys and values. KVF16 rounds to nearest even when they are written. A number beyond ±65504, the largest in f16, becomes
// ±65504, so that a single large key costs its own precision and not, as an infinity, the whole row; a NaN stays one.
const (
	KVF32 KVFormat = iota
	KVF16
)

var kvNames = [...]string{KVF32: "f32", KVF16: "f16"}

// String returns f32 or f16.
func (f KVFormat) String() string { return kvNames[f] }

// Bytes returns the size of a number.
func (f KVFormat) Bytes() int { return [...]int{KVF32: 4, KVF16: 2}[f] }

// ParseKV returns the format of a name.
func ParseKV(name string) (KVFormat, error) {
	for f, n := range kvNames {
		if n == name {
			return KVFormat(f), nil
		}
	}
	return 0, fmt.Errorf("keys and values in %q: want f32 or f16", name)
}

// KV holds the keys and values of one key-value head: keys in panels [Len/32][P][32], so that scores need no packing, values in rows
// (Len, P). They are in K and V, or with KVF16 in HalfK and HalfV. Cutting it back is a change of Len.
type KV struct {
	P, Len       int
	Format       KVFormat
	K, V         []float32
	HalfK, HalfV []uint16
}

// Append adds rows keys and values with row strides ldk and ldv.
func (c *KV) Append(k []float32, ldk int, v []float32, ldv, rows int) {
	c.grow(c.Len + rows)
	for r := range rows {
		t := c.Len + r
		at, key, value := t/PanelWidth*PanelWidth*c.P+t%PanelWidth, k[r*ldk:][:c.P], v[r*ldv:][:c.P]
		if c.Format == KVF16 {
			row := c.HalfV[t*c.P:][:c.P]
			active.toHalf(row, key) // on its way to the panel
			scatter(c.HalfK[at:], row)
			active.toHalf(row, value)
			continue
		}
		scatter(c.K[at:], key)
		copy(c.V[t*c.P:][:c.P], value)
	}
	c.Len += rows
}

// scatter puts x into a column of a panel.
func scatter[T any](panel, x []T) {
	for i, v := range x {
		panel[i*PanelWidth] = v
	}
}

// Repeat makes the keys and values n by repeating those there are, whole panels of them.
func (c *KV) Repeat(n int) {
	c.grow(n)
	whole := c.Len / PanelWidth * PanelWidth * c.P
	if whole == 0 {
		panic("kernel: Repeat of less than a panel of keys")
	}
	end := roundUp(n, PanelWidth) * c.P
	if c.Format == KVF16 {
		repeat(c.HalfK[:end], whole)
		repeat(c.HalfV[:end], whole)
	} else {
		repeat(c.K[:end], whole)
		repeat(c.V[:end], whole)
	}
	c.Len = n
}

// repeat fills s with its first n elements.
func repeat[T any](s []T, n int) {
	for at := n; at < len(s); at += copy(s[at:], s[:n]) {
	}
}

// room is the number of tokens that fit.
func (c *KV) room() int { return max(len(c.V), len(c.HalfV)) / max(1, c.P) }

// grow makes room for n tokens.
func (c *KV) grow(n int) {
	if n > c.room() {
		one := [1]KV{*c}
		ReserveKV(one[:], n)
		*c = one[0]
	}
}

// ReserveKV makes room for n tokens in the caches of a layer's heads, which are alike. They lie in one piece of memory, in huge pages where
// the system has them: reading is a quarter faster than from small ones.
func ReserveKV(heads []KV, n int) {
	if room := heads[0].room(); n > room {
		moveKV(heads, max(2*room, roundUp(n, PanelWidth)))
	}
}

// moveKV gives the heads new memory, with room for n tokens, and copies what they hold.
func moveKV(heads []KV, n int) {
	size, used := n*heads[0].P, roundUp(heads[0].Len, PanelWidth)*heads[0].P
	if heads[0].Format == KVF16 {
		block := hugeSlice[uint16](2 * len(heads) * size)
		for i := range heads {
			c := &heads[i]
			c.HalfK, c.HalfV = movedKV(block[2*i*size:], c.HalfK, size, used), movedKV(block[(2*i+1)*size:], c.HalfV, size, used)
		}
		return
	}
	block := hugeSlice[float32](2 * len(heads) * size)
	for i := range heads {
		c := &heads[i]
		c.K, c.V = movedKV(block[2*i*size:], c.K, size, used), movedKV(block[(2*i+1)*size:], c.V, size, used)
	}
}

// movedKV returns the first size elements of to, after it has copied those used of from.
func movedKV[T any](to, from []T, size, used int) []T {
	copy(to[:size], from[:min(used, len(from))])
	return to[:size:size]
}

// hugeSlice returns n zeros on the Go heap, where a state's memory must be for the collector to know of it, for which the system is
// asked for huge pages.
func hugeSlice[T any](n int) []T {
	s := make([]T, n)
	if n > 0 {
		adviseHuge(unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), n*int(unsafe.Sizeof(s[0]))))
	}
	return s
}

// CloneKV returns copies of a layer's heads that share nothing with them.
func CloneKV(heads []KV) []KV {
	c := append([]KV(nil), heads...)
	if len(c) > 0 && c[0].room() > 0 {
		moveKV(c, c[0].room())
	}
	return c
}

// Bytes returns the memory of the keys and values of the tokens that c has.
func (c *KV) Bytes() int { return 2 * c.Format.Bytes() * c.Len * c.P }
