package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// finder finds what a recipe names and is not there under that name.
type finder struct {
	model func(string) (string, error)
	data  func(string) ([]string, error)
}

// found returns the directory of a model.
func (f *finder) found(name string) (string, error) {
	if _, err := os.Lstat(name); err == nil || f.model == nil || !errors.Is(err, fs.ErrNotExist) {
		return name, err
	}
	return f.model(name)
}

// files returns the files that a name of data means: itself, where nothing else is known of it.
func (f *finder) files(name string) ([]string, error) {
	if _, err := os.Lstat(name); name == "" || err == nil || f.data == nil || !errors.Is(err, fs.ErrNotExist) {
		return []string{name}, nil
	}
	list, err := f.data(name)
	if len(list) == 0 {
		list = []string{name} // it may come to be before the run
	}
	return list, err
}

// findData puts files in the place of the datasets that a stage names.
func (f *finder) findData(s *Stage) error {
	if err := f.datasets(s.kind.slots(s.Config)); err != nil {
		return err
	}
	for _, name := range s.kind.slots(s.Config).files {
		if err := f.oneFile(name); err != nil {
			return err
		}
	}
	return nil
}

// datasets puts the files of datasets in the place of their names.
func (f *finder) datasets(s slots) error {
	for _, list := range s.lists {
		var all []string
		for _, name := range *list {
			files, err := f.files(name)
			if err != nil {
				return err
			}
			all = append(all, files...)
		}
		if len(all) > 0 {
			*list = all
		}
	}
	if s.mixture != nil && len(*s.mixture) > 0 {
		all := map[string]float64{}
		for _, name := range slices.Sorted(maps.Keys(*s.mixture)) {
			files, err := f.files(name)
			if err != nil {
				return err
			}
			for _, file := range files {
				all[file] = (*s.mixture)[name]
			}
		}
		*s.mixture = all
	}
	return nil
}

// oneFile puts the one file that a name of data means in its place.
func (f *finder) oneFile(name *string) error {
	files, err := f.files(*name)
	if err != nil {
		return err
	}
	if len(files) > 1 {
		return fmt.Errorf("%s means %d files: one is wanted here", *name, len(files))
	}
	*name = files[0]
	return nil
}
