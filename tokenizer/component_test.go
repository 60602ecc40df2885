package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// componentCase is a small tokenizer that shows one component or option; testdata/components.mjs wrote it.
type componentCase struct {
	Name, Tokenizer string
	Rows            []struct {
		Text             string
		IDs, Special     []int32
		Decoded, Skipped string // of Special, special tokens kept or not
	}
}

func components(t testing.TB) []componentCase {
	t.Helper()
	var all []componentCase
	for d := json.NewDecoder(bytes.NewReader(gunzip(t, "components.jsonl.gz"))); ; {
		var c componentCase
		if err := d.Decode(&c); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
}

func TestComponentsAsHuggingFace(t *testing.T) {
	for _, c := range components(t) {
		t.Run(c.Name, func(t *testing.T) {
			tok, err := Parse([]byte(c.Tokenizer))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range c.Rows {
				for _, addSpecial := range []bool{false, true} {
					want := r.IDs
					if addSpecial {
						want = r.Special
					}
					got, err := tok.Encode(r.Text, addSpecial)
					if err != nil || !slices.Equal(got, want) {
						t.Errorf("Encode(%q, %v)\n got %v %v\nwant %v", r.Text, addSpecial, got, err, want)
					}
					if tracked, _, err := tok.EncodeOffsets(r.Text, addSpecial); err != nil || !slices.Equal(tracked, got) {
						t.Errorf("EncodeOffsets(%q, %v)\n got %v %v\nwant %v", r.Text, addSpecial, tracked, err, got)
					}
				}
				expectText(t, tok, r.Special, r.Decoded)
				if got, err := tok.Decode(r.Special, true); err != nil || got != r.Skipped {
					t.Errorf("Decode(%v, skip)\n got %q %v\nwant %q", r.Special, got, err, r.Skipped)
				}
			}
		})
	}
}

const tinyModel = `"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}`

var refused = []struct{ json, want string }{
	{``, "invalid JSON"},
	{"{\"a\":\"\xff\"}", "UTF-8"},
	{`{}`, `model: type ""`},
	{`{"model":{"type":"Unigram","vocab":[]}}`, `model: type "Unigram" is not supported`},
	{`{"model":{"type":"BPE","vocab":[],"merges":[]}}`, "model: vocab"},
	{`{"model":{"type":"BPE","vocab":{},"merges":{}}}`, "model: merges"},
	{`{"model":{"type":"BPE","merges":[]}}`, "model: vocab"},
	{`{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}`, `token "a": id "-1"`},
	{`{"model":{"type":"BPE","vocab":{"a":1.5},"merges":[]}}`, `token "a": id "1.5"`},
	{`{"model":{"type":"BPE","vocab":{"a":{}},"merges":[]}}`, `token "a"`},
	{`{"model":{"type":"BPE","vocab":{"a":2000000000},"merges":[]}}`, "id 2000000000 with only 1 tokens"},
	{`{"model":{"type":"BPE","vocab":{"a":0},"merges":["a"]}}`, "merge 0"},
	{`{"model":{"type":"BPE","vocab":{"a":0},"merges":["a a"]}}`, "merge 0"},
	{`{"model":{"type":"BPE","vocab":{"a":0,"aa":1},"merges":[["a","a","a"]]}}`, "merge 0"},
	{`{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"dropout":0.1}}`, "dropout"},
	{`{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"end_of_word_suffix":"</w>"}}`, "end_of_word_suffix"},
	{`{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"?"}}`, `unk_token "?"`},
	{`{"normalizer":{"type":"Precompiled"},` + tinyModel + `}`, "normalizer Precompiled"},
	{`{"normalizer":{"type":"Replace","pattern":{"String":""}},` + tinyModel + `}`, "pattern is empty"},
	{`{"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"UnicodeScripts"}]},` + tinyModel + `}`, "pre_tokenizer UnicodeScripts"},
	{`{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"},` + tinyModel + `}`, `pattern "("`},
	{`{"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Maybe"},` + tinyModel + `}`, `behavior "Maybe"`},
	{`{"post_processor":{"type":"Odd"},` + tinyModel + `}`, "post_processor Odd"},
	{`{"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}]},` + tinyModel + `}`, `special token "x"`},
	{`{"post_processor":{"type":"RobertaProcessing","cls":["a",9],"sep":["a",0]},` + tinyModel + `}`, "id 9 has no token"},
	{`{"decoder":{"type":"CTC"},` + tinyModel + `}`, "decoder CTC"},
	{`{"added_tokens":[{"id":-3,"content":"x"}],` + tinyModel + `}`, `added token "x": id -3`},
	{`{"added_tokens":[{"id":99999999,"content":"x"}],` + tinyModel + `}`, "id 99999999"},
}

func TestParseRefuses(t *testing.T) {
	for _, c := range refused {
		if _, err := Parse([]byte(c.json)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.json, err, c.want)
		}
	}
}

