// Package hub fetches models and datasets from a Hugging Face hub into the cache that huggingface_hub uses, and finds them there.
// Both programs may use the cache at the same time: layout, locks and unfinished files are the same.
//
//	CACHE/models--org--name/refs/main                     the commit of a branch
//	                       /blobs/<etag>                  a file's bytes, by its hash; <etag>.incomplete while they arrive
//	                       /snapshots/<commit>/<file>     a relative link to its blob
//	                       /trees/<commit>.json           what a commit holds
//	CACHE/.locks/models--org--name/<etag>.lock            held by the process that fetches a blob
package hub
