package safetensors

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

// halfValue is binary16 by its definition, in float64.
func halfValue(h uint16) float64 {
	sign := 1.0
	if h>>15 == 1 {
		sign = -1
	}
	exp, frac := int(h>>10&31), float64(h&1023)
	switch exp {
	case 0:
		return sign * frac * 0x1p-24
	case 31:
		if frac != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1+frac/1024, exp-15)
}

func TestHalfIsExactBothWays(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		got, want := halfToFloat(h), halfValue(h)
		if want != want {
			if got == got || floatToHalf(got) != h|0x200 {
				t.Fatalf("%04x: NaN became %v, then %04x", h, got, floatToHalf(got))
			}
			continue
		}
		if float64(got) != want || math.Signbit(float64(got)) != math.Signbit(want) {
			t.Fatalf("%04x = %v, want %v", h, got, want)
		}
		if back := floatToHalf(got); back != h {
			t.Fatalf("%04x came back as %04x", h, back)
		}
	}
}

// Between two neighbours the halfway value goes to the even one, and a step to either side of it to the nearer one.
func TestRoundingToNearestEven(t *testing.T) {
	check := func(name string, round func(float32) uint16, widen func(uint16) float32, inf uint16) {
		for lo := range inf {
			hi := lo + 1
			a, b := float64(widen(lo)), float64(widen(hi))
			if hi == inf {
				b = a + (a - float64(widen(lo-1))) // the value that would follow, were there no Inf
			}
			mid := float32((a + b) / 2)
			even := lo + lo&1
			for _, c := range []struct {
				v    float32
				want uint16
			}{{mid, even}, {math.Nextafter32(mid, 0), lo}, {math.Nextafter32(mid, float32(math.Inf(1))), hi}} {
				if got := round(c.v); got != c.want {
					t.Fatalf("%s(%v) = %04x, want %04x", name, c.v, got, c.want)
				}
				if got := round(-c.v); got != c.want|0x8000 {
					t.Fatalf("%s(-%v) = %04x, want %04x", name, c.v, got, c.want|0x8000)
				}
			}
		}
	}
	check("half", floatToHalf, halfToFloat, 0x7c00)
	check("brain", floatToBrain, func(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }, 0x7f80)
	low := math.Float32frombits(0x7f800001) // a NaN of which only the low bits tell
	if b := floatToBrain(low); b&0x7f == 0 {
		t.Errorf("NaN became %04x", b)
	}
	if h := floatToHalf(low); h&0x3ff == 0 {
		t.Errorf("NaN became %04x", h)
	}
}

func TestFloat32s(t *testing.T) {
	want := []float32{0, 1.5, -2, float32(math.Inf(1)), 0x1p-24}
	for _, dtype := range []DType{F32, BF16, F16} {
		x := Tensor{Name: "x", DType: dtype, Shape: []int{5}, Data: EncodeFloat32s(dtype, want)}
		expectFloats(t, x, want)
		if err := Float32s(make([]float32, 4), x); err == nil || !strings.Contains(err.Error(), `"x"`) {
			t.Errorf("%s into 4: %v", dtype, err)
		}
	}
	var f64 []byte
	for _, v := range want {
		f64 = binary.LittleEndian.AppendUint64(f64, math.Float64bits(float64(v)))
	}
	expectFloats(t, Tensor{Name: "x", DType: F64, Data: f64}, want)
	err := Float32s(make([]float32, 1), Tensor{Name: "x", DType: "F8_E4M3", Data: []byte{0}})
	if err == nil || !strings.Contains(err.Error(), `tensor "x": dtype "F8_E4M3"`) {
		t.Errorf("F8: %v", err)
	}
}

func expectFloats(t *testing.T, x Tensor, want []float32) {
	t.Helper()
	got := make([]float32, len(want))
	if err := Float32s(got, x); err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: element %d = %v, want %v", x.DType, i, got[i], want[i])
		}
	}
}
