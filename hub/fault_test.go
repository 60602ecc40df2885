package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

type fault = func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool

// status answers requests for a part of the paths with a status.
func status(code int, part string, header ...string) fault {
	return func(_ *fakeHub, w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		return true
	}
}

// ignoreRange drops the first connection and then does not know ranges.
func ignoreRange() fault {
	first := times(1, drop(1<<20))
	return func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("Range")
		return first(f, w, r)
	}
}

// badRange answers a request for a range with headers and bytes of its own making.
func badRange(code int, contentRange, etag string) fault {
	first := times(1, drop(1<<20))
	var lie fault = func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool {
		if !body(r) || r.Header.Get("Range") == "" {
			return false
		}
		w.Header().Set("Content-Range", contentRange)
		w.Header().Set("ETag", etag)
		w.WriteHeader(code)
		_, _ = w.Write(make([]byte, 2<<20))
		return true
	}
	lie = times(1, lie)
	return func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool { return first(f, w, r) || lie(f, w, r) }
}

// lyingLength announces a length that the body does not have.
func lyingLength(delta int) fault {
	return func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool {
		if !body(r) || r.Header.Get("Range") != "" {
			return false
		}
		data := f.files["model.safetensors"]
		w.Header().Set("Content-Length", strconv.Itoa(len(data)+delta))
		_, _ = w.Write(data[:min(len(data), len(data)+delta)])
		if delta > 0 {
			panic(http.ErrAbortHandler)
		}
		return true
	}
}

// trailer sends more than the file.
func trailer(f *fakeHub, w http.ResponseWriter, r *http.Request) bool {
	if body(r) {
		data := f.files["model.safetensors"]
		_, _ = w.Write(data[:1000]) // so that a reader's blocks do not end where the file does
		w.(http.Flusher).Flush()
		_, _ = w.Write(append(data[1000:len(data):len(data)], "more"...))
	}
	return body(r)
}

// TestRecovers lists what a pull has to survive without a word from its user.
func TestRecovers(t *testing.T) {
	n := len(noise(3 << 20))
	for name, c := range map[string]struct {
		fault  fault
		bodies int // requests for the bytes of the large file; 0: do not count
	}{
		"dropped once":              {times(1, drop(1000)), 2},
		"dropped again and again":   {times(4, drop(300<<10)), 5},
		"dropped at once":           {times(3, drop(0)), 4},
		"drops after each mebibyte": {drop(enough), 3},
		"a server without ranges":   {ignoreRange(), 2},
		"another range":             {badRange(206, fmt.Sprintf("bytes 0-%d/%d", n-1, n), `"x"`), 3},
		"a range of no meaning":     {badRange(206, "bytes", `"x"`), 3},
		"a range without header":    {badRange(206, "", ""), 3},
		"a range of another size":   {badRange(206, fmt.Sprintf("bytes %d-%d/%d", 1<<20, n, n+1), ""), 3},
		"a range of another file":   {badRange(206, fmt.Sprintf("bytes %d-%d/%d", 1<<20, n-1, n), `"changed"`), 3},
		"416":                       {badRange(416, fmt.Sprintf("bytes */%d", n), ""), 3},
		"less than its length":      {lyingLength(-1000), 2},
		"more than its length":      {lyingLength(1000), 1},
		"more than the file":        {trailer, 1},
		"500 of info":               {times(2, status(500, "/api/")), 1},
		"502 of the hub":            {times(2, status(502, "/resolve/")), 1},
		"503 of the store":          {times(2, status(503, "/store/")), 3},
		"an address that ran out":   {times(1, status(403, "/store/")), 2},
		"429":                       {times(2, status(429, "/resolve/", "Retry-After", "1")), 1},
		"info in halves":            {times(1, halfInfo), 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeHub(t)
			f.forget(c.fault)
			mustPull(t, f.client(t), f, testRepo, onlyWeights)
			if got := f.count("GET", "/store/"); c.bodies > 0 && got != c.bodies {
				t.Errorf("%d requests for the file, want %d", got, c.bodies)
			}
		})
	}
}

func halfInfo(_ *fakeHub, w http.ResponseWriter, r *http.Request) bool {
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		return false
	}
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte(`{"sha":"`))
	panic(http.ErrAbortHandler)
}

