package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"unicode/utf8"
)

// KV is one metadata entry. Value is of a type that File.Value returns.
type KV struct {
	Key   string
	Value any
}

// Write writes a GGUF file of version 3 with the entries and the tensors in this order. The file appears whole and synced, or not at all.
func Write(path string, metadata []KV, tensors []Tensor) error {
	return WriteFunc(path, metadata, tensors, func(t Tensor) ([]byte, error) { return t.Data, nil })
}

// WriteFunc is Write with the Data of each tensor asked for when its turn comes, so that one tensor at a time need be in memory.
// The bytes that data returns may be reused after the next call of data.
func WriteFunc(path string, metadata []KV, tensors []Tensor, data func(Tensor) ([]byte, error)) error {
	header, sizes, alignment, err := encodeHeader(metadata, tensors)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	zeros := make([]byte, alignment)
	return writeFile(path, func(w io.Writer) error {
		if _, err := w.Write(header); err != nil {
			return err
		}
		for i, t := range tensors {
			b, err := data(t)
			if err != nil {
				return fmt.Errorf("tensor %q: %w", t.Name, err)
			}
			if uint64(len(b)) != sizes[i] {
				return fmt.Errorf("tensor %q: %d bytes of data, dimensions %v of %s need %d", t.Name, len(b), t.Dims, t.Type, sizes[i])
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
			if _, err := w.Write(zeros[:padding(sizes[i], alignment)]); err != nil {
				return err
			}
		}
		return nil
	})
}

// padding returns the bytes from at to the next multiple of alignment.
func padding(at, alignment uint64) uint64 { return (alignment - at%alignment) % alignment }

// encodeHeader returns the file up to the data section, and the bytes of each tensor.
func encodeHeader(metadata []KV, tensors []Tensor) (header []byte, sizes []uint64, alignment uint64, err error) {
	b := []byte(magic)
	b = binary.LittleEndian.AppendUint32(b, 3)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(metadata)))
	alignment = defaultAlignment
	seen := map[string]bool{}
	for _, kv := range metadata {
		if err := checkName(kv.Key, seen); err != nil {
			return nil, nil, 0, fmt.Errorf("metadata key %w", err)
		}
		b = appendString(b, kv.Key)
		if b, err = appendValue(b, kv.Value); err != nil {
			return nil, nil, 0, fmt.Errorf("metadata key %q: %w", kv.Key, err)
		}
		if a, ok := kv.Value.(uint32); ok && kv.Key == alignmentKey {
			alignment = uint64(a)
		} else if kv.Key == alignmentKey {
			alignment = 0
		}
	}
	if alignment == 0 || alignment&(alignment-1) != 0 || alignment > maxAlignment {
		return nil, nil, 0, fmt.Errorf("metadata key %q: the alignment is not a power of two as a uint32", alignmentKey)
	}
	seen = map[string]bool{}
	sizes = make([]uint64, len(tensors))
	var at uint64
	for i, t := range tensors {
		if err := checkName(t.Name, seen); err != nil {
			return nil, nil, 0, fmt.Errorf("tensor %w", err)
		}
		if len(t.Dims) > maxDims {
			return nil, nil, 0, fmt.Errorf("tensor %q: dimensions %v, at most %d are allowed", t.Name, t.Dims, maxDims)
		}
		if sizes[i], err = byteSize(t.Type, t.Dims); err != nil {
			return nil, nil, 0, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		b = appendString(b, t.Name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.Dims)))
		for _, d := range t.Dims {
			b = binary.LittleEndian.AppendUint64(b, uint64(d))
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(t.Type))
		b = binary.LittleEndian.AppendUint64(b, at)
		at += sizes[i] + padding(sizes[i], alignment)
	}
	return append(b, make([]byte, padding(uint64(len(b)), alignment))...), sizes, alignment, nil
}

