package tokenizer

import (
	"slices"
	"testing"
	"unicode/utf8"
)

var scanners = map[string]scanner{gpt2Pattern: scanGPT2, llama3Pattern: scanLlama3, qwen2Pattern: scanQwen2}

// FuzzScanners: the hand-written scanners cut as the regular expressions that they replace.
func FuzzScanners(f *testing.F) {
	for _, s := range []string{
		"Hello world", "I'll we'Re 'S x'ſ don't 'l 'll'", "a  b   c \n\n d\r\n\r\n e \t", "1234567 ١٢٣٤ ½ Ⅷ", " \n", "\n ", "...\n\n x!\r", "\u00a0x\u3000\u0085y\v\f",
		"''", "'", "'r", "x \u2028 y", "日本語 тест", "$1,000.00 <|end|>", "é e\u0301 👩‍👩‍👧 \u200b", "İ'T", "'\u017fx", "_a -b", "\x00\x1c\x1f",
	} {
		f.Add(s)
	}
	find := map[string]finder{}
	for pattern := range scanners {
		var err error
		if find[pattern], err = findRegexp(pattern); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		for pattern, scan := range scanners {
			var want, got []int
			e := &encoder{}
			find[pattern](e, s, func(i, j int) { want = append(want, j) })
			if e.err != nil {
				t.Fatal(e.err)
			}
			for i := 0; i < len(s); i = got[len(got)-1] {
				got = append(got, scan(s, i))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%q under %s\n got %v\nwant %v", s, pattern, got, want)
			}
		}
	})
}
