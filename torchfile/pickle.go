package torchfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// The limits of a pickle. A model's takes about 150 bytes and 20 objects a tensor; these hold 50,000 tensors and keep a hostile
// file from making much of little.
const (
	maxPickle  = 16 << 20
	maxStack   = 1 << 16
	maxObjects = 1 << 21
)

// The values that a pickle can make here, beside bool, int64, float64, string and nil. Lists and dictionaries are shared by reference, as in
// Python, so nothing is ever copied or walked while the program runs.
type (
	markValue  struct{}
	tupleValue []any
	listValue  struct{ items []any }
	dictValue  struct{ keys, values []any }
	// globalValue is a name that stands for a function or class of Python; see knownGlobals.
	globalValue struct{ module, name string }
	// storageValue is a run of elements in the file.
	storageValue struct {
		kind  storageKind
		key   string
		count int64
	}
	tensorValue struct {
		storage       *storageValue
		offset        int64
		shape, stride []int64
	}
)

func (g globalValue) String() string { return g.module + "." + g.name }

// machine runs one pickle: a stack, a memo and nothing else.
type machine struct {
	in      []byte
	at      int
	stack   []any
	memo    map[uint32]any
	objects int
}

// unpickle runs a pickle of protocol 2 and returns what it leaves.
func unpickle(data []byte) (any, error) {
	if len(data) > maxPickle {
		return nil, fmt.Errorf("pickle of %d bytes, a model's is under %d", len(data), maxPickle)
	}
	m := &machine{in: data, memo: map[uint32]any{}}
	for {
		op, err := m.byte()
		if err != nil {
			return nil, err
		}
		if op == '.' {
			return m.pop()
		}
		if err := m.step(op); err != nil {
			return nil, fmt.Errorf("pickle at byte %d: %w", m.at-1, err)
		}
		if len(m.stack) > maxStack || m.objects > maxObjects {
			return nil, fmt.Errorf("pickle at byte %d: more objects than a model's pickle makes", m.at-1)
		}
	}
}

var errTruncated = errors.New("pickle is truncated")

func (m *machine) take(n int) ([]byte, error) {
	if n < 0 || n > len(m.in)-m.at {
		return nil, errTruncated
	}
	b := m.in[m.at:][:n]
	m.at += n
	return b, nil
}

func (m *machine) byte() (byte, error) {
	b, err := m.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// uint reads n little-endian bytes.
func (m *machine) uint(n int) (uint64, error) {
	b, err := m.take(n)
	if err != nil {
		return 0, err
	}
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:]), nil
}

// line reads up to a newline.
func (m *machine) line() (string, error) {
	n := bytes.IndexByte(m.in[m.at:], '\n')
	if n < 0 {
		return "", errTruncated
	}
	b, err := m.take(n + 1)
	return string(b[:n]), err
}

func (m *machine) push(v any) error {
	m.objects++
	m.stack = append(m.stack, v)
	return nil
}

var errEmpty = errors.New("takes a value from an empty stack")

func (m *machine) pop() (any, error) {
	if len(m.stack) == 0 {
		return nil, errEmpty
	}
	v := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	if _, isMark := v.(markValue); isMark {
		return nil, errEmpty
	}
	return v, nil
}

// top returns the top of the stack, which stays there.
func (m *machine) top() (any, error) {
	v, err := m.pop()
	if err == nil {
		m.stack = append(m.stack, v)
	}
	return v, err
}

// popMark pops what lies above the topmost mark, and the mark.
func (m *machine) popMark() ([]any, error) {
	for i := len(m.stack) - 1; i >= 0; i-- {
		if _, isMark := m.stack[i].(markValue); isMark {
			items := append([]any(nil), m.stack[i+1:]...)
			m.stack = m.stack[:i]
			return items, nil
		}
	}
	return nil, errors.New("looks for a mark where there is none")
}

