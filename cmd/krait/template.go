package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"krait/chat"
	"krait/checkpoint"
)

func templateCommand(u *ui) *cobra.Command {
	var noGenerationPrompt bool
	cmd := verb("template MODEL", cobra.Command{
		Short: "turn a conversation into the prompt that a model knows",
		Long: `Read a conversation from standard input, a JSON array of {"role": …, "content": …}, and print the prompt that the
model's chat template makes of it, verbatim. Other fields of a message (tool_calls, name) reach the template as they are.
The template is chat_template.jinja, or chat_template of tokenizer_config.json; a directory with these alone will do for MODEL.`,
		Example: `  echo '[{"role": "user", "content": "Hi"}]' | krait template SmolLM2-135M-Instruct
  krait template zephyr --no-generation-prompt <conversation.json`,
	}, func(cmd *cobra.Command, args []string) error {
		t, err := loadTemplate(args[0])
		if err != nil {
			return err
		}
		data, err := io.ReadAll(u.stdin(cmd.Context()))
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		messages, err := parseMessages(data)
		if err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
		text, err := t.Render(messages, !noGenerationPrompt, nil)
		if err != nil {
			return err
		}
		u.print("%s", text)
		return nil
	})
	cmd.Flags().BoolVar(&noGenerationPrompt, "no-generation-prompt", false, "leave out the beginning of the assistant's answer")
	return cmd
}

// parseMessages reads a conversation.
func parseMessages(data []byte) ([]chat.Message, error) {
	if at := invalidUTF8(data); at >= 0 {
		return nil, fmt.Errorf("not valid UTF-8 at byte %d", at)
	}
	var messages []chat.Message
	if err := json.Unmarshal(data, &messages); err != nil || messages == nil {
		if err == nil {
			err = errors.New("null")
		}
		return nil, fmt.Errorf(`want a JSON array of {"role": …, "content": …}: %w`, err)
	}
	return messages, nil
}

// loadTemplate reads the chat template of a MODEL that need not have anything else.
func loadTemplate(name string) (*chat.Template, error) {
	info, err := os.Stat(name)
	var t *chat.Template
	switch {
	case err == nil && info.IsDir():
		t, err = chat.Load(name)
	case checkpoint.IsGGUF(name):
		files, bad := checkpoint.GGUFChat(name)
		if bad != nil {
			return nil, bad
		}
		t, err = chat.FromFiles(files, "")
	case isEmbedded(name):
		err = chat.ErrNoTemplate
	default:
		return nil, fmt.Errorf("load %s: neither a directory nor a GGUF file", name)
	}
	if errors.Is(err, chat.ErrNoTemplate) {
		return nil, noTemplate(name)
	}
	if err != nil {
		return nil, fmt.Errorf("load the chat template of %s: %w", name, err)
	}
	t.Now = time.Now
	return t, nil
}

func noTemplate(name string) error {
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		name = filepath.Clean(name)
		return fmt.Errorf("%s has no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json", name)
	}
	return fmt.Errorf("%s has no chat template", name)
}
