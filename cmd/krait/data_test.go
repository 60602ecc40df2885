package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"krait/checkpoint"
	"krait/recipe"
)

// TestDataInspect: the tokens to be learnt are marked, lengths and drops counted with their reasons.
func TestDataInspect(t *testing.T) {
	dir := home(t)
	write(t, filepath.Join(dir, "rows.jsonl"), []byte(`{"prompt":"Once upon","completion":" a time there was a cat."}
{"prompt":"x","completion":""}
{"text":"Lily and Tim sat in the park and they played with the big red ball until the sun went down."}
{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}
{"text":"The end"}
`))
	write(t, filepath.Join(dir, "eval.jsonl"), []byte(`{"q":"They played with the big red ball until the sun went down."}`))
	out := must(t, dir, "data", "inspect", "rows.jsonl", "--model", "teacher", "--skip-bad-rows", "--decontaminate", "eval.jsonl", "--decontaminate-ngram", "8", "--rows", "9")
	for _, want := range []string{"rows.jsonl:1  12 tokens, 9 to be learnt", "Once upon[ a time there was a cat.", "rows.jsonl:2  left out: completion: nothing in it is to be learnt",
		"rows.jsonl:3  left out: it shares text with an evaluation set", "rows.jsonl:4  left out: it is a conversation, and the model has no chat template", "5, 2 used, 0 of them cut"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	var c recipe.RowCounts
	mustJSON(t, dir, &c, "data", "inspect", "rows.jsonl", "--model", "teacher", "--context", "5", "--json")
	if c.Rows != 5 || c.Used != 3 || c.Cut != 2 || c.Longest != 5 || len(c.Dropped) != 2 {
		t.Errorf("%+v", c)
	}
	write(t, filepath.Join(dir, "pairs.jsonl"), []byte(`{"prompt":"Once","chosen":" upon a time","rejected":" there"}`))
	if out := must(t, dir, "data", "inspect", "pairs.jsonl", "--model", "teacher", "--pairs"); !strings.Contains(out, "chosen, ") || !strings.Contains(out, "Once[ there") {
		t.Errorf("%s", out)
	}
}

// TestSFTMixture: weights take shares of the rows or several copies of them, rows of evaluation sets are left out and counted, and a compressed file
// is read like a plain one.
func TestSFTMixture(t *testing.T) {
	dir := home(t)
	var rows []byte
	for i := range 200 {
		j, err := json.Marshal(map[string]string{"text": strings.Repeat("the cat sat on the mat ", 1+i%3) + strings.Repeat("x", i%7)})
		if err != nil {
			t.Fatal(err)
		}
		rows = append(append(rows, j...), '\n')
	}
	write(t, filepath.Join(dir, "many.jsonl"), rows)
	write(t, filepath.Join(dir, "few.txt"), []byte("One day a dog ran.\nAnother day the very same dog ran home again with a bone.\n"))
	write(t, filepath.Join(dir, "eval.txt"), []byte("the very same dog ran home again\n"))
	sft := func(out string, args ...string) (string, map[string]float64) {
		r := krait(t, dir, "", append([]string{"sft", "teacher", "--steps", "2", "--batch-tokens", "200", "--out", out}, args...)...)
		if r.status != 0 {
			t.Fatalf("%+v", r)
		}
		p, err := checkpoint.ReadProvenance(filepath.Join(dir, out))
		if err != nil {
			t.Fatal(err)
		}
		return r.errors, p.Metrics
	}
	said, m := sft("a", "--mixture", "many.jsonl=0.25", "--mixture", "few.txt=3", "--decontaminate", "eval.txt", "--decontaminate-ngram", "7")
	if m["rows"] != 202 || m["rows_contaminated"] != 1 || !strings.Contains(said, "1 left out as they share text with eval.txt") {
		t.Errorf("%q, %v", said, m)
	}
	var conversations int
	if at := strings.Index(said, " conversations of"); at > 0 {
		if err := json.Unmarshal([]byte(said[strings.LastIndexByte(said[:at], ' ')+1:at]), &conversations); err != nil {
			t.Fatal(err)
		}
	}
	if conversations < 3+30 || conversations > 3+70 { // 3 copies and about a quarter of 200
		t.Errorf("%d conversations: %q", conversations, said)
	}
	fails(t, dir, []string{"mixture: few.txt has the weight -1, want a positive number"}, "sft", "teacher", "--mixture", "few.txt=-1", "--out", "b")
	if r := krait(t, dir, "", "sft", "teacher", "--out", "b"); r.status != statusUsage || !strings.Contains(r.errors, "--data FILE is missing") {
		t.Errorf("%+v", r)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".krait-tokens-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
