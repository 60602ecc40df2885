package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"
)

// maxHeader is the limit of the reference implementation; a larger header is a damaged or hostile file.
const maxHeader = 100_000_000

// metadataKey is the one member of the header that is not a tensor.
const metadataKey = "__metadata__"

// entry is a tensor and where its bytes lie in the data section.
type entry struct {
	Tensor
	begin, end uint64
}

// Parse reads a whole safetensors file held in data; the tensors alias it.
func Parse(data []byte) (*File, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("file of %d bytes is truncated: the 8-byte header length is incomplete", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	switch {
	case n > maxHeader:
		return nil, fmt.Errorf("header length %d is over the limit of %d bytes", n, maxHeader)
	case n > uint64(len(data)-8):
		return nil, fmt.Errorf("header length %d, but only %d bytes follow: truncated file", n, len(data)-8)
	}
	entries, metadata, err := parseHeader(data[8 : 8+n])
	if err != nil {
		return nil, err
	}
	f := &File{metadata: metadata, index: make(map[string]int, len(entries))}
	if err := f.place(entries, data[8+n:]); err != nil {
		return nil, err
	}
	return f, nil
}

// place checks that the entries tile body without gap or overlap and fills f with them in data order.
func (f *File) place(entries []entry, body []byte) error {
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	var at uint64
	for i := range entries {
		e := &entries[i]
		switch {
		case e.begin < at:
			return fmt.Errorf("tensor %q: data_offsets [%d,%d] overlap tensor %q, which ends at %d", e.Name, e.begin, e.end, entries[i-1].Name, at)
		case e.begin > at:
			return fmt.Errorf("tensor %q: data_offsets [%d,%d] leave a hole after byte %d", e.Name, e.begin, e.end, at)
		case e.end > uint64(len(body)):
			return fmt.Errorf("tensor %q: data_offsets [%d,%d] end beyond the data, which has %d bytes: truncated file", e.Name, e.begin, e.end, len(body))
		}
		at = e.end
		e.Data = body[e.begin:e.end:e.end]
		f.index[e.Name] = i
		f.tensors = append(f.tensors, e.Tensor)
	}
	if at != uint64(len(body)) {
		return fmt.Errorf("%d bytes after the last tensor", uint64(len(body))-at)
	}
	return nil
}

// parseHeader decodes the JSON header. It checks each tensor alone, not how they lie to each other.
func parseHeader(header []byte) ([]entry, map[string]string, error) {
	if !utf8.Valid(header) {
		return nil, nil, errors.New("header is not valid UTF-8")
	}
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, errors.New("header does not start with '{'")
	}
	var entries []entry
	var metadata map[string]string
	err := eachMember(header, func(name string, dec *json.Decoder) error {
		if name == metadataKey {
			var err error
			metadata, err = parseMetadata(dec)
			return err
		}
		e, err := parseEntry(dec)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		e.Name = name
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	return entries, metadata, nil
}

// eachMember calls f for every member of the JSON object in data, in order, with the decoder standing before its value.
// encoding/json alone would let the last of two equal keys win silently.
func eachMember(data []byte, f func(key string, dec *json.Decoder) error) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if tok, err := dec.Token(); err != nil {
		return fmt.Errorf("invalid JSON: %w", err)
	} else if tok != json.Delim('{') {
		return errors.New("invalid JSON: not an object")
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return fmt.Errorf("invalid JSON: %w", err)
		}
		key, ok := tok.(string)
		if !ok {
			return fmt.Errorf("invalid JSON: key %v is not a string", tok)
		}
		if seen[key] {
			return fmt.Errorf("duplicate name %q", key)
		}
		seen[key] = true
		if err := f(key, dec); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("invalid JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("invalid JSON: text after the closing brace")
	}
	return nil
}

func parseMetadata(dec *json.Decoder) (map[string]string, error) {
	var raw map[string]*string
	if err := dec.Decode(&raw); err != nil {
		return nil, fmt.Errorf("%s: invalid JSON: %w", metadataKey, err)
	}
	metadata := make(map[string]string, len(raw))
	for k, v := range raw {
		if v == nil {
			return nil, fmt.Errorf("%s: value of %q is not a string", metadataKey, k)
		}
		metadata[k] = *v
	}
	return metadata, nil
}

func parseEntry(dec *json.Decoder) (entry, error) {
	var raw struct {
		DType   *DType    `json:"dtype"`
		Shape   *[]int64  `json:"shape"`
		Offsets *[]uint64 `json:"data_offsets"`
	}
	if err := dec.Decode(&raw); err != nil {
		return entry{}, fmt.Errorf("invalid JSON: %w", err)
	}
	switch {
	case raw.DType == nil:
		return entry{}, errors.New("dtype is missing")
	case raw.Shape == nil:
		return entry{}, errors.New("shape is missing")
	case raw.Offsets == nil || len(*raw.Offsets) != 2:
		return entry{}, errors.New("data_offsets is not a pair")
	}
	e := entry{begin: (*raw.Offsets)[0], end: (*raw.Offsets)[1]}
	if e.begin > e.end {
		return entry{}, fmt.Errorf("data_offsets [%d,%d] end before they begin", e.begin, e.end)
	}
	e.DType = *raw.DType
	e.Shape = make([]int, len(*raw.Shape))
	for i, d := range *raw.Shape {
		if d < 0 || uint64(d) > math.MaxInt {
			return entry{}, fmt.Errorf("dimension %d in shape %v", d, *raw.Shape)
		}
		e.Shape[i] = int(d)
	}
	want, err := byteSize(e.DType, e.Shape)
	if err != nil {
		return entry{}, err
	}
	if e.DType.Bits() != 0 && want != e.end-e.begin {
		return entry{}, fmt.Errorf("shape %v of %s is %d bytes, data_offsets [%d,%d] hold %d", e.Shape, e.DType, want, e.begin, e.end, e.end-e.begin)
	}
	return e, nil
}

// byteSize returns the bytes that shape takes in dtype; for an unknown dtype it only checks the shape.
func byteSize(dtype DType, shape []int) (uint64, error) {
	n := uint64(1)
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("dimension %d in shape %v", d, shape)
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 {
			return 0, fmt.Errorf("shape %v overflows", shape)
		}
		n = lo
	}
	hi, lo := bits.Mul64(n, uint64(dtype.Bits()))
	if hi != 0 {
		return 0, fmt.Errorf("shape %v of %s overflows", shape, dtype)
	}
	if lo%8 != 0 {
		return 0, fmt.Errorf("shape %v of %s is not a whole number of bytes", shape, dtype)
	}
	return lo / 8, nil
}
