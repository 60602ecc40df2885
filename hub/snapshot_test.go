package hub

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestLayout(t *testing.T) {
	f := newFakeHub(t)
	c := f.client(t)
	s, said := mustPull(t, c, f, testRepo, Filter{})
	want := []string{"chat_template.jinja", "config.json", "empty.txt", "model.safetensors", "tokenizer.json"}
	slices.Sort(s.Files)
	if !slices.Equal(s.Files, want) || s.Commit != f.commit || len(said) > 0 || s.Bytes != s.Downloaded {
		t.Errorf("%+v, said %q", s, said)
	}
	repo := filepath.Join(c.Cache, "models--org--name")
	if s.Dir != filepath.Join(repo, "snapshots", f.commit) {
		t.Errorf("snapshot in %s", s.Dir)
	}
	if ref, err := os.ReadFile(filepath.Join(repo, "refs", "main")); err != nil || string(ref) != f.commit {
		t.Errorf("refs/main: %q, %v", ref, err)
	}
	if tag, err := os.ReadFile(filepath.Join(c.Cache, "CACHEDIR.TAG")); err != nil || !strings.HasPrefix(string(tag), "Signature: 8a477f597d28d172789f06886806bc55") {
		t.Errorf("CACHEDIR.TAG: %q, %v", tag, err)
	}
	for _, name := range want {
		etag := etagOf(name, f.files[name])
		if !whole(filepath.Join(repo, "blobs", etag), int64(len(f.files[name]))) {
			t.Errorf("%s has no blob", name)
		}
		if link, err := os.Readlink(filepath.Join(s.Dir, name)); runtime.GOOS != "windows" && (err != nil || link != filepath.Join("..", "..", "blobs", etag)) {
			t.Errorf("%s links to %q, %v", name, link, err)
		}
	}
	var kept tree
	data, err := os.ReadFile(filepath.Join(repo, "trees", f.commit+".json"))
	if err != nil || json.Unmarshal(data, &kept) != nil || kept.Version != 1 || len(kept.Files) != len(f.files) {
		t.Fatalf("tree: %v\n%s", err, data)
	}
	if x := kept.Files["model.safetensors"]; x.SHA256 != sha(f.files["model.safetensors"]) || x.LFSSize != x.Size || x.BlobID == "" {
		t.Errorf("tree: %+v", x)
	}
	// Once more: one question, no file.
	f.forget(nil)
	s, _ = mustPull(t, c, f, testRepo, Filter{})
	if len(f.requests) != 1 || s.Downloaded != 0 || s.Bytes == 0 {
		t.Errorf("%d requests the second time, %+v", len(f.requests), s)
	}
	// Another commit with the same weights: they are not fetched again, and the old snapshot stays.
	f.commit = strings.Repeat("2", 40)
	f.files["config.json"] = []byte(`{"model_type":"other"}`)
	s2, _ := mustPull(t, c, f, testRepo, Filter{})
	if s2.Downloaded != int64(len(f.files["config.json"])) || s2.Dir == s.Dir {
		t.Errorf("the second commit: %+v", s2)
	}
	if dir, err := c.Resolve(testRepo); err != nil || dir != s2.Dir {
		t.Errorf("main is %s, %v", dir, err)
	}
	for _, rev := range []string{testCommit, testCommit[:7]} {
		if dir, err := c.Resolve(Repo{Model, "org/name", rev}); err != nil || dir != s.Dir {
			t.Errorf("%s is %s, %v", rev, dir, err)
		}
	}
}

