package hub

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
)

// Kind is what a repository holds.
type Kind string

// The kinds of repositories.
const (
	Model   Kind = "model"
	Dataset Kind = "dataset"
)

// Repo names a repository and one of its revisions: a branch, a tag, a commit, or empty for the branch main.
type Repo struct {
	Kind     Kind
	Name     string // org/name, or the name alone for the hub's oldest ones
	Revision string
}

const mainBranch = "main"

// datasetPrefix stands before a dataset's name where models and datasets are named side by side, as in the hub's own addresses.
const datasetPrefix = "datasets/"

var (
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)
	commitForm = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	prefixForm = regexp.MustCompile(`^[0-9a-f]{7,63}$`)
)

// ParseRepo reads NAME[@REVISION]. A dataset's name may begin with "datasets/".
func ParseRepo(s string, kind Kind) (Repo, error) {
	name, revision, pinned := strings.Cut(s, "@")
	r := Repo{Kind: kind, Name: name, Revision: revision}
	if rest, ok := strings.CutPrefix(name, datasetPrefix); ok && strings.Contains(rest, "/") {
		r.Kind, r.Name = Dataset, rest
	}
	if pinned && revision == "" {
		return Repo{}, fmt.Errorf("%q: no revision after the @", s)
	}
	return r, r.check()
}

// check refuses names that the hub has not got, and that would lead out of the cache.
func (r Repo) check() error {
	if r.Kind != Model && r.Kind != Dataset {
		return fmt.Errorf("%q: want a model or a dataset", r.Kind)
	}
	parts := strings.Split(r.Name, "/")
	ok := len(parts) <= 2
	for _, p := range parts {
		ok = ok && nameForm.MatchString(p) && !strings.HasSuffix(p, ".") && !strings.HasSuffix(p, "-")
	}
	if !ok || strings.Contains(r.Name, "..") || strings.Contains(r.Name, "--") || strings.HasSuffix(r.Name, ".git") {
		return fmt.Errorf("%q is no name of the hub: want ORG/NAME[@REVISION]", r.Name)
	}
	if r.Revision != "" && !safePath(r.Revision) {
		return fmt.Errorf("%q is no name of a revision", r.Revision)
	}
	return nil
}

// String returns the name as ParseRepo reads it.
func (r Repo) String() string {
	s := r.Name
	if r.Kind == Dataset {
		s = datasetPrefix + s
	}
	if r.Revision != "" {
		s += "@" + r.Revision
	}
	return s
}

// revision returns the revision by name.
func (r Repo) revision() string {
	if r.Revision == "" {
		return mainBranch
	}
	return r.Revision
}

// folder returns the name of the repository's directory in the cache.
func (r Repo) folder() string {
	return string(r.Kind) + "s--" + strings.ReplaceAll(r.Name, "/", "--")
}

// parseFolder undoes folder.
func parseFolder(dir string) (Repo, bool) {
	kinds, name, ok := strings.Cut(dir, "--")
	r := Repo{Kind: Kind(strings.TrimSuffix(kinds, "s")), Name: strings.Replace(name, "--", "/", 1)}
	return r, ok && strings.HasSuffix(kinds, "s") && r.check() == nil
}

// page returns the address that people open, below the endpoint.
func (r Repo) page() string {
	if r.Kind == Dataset {
		return datasetPrefix + r.Name
	}
	return r.Name
}

// infoPath is where the hub says what a revision holds.
func (r Repo) infoPath() string {
	return fmt.Sprintf("api/%ss/%s/revision/%s?blobs=true", r.Kind, r.Name, url.PathEscape(r.revision()))
}

// filePath is where the hub has a file.
func (r Repo) filePath(commit, file string) string {
	parts := strings.Split(file, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return fmt.Sprintf("%s/resolve/%s/%s", r.page(), commit, strings.Join(parts, "/"))
}

// safePath reports whether a path with slashes, joined to a directory, stays below it on every system.
func safePath(p string) bool {
	if p == "" || len(p) > 1024 || strings.ContainsAny(p, "\\:") || !filepath.IsLocal(filepath.FromSlash(p)) {
		return false
	}
	for _, r := range p {
		if r < ' ' || r == 0x7f {
			return false
		}
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}
