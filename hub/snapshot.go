package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Progress is how far a snapshot is. Say is not empty where there is something to tell: a wait, a server's silence, a fall-back.
type Progress struct {
	Done, Total           int64 // bytes, of the files whose size is known
	Fetched               int64 // bytes that came over the network
	FilesDone, FilesTotal int
	Say                   string
}

// Snapshot is a revision of a repository in the cache.
type Snapshot struct {
	Dir        string // holds the files, by their names
	Commit     string
	Files      []string // that the filter chose
	Bytes      int64    // of these files
	Downloaded int64    // bytes that came over the network for it
}

// pull is a snapshot in the making.
type pull struct {
	c      *Client
	r      Repo
	commit string
	dir    string // the repository's, in the cache

	mu       sync.Mutex // guards what is below, and calls of report
	report   func(Progress)
	progress Progress
}

// Snapshot brings the files of a revision that the filter chooses into the cache, and returns where they are. What is there is not
// fetched again, what had begun to arrive is taken up. The revision's name points to the new commit once all of them are there. Without a
// network, or where the client is offline, it returns what the cache has. report, which may be nil, is never called twice at a time.
func (c *Client) Snapshot(ctx context.Context, r Repo, f Filter, report func(Progress)) (*Snapshot, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	p := &pull{c: c, r: r, dir: filepath.Join(c.Cache, r.folder()), report: report}
	if c.Offline {
		s, err := c.cached(r, f)
		if err != nil {
			err = fmt.Errorf("%w (HF_HUB_OFFLINE is set)", err)
		}
		return s, err
	}
	l, err := c.list(ctx, r, p.say)
	var t *temporary
	if errors.As(err, &t) && ctx.Err() == nil {
		s, missing := c.cached(r, f)
		if missing != nil {
			return nil, fmt.Errorf("%w, and %w", err, missing)
		}
		p.say(fmt.Sprintf("%v; using the copy of %s in the cache", err, r))
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	files, err := f.choose(r, l.files)
	if err != nil {
		return nil, err
	}
	p.commit = l.commit
	if err := p.prepare(files); err != nil {
		return nil, err
	}
	if err := p.all(ctx, files); err != nil {
		return nil, err
	}
	if err := p.finish(l, files); err != nil {
		return nil, err
	}
	s := p.snapshot(files)
	s.Downloaded = p.progress.Fetched
	return s, nil
}

// snapshotDir returns the directory of the files.
func (p *pull) snapshotDir() string { return filepath.Join(p.dir, "snapshots", p.commit) }

// pointer returns the path of a file in the snapshot.
func (p *pull) pointer(f File) string {
	return filepath.Join(p.snapshotDir(), filepath.FromSlash(f.Path))
}

// prepare makes the directories, and looks whether there is space for what is missing.
func (p *pull) prepare(files []File) error {
	for _, d := range []string{p.snapshotDir(), filepath.Join(p.dir, "blobs")} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			return err
		}
	}
	tag := filepath.Join(p.c.Cache, "CACHEDIR.TAG") // so that backups leave it out: bford.info/cachedir
	if _, err := os.Stat(tag); errors.Is(err, os.ErrNotExist) {
		text := "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by krait.\n"
		if err := replaceFile(tag, []byte(text)); err != nil {
			return err
		}
	}
	var missing int64
	for _, f := range files {
		if f.Size < 0 {
			continue
		}
		p.progress.Total += f.Size
		if whole(p.pointer(f), f.Size) {
			continue
		}
		missing += f.Size
		for _, name := range []string{f.SHA256, f.SHA256 + unfinished, f.BlobID, f.BlobID + unfinished} {
			if info, err := os.Stat(filepath.Join(p.dir, "blobs", name)); err == nil && info.Mode().IsRegular() {
				missing -= min(info.Size(), f.Size)
				break
			}
		}
	}
	p.progress.FilesTotal = len(files)
	if free, ok := p.c.free(p.dir); ok && missing > free {
		return fmt.Errorf("%s needs %d more bytes, and %s has %d left: make space, or set HF_HUB_CACHE to another disk", p.r, missing, p.c.Cache, free)
	}
	return nil
}

