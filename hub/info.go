package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxInfo bounds the hub's answer about a repository: about half a million files.
const maxInfo = 128 << 20

// File is a file of a revision.
type File struct {
	Path   string
	Size   int64  // -1: unknown
	BlobID string // git's hash of the file, or of its pointer where the bytes are in large file storage
	SHA256 string // of files in large file storage
}

// listing is what a commit holds.
type listing struct {
	commit string
	files  []File
}

// list asks the hub what a revision holds.
func (c *Client) list(ctx context.Context, r Repo, say func(string)) (*listing, error) {
	var l *listing
	var down error // there is no network: what the cache has may do, and no user waits for that
	err := c.retry(ctx, say, func() (bool, error) {
		re, err := c.get(ctx, http.MethodGet, r.infoPath(), nil, nil)
		var t *temporary
		if errors.As(err, &t) && t.unreachable {
			down = err
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer re.end()
		if re.StatusCode != http.StatusOK {
			return false, c.refusal(r, "", re)
		}
		data, err := io.ReadAll(io.LimitReader(re, maxInfo+1))
		switch {
		case err != nil:
			return false, c.netError(re.ctx, re.url, err)
		case len(data) > maxInfo:
			return false, fmt.Errorf("%s: the answer about %s is longer than %d bytes", re.url.Host, r, maxInfo)
		}
		if l, err = parseInfo(data); err != nil {
			return false, fmt.Errorf("%s: the answer about %s: %w", re.url.Host, r, err)
		}
		return true, nil
	})
	return l, errors.Join(err, down)
}

// parseInfo reads the hub's answer about a revision and refuses what would leave the cache.
func parseInfo(data []byte) (*listing, error) {
	var info struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name   string `json:"rfilename"`
			Size   *int64 `json:"size"`
			BlobID string `json:"blobId"`
			LFS    *struct {
				SHA256 string `json:"sha256"`
				Size   *int64 `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return nil, fmt.Errorf("not the JSON of a repository: %w", err)
	}
	if !commitForm.MatchString(info.SHA) {
		return nil, fmt.Errorf("sha %.80q is no commit", info.SHA)
	}
	l := &listing{commit: info.SHA}
	seen := map[string]bool{}
	for _, s := range info.Siblings {
		f := File{Path: s.Name, Size: -1, BlobID: s.BlobID}
		if s.Size != nil {
			f.Size = *s.Size
		}
		if s.LFS != nil {
			f.SHA256 = s.LFS.SHA256
			if s.LFS.Size != nil {
				f.Size = *s.LFS.Size
			}
		}
		switch {
		case !safePath(f.Path):
			return nil, fmt.Errorf("the file name %.200q would leave the snapshot's directory", f.Path)
		case seen[f.Path]:
			return nil, fmt.Errorf("the file %.200q stands twice", f.Path)
		case s.Size != nil && *s.Size < 0, f.Size < -1:
			return nil, fmt.Errorf("the file %.200q has a size of %d", f.Path, f.Size)
		}
		seen[f.Path] = true
		l.files = append(l.files, f)
	}
	return l, nil
}

// meta is what the hub says of a file before it is fetched.
type meta struct {
	etag string // the blob's name: its hash, on a hub
	size int64  // -1: unknown
	own  bool   // etag is that of the bytes' own address, so that a range of them can be tied to it
}

// meta asks for a file's hash and size.
func (c *Client) meta(ctx context.Context, r Repo, commit string, f File) (meta, error) {
	m := meta{size: -1}
	served, linked := "", false
	re, err := c.get(ctx, http.MethodHead, r.filePath(commit, f.Path), nil, func(resp *http.Response) bool {
		m.read(resp, &served, &linked)
		next, err := resp.Location()
		return err == nil && (m.etag == "" || next.Host == c.host.Host && !linked)
	})
	if err != nil {
		return m, err
	}
	defer re.end()
	if re.StatusCode >= 400 {
		return m, c.refusal(r, f.Path, re)
	}
	m.read(re.Response, &served, &linked)
	if m.size < 0 && re.StatusCode == http.StatusOK {
		m.size = re.ContentLength
	}
	if f.Size >= 0 && (m.size < 0 || !linked) {
		m.size = f.Size
	}
	m.own = !linked && !strings.HasPrefix(served, "W/")
	if m.etag == "" {
		return m, fmt.Errorf("%s gives %s no ETag: it is no hub, or a proxy took it off", re.url.Host, f.Path)
	}
	if !etagForm(m.etag) {
		return m, fmt.Errorf("%s gives %s the ETag %.80q, which cannot be a file's name", re.url.Host, f.Path, m.etag)
	}
	if served := re.Header.Get("X-Repo-Commit"); served != "" && served != commit {
		return m, fmt.Errorf("%s has %s of commit %.40q, not of %s", re.url.Host, f.Path, served, commit)
	}
	return m, nil
}

// read takes what a response says of the file; what stands in X-Linked-* of an earlier one counts more.
func (m *meta) read(resp *http.Response, served *string, linked *bool) {
	if e := resp.Header.Get("X-Linked-Etag"); e != "" && !*linked {
		m.etag, *linked = unquote(e), true
		if n, err := strconv.ParseInt(resp.Header.Get("X-Linked-Size"), 10, 64); err == nil && n >= 0 {
			m.size = n
		}
	}
	if e := resp.Header.Get("ETag"); e != "" && !*linked {
		m.etag, *served = unquote(e), e
	}
}

// unquote returns an ETag without its quotes, strong or weak.
func unquote(etag string) string { return strings.Trim(strings.TrimPrefix(etag, "W/"), `"`) }

// etagForm reports whether an ETag may be a blob's name.
func etagForm(etag string) bool {
	ok := len(etag) > 0 && len(etag) <= 128 && etag[0] != '.' && !strings.HasSuffix(etag, ".")
	for _, r := range etag {
		ok = ok && (r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_' || r == '.')
	}
	return ok && !strings.HasSuffix(etag, unfinished) && !strings.HasSuffix(etag, ".link")
}

// tree is a listing as huggingface_hub keeps it beside the snapshots.
type tree struct {
	Version int                 `json:"format_version"`
	Files   map[string]treeFile `json:"files"`
}

type treeFile struct {
	Size    int64  `json:"size"`
	BlobID  string `json:"blob_id"`
	SHA256  string `json:"lfs_sha256,omitempty"`
	LFSSize int64  `json:"lfs_size,omitempty"`
}

// writeTree keeps a listing, unless one is there or the hub did not tell all that belongs in it.
func (l *listing) writeTree(dir string) error {
	path := filepath.Join(dir, "trees", l.commit+".json")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	t := tree{1, map[string]treeFile{}}
	for _, f := range l.files {
		if f.Size < 0 || f.BlobID == "" {
			return nil
		}
		x := treeFile{Size: f.Size, BlobID: f.BlobID, SHA256: f.SHA256}
		if f.SHA256 != "" {
			x.LFSSize = f.Size
		}
		t.Files[f.Path] = x
	}
	data, err := json.MarshalIndent(t, "", " ")
	if err != nil {
		return err
	}
	return replaceFile(path, data)
}

// readTree returns the listing of a commit, where the cache has it.
func readTree(dir, commit string) (*listing, bool) {
	data, err := os.ReadFile(filepath.Join(dir, "trees", commit+".json"))
	if err != nil {
		return nil, false
	}
	var t tree
	if json.Unmarshal(data, &t) != nil || t.Version != 1 {
		return nil, false
	}
	l := &listing{commit: commit}
	for path, x := range t.Files {
		if safePath(path) {
			l.files = append(l.files, File{Path: path, Size: x.Size, BlobID: x.BlobID, SHA256: x.SHA256})
		}
	}
	return l, true
}

// replaceFile writes a small file whole or not at all.
func replaceFile(path string, data []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".krait-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
