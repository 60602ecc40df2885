package data

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"
)

// RowError is what is wrong with one row of a file. The rows after it can still be read.
type RowError struct {
	File string
	Line int // where the row begins
	Err  error
}

// Error names the file and the line.
func (e *RowError) Error() string { return fmt.Sprintf("%s: line %d: %v", e.File, e.Line, e.Err) }

// Unwrap returns what is wrong.
func (e *RowError) Unwrap() error { return e.Err }

// row is a JSON object whose fields are still unread.
type row map[string]json.RawMessage

// parsed iterates over what parse makes of a file's rows: Parquet, JSON lines, one JSON array, or plain text (.txt) of which each line is a row's
// "text", or what stands between lines <|endoftext|> where there are such at its beginning; the latter three compressed with gzip or zstd, or not. Rows are read one after another, whatever the size of the file. A row that means nothing
// is a *RowError, and the next one follows if the consumer goes on; any other error is the last. locate is told the line of each.
func parsed[T any](path string, parse func(row) (T, error), locate func(*T, int)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		f, err := os.Open(path)
		if err != nil {
			yield(none, err)
			return
		}
		defer f.Close()
		err = fileRows(f, func(line int, text []byte) bool {
			value, err := parseRow(text, parse)
			if err != nil {
				return yield(none, &RowError{path, line, err})
			}
			locate(&value, line)
			return yield(value, nil)
		})
		if err != nil {
			yield(none, fmt.Errorf("%s: %w", path, err))
		}
	}
}

func parseRow[T any](text []byte, parse func(row) (T, error)) (value T, err error) {
	if !utf8.Valid(text) {
		return value, errors.New("not valid UTF-8")
	}
	var r row
	if err := json.Unmarshal(text, &r); err != nil || r == nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return value, err
		}
		return value, errors.New("want a JSON object")
	}
	return parse(r)
}

// fileRows calls each with the rows of a file as JSON, and the lines they begin at (in Parquet, their numbers), until it returns false.
func fileRows(f *os.File, each func(line int, text []byte) bool) error {
	magic := make([]byte, len(parquetMagic))
	if n, err := f.ReadAt(magic, 0); n == len(magic) && err == nil && string(magic) == parquetMagic {
		return parquetRows(f, each)
	}
	in, err := uncompressed(f)
	if err != nil {
		return err
	}
	base := f.Name()
	for _, suffix := range []string{".gz", ".zst"} {
		base = strings.TrimSuffix(base, suffix)
	}
	if strings.HasSuffix(base, ".txt") {
		return textRows(in, each)
	}
	return readRows(in, each)
}

// endOfText is a line that ends a text in files of many, as those of TinyStories.
const endOfText = "<|endoftext|>"

// textRows makes a row of each line of a text, or of each of its texts if lines at its beginning say where those end.
func textRows(in *bufio.Reader, each func(line int, text []byte) bool) error {
	row := func(line int, text []byte) bool {
		if !utf8.Valid(text) {
			return each(line, text) // so that it is refused
		}
		j, err := json.Marshal(map[string]string{"text": string(text)})
		if err != nil {
			panic(err) // strings have a JSON form
		}
		return each(line, j)
	}
	head, _ := in.Peek(in.Size())
	for l := range bytes.Lines(head) {
		if isEndOfText(l) {
			return texts(in, row)
		}
	}
	return lineRows(in, 1, row)
}

func isEndOfText(line []byte) bool { return string(bytes.TrimSpace(line)) == endOfText }

// texts calls each with what stands between the lines endOfText, without space around it, and with the number of its first line, until it returns false.
func texts(in io.Reader, each func(int, []byte) bool) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	var text []byte
	n, first := 0, 1
	for lines.Scan() {
		if n++; isEndOfText(lines.Bytes()) {
			if text = bytes.TrimSpace(text); len(text) > 0 && !each(first, text) {
				return nil
			}
			text = text[:0]
			continue
		}
		if len(text) == 0 {
			if first = n; len(bytes.TrimSpace(lines.Bytes())) == 0 {
				continue
			}
		}
		if text = append(append(text, lines.Bytes()...), '\n'); len(text) > maxLine {
			return fmt.Errorf("line %d: a text of more than %d bytes", first, maxLine)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", n+1, err)
	}
	if text = bytes.TrimSpace(text); len(text) > 0 {
		each(first, text)
	}
	return nil
}

