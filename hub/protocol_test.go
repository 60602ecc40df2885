package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

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
	c.sleep = func(context.Context, time.Duration) error { t.Error("waits for a network"); return nil }
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
