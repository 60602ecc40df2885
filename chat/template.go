// Package chat turns conversations into the text that a model was trained on, by the model's own Jinja template and as Transformers
// renders it, and tells which tokens of it are the assistant's.
package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/ardanlabs/jinja"
)

// ErrNoTemplate says that a model has no chat template.
var ErrNoTemplate = errors.New("there is no chat template")

// Files are the files of a model that a template is made of.
var Files = []string{"chat_template.jinja", "tokenizer_config.json", "special_tokens_map.json"}

// Template renders conversations. It is safe for concurrent use.
type Template struct {
	// Source is the Jinja source.
	Source string
	// Now is the clock of strftime_now; a template that asks for the date without one fails.
	Now func() time.Time

	tokens map[string]any // bos_token and the like
	plain  *jinja.Template
	marked *jinja.Template // marks the generation blocks; nil where there are none
}

// New returns the template of a source. The tokens are variables of the template: bos_token, eos_token and others.
func New(source string, tokens map[string]any) (*Template, error) {
	if !utf8.ValidString(source) {
		return nil, errors.New("chat template: not valid UTF-8")
	}
	t := &Template{Source: source, tokens: maps.Clone(tokens)}
	var err error
	if t.plain, err = compile(source, false); err != nil {
		return nil, fmt.Errorf("chat template: %w", err)
	}
	if marksGeneration(source) {
		if t.marked, err = compile(source, true); err != nil {
			return nil, fmt.Errorf("chat template: %w", err)
		}
	}
	return t, nil
}

func compile(source string, spans bool) (t *jinja.Template, err error) {
	defer func() { // the engine's parser may panic on what is no template
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	rewritten, err := rewrite(source, spans)
	if err != nil {
		return nil, err
	}
	return jinja.Compile(rewritten)
}

func marksGeneration(source string) bool {
	pieces, err := lex(source)
	return err == nil && slices.ContainsFunc(pieces, func(p piece) bool { return p.word() == "generation" })
}

// Load reads the template of a directory; ErrNoTemplate where it has none.
func Load(dir string) (*Template, error) {
	files := map[string][]byte{}
	for _, name := range Files {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			return nil, err
		}
		files[name] = data
	}
	return FromFiles(files, "")
}

// FromFiles makes a template of the contents of Files, of which any may be missing: chat_template.jinja, or else chat_template of
// tokenizer_config.json, which is a source or a list of named ones. An empty name is the one called default. ErrNoTemplate where there is none.
func FromFiles(files map[string][]byte, name string) (*Template, error) {
	tokens := map[string]any{}
	var inConfig json.RawMessage
	for _, file := range []string{"special_tokens_map.json", "tokenizer_config.json"} { // the latter wins
		if files[file] == nil {
			continue
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(files[file], &fields); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if err := specialTokens(tokens, fields); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		inConfig = fields["chat_template"]
	}
	if source, ok := files["chat_template.jinja"]; ok && (name == "" || name == "default") {
		return New(string(source), tokens)
	}
	source, err := named(inConfig, name)
	if err != nil {
		return nil, err
	}
	return New(source, tokens)
}

// tokenNames are the special tokens that templates know.
var tokenNames = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// specialTokens enters the special tokens of a file: strings, or objects with their content.
func specialTokens(tokens map[string]any, fields map[string]json.RawMessage) error {
	for _, name := range tokenNames {
		if token, ok := tokenText(fields[name]); ok {
			tokens[name] = token
		}
	}
	if raw := fields["additional_special_tokens"]; raw != nil {
		var list []json.RawMessage
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil // older files have other shapes there
		}
		var texts []string
		for _, x := range list {
			if token, ok := tokenText(x); ok {
				texts = append(texts, token)
			}
		}
		if len(texts) > 0 {
			tokens["additional_special_tokens"] = texts
		}
	}
	return nil
}

func tokenText(raw json.RawMessage) (string, bool) {
	var s *string
	if json.Unmarshal(raw, &s) == nil {
		if s == nil {
			return "", false
		}
		return *s, true
	}
	var object struct{ Content *string }
	if json.Unmarshal(raw, &object) != nil || object.Content == nil {
		return "", false
	}
	return *object.Content, true
}

// named returns the source called name of a chat_template field.
func named(raw json.RawMessage, name string) (string, error) {
	if raw == nil || string(raw) == "null" {
		return "", ErrNoTemplate
	}
	var source string
	if json.Unmarshal(raw, &source) == nil {
		if name != "" && name != "default" {
			return "", fmt.Errorf("there is one chat template and none called %q", name)
		}
		return source, nil
	}
	var list []struct{ Name, Template string }
	if err := json.Unmarshal(raw, &list); err != nil {
		return "", errors.New("tokenizer_config.json: chat_template is neither a string nor a list of named templates")
	}
	if name == "" {
		name = "default"
	}
	var names []string
	for _, t := range list {
		if t.Name == name {
			return t.Template, nil
		}
		names = append(names, t.Name)
	}
	return "", fmt.Errorf("tokenizer_config.json: no chat template is called %q, there are %q", name, names)
}

// Token returns a special token that the template knows, such as "eos_token", or "".
func (t *Template) Token(name string) string {
	s, _ := t.tokens[name].(string)
	return s
}

// Render returns the text of a conversation, with the beginning of the assistant's answer behind it if addGenerationPrompt is set. Extra
// variables go before those the template has anyway; raw JSON keeps the order of mappings.
func (t *Template) Render(messages []Message, addGenerationPrompt bool, extra map[string]any) (string, error) {
	return t.render(t.plain, messages, addGenerationPrompt, extra, nil)
}

func (t *Template) render(compiled *jinja.Template, messages []Message, addGenerationPrompt bool, extra map[string]any, more map[string]function) (s string, err error) {
	all := make([]jinja.Value, len(messages))
	for i := range messages {
		if all[i], err = messages[i].value(); err != nil {
			return "", fmt.Errorf("message %d: %w", i, err)
		}
	}
	data := map[string]jinja.Value{
		"messages": jinja.NewList(all), "add_generation_prompt": jinja.NewBool(addGenerationPrompt),
		"tools": jinja.None(), "documents": jinja.None(),
	}
	for _, variables := range []map[string]any{t.tokens, extra} {
		for name, v := range variables {
			if data[name], err = goValue(v); err != nil {
				return "", fmt.Errorf("variable %s: %w", name, err)
			}
		}
	}
	enter, leave := guard()
	own := map[string]function{"strftime_now": t.strftime, "krait_enter": enter, "krait_leave": leave}
	for _, set := range []map[string]function{functions, own, more} {
		for name, f := range set {
			data[name] = jinja.NewCallable(name, f)
		}
	}
	defer func() { // the engine panics on values of the wrong kind
		if p := recover(); p != nil {
			err = fmt.Errorf("chat template: %v", p)
		}
	}()
	if s, err = compiled.RenderValues(data); err != nil {
		return "", fmt.Errorf("chat template: %w", err)
	}
	return s, nil
}

func (t *Template) strftime(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if t.Now == nil {
		return jinja.Undefined(), errors.New("the template asks for the date, and nobody told it")
	}
	if len(args) != 1 || !args[0].IsString() {
		return jinja.Undefined(), errors.New("strftime_now: want one format")
	}
	return text(strftime(t.Now(), args[0].AsString()))
}
