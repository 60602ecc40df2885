package data

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestPrompts reads every form of a prompt, and refuses rows without one by their line.
func TestPrompts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.json")
	text := `{"prompt":"a","completion":"x"}
{"prompt":[{"role":"system","content":"s"},{"role":"user","content":"b"}]}
{"instruction":"c","input":"d","output":"x"}
{"messages":[{"role":"user","content":"e"},{"role":"assistant","content":"x"}]}
{"conversations":[{"from":"human","value":"f"},{"from":"gpt","value":"x"}]}
{"text":"g"}
{"prompt":""}
{"messages":[{"role":"assistant","content":"x"}]}
{"answer":"x"}
`
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var got, wrong []string
	for p, err := range Prompts(path) {
		if err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		got = append(got, p.Text)
		if p.Line != len(got) {
			t.Errorf("%q at line %d", p.Text, p.Line)
		}
	}
	if want := []string{"a", "b", "c\n\nd", "e", "f", "g"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if want := []string{path + ": line 7: prompt is empty", path + ": line 8: no message is the user's",
		path + ": line 9: fields answer: want prompt, instruction, messages, conversations or text"}; !slices.Equal(wrong, want) {
		t.Errorf("%q, want %q", wrong, want)
	}
}
