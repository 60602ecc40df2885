// Package golden locates the reference data that gen.py computes independently of this project's Go code. It is for
// tests only.
package golden

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Dir returns the absolute path of testdata/name beside this file, whatever the package of the calling test.
func Dir(t testing.TB, name string) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(file), "testdata", name)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("golden: %v (under -trimpath the source folder is unknown)", err)
	}
	return dir
}
