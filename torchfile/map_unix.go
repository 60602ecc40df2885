//go:build unix

package torchfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapFile returns the first size bytes of r as read-only memory.
func mapFile(r *os.File, size int) ([]byte, func() error, error) {
	data, err := unix.Mmap(int(r.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return data, func() error { return unix.Munmap(data) }, nil
}
