package chat

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// FuzzTemplate renders any source: it is an error or a text, never a panic, and what its generation blocks print does not change it.
func FuzzTemplate(f *testing.F) {
	var all generatedCases
	readCases(f, "generated_cases.json.gz", &all)
	for _, t := range all.Templates {
		f.Add(t.Template)
	}
	var more struct{ Templates map[string]string }
	readCases(f, "jinja2_cases.json.gz", &more)
	for _, source := range more.Templates {
		f.Add(source)
	}
	f.Add("{{" + strings.Repeat("(", 5000))
	f.Add(strings.Repeat("{% if a %}", 5000))
	f.Add("{{ a" + strings.Repeat(" or a", 20000) + "}}")
	messages := []Message{{Role: "system", Content: "s"}, {Role: "user", Content: "q é"}, {Role: "assistant", Content: " a\n"}}
	f.Fuzz(func(t *testing.T, source string) {
		if strings.Contains(source, "*") || strings.Contains(source, "range") { // repetition may take all memory, as in Python
			return
		}
		tpl, err := New(source, tokens("<s>", "</s>"))
		if err != nil {
			return
		}
		tpl.Now = func() time.Time { return time.Unix(0, 0).UTC() }
		text, err := tpl.Render(messages, true, nil)
		if err != nil {
			return
		}
		again, err := tpl.Render(messages, true, nil)
		if err != nil || again != text {
			t.Fatalf("%q, then %q %v", text, again, err)
		}
		_, _, _ = tpl.spans(messages, nil)
	})
}

// FuzzMessage reads any message: what is read is written and read again the same.
func FuzzMessage(f *testing.F) {
	f.Add(`{"role": "user", "content": "x"}`)
	f.Add(`{"z": [1, {"b": 1e400}], "content": null, "role": "\ud800<&>"}`)
	f.Add(`{"role": "a", "role": "b"}`)
	f.Fuzz(func(t *testing.T, data string) {
		var m Message
		if json.Unmarshal([]byte(data), &m) != nil {
			return
		}
		first, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var n Message
		if err := json.Unmarshal(first, &n); err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, err := json.Marshal(n); err != nil || string(second) != string(first) {
			t.Fatalf("%s, then %s %v", first, second, err)
		}
		_, _ = m.value()
	})
}
