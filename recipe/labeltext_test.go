package recipe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"krait/data"
)

// textLabels labels from files and returns the documents.
func textLabels(t *testing.T, change func(*LabelConfig), text ...string) ([]data.Document, LabelConfig, error) {
	t.Helper()
	c := DefaultLabel()
	c.Teacher, c.Out, c.Text, c.MaxTokens = stories(t, ""), filepath.Join(t.TempDir(), "labels"), text, 16
	if change != nil {
		change(&c)
	}
	if err := Label(t.Context(), c, quiet); err != nil {
		return nil, c, err
	}
	docs, err := data.ReadDocuments(filepath.Join(c.Out, labelsFile), 512)
	return docs, c, err
}

func textFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLabelText: documents of a text are what the tokenizer makes of its rows, in parts; the prompt of a row is given in each part that has some of it, and
// a part that is all prompt is none.
func TestLabelText(t *testing.T) {
	_, r, err := new(RowsConfig).start(stories(t, ""), &TrainConfig{Steps: 1, BatchTokens: 1, Accumulate: 1, Context: 512, LR: 1}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	text := "Once upon a time there was a big red dog. It liked to run and to jump."
	docs, _, err := textLabels(t, nil, textFile(t, text+"\n"+"A cat."))
	if err != nil {
		t.Fatal(err)
	}
	whole := encoded(t, r, `{"text": "`+text+`"}`)
	var ids []int32
	for _, d := range docs[:len(docs)-1] {
		if len(d.IDs) > 16 || d.Prompt != 0 {
			t.Errorf("%d tokens, %d of them given", len(d.IDs), d.Prompt)
		}
		ids = append(ids, d.IDs...)
	}
	if len(docs) < 3 || !slices.Equal(ids, whole.IDs) || docs[len(docs)-1].IDs[0] != 1 {
		t.Errorf("%v, want %v in parts and one more", docs, whole.IDs)
	}
	row := `{"prompt": "` + text + `", "completion": " It was happy and it went home to sleep."}`
	docs, _, err = textLabels(t, nil, rowsFile(t, row))
	if err != nil {
		t.Fatal(err)
	}
	asked := encoded(t, r, row)
	prompt, ids := slices.Index(asked.Learn, true), nil
	for i, d := range docs {
		if given := max(0, prompt-prompt/16*16); i == 0 && d.Prompt != given || i > 0 && d.Prompt != 0 {
			t.Errorf("part %d: %d given, want %d in the first alone", i, d.Prompt, given)
		}
		ids = append(ids, d.IDs...)
	}
	if prompt < 16 || !slices.Equal(ids, asked.IDs[prompt/16*16:]) {
		t.Errorf("%v, want what is behind the parts that are all prompt, %d of %v", docs, prompt, asked.IDs)
	}
}

// TestLabelTextPack: packed texts fill every document but the last, one token lies between two texts, and an interrupted run ends in the same bytes.
func TestLabelTextPack(t *testing.T) {
	var rows []string
	for l := range strings.SplitSeq(HeldOut()[:4000], "\n") {
		rows = append(rows, l)
	}
	path := textFile(t, strings.Join(rows, "\n"))
	docs, c, err := textLabels(t, func(c *LabelConfig) { c.Pack = true }, path)
	if err != nil {
		t.Fatal(err)
	}
	var ids []int32
	for i, d := range docs {
		if i < len(docs)-1 && len(d.IDs) != 16 {
			t.Errorf("document %d of %d has %d tokens", i, len(docs), len(d.IDs))
		}
		ids = append(ids, d.IDs...)
	}
	begins := 0
	for _, id := range ids {
		if id == 2 {
			t.Fatal("the end of a text is followed by the beginning of one")
		}
		begins += b2i(id == 1)
	}
	if texts := len(slices.DeleteFunc(rows, func(l string) bool { return strings.TrimSpace(l) == "" })); begins != texts || len(docs) < 50 {
		t.Errorf("%d texts begin in %d documents, want %d", begins, len(docs), texts)
	}
	parts := c
	parts.Out = c.Out + "-parts"
	n := 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		err := Label(ctx, parts, func(e Event) {
			if seen++; seen%40 == 0 {
				cancel()
			}
		})
		cancel()
		if err == nil {
			break
		}
		if n++; n > 50 || !errors.Is(err, context.Canceled) {
			t.Fatal(n, err)
		}
		f, err := os.OpenFile(filepath.Join(parts.Out+".partial", labelsFile), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(`{"ids":[1,`); err != nil { // as if it had been killed in a line
			t.Fatal(err)
		}
		f.Close()
	}
	if n < 2 {
		t.Errorf("it was interrupted %d times only", n)
	}
	sameFile(t, filepath.Join(c.Out, labelsFile), filepath.Join(parts.Out, labelsFile))
}

// TestLabelTextMistakes: what cannot be is refused with a sentence, bad rows by their lines, and nothing is left out unless that is asked for.
func TestLabelTextMistakes(t *testing.T) {
	bad := rowsFile(t, `{"text": "A dog ran."}`, `{"txt": "A cat."}`, `{"text": "A big bird sang a song to all of the other little birds in the tree."}`)
	held := textFile(t, "Once a big bird sang a song to all of the other little birds in the tree.")
	for _, x := range []struct {
		change func(*LabelConfig)
		file   string
		want   string
	}{
		{nil, bad, "line 2: fields txt"},
		{nil, textFile(t, "\n\n"), "nothing to learn from"},
		{nil, "nowhere.txt", "nowhere.txt"},
		{func(c *LabelConfig) { c.Prompts = held }, bad, "not both"},
		{func(c *LabelConfig) { c.Temperature = 0.7 }, bad, "writes nothing"},
		{func(c *LabelConfig) { c.Pack = true }, rowsFile(t, `{"prompt": "a", "completion": "b"}`), "line 1: pack"},
		{func(c *LabelConfig) { c.Text, c.Pack = nil, true }, "", "give text"},
	} {
		if docs, _, err := textLabels(t, x.change, x.file); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v, %v, want %q", docs, err, x.want)
		}
	}
	docs, c, err := textLabels(t, func(c *LabelConfig) { c.SkipBad, c.MaxTokens, c.TopKLogits = true, 128, 3 }, bad)
	if err != nil || len(docs) != 2 {
		t.Errorf("%v, %v", docs, err)
	}
	if _, err := os.Stat(filepath.Join(c.Out, topKFile)); err != nil {
		t.Error(err)
	}
	docs, _, err = textLabels(t, func(c *LabelConfig) { c.SkipBad, c.Decontaminate = true, []string{held} }, bad)
	if err != nil || len(docs) != 1 {
		t.Errorf("an evaluation set's text was taken: %v, %v", docs, err)
	}
	docs, _, err = textLabels(t, func(c *LabelConfig) { c.Count, c.Pack, c.MaxTokens = 2, true, 4 }, textFile(t, HeldOut()[:400]))
	if err != nil || len(docs) != 2 {
		t.Errorf("more than were asked for: %v, %v", docs, err)
	}
}
