package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
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
		_, _ = w.Write(make([]byte, 1000))
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
		c := f.client(t, "HF_HUB_DOWNLOAD_TIMEOUT=0.3")
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

// Retry-After is followed, in seconds and as a date by the server's own clock, but not for ever; without it the waits double.
func TestWaits(t *testing.T) {
	date := func(d time.Duration) string {
		return time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC).Add(d).Format(http.TimeFormat)
	}
	for _, c := range []struct {
		header string
		want   []time.Duration // from, for the first waits; to is half a second more, or twice that where the server says nothing
	}{
		{"7", []time.Duration{7 * time.Second, 7 * time.Second}},
		{date(90 * time.Second), []time.Duration{90 * time.Second}},
		{"86400", []time.Duration{longestAsked}},
		{date(48 * time.Hour), []time.Duration{longestAsked}},
		{date(-time.Hour), []time.Duration{firstWait / 2, firstWait, 2 * firstWait}},
		{"soon", []time.Duration{firstWait / 2, firstWait, 2 * firstWait, 4 * firstWait, 8 * firstWait}},
		{"", []time.Duration{firstWait / 2}},
	} {
		f := newFakeHub(t)
		f.forget(times(len(c.want), status(429, "/api/", "Retry-After", c.header, "Date", date(0))))
		cl := f.client(t)
		var waits []time.Duration
		cl.sleep = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
		_, said := mustPull(t, cl, f, testRepo, onlyWeights)
		if len(waits) != len(c.want) {
			t.Fatalf("%q: waits %v", c.header, waits)
		}
		long := 0
		for i, from := range c.want {
			if waits[i] < from || waits[i] > max(2*from, from+firstWait) || from > firstWait*16 && waits[i] > from+firstWait {
				t.Errorf("%q: wait %d is %s, want %s", c.header, i, waits[i], from)
			}
			if waits[i] > longWait {
				long++
			}
		}
		if len(said) != long {
			t.Errorf("%q: said %q", c.header, said)
		}
	}
}

// The token goes to the endpoint, by every way that leads back to it, and to no other host or port.
func TestToken(t *testing.T) {
	f := newFakeHub(t)
	c := f.client(t, "HF_TOKEN=mine")
	f.forget(nil)
	mustPull(t, c, f, testRepo, Filter{})
	store := hostOf(t, f.store.URL)
	for _, r := range f.requests {
		if got := r.Header.Get("Authorization"); got != map[bool]string{true: "", false: "Bearer mine"}[r.Host == store] {
			t.Errorf("%s %s has %q", r.Host, r.URL.Path, got)
		}
		if r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("User-Agent") != "krait" {
			t.Errorf("%s: %v", r.URL, r.Header)
		}
	}
	if f.count("GET", "/store/") == 0 {
		t.Error("nothing came from the store")
	}
}

// A repository that was renamed redirects to its new name, as the hub does; the cache keeps the name that was asked for.
func TestRenamed(t *testing.T) {
	f := newFakeHub(t)
	f.name = "new/name"
	f.forget(func(_ *fakeHub, w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "org/name") {
			return false
		}
		w.Header().Set("Location", strings.Replace(r.URL.RequestURI(), "org/name", "new/name", 1))
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	})
	c := f.client(t)
	s, _ := mustPull(t, c, f, testRepo, Filter{})
	if dir, err := c.Resolve(testRepo); err != nil || dir != s.Dir {
		t.Errorf("%s, %v", dir, err)
	}
}

// A mirror may tell names only, know no large files, and send no lengths.
func TestMirror(t *testing.T) {
	f := newFakeHub(t)
	f.bare = true
	f.forget(func(f *fakeHub, w http.ResponseWriter, r *http.Request) bool {
		name, ok := strings.CutPrefix(r.URL.Path, "/org/name/resolve/"+f.commit+"/")
		if !ok {
			return false
		}
		w.Header().Set("ETag", `W/"`+etagOf(name, f.files[name])+`"`)
		for len(f.files[name]) > 0 && r.Method == http.MethodGet {
			_, _ = w.Write(f.files[name])
			w.(http.Flusher).Flush() // no length
			return true
		}
		w.(http.Flusher).Flush()
		return true
	})
	c := f.client(t)
	s, _ := mustPull(t, c, f, testRepo, Filter{})
	if len(s.Files) != 5 {
		t.Errorf("%v", s.Files)
	}
	if _, err := os.Stat(filepath.Join(c.Cache, "models--org--name", "trees")); err == nil {
		t.Error("a tree without sizes")
	}
}

