// Package torchfile reads the tensors of files that torch.save wrote (pytorch_model.bin, alone or in shards), without running anything
// that stands in them: of Python's pickle language it knows the few words that a dictionary of tensors needs and refuses every other
// by name. Tensors are views of the mapped file.
package torchfile
