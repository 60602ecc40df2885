package recipe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"krait/checkpoint"
	"krait/data"
)

// quiet takes no notice.
func quiet(Event) {}

// chatML is a template of turns without special tokens, for a tokenizer that has none.
const chatML = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"

// stories writes the embedded model to a directory, with a chat template if there is one.
func stories(t *testing.T, template string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, Stories260K()); err != nil {
		t.Fatal(err)
	}
	if template != "" {
		if err := os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(template), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func rowsFile(t *testing.T, rows ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(rows, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func textOf(t *testing.T, r *textRows, s data.Sequence, learnt bool) string {
	t.Helper()
	var ids []int32
	for i, id := range s.IDs {
		if s.Learn[i] == learnt {
			ids = append(ids, id)
		}
	}
	text, err := r.tok.Decode(ids, false)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func encoded(t *testing.T, r *textRows, row string) data.Sequence {
	t.Helper()
	for c, err := range data.Chats(rowsFile(t, row)) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.encode(c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Fatal("no row")
	return data.Sequence{}
}

// TestEncode checks what is learnt of each form: the answer and the end of the text, the assistant's turns, and not those that are given.
func TestEncode(t *testing.T) {
	c := SFTConfig{TrainConfig: DefaultTrain()}
	_, plain, err := c.start(stories(t, ""), &c.TrainConfig, quiet)
	if err != nil {
		t.Fatal(err)
	}
	_, chatty, err := c.start(stories(t, chatML), &c.TrainConfig, quiet)
	if err != nil {
		t.Fatal(err)
	}
	asChat := *chatty
	asChat.AsChat = true
	const turns = `{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"},{"role":"user","content":"Who"}`
	for _, x := range []struct {
		r                  *textRows
		row, given, learnt string
	}{
		{plain, `{"prompt":"Once upon","completion":" a time"}`, "<s> Once upon", "a time</s>"},
		{plain, `{"text":"Once upon"}`, "", "<s> Once upon</s>"},
		{plain, `{"instruction":"Add.","output":"Two"}`, "<s> Below is an", "Two</s>"},
		{chatty, `{"messages":[` + turns + `,{"role":"assistant","content":"Me"}]}`, "<|user|>", "HoMe"},
		{chatty, `{"prompt":[` + turns + `],"completion":"Me"}`, "<|user|>", "Me"},
		{chatty, `{"prompt":"Once upon","completion":" a time"}`, "<s> Once upon", "a time</s>"},
		{&asChat, `{"prompt":"Once upon","completion":" a time"}`, "<|user|>", "a time"},
	} {
		s := encoded(t, x.r, x.row)
		given, learnt := textOf(t, x.r, s, false), textOf(t, x.r, s, true)
		if !strings.HasPrefix(strings.TrimSpace(given), x.given) || strings.Join(strings.Fields(learnt), " ") != x.learnt {
			t.Errorf("%s: given %q, learnt %q; want %q…, %q", x.row, given, learnt, x.given, x.learnt)
		}
	}
}

// TestRowsCounted checks that bad rows stop a stage by file and line, or are counted; and that long ones are cut, or left out.
func TestRowsCounted(t *testing.T) {
	dir := stories(t, "")
	long := fmt.Sprintf(`{"prompt":"Once","completion":" %s"}`, strings.Repeat("upon a time ", 40))
	deep := fmt.Sprintf(`{"prompt":"%s","completion":" end"}`, strings.Repeat("upon a time ", 40))
	path := rowsFile(t, `{"prompt":"Once","completion":" upon"}`, `{"promt":"Once"}`, long, deep, `{"prompt":"a"`, `{"text":"a b"}`)
	train := func(skip, drop bool) (*textRows, int, error) {
		c := SFTConfig{RowsConfig: RowsConfig{SkipBad: skip, DropLong: drop}, TrainConfig: DefaultTrain()}
		c.TrainConfig.Context = 32
		_, r, err := c.start(dir, &c.TrainConfig, quiet)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = r.read(path, rowsOf(data.Chats(path), func(x data.Chat) (int, error) {
			s, err := r.encode(x)
			if err == nil && r.fit(&s) {
				n++
				if len(s.IDs) > 32 {
					t.Errorf("%d tokens", len(s.IDs))
				}
			}
			return x.Line, err
		}))
		return r, n, err
	}
	if _, _, err := train(false, false); err == nil || !strings.HasPrefix(err.Error(), path+": line 2: fields promt: want") {
		t.Errorf("error %v, want one that names the file and line 2", err)
	}
	for drop, want := range map[bool][5]int{false: {6, 2, 1, 1, 3}, true: {6, 2, 0, 2, 2}} {
		r, n, err := train(true, drop)
		if got := [5]int{r.total, r.bad, r.cut, r.dropped, n}; err != nil || got != want {
			t.Errorf("drop %v: read, bad, cut, dropped, used %v, %v; want %v", drop, got, err, want)
		}
	}
	c := SFTConfig{Model: dir, Out: filepath.Join(t.TempDir(), "out"), TrainConfig: tiny()}
	c.SkipBad = true
	c.Data = []string{rowsFile(t, `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`)}
	if err := SFT(t.Context(), c, quiet); !errors.Is(err, errNoTemplate) || !strings.Contains(err.Error(), c.Data[0]) {
		t.Errorf("a conversation for a model without a template: %v", err)
	}
	c.Data = []string{rowsFile(t, `{}`)}
	if err := SFT(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), "of 1 read, 1 mean nothing") {
		t.Errorf("no usable row: %v", err)
	}
}

// tiny is a training of a few small steps.
func tiny() TrainConfig {
	c := DefaultTrain()
	c.Steps, c.BatchTokens, c.Warmup, c.LR = 6, 96, 0, 1e-3
	return c
}

var chatRows = []string{
	`{"prompt":"Once upon","completion":" a time there was a dog"}`, `{"prompt":"The cat","completion":" sat on the mat"}`,
	`{"prompt":"Lily was","completion":" very happy and she smiled"}`, `{"prompt":"The big","completion":" tree fell down"}`,
}

func steps(t *testing.T, dir string) []float64 {
	t.Helper()
	metrics, err := ReadMetrics(dir)
	if err != nil {
		t.Fatal(err)
	}
	var losses []float64
	for _, s := range metrics {
		losses = append(losses, s.Loss)
	}
	return losses
}

// TestSFT checks that a few steps learn the answers, and that the record counts the rows.
func TestSFT(t *testing.T) {
	c := SFTConfig{Model: stories(t, ""), Data: []string{rowsFile(t, chatRows[:2]...), rowsFile(t, chatRows[2:]...)},
		Out: filepath.Join(t.TempDir(), "out"), TrainConfig: tiny()}
	if err := SFT(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	losses := steps(t, c.Out)
	if len(losses) != 6 || losses[5] > 0.8*losses[0] {
		t.Errorf("losses %v did not fall", losses)
	}
	p, err := checkpoint.ReadProvenance(c.Out)
	if err != nil || p.Metrics["rows"] != 4 || p.Metrics["num_tokens"] == 0 || p.Stage != "sft" || len(p.Inputs) != 3 {
		t.Errorf("record %+v, %v", p, err)
	}
}

// TestPromptIsNotLearnt checks that the rows which predict the answer have targets and no others: a prompt's own tokens are read, not learnt.
func TestPromptIsNotLearnt(t *testing.T) {
	c := SFTConfig{TrainConfig: DefaultTrain()}
	_, r, err := c.start(stories(t, ""), &c.TrainConfig, quiet)
	if err != nil {
		t.Fatal(err)
	}
	s := encoded(t, r, chatRows[0])
	b := data.BatchOf(s)
	prompt := slices.Index(s.Learn, true)
	for i, target := range b.Targets {
		if (target >= 0) != (i >= prompt-1 && i < len(s.IDs)-1) {
			t.Errorf("row %d of %d behind a prompt of %d has target %d", i, len(s.IDs), prompt, target)
		}
	}
}

// interrupt runs a stage and stops it when enough is done, as often as it takes.
func interrupt(t *testing.T, run func(Report) error) {
	t.Helper()
	stop := errors.New("stopped")
	for n := range 20 {
		seen := 0
		err := func() (err error) {
			defer func() {
				if x := recover(); x != nil {
					if x != stop {
						panic(x)
					}
					err = stop
				}
			}()
			return run(func(e Event) {
				if e.Done > 0 {
					if seen++; seen > 2 {
						panic(stop) // as if the program were killed there
					}
				}
			})
		}()
		if err == nil {
			if n < 2 {
				t.Errorf("it was interrupted %d times only", n)
			}
			return
		}
		if err != stop {
			t.Fatal(err)
		}
	}
	t.Fatal("it never ends")
}

func sameFile(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil || !reflect.DeepEqual(x, y) {
		t.Errorf("%s differs from %s (%v)", b, a, err)
	}
}

// TestSFTResumes checks that a run which is stopped again and again ends in the same bits.
func TestSFTResumes(t *testing.T) {
	dir := t.TempDir()
	c := SFTConfig{Model: stories(t, ""), Data: []string{rowsFile(t, chatRows...)}, Out: filepath.Join(dir, "whole"), TrainConfig: tiny()}
	c.SaveEvery = 1
	if err := SFT(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	c.Out = filepath.Join(dir, "parts")
	interrupt(t, func(r Report) error { return SFT(t.Context(), c, r) })
	sameFile(t, filepath.Join(dir, "whole", "model.safetensors"), filepath.Join(c.Out, "model.safetensors"))
}
