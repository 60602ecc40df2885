// Package kernel holds the numeric loops: pure functions over slices of float32, each with a plain Go definition that is its
// specification and, where the processor has the instructions, generated assembly beside it. Outputs come first, then inputs,
// then sizes. Matrices are row-major; ld… is the distance between rows in elements. Nothing here knows tensors, models or files.
//
// The implementation is chosen once, at start: on amd64 avx512 (with VNNI and BF16 where the processor has them) or avx2, on arm64 neon (with
// SDOT where the processor has it), elsewhere and in builds with the tag purego the portable one. KRAIT_KERNELS chooses another one that the
// machine can run; Why says how the choice came about.
package kernel

//go:generate go run ./gen
