package main

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"krait/tokenizer"
)

// TestTokenizerModel: a directory whose tokenizer is a tokenizer.model does all that one with a tokenizer.json does, with the same ids.
func TestTokenizerModel(t *testing.T) {
	dir := home(t)
	if err := os.Rename(filepath.Join(dir, "teacher"), filepath.Join(dir, "pieces")); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "example", "teacher")
	old := filepath.Join(dir, "pieces", "tokenizer.json")
	g, err := tokenizer.NewGGUF(read(t, old), nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "pieces", "tokenizer.model"), piecesOf(g))
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	text := `"Once upon a time, there was a naïve 😀 <s> girl  ."` + "\n"
	for _, args := range [][]string{{"tokenize"}, {"run"}, {"generate", "--prompt", "Once upon", "--max-tokens", "20", "--temperature", "0"}} {
		var out [2]string
		for i, m := range []string{"teacher", "pieces"} {
			o := krait(t, dir, text, append([]string{args[0], m}, args[1:]...)...)
			if o.status != 0 || o.out == "" {
				t.Fatalf("%v %s: %+v", args, m, o)
			}
			out[i] = o.out
		}
		if out[0] != out[1] {
			t.Errorf("%v: %q and %q", args, out[0], out[1])
		}
	}
	// A model that is not BPE says so where text is needed, and nowhere else.
	write(t, filepath.Join(dir, "pieces", "tokenizer.model"), append(piecesOf(g), 0x12, 2, 3<<3, 1))
	fails(t, dir, []string{"pieces", "tokenizer.model: a unigram model is not supported"}, "generate", "pieces", "--prompt", "x")
	write(t, filepath.Join(dir, "ids.json"), []byte("[[1,2]]"))
	must(t, dir, "logits", "pieces", "--ids", "ids.json", "--out", "logits")
}

// piecesOf writes a tokenizer as a SentencePiece model.
func piecesOf(g *tokenizer.GGUF) []byte {
	message := func(b []byte, number byte, inner []byte) []byte {
		return append(binary.AppendUvarint(append(b, number<<3|2), uint64(len(inner))), inner...)
	}
	var out []byte
	for id, token := range g.Tokens {
		p := message(nil, 1, []byte(token))
		p = binary.LittleEndian.AppendUint32(append(p, 2<<3|5), math.Float32bits(g.Scores[id]))
		out = message(out, 1, append(p, 3<<3, byte(g.Types[id])))
	}
	out = message(out, 2, []byte{3 << 3, 2, 0x98, 2, 1}) // BPE, byte_fallback (field 35)
	return message(out, 3, []byte{4 << 3, 0})            // remove_extra_whitespaces off
}