func checkName(name string, seen map[string]bool) error {
	switch {
	case seen[name]:
		return fmt.Errorf("%q stands twice", name)
	case !utf8.ValidString(name) || len(name) > maxName:
		return fmt.Errorf("%q is not valid UTF-8 of at most %d bytes", name, maxName)
	}
	seen[name] = true
	return nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// kindOf returns the kind of a Go value: its own, or an array and its elements' kind.
func kindOf(v any) (k, elem kind, ok bool) {
	switch v.(type) {
	case uint8:
		return kindUint8, 0, true
	case int8:
		return kindInt8, 0, true
	case uint16:
		return kindUint16, 0, true
	case int16:
		return kindInt16, 0, true
	case uint32:
		return kindUint32, 0, true
	case int32:
		return kindInt32, 0, true
	case float32:
		return kindFloat32, 0, true
	case bool:
		return kindBool, 0, true
	case string:
		return kindString, 0, true
	case uint64:
		return kindUint64, 0, true
	case int64:
		return kindInt64, 0, true
	case float64:
		return kindFloat64, 0, true
	case []uint8:
		return kindArray, kindUint8, true
	case []int8:
		return kindArray, kindInt8, true
	case []uint16:
		return kindArray, kindUint16, true
	case []int16:
		return kindArray, kindInt16, true
	case []uint32:
		return kindArray, kindUint32, true
	case []int32:
		return kindArray, kindInt32, true
	case []float32:
		return kindArray, kindFloat32, true
	case []bool:
		return kindArray, kindBool, true
	case []string:
		return kindArray, kindString, true
	case []uint64:
		return kindArray, kindUint64, true
	case []int64:
		return kindArray, kindInt64, true
	case []float64:
		return kindArray, kindFloat64, true
	case []any:
		return kindArray, kindArray, true
	}
	return 0, 0, false
}

// appendValue appends a value with its kind before it.
func appendValue(b []byte, v any) ([]byte, error) {
	k, _, ok := kindOf(v)
	if !ok {
		return b, fmt.Errorf("a value of Go type %T has no form in this format", v)
	}
	return appendBare(binary.LittleEndian.AppendUint32(b, uint32(k)), v)
}

// appendBare appends a value without its kind.
func appendBare(b []byte, v any) ([]byte, error) {
	k, elem, ok := kindOf(v)
	switch {
	case !ok:
		return b, fmt.Errorf("a value of Go type %T has no form in this format", v)
	case k == kindString:
		if !utf8.ValidString(v.(string)) {
			return b, errors.New("the string is not valid UTF-8")
		}
		return appendString(b, v.(string)), nil
	case k != kindArray:
		return binary.Append(b, binary.LittleEndian, v)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(elem))
	var err error
	switch list := v.(type) {
	case []string:
		b = binary.LittleEndian.AppendUint64(b, uint64(len(list)))
		for i, s := range list {
			if b, err = appendBare(b, s); err != nil {
				return b, fmt.Errorf("element %d: %w", i, err)
			}
		}
		return b, nil
	case []any:
		b = binary.LittleEndian.AppendUint64(b, uint64(len(list)))
		for i, e := range list {
			if k, _, _ := kindOf(e); k != kindArray {
				return b, fmt.Errorf("element %d is of Go type %T, not a slice", i, e)
			}
			if b, err = appendBare(b, e); err != nil {
				return b, fmt.Errorf("element %d: %w", i, err)
			}
		}
		return b, nil
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(binary.Size(v))/elem.size())
	return binary.Append(b, binary.LittleEndian, v)
}

// writeFile lets fill write a temporary file beside path, syncs it and renames it to path; on any error nothing stays.
func writeFile(path string, fill func(io.Writer) error) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	temp := filepath.Join(dir, fmt.Sprintf(".%s.%016x.tmp", base, rand.Uint64()))
	w, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			w.Close()
			os.Remove(temp)
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	buf := bufio.NewWriterSize(w, 1<<16)
	if err := fill(buf); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	if err := w.Sync(); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(dir)
}
