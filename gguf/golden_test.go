package gguf_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"krait/gguf"
)

// goldenFile was written by the gguf package for Python; internal/golden/gguf/quants.py says how.
const goldenFile = "../internal/golden/gguf/testdata/quants.gguf"

func openGolden(t *testing.T) *gguf.File {
	t.Helper()
	f, err := gguf.Open(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func floats(t *testing.T, f *gguf.File, name string) []float32 {
	t.Helper()
	x, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	v := make([]float32, x.Len())
	if err := gguf.Float32s(v, x); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDequantizeIsBitEqual(t *testing.T) {
	f := openGolden(t)
	types := []string{"F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"}
	for _, name := range types {
		got, want := floats(t, f, name), floats(t, f, name+".f32")
		if len(got) != len(want) || len(got) == 0 {
			t.Errorf("%s: %d elements, want %d", name, len(got), len(want))
			continue
		}
		for i := range got {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Errorf("%s: element %d is %g, want %g", name, i, got[i], want[i])
				break
			}
		}
	}
}

func TestQuantizeIsBitEqual(t *testing.T) {
	f := openGolden(t)
	source := floats(t, f, "source")
	for _, typ := range []gguf.Type{gguf.F16, gguf.BF16, gguf.Q8_0, gguf.Q4_0} {
		want, _ := f.Tensor("source." + typ.String())
		got, err := gguf.Quantize(typ, source)
		if err != nil || !bytes.Equal(got, want.Data) || want.Type != typ {
			block, size := typ.Block()
			for i := range got {
				if got[i] != want.Data[i] {
					t.Errorf("%s: block %d of %d elements differs (err %v)", typ, i/size, block, err)
				}
			}
			t.Errorf("%s: error %v, %d bytes, want %d", typ, err, len(got), len(want.Data))
		}
	}
}

func TestQuantizeRefuses(t *testing.T) {
	nan := make([]float32, 32)
	nan[7] = float32(math.NaN())
	for _, c := range []struct {
		typ  gguf.Type
		src  []float32
		want string
	}{
		{gguf.Q8_0, make([]float32, 33), "not whole blocks of Q8_0"},
		{gguf.Q4_0, nan, "element 7 is NaN"},
		{gguf.Q6_K, make([]float32, 256), "does not convert to Q6_K"},
		{gguf.Type(77), nan, "not whole blocks of type 77"},
	} {
		if _, err := gguf.Quantize(c.typ, c.src); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.typ, err, c.want)
		}
	}
	for _, c := range []struct {
		typ  gguf.Type
		n    int
		want string
	}{{gguf.Type(10), 84, "Q2_K does not convert"}, {gguf.Q8_0, 33, "33 bytes of Q8_0"}, {gguf.F32, 4, "want 32 elements"}} {
		if err := gguf.Dequantize(make([]float32, 32), c.typ, make([]byte, c.n)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.typ, err, c.want)
		}
	}
}

func TestMetadata(t *testing.T) {
	f := openGolden(t)
	for key, want := range map[string]any{
		"k.u8": uint8(200), "k.i8": int8(-3), "k.u16": uint16(60000), "k.i16": int16(-300), "k.u32": uint32(4000000000), "k.i32": int32(-70000),
		"k.u64": uint64(1<<63 + 5), "k.i64": int64(-1 << 60), "k.f32": float32(0.1), "k.f64": 0.1, "k.bool": true, "k.string": "naïve ▁",
		"general.architecture": "test",
	} {
		if got := f.Value(key); got != want {
			t.Errorf("%s is %T %v, want %T %v", key, got, got, want, want)
		}
	}
	if v, ok := f.Strings("k.strings"); !ok || !slices.Equal(v, []string{"a", "", "ßc"}) {
		t.Errorf("k.strings is %q, %v", v, ok)
	}
	if v, ok := f.Ints("k.ints"); !ok || !slices.Equal(v, []int64{1, -2, 3}) {
		t.Errorf("k.ints is %v, %v", v, ok)
	}
	if v, ok := f.Floats("k.floats"); !ok || !slices.Equal(v, []float32{0.5, -1.25}) {
		t.Errorf("k.floats is %v, %v", v, ok)
	}
	if v, ok := f.Uint("k.u8"); !ok || v != 200 {
		t.Errorf("Uint is %v, %v", v, ok)
	}
	if v, ok := f.Int("k.i64"); !ok || v != -1<<60 {
		t.Errorf("Int is %v, %v", v, ok)
	}
	if v, ok := f.Float("k.f32"); !ok || v != float64(float32(0.1)) {
		t.Errorf("Float is %v, %v", v, ok)
	}
	if v, ok := f.Bool("k.bool"); !ok || !v {
		t.Errorf("Bool is %v, %v", v, ok)
	}
	wrong := func(what string, ok bool) {
		t.Helper()
		if ok {
			t.Errorf("%s is ok", what)
		}
	}
	_, ok := f.Uint("k.i8")
	wrong("Uint of a negative number", ok)
	_, ok = f.Int("k.u64")
	wrong("Int of 2⁶³ + 5", ok)
	_, ok = f.Int("k.f32")
	wrong("Int of a float", ok)
	_, ok = f.Int("none")
	wrong("Int of no key", ok)
	_, ok = f.String("k.u8")
	wrong("String of a number", ok)
	_, ok = f.Strings("k.ints")
	wrong("Strings of integers", ok)
	_, ok = f.Ints("k.string")
	wrong("Ints of a string", ok)
	if f.Value("none") != nil || f.Has("none") || !f.Has("k.u8") {
		t.Error("Value or Has of a key that is not there")
	}
}

// entries returns the metadata as Write takes it.
func entries(f *gguf.File) []gguf.KV {
	var list []gguf.KV
	for _, k := range f.Keys() {
		list = append(list, gguf.KV{Key: k, Value: f.Value(k)})
	}
	return list
}

func tensors(f *gguf.File) []gguf.Tensor {
	var list []gguf.Tensor
	for _, n := range f.Names() {
		t, _ := f.Tensor(n)
		list = append(list, t)
	}
	return list
}

func TestWriteGivesTheSameBytes(t *testing.T) {
	f := openGolden(t)
	path := filepath.Join(t.TempDir(), "again.gguf")
	if err := gguf.Write(path, entries(f), tensors(f)); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Errorf("%d bytes, want %d; the first difference is at %d", len(got), len(want), at)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
