package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tinyTemplate is a chat template for the embedded model's tokenizer, in which nothing but words and newlines come up.
const tinyTemplate = "{% for m in messages %}{{ m.role[0] }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}a:{% endif %}"

func TestTemplate(t *testing.T) {
	dir := t.TempDir()
	config := `{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default",
		"template": "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ m | tojson }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<a>{% else %}{{ strftime_now('%Y')[:2] }}{% endif %}\n\n\n"}]}`
	if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	in := `[{"role": "user", "z": {"b": 1, "a": [1.0]}, "content": "é <&>"}]`
	said := `<s><user>é <&>{"role": "user", "z": {"b": 1, "a": [1.0]}, "content": "é <&>"}</s>`
	for _, c := range []struct {
		in, want, errors string
		args             []string
	}{
		{in, said + "<a>\n", "", nil},
		{in, said + "20\n", "", []string{"--no-generation-prompt"}},
		{`[]`, "<s><a>\n", "", nil},
		{`{}`, "", "want a JSON array", nil},
		{`null`, "", "want a JSON array", nil},
		{`[{"content": "x"}]`, "", "a message has no role", nil},
		{`[{"role": "user", "role": "x"}]`, "", "has role twice", nil},
		{`[{"role": 1}]`, "", "role of a message is not a string", nil},
		{"[{\"role\": \"\xff\"}]", "", "not valid UTF-8 at byte 11", nil},
	} {
		cmd := command(dir, append([]string{"template", "."}, c.args...)...)
		cmd.Stdin = strings.NewReader(c.in)
		got := finish(t, cmd)
		if got.out != c.want || !strings.Contains(got.errors, c.errors) || (got.status == 0) != (c.errors == "") {
			t.Errorf("%s %v: %+v, want %q %q", c.in, c.args, got, c.want, c.errors)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte("{{ messages | length }}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := command(dir, "template", ".")
	cmd.Stdin = strings.NewReader(in)
	if got := finish(t, cmd); got.out != "1" {
		t.Errorf("with chat_template.jinja: %+v", got)
	}
	cmd = command(dir, "template", "stories260k")
	cmd.Stdin = strings.NewReader(in)
	if got := finish(t, cmd); got.status != 1 || got.errors != "krait: stories260k has no chat template\n" {
		t.Errorf("without a template: %+v", got)
	}
}
