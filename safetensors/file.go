package safetensors

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
)

// Tensor is one named array. Data is little-endian and row-major; read from a file, it aliases the file's memory, and Mapped tells that the
// system can read it from there again.
type Tensor struct {
	Name   string
	DType  DType
	Shape  []int
	Data   []byte
	Mapped bool
}

// Len returns the number of elements, the product of the shape.
func (t Tensor) Len() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// File is an open safetensors file.
type File struct {
	tensors  []Tensor // in data order
	index    map[string]int
	metadata map[string]string
	release  func() error
}

// Open maps the file at path and checks it whole. The tensors' Data is valid until Close.
// A file that another process truncates while it is mapped ends the program with a memory fault, so writers must rename, as Write does.
func Open(path string) (*File, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if info.Size() > math.MaxInt {
		return nil, fmt.Errorf("%s: %d bytes do not fit this machine's address space", path, info.Size())
	}
	if info.Size() < 8 {
		_, err := Parse(make([]byte, info.Size())) // too short to map; Parse says so
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	data, release, err := mapFile(r, int(info.Size()))
	if err != nil {
		return nil, fmt.Errorf("%s: map %d bytes: %w", path, info.Size(), err)
	}
	f, err := Parse(data)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), release())
	}
	f.release = release
	for i := range f.tensors {
		f.tensors[i].Mapped = true
	}
	return f, nil
}

// Close unmaps the file. No Data of its tensors may be touched afterwards.
func (f *File) Close() error {
	release := f.release
	f.release, f.tensors, f.index = nil, nil, nil
	if release == nil {
		return nil
	}
	return release()
}

// Names returns the tensor names in the order of their data.
func (f *File) Names() []string {
	names := make([]string, len(f.tensors))
	for i, t := range f.tensors {
		names[i] = t.Name
	}
	return names
}

// Tensor returns the tensor of that name, if the file has it.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.index[name]
	if !ok {
		return Tensor{}, false
	}
	return f.tensors[i], true
}

// Metadata returns a copy of the header's __metadata__.
func (f *File) Metadata() map[string]string {
	return maps.Clone(f.metadata)
}
