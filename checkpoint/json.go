package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// Python writes floats that JSON has no word for as bare Infinity, -Infinity and NaN, and Transformers 5 as {"__float__": "Infinity"}.
// While a file is in memory a bare word stands as a string with this prefix.
const bareFloat = "\u001abare float:"

// bareFloats are the words.
var bareFloats = []string{"-Infinity", "Infinity", "NaN"}

// readJSON checks a small JSON file as Python would write it and returns it as plain JSON: one value, valid UTF-8, no name twice in an
// object. Bare words for floats become strings; see writeJSON.
func readJSON(data []byte) ([]byte, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	data = quoteFloats(bytes.TrimPrefix(data, []byte("\ufeff")))
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := checkNames(dec); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("text after the end of the JSON value")
	}
	return data, nil
}

// quoteFloats replaces the bare words outside strings.
func quoteFloats(data []byte) []byte {
	var out []byte // nil until there is something to replace
	at, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == '-' || c == 'I' || c == 'N'):
			for _, word := range bareFloats {
				if bytes.HasPrefix(data[i:], []byte(word)) {
					out = append(append(out, data[at:i]...), quoted(word)...)
					at = i + len(word)
					i = at - 1
					break
				}
			}
		}
	}
	if out == nil {
		return data
	}
	return append(out, data[at:]...)
}

func quoted(word string) []byte {
	b, err := json.Marshal(bareFloat + word)
	if err != nil {
		panic(err) // strings always encode
	}
	return b
}

// writeJSON is json.MarshalIndent with what readJSON quoted as bare words again.
func writeJSON(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	for _, word := range bareFloats {
		data = bytes.ReplaceAll(data, quoted(word), []byte(word))
	}
	return data, err
}

// checkNames reads one value and refuses an object in which a name stands twice: readers differ in which of the two they believe.
func checkNames(dec *json.Decoder) error {
	var open []map[string]bool // of each open bracket: an object's names, nil for an array
	isName := false            // the next token is a name
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("the JSON ends too early")
		}
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'):
			open = append(open, map[string]bool{})
		case json.Delim('['):
			open = append(open, nil)
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		default:
			if isName {
				name := token.(string)
				if open[len(open)-1][name] {
					return fmt.Errorf("the name %q stands twice in one object", name)
				}
				open[len(open)-1][name] = true
				isName = false
				continue // its value follows
			}
		}
		if len(open) == 0 {
			return nil
		}
		isName = open[len(open)-1] != nil
	}
}

// number is a float in any of the spellings.
type number float64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	var tagged struct {
		Float string `json:"__float__"`
	}
	var word string
	switch {
	case json.Unmarshal(b, (*float64)(n)) == nil:
		return nil
	case json.Unmarshal(b, &tagged) == nil:
		word = tagged.Float
	case json.Unmarshal(b, &word) == nil:
		word = strings.TrimPrefix(word, bareFloat)
	}
	switch word {
	case "Infinity":
		*n = number(math.Inf(1))
	case "-Infinity":
		*n = number(math.Inf(-1))
	case "NaN":
		*n = number(math.NaN())
	default:
		return fmt.Errorf("%s is not a number", b)
	}
	return nil
}
