package golden

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEveryFolderHasExpectedValues(t *testing.T) {
	folders, err := os.ReadDir(filepath.Dir(Dir(t, "tiny-hybrid")))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range folders {
		if !f.IsDir() {
			continue
		}
		if _, err := os.Stat(filepath.Join(Dir(t, f.Name()), "expected.safetensors")); err != nil {
			t.Error(err)
		}
	}
}
