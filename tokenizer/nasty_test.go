package tokenizer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// nastyFamily is a line of testdata/nasty.jsonl.gz, which nasty.py wrote: what Hugging Face's library makes of the texts of the first line.
type nastyFamily struct {
	Name    string
	SHA256  string `json:"sha256"`
	Recipe  *nastyRecipe
	Prefix  []int32
	IDs     [][]int32
	Decoded map[int]string      // by text, where it is not the text
	Skipped map[int]string      // by text, where leaving special tokens out makes a difference
	Offsets map[int][]int       // by text: begin and end of each id, flat
	Lists   [][]json.RawMessage // ids, decoded, and, if it differs, decoded without special tokens
}

// nastyRecipe makes a tokenizer of another family's by replacing sections.
type nastyRecipe struct {
	Of           string
	Sections     map[string]json.RawMessage
	IgnoreMerges bool `json:"ignore_merges"`
}

func nasty(t testing.TB) (texts []string, families []nastyFamily) {
	t.Helper()
	lines := bufio.NewReader(bytes.NewReader(gunzip(t, "nasty.jsonl.gz")))
	d := json.NewDecoder(lines)
	if err := d.Decode(&texts); err != nil {
		t.Fatal(err)
	}
	for {
		var f nastyFamily
		if err := d.Decode(&f); err == io.EOF {
			return texts, families
		} else if err != nil {
			t.Fatal(err)
		}
		families = append(families, f)
	}
}

// bigTokenizers are the files that are too large for testdata, and where they are looked for below the folder of tokenizers.
var bigTokenizers = map[string][]string{
	"qwen2":   {"qwen2_5/tokenizer.json.gz", "qwen2_5/tokenizer.json"},
	"qwen2_5": {"qwen2_5/tokenizer.json.gz", "qwen2_5/tokenizer.json"},
	"gpt2":    {"gpt2/tokenizer.json.gz", "gpt2/tokenizer.json"},
	"llama3":  {"llama3/tokenizer.json.gz", "llama3/tokenizer.json"},
}