func TestRevisionsAndDatasets(t *testing.T) {
	f := newFakeHub(t)
	c := f.client(t)
	pr := Repo{Model, "org/name", "refs/pr/1"}
	s, _ := mustPull(t, c, f, pr, Filter{})
	if dir, err := c.Resolve(pr); err != nil || dir != s.Dir {
		t.Errorf("%s: %s, %v", pr, dir, err)
	}
	if _, err := c.Resolve(testRepo); err == nil || !strings.Contains(err.Error(), "not its revision main") {
		t.Errorf("main: %v", err)
	}
	f.name = "datasets/org/text"
	f.files = map[string][]byte{"data/train-00000.parquet": noise(100), "README.md": []byte("a"), "übel #1?.txt": []byte("b")}
	d, err := ParseRepo("org/text@"+f.commit, Dataset)
	if err != nil {
		t.Fatal(err)
	}
	s, _ = mustPull(t, c, f, d, Filter{})
	if len(s.Files) != 3 || s.Dir != filepath.Join(c.Cache, "datasets--org--text", "snapshots", f.commit) {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(filepath.Join(c.Cache, "datasets--org--text", "refs")); err == nil {
		t.Error("a commit has a ref")
	}
	list, err := c.List()
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, x := range list {
		if x.Commit() != f.commit || x.Bytes == 0 || x.Partial || x.Modified.IsZero() {
			t.Errorf("%+v", x)
		}
	}
}

func TestWithoutLinks(t *testing.T) {
	for name, change := range map[string]func(*Client){
		"hard links": func(*Client) {},
		"copies":     func(c *Client) { c.hardlink = func(string, string) error { return os.ErrPermission } },
	} {
		f := newFakeHub(t)
		c := f.client(t, "HF_HUB_DISABLE_SYMLINKS=1")
		change(c)
		s, _ := mustPull(t, c, f, testRepo, Filter{})
		info, err := os.Lstat(filepath.Join(s.Dir, "model.safetensors"))
		if err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		f.forget(nil)
		mustPull(t, c, f, testRepo, Filter{})
		if len(f.requests) != 1 {
			t.Errorf("%s: %d requests the second time", name, len(f.requests))
		}
	}
}

func TestFilters(t *testing.T) {
	files := func(names ...string) (list []File) {
		for _, n := range names {
			list = append(list, File{Path: n})
		}
		return list
	}
	side := []string{"config.json", "tokenizer.model", "vocab.txt"}
	for _, c := range []struct {
		kind Kind
		f    Filter
		all  []string
		want string
	}{
		{Model, Filter{}, append(side, "model.safetensors", "pytorch_model.bin", "x.gguf", "onnx/config.json"), "config.json tokenizer.model vocab.txt model.safetensors"},
		{Model, Filter{}, append(side, "consolidated.safetensors", "model-00001-of-00002.safetensors"), "config.json tokenizer.model vocab.txt model-00001-of-00002.safetensors"},
		{Model, Filter{}, append(side, "weights.safetensors"), "config.json tokenizer.model vocab.txt weights.safetensors"},
		{Model, Filter{}, append(side, "pytorch_model-00001-of-00002.bin", "optimizer.bin"), "config.json tokenizer.model vocab.txt pytorch_model-00001-of-00002.bin"},
		{Model, Filter{}, side, "config.json tokenizer.model vocab.txt"},
		{Model, Filter{}, append(side, "a.gguf", "b.gguf"), "2 .gguf files"},
		{Model, Filter{Include: []string{"*b.gguf"}}, append(side, "a.gguf", "b.gguf"), "b.gguf"},
		{Model, Filter{Exclude: []string{"*.txt"}}, append(side, "model.safetensors"), "config.json tokenizer.model model.safetensors"},
		{Model, Filter{Include: []string{"onnx/"}}, append(side, "onnx/a/b.onnx"), "onnx/a/b.onnx"},
		{Dataset, Filter{}, []string{"a.parquet", "b/c.gguf"}, "a.parquet b/c.gguf"},
		{Dataset, Filter{Include: []string{"nothing"}}, []string{"a.parquet"}, "no file that these patterns choose"},
	} {
		got, err := c.f.choose(Repo{c.kind, "a/b", ""}, files(c.all...))
		var names []string
		for _, x := range got {
			names = append(names, x.Path)
		}
		if s := strings.Join(names, " "); err == nil && s != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v of %v: %s, %v, want %s", c.f, c.all, s, err, c.want)
		}
	}
}

