// Package kernel holds the numeric loops: pure functions over slices of float32, each with a plain Go definition that is its
// specification and, where the processor has the instructions, generated assembly beside it. Outputs come first, then inputs,
// then sizes. Matrices are row-major; ld… is the distance between rows in elements. Nothing here knows tensors, models or files.
package kernel

//go:generate go run ./gen