// step runs one instruction.
func (m *machine) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := m.byte()
		if err == nil && v != 2 {
			err = fmt.Errorf("protocol %d, want 2, torch.save's own", v)
		}
		return err
	case '(':
		return m.push(markValue{})
	case 'N':
		return m.push(nil)
	case 0x88:
		return m.push(true)
	case 0x89:
		return m.push(false)
	case '}':
		return m.push(&dictValue{})
	case ']':
		return m.push(&listValue{})
	case ')':
		return m.push(tupleValue(nil))
	case 't', 0x85, 0x86, 0x87:
		return m.tuple(op)
	case 'K', 'M', 'J', 0x8a, 'G', 'X':
		return m.literal(op)
	case 'q', 'r', 'h', 'j':
		return m.memory(op)
	case 'a', 'e', 's', 'u':
		return m.fill(op)
	case 'c':
		return m.global()
	case 'Q':
		return m.persistent()
	case 'R':
		return m.reduce()
	case 'b':
		return m.build()
	}
	return fmt.Errorf("instruction %q is none that a dictionary of tensors needs", op)
}

func (m *machine) tuple(op byte) error {
	if op == 't' {
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.push(tupleValue(items))
	}
	items := make(tupleValue, op-0x84)
	for i := len(items) - 1; i >= 0; i-- {
		v, err := m.pop()
		if err != nil {
			return err
		}
		items[i] = v
	}
	return m.push(items)
}

// literal reads a number or a string.
func (m *machine) literal(op byte) error {
	size := map[byte]int{'K': 1, 'M': 2, 'J': 4, 0x8a: 1, 'G': 8, 'X': 4}[op]
	n, err := m.uint(size)
	if err != nil {
		return err
	}
	switch op {
	case 'J':
		return m.push(int64(int32(n)))
	case 'G': // big-endian
		return m.push(math.Float64frombits(bits.ReverseBytes64(n)))
	case 'X':
		if n > math.MaxInt32 {
			return errTruncated
		}
		b, err := m.take(int(n))
		if err != nil {
			return err
		}
		return m.push(string(b))
	case 0x8a: // n bytes, two's complement
		if n > 8 {
			return fmt.Errorf("an integer of %d bytes", n)
		}
		v, err := m.uint(int(n))
		if err != nil {
			return err
		}
		shift := 64 - 8*n
		return m.push(int64(v<<shift) >> shift)
	}
	return m.push(int64(n))
}

// memory puts the top into the memo or gets a value from it.
func (m *machine) memory(op byte) error {
	size := 1
	if op == 'r' || op == 'j' {
		size = 4
	}
	n, err := m.uint(size)
	if err != nil {
		return err
	}
	if op == 'h' || op == 'j' {
		v, ok := m.memo[uint32(n)]
		if !ok {
			return fmt.Errorf("memo %d is empty", n)
		}
		return m.push(v)
	}
	v, err := m.top()
	if err != nil {
		return err
	}
	m.objects++
	m.memo[uint32(n)] = v
	return nil
}

// fill adds to a list or a dictionary.
func (m *machine) fill(op byte) error {
	var items []any
	var err error
	switch op {
	case 'e', 'u':
		items, err = m.popMark()
	case 'a', 's':
		items = make([]any, map[byte]int{'a': 1, 's': 2}[op])
		for i := len(items) - 1; i >= 0 && err == nil; i-- {
			items[i], err = m.pop()
		}
	}
	if err != nil {
		return err
	}
	target, err := m.top()
	if err != nil {
		return err
	}
	m.objects += len(items)
	switch x := target.(type) {
	case *listValue:
		if op == 'a' || op == 'e' {
			x.items = append(x.items, items...)
			return nil
		}
	case *dictValue:
		if (op == 's' || op == 'u') && len(items)%2 == 0 {
			for i := 0; i < len(items); i += 2 {
				x.keys, x.values = append(x.keys, items[i]), append(x.values, items[i+1])
			}
			return nil
		}
	}
	return fmt.Errorf("adds %d values to a %s", len(items), typeName(target))
}

// typeName says what a value is, for errors.
func typeName(v any) string {
	switch x := v.(type) {
	case nil:
		return "None"
	case bool, int64, float64:
		return fmt.Sprintf("number (%v)", x)
	case string:
		return "string"
	case tupleValue:
		return "tuple"
	case *listValue:
		return "list"
	case *dictValue:
		return "dictionary"
	case *storageValue:
		return "storage"
	case *tensorValue:
		return "tensor"
	case globalValue:
		return x.String()
	}
	return "mark"
}
