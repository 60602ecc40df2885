//go:build !amd64 && !arm64 && !purego

package kernel

import "runtime"

func tables() []*table { return []*table{&portable} }

func missing() string { return "there is no assembly for " + runtime.GOARCH }
