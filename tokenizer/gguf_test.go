package tokenizer

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// ggufOf makes the entries of a GGUF file from a tokenizer.json of testdata, as llama.cpp's converter would.
func ggufOf(t *testing.T, name, model, pre string) (*GGUF, []string) {
	t.Helper()
	var f struct {
		AddedTokens []addedToken `json:"added_tokens"`
		Model       struct {
			Vocab  map[string]int32
			Merges []any // "a b", or a list of the two
		}
	}
	if err := json.Unmarshal(gunzip(t, name+".json.gz"), &f); err != nil {
		t.Fatal(err)
	}
	n := int32(0)
	for _, id := range f.Model.Vocab {
		n = max(n, id+1)
	}
	for _, a := range f.AddedTokens {
		n = max(n, a.ID+1)
	}
	var merges []string
	for _, m := range f.Model.Merges {
		if pair, ok := m.([]any); ok {
			m = pair[0].(string) + " " + pair[1].(string)
		}
		merges = append(merges, m.(string))
	}
	g := &GGUF{Model: model, Pre: pre, Tokens: make([]string, n), Types: make([]int32, n), BOS: -1, EOS: -1, UNK: -1, Merges: merges}
	for token, id := range f.Model.Vocab {
		g.Tokens[id], g.Types[id] = token, ggufNormal
	}
	for _, a := range f.AddedTokens {
		g.Tokens[a.ID], g.Types[a.ID] = a.Content, ggufControl
		if !a.Special {
			g.Types[a.ID] = ggufUserDefined
		}
	}
	if model == "llama" {
		g.Merges, g.BOS, g.EOS, g.UNK = nil, 1, 2, 0
		g.Types[0] = ggufUnknown
		g.Scores = make([]float32, n)
		for id, token := range g.Tokens {
			switch {
			case len(token) == 6 && strings.HasPrefix(token, "<0x"):
				g.Types[id] = ggufByte
			case strings.Trim(token, spaceMark) == "": // as in Llama's own file
				g.Scores[id] = -1e9
			default:
				g.Scores[id] = -float32(id)
			}
		}
	}
	return g, merges
}

// TestGGUFGivesTheSameTokens holds the vectors of Hugging Face's library against tokenizers that came by way of a GGUF file.
func TestGGUFGivesTheSameTokens(t *testing.T) {
	for _, c := range []struct{ name, model, pre string }{{"smollm2", "gpt2", "smollm"}, {"tinyllama", "llama", "default"}} {
		g, merges := ggufOf(t, c.name, c.model, c.pre)
		data, err := g.JSON()
		if err != nil {
			t.Fatal(err)
		}
		tok, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range vectors(t) {
			want := v.Enc[c.name]
			got, err := tok.Encode(v.Text, false)
			if err != nil || !slices.Equal(got, want.IDs) {
				t.Errorf("%s: %q is %v (%v), want %v", c.name, v.Text, got, err, want.IDs)
			}
			text := v.Text
			if want.Decoded != nil {
				text = *want.Decoded
			}
			if back, err := tok.Decode(got, false); err != nil || back != text {
				t.Errorf("%s: %v decodes to %q (%v), want %q", c.name, got, back, err, text)
			}
			withSpecial := want.IDs
			if len(want.IDsWithSpecial) > 0 {
				withSpecial = want.IDsWithSpecial
			}
			if got, _ := tok.Encode(v.Text, true); !slices.Equal(got, withSpecial) {
				t.Errorf("%s: %q with special tokens is %v, want %v", c.name, v.Text, got, withSpecial)
			}
		}
		if c.model != "llama" {
			continue
		}
		made := g.scoredMerges()
		if len(made) != len(merges) {
			t.Fatalf("%s: the scores make %d merges, the file has %d", c.name, len(made), len(merges))
		}
		for i, m := range made {
			if m[0]+" "+m[1] != merges[i] {
				t.Fatalf("%s: merge %d is %q, want %q", c.name, i, m, merges[i])
			}
		}
	}
}

