// Package safetensors reads and writes safetensors files, one or a sharded set, strictly:
// a file that is truncated, overlapping or inconsistent is refused with a sentence that names the tensor.
package safetensors
