//go:build !unix

package gguf

import (
	"io"
	"os"
)

// mapFile reads the first size bytes of r: these systems get a copy instead of a map.
func mapFile(r *os.File, size int) ([]byte, func() error, error) {
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, nil, err
	}
	return data, func() error { return nil }, nil
}

// syncDir does nothing: these systems do not open a directory for syncing.
func syncDir(string) error { return nil }
