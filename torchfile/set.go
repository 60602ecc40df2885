package torchfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"krait/safetensors"
)

// The file names of a checkpoint directory.
const (
	SingleName = "pytorch_model.bin"
	IndexName  = "pytorch_model.bin.index.json"
)

// Set is the tensors of a checkpoint directory, whether in one file or in shards with an index.
type Set struct {
	files []*File
	names []string
	where map[string]*File
	base  map[*File]string // names of files
}

// OpenDir opens dir/pytorch_model.bin or, where there is none, the shards that dir/pytorch_model.bin.index.json lists. Where there is neither,
// the error is fs.ErrNotExist.
func OpenDir(dir string) (*Set, error) {
	s := &Set{where: map[string]*File{}, base: map[*File]string{}}
	err := s.add(dir, SingleName, nil)
	if err == nil {
		return s, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	shards, err := readIndex(filepath.Join(dir, IndexName))
	if err != nil {
		return nil, err
	}
	for _, shard := range slices.Sorted(maps.Keys(shards)) {
		if err := s.add(dir, shard, shards[shard]); err != nil {
			if errors.Is(err, fs.ErrNotExist) { // not the absence that callers look for
				err = fmt.Errorf("%s: shard %s, which %s names, is missing", dir, shard, IndexName)
			}
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// add opens one file and takes the tensors that the index expects in it, or all where there is no index.
func (s *Set) add(dir, name string, expected map[string]bool) error {
	f, err := Open(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	s.files, s.base[f] = append(s.files, f), name
	for _, tensor := range f.Names() {
		if expected == nil || expected[tensor] {
			s.names = append(s.names, tensor)
			s.where[tensor] = f
		}
	}
	for _, tensor := range slices.Sorted(maps.Keys(expected)) {
		if s.where[tensor] != f {
			return fmt.Errorf("%s: tensor %q is not in shard %s, where the index says it is", dir, tensor, name)
		}
	}
	return nil
}

// readIndex returns, for each shard, the names of its tensors.
func readIndex(path string) (map[string]map[string]bool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var index struct {
		WeightMap json.RawMessage `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	dec := json.NewDecoder(bytes.NewReader(index.WeightMap))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, fmt.Errorf("%s: weight_map is missing or no object", path)
	}
	shards, seen := map[string]map[string]bool{}, map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("%s: weight_map: %w", path, err)
		}
		name := token.(string) // a decoder lets nothing else stand for a name
		var shard string
		if err := dec.Decode(&shard); err != nil {
			return nil, fmt.Errorf("%s: tensor %q: %w", path, name, err)
		}
		switch {
		case seen[name]:
			return nil, fmt.Errorf("%s: tensor %q stands twice in weight_map", path, name)
		case !filepath.IsLocal(filepath.FromSlash(shard)) || strings.Contains(shard, `\`):
			return nil, fmt.Errorf("%s: tensor %q: shard %q is not a file of this directory", path, name, shard)
		case shards[shard] == nil:
			shards[shard] = map[string]bool{}
		}
		seen[name] = true
		shards[shard][name] = true
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("%s: weight_map: %w", path, err)
	}
	return shards, nil
}

// Close closes every file of the set. No Data of its tensors may be touched afterwards.
func (s *Set) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	s.files, s.where = nil, nil
	return errors.Join(errs...)
}

// Names returns the names of all tensors.
func (s *Set) Names() []string { return slices.Clone(s.names) }

// File returns the name of the file that holds a tensor, without its folder, or "".
func (s *Set) File(tensor string) string { return s.base[s.where[tensor]] }

// Tensor returns the tensor of that name, if the set has it.
func (s *Set) Tensor(name string) (safetensors.Tensor, bool) {
	f, ok := s.where[name]
	if !ok {
		return safetensors.Tensor{}, false
	}
	return f.Tensor(name)
}
