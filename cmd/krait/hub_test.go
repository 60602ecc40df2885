package main

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const hubCommit = "00112233445566778899aabbccddeeff00112233"

// hubServer serves directories as repositories of a hub, and counts the bytes of weights that it sends. Hold, where it is set, lets
// weights wait after half of them.
type hubServer struct {
	*httptest.Server
	repos map[string]string // page to directory
	sent  atomic.Int64
	heads atomic.Int64 // questions about weights
	hold  func(r *http.Request)
}

func newHub(t *testing.T, repos map[string]string) *hubServer {
	h := &hubServer{repos: repos}
	h.Server = httptest.NewServer(http.HandlerFunc(h.serve))
	t.Cleanup(h.Close)
	return h
}

func (h *hubServer) serve(w http.ResponseWriter, r *http.Request) {
	for page, dir := range h.repos {
		if rest, ok := strings.CutPrefix(r.URL.Path, "/"+page+"/resolve/"+hubCommit+"/"); ok {
			h.file(w, r, filepath.Join(dir, filepath.FromSlash(rest)))
			return
		}
		kind, name := "models/", page
		if strings.HasPrefix(page, "datasets/") {
			kind = ""
		}
		if strings.HasPrefix(r.URL.Path, "/api/"+kind+name+"/revision/") {
			h.info(w, dir)
			return
		}
	}
	w.Header().Set("X-Error-Code", "RepoNotFound")
	w.WriteHeader(http.StatusUnauthorized)
}

func (h *hubServer) info(w http.ResponseWriter, dir string) {
	siblings := []map[string]any{}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		info, err2 := d.Info()
		if err != nil || err2 != nil {
			return fmt.Errorf("%v, %v", err, err2)
		}
		siblings = append(siblings, map[string]any{"rfilename": filepath.ToSlash(name), "size": info.Size(), "blobId": strings.Repeat("0", 40)})
		return nil
	})
	_ = json.NewEncoder(w).Encode(map[string]any{"sha": hubCommit, "siblings": siblings})
}

func (h *hubServer) file(w http.ResponseWriter, r *http.Request, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		w.Header().Set("X-Error-Code", "EntryNotFound")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("X-Repo-Commit", hubCommit)
	w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(data)), data...)))))
	if !strings.HasSuffix(path, ".safetensors") {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		return
	}
	if r.Method == http.MethodHead {
		h.heads.Add(1)
	}
	w.Header().Set("X-Linked-Etag", fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(data))))
	w.Header().Set("X-Linked-Size", strconv.Itoa(len(data)))
	http.ServeContent(&slowWriter{w, h, r, len(data) / 2}, r, "", time.Time{}, bytes.NewReader(data))
}

// slowWriter counts bytes, and waits for the server's hold after half of a file.
type slowWriter struct {
	http.ResponseWriter
	h    *hubServer
	r    *http.Request
	half int
}

func (s *slowWriter) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		if s.half == 0 && s.h.hold != nil {
			s.ResponseWriter.(http.Flusher).Flush()
			s.h.hold(s.r)
		}
		n := len(p)
		if s.half > 0 {
			n = min(n, s.half)
		}
		n, err := s.ResponseWriter.Write(p[:n])
		s.h.sent.Add(int64(n))
		if total += n; err != nil {
			return total, err
		}
		if s.half -= n; s.half < 0 {
			s.half = -1
		}
		p = p[n:]
	}
	return total, nil
}

// hubEnv sets the environment of the programs that the test runs.
func hubEnv(t *testing.T, h *hubServer) (cache string) {
	dir := t.TempDir()
	for k, v := range map[string]string{"HF_HOME": dir, "HF_ENDPOINT": h.URL, "HF_TOKEN": "", "HF_HUB_CACHE": "", "HF_TOKEN_PATH": "", "HF_HUB_OFFLINE": "", "HF_HUB_DOWNLOAD_TIMEOUT": ""} {
		t.Setenv(k, v)
	}
	return filepath.Join(dir, "hub")
}

