package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// chatDir returns a directory with the embedded model and a chat template.
func chatDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if got := finish(t, command(".", "example", dir)); got.status != 0 {
		t.Fatal(got.errors)
	}
	if err := os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(tinyTemplate), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// talk types lines into a conversation.
func talk(t *testing.T, dir string, typed string, args ...string) outcome {
	t.Helper()
	cmd := command(dir, append([]string{"run"}, args...)...)
	cmd.Stdin = strings.NewReader(typed)
	return finish(t, cmd)
}

func TestRunOnce(t *testing.T) {
	want := finish(t, command(".", "generate", "stories260k", "--prompt", "Once upon a time", "-n", "20", "-q")).out
	for _, c := range []struct {
		name, in string
		args     []string
	}{
		{"a prompt", "", []string{"stories260k", "Once", "upon a time"}},
		{"standard input", "Once upon a time\n", []string{"stories260k"}},
		{"both", "Once upon\n", []string{"stories260k", "a time"}},
		{"n-grams", "", []string{"stories260k", "Once upon a time", "--ngram", "--show-draft"}},
		{"a draft", "", []string{"stories260k", "Once upon a time", "--draft", "stories260k", "--speculate", "3", "--verbose"}},
	} {
		got := talk(t, ".", c.in, append(c.args, "--num-predict", "20")...)
		if got.status != 0 || got.out != want {
			t.Errorf("%s: %+v, want %q", c.name, got, want)
		}
		// A model that drafts for itself is always right; only the second candidates of its branches are not.
		if c.name == "a draft" && !regexp.MustCompile(`draft acceptance: +[1-9]\d* of`).MatchString(got.errors) {
			t.Errorf("%s: %s", c.name, got.errors)
		}
	}
	got := talk(t, ".", "", "stories260k", "Once upon a time", "-n", "600")
	if !strings.Contains(got.errors, "the context of 512 tokens is full") {
		t.Errorf("a full context: %+v", got)
	}
	if got := talk(t, ".", strings.Repeat("Once upon a time ", 200), "stories260k"); got.status != 1 || !strings.Contains(got.errors, "the model's context 512") {
		t.Errorf("a prompt that does not fit: %+v", got)
	}
	for want, args := range map[string][]string{
		"MODEL is missing":                   {},
		"--num-predict is 0":                 {"stories260k", "x", "-n", "0"},
		"--speculate needs":                  {"stories260k", "x", "--speculate", "2"},
		"has no chat template to put it in":  {"stories260k", "x", "--system", "y"},
		"there is no prompt":                 {"stories260k"},
		"takes no PROMPT":                    {"stories260k", "x", "-i"},
		"no such file":                       {"stories260k", "x", "--chat-template-file", "none"},
		"--temperature \"a\": want a number": {"stories260k", "x", "--temperature", "a"},
	} {
		if got := talk(t, ".", "", args...); got.status == 0 || !strings.Contains(got.errors, want) {
			t.Errorf("%v: %+v, want %q", args, got, want)
		}
	}
}

// TestConversation checks that each answer of a conversation is what a fresh generation makes of the same prompt, and that nothing is fed twice.
func TestConversation(t *testing.T) {
	dir := chatDir(t)
	got := talk(t, dir, "/set verbose\nOnce upon a time\n\"\"\"Tom and\nLily\"\"\"\n/save c.json\n", "-i", "-n", "12", ".")
	if got.status != 0 {
		t.Fatal(got.errors)
	}
	saved, err := os.ReadFile(filepath.Join(dir, "c.json"))
	if err != nil {
		t.Fatal(err)
	}
	messages, err := parseMessages(saved)
	if err != nil || len(messages) != 4 || messages[2].Content != "Tom and\nLily" {
		t.Fatalf("%s %v", saved, err)
	}
	if want := messages[1].Content + "\n" + messages[3].Content; strings.TrimSpace(strings.ReplaceAll(got.out, "\n ", "\n")) != want {
		t.Errorf("printed %q, saved %q", got.out, want)
	}
	said := ""
	for _, m := range messages {
		if m.Role == "user" {
			said += "u: " + m.Content + "\na:"
			continue
		}
		tokenize := command(dir, "tokenize", ".", "--no-special")
		line, err := jsonLine(said)
		if err != nil {
			t.Fatal(err)
		}
		tokenize.Stdin = bytes.NewReader(line)
		ids := strings.TrimSpace(finish(t, tokenize).out)
		if fresh := finish(t, command(dir, "generate", ".", "--prompt-ids", ids, "-n", "12", "-q")); strings.TrimSpace(fresh.out) != m.Content {
			t.Errorf("answer %q, a fresh one is %q", m.Content, fresh.out)
		}
		said += " " + m.Content + "\n"
	}
	if n := strings.Count(got.errors, " 0 more fed again"); n != 2 {
		t.Errorf("%d footers: %s", n, got.errors)
	}

	// Loaded and gone on with, the conversation goes as if it had never stopped.
	rest := talk(t, dir, "/load c.json\nThe end?\n/show system\n", "-i", "-n", "12", ".")
	whole := talk(t, dir, "Once upon a time\n\"\"\"Tom and\nLily\"\"\"\nThe end?\n/show system\n", "-i", "-n", "12", ".")
	if rest.status != 0 || !strings.HasSuffix(whole.out, rest.out) || len(rest.out) < 3 {
		t.Errorf("loaded %q, whole %q", rest.out, whole.out)
	}
}

