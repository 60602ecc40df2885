package safetensors

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The file names of a checkpoint directory.
const (
	SingleName = "model.safetensors"
	IndexName  = "model.safetensors.index.json"
)

// Set is the tensors of a checkpoint directory, whether in one file or in shards with an index.
type Set struct {
	files    []*File
	names    []string
	where    map[string]*File
	metadata map[string]string
	base     map[*File]string // names of files
}

// OpenDir opens dir/model.safetensors or, where there is none, the shards that dir/model.safetensors.index.json lists.
func OpenDir(dir string) (*Set, error) {
	single := filepath.Join(dir, SingleName)
	f, err := Open(single)
	if err == nil {
		s := &Set{files: []*File{f}, names: f.Names(), where: map[string]*File{}, metadata: f.Metadata(), base: map[*File]string{f: SingleName}}
		for _, name := range s.names {
			s.where[name] = f
		}
		return s, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	index := filepath.Join(dir, IndexName)
	shards, err := readIndex(index)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: neither %s nor %s: %w", dir, SingleName, IndexName, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	s := &Set{where: map[string]*File{}, metadata: map[string]string{}, base: map[*File]string{}}
	for _, shard := range slices.Sorted(maps.Keys(shards)) {
		if err := s.add(dir, shard, shards[shard]); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// add opens one shard and takes the tensors that the index expects in it; the index decides, not the shard.
func (s *Set) add(dir, shard string, expected map[string]bool) error {
	f, err := Open(filepath.Join(dir, filepath.FromSlash(shard)))
	if err != nil {
		return err
	}
	s.files, s.base[f] = append(s.files, f), shard
	for _, name := range f.Names() {
		if expected[name] {
			s.names = append(s.names, name)
			s.where[name] = f
		}
	}
	for _, name := range slices.Sorted(maps.Keys(expected)) {
		if s.where[name] != f {
			return fmt.Errorf("%s: tensor %q is not in shard %s, where the index says it is", dir, name, shard)
		}
	}
	for k, v := range f.Metadata() {
		if _, ok := s.metadata[k]; !ok {
			s.metadata[k] = v
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
	if index.WeightMap == nil {
		return nil, fmt.Errorf("%s: weight_map is missing", path)
	}
	shards := map[string]map[string]bool{}
	err = eachMember(index.WeightMap, func(name string, dec *json.Decoder) error {
		var shard string
		if err := dec.Decode(&shard); err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		// A backslash separates folders on some systems only, so no file name may have one.
		if !filepath.IsLocal(filepath.FromSlash(shard)) || strings.Contains(shard, `\`) {
			return fmt.Errorf("tensor %q: shard %q is not a file of this directory", name, shard)
		}
		if shards[shard] == nil {
			shards[shard] = map[string]bool{}
		}
		shards[shard][name] = true
		return nil
	})
	if err != nil {
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
	s.files, s.names, s.where = nil, nil, nil
	return errors.Join(errs...)
}

// Names returns the tensor names, shard by shard in the order of file names, each in the order of its data.
func (s *Set) Names() []string {
	return slices.Clone(s.names)
}

// Tensor returns the tensor of that name, if the set has it.
func (s *Set) Tensor(name string) (Tensor, bool) {
	f := s.where[name]
	if f == nil {
		return Tensor{}, false
	}
	return f.Tensor(name)
}

// File returns the name of the file that holds a tensor, without its folder, or "".
func (s *Set) File(tensor string) string { return s.base[s.where[tensor]] }

// Metadata returns the files' __metadata__ together; where shards disagree, the first one's value.
func (s *Set) Metadata() map[string]string {
	return maps.Clone(s.metadata)
}
