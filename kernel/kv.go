package kernel

import "fmt"

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

// grow makes room for n tokens.
func (c *KV) grow(n int) {
	room := max(len(c.V), len(c.HalfV)) / c.P
	if n <= room {
		return
	}
	n = max(2*room, (n+PanelWidth-1)/PanelWidth*PanelWidth) * c.P
	if c.Format == KVF16 {
		c.HalfK, c.HalfV = enlarged(c.HalfK, n), enlarged(c.HalfV, n)
		return
	}
	c.K, c.V = enlarged(c.K, n), enlarged(c.V, n)
}

// enlarged returns a copy of s with n elements.
func enlarged[T any](s []T, n int) []T { return append(make([]T, 0, n), s...)[:n] }

// Clone returns a copy that shares nothing with c.
func (c *KV) Clone() KV {
	d := *c
	d.K, d.V = append([]float32(nil), c.K...), append([]float32(nil), c.V...)
	d.HalfK, d.HalfV = append([]uint16(nil), c.HalfK...), append([]uint16(nil), c.HalfV...)
	return d
}

// Bytes returns the memory of the keys and values of the tokens that c has.
func (c *KV) Bytes() int { return 2 * c.Format.Bytes() * c.Len * c.P }
