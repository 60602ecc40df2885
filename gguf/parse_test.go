package gguf_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"krait/gguf"
)

// raw builds files by hand: numbers take their size from their Go type, a string is written with its length.
func raw(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(binary.LittleEndian.AppendUint64(b, uint64(len(p))), p...)
		case []byte:
			b = append(b, p...)
		default:
			b, _ = binary.Append(b, binary.LittleEndian, p)
		}
	}
	return b
}

type (
	u32 = uint32
	u64 = uint64
)

// head is a file's beginning.
func head(version u32, tensors, entries u64) []byte {
	return raw([]byte("GGUF"), version, tensors, entries)
}

// aligned pads a file to a multiple of 32 bytes and appends n bytes.
func aligned(b []byte, n int) []byte {
	return append(b, make([]byte, (32-len(b)%32)%32+n)...)
}

// one is a file with one tensor entry, and n bytes of data.
func one(n int, parts ...any) []byte {
	return aligned(append(head(3, 1, 0), raw(parts...)...), n)
}

func TestParseRefuses(t *testing.T) {
	nest := []any{"k", u32(9)}
	for range 6 {
		nest = append(nest, u32(9), u64(1))
	}
	two := func(name string, offset u64) []byte {
		return aligned(append(head(3, 2, 0), raw("a", u32(1), u64(8), u32(0), u64(0), name, u32(1), u64(8), u32(0), offset)...), 96)
	}
	kv := func(parts ...any) []byte { return append(head(3, 0, 1), raw(parts...)...) }
	for _, c := range []struct {
		name, want string
		data       []byte
	}{
		{"nothing", "not a GGUF file", nil},
		{"half a magic", `begins with "GG"`, []byte("GG")},
		{"another format", "not a GGUF file", []byte("GGML\x03\x00\x00\x00")},
		{"no version", "truncated", []byte("GGUF\x03")},
		{"version 1", "GGUF version 1", head(1, 0, 0)},
		{"version 4", "GGUF version 4", head(4, 0, 0)},
		{"big-endian", "big-endian", head(3<<24, 0, 0)},
		{"no counts", "truncated", head(3, 0, 0)[:12]},
		{"many tensors", "9223372036854775808 tensors do not fit the 0 bytes", head(3, 1<<63, 0)},
		{"many entries", "metadata entries do not fit", head(3, 0, 1<<60)},
		{"a key beyond the end", `metadata entry 0: 4611686018427387904 bytes should follow`, kv(u64(1<<62), make([]byte, 20))},
		{"a key that is no text", "not valid UTF-8", kv("\xff", u32(4), u32(1), u32(0))},
		{"a long key", "a name of 70000 bytes", kv(strings.Repeat("k", 70000), u32(4), u32(1))},
		{"the same key twice", `metadata key "k" stands twice`, append(head(3, 0, 2), raw("k", u32(4), u32(1), "k", u32(4), u32(1))...)},
		{"an unknown kind", `metadata key "k": value type 13`, kv("k", u32(13), u64(0))},
		{"half a number", `metadata key "kkkk": 8 bytes should follow`, kv("kkkk", u32(10), u32(1))},
		{"a boolean of 2", "boolean with the value 2", kv("k", u32(7), byte(2), u64(0))},
		{"a string beyond the end", `metadata key "k": 1000 bytes`, kv("k", u32(8), u64(1000))},
		{"a string that is no text", "not valid UTF-8", kv("k", u32(8), "\xc3")},
		{"an array beyond the end", "an array of 100 elements, but only 8 bytes", kv("k", u32(9), u32(4), u64(100), u64(0))},
		{"a huge array", "an array of 18446744073709551615 elements", kv("k", u32(9), u32(4), u64(1<<64-1), u64(0))},
		{"an array of strings beyond the end", "5 bytes should follow", kv("k", u32(9), u32(8), u64(2), "ab", u64(5))},
		{"an array of unknown things", "value type 99", kv("k", u32(9), u32(99), u64(0))},
		{"arrays in arrays", "more than 4 deep", kv(nest...)},
		{"five dimensions", `tensor "t": 5 dimensions`, one(0, "t", u32(5), u64(1), u64(1), u64(1), u64(1), u64(1), u32(0), u64(0))},
		{"a dimension of zero", "a dimension is 0", one(0, "t", u32(1), u64(0), u32(0), u64(0))},
		{"overflowing dimensions", "more elements than memory", one(0, "t", u32(2), u64(1<<40), u64(1<<40), u32(0), u64(0))},
		{"one huge dimension", "more elements than memory", one(0, "t", u32(1), u64(1<<63), u32(0), u64(0))},
		{"an unknown type", "type 4 is unknown", one(0, "t", u32(1), u64(32), u32(4), u64(0))},
		{"half a block", `rows of 33 elements are not a multiple of the 32 in a block of Q8_0`, one(0, "t", u32(2), u64(33), u64(32), u32(8), u64(0))},
		{"an overflowing offset", "overflow", one(64, "t", u32(1), u64(8), u32(0), u64(1<<64-32))},
		{"an offset beyond the end", "its data ends at byte 96", one(64, "t", u32(1), u64(8), u32(0), u64(64))},
		{"an offset between", "not a multiple of the alignment", one(64, "t", u32(1), u64(8), u32(0), u64(4))},
		{"no data", "truncated", one(0, "t", u32(1), u64(8), u32(0), u64(0))},
		{"no data section", "the data should begin at byte", append(head(3, 1, 0), raw("t", u32(1), u64(8), u32(0), u64(0))...)},
		{"the same tensor twice", `tensor "a" stands twice`, two("a", 32)},
		{"overlapping tensors", `overlaps tensor "a"`, two("b", 0)},
		{"an alignment of 3", "not a power of two", aligned(append(head(3, 1, 1), raw("general.alignment", u32(4), u32(3), "t", u32(1), u64(8), u32(0), u64(0))...), 32)},
		{"an alignment of 2³¹", "not a power of two", aligned(append(head(3, 1, 1), raw("general.alignment", u32(4), u32(1<<31), "t", u32(1), u64(8), u32(0), u64(0))...), 32)},
		{"an alignment in words", "not a power of two", aligned(append(head(3, 1, 1), raw("general.alignment", u32(8), "32", "t", u32(1), u64(8), u32(0), u64(0))...), 32)},
	} {
		f, err := gguf.Parse(c.data)
		if err == nil || f != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than one sentence: %v", c.name, err)
		}
	}
}

