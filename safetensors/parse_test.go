package safetensors

import (
	"bytes"
	"encoding/binary"
	"maps"
	"reflect"
	"strings"
	"testing"
)

// file puts a header, however wrong, before n bytes of data.
func file(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, n)...)
}

var damaged = []struct {
	name string
	data []byte
	want string // part of the error
}{
	{"empty", nil, "truncated"},
	{"short length", []byte{2, 0, 0}, "truncated"},
	{"truncated header", file(`{}`, 0)[:9], "only 1 bytes follow"},
	{"oversized header", binary.LittleEndian.AppendUint64(nil, 1<<63), "over the limit"},
	{"just oversized header", binary.LittleEndian.AppendUint64(nil, maxHeader+1), "over the limit"},
	{"no header", file(``, 0), "does not start"},
	{"not JSON", file(`{"a":`, 0), "invalid JSON"},
	{"array", file(`[]`, 0), "does not start"},
	{"text after", file(`{} {}`, 0), "after the closing brace"},
	{"not UTF-8", file("{\"\xff\":1}", 0), "UTF-8"},
	{"duplicate", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `duplicate name "a"`},
	{"no dtype", file(`{"a":{"shape":[1],"data_offsets":[0,1]}}`, 1), `tensor "a": dtype is missing`},
	{"no shape", file(`{"a":{"dtype":"U8","data_offsets":[0,1]}}`, 1), `tensor "a": shape is missing`},
	{"no offsets", file(`{"a":{"dtype":"U8","shape":[1]}}`, 1), `tensor "a": data_offsets`},
	{"three offsets", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}`, 1), `tensor "a": data_offsets`},
	{"negative offset", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}`, 1), `tensor "a"`},
	{"backwards", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1), `tensor "a": data_offsets [1,0] end before`},
	{"negative dimension", file(`{"a":{"dtype":"U8","shape":[-1,-1],"data_offsets":[0,1]}}`, 1), `tensor "a": dimension -1`},
	{"fractional dimension", file(`{"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}}`, 1), `tensor "a"`},
	{"shape overflow", file(`{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0), `overflows`},
	{"size overflow", file(`{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}}`, 0), `overflows`},
	{"shape mismatch", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4), `tensor "a": shape [2] of F32 is 8 bytes`},
	{"half a byte", file(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, 1), `whole number of bytes`},
	{"overlap", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), `tensor "b": data_offsets [1,3] overlap tensor "a"`},
	{"hole", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3), `tensor "b": data_offsets [2,3] leave a hole`},
	{"hole at the start", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2), `leave a hole`},
	{"trailing bytes", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 2), "1 bytes after"},
	{"truncated data", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 1), `tensor "a"`},
	{"metadata number", file(`{"__metadata__":{"a":1}}`, 0), "__metadata__"},
	{"metadata null", file(`{"__metadata__":{"a":null}}`, 0), "not a string"},
}

func TestParseRefuses(t *testing.T) {
	for _, c := range damaged {
		_, err := Parse(c.data)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

var sound = [][]byte{
	file(`{}`, 0),
	file(`{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   `, 4),
	file(`{"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[3,7]},"e":{"dtype":"F16","shape":[0,5],"data_offsets":[3,3]},"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}`, 7),
	file(`{"future <\u0001>":{"dtype":"Q9","shape":[3],"data_offsets":[0,5]}}`, 5),
}

func TestParseOrderAndUnknownDType(t *testing.T) {
	f, err := Parse(sound[2])
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Names(); !reflect.DeepEqual(got, []string{"a", "e", "b"}) {
		t.Errorf("names %v, want them in data order", got)
	}
	f, err = Parse(sound[3])
	if err != nil {
		t.Fatal(err)
	}
	x, ok := f.Tensor("future <\x01>")
	if !ok || x.DType != "Q9" || len(x.Data) != 5 {
		t.Errorf("unknown dtype: %v %v", x, ok)
	}
	if err := Float32s(make([]float32, 3), x); err == nil {
		t.Error("an unknown dtype became floats")
	}
}

// encode is what Write writes.
func encode(t *testing.T, f *File) []byte {
	t.Helper()
	out, _, err := encodeHeader(f.tensors, f.metadata)
	if err != nil {
		t.Fatalf("a file that parses does not encode: %v", err)
	}
	for _, x := range f.tensors {
		out = append(out, x.Data...)
	}
	return out
}

// FuzzParse: no input panics, and what parses serialises to the same content.
func FuzzParse(f *testing.F) {
	for _, c := range damaged {
		f.Add(c.data)
	}
	for _, data := range sound {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Parse(data)
		if err != nil {
			return
		}
		out := encode(t, a)
		b, err := Parse(out)
		if err != nil {
			t.Fatalf("our own file: %v", err)
		}
		if len(a.metadata) != 0 && !maps.Equal(a.metadata, b.metadata) {
			t.Fatalf("metadata %v, want %v", b.metadata, a.metadata)
		}
		if len(a.tensors) != 0 && !reflect.DeepEqual(a.tensors, b.tensors) {
			t.Fatalf("tensors %v, want %v", b.tensors, a.tensors)
		}
		if again := encode(t, b); !bytes.Equal(out, again) {
			t.Fatal("encoding is not stable")
		}
	})
}
