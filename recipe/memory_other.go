//go:build !linux

package recipe

import "runtime"

// memoryInUse returns the bytes of memory that the program has taken from the system, without what lies outside Go's heap.
func memoryInUse() int {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.Sys - m.HeapReleased)
}

// memoryPeak would return the most bytes of memory that the program has held.
func memoryPeak() int { return 0 }
