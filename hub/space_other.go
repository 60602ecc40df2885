//go:build !linux && !darwin

package hub

// freeSpace does not know.
func freeSpace(string) (int64, bool) { return 0, false }
