package hub

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Filter chooses files of a repository by shell patterns in which * and ? match a slash too, as in huggingface_hub. A pattern that ends
// in a slash means everything below. Without Include it is all of a dataset, and of a model what is needed to run it.
type Filter struct {
	Include, Exclude []string
}

// choose returns the files that the filter wants, in order.
func (f Filter) choose(r Repo, all []File) ([]File, error) {
	want := func(name string) bool { return matchAny(f.Include, name) }
	if len(f.Include) == 0 {
		want = func(string) bool { return true }
		if r.Kind == Model {
			want = wantedOfModel(all)
		}
	}
	var list []File
	for _, x := range all {
		if want(x.Path) && !matchAny(f.Exclude, x.Path) {
			list = append(list, x)
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	if n := count(all, "*.gguf"); n > 0 && len(f.Include) == 0 && len(f.Exclude) == 0 {
		return nil, fmt.Errorf("%s has no safetensors but %d .gguf files: choose one by a pattern such as *Q8_0.gguf", r, n)
	}
	return nil, fmt.Errorf("%s has no file that these patterns choose, of %d files", r, len(all))
}

// wantedOfModel chooses configuration, tokenizer and weights: one set of weights, of safetensors if there are any. Files in
// subdirectories are other formats' or training's. Where there are but .gguf files it chooses none: side files alone are no model.
func wantedOfModel(all []File) func(string) bool {
	weights := ""
	for _, p := range []string{"pytorch_model*.bin", "*.safetensors", "model*.safetensors"} { // the last: a vendor's own may stand beside it
		if slices.ContainsFunc(all, func(x File) bool { return path.Dir(x.Path) == "." && match(p, x.Path) }) {
			weights = p
		}
	}
	if weights == "" && count(all, "*.gguf") > 0 {
		return func(string) bool { return false }
	}
	patterns := []string{"*.json", "*.txt", "*.jinja", "*.model", weights}
	return func(name string) bool { return path.Dir(name) == "." && matchAny(patterns, name) }
}

func count(all []File, pattern string) int {
	n := 0
	for _, x := range all {
		if match(pattern, x.Path) {
			n++
		}
	}
	return n
}

func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, name) })
}

// match is Python's fnmatch, the same on every system: * any characters, ? one, [abc] and [a-z] one of these, [!abc] one of the others.
func match(pattern, name string) bool {
	if strings.HasSuffix(pattern, "/") {
		pattern += "*"
	}
	star, mark := -1, 0 // after the last *, and where in name it was last tried
	p, n := 0, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			p++
			star, mark = p, n
			continue
		}
		_, size := utf8.DecodeRuneInString(name[n:])
		if width, ok := matchOne(pattern[p:], name[n:n+size]); ok {
			p, n = p+width, n+size
			continue
		}
		if star < 0 {
			return false
		}
		_, size = utf8.DecodeRuneInString(name[mark:])
		mark += size
		p, n = star, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne matches one character with the beginning of a pattern, and returns how long that beginning is.
func matchOne(pattern, char string) (width int, ok bool) {
	if pattern == "" {
		return 0, false
	}
	c, size := utf8.DecodeRuneInString(pattern)
	switch c {
	case '?':
		return 1, true
	case '[':
		if width, ok, closed := matchClass(pattern, char); closed {
			return width, ok
		}
	}
	return size, pattern[:size] == char
}

// matchClass matches one character with the class at the beginning of a pattern; closed is false where no ] ends it.
func matchClass(pattern, char string) (width int, ok, closed bool) {
	body := pattern[1:]
	negated := strings.HasPrefix(body, "!")
	if negated {
		body = body[1:]
	}
	from := min(1, len(body)) // a ] that comes first is meant as a character
	end := strings.IndexByte(body[from:], ']')
	if end < 0 {
		return 0, false, false
	}
	set := []rune(body[:from+end])
	width = len(pattern) - len(body) + from + end + 1
	c, _ := utf8.DecodeRuneInString(char)
	in := false
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			in = in || set[i] <= c && c <= set[i+2]
			i += 2
			continue
		}
		in = in || set[i] == c
	}
	return width, in != negated, true
}