// all fetches files, several at a time. The first error ends the others' work too; what has arrived stays.
func (p *pull) all(ctx context.Context, files []File) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan File)
	var workers sync.WaitGroup
	for range min(max(p.c.Parallel, 1), len(files)) {
		workers.Go(func() {
			for f := range next {
				err := p.one(ctx, f)
				var t *temporary
				if errors.As(err, &t) {
					err = fmt.Errorf("%s: %w", f.Path, err)
				}
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, f := range files {
		select {
		case next <- f:
		case <-ctx.Done():
		}
	}
	close(next)
	workers.Wait()
	return context.Cause(ctx)
}

// one brings one file into the snapshot.
func (p *pull) one(ctx context.Context, f File) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	pointer := p.pointer(f)
	if info, err := os.Stat(pointer); err == nil && whole(pointer, f.Size) {
		if f.Size < 0 {
			p.expect(info.Size())
		}
		p.count(info.Size())
		p.fileDone()
		return nil
	}
	var m meta
	err := p.c.retry(ctx, p.sayOf(f), func() (_ bool, err error) {
		m, err = p.c.meta(ctx, p.r, p.commit, f)
		return false, err
	})
	if err != nil {
		return err
	}
	if f.Size < 0 && m.size >= 0 {
		p.expect(m.size)
	}
	unlock, err := p.lock(ctx, f, m.etag)
	if err != nil {
		return err
	}
	defer unlock()
	blob := filepath.Join(p.dir, "blobs", m.etag)
	if info, err := os.Stat(blob); err == nil && whole(blob, m.size) {
		p.count(info.Size())
	} else if err := p.fetch(ctx, f, m, blob); err != nil {
		return err
	}
	if err := p.link(blob, pointer); err != nil {
		return err
	}
	p.fileDone()
	return nil
}

// link makes a file of the snapshot from its blob: a relative link, or the file itself where there are no links.
func (p *pull) link(blob, pointer string) error {
	if err := os.MkdirAll(filepath.Dir(pointer), 0o777); err != nil {
		return err
	}
	target, err := filepath.Rel(filepath.Dir(pointer), blob)
	if err != nil {
		return err
	}
	tmp := blob + ".link"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if p.c.symlink(target, tmp) != nil && p.c.hardlink(blob, tmp) != nil {
		if err := copyFile(blob, tmp); err != nil {
			return errors.Join(fmt.Errorf("write %s: %w", tmp, pathless(err)), os.RemoveAll(tmp))
		}
	}
	if err := os.Rename(tmp, pointer); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) { // rename leaves a name of the same file where it is
		return err
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// finish makes sure that the snapshot is whole and lets the revision's name point to it.
func (p *pull) finish(l *listing, files []File) error {
	for _, f := range files {
		if !whole(p.pointer(f), -1) {
			return fmt.Errorf("%s has gone from the cache while %s was pulled: pull it again", f.Path, p.r)
		}
	}
	if err := l.writeTree(p.dir); err != nil {
		return err
	}
	if p.r.revision() == p.commit {
		return nil
	}
	return replaceFile(filepath.Join(p.dir, "refs", filepath.FromSlash(p.r.revision())), []byte(p.commit))
}

// snapshot describes files that are there.
func (p *pull) snapshot(files []File) *Snapshot {
	s := &Snapshot{Dir: p.snapshotDir(), Commit: p.commit}
	for _, f := range files {
		s.Files = append(s.Files, f.Path)
		if info, err := os.Stat(p.pointer(f)); err == nil {
			s.Bytes += info.Size()
		}
	}
	return s
}

// say tells the caller something.
func (p *pull) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.report != nil {
		e := p.progress
		e.Say = text
		p.report(e)
	}
}

// sayOf returns say for what concerns one file.
func (p *pull) sayOf(f File) func(string) {
	return func(text string) { p.say(f.Path + ": " + text) }
}

// count adds to the bytes that are there.
func (p *pull) count(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.Done += n
	if p.report != nil && n != 0 {
		p.report(p.progress)
	}
}

// received counts bytes that came over the network.
func (p *pull) received(n int64) {
	p.mu.Lock()
	p.progress.Fetched += n
	p.mu.Unlock()
}

// expect adds to the bytes that there will be.
func (p *pull) expect(n int64) {
	p.mu.Lock()
	p.progress.Total += n
	p.mu.Unlock()
}

func (p *pull) fileDone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.FilesDone++
	if p.report != nil {
		p.report(p.progress)
	}
}