func TestLookups(t *testing.T) {
	tok := load(t, "stories260k")
	if n := tok.VocabSize(); n != 512 {
		t.Errorf("vocabulary of %d, want 512", n)
	}
	if id, ok := tok.ID("<s>"); !ok || id != 1 || !tok.IsSpecial(id) {
		t.Errorf("<s> has id %d %v", id, ok)
	}
	if token, ok := tok.Token(13); !ok || token != "<0x0A>" || tok.IsSpecial(13) {
		t.Errorf("13 is %q %v", token, ok)
	}
	for _, id := range []int32{-1, 512, 1 << 30} {
		if _, ok := tok.Token(id); ok || tok.IsSpecial(id) {
			t.Errorf("id %d is a token", id)
		}
		if _, err := tok.Decode([]int32{1, id}, false); err == nil || !strings.Contains(err.Error(), "at position 1") {
			t.Errorf("decode %d: %v", id, err)
		}
		if s := tok.NewStream(false).Push(id); s != "" {
			t.Errorf("stream of %d: %q", id, s)
		}
	}
	if _, err := tok.Encode("ab\xffc", false); err == nil || !strings.Contains(err.Error(), "byte 2") {
		t.Errorf("invalid UTF-8: %v", err)
	}
}

func TestConfigSwitches(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(storiesDir, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	for config, want := range map[string][]int32{
		``: {1, 403},
		`{"tokenizer_class":"GPT2Tokenizer","add_bos_token":false}`:                                                      {1, 403},
		`{"tokenizer_class":"LlamaTokenizer","bos_token":"<s>"}`:                                                         {1, 403},
		`{"tokenizer_class":"LlamaTokenizer","bos_token":"<s>","add_bos_token":false}`:                                   {403},
		`{"tokenizer_class":"LlamaTokenizerFast","bos_token":{"content":"<s>"},"eos_token":"</s>","add_eos_token":true}`: {1, 403, 2},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), data, 0o666); err != nil {
			t.Fatal(err)
		}
		if config != "" {
			if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), []byte(config), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		tok, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tok.Encode("Once", true); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v %v, want %v", config, got, err, want)
		}
	}
}

// One word of a megabyte must cost n log n steps, not n²: at n² this test runs for hours.
func TestLongWord(t *testing.T) {
	for _, name := range []string{"smollm2", "tinyllama"} {
		word := strings.Repeat("abracadabra", 1<<20/11)
		ids, err := load(t, name).Encode(word, false)
		if err != nil {
			t.Fatal(err)
		}
		expectText(t, load(t, name), ids, word)
	}
}

// Cutting a SentencePiece text at word beginnings must not change its ids.
func TestCutAtMarksChangesNothing(t *testing.T) {
	whole := *load(t, "tinyllama")
	if whole.model.mark == "" {
		t.Fatal("the Llama vocabulary is not cut at marks")
	}
	whole.model.mark = ""
	for _, v := range vectors(t) {
		want, err := whole.Encode(v.Text, true)
		if err != nil {
			t.Fatal(err)
		}
		expectIDs(t, load(t, "tinyllama"), v.Text, true, want)
	}
	across, err := Parse([]byte(`{"model":{"type":"BPE","vocab":{"▁":0,"a":1,"a▁":2},"merges":["a ▁"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := across.Encode("a▁a", false); err != nil || !slices.Equal(got, []int32{2, 1}) {
		t.Errorf("a merge across words: %v %v, want [2 1]", got, err)
	}
}

// Run under -race: the word cache is shared without a lock.
func TestConcurrentUse(t *testing.T) {
	tok, all := load(t, "smollm2"), vectors(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, v := range all {
				if got, err := tok.Encode(v.Text, false); err != nil || !slices.Equal(got, v.Enc["smollm2"].IDs) {
					t.Errorf("Encode(%q) = %v %v", v.Text, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestOffsets(t *testing.T) {
	text := "Once  ß upon"
	tok := load(t, "stories260k")
	ids, spans, err := tok.EncodeOffsets(text, true)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, s := range spans {
		token, _ := tok.Token(ids[i])
		got = append(got, fmt.Sprintf("%s=%q", token, text[s[0]:s[1]]))
	}
	want := `<s>=""|▁Once="Once"|▁=" "|▁=" "|<0xC3>="\xc3"|<0x9F>="\x9f"|▁upon=" upon"`
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("offsets\n got %s\nwant %s", s, want)
	}
}

func TestStreamHoldsBackHalfCharacters(t *testing.T) {
	tok := load(t, "smollm2")
	ids, err := tok.Encode("a👋🏽é", false)
	if err != nil {
		t.Fatal(err)
	}
	s := tok.NewStream(false)
	var out string
	for _, id := range ids[:len(ids)-1] {
		piece := s.Push(id)
		if strings.Contains(piece, "\uFFFD") {
			t.Errorf("%q after %q", piece, out)
		}
		out += piece
	}
	// The same text cut in the middle of a character ends with one replacement character.
	cut := tok.NewStream(false)
	out = cut.Push(ids[0]) + cut.Push(ids[1]) + cut.Flush()
	if want := "a\uFFFD"; out != want {
		t.Errorf("cut text %q, want %q", out, want)
	}
}

func TestLossyUTF8(t *testing.T) {
	for in, want := range map[string]string{
		"a\xffb": "a\uFFFDb", "\xe2\x82": "\uFFFD", "\xe2\x82A": "\uFFFDA", "\xe2A": "\uFFFDA", "\xf0\x9f\x91\xf0\x9f\x91\x8b": "\uFFFD👋",
		"\xed\xa0\x80": "\uFFFD\uFFFD\uFFFD", "\xc0\xaf": "\uFFFD\uFFFD", "\xf4\x90\x80\x80": "\uFFFD\uFFFD\uFFFD\uFFFD", "\x80\x80": "\uFFFD\uFFFD",
	} {
		if got, n := lossy([]byte(in), true); got != want || n != len(in) {
			t.Errorf("lossy(%q) = %q, %d, want %q", in, got, n, want)
		}
	}
}