// The cases and their results are those of Python's fnmatch.fnmatchcase.
func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*.json", "a/b.json", true}, {"*.json", "a.jsonl", false}, {"a?c", "abc", true}, {"a?c", "ac", false}, {"a?c", "aüc", true},
		{"[ab]x", "bx", true}, {"[!ab]x", "bx", false}, {"[!ab]x", "cx", true}, {"[a-c]x", "bx", true}, {"[a-c]x", "dx", false},
		{"[]]x", "]x", true}, {"[ab", "[ab", true}, {"[ab", "a", false}, {"*a*b*c", "xxaxxbxxc", true}, {"*a*b*c", "xxaxxbxx", false},
		{"", "", true}, {"*", "", true}, {"**", "abc", true}, {"a", "", false}, {"[a-]x", "-x", true}, {"[!]a]x", "bx", true}, {"[!]a]x", "]x", false},
		{"ü*", "über", true}, {"dir/", "dir/a/b", true}, {"dir/", "dir", false}, {"*aaaaaaaaaaaaaaaaaaab", strings.Repeat("a", 2000), false},
	} {
		if got := match(c.pattern, c.name); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func TestNames(t *testing.T) {
	for s, want := range map[string]Repo{
		"org/name": {Model, "org/name", ""}, "gpt2": {Model, "gpt2", ""}, "a/b.c-d_e@v1.0": {Model, "a/b.c-d_e", "v1.0"},
		"datasets/a/b@refs/pr/1": {Dataset, "a/b", "refs/pr/1"}, "datasets/b": {Model, "datasets/b", ""},
	} {
		r, err := ParseRepo(s, Model)
		if err != nil || r != want || r.String() != s {
			t.Errorf("%s: %+v %s, %v", s, r, r, err)
		}
		if back, ok := parseFolder(r.folder()); !ok || back.Name != r.Name || back.Kind != r.Kind {
			t.Errorf("%s: folder %s is %+v", s, r.folder(), back)
		}
	}
	for _, s := range []string{
		"", "/", "a/", "/a", "a/b/c", "../a", "a/..", "./a", "a/.b", "a--b/c", "a/b.git", "a/b@", "a/b@../c", "a/b@/c", "a/b@a\nb", "a/b@a\\b",
		"a/b c", "a\x00/b", "a/b-", "a/b.", "models/a/b", strings.Repeat("a", 97), "~/a", "a/b@c:d",
	} {
		if r, err := ParseRepo(s, Model); err == nil {
			t.Errorf("%q is %+v", s, r)
		}
	}
}

func TestEnvironment(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "token"), []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ env, cache, endpoint, token, fails string }{
		{env: "HOME=" + home, cache: home + "/.cache/huggingface/hub", endpoint: DefaultEndpoint},
		{env: "HOME=" + home + " XDG_CACHE_HOME=" + home + "/x", cache: home + "/x/huggingface/hub", endpoint: DefaultEndpoint},
		{env: "HOME=" + home + " HF_HOME=~/h", cache: home + "/h/hub", endpoint: DefaultEndpoint},
		{env: "HF_HOME=" + home + " HF_HUB_CACHE=$HF_HOME/c", cache: home + "/c", endpoint: DefaultEndpoint, token: "from-file"},
		{env: "HF_HOME=" + home + " HF_TOKEN=mine HF_ENDPOINT=http://mirror/hf/", cache: home + "/hub", endpoint: "http://mirror/hf", token: "mine"},
		{env: "HF_HOME=/nowhere HF_TOKEN_PATH=" + home + "/token", cache: "/nowhere/hub", endpoint: DefaultEndpoint, token: "from-file"},
		{env: "HF_HOME=/a HF_ENDPOINT=mirror", fails: "HF_ENDPOINT"},
		{env: "HF_HOME=/a HF_ENDPOINT=ftp://mirror", fails: "HF_ENDPOINT"},
		{env: "HF_HOME=/a HF_HUB_DOWNLOAD_TIMEOUT=soon", fails: "HF_HUB_DOWNLOAD_TIMEOUT"},
		{env: "HF_HOME=/a HF_HUB_DOWNLOAD_TIMEOUT=0", fails: "HF_HUB_DOWNLOAD_TIMEOUT"},
		{env: "HF_HOME=/a HF_TOKEN=a\x01b", fails: "HF_TOKEN"},
	} {
		vars := map[string]string{}
		for _, e := range strings.Fields(c.env) {
			k, v, _ := strings.Cut(e, "=")
			vars[k] = v
		}
		x, err := New(func(name string) string { return vars[name] })
		switch {
		case c.fails != "":
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v", c.env, err)
			}
		case err != nil:
			t.Errorf("%s: %v", c.env, err)
		case filepath.ToSlash(x.Cache) != filepath.ToSlash(c.cache) && runtime.GOOS != "windows" || x.Endpoint != c.endpoint || x.token != c.token:
			t.Errorf("%s: cache %s, endpoint %s, token %q", c.env, x.Cache, x.Endpoint, x.token)
		}
	}
}
