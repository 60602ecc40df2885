package gguf

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"unicode/utf8"
)

const (
	magic            = "GGUF"
	alignmentKey     = "general.alignment"
	defaultAlignment = 32
	maxAlignment     = 1 << 20 // far over what any writer uses; a larger one is a damaged file
	maxDims          = 4       // ggml's limit
	maxName          = 1 << 16 // bytes of a key or a tensor's name: the format's limit
	maxDepth         = 4       // of arrays within arrays
	minEntry         = 8 + 4 + 1
	minTensor        = 8 + 4 + 4 + 8
)

var errTruncated = errors.New("truncated file")

// scanner walks over the bytes of a header. After the first failure everything it returns is zero.
type scanner struct {
	data []byte
	at   int
	err  error
}

// take returns the next n bytes, which alias the file.
func (s *scanner) take(n uint64) []byte {
	if s.err != nil {
		return nil
	}
	if n > uint64(len(s.data)-s.at) {
		s.err = fmt.Errorf("%d bytes should follow at byte %d, there are %d: %w", n, s.at, len(s.data)-s.at, errTruncated)
		return nil
	}
	b := s.data[s.at : s.at+int(n)]
	s.at += int(n)
	return b
}

func (s *scanner) uint32() uint32 {
	if b := s.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (s *scanner) uint64() uint64 {
	if b := s.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// text returns the next string's bytes.
func (s *scanner) text() []byte {
	b := s.take(s.uint64())
	if s.err == nil && !utf8.Valid(b) {
		s.err = fmt.Errorf("the string at byte %d is not valid UTF-8", s.at-len(b))
	}
	return b
}

// name returns the next key or tensor name.
func (s *scanner) name() string {
	b := s.text()
	if s.err == nil && len(b) > maxName {
		s.err = fmt.Errorf("a name of %d bytes, the limit is %d", len(b), maxName)
	}
	if s.err != nil {
		return ""
	}
	return string(b)
}

// Parse reads a whole GGUF file held in data; tensors and metadata alias it.
func Parse(data []byte) (*File, error) {
	s := &scanner{data: data}
	if m := s.take(4); s.err != nil || string(m) != magic {
		return nil, fmt.Errorf("not a GGUF file: it begins with %q, want %q", data[:min(4, len(data))], magic)
	}
	version := s.uint32()
	switch {
	case s.err != nil:
		return nil, s.err
	case version == 2 || version == 3:
	case version&0xffff == 0:
		return nil, errors.New("a big-endian GGUF file: only little-endian files can be read")
	default:
		return nil, fmt.Errorf("GGUF version %d: only versions 2 and 3 can be read", version)
	}
	tensors, entries := s.uint64(), s.uint64()
	left := uint64(len(data) - s.at)
	switch {
	case s.err != nil:
		return nil, s.err
	case entries > left/minEntry:
		return nil, fmt.Errorf("%d metadata entries do not fit the %d bytes that follow: %w", entries, left, errTruncated)
	case tensors > left/minTensor:
		return nil, fmt.Errorf("%d tensors do not fit the %d bytes that follow: %w", tensors, left, errTruncated)
	}
	f := &File{Version: int(version), values: map[string]value{}, index: map[string]int{}}
	if err := f.readMetadata(s, int(entries)); err != nil {
		return nil, err
	}
	if err := f.readTensors(s, int(tensors)); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) readMetadata(s *scanner, n int) error {
	for i := range n {
		key := s.name()
		if s.err != nil {
			return fmt.Errorf("metadata entry %d: %w", i, s.err)
		}
		if _, ok := f.values[key]; ok {
			return fmt.Errorf("metadata key %q stands twice", key)
		}
		v := s.value(kind(s.uint32()), 0)
		if s.err != nil {
			return fmt.Errorf("metadata key %q: %w", key, s.err)
		}
		f.keys = append(f.keys, key)
		f.values[key] = v
	}
	return nil
}

// place is where a tensor's bytes lie in the data section.
type place struct {
	tensor     int
	begin, end uint64
}

func (f *File) readTensors(s *scanner, n int) error {
	var places []place
	for i := range n {
		t := Tensor{Name: s.name()}
		if s.err != nil {
			return fmt.Errorf("tensor %d: %w", i, s.err)
		}
		if _, ok := f.index[t.Name]; ok {
			return fmt.Errorf("tensor %q stands twice", t.Name)
		}
		begin, size, err := s.tensor(&t)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		end, carry := bits.Add64(begin, size, 0)
		if carry != 0 {
			return fmt.Errorf("tensor %q: offset %d and %d bytes overflow", t.Name, begin, size)
		}
		f.index[t.Name] = i
		f.tensors = append(f.tensors, t)
		places = append(places, place{i, begin, end})
	}
	alignment, err := f.alignment()
	if err != nil || n == 0 {
		return err
	}
	start := (uint64(s.at) + alignment - 1) / alignment * alignment
	if start > uint64(len(s.data)) {
		return fmt.Errorf("the data should begin at byte %d, the file has %d: %w", start, len(s.data), errTruncated)
	}
	return f.place(places, s.data[start:], alignment)
}

// tensor reads the rest of a tensor's entry, and returns the offset and the size of its data.
func (s *scanner) tensor(t *Tensor) (begin, size uint64, err error) {
	dims := s.uint32()
	if s.err == nil && dims > maxDims {
		return 0, 0, fmt.Errorf("%d dimensions, at most %d are allowed", dims, maxDims)
	}
	elements := uint64(1)
	for range dims {
		d := s.uint64()
		hi, lo := bits.Mul64(elements, d)
		switch {
		case s.err != nil:
			return 0, 0, s.err
		case d == 0:
			return 0, 0, errors.New("a dimension is 0")
		case hi != 0 || lo > maxElements:
			return 0, 0, fmt.Errorf("dimensions %v and %d make more elements than memory can hold", t.Dims, d)
		}
		elements = lo
		t.Dims = append(t.Dims, int(d))
	}
	t.Type = Type(s.uint32())
	begin = s.uint64()
	if s.err != nil {
		return 0, 0, s.err
	}
	size, err = byteSize(t.Type, t.Dims)
	return begin, size, err
}

// maxElements keeps every size in bytes within an int64.
const maxElements = 1 << 59

// byteSize returns the bytes that a tensor takes.
func byteSize(t Type, dims []int) (uint64, error) {
	block, bytes := t.Block()
	if block == 0 {
		return 0, fmt.Errorf("%s is unknown", t)
	}
	row, elements := 1, uint64(1)
	if len(dims) > 0 {
		row = dims[0]
	}
	for _, d := range dims {
		hi, lo := bits.Mul64(elements, uint64(d))
		if d <= 0 || hi != 0 || lo > maxElements {
			return 0, fmt.Errorf("dimensions %v are out of range", dims)
		}
		elements = lo
	}
	if row%block != 0 {
		return 0, fmt.Errorf("rows of %d elements are not a multiple of the %d in a block of %s", row, block, t)
	}
	return elements / uint64(block) * uint64(bytes), nil // at most 2⁵⁹·8
}

func (f *File) alignment() (uint64, error) {
	if _, ok := f.values[alignmentKey]; !ok {
		return defaultAlignment, nil
	}
	a, ok := f.Uint(alignmentKey)
	if !ok || a == 0 || a&(a-1) != 0 || a > maxAlignment {
		return 0, fmt.Errorf("metadata key %q: the alignment is not a power of two up to %d", alignmentKey, maxAlignment)
	}
	return a, nil
}

// place gives each tensor its bytes after checking that no two overlap.
func (f *File) place(places []place, body []byte, alignment uint64) error {
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	for i, p := range places {
		t := &f.tensors[p.tensor]
		switch {
		case p.begin%alignment != 0:
			return fmt.Errorf("tensor %q: offset %d is not a multiple of the alignment %d", t.Name, p.begin, alignment)
		case p.end > uint64(len(body)):
			return fmt.Errorf("tensor %q: its data ends at byte %d of the data, which has %d: %w", t.Name, p.end, len(body), errTruncated)
		case i > 0 && p.begin < places[i-1].end:
			return fmt.Errorf("tensor %q: its data at %d to %d overlaps tensor %q", t.Name, p.begin, p.end, f.tensors[places[i-1].tensor].Name)
		}
		t.Data = body[p.begin:p.end:p.end]
	}
	return nil
}
