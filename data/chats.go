package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Message is one turn of a conversation. JSON is the object it was read from where that has a template's form, with all its fields.
type Message struct {
	Role, Content string
	JSON          json.RawMessage
}

// Chat is an example to learn from: a conversation, or plain text, or both forms of the same. Of a conversation the assistant's turns are to be
// learnt, but not those among the first Given messages; of plain text, Completion, which stands right behind Prompt.
type Chat struct {
	Messages           []Message
	Given              int
	Prompt, Completion string
	Line               int // where its row begins
}

// Chats iterates over the examples of a file: Parquet, JSON lines, a JSON array or plain text, with gzip, zstd or neither. The form of a row is known by its fields:
//
//	messages                    a conversation (TRL, UltraChat)
//	conversations               a conversation with from and value (ShareGPT, OpenHermes)
//	prompt, completion          plain text, or messages (TRL); response is another word for completion
//	instruction, input, output  a request and its answer (Alpaca); response is another word for output
//	text                        plain text
//
// A row that means nothing is a *RowError, and the next one follows if the consumer goes on.
func Chats(path string) iter.Seq2[Chat, error] {
	return parsed(path, parseChat, func(c *Chat, line int) { c.Line = line })
}

func parseChat(r row) (Chat, error) {
	completion, hasCompletion := r.first("completion", "response")
	output, hasOutput := r.first("output", "response")
	switch {
	case r.has("messages"):
		messages, err := r.messages("messages")
		return Chat{Messages: messages}.check("messages", err)
	case r.has("conversations"):
		messages, err := r.conversation()
		return Chat{Messages: messages}.check("conversations", err)
	case r.has("prompt") && hasCompletion:
		c, err := r.answer("prompt", completion)
		return c.check(completion, err)
	case r.has("instruction") && hasOutput:
		c, err := r.alpaca(output)
		return c.check(output, err)
	case r.has("text"):
		text, err := r.text("text")
		return Chat{Completion: text}.check("text", err)
	}
	return Chat{}, fmt.Errorf("fields %s: want messages, conversations, prompt and completion, instruction and output, or text", r.names())
}

// names lists the fields for an error.
func (r row) names() string {
	if len(r) == 0 {
		return "(none)"
	}
	return strings.Join(slices.Sorted(maps.Keys(r)), ", ")
}

// check returns the chat if it has something to learn. field is where it would stand.
func (c Chat) check(field string, err error) (Chat, error) {
	if err != nil {
		return Chat{}, err
	}
	answered := strings.TrimSpace(c.Completion) != ""
	for _, m := range c.Messages[min(c.Given, len(c.Messages)):] {
		answered = answered || m.Role == "assistant" && (strings.TrimSpace(m.Content) != "" || m.JSON != nil)
	}
	if !answered {
		return Chat{}, fmt.Errorf("%s: nothing in it is to be learnt: no answer, or an empty one", field)
	}
	return c, nil
}

// messages reads a field with role and content.
func (r row) messages(field string) ([]Message, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(r[field], &list); err != nil {
		return nil, fmt.Errorf("%s: want a list of messages", field)
	}
	var messages []Message
	for i, raw := range list {
		m, err := parseMessage(raw)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]%w", field, i, err)
		}
		messages = append(messages, m)
	}
	if len(messages) == 0 {
		return nil, fmt.Errorf("%s: no messages", field)
	}
	return messages, nil
}

// parseMessage reads a message. Its errors begin with the path of what is wrong.
func parseMessage(raw json.RawMessage) (Message, error) {
	var r row
	if err := json.Unmarshal(raw, &r); err != nil || r == nil {
		return Message{}, errors.New(": want an object with role and content")
	}
	var m Message
	var err error
	if m.Role, err = r.text("role"); err != nil {
		return m, fmt.Errorf(".%w", err)
	}
	if !r.isText("content") && r.has("content") || len(r) > 2 || !r.has("content") {
		m.JSON = raw // a template may make something of it
	}
	if r.isText("content") {
		m.Content, err = r.text("content")
	} else if m.Role != "assistant" || !r.has("tool_calls") {
		_, err = r.text("content")
	}
	if err != nil {
		return m, fmt.Errorf(".%w", err)
	}
	return m, nil
}

// speakers are the names that conversations in ShareGPT's form have for roles.
var speakers = map[string]string{"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "model": "assistant",
	"bot": "assistant", "system": "system", "tool": "tool", "observation": "tool", "function_response": "tool"}

