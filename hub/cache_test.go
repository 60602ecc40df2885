package hub

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// Two pulls of the same files at once, as by two processes: each file comes once, and both succeed.
func TestTwoAtOnce(t *testing.T) {
	f := newFakeHub(t)
	slow := make(chan struct{})
	f.forget(func(_ *fakeHub, _ http.ResponseWriter, r *http.Request) bool {
		if body(r) {
			<-slow
		}
		return false
	})
	c := f.client(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var open sync.Once
	var all sync.WaitGroup
	var got [3]*Snapshot
	for i := range got {
		own := *c
		all.Go(func() {
			s, err := own.Snapshot(ctx, testRepo, Filter{}, func(p Progress) {
				if strings.Contains(p.Say, "waiting for another download") {
					open.Do(func() { close(slow) })
				}
			})
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = s
		})
	}
	all.Wait()
	for _, s := range got {
		if s != nil {
			checkSnapshot(t, f, s) // not before: the others may still be at work
		}
	}
	if n := f.count("GET", "/store/model.safetensors"); n != 1 {
		t.Errorf("the large file was fetched %d times", n)
	}
}

// A pull that waits for a lock ends when its context does.
func TestLockInterrupt(t *testing.T) {
	f := newFakeHub(t)
	c := f.client(t)
	path := filepath.Join(c.locks(testRepo), sha(f.files["model.safetensors"])+".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l := flock.New(path)
	if ok, err := l.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := c.Snapshot(ctx, testRepo, onlyWeights, func(p Progress) {
		if p.Say != "" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// Nor is anything removed meanwhile.
	if _, err := c.Remove(testRepo); err == nil || !strings.Contains(err.Error(), "is being downloaded by another process") {
		t.Errorf("removed: %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	mustPull(t, c, f, testRepo, onlyWeights)
}

func TestRemove(t *testing.T) {
	f := newFakeHub(t)
	c := f.client(t)
	if list, err := c.List(); err != nil || list != nil {
		t.Errorf("no cache: %v, %v", list, err)
	}
	s, _ := mustPull(t, c, f, testRepo, Filter{})
	f.name = "org/other"
	other, _ := mustPull(t, c, f, Repo{Model, "org/other", ""}, onlyWeights)
	outside := filepath.Join(c.Cache, "..", "outside")
	for path, data := range map[string]string{outside: "x", filepath.Join(c.Cache, "version.txt"): "1"} {
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(c.Cache, "models--x--y--z"), 0o755), os.Mkdir(filepath.Join(c.Cache, "spaces--x--y"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(s.Dir, "leads-out")); err != nil {
		t.Logf("no symbolic links: %v", err)
	}
	list, err := c.List()
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, r := range []Repo{{Model, "org/none", ""}, {Dataset, "org/name", ""}} {
		if _, err := c.Remove(r); !errors.Is(err, ErrNotCached) {
			t.Errorf("%s: %v", r, err)
		}
	}
	for _, r := range []Repo{{Model, "org/name", "main"}, {Model, "..", ""}, {Model, "../outside", ""}, {"", "org/name", ""}} {
		if _, err := c.Remove(r); err == nil {
			t.Errorf("%s was removed", r)
		}
	}
	tree, err := os.Stat(filepath.Join(c.Cache, "models--org--name", "trees", f.commit+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Remove(testRepo); err != nil || n != s.Bytes+tree.Size()+40 {
		t.Errorf("%d bytes, %v, want %d", n, err, s.Bytes+tree.Size()+40)
	}
	if list, err = c.List(); err != nil || len(list) != 1 || list[0].Repo.Name != "org/other" {
		t.Errorf("%+v, %v", list, err)
	}
	checkSnapshot(t, f, other)
	for _, path := range []string{outside, filepath.Join(c.Cache, "version.txt"), filepath.Join(c.Cache, "models--x--y--z")} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("gone: %v", err)
		}
	}
}

// A copy of a file that was cut short, or is gone, is fetched again.
func TestRepair(t *testing.T) {
	f := newFakeHub(t)
	c := f.client(t)
	s, _ := mustPull(t, c, f, testRepo, Filter{})
	if err := os.Truncate(filepath.Join(s.Dir, "model.safetensors"), 1000); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(c.Cache, "models--org--name", "blobs", gitSHA(f.files["config.json"]))); err != nil {
		t.Fatal(err)
	}
	f.forget(nil)
	s, _ = mustPull(t, c, f, testRepo, Filter{})
	if want := len(f.files["config.json"]) + len(f.files["model.safetensors"]); s.Downloaded != int64(want) {
		t.Errorf("%d bytes fetched, want %d", s.Downloaded, want)
	}
	// What huggingface_hub leaves behind is read as well: it needs no tree, and may end a ref with a line.
	repo := filepath.Join(c.Cache, "models--org--name")
	if err := errors.Join(os.RemoveAll(filepath.Join(repo, "trees")), os.WriteFile(filepath.Join(repo, "refs", "main"), []byte(f.commit+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	c.Offline = true
	if x, err := c.Snapshot(t.Context(), testRepo, Filter{}, nil); err != nil || x.Bytes != s.Bytes {
		t.Errorf("%+v, %v", x, err)
	}
	// A ref that leads elsewhere is no ref.
	if err := os.WriteFile(filepath.Join(repo, "refs", "main"), []byte("../../outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	if dir, err := c.Resolve(testRepo); !errors.Is(err, ErrNotCached) {
		t.Errorf("%s, %v", dir, err)
	}
}

func FuzzInfo(f *testing.F) {
	f.Add([]byte(`{"sha":"` + testCommit + `","siblings":[{"rfilename":"a/b.json","size":3,"blobId":"x","lfs":{"sha256":"y","size":4}}]}`))
	f.Add([]byte(`{"sha":"` + testCommit + `","siblings":[{"rfilename":"../a"},{"rfilename":"a//b"},{"rfilename":"CON"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseInfo(data)
		if err != nil {
			return
		}
		root := t.TempDir()
		for _, x := range l.files {
			rel, err := filepath.Rel(root, filepath.Join(root, filepath.FromSlash(x.Path)))
			if err != nil || rel == "." || !filepath.IsLocal(rel) || x.Size < -1 {
				t.Errorf("%q, %d bytes", x.Path, x.Size)
			}
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("*.[js]son", "a/b.json")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if match("*", name) != true || match(pattern, name) && !match("*"+pattern, "x"+name) {
			t.Errorf("%q, %q", pattern, name)
		}
	})
}
