package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// kind is a metadata value's type as the file numbers it.
type kind uint32

const (
	kindUint8   kind = 0
	kindInt8    kind = 1
	kindUint16  kind = 2
	kindInt16   kind = 3
	kindUint32  kind = 4
	kindInt32   kind = 5
	kindFloat32 kind = 6
	kindBool    kind = 7
	kindString  kind = 8
	kindArray   kind = 9
	kindUint64  kind = 10
	kindInt64   kind = 11
	kindFloat64 kind = 12
)

// size returns the bytes of a value of fixed size, or 0.
func (k kind) size() uint64 {
	switch k {
	case kindUint8, kindInt8, kindBool:
		return 1
	case kindUint16, kindInt16:
		return 2
	case kindUint32, kindInt32, kindFloat32:
		return 4
	case kindUint64, kindInt64, kindFloat64:
		return 8
	}
	return 0
}

// value is a metadata value, checked but not decoded: decoding is for those who ask, so that a file costs what is read of it.
type value struct {
	kind kind
	elem kind   // of an array
	n    int    // elements of an array
	data []byte // what follows the kind; of an array, what follows its length
}

// value checks the value that follows and steps over it.
func (s *scanner) value(k kind, depth int) value {
	if s.err != nil {
		return value{}
	}
	from := s.at
	switch {
	case k.size() > 0:
		b := s.take(k.size())
		if k == kindBool && s.err == nil && b[0] > 1 {
			s.err = fmt.Errorf("a boolean with the value %d", b[0])
		}
	case k == kindString:
		s.text()
	case k == kindArray:
		return s.array(depth)
	default:
		s.err = fmt.Errorf("value type %d is unknown", k)
	}
	return value{kind: k, data: s.data[from:s.at]}
}

func (s *scanner) array(depth int) value {
	elem, n := kind(s.uint32()), s.uint64()
	from := s.at
	switch {
	case s.err != nil:
		return value{}
	case depth == maxDepth:
		s.err = fmt.Errorf("arrays within arrays, more than %d deep", maxDepth)
		return value{}
	case n > uint64(len(s.data)-from): // every element takes at least a byte
		s.err = fmt.Errorf("an array of %d elements, but only %d bytes follow: %w", n, len(s.data)-from, errTruncated)
		return value{}
	}
	if size := elem.size(); size > 0 && elem != kindBool {
		s.take(n * size) // n is at most the file's size, so this cannot overflow
	} else {
		for i := uint64(0); i < n && s.err == nil; i++ {
			s.value(elem, depth+1)
		}
		if n == 0 && elem > kindFloat64 {
			s.err = fmt.Errorf("value type %d is unknown", elem)
		}
	}
	return value{kind: kindArray, elem: elem, n: int(n), data: s.data[from:s.at]}
}

// number returns the value of fixed size at b.
func (k kind) number(b []byte) any {
	switch k {
	case kindUint8:
		return b[0]
	case kindInt8:
		return int8(b[0])
	case kindUint16:
		return binary.LittleEndian.Uint16(b)
	case kindInt16:
		return int16(binary.LittleEndian.Uint16(b))
	case kindUint32:
		return binary.LittleEndian.Uint32(b)
	case kindInt32:
		return int32(binary.LittleEndian.Uint32(b))
	case kindFloat32:
		return math.Float32frombits(binary.LittleEndian.Uint32(b))
	case kindBool:
		return b[0] == 1
	case kindUint64:
		return binary.LittleEndian.Uint64(b)
	case kindInt64:
		return int64(binary.LittleEndian.Uint64(b))
	case kindFloat64:
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	}
	return nil
}

// integer returns the integer at b, whatever its width, as one with a sign; a larger one than that is not ok.
func (k kind) integer(b []byte) (int64, bool) {
	switch v := k.number(b).(type) {
	case uint8:
		return int64(v), true
	case int8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case uint64:
		return int64(v), v <= math.MaxInt64
	}
	return 0, false
}

// Has reports whether the metadata has the key.
func (f *File) Has(key string) bool {
	_, ok := f.values[key]
	return ok
}

// Int returns an integer of any width; ok is false where there is none or it does not fit.
func (f *File) Int(key string) (v int64, ok bool) {
	x := f.values[key]
	if x.data == nil || x.kind.size() == 0 {
		return 0, false
	}
	return x.kind.integer(x.data)
}

