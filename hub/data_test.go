package hub

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestDataFiles: a dataset's files in the cache are found by name, pattern and split; what is ambiguous or not there is said.
func TestDataFiles(t *testing.T) {
	c := &Client{Cache: t.TempDir()}
	const commit = "0123456789012345678901234567890123456789"
	cached := func(name string, files ...string) {
		dir := filepath.Join(c.Cache, "datasets--"+strings.ReplaceAll(name, "/", "--"))
		for _, f := range append(files, "../../refs/main") {
			path := filepath.Join(dir, "snapshots", commit, f)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(commit), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	cached("org/split", "README.md", "dataset_infos.json", "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet")
	cached("org/one", "README.md", ".gitattributes", "rows.jsonl.gz")
	cached("HuggingFaceH4/ultrafeedback_binarized", "data/train_prefs-00000-of-00001.parquet", "data/test_prefs-00000-of-00001.parquet", "data/train_sft-00000-of-00001.parquet")
	cached("org/configs", "a/train/0000.parquet", "b/train/0000.parquet", "b/test/0000.parquet")
	cached("org/none", "README.md")
	for name, want := range map[string][]string{
		"org/split":              {"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"},
		"org/split@0123456":      {"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"},
		"org/split:test":         {"data/test-00000-of-00001.parquet"},
		"datasets/org/one":       {"rows.jsonl.gz"},
		"org/one:rows.jsonl.gz":  {"rows.jsonl.gz"},
		"org/one:README.md":      {"README.md"},
		"org/configs:b/*":        {"b/test/0000.parquet", "b/train/0000.parquet"},
		"org/configs:a/train/*":  {"a/train/0000.parquet"},
		"org/split:data/train-*": {"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"},
		"HuggingFaceH4/ultrafeedback_binarized:train_prefs": {"data/train_prefs-00000-of-00001.parquet"},
	} {
		r, file, err := ParseData(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.DataFiles(r, file)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i, path := range got {
			rel, err := filepath.Rel(c.Cache, path)
			if err != nil {
				t.Fatal(err)
			}
			_, got[i], _ = strings.Cut(filepath.ToSlash(rel), commit+"/")
			if _, err := os.Stat(path); err != nil {
				t.Error(err)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"org/split:dev":                         "has no file, pattern or split dev: it has data/test-00000-of-00001.parquet",
		"HuggingFaceH4/ultrafeedback_binarized": "has several sets of rows: choose one as datasets/HuggingFaceH4/ultrafeedback_binarized:test_prefs",
		"org/configs":                           "has several sets of rows",
		"org/none":                              "has no file of rows or text",
		"org/absent":                            "datasets/org/absent is not in the cache",
		"org/split@v2":                          "not its revision v2",
		"org/split:":                            "no file after the colon",
		"org/split@:a.json":                     "no revision after the @",
		"../x/y":                                "is no name of the hub",
	} {
		r, file, err := ParseData(name)
		if err == nil {
			_, err = c.DataFiles(r, file)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if absent := strings.Contains(want, "absent") || strings.Contains(want, "revision v2"); errors.Is(err, ErrNotCached) != absent {
			t.Errorf("%s: %v", name, err)
		}
	}
}