// TestFails lists what ends a pull: in one sentence, without a blob, a snapshot's file or a ref.
func TestFails(t *testing.T) {
	wrong := noise(2000)
	for name, c := range map[string]struct {
		fault    fault
		env      string
		want     string
		requests int // in all; 0: do not count
	}{
		"5xx for ever":       {status(503, "/api/"), "", "503 Service Unavailable (tried 6 times), and org/name is not in the cache", 6},
		"store 5xx":          {status(500, "/store/"), "", "500 Internal Server Error (tried 6 times)", 2 + 2*6},
		"429 for ever":       {status(429, "/resolve/"), "", "too many requests (429) (tried 6 times)", 7},
		"drops for ever":     {drop(0), "", "(tried 6 times)", 2 + 2*6},
		"a trickle":          {drop(10), "", "(tried 6 times)", 2 + 2*6},
		"not implemented":    {status(501, "/api/"), "", "501", 1},
		"gated":              {status(401, "/resolve/", "X-Error-Code", "GatedRepo"), "", "org/name is gated: accept its terms at", 2},
		"gated with token":   {status(403, "/resolve/", "X-Error-Code", "GatedRepo"), "HF_TOKEN=t", "has no access: ask for it at", 2},
		"no repository":      {status(401, "/api/", "X-Error-Code", "RepoNotFound"), "", "has no model org/name, or it is not public: then set HF_TOKEN", 1},
		"not for the token":  {status(404, "/api/", "X-Error-Code", "RepoNotFound"), "HF_TOKEN=t", "has no model org/name that your HF_TOKEN may see", 1},
		"bad token":          {status(401, "/api/"), "HF_TOKEN=t", "does not accept your HF_TOKEN", 1},
		"forbidden":          {status(403, "/api/", "X-Error-Message", "you are blocked"), "HF_TOKEN=t", "denies access to org/name: you are blocked", 1},
		"no revision":        {status(404, "/api/", "X-Error-Code", "RevisionNotFound"), "", "org/name has no revision main", 1},
		"no file":            {status(404, "/resolve/", "X-Error-Code", "EntryNotFound"), "", "org/name has no file model.safetensors", 2},
		"another commit":     {status(200, "/resolve/", "X-Repo-Commit", strings.Repeat("3", 40), "ETag", `"a"`), "", `of commit "3333`, 2},
		"no ETag":            {status(200, "/resolve/"), "", "no ETag", 2},
		"an ETag to escape":  {status(200, "/resolve/", "ETag", `"../../../x"`), "", "cannot be a file's name", 2},
		"an ETag in the way": {status(200, "/resolve/", "ETag", `"a.incomplete"`), "", "cannot be a file's name", 2},
		"wrong bytes":        {bytesOfStore(wrong), "", "SHA-256 of what", 0},
		"redirects for ever": {func(_ *fakeHub, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/again"+r.URL.Path[:4], http.StatusFound)
			return true
		}, "", "redirects more than 10 times", 10},
		"a redirect to a file": {func(_ *fakeHub, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(302)
			return true
		}, "", "redirects to a file address", 1},
		"no JSON":         {text(`<html>`), "", "not the JSON of a repository", 1},
		"no commit":       {text(`{"sha":"../..","siblings":[]}`), "", "is no commit", 1},
		"no files":        {text(`{"sha":"` + testCommit + `"}`), "", "no file that these patterns choose", 1},
		"escaping name":   {info("../../evil"), "", `"../../evil" would leave`, 1},
		"absolute name":   {info("/etc/passwd"), "", "would leave", 1},
		"dots within":     {info("a/../../b"), "", "would leave", 1},
		"a backslash":     {info(`..\\b`), "", "would leave", 1},
		"a drive":         {info("C:b"), "", "would leave", 1},
		"an empty name":   {info(""), "", "would leave", 1},
		"a control sign":  {info(`a\u0000b`), "", "would leave", 1},
		"a name twice":    {info(`a","size":1},{"rfilename":"a`), "", "stands twice", 1},
		"a negative size": {info(`model.safetensors","size":-5,"x":"`), "", "size of -5", 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeHub(t)
			f.forget(c.fault)
			cl := f.client(t, strings.Fields(c.env)...)
			_, _, err := pullTest(t, cl, testRepo, onlyWeights)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret") {
				t.Errorf("%v, want %q", err, c.want)
			}
			if n := len(f.requests); c.requests > 0 && n != c.requests {
				t.Errorf("%d requests, want %d", n, c.requests)
			}
			nothingCached(t, cl)
		})
	}
}

// nothingCached makes sure that no blob, no file and no ref is there; an unfinished file may be.
func nothingCached(t *testing.T, c *Client) {
	t.Helper()
	_ = filepath.WalkDir(c.Cache, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, unfinished) && !strings.HasSuffix(path, ".lock") && d.Name() != "CACHEDIR.TAG" {
			t.Errorf("left behind: %s", path)
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(c.Cache, "..", "evil")); err == nil {
		t.Error("a file outside the cache")
	}
	if _, err := c.Resolve(testRepo); !errors.Is(err, ErrNotCached) {
		t.Errorf("resolves: %v", err)
	}
}

func bytesOfStore(data []byte) fault {
	return func(_ *fakeHub, w http.ResponseWriter, r *http.Request) bool {
		if body(r) {
			w.Header().Set("X-Linked-Size", strconv.Itoa(len(data)))
			_, _ = w.Write(make([]byte, 3<<20))
		}
		return body(r)
	}
}

