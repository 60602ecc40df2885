package kernel

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// chunk maps n bytes, aligned to huge pages. Where the system refuses, the Go heap serves.
func (m *Memory) chunk(n int) []byte {
	raw, err := unix.Mmap(-1, 0, n+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return alignedBytes(n)
	}
	skip := int(-uintptr(unsafe.Pointer(&raw[0])) & (hugePage - 1))
	b := raw[skip:][:n:n]
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // a system without huge pages is slower, not wrong
	if m.chunks == nil {
		m.chunks = new(chunks)
		runtime.AddCleanup(m, func(c *chunks) {
			for _, raw := range c.list {
				_ = unix.Munmap(raw)
			}
		}, m.chunks)
	}
	m.chunks.list = append(m.chunks.list, raw)
	return b
}

// adviseHuge asks for huge pages where b has whole ones.
func adviseHuge(b []byte) {
	if skip := int(-uintptr(unsafe.Pointer(&b[0])) & (hugePage - 1)); len(b) >= skip+hugePage {
		_ = unix.Madvise(b[skip:][:(len(b)-skip)/hugePage*hugePage], unix.MADV_HUGEPAGE) // a system without them is slower, not wrong
	}
}

func dropPages(b []byte) { _ = unix.Madvise(b, unix.MADV_DONTNEED) } // a system that refuses keeps the pages