func TestParseAccepts(t *testing.T) {
	b := append(head(2, 2, 2), raw("general.alignment", u32(4), u32(64), "n", u32(9), u32(9), u64(2), u32(5), u64(2), u32(1), u32(2), u32(8), u64(1), "x",
		"b", u32(2), u64(32), u64(2), u32(8), u64(128), "a", u32(0), u32(0), u64(0))...)
	b = append(b, make([]byte, (64-len(b)%64)%64+128+68)...)
	f, err := gguf.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := f.Value("n"), []any{[]int32{1, 2}, []string{"x"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("n is %v, want %v", got, want)
	}
	x, _ := f.Tensor("b")
	if x.Len() != 64 || !reflect.DeepEqual(x.Shape(), []int{2, 32}) || len(x.Data) != 68 || f.Version != 2 {
		t.Errorf("tensor b is %v", x)
	}
	if y, ok := f.Tensor("a"); !ok || y.Len() != 1 || len(y.Data) != 4 {
		t.Errorf("the scalar is %v", y)
	}
	if _, ok := f.Tensor("c"); ok {
		t.Error("there is a tensor c")
	}
}

// TestTruncation cuts a good file at every byte: nothing panics, and what lacks data is refused.
func TestTruncation(t *testing.T) {
	data := one(32, "t", u32(1), u64(8), u32(0), u64(0))
	for n := range len(data) {
		if _, err := gguf.Parse(data[:n]); err == nil {
			t.Errorf("%d of %d bytes are accepted", n, len(data))
		}
	}
	if _, err := gguf.Parse(data); err != nil {
		t.Error(err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.gguf")
	for _, c := range []struct{ content, want string }{{"", "empty"}, {"GGUF", "truncated"}, {"hello, world", "not a GGUF file"}} {
		if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := gguf.Open(path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v, want %q", c.content, err, c.want)
		}
	}
	if _, err := gguf.Open(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := gguf.Open(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("no file: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	ok := gguf.Tensor{Name: "t", Type: gguf.F32, Dims: []int{2}, Data: make([]byte, 8)}
	for _, c := range []struct {
		want    string
		entries []gguf.KV
		tensors []gguf.Tensor
	}{
		{"stands twice", []gguf.KV{{Key: "k", Value: true}, {Key: "k", Value: true}}, nil},
		{"Go type int has no form", []gguf.KV{{Key: "k", Value: 1}}, nil},
		{"not valid UTF-8", []gguf.KV{{Key: "k", Value: "\xff"}}, nil},
		{"element 1: the string is not valid UTF-8", []gguf.KV{{Key: "k", Value: []string{"", "\xff"}}}, nil},
		{"element 0 is of Go type int32, not a slice", []gguf.KV{{Key: "k", Value: []any{int32(1)}}}, nil},
		{"alignment", []gguf.KV{{Key: "general.alignment", Value: uint32(48)}}, nil},
		{`tensor "t" stands twice`, nil, []gguf.Tensor{ok, ok}},
		{"8 bytes of data, dimensions [3] of F32 need 12", nil, []gguf.Tensor{{Name: "t", Dims: []int{3}, Data: ok.Data}}},
		{"not a multiple of the 32", nil, []gguf.Tensor{{Name: "t", Type: gguf.Q8_0, Dims: []int{3}, Data: ok.Data}}},
		{"at most 4", nil, []gguf.Tensor{{Name: "t", Dims: []int{1, 1, 1, 1, 2}, Data: ok.Data}}},
		{"out of range", nil, []gguf.Tensor{{Name: "t", Dims: []int{-1}, Data: ok.Data}}},
	} {
		if err := gguf.Write(path, c.entries, c.tensors); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
			t.Errorf("%q: left behind %v", c.want, left)
		}
	}
}

// FuzzParse holds that no file makes Parse panic or allocate more than a small multiple of its size, and that what it accepts can be
// read and written again.
func FuzzParse(f *testing.F) {
	golden, err := os.ReadFile(goldenFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden[:4096])
	f.Add(one(32, "t", u32(1), u64(8), u32(0), u64(0)))
	f.Add(aligned(append(head(2, 1, 2), raw("general.alignment", u32(4), u32(64), "n", u32(9), u32(9), u64(1), u32(8), u64(1), "x", "t", u32(1), u64(32), u32(2), u64(0))...), 96))
	f.Add(append(head(3, 0, 1), raw("k", u32(9), u32(8), u64(3), "a", "", "b")...))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		file, err := gguf.Parse(data)
		runtime.ReadMemStats(&after)
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(40*len(data)+1<<16); got > limit {
			t.Fatalf("%d bytes make Parse allocate %d", len(data), got)
		}
		if err != nil {
			return
		}
		for _, x := range tensors(file) {
			if gguf.Convertible(x.Type) {
				if err := gguf.Float32s(make([]float32, x.Len()), x); err != nil {
					t.Fatal(err)
				}
			}
		}
		path := filepath.Join(dir, "again.gguf")
		if err := gguf.Write(path, entries(file), tensors(file)); err != nil {
			if file.Has("general.alignment") {
				return // as another kind of integer, or unused and odd
			}
			t.Fatal(err)
		}
		again, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if !bytes.Equal(raw([]byte(strings.Join(again.Names(), "\n"))), raw([]byte(strings.Join(file.Names(), "\n")))) {
			t.Fatalf("tensors %q became %q", file.Names(), again.Names())
		}
		for _, x := range tensors(file) {
			if y, _ := again.Tensor(x.Name); !bytes.Equal(x.Data, y.Data) || !reflect.DeepEqual(x.Dims, y.Dims) {
				t.Fatalf("tensor %q changed", x.Name)
			}
		}
	})
}