func text(s string) fault {
	return func(_ *fakeHub, w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			_, _ = w.Write([]byte(s))
		}
		return strings.HasPrefix(r.URL.Path, "/api/")
	}
}

func info(name string) fault {
	return text(`{"sha":"` + testCommit + `","siblings":[{"rfilename":"` + name + `"}]}`)
}

// A wrong hash removes the bytes; where they were an earlier process's, the file is fetched afresh instead.
func TestWrongHash(t *testing.T) {
	f := newFakeHub(t)
	c := f.client(t)
	for _, name := range []string{"model.safetensors", "config.json"} {
		filter := Filter{Include: []string{name}}
		f.forget(func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodHead || !strings.HasSuffix(r.URL.Path, name) || !isLarge(name) != strings.Contains(r.URL.Path, "/resolve/") {
				return false
			}
			damaged := append([]byte{}, f.files[name]...)
			damaged[3] ^= 1
			w.Header().Set("Content-Length", strconv.Itoa(len(damaged)))
			_, _ = w.Write(damaged)
			return true
		})
		if _, _, err := pullTest(t, c, testRepo, filter); err == nil || !strings.Contains(err.Error(), "was damaged and is removed") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if left := unfinishedIn(t, c.Cache); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		nothingCached(t, c)
		blobs := filepath.Join(c.Cache, "models--org--name", "blobs")
		etag := etagOf(name, f.files[name])
		if err := os.WriteFile(filepath.Join(blobs, etag+unfinished), []byte("not it"), 0o644); err != nil {
			t.Fatal(err)
		}
		f.forget(nil)
		_, said := mustPull(t, c, f, testRepo, filter)
		if len(said) != 1 || !strings.Contains(said[0], "starting again") {
			t.Errorf("%s: said %q", name, said)
		}
		if err := os.RemoveAll(filepath.Join(c.Cache, "models--org--name")); err != nil {
			t.Fatal(err)
		}
	}
}

// What an earlier process left is taken up where it ends: no byte comes twice.
func TestResume(t *testing.T) {
	f := newFakeHub(t)
	data := f.files["model.safetensors"]
	for _, n := range []int{0, 1, 1 << 20, len(data) - 1, len(data), len(data) + 7} {
		c := f.client(t)
		path := filepath.Join(c.Cache, "models--org--name", "blobs", sha(data)+unfinished)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(append([]byte{}, data...), "trailer"...)[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		f.forget(nil)
		s, said := mustPull(t, c, f, testRepo, onlyWeights)
		want := len(data) - n
		if n > len(data) {
			want = len(data)
		}
		if s.Downloaded != int64(want) || len(said) > 0 || f.count("GET", "/store/") != min(want, 1) {
			t.Errorf("from byte %d: %d bytes fetched, want %d; said %q", n, s.Downloaded, want, said)
		}
	}
}

// Ctrl-C leaves what has arrived, and the next pull goes on from there.
func TestInterrupt(t *testing.T) {
	f := newFakeHub(t)
	c := f.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.forget(func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool {
		if body(r) {
			f.answer(&cutting{ResponseWriter: w, left: 1 << 20}, r)
			<-r.Context().Done()
		}
		return body(r)
	})
	_, err := c.Snapshot(ctx, testRepo, onlyWeights, func(p Progress) {
		if p.Done == 1<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if left := unfinishedIn(t, c.Cache); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
	nothingCached(t, c)
	if _, err := c.Resolve(testRepo); err == nil || !strings.Contains(err.Error(), "in part only") {
		t.Errorf("resolve: %v", err)
	}
	if list, err := c.List(); err != nil || len(list) != 1 || !list[0].Partial {
		t.Errorf("%+v, %v", list, err)
	}
	f.forget(nil)
	if s, _ := mustPull(t, c, f, testRepo, onlyWeights); s.Downloaded != 2<<20 {
		t.Errorf("%d bytes fetched the second time", s.Downloaded)
	}
}

func TestSilence(t *testing.T) {
	for _, part := range []string{"/api/", "/resolve/", "/store/"} {
		f := newFakeHub(t)
		silent := times(1, func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, part) {
				return false
			}
			if body(r) {
				f.answer(&cutting{ResponseWriter: w, left: 1000}, r)
			}
			<-r.Context().Done()
			return true
		})
		f.forget(silent)
		c := f.client(t, "HF_HUB_DOWNLOAD_TIMEOUT=1")
		if _, said := mustPull(t, c, f, testRepo, onlyWeights); len(said) > 0 {
			t.Errorf("%s: said %q", part, said)
		}
	}
	f := newFakeHub(t)
	f.forget(func(_ *fakeHub, _ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	_, _, err := pullTest(t, f.client(t, "HF_HUB_DOWNLOAD_TIMEOUT=0.02"), testRepo, onlyWeights)
	if err == nil || !strings.Contains(err.Error(), "was silent for 20ms") {
		t.Errorf("silent for ever: %v", err)
	}
}
