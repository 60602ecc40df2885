package data

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// say writes messages as role:content, with a bar before the first that is not given.
func say(c Chat) string {
	var s []string
	for i, m := range c.Messages {
		if i == c.Given {
			s = append(s, "|")
		}
		s = append(s, m.Role+":"+m.Content)
	}
	if c.Prompt != "" || c.Completion != "" {
		s = append(s, fmt.Sprintf("%q+%q", c.Prompt, c.Completion))
	}
	return strings.Join(s, " ")
}

func TestChatForms(t *testing.T) {
	for in, want := range map[string]string{
		`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`: "| user:a assistant:b",
		`{"system":"s","conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"},{"from":"human","value":"c"},
			{"from":"gpt","value":"d"}]}`: "| system:s user:a assistant:b user:c assistant:d",
		`{"conversations":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"id":3}`:  "| user:a assistant:b",
		`{"prompt":"Once ","completion":"upon"}`:                                                       `"Once "+"upon"`,
		`{"prompt":"Once ","response":"upon","completion":null}`:                                       `"Once "+"upon"`,
		`{"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"assistant","content":"b"}]}`: "user:a | assistant:b",
		`{"prompt":[{"role":"user","content":"a"}],"completion":"b"}`:                                  "user:a | assistant:b",
		`{"text":"Once upon"}`: `""+"Once upon"`,
		`{"instruction":"Add.","input":"1 2","output":"3"}`: "user:Add.\n\n1 2 | assistant:3 " +
			fmt.Sprintf("%q+%q", fmt.Sprintf(alpacaInputPrompt, "Add.", "1 2"), "3"),
		`{"instruction":"Hi.","input":"","response":"Ho"}`: "user:Hi. | assistant:Ho " + fmt.Sprintf("%q+%q", fmt.Sprintf(alpacaPrompt, "Hi."), "Ho"),
	} {
		c, err := parseRow([]byte(in), parseChat)
		if err != nil || say(c) != want {
			t.Errorf("%s:\n%s, %v\nwant %s", in, say(c), err, want)
		}
	}
}

