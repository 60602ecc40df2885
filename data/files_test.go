package data

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFileForms: the same rows come out of Parquet files (pyarrow's, with snappy, dictionaries and two row groups, and with zstd) and of JSON lines in gzip
// and zstd; a row without an answer is an error with its number, in every form.
func TestFileForms(t *testing.T) {
	for _, name := range []string{"rows.parquet", "rows-zstd.parquet", "rows.jsonl.gz", "rows.jsonl.zst"} {
		var got, bad []string
		for c, err := range Chats(filepath.Join("testdata", name)) {
			if err != nil {
				bad = append(bad, err.Error())
				continue
			}
			got = append(got, say(c))
		}
		want := []string{"user:What is 1+1? assistant:2 ✓", "system:Be short. user:Who? assistant:Me. user:And? assistant:You."}
		if len(got) != 2 || !strings.Contains(got[0], want[0]) || !strings.Contains(got[1], want[1]) {
			t.Errorf("%s: %q", name, got)
		}
		if len(bad) != 1 || !strings.Contains(bad[0], "line 3: messages") {
			t.Errorf("%s: errors %q", name, bad)
		}
	}
}

// TestTextFiles: each line of a text is a row.
func TestTextFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(path, []byte("[one]\n\n\"two\" \\ 2\nthree \xff\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var got, bad []string
	for c, err := range Chats(path) {
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		got = append(got, c.Completion)
	}
	if len(got) != 2 || got[0] != "[one]" || got[1] != `"two" \ 2` || len(bad) != 1 || !strings.Contains(bad[0], "line 4: not valid UTF-8") {
		t.Errorf("%q, %q", got, bad)
	}
}

// TestTextsOfManyLines: in a file that says where its texts end, each of them is a row, at its first line.
func TestTextsOfManyLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(path, []byte("\nOne.\n\nStill one.  \n<|endoftext|>\r\n<|endoftext|>\n\n\nTwo <|endoftext|> too.\n<|endoftext|>\n\nbad \xff\n<|endoftext|>\nlast"), 0o644); err != nil {
		t.Fatal(err)
	}
	var got []string
	for c, err := range Chats(path) {
		if err != nil {
			got = append(got, strings.TrimPrefix(err.Error(), path+": "))
			continue
		}
		got = append(got, fmt.Sprintf("%d:%s", c.Line, c.Completion))
	}
	if want := []string{"2:One.\n\nStill one.", "9:Two <|endoftext|> too.", "line 12: not valid UTF-8", "14:last"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestBrokenFiles: files that end early or lie about themselves are errors, not panics.
func TestBrokenFiles(t *testing.T) {
	whole, err := os.ReadFile("testdata/rows.parquet")
	if err != nil {
		t.Fatal(err)
	}
	for cut := 4; cut < len(whole); cut += 97 {
		path := filepath.Join(t.TempDir(), "cut.parquet")
		if err := os.WriteFile(path, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		if n, err := countRows(path); err == nil {
			t.Errorf("%d of %d bytes were read as %d rows", cut, len(whole), n)
		}
	}
	for at := 0; at < len(whole); at += 41 {
		broken := append([]byte(nil), whole...)
		broken[at] ^= 0x55
		path := filepath.Join(t.TempDir(), "broken.parquet")
		if err := os.WriteFile(path, broken, 0o644); err != nil {
			t.Fatal(err)
		}
		_, _ = countRows(path) // it may be rows of other text, but it must end
	}
	z, err := os.ReadFile("testdata/rows.jsonl.zst")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cut.zst")
	if err := os.WriteFile(path, z[:len(z)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if n, err := countRows(path); err == nil {
		t.Errorf("half a zstd file was read as %d rows", n)
	}
}

func countRows(path string) (n int, err error) {
	for _, err := range Chats(path) {
		var row *RowError
		if err != nil && !errors.As(err, &row) {
			return n, err
		}
		n++
	}
	return n, nil
}