func TestPull(t *testing.T) {
	dir := home(t)
	h := newHub(t, map[string]string{"org/stories": filepath.Join(dir, "teacher"), "datasets/org/text": filepath.Join(dir, "text")})
	if err := os.Mkdir(filepath.Join(dir, "text"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "text", "train.txt"), []byte("once upon a time"))
	cache := hubEnv(t, h)
	fails(t, dir, []string{"org/stories: no such file or directory", "not in the cache", `"krait pull org/stories" fetches it`}, "show", "org/stories")
	r := krait(t, dir, "", "pull", "org/stories")
	path := strings.TrimSpace(r.out)
	if r.status != 0 || path != filepath.Join(cache, "models--org--stories", "snapshots", hubCommit) || !strings.Contains(r.errors, "4/4 files") {
		t.Fatalf("%+v", r)
	}
	// Its name is a model now, for arguments and flags, and gives what its directory gives.
	for _, args := range []string{"show org/stories --json", "show org/stories@main --json", "show org/stories@0011223 --json"} {
		var s shown
		if mustJSON(t, dir, &s, strings.Fields(args)...); s.Path != path || s.Parameters == 0 {
			t.Errorf("%s: %+v", args, s)
		}
	}
	want := must(t, dir, "generate", "teacher", "--prompt", "Once", "--max-tokens", "8", "--temperature", "0")
	got := must(t, dir, "generate", "org/stories", "--prompt", "Once", "--max-tokens", "8", "--temperature", "0", "--draft", "org/stories@main")
	if got != want {
		t.Errorf("generate: %q, want %q", got, want)
	}
	must(t, dir, "init", "org/stories", "--attn-layers", "1,3", "--out", "hybrid")
	fails(t, dir, []string{"not its revision v9"}, "init", "org/stories@v9", "--attn-layers", "1,3", "--out", "y")
	// A directory of the same name wins.
	if err := os.MkdirAll(filepath.Join(dir, "org", "stories"), 0o755); err != nil {
		t.Fatal(err)
	}
	fails(t, dir, []string{"org/stories", "config.json"}, "show", "org/stories")
	if err := os.RemoveAll(filepath.Join(dir, "org")); err != nil {
		t.Fatal(err)
	}
	var p pulled
	keys := mustJSON(t, dir, &p, "pull", "org/text", "--dataset", "--include", "*.txt", "--exclude", "test*", "--json")
	wantKeys(t, keys, "name", "type", "revision", "commit", "path", "files", "bytes", "downloaded_bytes")
	if p.Type != "dataset" || p.Revision != "main" || p.Commit != hubCommit || len(p.Files) != 1 || p.Bytes != 16 || p.DownloadedBytes != 16 {
		t.Errorf("%+v", p)
	}
	for _, c := range []struct{ args, want string }{
		{"pull org/none", "has no model org/none"},
		{"pull org/stories --include nothing", "no file that these patterns choose"},
	} {
		fails(t, dir, []string{c.want}, strings.Fields(c.args)...)
	}
	for _, args := range []string{"pull", "pull ../x", "pull a/b/c", "pull org/a@", "pull a b", "rm", "rm ..", "rm org/stories@main", "list x"} {
		if r := krait(t, dir, "", strings.Fields(args)...); r.status != 2 || !strings.Contains(r.errors, "krait help") || r.out != "" {
			t.Errorf("krait %s: %+v", args, r)
		}
	}
	listAndRemove(t, dir, cache)
}

func listAndRemove(t *testing.T, dir, cache string) {
	t.Helper()
	out := must(t, dir, "ls")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || strings.Join(strings.Fields(lines[0]), " ") != "NAME ID SIZE MODIFIED" || !strings.Contains(out, "org/stories ") ||
		!strings.Contains(out, "datasets/org/text") || strings.Count(out, hubCommit[:12]+" ") != 2 || strings.Count(out, "just now") != 2 {
		t.Errorf("ls:\n%s", out)
	}
	var l listed
	mustJSON(t, dir, &l, "list", "--json")
	if l.Cache != cache || len(l.Repos) != 2 || l.Repos[1].Name != "org/stories" || l.Repos[1].Refs["main"] != hubCommit || l.Repos[1].Bytes < 1e6 || l.Repos[1].Partial {
		t.Errorf("%+v", l)
	}
	fails(t, dir, []string{"org/none is not in the cache, nothing was removed"}, "rm", "org/stories", "org/none")
	var gone removed
	if mustJSON(t, dir, &gone, "rm", "org/stories", "--json"); len(gone.Removed) != 1 || gone.Bytes != l.Repos[1].Bytes {
		t.Errorf("%+v", gone)
	}
	fails(t, dir, []string{"not in the cache"}, "show", "org/stories")
	if out := must(t, dir, "rm", "datasets/org/text"); !strings.HasPrefix(out, "removed datasets/org/text, ") {
		t.Errorf("rm: %q", out)
	}
	if mustJSON(t, dir, &l, "list", "--json"); len(l.Repos) != 0 {
		t.Errorf("%+v", l)
	}
	onlyEntries(t, cache, ".locks", "CACHEDIR.TAG")
}

