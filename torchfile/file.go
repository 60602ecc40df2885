package torchfile

import (
	"archive/zip"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strings"

	"krait/safetensors"
)

// File is an open file of torch.save.
type File struct {
	names    []string // in the order of the dictionary
	tensors  map[string]*tensorValue
	storages map[string][]byte // by key
	release  func() error
}

// Open maps the file at path and checks it whole: every tensor lies in its storage and every storage in the file.
func Open(path string) (*File, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if info.Size() > math.MaxInt {
		return nil, fmt.Errorf("%s: %d bytes do not fit this machine's address space", path, info.Size())
	}
	if info.Size() == 0 {
		return nil, fmt.Errorf("%s: the file is empty", path)
	}
	data, release, err := mapFile(r, int(info.Size()))
	if err != nil {
		return nil, fmt.Errorf("%s: map %d bytes: %w", path, info.Size(), err)
	}
	f, err := Parse(data)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), release())
	}
	f.release = release
	return f, nil
}

// Close unmaps the file. No Data of its tensors may be touched afterwards.
func (f *File) Close() error {
	release := f.release
	f.release, f.tensors, f.storages = nil, nil, nil
	if release == nil {
		return nil
	}
	return release()
}

// Parse reads a whole file held in data; the tensors alias it.
func Parse(data []byte) (*File, error) {
	if !bytes.HasPrefix(data, []byte("PK")) {
		if bytes.HasPrefix(data, []byte{0x80}) {
			return nil, errors.New("torch.save's format of before version 1.6, which is not read: load it with torch and save it again")
		}
		return nil, errors.New("not a ZIP archive, as torch.save writes: not a file of torch.save")
	}
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("the ZIP archive is damaged or truncated: %w", err)
	}
	f := &File{tensors: map[string]*tensorValue{}, storages: map[string][]byte{}}
	pickle, err := f.entries(archive, data)
	if err != nil {
		return nil, err
	}
	top, err := unpickle(pickle)
	if err != nil {
		return nil, fmt.Errorf("data.pkl: %w", err)
	}
	return f, f.take(top)
}

// entries finds the pickle and the storages among the archive's entries: ROOT/data.pkl and ROOT/data/KEY.
func (f *File) entries(archive *zip.Reader, data []byte) (pickle []byte, err error) {
	root, found := "", false
	for _, e := range archive.File {
		if dir, base := path.Split(e.Name); base == "data.pkl" {
			if found {
				return nil, fmt.Errorf("the archive has two pickles, %sdata.pkl and %s", root, e.Name)
			}
			root, found = dir, true
		}
	}
	if !found {
		return nil, errors.New("the archive has no data.pkl: not a file of torch.save")
	}
	type span struct {
		name   string
		lo, hi int64
	}
	var spans []span
	for _, e := range archive.File {
		name, ours := strings.CutPrefix(e.Name, root)
		key, isStorage := strings.CutPrefix(name, "data/")
		if !ours || name != "data.pkl" && name != "byteorder" && !isStorage {
			continue // version, serialization_id and the like
		}
		if e.Method != zip.Store || e.CompressedSize64 != e.UncompressedSize64 {
			return nil, fmt.Errorf("%s is compressed, which torch.save never does", e.Name)
		}
		lo, err := e.DataOffset()
		if err != nil {
			return nil, fmt.Errorf("%s: the ZIP archive is damaged: %w", e.Name, err)
		}
		if lo < 0 || lo > int64(len(data)) || e.UncompressedSize64 > uint64(int64(len(data))-lo) {
			return nil, fmt.Errorf("%s: %d bytes from byte %d on, the file has %d: truncated file", e.Name, e.UncompressedSize64, lo, len(data))
		}
		hi := lo + int64(e.UncompressedSize64)
		spans = append(spans, span{e.Name, lo, hi})
		switch content := data[lo:hi:hi]; {
		case name == "data.pkl":
			pickle = content
		case name == "byteorder":
			if string(content) != "little" {
				return nil, fmt.Errorf("byteorder is %.20q, want little", content)
			}
		case f.storages[key] != nil:
			return nil, fmt.Errorf("storage %s stands twice in the archive", e.Name)
		default:
			f.storages[key] = content
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(a.hi, b.hi)) })
	for i := 1; i < len(spans); i++ {
		if spans[i].lo < spans[i-1].hi {
			return nil, fmt.Errorf("%s overlaps %s in the archive", spans[i].name, spans[i-1].name)
		}
	}
	return pickle, nil
}

// take fills f with the tensors of the dictionary that the pickle made.
func (f *File) take(top any) error {
	dict, ok := top.(*dictValue)
	if !ok {
		return fmt.Errorf("data.pkl holds a %s, want a dictionary of tensors", typeName(top))
	}
	for i, k := range dict.keys {
		name, ok := k.(string)
		if !ok {
			return fmt.Errorf("data.pkl: a name in the dictionary is a %s", typeName(k))
		}
		t, ok := dict.values[i].(*tensorValue)
		switch {
		case !ok:
			return fmt.Errorf("data.pkl: %q is a %s, want a tensor", name, typeName(dict.values[i]))
		case f.tensors[name] != nil:
			return fmt.Errorf("tensor %q stands twice in the dictionary", name)
		}
		s := t.storage
		data, ok := f.storages[s.key]
		if !ok {
			return fmt.Errorf("tensor %q: the archive has no storage data/%s", name, s.key)
		}
		if s.count > math.MaxInt64/s.kind.size || int64(len(data)) != s.count*s.kind.size {
			return fmt.Errorf("tensor %q: storage data/%s has %d bytes, want %d elements of %s", name, s.key, len(data), s.count, s.kind.dtype)
		}
		if _, _, err := t.extent(); err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		f.tensors[name] = t
		f.names = append(f.names, name)
	}
	return nil
}

// Names returns the tensors' names in the order of the dictionary.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Tensor returns the tensor of that name, if the file has it. Its Data is a view of the file, or a copy where the file holds it in another
// order (transposed, say).
func (f *File) Tensor(name string) (safetensors.Tensor, bool) {
	t, ok := f.tensors[name]
	if !ok {
		return safetensors.Tensor{}, false
	}
	out := safetensors.Tensor{Name: name, DType: t.storage.kind.dtype, Shape: make([]int, len(t.shape))}
	for i, n := range t.shape {
		out.Shape[i] = int(n)
	}
	elements, contiguous, err := t.extent()
	if err != nil {
		panic(err) // take has checked it
	}
	storage, size := f.storages[t.storage.key], t.storage.kind.size
	switch {
	case elements == 0:
	case contiguous:
		out.Data, out.Mapped = storage[t.offset*size:][:elements*size], f.release != nil
	default:
		out.Data = t.gather(storage, elements)
	}
	return out, true
}
