package tokenizer

import (
	"strings"
	"testing"
	"time"
)

// TestLoadTime: the largest tokenizer of the families here is read in half a second. It runs where Llama 3's file is, which is where nothing
// else should be running.
func TestLoadTime(t *testing.T) {
	t.Run("llama3", func(t *testing.T) {
		data := bigTokenizer(t, "llama3")
		best := time.Hour
		for range 5 {
			start := time.Now()
			if _, err := Parse(data); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(start))
		}
		t.Logf("%d bytes in %v", len(data), best)
		if best > 2*time.Second { // half a second where nothing else runs; a busy machine takes longer
			t.Errorf("%d bytes in %v, want half a second on a quiet machine", len(data), best)
		}
	})
}

// sample is about 60 kB of prose, code, numbers and other scripts.
func sample(b *testing.B) string {
	var s strings.Builder
	for s.Len() < 60_000 {
		for _, v := range vectors(b) {
			s.WriteString(v.Text)
			s.WriteByte('\n')
		}
	}
	return s.String()
}

// BenchmarkEncode is the speed with the words of the text remembered: 5 MB/s is the least.
func BenchmarkEncode(b *testing.B) {
	for _, name := range []string{"stories260k", "smollm2", "gpt_neox_20b", "tinyllama", "qwen2", "llama3"} {
		b.Run(name, func(b *testing.B) {
			tok, text := load(b, name), sample(b)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := tok.Encode(text, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncodeCold is the speed of merging: no word is remembered.
func BenchmarkEncodeCold(b *testing.B) {
	tok, text := load(b, "smollm2"), sample(b)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.model.cache = newWordCache()
		if _, err := tok.Encode(text, true); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	tok, text := load(b, "smollm2"), sample(b)
	ids, err := tok.Encode(text, false)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := tok.Decode(ids, false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"smollm2", "tinyllama", "qwen2", "llama3"} {
		b.Run(name, func(b *testing.B) {
			data := tokenizerFile(b, name)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := Parse(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
