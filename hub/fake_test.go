package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const testCommit = "1111111111111111111111111111111111111111"

// fakeHub is a hub with one repository, and a store on another host for its large files. Its faults are what real ones have.
type fakeHub struct {
	*httptest.Server
	store  *httptest.Server
	name   string            // of the repository, as in its page's address
	commit string            // of main
	files  map[string][]byte // those that end in .safetensors, .bin and .gguf are large
	bare   bool              // info tells names only, as some mirrors do

	mu       sync.Mutex
	fault    func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool // true: it answered
	requests []*http.Request
}

func newFakeHub(t *testing.T) *fakeHub {
	f := &fakeHub{name: "org/name", commit: testCommit, files: map[string][]byte{
		"config.json":         []byte(`{"model_type":"llama"}`),
		"tokenizer.json":      []byte(`{}`),
		"model.safetensors":   noise(3 << 20),
		"README.md":           []byte("# name"),
		"original/a.json":     []byte("{}"),
		"pytorch_model.bin":   noise(1000),
		"name.Q8_0.gguf":      noise(1001),
		"training_args.bin":   noise(10),
		"empty.txt":           {},
		"chat_template.jinja": []byte("{{ messages }}"),
	}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	f.store = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	t.Cleanup(f.store.Close)
	return f
}

func noise(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = rng.Read(b)
	return b
}

func isLarge(name string) bool {
	return slices.Contains([]string{".safetensors", ".bin", ".gguf"}, filepath.Ext(name))
}

func sha(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }
func gitSHA(b []byte) string {
	return fmt.Sprintf("%x", sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(b)), b...)))
}

func etagOf(name string, b []byte) string {
	if isLarge(name) {
		return sha(b)
	}
	return gitSHA(b)
}

func (f *fakeHub) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r)
	fault := f.fault
	f.mu.Unlock()
	if fault != nil && fault(f, w, r) {
		return
	}
	f.answer(w, r)
}

