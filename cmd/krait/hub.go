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

// withModels lets the models on a verb's command line, arguments and flags alike, be names of the hub.
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
		if err != nil {
			return err
		}
		return run(cmd, args)
	}
	return cmd
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