// TestPullOffline uses what is there, and says what is not.
func TestPullOffline(t *testing.T) {
	dir := home(t)
	h := newHub(t, map[string]string{"org/stories": filepath.Join(dir, "teacher")})
	hubEnv(t, h)
	path := must(t, dir, "pull", "org/stories", "--quiet")
	t.Setenv("HF_HUB_OFFLINE", "1")
	if again := must(t, dir, "pull", "org/stories"); again != path {
		t.Errorf("%q, want %q", again, path)
	}
	fails(t, dir, []string{"org/other is not in the cache (HF_HUB_OFFLINE is set)"}, "pull", "org/other")
	t.Setenv("HF_HUB_OFFLINE", "")
	h.Close()
	if r := krait(t, dir, "", "pull", "org/stories"); r.status != 0 || r.out != path || !strings.Contains(r.errors, "cannot reach") || !strings.Contains(r.errors, "using the copy") {
		t.Errorf("%+v", r)
	}
	fails(t, dir, []string{"cannot reach", "org/other is not in the cache"}, "pull", "org/other")
}

// TestPullStopped interrupts a pull: it says how to go on, and the next one fetches the rest alone.
func TestPullStopped(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no interrupt to send")
	}
	dir := home(t)
	h := newHub(t, map[string]string{"org/stories": filepath.Join(dir, "teacher")})
	cache := hubEnv(t, h)
	c := command(dir, "pull", "org/stories")
	var once sync.Once
	h.hold = func(r *http.Request) {
		once.Do(func() {
			time.Sleep(200 * time.Millisecond) // for the half to arrive
			if err := c.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		})
		<-r.Context().Done()
	}
	if r := finish(t, c); r.status != 130 || r.out != "" || !strings.Contains(r.errors, "interrupted: the same command goes on from where it was") {
		t.Errorf("%+v", r)
	}
	var l listed
	if mustJSON(t, dir, &l, "list", "--json"); len(l.Repos) != 1 || !l.Repos[0].Partial {
		t.Errorf("%+v", l)
	}
	fails(t, dir, []string{"in part only", "krait pull org/stories"}, "show", "org/stories")
	h.hold = nil
	h.sent.Store(0)
	must(t, dir, "pull", "org/stories")
	size := int64(len(read(t, filepath.Join(dir, "teacher", "model.safetensors"))))
	if n := h.sent.Load(); n > size-size/2 {
		t.Errorf("%d of %d bytes were sent the second time", n, size)
	}
	if left, err := filepath.Glob(filepath.Join(cache, "*", "blobs", "*.incomplete")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestPullTwice lets two programs pull the same model at once: one fetches, the other waits for it.
func TestPullTwice(t *testing.T) {
	dir := home(t)
	h := newHub(t, map[string]string{"org/stories": filepath.Join(dir, "teacher")})
	hubEnv(t, h)
	h.hold = func(r *http.Request) {
		for range 100 { // until both have come so far, and a little longer
			if time.Sleep(100 * time.Millisecond); h.heads.Load() == 2 || r.Context().Err() != nil {
				break
			}
		}
		time.Sleep(300 * time.Millisecond)
	}
	var pulls sync.WaitGroup
	for range 2 {
		pulls.Go(func() { must(t, dir, "pull", "org/stories") })
	}
	pulls.Wait()
	if n, size := h.sent.Load(), len(read(t, filepath.Join(dir, "teacher", "model.safetensors"))); n != int64(size) {
		t.Errorf("%d bytes were sent, the file has %d", n, size)
	}
	must(t, dir, "show", "org/stories")
}

// TestPullNoSpace lets a pull run into the limit of a file's size, as into the end of a disk: nothing half-written is left to fill it.
func TestPullNoSpace(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("no shell that limits the size of files")
	}
	dir := home(t)
	h := newHub(t, map[string]string{"org/stories": filepath.Join(dir, "teacher")})
	cache := hubEnv(t, h)
	c := exec.Command(shell, "-c", `ulimit -f 200; exec "$0" "$@"`)
	c.Args = append(c.Args, program, "pull", "org/stories", "--include", "model.safetensors")
	c.Dir = dir
	if r := finish(t, c); r.status != 1 || r.out != "" || !strings.Contains(r.errors, ".incomplete: file too large") || strings.Count(r.errors, "krait: write") != 1 {
		t.Errorf("%+v", r)
	}
	if left, err := filepath.Glob(filepath.Join(cache, "*", "blobs", "*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	must(t, dir, "pull", "org/stories")
}
