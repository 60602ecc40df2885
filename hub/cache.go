package hub

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// ErrNotCached is what the errors of Resolve, Remove and an offline Snapshot are where the cache has no such thing.
var ErrNotCached = errors.New("not in the cache")

// notCached is an ErrNotCached with a sentence of its own.
type notCached struct{ text string }

func (e *notCached) Error() string        { return e.text }
func (e *notCached) Is(target error) bool { return target == ErrNotCached }

// Resolve returns the directory of a snapshot in the cache. The revision may also be the beginning of a commit.
func (c *Client) Resolve(r Repo) (string, error) {
	p, err := c.resolve(r)
	if err != nil {
		return "", err
	}
	return p.snapshotDir(), nil
}

func (c *Client) resolve(r Repo) (*pull, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	p := &pull{c: c, r: r, dir: filepath.Join(c.Cache, r.folder())}
	commits := commitsOf(p.dir)
	p.commit = refsOf(p.dir)[r.revision()]
	if p.commit == "" {
		found := slices.DeleteFunc(slices.Clone(commits), func(s string) bool {
			return s != r.Revision && !(prefixForm.MatchString(r.Revision) && strings.HasPrefix(s, r.Revision))
		})
		if len(found) > 1 {
			return nil, fmt.Errorf("%s: several commits begin so", r)
		}
		p.commit = strings.Join(found, "")
	}
	switch {
	case p.commit != "" && slices.Contains(commits, p.commit):
		return p, nil
	case len(commits) > 0 && len(refsOf(p.dir)) == 0 && r.Revision == "":
		return nil, &notCached{fmt.Sprintf("%s is in the cache in part only: an earlier pull did not reach its end", r)}
	case len(commits) > 0:
		return nil, &notCached{fmt.Sprintf("the cache has %s, but not its revision %s", r.Name, r.revision())}
	}
	return nil, &notCached{fmt.Sprintf("%s is not in the cache", r)}
}

// cached returns a snapshot without asking the hub. Where the cache knows what the revision holds, all that the filter chooses must be there.
func (c *Client) cached(r Repo, f Filter) (*Snapshot, error) {
	p, err := c.resolve(r)
	if err != nil {
		return nil, err
	}
	l, known := readTree(p.dir, p.commit)
	if !known {
		l = &listing{commit: p.commit, files: filesBelow(p.snapshotDir())}
	}
	slices.SortFunc(l.files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	files, err := f.choose(r, l.files)
	if err != nil {
		return nil, err
	}
	for _, x := range files {
		if !whole(p.pointer(x), x.Size) {
			return nil, &notCached{fmt.Sprintf("%s of %s is not in the cache", x.Path, r)}
		}
	}
	return p.snapshot(files), nil
}

// filesBelow lists the files of a snapshot.
func filesBelow(dir string) []File {
	var files []File
	_ = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, File{Path: path, Size: -1})
		}
		return nil // what cannot be read is not there
	})
	return files
}

// Cached is a repository in the cache.
type Cached struct {
	Repo     Repo              // without a revision
	Dir      string            // all that the cache has of it
	Refs     map[string]string // the commits of its branches and tags
	Commits  []string          // its snapshots, the youngest first
	Bytes    int64             // on the disk
	Modified time.Time         // when the youngest snapshot came
	Partial  bool              // a download of it did not reach its end
}

// Commit returns the commit that the name alone means, or the youngest where it means none; empty where there is no snapshot.
func (x *Cached) Commit() string {
	if main := x.Refs[mainBranch]; slices.Contains(x.Commits, main) || len(x.Commits) == 0 {
		return main
	}
	return x.Commits[0]
}

