package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// unfinished is the end of the name of a blob that is still arriving.
const unfinished = ".incomplete"

// enough is how much a connection must bring for the tries to be counted afresh.
const enough = 1 << 20

// lockEvery is the time between two looks at a lock that another process holds.
const lockEvery = 100 * time.Millisecond

// transfer is one blob on its way into the cache. The blob's lock is held.
type transfer struct {
	p      *pull
	f      File
	m      meta
	sha    string // the SHA-256 that the bytes must have, or empty
	git    string // or git's hash of a blob
	path   string // of the unfinished file
	file   *os.File
	hash   hash.Hash // SHA-256 of the bytes so far
	have   int64     // bytes so far
	high   int64     // the most that there ever were
	served string    // the strong ETag of the address that the bytes came from
	kept   bool      // the beginning is an earlier process's
}

// fetch brings a blob into the cache.
func (p *pull) fetch(ctx context.Context, f File, m meta, blob string) (err error) {
	t := &transfer{p: p, f: f, m: m, path: blob + unfinished}
	switch {
	case len(m.etag) == 64 && isHex(m.etag):
		t.sha = m.etag
	case f.SHA256 != "":
		t.sha = f.SHA256
	case len(m.etag) == 40 && isHex(m.etag):
		t.git = m.etag
	}
	if t.file, err = os.OpenFile(t.path, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return err
	}
	defer func() { t.file.Close() }()
	if err := t.takeUp(); err != nil {
		return err
	}
	for {
		if err := t.run(ctx); err != nil {
			return err
		}
		err := t.verify()
		if err == nil {
			break
		}
		if !t.kept {
			return errors.Join(err, t.discard())
		}
		p.sayOf(f)("what an earlier download left does not fit, starting again")
		if err := t.restart(); err != nil {
			return err
		}
	}
	if err := errors.Join(t.file.Sync(), t.file.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", t.path, pathless(err)), t.discard())
	}
	if err := os.Remove(blob); err != nil && !errors.Is(err, os.ErrNotExist) { // a damaged one; rename alone would fail where it is open
		return err
	}
	return os.Rename(t.path, blob)
}

// takeUp reads what an earlier process left.
func (t *transfer) takeUp() error {
	t.hash = sha256.New()
	n, err := io.Copy(t.hash, t.file)
	if err != nil {
		return err
	}
	t.have, t.high, t.kept = n, n, n > 0
	t.count(n)
	if t.m.size >= 0 && n > t.m.size {
		return t.restart()
	}
	return nil
}

// count adds to the bytes that are there; where their number was unknown, it becomes known so.
func (t *transfer) count(n int64) {
	if t.m.size < 0 {
		t.p.expect(n)
	}
	t.p.count(n)
}

// restart throws away what has arrived.
func (t *transfer) restart() error {
	t.count(-t.have)
	t.hash.Reset()
	t.have, t.served, t.kept = 0, "", false
	if err := t.file.Truncate(0); err != nil {
		return err
	}
	_, err := t.file.Seek(0, io.SeekStart)
	return err
}

// discard removes the unfinished file.
func (t *transfer) discard() error {
	t.count(-t.have)
	t.have = 0
	t.file.Close() // some systems do not remove open files; an error of closing changes nothing
	return os.RemoveAll(t.path)
}

// run brings the bytes that are missing.
func (t *transfer) run(ctx context.Context) error {
	if t.m.size >= 0 && t.have == t.m.size {
		return nil
	}
	return t.p.c.retry(ctx, t.p.sayOf(t.f), func() (bool, error) {
		err := t.attempt(ctx)
		var disk *diskError
		if errors.As(err, &disk) { // the space that is left is the user's
			err = errors.Join(err, t.discard())
		}
		brought := t.have >= t.high+enough
		t.high = max(t.high, t.have)
		return brought, err
	})
}

// attempt asks once for what is missing and takes what comes.
func (t *transfer) attempt(ctx context.Context) error {
	header := http.Header{}
	if t.have > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", t.have))
		if t.m.own {
			header.Set("If-Range", strconv.Quote(t.m.etag))
		} else if t.served != "" {
			header.Set("If-Range", t.served)
		}
	}
	p := t.p
	re, err := p.c.get(ctx, http.MethodGet, p.r.filePath(p.commit, t.f.Path), header, nil)
	if err != nil {
		return err
	}
	defer re.end()
	if re.StatusCode != http.StatusOK && re.StatusCode != http.StatusPartialContent && re.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		return p.c.refusal(p.r, t.f.Path, re)
	}
	if done, err := t.agree(re); done || err != nil {
		return err
	}
	return t.receive(re)
}

