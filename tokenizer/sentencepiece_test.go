package tokenizer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// spCase is a line of testdata/sentencepiece.jsonl.gz, which spm.py wrote: a tokenizer.model, and what the sentencepiece package makes of
// the texts of nasty.jsonl.gz. Without ids it is one that must be refused.
type spCase struct {
	Name    string
	Model   []byte
	IDs     [][]int32
	Decoded map[int]string
}

func spCases(t testing.TB) []spCase {
	t.Helper()
	var all []spCase
	for d := json.NewDecoder(bytes.NewReader(gunzip(t, "sentencepiece.jsonl.gz"))); ; {
		var c spCase
		if err := d.Decode(&c); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if c.Name == "llama2" {
			c.Model = llama2Model(t)
		}
		all = append(all, c)
	}
}

// protoField appends a field of a protocol buffer: a number, a float32, or bytes.
func protoField(b []byte, number uint64, v any) []byte {
	switch v := v.(type) {
	case int:
		return binary.AppendUvarint(binary.AppendUvarint(b, number<<3), uint64(v))
	case float32:
		return binary.LittleEndian.AppendUint32(binary.AppendUvarint(b, number<<3|5), math.Float32bits(v))
	case string:
		return append(binary.AppendUvarint(binary.AppendUvarint(b, number<<3|2), uint64(len(v))), v...)
	}
	panic(v)
}

// llama2Model writes Llama 2's tokenizer.model as spm.py does: the pieces stand in testdata/tinyllama.json.gz.
func llama2Model(t testing.TB) []byte {
	t.Helper()
	tok := load(t, "tinyllama")
	var out []byte
	for id, token := range tok.tokens {
		kind, score := ggufNormal, 259-float32(id)
		switch {
		case id == 0:
			kind, score = ggufUnknown, 0
		case id < 3:
			kind, score = ggufControl, 0
		case id < 259:
			kind, score = ggufByte, 0
		case len(token) > len(spaceMark) && strings.Trim(token, spaceMark) == "":
			score = -1e9
		}
		out = protoField(out, 1, string(protoField(protoField(protoField(nil, 1, token), 2, score), 3, kind)))
	}
	out = protoField(out, 2, string(protoField(protoField(nil, 3, spBPE), 35, 1)))
	return protoField(out, 3, string(protoField(protoField(protoField(nil, 1, "identity"), 3, 1), 4, 0)))
}

func TestSentencePiece(t *testing.T) {
	texts, _ := nasty(t)
	ran := 0
	for _, c := range spCases(t) {
		if c.IDs == nil {
			continue
		}
		ran++
		t.Run(c.Name, func(t *testing.T) {
			data, err := SentencePieceJSON(c.Model, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			tok, err := Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			unk, compared := tok.model.unk, 0
			for i, text := range texts {
				if strings.Contains(text, "<s>") || strings.Contains(text, "</s>") || strings.Contains(text, "<unk>") {
					continue // SentencePiece reads them as text, Transformers and this package as the tokens
				}
				compared++
				if got, err := tok.Encode(text, false); err != nil || !slices.Equal(got, c.IDs[i]) {
					t.Errorf("Encode(%q)\n got %v %v\nwant %v", text, got, err, c.IDs[i])
					continue
				}
				want, ok := c.Decoded[i]
				if !ok {
					want = text
				}
				if !slices.Contains(c.IDs[i], unk) { // SentencePiece writes ⁇ for it
					expectText(t, tok, c.IDs[i], want)
				}
			}
			if compared < 1500 {
				t.Errorf("only %d texts compared", compared)
			}
		})
	}
	if ran != 6 {
		t.Errorf("%d models, want 6", ran)
	}
}

// spTiny is a model of a few pieces; edit may change what it is made of.
func spTiny(edit func(pieces *[]string, trainer, normalizer *[]byte)) []byte {
	pieces := []string{
		string(protoField(protoField(nil, 1, "<unk>"), 3, ggufUnknown)), string(protoField(protoField(nil, 1, "<s>"), 3, ggufControl)),
		string(protoField(protoField(nil, 1, "</s>"), 3, ggufControl)), string(protoField(protoField(nil, 1, "▁"), 2, float32(-1))),
		string(protoField(protoField(nil, 1, "a"), 2, float32(-2))), string(protoField(protoField(nil, 1, "▁a"), 2, float32(-3))),
	}
	trainer, normalizer := protoField(nil, 3, spBPE), protoField(nil, 4, 0)
	if edit != nil {
		edit(&pieces, &trainer, &normalizer)
	}
	var out []byte
	for _, p := range pieces {
		out = protoField(out, 1, p)
	}
	return protoField(protoField(out, 2, string(trainer)), 3, string(normalizer))
}

func TestSentencePieceRefuses(t *testing.T) {
	add := func(piece []byte) []byte {
		return spTiny(func(p *[]string, _, _ *[]byte) { *p = append(*p, string(piece)) })
	}
	for _, c := range []struct {
		data []byte
		want string
	}{
		{nil, "no pieces"},
		{[]byte("{}"), "wire type"},
		{[]byte("\x0a\xff\xff\xff\xff\x0f"), "claims 4294967295 bytes"},
		{[]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "fewer are left"},
		{[]byte("\x0a"), "claims"},
		{[]byte("\x80"), "cut off"},
		{[]byte("\x0d\x00"), "cut off"},
		{spTiny(nil)[:21], "fewer are left"},
		{add(protoField(nil, 1, "a")), `token 6 ("a") has the spelling of token 4`},
		{add(protoField(nil, 1, "\xff")), "token 6 is not valid UTF-8"},
		{add(protoField(nil, 1, "")), "piece 6: it is empty"},
		{add(protoField(nil, 1, strings.Repeat("b", 5000))), "piece 6: it has 5000 bytes"},
		{add(protoField(protoField(nil, 1, "b"), 3, 9)), "piece 6: type 9 is unknown"},
		{add(protoField(protoField(nil, 1, "b"), 3, ggufUnused)), "piece 6: it is marked unused"},
		{add(protoField(protoField(nil, 1, "b"), 3, ggufByte)), `piece 6 ("b") is marked as a byte`},
		{add(protoField(protoField(nil, 1, "b"), 2, float32(math.NaN()))), "piece 6: its score is not a number"},
		{spTiny(func(_ *[]string, t, _ *[]byte) { *t = nil }), "a unigram model is not supported, only BPE is"},
		{spTiny(func(_ *[]string, t, _ *[]byte) { *t = protoField(nil, 3, 77) }), "model type 77"},
		{spTiny(func(_ *[]string, t, _ *[]byte) { *t = protoField(*t, 35, 1) }), "256 bytes, there are 0"},
		{spTiny(func(_ *[]string, _, n *[]byte) { *n = protoField(*n, 2, "xyz") }), "3 bytes of character rules"},
		{spTiny(func(_ *[]string, _, n *[]byte) { *n = protoField(*n, 5, 0) }), "escape_whitespaces"},
	} {
		if _, err := SentencePieceJSON(c.data, nil, nil); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "tokenizer.model: ") {
			t.Errorf("%q: error %v, want one with %q", c.data, err, c.want)
		}
	}
	for _, c := range spCases(t) {
		if c.IDs != nil {
			continue
		}
		want := map[string]string{"unigram": "a unigram model", "word": "a word model", "nfkc": "character rules", "suffix": "treat_whitespace_as_suffix"}[c.Name]
		if _, err := SentencePieceJSON(c.Model, nil, nil); want == "" || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", c.Name, err, want)
		}
	}
}