// List returns what the cache has, the youngest first. A cache that does not exist has nothing.
func (c *Client) List() ([]Cached, error) {
	entries, err := os.ReadDir(c.Cache)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Cached
	for _, e := range entries {
		r, ok := parseFolder(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		x := Cached{Repo: r, Dir: filepath.Join(c.Cache, e.Name())}
		x.Refs, x.Commits, x.Bytes = refsOf(x.Dir), commitsOf(x.Dir), bytesOf(x.Dir)
		parts, err := filepath.Glob(filepath.Join(escapeGlob(x.Dir), "blobs", "*"+unfinished))
		x.Partial = err == nil && len(parts) > 0
		at := x.Dir
		if len(x.Commits) > 0 {
			at = filepath.Join(x.Dir, "snapshots", x.Commits[0])
		}
		if info, err := os.Stat(at); err == nil {
			x.Modified = info.ModTime()
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b Cached) int {
		return cmp.Or(b.Modified.Compare(a.Modified), cmp.Compare(a.Repo.String(), b.Repo.String()))
	})
	return list, nil
}

// Remove removes all that the cache has of a repository, and returns how many bytes that were. It removes nothing else, and nothing while a
// download of it goes on.
func (c *Client) Remove(r Repo) (int64, error) {
	if err := r.check(); err != nil {
		return 0, err
	}
	if r.Revision != "" {
		return 0, fmt.Errorf("%s: revisions share files, so only all of %s can be removed", r, Repo{Kind: r.Kind, Name: r.Name})
	}
	dir := filepath.Join(c.Cache, r.folder())
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return 0, &notCached{fmt.Sprintf("%s is not in the cache", r)}
	} else if err != nil {
		return 0, err
	}
	locks, err := filepath.Glob(filepath.Join(escapeGlob(c.locks(r)), "*.lock"))
	if err != nil {
		return 0, err
	}
	for _, path := range locks {
		l := flock.New(path)
		ok, err := l.TryLock()
		if err != nil {
			return 0, fmt.Errorf("lock %s: %w", path, pathless(err))
		}
		if !ok {
			return 0, fmt.Errorf("%s is being downloaded by another process: stop that first", r)
		}
		defer l.Unlock()
	}
	n := bytesOf(dir)
	if info, err := os.Lstat(dir); err == nil && info.IsDir() {
		for _, part := range []string{"refs", "snapshots"} { // first, so that no name leads to half a model if this is cut short
			if err := os.RemoveAll(filepath.Join(dir, part)); err != nil {
				return 0, err
			}
		}
	}
	return n, os.RemoveAll(dir)
}

// locks returns the directory of a repository's locks.
func (c *Client) locks(r Repo) string { return filepath.Join(c.Cache, ".locks", r.folder()) }

// escapeGlob takes the meaning from what a pattern would mean.
func escapeGlob(path string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(path)
}

// refsOf reads the names of a repository's commits.
func refsOf(dir string) map[string]string {
	refs := map[string]string{}
	root := os.DirFS(filepath.Join(dir, "refs"))
	for _, f := range filesBelow(filepath.Join(dir, "refs")) {
		if data, err := fs.ReadFile(root, f.Path); err == nil {
			if commit := strings.TrimSpace(string(data)); commitForm.MatchString(commit) {
				refs[f.Path] = commit
			}
		}
	}
	return refs
}

// commitsOf lists a repository's snapshots, the youngest first.
func commitsOf(dir string) []string {
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil {
		return nil
	}
	var commits []string
	age := map[string]time.Time{}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() && commitForm.MatchString(e.Name()) {
			commits, age[e.Name()] = append(commits, e.Name()), info.ModTime()
		}
	}
	slices.SortStableFunc(commits, func(a, b string) int { return age[b].Compare(age[a]) })
	return commits
}

// bytesOf returns the bytes of a repository's files; one that has two names counts once.
func bytesOf(dir string) int64 {
	seen := map[int64][]fs.FileInfo{}
	var n int64
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what cannot be read is not counted
		}
		info, err := d.Info()
		if err != nil || slices.ContainsFunc(seen[info.Size()], func(x fs.FileInfo) bool { return os.SameFile(x, info) }) {
			return nil
		}
		seen[info.Size()] = append(seen[info.Size()], info)
		n += info.Size()
		return nil
	})
	return n
}
