package recipe

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"krait/chat"
	"krait/checkpoint"
	"krait/data"
	"krait/tokenizer"
)

// prompt is one of a file's, at its line.
type prompt struct {
	text string
	line int
}

// readPrompts reads a text file, one prompt a line, or JSONL with a "prompt" each, or another form of rows. Empty lines are none.
func readPrompts(path string) (prompts []prompt, err error) {
	if slices.Contains([]string{".parquet", ".json", ".gz", ".zst"}, filepath.Ext(path)) {
		return rowPrompts(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		if strings.HasSuffix(path, ".jsonl") {
			var row struct{ Prompt *string }
			if err := json.Unmarshal(lines.Bytes(), &row); err != nil || row.Prompt == nil {
				return nil, fmt.Errorf("%s: line %d: want an object with a string \"prompt\"", path, n)
			}
			text = *row.Prompt
		}
		if text != "" {
			prompts = append(prompts, prompt{text, n})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(prompts) == 0 {
		return nil, fmt.Errorf("%s: no prompts", path)
	}
	return prompts, nil
}

// rowPrompts reads the prompts of rows.
func rowPrompts(path string) (prompts []prompt, err error) {
	for p, err := range data.Prompts(path) {
		if err != nil {
			return nil, err
		}
		prompts = append(prompts, prompt{p.Text, p.Line})
	}
	if len(prompts) == 0 {
		return nil, fmt.Errorf("%s: no prompts", path)
	}
	return prompts, nil
}

// prompter turns prompts into tokens of a model: as the beginning of a text, or as said by the user in a conversation.
type prompter struct {
	tok      *tokenizer.Tokenizer
	template *chat.Template // nil: they begin a text
}

func newPrompter(c *checkpoint.Checkpoint, asChat bool) (p prompter, err error) {
	if p.tok, err = c.Tokenizer(); err != nil || !asChat {
		return p, err
	}
	p.template, err = chat.FromFiles(c.Files, "")
	if errors.Is(err, chat.ErrNoTemplate) {
		return p, errors.New("the prompts are to be said in a conversation, and the model has no chat template: add chat_template.jinja to its directory")
	}
	return p, err
}

func (p prompter) encode(text string) ([]int32, error) {
	if p.template == nil {
		return p.tok.Encode(text, true)
	}
	text, err := p.template.Render([]chat.Message{{Role: "user", Content: text}}, true, nil)
	if err != nil {
		return nil, err
	}
	return p.tok.Encode(text, false) // the template has the special tokens
}

// labelPrompts reads and encodes the prompts of a file, or the beginning of a text where there is none. A prompt that leaves no room for an answer is
// refused.
func labelPrompts(teacher *checkpoint.Checkpoint, path string, limit int, asChat bool) ([][]int32, error) {
	if path == "" {
		if len(teacher.BOS) == 0 {
			return nil, fmt.Errorf("the model has no bos_token_id to begin a text with: give prompts")
		}
		return [][]int32{teacher.BOS[:1]}, nil
	}
	p, err := newPrompter(teacher, asChat)
	if err != nil {
		return nil, err
	}
	list, err := readPrompts(path)
	if err != nil {
		return nil, err
	}
	var prompts [][]int32
	for _, x := range list {
		ids, err := p.encode(x.text)
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", path, x.line, err)
		}
		if len(ids) >= limit {
			return nil, fmt.Errorf("%s: line %d: %d tokens leave no room in documents of %d", path, x.line, len(ids), limit)
		}
		prompts = append(prompts, ids)
	}
	return prompts, nil
}