func TestREPLCommands(t *testing.T) {
	dir := chatDir(t)
	for _, c := range []struct{ typed, out, errors string }{
		{"/?\n", "/set parameter NAME VALUE", ""},
		{"/set parameter temperature 0.5\n/set parameter top_k 7\n/set parameter seed 3\n/set parameter num_predict 9\n/show parameters\n", "temperature  0.5\ntop_p        0\ntop_k        7\nmin_p        0\nseed         3\nnum_predict  9\n", ""},
		{"/set parameter temperature x\n", "", "temperature: \"x\" is not a number"},
		{"/set parameter temperature -1\n", "", "temperature"},
		{"/set parameter num_predict 0\n", "", "want a positive number"},
		{"/set parameter speculate 3\n", "", "nobody guesses"},
		{"/set parameter num_ctx 3\n", "", "unknown parameter \"num_ctx\""},
		{"/set system Be brief.\n/show system\n", "Be brief.\n", "Set the system message."},
		{"/set system \"\"\"Be\nbrief.\"\"\"\n/show system\n", "Be\nbrief.\n", ""},
		{"/show template\n", tinyTemplate + "\n", ""},
		{"/show info\n", "parameters  260032\n", ""},
		{"/show\n", "", "want info"},
		{"/nothing\n", "", "unknown command \"/nothing\""},
		{"/save\n", "", "want a FILE"},
		{"/save x\n", "", "nothing was said"},
		{"/load nothing\n", "", "no such file"},
		{"/load tokenizer.json\n", "", "want a JSON array"},
		{"/clear\n/bye\nnever said\n", "", "forgotten"},
		{"\n  \n", "", ""},
	} {
		got := talk(t, dir, c.typed, ".", "--interactive")
		if got.status != 0 || !strings.Contains(got.out, c.out) || !strings.Contains(got.errors, c.errors) {
			t.Errorf("%q: %+v", c.typed, got)
		}
	}
}

func TestSamplingDefaults(t *testing.T) {
	dir := chatDir(t)
	if err := os.WriteFile(filepath.Join(dir, "generation_config.json"), []byte(`{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "top_k": 20}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := talk(t, dir, "/show parameters\n", ".", "-i", "--top-k", "5"); !strings.HasPrefix(got.out, "temperature  0.6\ntop_p        0.9\ntop_k        5\n") {
		t.Errorf("%+v", got)
	}
	if got := talk(t, dir, "/show parameters\n", ".", "-i", "--temperature", "0"); !strings.HasPrefix(got.out, "temperature  0\ntop_p        0\n") {
		t.Errorf("%+v", got)
	}
	one := talk(t, dir, "", ".", "Once", "--seed", "5", "-n", "20").out
	if two := talk(t, dir, "", ".", "Once", "--seed", "5", "-n", "20").out; one != two || len(one) < 10 {
		t.Errorf("with one seed %q and %q", one, two)
	}
}

func TestHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "history")
	h := newHistory(path)
	for _, line := range []string{"one", "", "two", "two", "  "} {
		h.Add(line)
	}
	h = newHistory(path)
	if h.Len() != 2 || h.At(0) != "two" || h.At(1) != "one" {
		t.Errorf("%q", h.lines)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != 8 {
		t.Errorf("%v %v", info, err)
	}
	t.Setenv("KRAIT_NOHISTORY", "1")
	if got := historyPath(); got != "" {
		t.Error(got)
	}
	t.Setenv("KRAIT_NOHISTORY", "")
	t.Setenv("XDG_STATE_HOME", "state")
	if got := historyPath(); got != filepath.Join("state", "krait", "history") {
		t.Error(got)
	}
}

func TestKeys(t *testing.T) {
	k := &keys{in: strings.NewReader("abc\x03def")}
	p := make([]byte, 100)
	n, err := k.Read(p)
	if err != nil || string(p[:n]) != "\x05\x15\r" || !k.interrupted {
		t.Errorf("%q %v", p[:n], err)
	}
}
