// Package gguf reads and writes GGUF files, the format of llama.cpp: typed metadata and tensors, many of them quantised in blocks.
// It reads versions 2 and 3, little-endian, strictly: a file that is truncated, overlapping or inconsistent is refused with a sentence
// that names the key or the tensor. It also converts the blocks to float32, and float32 to some of them, bit for bit as ggml does.
package gguf

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
)

// File is an open GGUF file.
type File struct {
	// Version is the format's version, 2 or 3.
	Version int
	keys    []string // in the file's order
	values  map[string]value
	tensors []Tensor // in the file's order
	index   map[string]int
	release func() error
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
	if info.Size() == 0 {
		return nil, fmt.Errorf("%s: the file is empty", path) // and cannot be mapped
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

// Close unmaps the file. No Data of its tensors may be touched afterwards, nor the metadata.
func (f *File) Close() error {
	release := f.release
	f.release, f.tensors, f.index, f.values, f.keys = nil, nil, nil, nil, nil
	if release == nil {
		return nil
	}
	return release()
}

// Names returns the tensor names in the file's order.
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

// Keys returns the metadata's keys in the file's order.
func (f *File) Keys() []string { return slices.Clone(f.keys) }