// agree makes sure that the body of an answer goes on where the file ends; done is true where nothing is missing.
func (t *transfer) agree(re *reply) (done bool, err error) {
	served := re.Header.Get("ETag")
	if strings.HasPrefix(served, "W/") {
		served = ""
	}
	begin, total, ok := parseContentRange(re.Header.Get("Content-Range"))
	why := ""
	switch {
	case re.StatusCode == http.StatusOK:
		if t.have > 0 { // the server has no ranges, or the file has changed
			err = t.restart()
		}
		t.served = served
		return false, err
	case re.StatusCode == http.StatusRequestedRangeNotSatisfiable && t.m.size < 0 && total == t.have:
		return true, nil
	case re.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		why = "has no bytes behind those that are here"
	case !ok || begin != t.have:
		why = "sends other bytes than it was asked for"
	case total >= 0 && t.m.size >= 0 && total != t.m.size:
		why = fmt.Sprintf("has a file of %d bytes, not of %d", total, t.m.size)
	case t.served != "" && served != "" && served != t.served:
		why = "has another file now"
	default:
		t.served = served
		return false, nil
	}
	return false, errors.Join(&temporary{fmt.Errorf("%s %s", re.url.Host, why), 0, false}, t.restart())
}

// receive appends the body of an answer to the file.
func (t *transfer) receive(re *reply) error {
	buffer := make([]byte, 256<<10)
	for t.m.size < 0 || t.have < t.m.size {
		n, readErr := re.Read(buffer)
		if t.m.size >= 0 {
			n = int(min(int64(n), t.m.size-t.have)) // what is more than the file's size is none of it; the hash will tell
		}
		written, err := t.file.Write(buffer[:n])
		t.hash.Write(buffer[:written])
		t.have += int64(written)
		t.p.received(int64(written))
		t.count(int64(written))
		switch {
		case err != nil:
			return &diskError{fmt.Errorf("write %s: %w", t.path, pathless(err))}
		case readErr == io.EOF && t.have < t.m.size:
			return &temporary{fmt.Errorf("%s ended after %d of %d bytes", re.url.Host, t.have, t.m.size), 0, false}
		case readErr == io.EOF:
			return nil
		case readErr != nil && t.have != t.m.size:
			return t.p.c.netError(re.ctx, re.url, readErr)
		}
	}
	return nil
}

// diskError is an error of writing, which no other connection can help.
type diskError struct{ error }

func (e *diskError) Unwrap() error { return e.error }

// verify compares the bytes with the hash that the hub gives for them.
func (t *transfer) verify() error {
	kind, want, got := "SHA-256", t.sha, hex.EncodeToString(t.hash.Sum(nil))
	if t.git != "" {
		var err error
		if kind, want = "git hash", t.git; t.sha == "" {
			got, err = gitHash(t.file, t.have)
		}
		if err != nil {
			return err
		}
	}
	if want == "" || got == want {
		return nil
	}
	return fmt.Errorf("%s: the %s of what %s sent is %s, not %s: the download was damaged and is removed, try again",
		t.f.Path, kind, t.p.c.host.Host, got, want)
}

// gitHash returns git's hash of a file of n bytes.
func gitHash(f *os.File, n int64) (string, error) {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", n)
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, n)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lock waits for the lock of a blob; unlock gives it back.
func (p *pull) lock(ctx context.Context, f File, etag string) (unlock func(), err error) {
	path := filepath.Join(p.c.locks(p.r), etag+".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, err
	}
	l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o666))
	ok, err := l.TryLock()
	if err == nil && !ok {
		p.sayOf(f)("waiting for another download of it")
		_, err = l.TryLockContext(ctx, lockEvery)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("lock %s: %w", path, pathless(err))
	}
	return func() { l.Unlock() }, nil
}

// parseContentRange reads "bytes 3-9/10", "bytes 3-9/*" and "bytes */10"; total is -1 where it is unknown.
func parseContentRange(s string) (begin, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, size, slash := strings.Cut(s, "/")
	total, err := strconv.ParseInt(size, 10, 64)
	if err != nil || total < 0 {
		total = -1
	}
	if !ok || !slash {
		return 0, -1, false
	}
	first, last, dash := strings.Cut(span, "-")
	begin, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	return begin, total, dash && err1 == nil && err2 == nil && begin >= 0 && begin <= end
}

// whole reports whether a file is there with its size, which is -1 where it is unknown.
func whole(path string, size int64) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && (size < 0 || info.Size() == size)
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// pathless takes the path off an error that names it anyway.
func pathless(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
