package torchfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The pieces of a pickle.
func global(module, name string) string { return "c" + module + "\n" + name + "\n" }
func text(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}
func integer(n int32) string { return "J" + string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
func ints(list ...int32) string {
	s := "("
	for _, n := range list {
		s += integer(n)
	}
	return s + "t"
}
func storage(class, key string, count int32) string {
	return "(" + text("storage") + global("torch", class) + text(key) + text("cpu") + integer(count) + "tQ"
}
func rebuild(storage string, offset int32, shape, stride string) string {
	return global("torch._utils", "_rebuild_tensor_v2") + "(" + storage + integer(offset) + shape + stride + "\x89" + global("collections", "OrderedDict") + ")RtR"
}
func dict(items ...string) string { return "\x80\x02}(" + strings.Join(items, "") + "u." }

// file is one entry of an archive.
type file struct {
	name string
	data string
}

func archive(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		e, err := w.CreateRaw(&zip.FileHeader{Name: f.name, Method: zip.Store, CompressedSize64: uint64(len(f.data)), UncompressedSize64: uint64(len(f.data))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write([]byte(f.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func model(t testing.TB, pickle string) []byte {
	return archive(t, file{"archive/data.pkl", pickle}, file{"archive/byteorder", "little"}, file{"archive/data/0", "0123456789abcdef"}, file{"archive/version", "3\n"})
}

// TestTensors reads what torch.save would write, by hand.
func TestTensors(t *testing.T) {
	s := storage("HalfStorage", "0", 8)
	f, err := Parse(model(t, dict(text("a"), rebuild(s, 2, ints(2, 3), ints(3, 1)), text("t"), rebuild(s, 0, ints(3, 2), ints(1, 3)),
		text("scalar"), rebuild(s, 7, ints(), ints()), text("empty"), rebuild(s, 8, ints(0), ints(1)),
		text("p"), global("torch._utils", "_rebuild_parameter")+"("+rebuild(s, 0, ints(8), ints(1))+"\x88N"+"tR}b")))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "t", "scalar", "empty", "p"}; !slices.Equal(f.Names(), want) {
		t.Errorf("names %v, want %v", f.Names(), want)
	}
	for name, want := range map[string]string{"a": "456789abcdef", "t": "0167238945ab", "scalar": "ef", "empty": "", "p": "0123456789abcdef"} {
		x, ok := f.Tensor(name)
		if !ok || string(x.Data) != want || x.DType != "F16" {
			t.Errorf("tensor %s is %q of %s, want %q", name, x.Data, x.DType, want)
		}
	}
	if x, _ := f.Tensor("t"); !slices.Equal(x.Shape, []int{3, 2}) {
		t.Errorf("shape %v", x.Shape)
	}
	if _, ok := f.Tensor("none"); ok {
		t.Error("a tensor that is not there")
	}
}

// TestRefused checks that each bad file is refused with a sentence that says why.
func TestRefused(t *testing.T) {
	good := storage("FloatStorage", "0", 4)
	one := func(pickled string) []byte { return model(t, dict(text("w"), pickled)) }
	flat := rebuild(good, 0, ints(4), ints(1))
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"not a zip":               {[]byte("hello"), "not a ZIP"},
		"old format":              {[]byte("\x80\x02\x8a\nl\xfc\x9c"), "before version 1.6"},
		"truncated zip":           {one(flat)[:100], "truncated"},
		"no pickle":               {archive(t, file{"archive/x", "1"}), "no data.pkl"},
		"two pickles":             {archive(t, file{"a/data.pkl", "."}, file{"b/data.pkl", "."}), "two pickles"},
		"big endian":              {archive(t, file{"a/data.pkl", dict()}, file{"a/byteorder", "big"}), "byteorder"},
		"storage twice":           {archive(t, file{"a/data.pkl", dict()}, file{"a/data/0", ""}, file{"a/data/0", ""}), "twice in the archive"},
		"os.system":               {one(global("os", "system") + "(" + text("id") + "tR"), `"os.system"`},
		"builtins.eval":           {one(global("__builtin__", "eval") + "(" + text("1") + "tR"), `"__builtin__.eval"`},
		"torch storage elsewhere": {one(global("evil", "FloatStorage")), `"evil.FloatStorage"`},
		"inst":                    {model(t, "\x80\x02(ios\nsystem\n."), "none that a dictionary"},
		"protocol":                {model(t, "\x80\x04}."), "protocol 4"},
		"truncated pickle":        {model(t, "\x80\x02}("), "truncated"},
		"huge string":             {model(t, "\x80\x02X\xff\xff\xff\x7fabc."), "truncated"},
		"empty stack":             {model(t, "\x80\x02."), "empty stack"},
		"no mark":                 {model(t, "\x80\x02t."), "mark"},
		"memo":                    {model(t, "\x80\x02h\x07."), "memo 7"},
		"deep":                    {model(t, "\x80\x02"+strings.Repeat("]", 100000)+"."), "more objects"},
		"many":                    {model(t, "\x80\x02"+"]"+strings.Repeat("]a", 1<<20)+"."), "more objects"},
		"not a dictionary":        {model(t, "\x80\x02K\x05."), "number (5)"},
		"not a tensor":            {one("K\x05"), `"w" is a number (5)`},
		"name not a string":       {model(t, dict("K\x05", flat)), "a name in the dictionary"},
		"twice":                   {model(t, dict(text("w"), flat, text("w"), flat)), "twice in the dictionary"},
		"no storage":              {one(rebuild(storage("FloatStorage", "9", 4), 0, ints(4), ints(1))), "no storage data/9"},
		"wrong count":             {one(rebuild(storage("FloatStorage", "0", 5), 0, ints(4), ints(1))), "has 16 bytes, want 5"},
		"huge count":              {one(rebuild(storage("FloatStorage", "0", 1<<30), 0, ints(1<<30), ints(1))), "has 16 bytes"},
		"negative count":          {one(rebuild(storage("FloatStorage", "0", -4), 0, ints(4), ints(1))), "count"},
		"negative shape":          {one(rebuild(good, 0, ints(-1), ints(1))), "shape"},
		"beyond":                  {one(rebuild(good, 1, ints(4), ints(1))), "leaves its storage"},
		"overflow":                {one(rebuild(good, 0, ints(1<<30, 1<<30, 1<<30), ints(1<<30, 1<<30, 1<<30))), "overflows"},
		"expanded":                {one(rebuild(good, 0, ints(1<<30, 4), ints(0, 1))), "repeats elements"},
		"attributes":              {model(t, "\x80\x02K\x05}b."), "sets attributes"},
		"call of a string":        {model(t, "\x80\x02"+text("x")+")R."), "calls a string"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.data)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestOverlap moves one entry's data onto another's.
func TestOverlap(t *testing.T) {
	data := archive(t, file{"a/data.pkl", dict()}, file{"a/data/0", "0123"}, file{"a/data/1", "4567"})
	at := bytes.LastIndex(data, []byte("PK\x01\x02")) // the last entry of the directory: its local header's offset stands at byte 42
	first := bytes.Index(data, []byte("a/data/0")) - 30
	binary.LittleEndian.PutUint32(data[at+42:], uint32(first))
	if _, err := Parse(data); err == nil || !strings.Contains(err.Error(), "overlaps") {
		t.Errorf("error %v, want one about overlapping entries", err)
	}
}

// TestIndex checks shards and the index's own errors.
func TestIndex(t *testing.T) {
	flat := rebuild(storage("FloatStorage", "0", 4), 0, ints(4), ints(1))
	for name, c := range map[string]struct{ index, want string }{
		"good":    {`{"weight_map": {"w": "one.bin"}}`, ""},
		"missing": {`{"weight_map": {"w": "two.bin"}}`, "two.bin"},
		"absent":  {`{"weight_map": {"v": "one.bin"}}`, `"v" is not in shard`},
		"escape":  {`{"weight_map": {"w": "../one.bin"}}`, "not a file of this directory"},
		"twice":   {`{"weight_map": {"w": "one.bin", "w": "one.bin"}}`, "stands twice"},
		"empty":   {`{}`, "weight_map"},
		"no JSON": {`{"weight_map": {"w": 5`, "unexpected end"},
	} {
		dir := t.TempDir()
		for file, data := range map[string][]byte{IndexName: []byte(c.index), "one.bin": model(t, dict(text("w"), flat))} {
			if err := os.WriteFile(filepath.Join(dir, file), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		s, err := OpenDir(dir)
		if c.want == "" && err == nil {
			x, ok := s.Tensor("w")
			if !ok || len(x.Data) != 16 {
				t.Errorf("%s: tensor %v", name, x)
			}
			err = s.Close()
		}
		if fmt.Sprint(err) == "<nil>" != (c.want == "") || c.want != "" && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

// FuzzTorch feeds pickles, inside a good archive, and whole files. What parses must have all of every tensor.
func FuzzTorch(f *testing.F) {
	s := storage("BFloat16Storage", "0", 8)
	f.Add([]byte(dict(text("a"), rebuild(s, 2, ints(2, 3), ints(3, 1)), text("t"), rebuild(s, 0, ints(3, 2), ints(1, 3)))), true)
	f.Add([]byte("\x80\x02]q\x00h\x00a."), true)
	f.Add([]byte("\x80\x02}q\x00(X\x01\x00\x00\x00ah\x00u."), true)
	f.Add([]byte("\x80\x02(K\x01M\x02\x00J\x03\x00\x00\x00\x8a\x01\x05G@\x00\x00\x00\x00\x00\x00\x00\x88\x89Nt\x85\x86\x87."), true)
	f.Add(model(f, dict(text("a"), rebuild(s, 0, ints(8), ints(1)))), false)
	f.Fuzz(func(t *testing.T, data []byte, pickle bool) {
		if pickle {
			data = model(t, string(data))
		}
		file, err := Parse(data)
		if err != nil {
			return
		}
		for _, name := range file.Names() {
			x, ok := file.Tensor(name)
			if !ok || len(x.Data)*8 != x.Len()*x.DType.Bits() || len(x.Data) > len(data) {
				t.Fatalf("tensor %q: %d bytes for shape %v of %s", name, len(x.Data), x.Shape, x.DType)
			}
		}
	})
}
