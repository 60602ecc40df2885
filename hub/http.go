package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxRedirects = 10
	tries        = 6               // in a row that bring nothing
	firstWait    = time.Second / 2 // doubled from try to try
	longestWait  = 16 * time.Second
	longWait     = 10 * time.Second // is worth telling
	longestAsked = 5 * time.Minute  // that a server's Retry-After is followed: the window in which the hub counts requests
)

// temporary is an error that may be gone a moment later.
type temporary struct {
	err         error
	after       time.Duration // what the server asked to wait, or 0
	unreachable bool          // no server was reached
}

func (t *temporary) Error() string { return t.err.Error() }
func (t *temporary) Unwrap() error { return t.err }

// retry calls try until it succeeds, fails for good, or has failed too often in a row without bringing anything.
func (c *Client) retry(ctx context.Context, say func(string), try func() (brought bool, err error)) error {
	for n := 0; ; {
		brought, err := try()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var t *temporary
		if !errors.As(err, &t) {
			return err
		}
		if n++; brought {
			n = 1
		}
		if n >= tries {
			return &temporary{fmt.Errorf("%w (tried %d times)", err, tries), 0, t.unreachable}
		}
		wait := min(firstWait<<(n-1), longestWait)
		wait = wait/2 + time.Duration(c.jitter()*float64(wait/2))
		if t.after > 0 {
			wait = t.after + time.Duration(c.jitter()*float64(firstWait))
		}
		if wait > longWait {
			say(fmt.Sprintf("%v; trying again in %s", err, wait.Round(time.Second)))
		}
		if err := c.sleep(ctx, wait); err != nil {
			return context.Cause(ctx)
		}
	}
}

// errSilent is the cause of a request that a watchdog ended.
var errSilent = errors.New("silent server")

// watchdog ends a request whose server is silent for too long.
type watchdog struct {
	timer   *time.Timer
	timeout time.Duration
	cancel  context.CancelCauseFunc
}

// watch returns a context that the watchdog ends; it is on guard already.
func (c *Client) watch(ctx context.Context) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{timeout: c.timeout, cancel: cancel}
	w.timer = time.AfterFunc(c.timeout, func() { cancel(errSilent) })
	return ctx, w
}

func (w *watchdog) guard() { w.timer.Reset(w.timeout) }
func (w *watchdog) rest()  { w.timer.Stop() }
func (w *watchdog) close() { w.timer.Stop(); w.cancel(nil) }

// reply is a response and where it came from.
type reply struct {
	*http.Response
	url *url.URL
	dog *watchdog
	ctx context.Context
}

// Read reads the body while the watchdog is on guard.
func (r *reply) Read(p []byte) (int, error) {
	r.dog.guard()
	n, err := r.Body.Read(p)
	r.dog.rest()
	return n, err
}

// end ends the exchange.
func (r *reply) end() {
	r.Body.Close()
	r.dog.close()
}

// get sends a request to a path below the endpoint and follows redirects for as long as follow, which may be nil, agrees. The token goes
// to the endpoint and nowhere else: files lie on other hosts, which have no business with it.
func (c *Client) get(ctx context.Context, method, path string, header http.Header, follow func(*http.Response) bool) (*reply, error) {
	u, err := url.Parse(c.Endpoint + "/" + path)
	if err != nil {
		return nil, fmt.Errorf("no address: %w", err)
	}
	ctx, dog := c.watch(ctx)
	for range maxRedirects {
		req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
		if err != nil {
			dog.close()
			return nil, fmt.Errorf("no address: %w", inner(err))
		}
		for k, v := range header {
			req.Header[k] = v
		}
		req.Header.Set("User-Agent", c.UserAgent)
		req.Header.Set("Accept-Encoding", "identity")
		if c.token != "" && u.Scheme == c.host.Scheme && u.Host == c.host.Host {
			req.Header.Set("Authorization", "Bearer "+c.token)
		}
		dog.guard()
		resp, err := c.http.Do(req)
		if err != nil {
			err = c.netError(ctx, u, err)
			dog.close()
			return nil, err
		}
		dog.rest()
		next, err := resp.Location()
		if resp.StatusCode < 301 || resp.StatusCode > 308 || resp.StatusCode == http.StatusNotModified || err != nil || follow != nil && !follow(resp) {
			return &reply{resp, u, dog, ctx}, nil
		}
		resp.Body.Close()
		if next.Scheme != "http" && next.Scheme != "https" || u.Scheme == "https" && next.Scheme == "http" {
			dog.close()
			return nil, fmt.Errorf("%s redirects to a %s address", u.Host, next.Scheme)
		}
		u = next
	}
	dog.close()
	return nil, fmt.Errorf("%s redirects more than %d times", c.host.Host, maxRedirects)
}

