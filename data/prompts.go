package data

import (
	"errors"
	"fmt"
	"iter"
)

// Prompt is what an answer is wanted to, without one.
type Prompt struct {
	Text string
	Line int // where its row begins
}

// Prompts iterates over the prompts of a file of rows, in the forms of Chats: the field prompt, a string or messages; instruction and input; messages
// or conversations. Of messages it is what the user says first; of plain text the line.
func Prompts(path string) iter.Seq2[Prompt, error] {
	return parsed(path, parsePrompt, func(p *Prompt, line int) { p.Line = line })
}

func parsePrompt(r row) (Prompt, error) {
	var list []Message
	var err error
	switch {
	case r.isText("prompt"), !r.has("prompt") && r.has("text"):
		field := "text"
		if r.has("prompt") {
			field = "prompt"
		}
		text, err := r.text(field)
		return Prompt{Text: text}.check(field, err)
	case r.has("instruction"):
		instruction, input, err := r.request()
		return Prompt{Text: requested(instruction, input)}.check("instruction", err)
	case r.has("prompt"):
		list, err = r.messages("prompt")
	case r.has("messages"):
		list, err = r.messages("messages")
	case r.has("conversations"):
		list, err = r.conversation()
	default:
		return Prompt{}, fmt.Errorf("fields %s: want prompt, instruction, messages, conversations or text", r.names())
	}
	for _, m := range list {
		if err == nil && m.Role == "user" {
			return Prompt{Text: m.Content}.check("the user's message", nil)
		}
	}
	if err == nil {
		err = errors.New("no message is the user's")
	}
	return Prompt{}, err
}

// check returns the prompt if it says something.
func (p Prompt) check(field string, err error) (Prompt, error) {
	if err == nil && p.Text == "" {
		err = fmt.Errorf("%s is empty", field)
	}
	return p, err
}
