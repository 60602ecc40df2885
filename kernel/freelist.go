package kernel

import (
	"sync"
	"unsafe"
)

// freeList keeps values for reuse: unlike sync.Pool it survives garbage collections, and holds no more than were in use at once.
type freeList[T any] struct {
	make func() *T
	mu   sync.Mutex
	free []*T
}

func (l *freeList[T]) get() *T {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		v := l.free[n-1]
		l.free = l.free[:n-1]
		return v
	}
	return l.make()
}

func (l *freeList[T]) put(v *T) {
	l.mu.Lock()
	l.free = append(l.free, v)
	l.mu.Unlock()
}

// grow returns s with n elements, whose contents do not matter, starting on a cache line.
func grow(s []float32, n int) []float32 {
	if n <= cap(s) {
		return s[:n]
	}
	s = make([]float32, n+n/4+16)
	skip := int(-uintptr(unsafe.Pointer(&s[0]))&63) / 4
	return s[skip:][:n]
}