// conversation reads conversations, and before them a system prompt that stands beside.
func (r row) conversation() ([]Message, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(r["conversations"], &list); err != nil {
		return nil, errors.New("conversations: want a list of turns")
	}
	var messages []Message
	field, ok := r.first("system", "system_prompt")
	if ok {
		system, err := r.text(field)
		if err != nil {
			return nil, err
		}
		if system != "" {
			messages = append(messages, Message{Role: "system", Content: system})
		}
	}
	for i, raw := range list {
		m, err := parseTurn(raw)
		if err != nil {
			return nil, fmt.Errorf("conversations[%d]%w", i, err)
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// parseTurn reads {"from", "value"}, or a message. Its errors begin with the path of what is wrong.
func parseTurn(raw json.RawMessage) (Message, error) {
	var r row
	if err := json.Unmarshal(raw, &r); err != nil || r == nil {
		return Message{}, errors.New(": want an object with from and value")
	}
	if r.has("role") && !r.has("from") {
		return parseMessage(raw)
	}
	from, err := r.text("from")
	if err != nil {
		return Message{}, fmt.Errorf(".%w", err)
	}
	role, ok := speakers[from]
	if !ok {
		return Message{}, fmt.Errorf(".from: %q is nobody known: want human, gpt, system or tool", from)
	}
	value, err := r.text("value")
	if err != nil {
		return Message{}, fmt.Errorf(".%w", err)
	}
	return Message{Role: role, Content: value}, nil
}

// answer reads a prompt and an answer to it, each a string or messages.
func (r row) answer(prompt, answer string) (Chat, error) {
	if r.isText(prompt) && r.isText(answer) {
		p, err := r.text(prompt)
		if err != nil {
			return Chat{}, err
		}
		a, err := r.text(answer)
		return Chat{Prompt: p, Completion: a}, err
	}
	before, err := r.turns(prompt, "user")
	if err != nil {
		return Chat{}, err
	}
	after, err := r.turns(answer, "assistant")
	if err != nil {
		return Chat{}, err
	}
	if first := slices.IndexFunc(after, func(m Message) bool { return m.Role == "assistant" }); r.isText(prompt) && first > 0 &&
		after[first-1].Content == before[0].Content {
		return Chat{Messages: after, Given: first}, nil // UltraFeedback's answers hold the prompt too
	}
	return Chat{Messages: slices.Concat(before, after), Given: len(before)}, nil
}

// turns reads messages, a single one, or a string that somebody in this role says.
func (r row) turns(field, role string) ([]Message, error) {
	switch {
	case r.isText(field):
		text, err := r.text(field)
		return []Message{{Role: role, Content: text}}, err
	case len(r[field]) > 0 && r[field][0] == '{':
		m, err := parseTurn(r[field])
		if err != nil {
			return nil, fmt.Errorf("%s%w", field, err)
		}
		return []Message{m}, nil
	}
	return r.messages(field)
}

// Alpaca's prompts, for models that know no conversations.
const (
	alpacaPrompt = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n" +
		"### Instruction:\n%s\n\n### Response:\n"
	alpacaInputPrompt = "Below is an instruction that describes a task, paired with an input that provides further context. " +
		"Write a response that appropriately completes the request.\n\n### Instruction:\n%s\n\n### Input:\n%s\n\n### Response:\n"
)

func (r row) alpaca(output string) (Chat, error) {
	instruction, input, err := r.request()
	if err != nil {
		return Chat{}, err
	}
	answer, err := r.text(output)
	if err != nil {
		return Chat{}, err
	}
	prompt := fmt.Sprintf(alpacaPrompt, instruction)
	if input != "" {
		prompt = fmt.Sprintf(alpacaInputPrompt, instruction, input)
	}
	said := requested(instruction, input)
	return Chat{Messages: []Message{{Role: "user", Content: said}, {Role: "assistant", Content: answer}}, Given: 1,
		Prompt: prompt, Completion: answer}, nil
}

// request reads what an Alpaca row asks for; input may be empty.
func (r row) request() (instruction, input string, err error) {
	if instruction, err = r.text("instruction"); err != nil {
		return "", "", err
	}
	input, err = r.optional("input")
	return instruction, input, err
}

// requested is a request as a user says it.
func requested(instruction, input string) string {
	if input == "" {
		return instruction
	}
	return instruction + "\n\n" + input
}