// uncompressed reads through gzip and zstd, which are known by how they begin.
func uncompressed(r io.Reader) (*bufio.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	magic, _ := in.Peek(4)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		return bufio.NewReaderSize(z, 64<<10), nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return bufio.NewReaderSize(z, 64<<10), nil
	}
	return in, nil
}

// readRows calls each with the rows of JSON text and the lines they begin at, until it returns false.
func readRows(r io.Reader, each func(line int, text []byte) bool) error {
	in, err := uncompressed(r)
	if err != nil {
		return err
	}
	if bom, _ := in.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		in.Discard(3)
	}
	line := 1
	for {
		c, err := in.ReadByte()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch c {
		case '\n':
			line++
		case ' ', '\t', '\r':
		case '[':
			in.UnreadByte()
			return arrayRows(in, line, each)
		default:
			in.UnreadByte()
			return lineRows(in, line, each)
		}
	}
}

func lineRows(r io.Reader, line int, each func(int, []byte) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for ; lines.Scan(); line++ {
		if len(bytes.TrimSpace(lines.Bytes())) > 0 && !each(line, lines.Bytes()) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", line, err)
	}
	return nil
}

// arrayRows reads one JSON array, an element at a time.
func arrayRows(r io.Reader, line int, each func(int, []byte) bool) error {
	count := &lineCounter{r: r, line: line}
	d := json.NewDecoder(count)
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("line %d: %w", line, err)
	}
	for d.More() {
		var text json.RawMessage
		if err := d.Decode(&text); err != nil {
			return fmt.Errorf("line %d: %w", count.at(d.InputOffset()), noEOF(err))
		}
		if !each(count.at(d.InputOffset()-int64(len(text))), text) {
			return nil
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("line %d: %w", count.at(d.InputOffset()), noEOF(err))
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// lineCounter knows the lines of the offsets it was read at.
type lineCounter struct {
	r        io.Reader
	offset   int64   // read so far
	line     int     // of the last offset asked for
	newlines []int64 // after that
}

func (c *lineCounter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for i, b := range p[:n] {
		if b == '\n' {
			c.newlines = append(c.newlines, c.offset+int64(i))
		}
	}
	c.offset += int64(n)
	return n, err
}

// at returns the line of an offset that is not below the one before.
func (c *lineCounter) at(offset int64) int {
	passed := 0
	for passed < len(c.newlines) && c.newlines[passed] < offset {
		passed++
	}
	c.line += passed
	c.newlines = c.newlines[passed:]
	return c.line
}

// text returns a field that is a string.
func (r row) text(name string) (string, error) {
	var s *string
	if err := json.Unmarshal(r[name], &s); err != nil || s == nil {
		return "", fmt.Errorf("%s: want a string", name)
	}
	return *s, nil
}

// optional returns a field that is a string, or nothing where it is missing or null.
func (r row) optional(name string) (string, error) {
	if !r.has(name) {
		return "", nil
	}
	return r.text(name)
}

// has reports whether a field is there and not null.
func (r row) has(names ...string) bool {
	for _, n := range names {
		if v, ok := r[n]; !ok || string(v) == "null" {
			return false
		}
	}
	return true
}

// first returns the first of the names that is a field.
func (r row) first(names ...string) (string, bool) {
	for _, n := range names {
		if r.has(n) {
			return n, true
		}
	}
	return "", false
}

// isText reports whether a field is a string.
func (r row) isText(name string) bool { return len(r[name]) > 0 && r[name][0] == '"' }