// answer answers as a hub does.
func (f *fakeHub) answer(w http.ResponseWriter, r *http.Request) {
	kinds := "models"
	if strings.HasPrefix(f.name, datasetPrefix) {
		kinds = "datasets"
	}
	if rev, ok := strings.CutPrefix(r.URL.EscapedPath(), "/api/"+kinds+"/"+strings.TrimPrefix(f.name, datasetPrefix)+"/revision/"); ok {
		if rev != "main" && rev != "refs%2Fpr%2F1" && rev != f.commit {
			w.Header().Set("X-Error-Code", "RevisionNotFound")
			w.WriteHeader(http.StatusNotFound)
			return
		}
		f.info(w)
		return
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/store/"); ok {
		data := f.files[name]
		w.Header().Set("ETag", `"stored-`+gitSHA(data)[:8]+`"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(data)))
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/"+f.name+"/resolve/"+f.commit+"/")
	data, known := f.files[name]
	switch {
	case !ok:
		w.Header().Set("X-Error-Code", "RepoNotFound")
		w.WriteHeader(http.StatusUnauthorized)
		return
	case !known:
		w.Header().Set("X-Error-Code", "EntryNotFound")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("X-Repo-Commit", f.commit)
	if isLarge(name) {
		w.Header().Set("X-Linked-Etag", `"`+sha(data)+`"`)
		w.Header().Set("X-Linked-Size", strconv.Itoa(len(data)))
		http.Redirect(w, r, f.store.URL+"/store/"+name+"?signature=secret", http.StatusFound)
		return
	}
	w.Header().Set("ETag", `"`+gitSHA(data)+`"`)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(data)))
}

func (f *fakeHub) info(w http.ResponseWriter) {
	siblings := []map[string]any{}
	for name, data := range f.files {
		s := map[string]any{"rfilename": name}
		if !f.bare {
			s["size"], s["blobId"] = len(data), gitSHA(data)
			if isLarge(name) {
				s["blobId"], s["lfs"] = strings.Repeat("f", 40), map[string]any{"sha256": sha(data), "size": len(data), "pointerSize": 130}
			}
		}
		siblings = append(siblings, s)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"id": f.name, "sha": f.commit, "siblings": siblings})
}

// count returns how many requests a method and a part of the path had.
func (f *fakeHub) count(method, part string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, r := range f.requests {
		if r.Method == method && strings.Contains(r.URL.Path, part) {
			n++
		}
	}
	return n
}

// forget forgets requests and takes a new fault.
func (f *fakeHub) forget(fault func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests, f.fault = nil, fault
}

// client returns a client of the hub with a cache of its own, which does not really sleep.
func (f *fakeHub) client(t *testing.T, env ...string) *Client {
	t.Helper()
	vars := map[string]string{"HF_HOME": t.TempDir(), "HF_ENDPOINT": f.URL}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		vars[k] = v
	}
	c, err := New(func(name string) string { return vars[name] })
	if err != nil {
		t.Fatal(err)
	}
	c.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return c
}

var testRepo = Repo{Kind: Model, Name: "org/name"}

// pullTest pulls with a bound on the time it may take.
func pullTest(t *testing.T, c *Client, r Repo, f Filter) (*Snapshot, []string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var said []string
	var last Progress
	s, err := c.Snapshot(ctx, r, f, func(p Progress) {
		if p.Say != "" {
			said = append(said, p.Say)
		}
		last = p
	})
	if ctx.Err() != nil {
		t.Fatalf("the pull did not end: %v", err)
	}
	if err == nil && (last.Done != last.Total || last.FilesDone != last.FilesTotal) && last.FilesTotal > 0 {
		t.Errorf("the last progress is %+v", last)
	}
	return s, said, err
}

func mustPull(t *testing.T, c *Client, f *fakeHub, r Repo, filter Filter) (*Snapshot, []string) {
	t.Helper()
	s, said, err := pullTest(t, c, r, filter)
	if err != nil {
		t.Fatal(err)
	}
	checkSnapshot(t, f, s)
	return s, said
}

// checkSnapshot compares the files of a snapshot with the hub's, and makes sure that nothing unfinished is left.
func checkSnapshot(t *testing.T, f *fakeHub, s *Snapshot) {
	t.Helper()
	for _, name := range s.Files {
		data, err := os.ReadFile(filepath.Join(s.Dir, filepath.FromSlash(name)))
		if err != nil || string(data) != string(f.files[name]) {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	if left := unfinishedIn(t, s.Dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// unfinishedIn lists what is unfinished in the repository of a snapshot, or below any directory.
func unfinishedIn(t *testing.T, dir string) []string {
	t.Helper()
	for filepath.Base(filepath.Dir(dir)) == "snapshots" {
		dir = filepath.Dir(filepath.Dir(dir))
	}
	var left []string
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		for _, end := range []string{unfinished, ".tmp", ".link"} {
			if err == nil && strings.HasSuffix(path, end) {
				left = append(left, filepath.Base(path))
			}
		}
		return nil
	})
	return left
}

// onlyWeights chooses the one large file.
var onlyWeights = Filter{Include: []string{"model.safetensors"}}

// body reports whether a request is for the bytes of a large file.
func body(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/store/") }

// times lets a fault happen n times.
func times(n int, fault func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool) func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool {
	var mu sync.Mutex
	left := func(take int) int {
		mu.Lock()
		defer mu.Unlock()
		n -= take
		return n
	}
	return func(f *fakeHub, w http.ResponseWriter, r *http.Request) (answered bool) {
		if left(0) <= 0 {
			return false
		}
		aborted := true
		defer func() {
			if answered || aborted {
				left(1)
			}
		}()
		answered = fault(f, w, r)
		aborted = false
		return answered
	}
}

// drop sends the first n bytes of what was asked for and cuts the connection.
func drop(n int) func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool {
	return func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool {
		if !body(r) {
			return false
		}
		f.answer(&cutting{ResponseWriter: w, left: n}, r)
		panic(http.ErrAbortHandler)
	}
}

// cutting is a response that ends early.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	c.left -= n
	if err == nil && n < len(p) {
		c.ResponseWriter.(http.Flusher).Flush()
		err = io.ErrShortWrite
	}
	return n, err
}

func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}
