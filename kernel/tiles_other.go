//go:build amd64 && !linux && !purego

package kernel

// hasTiles reports whether AMX may be used: only Linux is asked for it.
func hasTiles() bool { return false }
