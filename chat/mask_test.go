package chat

import (
	"bytes"
	"compress/gzip"
	"flag"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"krait/tokenizer"
)

func readTokenizer(t testing.TB, name string) *tokenizer.Tokenizer {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "tokenizer", "testdata", name+".json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if data, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

var seed = flag.Uint64("seed", 1, "seed of the random tests")

// endings are the texts with which the templates of generated_cases.json.gz end the assistant's turn.
var endings = map[string]string{
	"SmolLM2-Instruct (ChatML with default system prompt)": "<|im_end|>", "ChatML (OpenHermes-2.5)": "<|im_end|>", "Qwen2.5-Instruct": "<|im_end|>",
	"Zephyr / TinyLlama-Chat": "</s>", "Mistral-7B-Instruct-v0.2 (no system role)": "</s>", "Mistral 'v1' with system prompt": "</s>",
	"Mistral-Large-2411 'v7'": "</s>", "Llama-2-chat (vigogne variant)": "</s>",
	"Llama-3-Instruct": "<|eot_id|>", "Llama-3 (always adds generation prompt)": "<|eot_id|>", "Llama-3.1-8B-Instruct": "<|eot_id|>", "Phi-3-mini": "<|end|>",
}

// words are what random contents are made of.
var words = []string{"Paris", " is", "\n", "\n\n", " ", ".", "<", ">", "</s", "日本", "😀", "é", "'", "\"", "{{", "%}", "1", "234", "\t", "the", "-", "|", "é"}

func randomContent(rng *rand.Rand) string {
	var b strings.Builder
	for range 1 + rng.IntN(12) {
		b.WriteString(words[rng.IntN(len(words))])
	}
	return b.String()
}

// TestMasks checks over templates, tokenizers and random conversations that the masked tokens are what the assistant says and the token that ends
// its turn, whole where the ending is a token of the tokenizer, and otherwise up to tokens that reach over an edge.
func TestMasks(t *testing.T) {
	var all generatedCases
	readCases(t, "generated_cases.json.gz", &all)
	rng := rand.New(rand.NewPCG(*seed, 2))
	for _, name := range []string{"smollm2", "tinyllama"} {
		tok := readTokenizer(t, name)
		turns, cut := 0, 0
		for _, tplName := range slices.Sorted(maps.Keys(all.Templates)) {
			x := all.Templates[tplName]
			tpl, err := New(x.Template, tokens(x.BOS, x.EOS))
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				messages := []Message{{Role: "user", Content: randomContent(rng)}}
				for range 1 + rng.IntN(3) {
					messages = append(messages, Message{Role: "assistant", Content: randomContent(rng)}, Message{Role: "user", Content: randomContent(rng)})
				}
				messages = messages[:len(messages)-rng.IntN(2)]
				n, c := checkMasks(t, tpl, tok, messages, endings[tplName], x.Extra)
				turns, cut = turns+n, cut+c
				if t.Failed() {
					t.Fatalf("%s, %s", name, tplName)
				}
			}
		}
		t.Logf("%s: %d turns, %d with a token over an edge", name, turns, cut)
	}
}

