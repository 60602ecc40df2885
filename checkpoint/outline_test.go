package checkpoint

import (
	"slices"
	"testing"
)

// TestOutline checks that an outline has the shapes of the model and not its matrices. TestRefused has what it refuses.
func TestOutline(t *testing.T) {
	files := copyOf(t, "tiny-hybrid")
	whole, err := LoadFS(files)
	if err != nil {
		t.Fatal(err)
	}
	c, err := OutlineFS(files)
	if err != nil {
		t.Fatal(err)
	}
	shapes := map[string][]int{}
	for name, p := range whole.Model.Params {
		shapes[name] = p.Shape
	}
	numbers := 0
	for name, p := range c.Model.Params {
		if !slices.Equal(p.Shape, shapes[name]) {
			t.Errorf("%s: shape %v, want %v", name, p.Shape, shapes[name])
		}
		numbers += len(p.Data)
	}
	if n := whole.Model.NumParams(); c.Model.NumParams() != n || numbers > n/10 {
		t.Errorf("%d parameters of %d, %d with numbers", c.Model.NumParams(), n, numbers)
	}
}
