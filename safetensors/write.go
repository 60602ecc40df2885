package safetensors

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"
)

// Write writes the tensors, in this order, to path. The file appears whole and synced, or not at all.
func Write(path string, tensors []Tensor, metadata map[string]string) error {
	return WriteFunc(path, tensors, metadata, dataOf)
}

// WriteFunc is Write with the Data of each tensor asked for when its turn comes, so that one tensor at a time need be in memory.
// The bytes that data returns may be reused after the next call of data.
func WriteFunc(path string, tensors []Tensor, metadata map[string]string, data func(Tensor) ([]byte, error)) error {
	header, sizes, err := encodeHeader(tensors, metadata)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeFile(path, func(w io.Writer) error {
		if _, err := w.Write(header); err != nil {
			return err
		}
		for i, t := range tensors {
			b, err := data(t)
			if err != nil {
				return fmt.Errorf("tensor %q: %w", t.Name, err)
			}
			if uint64(len(b)) != sizes[i] {
				return fmt.Errorf("tensor %q: %d bytes of data, shape %v of %s needs %d", t.Name, len(b), t.Shape, t.DType, sizes[i])
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	})
}

// WriteSharded writes a checkpoint directory's weights: dir/model.safetensors if all data fits maxBytes, else shards of at most
// maxBytes of data (a larger tensor gets a shard of its own) and then their index. data may be nil: the tensors then carry their Data.
func WriteSharded(dir string, tensors []Tensor, metadata map[string]string, maxBytes int64, data func(Tensor) ([]byte, error)) error {
	if data == nil {
		data = dataOf
	}
	_, sizes, err := encodeHeader(tensors, metadata) // also refuses a name that would end in two shards
	if err != nil {
		return fmt.Errorf("write %s: %w", dir, err)
	}
	shards, total := cutShards(tensors, sizes, maxBytes)
	single, index := filepath.Join(dir, SingleName), filepath.Join(dir, IndexName)
	// A reader prefers the single file, so an old one beside new shards would be read in their place.
	stale, target := single, index
	if len(shards) <= 1 {
		stale, target = index, single
	}
	if _, err := os.Lstat(stale); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: %s is in the way", target, stale)
	}
	if len(shards) <= 1 {
		return WriteFunc(single, tensors, metadata, data)
	}
	weightMap := make(map[string]string, len(tensors))
	for i, shard := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		for _, t := range shard {
			weightMap[t.Name] = name
		}
		if err := WriteFunc(filepath.Join(dir, name), shard, metadata, data); err != nil {
			return err
		}
	}
	return writeIndex(index, total, weightMap)
}

func dataOf(t Tensor) ([]byte, error) { return t.Data, nil }

// cutShards cuts the tensors, in order, into runs of at most maxBytes.
func cutShards(tensors []Tensor, sizes []uint64, maxBytes int64) (shards [][]Tensor, total uint64) {
	var start int
	var size uint64
	for i, n := range sizes {
		if i > start && size+n > uint64(max(maxBytes, 0)) {
			shards = append(shards, tensors[start:i])
			start, size = i, 0
		}
		size += n
		total += n
	}
	return append(shards, tensors[start:]), total
}

func writeIndex(path string, total uint64, weightMap map[string]string) error {
	index := map[string]any{"metadata": map[string]any{"total_size": total}, "weight_map": weightMap}
	return writeFile(path, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(index)
	})
}

// encodeHeader returns the file up to the data section, and the bytes each tensor takes there.
// The size of an unknown dtype is that of its Data.
func encodeHeader(tensors []Tensor, metadata map[string]string) ([]byte, []uint64, error) {
	var b bytes.Buffer
	b.WriteString("\x00\x00\x00\x00\x00\x00\x00\x00{")
	if len(metadata) > 0 {
		if err := writeMetadata(&b, metadata); err != nil {
			return nil, nil, err
		}
	}
	seen := make(map[string]bool, len(tensors))
	sizes := make([]uint64, len(tensors))
	var at uint64
	for i, t := range tensors {
		size, err := byteSize(t.DType, t.Shape)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		case !utf8.ValidString(t.Name) || !utf8.ValidString(string(t.DType)):
			return nil, nil, fmt.Errorf("tensor %q: name or dtype is not valid UTF-8", t.Name)
		case seen[t.Name] || t.Name == metadataKey:
			return nil, nil, fmt.Errorf("tensor %q: the name is taken", t.Name)
		}
		if t.DType.Bits() == 0 {
			size = uint64(len(t.Data))
		}
		seen[t.Name], sizes[i] = true, size
		if b.Len() > 9 {
			b.WriteByte(',')
		}
		b.Write(quote(t.Name))
		fmt.Fprintf(&b, `:{"dtype":%s,"shape":%s,"data_offsets":[%d,%d]}`, quote(string(t.DType)), shapeJSON(t.Shape), at, at+size)
		at += size
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ') // so that the data begins aligned
	}
	if b.Len()-8 > maxHeader {
		return nil, nil, fmt.Errorf("header of %d bytes is over the limit of %d", b.Len()-8, maxHeader)
	}
	header := b.Bytes()
	binary.LittleEndian.PutUint64(header, uint64(len(header)-8))
	return header, sizes, nil
}

func writeMetadata(b *bytes.Buffer, metadata map[string]string) error {
	b.Write(quote(metadataKey))
	sep := ":{"
	for _, k := range slices.Sorted(maps.Keys(metadata)) {
		if !utf8.ValidString(k) || !utf8.ValidString(metadata[k]) {
			return fmt.Errorf("metadata %q is not valid UTF-8", k)
		}
		b.WriteString(sep)
		sep = ","
		b.Write(quote(k))
		b.WriteByte(':')
		b.Write(quote(metadata[k]))
	}
	b.WriteByte('}')
	return nil
}

func shapeJSON(shape []int) []byte {
	if shape == nil {
		return []byte("[]") // a scalar; null would not be a shape
	}
	out, err := json.Marshal(shape)
	if err != nil {
		panic(err) // integers always encode
	}
	return out
}

// quote is JSON's quoting without the HTML escapes.
func quote(s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // strings always encode
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// writeFile lets fill write a temporary file beside path, syncs it and renames it to path; on any error nothing stays.
func writeFile(path string, fill func(io.Writer) error) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	temp := filepath.Join(dir, fmt.Sprintf(".%s.%016x.tmp", base, rand.Uint64()))
	w, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			w.Close()
			os.Remove(temp)
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	buf := bufio.NewWriterSize(w, 1<<16)
	if err := fill(buf); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	if err := w.Sync(); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(dir)
}
