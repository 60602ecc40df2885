package golden

import (
	"encoding/binary"
	"math"
	"path/filepath"
	"testing"

	"krait/safetensors"
)

// Expected is the expected.safetensors of one folder.
type Expected struct {
	t testing.TB
	f *safetensors.File
}

// Open reads the expected values of testdata/<name>.
func Open(t testing.TB, name string) *Expected {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(Dir(t, name), "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &Expected{t, f}
}

// Has reports whether there is a tensor of that name.
func (e *Expected) Has(name string) bool {
	_, ok := e.f.Tensor(name)
	return ok
}

func (e *Expected) tensor(name string, dtype safetensors.DType) safetensors.Tensor {
	e.t.Helper()
	x, ok := e.f.Tensor(name)
	if !ok || x.DType != dtype {
		e.t.Fatalf("golden: no %s of type %s", name, dtype)
	}
	return x
}

// Floats returns a float64 tensor's elements.
func (e *Expected) Floats(name string) []float64 {
	e.t.Helper()
	x := e.tensor(name, safetensors.F64)
	y := make([]float64, x.Len())
	for i := range y {
		y[i] = math.Float64frombits(binary.LittleEndian.Uint64(x.Data[8*i:]))
	}
	return y
}

// Ints returns an int64 tensor's elements as int32, the type of token ids.
func (e *Expected) Ints(name string) []int32 {
	e.t.Helper()
	x := e.tensor(name, "I64")
	y := make([]int32, x.Len())
	for i := range y {
		y[i] = int32(binary.LittleEndian.Uint64(x.Data[8*i:]))
	}
	return y
}

// Close reports an error if got differs from want by more than tolerance times want's largest magnitude.
func Close(t testing.TB, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d elements, want %d", what, len(got), len(want))
		return
	}
	var scale, worst float64
	at := 0
	for i, w := range want {
		scale = max(scale, math.Abs(w))
		if d := math.Abs(float64(got[i]) - w); d > worst || d != d {
			worst, at = d, i
			if d != d {
				worst = math.Inf(1)
			}
		}
	}
	if worst > tolerance*scale {
		t.Errorf("%s: element %d is %g, want %g: error %.2g of the largest, tolerance %.2g", what, at, got[at], want[at], worst/scale, tolerance)
	}
}