// Uint returns an integer that is not negative.
func (f *File) Uint(key string) (v uint64, ok bool) {
	i, ok := f.Int(key)
	return uint64(i), ok && i >= 0
}

// Float returns a floating-point number, widened exactly.
func (f *File) Float(key string) (v float64, ok bool) {
	x := f.values[key]
	switch x.kind {
	case kindFloat32:
		return float64(x.kind.number(x.data).(float32)), true
	case kindFloat64:
		return x.kind.number(x.data).(float64), true
	}
	return 0, false
}

// Bool returns a boolean.
func (f *File) Bool(key string) (v, ok bool) {
	x := f.values[key]
	if x.kind != kindBool {
		return false, false
	}
	return x.data[0] == 1, true
}

// String returns a string.
func (f *File) String(key string) (v string, ok bool) {
	x := f.values[key]
	if x.kind != kindString {
		return "", false
	}
	return string(x.data[8:]), true
}

// array returns the array at key if its elements are of one of the kinds.
func (f *File) array(key string, kinds ...kind) (value, bool) {
	x := f.values[key]
	if x.kind != kindArray {
		return x, false
	}
	for _, k := range kinds {
		if x.elem == k {
			return x, true
		}
	}
	return x, false
}

// Strings returns an array of strings.
func (f *File) Strings(key string) (v []string, ok bool) {
	x, ok := f.array(key, kindString)
	if !ok {
		return nil, false
	}
	return x.strings(), true
}

// strings decodes an array of strings into one block of memory.
func (x value) strings() []string {
	list := make([]string, x.n)
	all := string(x.data)
	at := 0
	for i := range list {
		n := int(binary.LittleEndian.Uint64(x.data[at:]))
		list[i] = all[at+8 : at+8+n]
		at += 8 + n
	}
	return list
}

// Floats returns an array of float32 numbers.
func (f *File) Floats(key string) (v []float32, ok bool) {
	x, ok := f.array(key, kindFloat32)
	if !ok {
		return nil, false
	}
	v = make([]float32, x.n)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(x.data[4*i:]))
	}
	return v, true
}

// Ints returns an array of integers of any width; ok is false where one does not fit.
func (f *File) Ints(key string) (v []int64, ok bool) {
	x, ok := f.array(key, kindUint8, kindInt8, kindUint16, kindInt16, kindUint32, kindInt32, kindUint64, kindInt64)
	if !ok {
		return nil, false
	}
	v = make([]int64, x.n)
	size := int(x.elem.size())
	for i := range v {
		if v[i], ok = x.elem.integer(x.data[i*size:]); !ok {
			return nil, false
		}
	}
	return v, true
}

// Value returns a metadata value as the Go type of its own width: uint8 to int64, float32, float64, bool, string, or a slice of one of
// these; an array of arrays is a []any. It is nil where there is no such key.
func (f *File) Value(key string) any {
	x, ok := f.values[key]
	if !ok {
		return nil
	}
	v, _ := x.decode()
	return v
}

// decode returns the value and the bytes it took.
func (x value) decode() (any, int) {
	switch {
	case x.kind == kindString:
		return string(x.data[8:]), len(x.data)
	case x.kind != kindArray:
		return x.kind.number(x.data), len(x.data)
	case x.elem == kindString:
		return x.strings(), len(x.data)
	case x.elem != kindArray:
		return x.numbers(), len(x.data)
	}
	list := make([]any, x.n)
	s := &scanner{data: x.data}
	for i := range list {
		list[i], _ = s.array(0).decode()
	}
	return list, len(x.data)
}

// numbers decodes an array of values of fixed size.
func (x value) numbers() any {
	switch x.elem {
	case kindUint8:
		return numbers[uint8](x)
	case kindInt8:
		return numbers[int8](x)
	case kindUint16:
		return numbers[uint16](x)
	case kindInt16:
		return numbers[int16](x)
	case kindUint32:
		return numbers[uint32](x)
	case kindInt32:
		return numbers[int32](x)
	case kindFloat32:
		return numbers[float32](x)
	case kindBool:
		return numbers[bool](x)
	case kindUint64:
		return numbers[uint64](x)
	case kindInt64:
		return numbers[int64](x)
	}
	return numbers[float64](x)
}

func numbers[T any](x value) []T {
	list := make([]T, x.n)
	size := int(x.elem.size())
	for i := range list {
		list[i] = x.elem.number(x.data[i*size:]).(T)
	}
	return list
}
