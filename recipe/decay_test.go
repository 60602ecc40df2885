package recipe

import (
	"strings"
	"testing"

	"krait/checkpoint"
	"krait/internal/golden"
)

// TestDecays holds weight decay to the weights that multiply rows. Mamba1's A has two dimensions and stays as it is.
func TestDecays(t *testing.T) {
	for _, name := range []string{"tiny-hybrid", "tiny-mamba1", "mamba", "mamba2-tied"} {
		c, err := checkpoint.Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		c.Model.Train(func(string) bool { return true })
		seen := map[string]bool{}
		for _, p := range (&training{checkpoint: c}).params() {
			part := p.Name[strings.LastIndex(strings.TrimSuffix(strings.TrimSuffix(p.Name, ".weight"), ".bias"), ".")+1:]
			seen[part] = true
			want := strings.HasSuffix(part, ".weight") && !strings.Contains(part, "norm") && !strings.HasPrefix(part, "conv1d")
			if p.Decay != want {
				t.Errorf("%s: %s decays: %v, want %v", name, p.Name, p.Decay, want)
			}
		}
		if !seen["A_log"] || !seen["conv1d.weight"] {
			t.Errorf("%s: saw %v", name, seen)
		}
	}
}