// If-Range ties a range to the bytes that came before it.
func TestIfRange(t *testing.T) {
	f := newFakeHub(t)
	f.forget(times(1, drop(1<<20)))
	mustPull(t, f.client(t), f, testRepo, onlyWeights)
	f.forget(nil)
	f.files["tokenizer.json"] = noise(2000)
	etag := gitSHA(f.files["tokenizer.json"])
	c := f.client(t)
	path := filepath.Join(c.Cache, "models--org--name", "blobs", etag+unfinished)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, f.files["tokenizer.json"][:500], 0o644)); err != nil {
		t.Fatal(err)
	}
	if s, _ := mustPull(t, c, f, testRepo, Filter{Include: []string{"tokenizer.json"}}); s.Downloaded != 1500 {
		t.Errorf("%d bytes", s.Downloaded)
	}
	if r := f.requests[len(f.requests)-1]; r.Header.Get("If-Range") != `"`+etag+`"` || r.Header.Get("Range") != "bytes=500-" {
		t.Errorf("%v", r.Header)
	}
}

func TestDiskFull(t *testing.T) {
	f := newFakeHub(t)
	c := f.client(t)
	c.free = func(string) (int64, bool) { return 1000, true }
	f.forget(nil)
	if _, _, err := pullTest(t, c, testRepo, onlyWeights); err == nil || !strings.Contains(err.Error(), "needs 3145728 more bytes") || f.count("GET", "/store/") > 0 {
		t.Errorf("no space before: %v", err)
	}
	if n, ok := freeSpace(t.TempDir()); ok && n <= 0 {
		t.Errorf("%d bytes are free", n)
	}
	err := error(&diskError{fmt.Errorf("write x: %w", syscall.ENOSPC)})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Error("the cause is lost")
	}
}

func TestOffline(t *testing.T) {
	f := newFakeHub(t)
	c := f.client(t)
	s, _ := mustPull(t, c, f, testRepo, Filter{})
	off := *c
	off.Offline = true
	f.forget(nil)
	for _, r := range []Repo{testRepo, {Model, "org/name", "main"}, {Model, "org/name", f.commit}} {
		if x, _, err := pullTest(t, &off, r, Filter{}); err != nil || x.Dir != s.Dir || len(x.Files) != len(s.Files) || x.Bytes != s.Bytes {
			t.Errorf("%s: %+v, %v", r, x, err)
		}
	}
	for _, c := range []struct {
		r    Repo
		f    Filter
		want string
	}{
		{Repo{Model, "org/other", ""}, Filter{}, "org/other is not in the cache (HF_HUB_OFFLINE is set)"},
		{Repo{Model, "org/name", "v2"}, Filter{}, "not its revision v2"},
		{testRepo, Filter{Include: []string{"README.md"}}, "README.md of org/name is not in the cache"},
	} {
		if _, _, err := pullTest(t, &off, c.r, c.f); !errors.Is(err, ErrNotCached) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.r, err)
		}
	}
	if len(f.requests) > 0 {
		t.Errorf("%d requests offline", len(f.requests))
	}
	// No network, or a hub that is down: the cache does, and the user is told.
	f.forget(status(503, "/api/"))
	x, said, err := pullTest(t, c, testRepo, Filter{})
	if err != nil || x.Dir != s.Dir || len(said) == 0 || !strings.Contains(said[len(said)-1], "using the copy") {
		t.Errorf("a hub that is down: %+v, %q, %v", x, said, err)
	}
	f.Close()
	if x, said, err = pullTest(t, c, testRepo, Filter{}); err != nil || x.Dir != s.Dir || len(said) != 1 || !strings.Contains(said[0], "cannot reach") {
		t.Errorf("no network: %+v, %q, %v", x, said, err)
	}
	_, _, err = pullTest(t, c, Repo{Model, "org/other", ""}, Filter{})
	if err == nil || !strings.Contains(err.Error(), "cannot reach") || !strings.Contains(err.Error(), "org/other is not in the cache") {
		t.Errorf("no network: %v", err)
	}
	// But a hub that says no is heard.
	g := newFakeHub(t)
	g.forget(status(401, "/api/", "X-Error-Code", "GatedRepo"))
	c.host.Host, c.Endpoint = hostOf(t, g.URL), g.URL
	if _, _, err = pullTest(t, c, testRepo, Filter{}); err == nil || !strings.Contains(err.Error(), "gated") {
		t.Errorf("a refusal: %v", err)
	}
}

// Certificates that nobody vouches for are said at once: another try would find the same.
func TestCertificate(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	s.Config.ErrorLog = nil
	f := newFakeHub(t)
	c := f.client(t, "HF_ENDPOINT="+s.URL)
	tries := 0
	c.sleep = func(context.Context, time.Duration) error { tries++; return nil }
	if _, _, err := pullTest(t, c, testRepo, Filter{}); err == nil || !strings.Contains(err.Error(), "certificate") || tries > 0 {
		t.Errorf("%v after %d waits", err, tries)
	}
}
