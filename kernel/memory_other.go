//go:build !linux

package kernel

func (m *Memory) chunk(n int) []byte { return alignedBytes(n) }

func adviseHuge([]byte) {}

func dropPages([]byte) {}