// TestMessageKeepsFields checks that a message with more than role and content reaches the template whole.
func TestMessageKeepsFields(t *testing.T) {
	in := `{"role":"assistant","tool_calls":[{"name":"f"}],"content":null}`
	c, err := parseRow([]byte(`{"messages":[`+in+`]}`), parseChat)
	if err != nil || string(c.Messages[0].JSON) != in {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestBadChats(t *testing.T) {
	for in, want := range map[string]string{
		`{"messages":[{"role":"user","content":"a"}]}`:                      "messages: nothing in it is to be learnt",
		`{"messages":[{"role":"user"},{"role":"assistant","content":"b"}]}`: "messages[0].content: want a string",
		`{"messages":[{"role":"user","content":"a"},{"content":"b"}]}`:      "messages[1].role: want a string",
		`{"messages":[3]}`: "messages[0]: want an object",
		`{"messages":"a"}`: "messages: want a list of messages",
		`{"messages":[]}`:  "messages: no messages",
		`{"conversations":[{"from":"alien","value":"a"}]}`: `conversations[0].from: "alien" is nobody known`,
		`{"conversations":[{"from":"gpt"}]}`:               "conversations[0].value: want a string",
		`{"prompt":"a","completion":" "}`:                  "completion: nothing in it is to be learnt",
		`{"prompt":7,"completion":"b"}`:                    "prompt: want a list of messages",
		`{"prompt":"a"}`:                                   "fields prompt: want messages,",
		`{"instruction":"a","output":[]}`:                  "output: want a string",
		`{"text":""}`:                                      "text: nothing in it",
		`{}`:                                               "fields (none): want",
		`null`:                                             "want a JSON object",
		`["a"]`:                                            "want a JSON object",
		`{"text":`:                                         "unexpected end of JSON input",
		"{\"text\":\"\xff\"}":                              "not valid UTF-8",
	} {
		if _, err := parseRow([]byte(in), parseChat); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

// collect reads everything, rows that mean nothing as their errors.
func collect(seq iter.Seq2[Chat, error]) (texts []string, last error) {
	for c, err := range seq {
		var bad *RowError
		switch {
		case errors.As(err, &bad):
			texts = append(texts, fmt.Sprintf("bad %d", bad.Line))
		case err != nil:
			last = err
		default:
			texts = append(texts, c.Completion)
		}
	}
	return texts, last
}

// TestFiles checks lines, arrays and gzip, the lines that bad rows are at, and that reading goes on behind them.
func TestFiles(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write([]byte("{\"text\":\"a\"}\n\nx\n{\"text\":\"b\"}"))
	z.Close()
	for _, c := range []struct {
		name, in string
		want     []string
		err      string
	}{
		{"lines", "\n{\"text\":\"a\"}\n{\"tex\":\"a\"}\n\n{\"text\":\"b\"}", []string{"a", "bad 3", "b"}, ""},
		{"bom", "\xef\xbb\xbf{\"text\":\"a\"}\r\n", []string{"a"}, ""},
		{"array", "\n [{\"text\":\n\"a\"},\n\n{\"tex\":\"a\"}, 3,\n{\"text\":\"b\"}]\n", []string{"a", "bad 5", "bad 5", "b"}, ""},
		{"cut", "[\n{\"text\":\"a\"},\n{\"text", []string{"a"}, "line 2: unexpected EOF"},
		{"open", "[{\"text\":\"a\"}", []string{"a"}, "line 1: unexpected EOF"},
		{"gzip", zipped.String(), []string{"a", "bad 3", "b"}, ""},
		{"cut gzip", zipped.String()[:zipped.Len()-9], nil, "unexpected EOF"},
		{"empty", "", nil, ""},
	} {
		path := filepath.Join(t.TempDir(), "rows")
		if err := os.WriteFile(path, []byte(c.in), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := collect(Chats(path))
		if c.err == "" && (err != nil || !reflect.DeepEqual(got, c.want)) {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), path+": ") || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: error %v, want %q with the file", c.name, err, c.err)
		}
	}
	for range Chats(filepath.Join(t.TempDir(), "none")) { // one error, and the end
	}
}

// TestGroups checks that pairs stay together and side by side, that targets are the marked tokens alone, and that a stream goes on from a cursor.
func TestGroups(t *testing.T) {
	var groups [][]Sequence
	for i := range int32(7) {
		s := func(id int32) Sequence {
			return Sequence{IDs: []int32{id, id + 1, id + 2}, Learn: []bool{true, false, true}}
		}
		groups = append(groups, []Sequence{s(10 * i), s(10*i + 5)})
	}
	a, err := NewGroups(groups, 13, 4)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]int{}
	for range 5 {
		b := a.Next()
		if len(b.Tokens) > 13 || len(b.Lens) != 2*len(b.Groups) {
			t.Fatalf("batch %+v of groups %v", b, b.Groups)
		}
		for i, n := range b.Groups {
			seen[n]++
			id := int32(10 * n)
			if want := []int32{id, id + 1, id + 2, id + 5, id + 6, id + 7}; !reflect.DeepEqual(b.Tokens[6*i:6*i+6], want) {
				t.Errorf("tokens %v, want %v", b.Tokens[6*i:6*i+6], want)
			}
			if want := []int32{-1, id + 2, -1, -1, id + 7, -1}; !reflect.DeepEqual(b.Targets[6*i:6*i+6], want) {
				t.Errorf("targets %v, want %v", b.Targets[6*i:6*i+6], want)
			}
		}
	}
	if len(seen) != 7 {
		t.Errorf("five batches of two pairs had pairs %v", seen)
	}
	b, _ := NewGroups(groups, 13, 4)
	b.Seek(a.Cursor())
	for range 9 {
		if x, y := a.Next(), b.Next(); !reflect.DeepEqual(x, y) {
			t.Fatalf("%v after the cursor, want %v", y, x)
		}
	}
	if _, err := NewGroups(nil, 13, 0); err == nil {
		t.Error("no groups were accepted")
	}
}

// FuzzRows checks that no file makes the readers panic, and that what they accept has an answer.
func FuzzRows(f *testing.F) {
	f.Add([]byte(`[{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}]`))
	f.Add([]byte("{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\",\"rejected\":\"\\n\\nHuman: a\\n\\nAssistant: c\"}\n"))
	f.Add([]byte(`{"prompt":"a","chosen":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"rejected":"c"}`))
	f.Add([]byte(`{"conversations":[{"from":"human","value":"x"}],"chosen":{"from":"gpt","value":"y"},"rejected":{"from":"gpt","value":"z"}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		err := readRows(bytes.NewReader(in), func(line int, text []byte) bool {
			if c, err := parseRow(text, parseChat); err == nil && len(c.Messages) == 0 && c.Completion == "" {
				t.Errorf("line %d: %+v has no answer", line, c)
			}
			if p, err := parseRow(text, parsePreference); err == nil {
				for _, c := range []Chat{p.Chosen, p.Rejected} {
					if c.Given > len(c.Messages) || len(c.Messages) == 0 && c.Completion == "" {
						t.Errorf("line %d: %+v has no answer", line, c)
					}
				}
			}
			return true
		})
		_ = err // any error will do
	})
}
