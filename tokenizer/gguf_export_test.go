package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGGUFRoundTrip turns each family's tokenizer.json into GGUF's form and back: the ids stay.
func TestGGUFRoundTrip(t *testing.T) {
	stories, err := os.ReadFile(filepath.Join(storiesDir, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, model, pre string
		data             []byte
	}{
		{"smollm2", "gpt2", "smollm", gunzip(t, "smollm2.json.gz")},
		{"gpt_neox_20b", "gpt2", "gpt-2", gunzip(t, "gpt_neox_20b.json.gz")},
		{"tinyllama", "llama", "default", gunzip(t, "tinyllama.json.gz")},
		{"stories260k", "llama", "default", stories},
	} {
		g, err := NewGGUF(c.data, nil)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if g.Model != c.model || g.Pre != c.pre {
			t.Errorf("%s: model %q, pre %q, want %q, %q", c.name, g.Model, g.Pre, c.model, c.pre)
		}
		size := len(g.Tokens)
		g.Pad(size + 3)
		data, err := g.JSON()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		original := load(t, c.name)
		for id := range int32(size) {
			if back.IsSpecial(id) != original.IsSpecial(id) {
				t.Errorf("%s: token %d is special: %v", c.name, id, back.IsSpecial(id))
			}
		}
		for _, v := range vectors(t) {
			want, err := original.Encode(v.Text, true)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := back.Encode(v.Text, true); (err != nil || !slices.Equal(got, want)) && !composes(c.name, v.Text) {
				t.Errorf("%s: %q is %v (%v), want %v", c.name, v.Text, got, err, want)
			}
		}
	}
}

// composes reports texts that a tokenizer with NFC changes: GGUF has no place for that.
func composes(name, text string) bool {
	return name == "gpt_neox_20b" && strings.ContainsFunc(text, func(r rune) bool { return r >= 0x300 })
}

func TestNewGGUFRefuses(t *testing.T) {
	base := func() object {
		return object{
			"pre_tokenizer": object{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
			"model":         object{"type": "BPE", "vocab": object{"a": 0, "b": 1, "ab": 2, "c d": 3, "c dab": 4}, "merges": [][]string{{"a", "b"}}},
			"decoder":       object{"type": "ByteLevel"},
		}
	}
	spm := func(merges [][]string) func(object) {
		return func(o object) {
			o["pre_tokenizer"] = nil
			o["normalizer"] = object{"type": "Replace", "pattern": object{"String": " "}, "content": "▁"}
			m := o["model"].(object)
			m["byte_fallback"], m["merges"], m["vocab"] = true, merges, object{"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5}
		}
	}
	for want, change := range map[string]func(object){
		"":                                       func(object) {},
		"pre_tokenizer WhitespaceSplit":          func(o object) { o["pre_tokenizer"] = object{"type": "WhitespaceSplit"} },
		"pre_tokenizer ByteLevel has no name":    func(o object) { o["pre_tokenizer"].(object)["add_prefix_space"] = true },
		"this way to cut":                        func(o object) { o["pre_tokenizer"].(object)["use_regex"] = false },
		"normalizer Lowercase":                   func(o object) { o["normalizer"] = object{"type": "Lowercase"} },
		`the merge of "c d" and "ab"`:            func(o object) { o["model"].(object)["merges"] = [][]string{{"a", "b"}, {"c d", "ab"}} },
		"neither byte-level nor":                 func(o object) { o["pre_tokenizer"] = nil },
		"the order of its merges does not come":  spm([][]string{{"a", "b"}, {"b", "c"}, {"a", "bc"}}),
		"the order of its merges does not come ": spm([][]string{{"a", "b"}, {"ab", "c"}, {"b", "c"}, {"a", "bc"}}),
	} {
		o := base()
		change(o)
		data, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = NewGGUF(data, nil); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want))) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