// checkMasks returns the number of turns, and of those that a token reaches over an edge of.
func checkMasks(t *testing.T, tpl *Template, tok *tokenizer.Tokenizer, messages []Message, ending string, extra map[string]any) (turns, cut int) {
	t.Helper()
	ids, assistant, err := tpl.Masks(tok, messages, extra)
	if err != nil {
		t.Fatal(err)
	}
	text, err := tpl.Render(messages, false, extra)
	if err != nil {
		t.Fatal(err)
	}
	whole, offsets, err := tok.EncodeOffsets(text, false)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(ids, whole) {
		t.Fatalf("%q: ids %v, want %v", text, ids, whole)
	}
	endID, isToken := tok.ID(ending)
	isToken = isToken && tok.IsSpecial(endID)
	var want []string
	for _, m := range messages {
		if m.Role == "assistant" && strings.TrimSpace(m.Content) != "" {
			w := m.Content
			if isToken {
				w += ending
			}
			want = append(want, w)
		}
	}
	var got []string
	for i := 0; i < len(ids); {
		if !assistant[i] {
			i++
			continue
		}
		from := i
		for i < len(ids) && assistant[i] {
			i++
		}
		got = append(got, text[offsets[from][0]:offsets[i-1][1]])
		for j := from + 1; j < i; j++ { // no bytes are lost between tokens
			if offsets[j][0] > offsets[j-1][1] {
				t.Fatalf("%q: a gap at byte %d", text, offsets[j][0])
			}
		}
	}
	for _, w := range want {
		g := ""
		if len(got) > 0 {
			g = got[0]
		}
		at := strings.Index(text, w)
		edge := !isToken || at < 0 || slices.ContainsFunc(offsets, func(o [2]int) bool { return o[0] < at && at < o[1] })
		squeezed := strings.Join(strings.Fields(w), "")
		switch h := strings.Join(strings.Fields(g), ""); {
		case h == squeezed && (strings.Contains(g, w) || !strings.Contains(text, w)): // there are templates that trim
			got = got[1:]
		case edge && h != "" && strings.Contains(squeezed, h) && len(squeezed)-len(h) < 8:
			cut, got = cut+1, got[1:]
		case edge && len(squeezed) < 8: // all of it, or all but white space, is in such tokens
			cut++
			if h == "" && len(got) > 0 {
				got = got[1:]
			}
		default:
			t.Fatalf("%q: masked %q, want %q", text, got, w)
		}
	}
	if len(got) > 0 {
		t.Fatalf("%q: masked %q besides", text, got)
	}
	return len(want), cut
}

func TestGenerationBlocks(t *testing.T) {
	source := "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{{ '\\n' }}{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
	marked, err := New(source, nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := New(strings.NewReplacer("{% generation %}", "", "{% endgeneration %}", "").Replace(source), nil)
	if err != nil {
		t.Fatal(err)
	}
	tok := readTokenizer(t, "smollm2")
	rng := rand.New(rand.NewPCG(*seed, 4))
	for range 50 {
		messages := []Message{{Role: "user", Content: "\uFDD0\uFDD1" + randomContent(rng)}, {Role: "assistant", Content: "a" + randomContent(rng)}, {Role: "user", Content: ""}, {Role: "assistant", Content: randomContent(rng) + "b"}}
		checkMasks(t, marked, tok, messages, "<|im_end|>", nil)
		ids1, mask1, err1 := marked.Masks(tok, messages, nil)
		ids2, mask2, err2 := plain.Masks(tok, messages, nil)
		if err1 != nil || err2 != nil || !slices.Equal(ids1, ids2) || !slices.Equal(mask1, mask2) {
			t.Fatalf("%q: with blocks %v %v, by differences %v %v", messages, mask1, err1, mask2, err2)
		}
	}
}

func TestMasksRefuse(t *testing.T) {
	tok := readTokenizer(t, "smollm2")
	messages := []Message{{Role: "user", Content: "q"}, {Role: "assistant", Content: "a"}}
	for source, want := range map[string]string{
		"{% for m in messages %}{{ m.role }}{% endfor %}":                                             "does not print what the assistant says",
		"{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}":                           "prints it twice",
		"{{ messages[1].content | length }}{{ messages[1].content }}":                                 "prints other messages otherwise",
		"{% set x %}{% generation %}ab{% endgeneration %}{% endset %}{{ x[1:] }}":                     "changes what its generation blocks print",
		"{% generation %}a{% generation %}b{% endgeneration %}{% endgeneration %}":                    "inside another",
		"{% for m in messages %}{% if m.role == 'assistant' %}{{ nothing.x }}{% endif %}{% endfor %}": "nothing is undefined",
	} {
		tpl, err := New(source, nil)
		if err == nil {
			_, _, err = tpl.Masks(tok, messages, nil)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
	}
}
