package hub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// DefaultEndpoint is the hub that is asked where HF_ENDPOINT names no other.
const DefaultEndpoint = "https://huggingface.co"

// defaultTimeout is how long a server may be silent, as in huggingface_hub.
const defaultTimeout = 10 * time.Second

// Client knows a hub and a cache. Its methods may be called at the same time.
type Client struct {
	Cache     string // the directory that holds the cache
	Endpoint  string // the hub's address, without a slash at its end
	Offline   bool   // use what the cache has
	UserAgent string
	Parallel  int // files that are fetched at once

	host     *url.URL // of Endpoint
	token    string
	timeout  time.Duration
	http     *http.Client
	symlink  func(target, link string) error
	hardlink func(old, new string) error
	free     func(dir string) (bytes int64, ok bool)
	sleep    func(context.Context, time.Duration) error
	jitter   func() float64 // from 0 to 1
	now      func() time.Time
}

// New returns a client as the environment wants it: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE,
// HF_HUB_DISABLE_SYMLINKS, HF_HUB_DOWNLOAD_TIMEOUT and XDG_CACHE_HOME mean what they mean to huggingface_hub; HTTP_PROXY,
// HTTPS_PROXY and NO_PROXY what they mean everywhere. It touches no network and writes nothing.
func New(getenv func(string) string) (*Client, error) {
	c := &Client{
		Endpoint: strings.TrimRight(or(getenv("HF_ENDPOINT"), DefaultEndpoint), "/"), Offline: isTrue(getenv("HF_HUB_OFFLINE")),
		UserAgent: "krait", Parallel: 4, timeout: defaultTimeout, symlink: os.Symlink, hardlink: os.Link, free: freeSpace,
		sleep: sleep, jitter: rand.Float64, now: time.Now,
	}
	var err error
	if c.host, err = url.Parse(c.Endpoint); err != nil || c.host.Scheme != "http" && c.host.Scheme != "https" || c.host.Host == "" {
		return nil, fmt.Errorf("HF_ENDPOINT is %q, want an address such as %s", c.Endpoint, DefaultEndpoint)
	}
	if t := getenv("HF_HUB_DOWNLOAD_TIMEOUT"); t != "" {
		seconds, err := strconv.ParseFloat(t, 64)
		if err != nil || !(seconds > 0 && seconds < 1e6) {
			return nil, fmt.Errorf("HF_HUB_DOWNLOAD_TIMEOUT is %q, want a number of seconds", t)
		}
		c.timeout = time.Duration(seconds * float64(time.Second))
	}
	if isTrue(getenv("HF_HUB_DISABLE_SYMLINKS")) {
		c.symlink = func(string, string) error { return os.ErrPermission }
	}
	home, err := hubHome(getenv)
	if err != nil {
		return nil, err
	}
	if c.Cache, err = expand(or(getenv("HF_HUB_CACHE"), filepath.Join(home, "hub")), getenv); err != nil {
		return nil, err
	}
	if c.token = strings.TrimSpace(getenv("HF_TOKEN")); c.token == "" {
		path, err := expand(or(getenv("HF_TOKEN_PATH"), filepath.Join(home, "token")), getenv)
		if err != nil {
			return nil, err
		}
		if data, err := os.ReadFile(path); err == nil {
			c.token = strings.TrimSpace(string(data))
		}
	}
	if strings.ContainsFunc(c.token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, fmt.Errorf("HF_TOKEN, or the file HF_TOKEN_PATH, holds what no token has: white space or other signs within it")
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: c.timeout, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2: true, TLSHandshakeTimeout: c.timeout, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute,
			DisableCompression: true, // sizes and ranges are those of the file
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// hubHome returns the directory for the cache and the token.
func hubHome(getenv func(string) string) (string, error) {
	return expand(or(getenv("HF_HOME"), filepath.Join(or(getenv("XDG_CACHE_HOME"), filepath.Join("~", ".cache")), "huggingface")), getenv)
}

// expand replaces ~ and variables at the beginning or within a path, as huggingface_hub does.
func expand(path string, getenv func(string) string) (string, error) {
	path = os.Expand(path, getenv)
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || os.IsPathSeparator(rest[0])) {
		home := getenv("HOME")
		if home == "" {
			var err error
			if home, err = os.UserHomeDir(); err != nil {
				return "", fmt.Errorf("where the hub's cache is: %w: set HF_HOME", err)
			}
		}
		path = filepath.Join(home, rest)
	}
	return filepath.Abs(path)
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func isTrue(value string) bool {
	switch strings.ToUpper(value) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
