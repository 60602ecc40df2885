package tokenizer

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const storiesDir = "../recipe/stories260k"

// families are the tokenizers in testdata. hf_vectors.jsonl.gz covers them, and some of bigTokenizers.
var families = []string{"smollm2", "tinyllama", "gpt_neox_20b"}

func gunzip(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return unzip(t, data)
}

var loaded sync.Map // name → *Tokenizer: the files are large and the tests many

// load returns a tokenizer of testdata, or the default model's for the name stories260k.
func load(t testing.TB, name string) *Tokenizer {
	t.Helper()
	if v, ok := loaded.Load(name); ok {
		return v.(*Tokenizer)
	}
	var tok *Tokenizer
	var err error
	if name == "stories260k" {
		tok, err = Load(storiesDir)
	} else {
		tok, err = Parse(tokenizerFile(t, name))
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	loaded.Store(name, tok)
	return tok
}

type vector struct {
	Text string
	Enc  map[string]struct {
		IDs            []int32
		IDsWithSpecial []int32 `json:"ids_with_special"`
		Decoded        *string
	}
}

func vectors(t testing.TB) []vector {
	t.Helper()
	var all []vector
	for d := json.NewDecoder(bytes.NewReader(gunzip(t, "hf_vectors.jsonl.gz"))); ; {
		var v vector
		if err := d.Decode(&v); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
}

func expectIDs(t *testing.T, tok *Tokenizer, text string, addSpecial bool, want []int32) {
	t.Helper()
	// The second time, the words come from the cache; the third, from the path that follows offsets.
	for range 2 {
		got, err := tok.Encode(text, addSpecial)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Encode(%q, %v)\n got %v %v\nwant %v", text, addSpecial, got, err, want)
			return
		}
	}
	got, spans, err := tok.EncodeOffsets(text, addSpecial)
	if err != nil || !slices.Equal(got, want) || len(spans) != len(got) {
		t.Errorf("EncodeOffsets(%q, %v)\n got %v %v\nwant %v", text, addSpecial, got, err, want)
	}
	at := 0
	for i, s := range spans {
		if s[0] > s[1] || s[1] > len(text) || s[0] > at && text[at:s[0]] != "" {
			t.Errorf("%q: id %d has offsets %v after %d", text, i, s, at)
			return
		}
		at = s[1]
	}
	if at != len(text) {
		t.Errorf("%q: offsets end at %d", text, at)
	}
}

func expectText(t *testing.T, tok *Tokenizer, ids []int32, want string) {
	t.Helper()
	if got, err := tok.Decode(ids, false); err != nil || got != want {
		t.Errorf("Decode(%v)\n got %q %v\nwant %q", ids, got, err, want)
	}
	s := tok.NewStream(false)
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(s.Push(id))
	}
	b.WriteString(s.Flush())
	if b.String() != want {
		t.Errorf("stream of %v\n got %q\nwant %q", ids, b.String(), want)
	}
}

func TestHuggingFaceVectors(t *testing.T) {
	for _, name := range slices.Concat(families, []string{"qwen2_5", "gpt2"}) {
		t.Run(name, func(t *testing.T) {
			tok, n := load(t, name), 0
			for _, v := range vectors(t) {
				want, ok := v.Enc[name]
				if !ok {
					continue
				}
				n++
				expectIDs(t, tok, v.Text, false, want.IDs)
				if want.IDsWithSpecial == nil {
					want.IDsWithSpecial = want.IDs
				}
				expectIDs(t, tok, v.Text, true, want.IDsWithSpecial)
				if want.Decoded == nil {
					want.Decoded = &v.Text
				}
				expectText(t, tok, want.IDs, *want.Decoded)
			}
			if n < 150 {
				t.Errorf("only %d vectors", n)
			}
		})
	}
}

// The default model's ids are llama2.c's own, except for texts with U+2581, which llama2.c does not take for a space.
func TestStoriesVectors(t *testing.T) {
	var cases []struct {
		Text string
		IDs  []int32 `json:"ids_with_bos"`
	}
	if err := json.Unmarshal(gunzip(t, "stories260k_encode.json.gz"), &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) != 141 {
		t.Fatalf("%d cases, want 141", len(cases))
	}
	tok := load(t, "stories260k")
	for _, c := range cases {
		expectIDs(t, tok, c.Text, true, c.IDs)
		expectText(t, tok, c.IDs[1:], c.Text)
	}
}
