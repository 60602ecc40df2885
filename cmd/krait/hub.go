package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"krait/hub"
	"krait/recipe"
)

// hubClient returns the client that the environment describes.
func hubClient() (*hub.Client, error) {
	c, err := hub.New(os.Getenv)
	if err != nil {
		return nil, err
	}
	c.UserAgent = "krait/" + recipe.Version
	return c, nil
}

// hubRepo reads a name of the hub on a command line.
func hubRepo(cmd *cobra.Command, name string, dataset bool) (hub.Repo, error) {
	kind := hub.Model
	if dataset {
		kind = hub.Dataset
	}
	r, err := hub.ParseRepo(name, kind)
	if err != nil {
		return r, usage(cmd, "%v", err)
	}
	return r, nil
}

// modelWords stand in a verb's usage for an argument that is a model.
var modelWords = []string{"MODEL", "TEACHER", "STUDENT", "TARGET"}

// withModels lets the models on a verb's command line, arguments and flags alike, be names of the hub, and the data that flags name.
func withModels(cmd *cobra.Command) *cobra.Command {
	for _, sub := range cmd.Commands() {
		withModels(sub)
	}
	run, words := cmd.RunE, strings.Fields(cmd.Use)[1:]
	if run == nil {
		return cmd
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		args = slices.Clone(args)
		for i := range min(len(args), len(words)) {
			if slices.Contains(modelWords, strings.Trim(words[i], "[]")) {
				if args[i], err = modelPath(args[i]); err != nil {
					return err
				}
			}
		}
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if word, _ := pflag.UnquoteUsage(f); err != nil || !slices.Contains(modelWords, word) || f.Value.Type() != "string" {
				return
			}
			var path string
			if path, err = modelPath(f.Value.String()); err == nil {
				err = f.Value.Set(path)
			}
		})
		if err == nil {
			err = withData(cmd)
		}
		if err != nil {
			return err
		}
		return run(cmd, args)
	}
	return cmd
}

// dataWord stands in a verb's usage for data: files, or names of the hub's datasets.
const dataWord = "DATA"

// withData lets data on a verb's command line be names of the hub. A name that means several files is only for a flag that may be given again.
func withData(cmd *cobra.Command) error {
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		word, _ := pflag.UnquoteUsage(f)
		kind, rest, _ := strings.Cut(word, "=")
		if err != nil || kind != dataWord {
			return
		}
		list, many := f.Value.(pflag.SliceValue)
		names := []string{f.Value.String()}
		if many {
			names = list.GetSlice()
		}
		var all []string
		for _, name := range names {
			tail := ""
			if at := strings.LastIndexByte(name, '='); rest != "" && at >= 0 { // DATA=WEIGHT
				name, tail = name[:at], name[at:]
			}
			var files []string
			if files, err = dataPaths(name); err != nil {
				return
			}
			for _, file := range files {
				all = append(all, file+tail)
			}
		}
		switch {
		case many:
			err = list.Replace(all)
		case len(all) > 1:
			err = usage(cmd, "--%s %s means %d files, want one", f.Name, names[0], len(all))
		default:
			err = f.Value.Set(all[0])
		}
	})
	return err
}

// dataPaths returns the files of a DATA: a file of that name, else those of the hub's dataset in the cache.
func dataPaths(name string) ([]string, error) {
	if _, err := os.Lstat(name); name == "" || !errors.Is(err, fs.ErrNotExist) {
		return []string{name}, nil
	}
	files, err := datasetFiles(name)
	switch {
	case errors.Is(err, hub.ErrNotCached) && strings.Contains(name, "/"):
		pull, _, _ := strings.Cut(strings.TrimPrefix(name, "datasets/"), ":")
		return nil, fmt.Errorf("%s: no such file or directory, and %w: \"krait pull --dataset %s\" fetches it", name, err, pull)
	case errors.Is(err, hub.ErrNotCached), err == nil && files == nil:
		return []string{name}, nil // whoever reads it says that it is not there
	}
	return files, err
}

// datasetFiles returns the files of a name of the hub, none where it cannot be one.
func datasetFiles(name string) ([]string, error) {
	r, file, err := hub.ParseData(name)
	if err != nil {
		return nil, nil
	}
	c, err := hubClient()
	if err != nil {
		return nil, err
	}
	return c.DataFiles(r, file)
}

// dataFiles is datasetFiles for a recipe, which may name what is not there yet.
func dataFiles(name string) ([]string, error) {
	files, err := datasetFiles(name)
	if errors.Is(err, hub.ErrNotCached) {
		return nil, nil
	}
	return files, err
}

// modelPath returns the path of a MODEL: a directory or file of that name, else the hub's model in the cache. A snapshot that is but one
// .gguf file is that file.
func modelPath(name string) (string, error) {
	if _, err := os.Lstat(name); isEmbedded(name) || !errors.Is(err, fs.ErrNotExist) {
		return name, nil
	}
	r, err := hub.ParseRepo(name, hub.Model)
	if err != nil || r.Kind != hub.Model {
		return name, nil // whoever reads it says that it is not there
	}
	c, err := hubClient()
	if err != nil {
		return "", err
	}
	dir, err := c.Resolve(r)
	switch {
	case errors.Is(err, hub.ErrNotCached) && strings.Contains(name, "/"):
		return "", fmt.Errorf("%s: no such file or directory, and %w: \"krait pull %s\" fetches it", name, err, name)
	case errors.Is(err, hub.ErrNotCached):
		return "", fmt.Errorf("%s: no such file or directory, and no model of that name in the cache", name)
	case err != nil:
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err == nil {
		return dir, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".gguf") {
			files = append(files, e.Name())
		}
	}
	switch len(files) {
	case 0:
		return dir, nil
	case 1:
		return filepath.Join(dir, files[0]), nil
	}
	return "", fmt.Errorf("%s has several models in the cache: choose one of %s in %s", name, strings.Join(files, ", "), dir)
}