// bigTokenizer returns a tokenizer.json that is too large for testdata, from KRAIT_TOKENIZERS or from the folder "tokenizers" beside
// KRAIT_MODELS, and skips the test where there is none.
func bigTokenizer(t testing.TB, name string) []byte {
	t.Helper()
	var dirs []string
	if dir := os.Getenv("KRAIT_TOKENIZERS"); dir != "" {
		dirs = append(dirs, dir)
	}
	if dir := os.Getenv("KRAIT_MODELS"); dir != "" {
		dirs = append(dirs, filepath.Join(dir, "..", "tokenizers"))
	}
	for _, dir := range dirs {
		for _, file := range bigTokenizers[name] {
			data, err := os.ReadFile(filepath.Join(dir, file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(file, ".gz") {
				data = unzip(t, data)
			}
			return data
		}
	}
	t.Skipf("no %s in KRAIT_TOKENIZERS=%q or beside KRAIT_MODELS=%q", bigTokenizers[name][0], os.Getenv("KRAIT_TOKENIZERS"), os.Getenv("KRAIT_MODELS"))
	return nil
}

// tokenizerFile returns a tokenizer.json of testdata or a big one.
func tokenizerFile(t testing.TB, name string) []byte {
	t.Helper()
	if bigTokenizers[name] != nil {
		return bigTokenizer(t, name)
	}
	return gunzip(t, name+".json.gz")
}

func unzip(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if data, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	return data
}

// file returns the family's tokenizer.json.
func (f *nastyFamily) file(t testing.TB) []byte {
	t.Helper()
	name := f.Name
	if f.Recipe != nil {
		name = f.Recipe.Of
	}
	data := tokenizerFile(t, name)
	if f.Recipe == nil {
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != f.SHA256 {
			t.Fatalf("%s is another file than the one the strings were made with", name)
		}
		return data
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	for k, v := range f.Recipe.Sections {
		all[k] = v
	}
	if f.Recipe.IgnoreMerges {
		all["model"] = bytes.Replace(all["model"], []byte(`{`), []byte(`{"ignore_merges":true,`), 1)
	}
	data, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestNastyStrings holds every family to Hugging Face's library: ids, offsets, and text from ids, whole and streamed.
func TestNastyStrings(t *testing.T) {
	texts, all := nasty(t)
	if len(texts) < 1500 || len(all) < 7 {
		t.Fatalf("%d texts, %d families", len(texts), len(all))
	}
	for _, f := range all {
		t.Run(f.Name, func(t *testing.T) {
			tok, err := Parse(f.file(t))
			if err != nil {
				t.Fatal(err)
			}
			for i, text := range texts {
				f.check(t, tok, i, text)
			}
			for _, list := range f.Lists {
				f.checkList(t, tok, list)
			}
		})
	}
}

func (f *nastyFamily) check(t *testing.T, tok *Tokenizer, i int, text string) {
	t.Helper()
	ids := f.IDs[i]
	for range 2 { // the second time, the words come from the cache
		if got, err := tok.Encode(text, false); err != nil || !slices.Equal(got, ids) {
			t.Errorf("Encode(%q)\n got %v %v\nwant %v", text, got, err, ids)
			return
		}
	}
	with := slices.Concat(f.Prefix, ids)
	got, spans, err := tok.EncodeOffsets(text, true)
	if err != nil || !slices.Equal(got, with) {
		t.Errorf("EncodeOffsets(%q)\n got %v %v\nwant %v", text, got, err, with)
	}
	if want, ok := f.Offsets[i]; ok {
		f.checkOffsets(t, tok, text, spans[len(f.Prefix):], want)
	}
	decoded, ok := f.Decoded[i]
	if !ok {
		decoded = text
	}
	expectText(t, tok, ids, decoded)
	skipped, ok := f.Skipped[i]
	if !ok {
		skipped = decoded
	}
	if got, err := tok.Decode(ids, true); err != nil || got != skipped {
		t.Errorf("Decode(%v, skip)\n got %q %v\nwant %q", ids, got, err, skipped)
	}
}

// checkOffsets compares offsets as far as both libraries mean the same by them. Hugging Face's are of whole characters; an inserted space has
// those of the character after it, where ours are empty; of a composed character they name one part only; its ByteLevel may leave white
// space at a token's ends out; and after a byte without a token they lag behind.
func (f *nastyFamily) checkOffsets(t *testing.T, tok *Tokenizer, text string, spans [][2]int, flat []int) {
	t.Helper()
	if tok.model.byteLevel && lacksByte(tok, text) {
		return
	}
	for k, s := range spans {
		want := [2]int{flat[2*k], flat[2*k+1]}
		for s[0] < s[1] && !utf8.RuneStart(text[s[0]]) {
			s[0]--
		}
		for s[0] < s[1] && s[1] < len(text) && !utf8.RuneStart(text[s[1]]) {
			s[1]++
		}
		ours, theirs := text[s[0]:s[1]], text[want[0]:want[1]]
		switch {
		case s == want:
		case strings.HasPrefix(f.Name, "gpt_neox") && strings.TrimSpace(ours) == strings.TrimSpace(theirs):
		case strings.HasPrefix(f.Name, "tinyllama") && s[0] == s[1] && s[0] == want[0]:
		case s[0] <= want[0] && want[1] <= s[1] && !norm.NFC.IsNormalString(ours):
		default:
			t.Errorf("%q: id %d has offsets %v (%q), want %v (%q)", text, k, s, ours, want, theirs)
			return
		}
	}
}

func (f *nastyFamily) checkList(t *testing.T, tok *Tokenizer, list []json.RawMessage) {
	t.Helper()
	var ids []int32
	texts := make([]string, len(list)-1)
	err := json.Unmarshal(list[0], &ids)
	for i := range texts {
		err = errors.Join(err, json.Unmarshal(list[i+1], &texts[i]))
	}
	if err != nil {
		t.Fatal(err)
	}
	expectText(t, tok, ids, texts[0])
	if got, err := tok.Decode(ids, true); err != nil || got != texts[len(texts)-1] {
		t.Errorf("Decode(%v, skip)\n got %q %v\nwant %q", ids, got, err, texts[len(texts)-1])
	}
}

// TestNastyStringsByGGUF: a tokenizer that went through a GGUF file gives the same ids, but for the normalisation that a GGUF file cannot
// say for GPT-NeoX's kind.
func TestNastyStringsByGGUF(t *testing.T) {
	texts, all := nasty(t)
	for _, f := range all {
		if f.Recipe != nil {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			g, err := NewGGUF(f.file(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			data, err := g.JSON()
			if err != nil {
				t.Fatal(err)
			}
			tok, err := Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			for i, text := range texts {
				if f.Name == "gpt_neox_20b" && !norm.NFC.IsNormalString(text) {
					continue
				}
				if got, err := tok.Encode(text, false); err != nil || !slices.Equal(got, f.IDs[i]) {
					t.Errorf("Encode(%q)\n got %v %v\nwant %v", text, got, err, f.IDs[i])
				}
			}
		})
	}
}
