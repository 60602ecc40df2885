package torchfile

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"krait/safetensors"
)

// storageKind is a class of torch's storages: what its elements are.
type storageKind struct {
	dtype safetensors.DType
	size  int64
}

// storageKinds are torch's typed storages by the name of their class.
var storageKinds = map[string]storageKind{
	"DoubleStorage": {safetensors.F64, 8}, "FloatStorage": {safetensors.F32, 4}, "HalfStorage": {safetensors.F16, 2}, "BFloat16Storage": {safetensors.BF16, 2},
	"LongStorage": {"I64", 8}, "IntStorage": {"I32", 4}, "ShortStorage": {"I16", 2}, "CharStorage": {"I8", 1}, "ByteStorage": {"U8", 1}, "BoolStorage": {"BOOL", 1},
}

// The names of Python that a dictionary of tensors needs. Each is data here: none is ever looked up or called.
var (
	orderedDict      = globalValue{"collections", "OrderedDict"}
	rebuildTensor    = globalValue{"torch._utils", "_rebuild_tensor_v2"}
	rebuildParameter = globalValue{"torch._utils", "_rebuild_parameter"}
)

// global pushes one of the known names and refuses every other.
func (m *machine) global() error {
	var g globalValue
	var err error
	if g.module, err = m.line(); err != nil {
		return err
	}
	if g.name, err = m.line(); err != nil {
		return err
	}
	_, isStorage := storageKinds[g.name]
	if !slices.Contains([]globalValue{orderedDict, rebuildTensor, rebuildParameter}, g) && !(g.module == "torch" && isStorage) {
		return fmt.Errorf("the file asks for %q, which is no part of a dictionary of tensors: it is refused, not run", g.String())
	}
	return m.push(g)
}

// persistent turns ('storage', class, key, location, count) into a storage.
func (m *machine) persistent() error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	id, ok := v.(tupleValue)
	if !ok || len(id) != 5 || id[0] != any("storage") {
		return errors.New("a reference to something outside the pickle that is not a storage")
	}
	class, ok1 := id[1].(globalValue)
	key, ok2 := id[2].(string)
	count, ok3 := id[4].(int64)
	kind, ok4 := storageKinds[class.name]
	if !ok1 || !ok2 || !ok3 || !ok4 || count < 0 {
		return errors.New("a storage without class, key or count")
	}
	return m.push(&storageValue{kind, key, count})
}

// reduce applies one of the known functions to a tuple of arguments.
func (m *machine) reduce() error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	args, ok := v.(tupleValue)
	if !ok {
		return fmt.Errorf("calls with a %s for arguments", typeName(v))
	}
	f, err := m.pop()
	if err != nil {
		return err
	}
	switch f {
	case any(orderedDict):
		if len(args) != 0 {
			return fmt.Errorf("%s with %d arguments, want none", orderedDict, len(args))
		}
		return m.push(&dictValue{})
	case any(rebuildParameter):
		if len(args) > 0 {
			if t, ok := args[0].(*tensorValue); ok {
				return m.push(t)
			}
		}
		return fmt.Errorf("%s without a tensor", rebuildParameter)
	case any(rebuildTensor):
		t, err := newTensor(args)
		if err != nil {
			return err
		}
		return m.push(t)
	}
	return fmt.Errorf("calls a %s", typeName(f))
}

// newTensor reads the arguments (storage, offset, shape, stride, …) of _rebuild_tensor_v2.
func newTensor(args tupleValue) (*tensorValue, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("%s with %d arguments, want at least 4", rebuildTensor, len(args))
	}
	t := new(tensorValue)
	var ok1, ok2, ok3, ok4 bool
	t.storage, ok1 = args[0].(*storageValue)
	t.offset, ok2 = args[1].(int64)
	t.shape, ok3 = integers(args[2])
	t.stride, ok4 = integers(args[3])
	if !ok1 || !ok2 || !ok3 || !ok4 || len(t.shape) != len(t.stride) || t.offset < 0 {
		return nil, fmt.Errorf("%s without storage, offset, shape or strides that fit together", rebuildTensor)
	}
	return t, nil
}

// maxDims bounds a tensor's dimensions; torch's own limit is 64.
const maxDims = 64

// integers returns the elements of a tuple of integers that are not negative.
func integers(v any) ([]int64, bool) {
	t, ok := v.(tupleValue)
	if !ok || len(t) > maxDims {
		return nil, false
	}
	list := make([]int64, len(t))
	for i, x := range t {
		n, ok := x.(int64)
		if !ok || n < 0 {
			return nil, false
		}
		list[i] = n
	}
	return list, true
}

// build would set attributes of an object (an OrderedDict's _metadata). They carry no tensors, so they are dropped.
func (m *machine) build() error {
	if _, err := m.pop(); err != nil {
		return err
	}
	target, err := m.top()
	if err != nil {
		return err
	}
	switch target.(type) {
	case *dictValue, *tensorValue:
		return nil
	}
	return fmt.Errorf("sets attributes of a %s", typeName(target))
}

// extent returns the number of elements of a tensor and the number that its storage must have, and whether it is stored row by row.
// The tensor must not stand on fewer elements than it has, as an expanded one does.
func (t *tensorValue) extent() (elements int64, contiguous bool, err error) {
	elements, contiguous = 1, true
	last := t.offset
	for i := len(t.shape) - 1; i >= 0; i-- {
		n, stride := t.shape[i], t.stride[i]
		if n == 0 {
			return 0, true, nil
		}
		if n > 1 {
			if stride != elements {
				contiguous = false
			}
			if stride > (math.MaxInt64-last)/(n-1) {
				return 0, false, fmt.Errorf("shape %v with strides %v overflows", t.shape, t.stride)
			}
			last += stride * (n - 1)
		}
		if elements > math.MaxInt64/n {
			return 0, false, fmt.Errorf("shape %v overflows", t.shape)
		}
		elements *= n
	}
	switch {
	case last >= t.storage.count:
		return 0, false, fmt.Errorf("shape %v with strides %v from element %d on leaves its storage of %d elements", t.shape, t.stride, t.offset, t.storage.count)
	case elements > t.storage.count:
		return 0, false, fmt.Errorf("shape %v with strides %v repeats elements of its storage of %d: save a copy of it (.contiguous())", t.shape, t.stride, t.storage.count)
	}
	return elements, contiguous, nil
}

// gather returns the bytes of a tensor that is not stored row by row, in that order.
func (t *tensorValue) gather(storage []byte, elements int64) []byte {
	size := t.storage.kind.size
	out := make([]byte, 0, elements*size)
	index := make([]int64, len(t.shape))
	at := t.offset
	for range elements {
		out = append(out, storage[at*size:][:size]...)
		for d := len(index) - 1; d >= 0; d-- {
			index[d]++
			at += t.stride[d]
			if index[d] < t.shape[d] {
				break
			}
			at -= t.stride[d] * t.shape[d]
			index[d] = 0
		}
	}
	return out
}
