package safetensors

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const realModel = "../recipe/stories260k/model.safetensors"

func TestRealFileComesBackTheSame(t *testing.T) {
	f, err := Open(realModel)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, ok := f.Tensor("model.embed_tokens.weight")
	if !ok || !reflect.DeepEqual(x.Shape, []int{512, 64}) || x.DType != F32 || x.Len() != 512*64 {
		t.Fatalf("embedding: %v %v %v", ok, x.Shape, x.DType)
	}
	if n := len(f.Names()); n != 47 {
		t.Errorf("%d tensors, want 47", n)
	}
	var tensors []Tensor
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		values := make([]float32, x.Len())
		if err := Float32s(values, x); err != nil {
			t.Fatal(err)
		}
		x.Data = EncodeFloat32s(F32, values)
		tensors = append(tensors, x)
	}
	path := filepath.Join(t.TempDir(), "copy.safetensors")
	if err := Write(path, tensors, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	g, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if !reflect.DeepEqual(f.tensors, g.tensors) || !maps.Equal(g.Metadata(), map[string]string{"format": "pt"}) {
		t.Error("the copy differs")
	}
}

func small(names ...string) []Tensor {
	var tensors []Tensor
	for i, name := range names {
		tensors = append(tensors, Tensor{Name: name, DType: F32, Shape: []int{2}, Data: EncodeFloat32s(F32, []float32{float32(i), 0.5})})
	}
	return tensors
}

// onlyFiles fails unless dir holds exactly these files: nothing temporary may stay.
func onlyFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("directory holds %v, want %v", got, want)
	}
}

func TestWriteLeavesNothingHalfWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.safetensors")
	if err := Write(path, small("old"), nil); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no more")
	err := WriteFunc(path, small("a", "b"), nil, func(x Tensor) ([]byte, error) {
		if x.Name == "b" {
			return nil, full
		}
		return x.Data, nil
	})
	if !errors.Is(err, full) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("error %v, want one with path, tensor and cause", err)
	}
	short := small("a")
	short[0].Data = short[0].Data[:7]
	if err := Write(path, short, nil); err == nil || !strings.Contains(err.Error(), "7 bytes of data") {
		t.Errorf("short data: %v", err)
	}
	onlyFiles(t, dir, "m.safetensors")
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if names := f.Names(); !reflect.DeepEqual(names, []string{"old"}) {
		t.Errorf("the old file now holds %v", names)
	}
}

func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	for want, tensors := range map[string][]Tensor{
		"taken":     small("a", "a"),
		"is taken":  small(metadataKey),
		"UTF-8":     small("\xff"),
		"dimension": {{Name: "a", DType: F32, Shape: []int{-1, -2}, Data: make([]byte, 8)}},
		"overflows": {{Name: "a", DType: F32, Shape: []int{1 << 62, 4}}},
	} {
		if err := Write(filepath.Join(dir, "x"), tensors, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	onlyFiles(t, dir)
	missing := filepath.Join(dir, "no", "such", "x")
	if err := Write(missing, small("a"), nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing directory: %v", err)
	}
}

func TestShards(t *testing.T) {
	dir := t.TempDir()
	if err := WriteSharded(dir, small("a", "b", "c", "d", "e"), map[string]string{"format": "pt"}, 17, nil); err != nil {
		t.Fatal(err)
	}
	onlyFiles(t, dir, "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors", IndexName)
	s, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Names(), ""); got != "abcde" {
		t.Errorf("names %s", got)
	}
	for i, name := range s.Names() {
		x, ok := s.Tensor(name)
		if !ok {
			t.Fatalf("no tensor %s", name)
		}
		expectFloats(t, x, []float32{float32(i), 0.5})
	}
	if _, ok := s.Tensor("f"); ok {
		t.Error("found a tensor that is not there")
	}
	if s.Metadata()["format"] != "pt" {
		t.Errorf("metadata %v", s.Metadata())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := WriteSharded(dir, small("a"), nil, 17, nil); err == nil || !strings.Contains(err.Error(), "in the way") {
		t.Errorf("single file beside shards: %v", err)
	}
}

func TestShardedThatFitsIsOneFile(t *testing.T) {
	dir := t.TempDir()
	if err := WriteSharded(dir, small("a", "b"), nil, 16, nil); err != nil {
		t.Fatal(err)
	}
	onlyFiles(t, dir, SingleName)
	s, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := strings.Join(s.Names(), ""); got != "ab" {
		t.Errorf("names %s", got)
	}
}

func TestIndexRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := Write(filepath.Join(dir, "s.safetensors"), small("a"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(dir); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("no index: %v", err)
	}
	for index, want := range map[string]string{
		`{`:                                  "JSON",
		`{}`:                                 "weight_map is missing",
		`{"weight_map":[]}`:                  "not an object",
		`{"weight_map":{"a":1}}`:             `tensor "a": `,
		`{"weight_map":{"a":"../s"}}`:        `tensor "a": shard "../s" is not a file of this directory`,
		`{"weight_map":{"a":"/etc/passwd"}}`: `not a file of this directory`,
		`{"weight_map":{"a":"..\\s"}}`:       `not a file of this directory`,
		`{"weight_map":{"a":"gone"}}`:        "gone",
		`{"weight_map":{"a":"s.safetensors","b":"s.safetensors"}}`: `tensor "b" is not in shard s.safetensors`,
		`{"weight_map":{"a":"s.safetensors","a":"s.safetensors"}}`: `duplicate name "a"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, IndexName), []byte(index), 0o666); err != nil {
			t.Fatal(err)
		}
		if s, err := OpenDir(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: set %v, error %v, want one with %q", index, s, err, want)
		}
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	for i, data := range [][]byte{nil, {1}, file(`{`, 0)} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v, want one with %s", err, path)
		}
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("directory: %v", err)
	}
}
