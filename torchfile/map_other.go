//go:build !unix

package torchfile

import (
	"io"
	"os"
)

// mapFile returns the first size bytes of r, read into memory.
func mapFile(r *os.File, size int) ([]byte, func() error, error) {
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, nil, err
	}
	return data, func() error { return nil }, nil
}