func TestGGUFPreTokenizers(t *testing.T) {
	alphabet := make([]string, 256)
	for b, r := range byteRunes {
		alphabet[b] = string(r)
	}
	count := func(tok *Tokenizer, text string) (words []string) {
		e := encoder{t: tok}
		var walk func(c chunk, i int)
		walk = func(c chunk, i int) {
			if i == len(tok.splitters) {
				words = append(words, c.s)
				return
			}
			tok.splitters[i](&e, c, func(c chunk) { walk(c, i+1) })
		}
		walk(chunk{s: text, first: true}, 0)
		return words
	}
	const text = "I'LL pay 12345 $$ now\n\n  ok"
	for pre, want := range map[string]string{
		"smollm":    "I|'|LL| pay| |1|2|3|4|5| $$| now|\n\n | ok",
		"llama-bpe": "I|'LL| pay| |123|45| $$| now|\n\n| | ok",
		"qwen2":     "I|'LL| pay| |1|2|3|4|5| $$| now|\n\n| | ok",
		"gpt-2":     "I|'|LL| pay| 12345| $$| now|\n\n | ok",
		"tekken":    "I|'LL| pay| |1|2|3|4|5| $$| now|\n\n| | ok",
		"default":   "I|'|LL| pay| |123|45| |$$| now|\n\n | ok",
		"":          "I|'|LL| pay| |123|45| |$$| now|\n\n | ok",
	} {
		data, err := (&GGUF{Model: "gpt2", Pre: pre, Tokens: alphabet, BOS: 5, EOS: 6, UNK: -1}).JSON()
		if err != nil {
			t.Fatal(err)
		}
		tok, err := Parse(data)
		if err != nil {
			t.Fatalf("%q: %v", pre, err)
		}
		if got := strings.Join(count(tok, text), "|"); got != want {
			t.Errorf("%q: %q, want %q", pre, got, want)
		}
		bos := pre == "llama-bpe" || pre == "tekken"
		if got, _ := tok.Encode("a", true); len(got) != 1 != bos {
			t.Errorf("%q: BOS is put: %v", pre, got)
		}
	}
}

func TestGGUFSwitches(t *testing.T) {
	yes, no := true, false
	g := GGUF{Model: "llama", Tokens: []string{"<unk>", "<s>", "</s>", "▁", "a", "▁a", "<mine>"}, Types: []int32{2, 3, 3, 1, 1, 1, 4},
		Scores: []float32{0, 0, 0, -3, -2, -1, 0}, BOS: 1, EOS: 2, UNK: 0}
	for _, c := range []struct {
		bos, eos, space *bool
		text            string
		want            []int32
		back            string
	}{
		{nil, nil, nil, "a", []int32{1, 5}, "<s> a"},
		{&no, nil, nil, "a a", []int32{5, 5}, "a a"},
		{&yes, &yes, &no, "a a", []int32{1, 4, 5, 2}, "<s>a a</s>"},
		{&no, nil, nil, "a<mine>b", []int32{5, 6, 3, 0}, "a<mine> <unk>"},
	} {
		g.AddBOS, g.AddEOS, g.AddSpacePrefix = c.bos, c.eos, c.space
		data, err := g.JSON()
		if err != nil {
			t.Fatal(err)
		}
		tok, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tok.Encode(c.text, true); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q is %v (%v), want %v", c.text, got, err, c.want)
		}
		if back, err := tok.Decode(c.want, false); err != nil || back != c.back {
			t.Errorf("%v is %q (%v), want %q", c.want, back, err, c.back)
		}
	}
}

func TestGGUFRefuses(t *testing.T) {
	good := GGUF{Model: "gpt2", Pre: "gpt-2", Tokens: []string{"a", "b", "ab"}, Merges: []string{"a b"}, BOS: -1, EOS: -1, UNK: -1}
	for want, change := range map[string]func(g *GGUF){
		"tokenizer.ggml.tokens is missing":                func(g *GGUF) { g.Tokens = nil },
		`tokenizer.ggml.model "bert"`:                     func(g *GGUF) { g.Model = "bert" },
		`tokenizer.ggml.pre "frog" is unknown`:            func(g *GGUF) { g.Pre = "frog" },
		"tokenizer.ggml.token_type has 1":                 func(g *GGUF) { g.Types = []int32{1} },
		"tokenizer.ggml.scores has 0":                     func(g *GGUF) { g.Model = "llama" },
		"tokenizer.ggml.eos_token_id is 3":                func(g *GGUF) { g.EOS = 3 },
		`tokenizer.ggml.merges: entry 0 is "ab"`:          func(g *GGUF) { g.Merges = []string{"ab"} },
		`tokenizer.ggml.merges: entry 0 is ""`:            func(g *GGUF) { g.Merges = []string{""} },
		`token 1 ("a") has the spelling of token 0 as we`: func(g *GGUF) { g.Tokens = []string{"a", "a"} },
		"token 0 is not valid UTF-8":                      func(g *GGUF) { g.Tokens = []string{"\xff"} },
	} {
		g := good
		change(&g)
		if _, err := g.JSON(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
