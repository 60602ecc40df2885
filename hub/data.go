package hub

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// ParseData reads NAME[@REVISION][:FILE], which names files of a dataset. FILE is a file, a pattern or a split.
func ParseData(s string) (r Repo, file string, err error) {
	name, file, chosen := strings.Cut(s, ":")
	if r, err = ParseRepo(name, Dataset); err != nil {
		return r, "", err
	}
	if chosen && file == "" {
		return r, "", fmt.Errorf("%q: no file after the colon", s)
	}
	return r, file, nil
}

// DataFiles returns the paths of a dataset's files in the cache, in order: those that file names, as ParseData reads it, or those of the only split
// or of the split train where it is empty. Where the cache lacks them the error is an ErrNotCached.
func (c *Client) DataFiles(r Repo, file string) ([]string, error) {
	p, err := c.resolve(r)
	if err != nil {
		return nil, err
	}
	l, known := readTree(p.dir, p.commit)
	if !known {
		l = &listing{commit: p.commit, files: filesBelow(p.snapshotDir())}
	}
	slices.SortFunc(l.files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	files, err := chooseData(r, file, l.files)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, x := range files {
		if !whole(p.pointer(x), x.Size) {
			return nil, &notCached{fmt.Sprintf("%s of %s is not in the cache", x.Path, r)}
		}
		paths = append(paths, filepath.Join(p.snapshotDir(), filepath.FromSlash(x.Path)))
	}
	return paths, nil
}

// chooseData returns the files that DataFiles names.
func chooseData(r Repo, file string, all []File) ([]File, error) {
	rows := slices.DeleteFunc(slices.Clone(all), func(x File) bool { return !isData(x.Path) })
	if file == "" {
		return defaultSplit(r, rows)
	}
	for _, these := range []func(File) bool{ // the first that means something
		func(x File) bool { return x.Path == file },
		func(x File) bool { return strings.ContainsAny(file, "*?[") && match(file, x.Path) },
		func(x File) bool { return isData(x.Path) && splitOf(x.Path) == file },
		func(x File) bool { return path.Base(x.Path) == file },
	} {
		if list := slices.DeleteFunc(slices.Clone(all), func(x File) bool { return !these(x) }); len(list) > 0 {
			return list, nil
		}
	}
	return nil, fmt.Errorf("%s has no file, pattern or split %s: it has %s", r, file, some(rows))
}

// defaultSplit chooses where nothing is said: the only split, or train, of a dataset with one configuration.
func defaultSplit(r Repo, rows []File) ([]File, error) {
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s has no file of rows or text", r)
	}
	all := map[string][]File{}
	for _, x := range rows {
		all[splitOf(x.Path)] = append(all[splitOf(x.Path)], x)
	}
	list := all["train"]
	if len(all) == 1 {
		list = rows
	}
	for _, x := range list {
		if path.Dir(x.Path) != path.Dir(list[0].Path) {
			list = nil // several configurations
			break
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s has several sets of rows: choose one as %s:%s, by file, pattern or split, of %s", r, r, splitOf(rows[0].Path), some(rows))
	}
	return list, nil
}

// some lists files for a sentence.
func some(files []File) string {
	var names []string
	for _, x := range files[:min(8, len(files))] {
		names = append(names, x.Path)
	}
	if more := len(files) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// shardForm is how the name of a part of a split ends, as the library datasets writes it.
var shardForm = regexp.MustCompile(`-\d+-of-\d+.*$`)

// splitOf returns the split that a file is of: its name without part and form, or that of its directory where the name is a number alone.
func splitOf(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	if name = shardForm.ReplaceAllString(name, ""); strings.Trim(name, "0123456789") == "" {
		return path.Base(path.Dir(file))
	}
	return name
}

// isData reports whether a file holds rows or text to learn from.
func isData(file string) bool {
	name := path.Base(file)
	for _, suffix := range []string{".gz", ".zst"} {
		name = strings.TrimSuffix(name, suffix)
	}
	switch {
	case strings.HasPrefix(name, "."), matchAny([]string{"dataset_info*.json", "dataset_dict.json", "state.json", "LICENSE*", "README*", "requirements.txt"}, name):
		return false
	}
	return matchAny([]string{"*.parquet", "*.jsonl", "*.json", "*.txt"}, name)
}