// TestSentencePieceDirectory: the files beside a tokenizer.model count, and a tokenizer.json beside it wins.
func TestSentencePieceDirectory(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(text string, want ...int32) {
		t.Helper()
		tok, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tok.Encode(text, true); err != nil || !slices.Equal(got, want) {
			t.Errorf("Encode(%q) = %v %v, want %v", text, got, err, want)
		}
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "neither tokenizer.json nor tokenizer.model") {
		t.Errorf("an empty directory: %v", err)
	}
	put("tokenizer.model", string(spTiny(nil)))
	expect("a<s>a", 1, 5, 1, 5)
	put("added_tokens.json", `{"<pad>":8,"a+":6}`)
	expect("a<pad>a+a", 1, 5, 8, 6, 5)
	put("tokenizer_config.json", `{"tokenizer_class":"LlamaTokenizer","legacy":false,"add_bos_token":false,"add_eos_token":true,"bos_token":"<s>","eos_token":"</s>","pad_token":"<pad>","added_tokens_decoder":{"9":{"content":"<x>","special":true}}}`)
	expect("a<pad>a<x>", 5, 8, 4, 9, 2)
	tok, err := Load(dir)
	if err != nil || !tok.IsSpecial(8) || !tok.IsSpecial(9) || tok.IsSpecial(6) || tok.VocabSize() != 10 {
		t.Errorf("added tokens: %v, %d tokens", err, tok.VocabSize())
	}
	for name, text := range map[string]string{"added_tokens.json": `{"<pad>":3}`, "tokenizer_config.json": `{"added_tokens_decoder":{"x":{}}}`} {
		old, _ := os.ReadFile(filepath.Join(dir, name))
		put(name, text)
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s %s: %v", name, text, err)
		}
		put(name, string(old))
	}
	data, err := os.ReadFile(filepath.Join(storiesDir, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	put("tokenizer.json", string(data))
	if tok, err := Load(dir); err != nil || tok.VocabSize() != 512 {
		t.Errorf("tokenizer.json beside tokenizer.model: %v", err)
	}
}

// FuzzSentencePiece: no tokenizer.model panics, and what is taken encodes and decodes.
func FuzzSentencePiece(f *testing.F) {
	f.Add(spTiny(nil), []byte(`{"<pad>":8}`))
	for _, c := range spCases(f) {
		if len(c.Model) < 1<<15 {
			f.Add(c.Model, []byte(nil))
		}
	}
	f.Fuzz(func(t *testing.T, data, added []byte) {
		if len(data) > 1<<15 || len(added) > 1<<10 {
			return
		}
		if len(added) == 0 {
			added = nil
		}
		out, err := SentencePieceJSON(data, added, nil)
		if err != nil {
			return
		}
		tok, err := Parse(out)
		if err != nil {
			t.Fatalf("what was taken does not parse: %v", err)
		}
		ids, err := tok.Encode("Hello  world, it's 123 \n<s> é▁x", true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tok.Decode(ids, false); err != nil {
			t.Fatalf("%v: %v", ids, err)
		}
	})
}