// netError says in words why a server gave no answer, or stopped. It names the host alone: an address may hold a signature.
func (c *Client) netError(ctx context.Context, u *url.URL, err error) error {
	if errors.Is(context.Cause(ctx), errSilent) {
		return &temporary{fmt.Errorf("%s was silent for %s", u.Host, c.timeout), 0, false}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = inner(err)
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		return fmt.Errorf("%s: %w", u.Host, err)
	}
	var op *net.OpError
	var dns *net.DNSError
	unreachable := errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") || errors.As(err, &dns)
	switch {
	case errors.As(err, &dns):
		err = fmt.Errorf("cannot find %s: %s", u.Hostname(), dns.Err)
	case unreachable:
		err = fmt.Errorf("cannot reach %s: %w", u.Host, op.Err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = fmt.Errorf("%s ended the connection early", u.Host)
	default:
		err = fmt.Errorf("%s: %w", u.Host, err)
	}
	return &temporary{err, 0, unreachable}
}

// inner takes the address off an error of net/http.
func inner(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// refusal returns the error that a status other than success stands for; file may be empty.
func (c *Client) refusal(r Repo, file string, re *reply) error {
	status, code := re.StatusCode, re.Header.Get("X-Error-Code")
	message := strings.TrimSpace(strings.ToValidUTF8(re.Header.Get("X-Error-Message"), "?"))
	page := c.Endpoint + "/" + r.page()
	switch {
	case status == http.StatusTooManyRequests:
		return &temporary{fmt.Errorf("%s says that there were too many requests (429)", re.url.Host), c.retryAfter(re), false}
	case status == http.StatusRequestTimeout, status >= 500 && status != http.StatusNotImplemented:
		return &temporary{fmt.Errorf("%s answers %s", re.url.Host, re.Status), c.retryAfter(re), false}
	case re.url.Host != c.host.Host && status >= 400: // an address that was signed for a while
		return &temporary{fmt.Errorf("%s, where %s keeps the file, answers %s", re.url.Host, c.host.Host, re.Status), 0, false}
	case code == "GatedRepo" && c.token == "":
		return fmt.Errorf("%s is gated: accept its terms at %s and set HF_TOKEN to a token of your account", r.Name, page)
	case code == "GatedRepo":
		return fmt.Errorf("%s is gated, and the account of your HF_TOKEN has no access: ask for it at %s", r.Name, page)
	case code == "RevisionNotFound":
		return fmt.Errorf("%s has no revision %s: see %s", r.Name, r.revision(), page)
	case code == "EntryNotFound" || status == http.StatusNotFound && file != "":
		return fmt.Errorf("%s has no file %s at this revision", r.Name, file)
	case code == "RepoNotFound" && c.token == "" || status == http.StatusUnauthorized && c.token == "":
		return fmt.Errorf("%s has no %s %s, or it is not public: then set HF_TOKEN", c.host.Host, r.Kind, r.Name)
	case status == http.StatusUnauthorized && code != "RepoNotFound":
		return fmt.Errorf("%s does not accept your HF_TOKEN for %s: is it whole and still valid?", c.host.Host, r.Name)
	case code == "RepoNotFound" || status == http.StatusNotFound:
		return fmt.Errorf("%s has no %s %s that your HF_TOKEN may see", c.host.Host, r.Kind, r.Name)
	case status == http.StatusForbidden:
		return fmt.Errorf("%s denies access to %s%s: see %s", c.host.Host, r.Name, after(": ", message), page)
	}
	return fmt.Errorf("%s answers %s%s", re.url.Host, re.Status, after(": ", message))
}

// after returns text behind a separator, or nothing.
func after(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text[:min(len(text), 300)]
}

// retryAfter returns how long the server wants us to wait, within reason; 0 where it does not say.
func (c *Client) retryAfter(re *reply) time.Duration {
	h := strings.TrimSpace(re.Header.Get("Retry-After"))
	var wait time.Duration
	if seconds, err := strconv.ParseUint(h, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(h); err == nil {
		now, err := http.ParseTime(re.Header.Get("Date")) // the server's clock may not be ours
		if err != nil {
			now = c.now()
		}
		wait = date.Sub(now)
	}
	return min(max(wait, 0), longestAsked)
}
