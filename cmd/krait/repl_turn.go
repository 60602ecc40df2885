package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"krait/chat"
	"krait/engine"
)

// conversation is what was said, and the session that has it in its state.
type conversation struct {
	ui       *ui
	config   *runConfig
	model    *loaded
	template *chat.Template // nil: the model continues a text
	session  *engine.Session
	stop     []int32
	loading  time.Duration // until it has been said

	system   string
	messages []chat.Message // without the system's
	text     string         // what tokens spell: the latest prompt and its answer
	tokens   []int32
}

// all returns the messages, the system's first.
func (c *conversation) all() []chat.Message {
	if c.system == "" {
		return c.messages
	}
	return append([]chat.Message{{Role: "system", Content: c.system}}, c.messages...)
}

// clear forgets what was said.
func (c *conversation) clear() { c.messages, c.text, c.tokens = nil, "", nil }

// turn says something and prints the answer. What fails leaves the conversation as it was; an answer that was cut off is kept.
func (c *conversation) turn(ctx context.Context, said string) error {
	start := time.Now()
	before := len(c.messages)
	text := c.text + said
	if c.template != nil {
		c.messages = append(c.messages, chat.Message{Role: "user", Content: said})
		var err error
		if text, err = c.template.Render(c.all(), true, nil); err != nil {
			c.messages = c.messages[:before]
			return err
		}
	}
	prompt, err := c.encode(text)
	if err != nil {
		c.messages = c.messages[:before]
		return err
	}
	if window := c.model.Model.Config.MaxPositionEmbeddings; window > 0 && len(prompt) > window {
		c.messages = c.messages[:before]
		return fmt.Errorf("the conversation has %d tokens with this, the model's context %d: /clear begins another", len(prompt), window)
	}
	w := newTextWriter(c.ui, c.model.tokenizer, prompt, false)
	w.mark = c.config.showDraft && c.ui.color
	var stats engine.Stats
	err = nil
	for token, failed := range c.session.Generate(ctx, c.turnRequest(prompt), &stats) {
		if failed != nil {
			err = failed
			break
		}
		if w.push(token); c.ui.out.err != nil {
			return nil // run reports it
		}
	}
	if len(w.ids) > 0 || err == nil {
		w.end()
	}
	if len(w.ids) == 0 {
		c.messages = c.messages[:before]
		return err
	}
	c.answered(text, prompt, w, stats.FinishReason)
	if c.config.verbose && !c.ui.quiet {
		c.verboseFooter(time.Since(start), &stats)
	}
	c.ended(ctx, &stats)
	return err
}

// answered takes in an answer, and what text the tokens spell that the state has seen.
func (c *conversation) answered(prompt string, ids []int32, w *textWriter, finish string) {
	answer := string(w.text)
	c.text, c.tokens = prompt+answer, slices.Concat(ids, w.ids)
	if c.template != nil {
		c.messages = append(c.messages, chat.Message{Role: "assistant", Content: c.content(answer)})
	}
	if finish != engine.FinishStop {
		return
	}
	last := len(c.tokens) - 1
	if c.template == nil { // what comes next goes on with the text
		c.tokens = c.tokens[:last]
		return
	}
	end, _ := c.model.tokenizer.Token(c.tokens[last])
	c.text += end
}

// content returns what a message must say for the template to print the answer, where that can be: templates put white space around it.
func (c *conversation) content(answer string) string {
	for _, s := range []string{answer, strings.TrimLeft(answer, " \n"), strings.TrimSpace(answer)} {
		text, err := c.template.Render(append(c.all(), chat.Message{Role: "assistant", Content: s}), false, nil)
		if err == nil && strings.HasPrefix(text, c.text) {
			return s
		}
	}
	return answer
}

// encode returns the tokens of a text. Where it goes on with what was said, those are the tokens that were said, though the tokenizer might
// have chosen others for the same text: the state has seen them.
func (c *conversation) encode(text string) ([]int32, error) {
	ids, offsets, err := c.model.tokenizer.EncodeOffsets(text, c.template == nil)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, errors.New("there is nothing to continue: the prompt is empty")
	}
	said := len(c.text)
	if said == 0 || !strings.HasPrefix(text, c.text) {
		return ids, nil
	}
	next := slices.IndexFunc(offsets, func(o [2]int) bool { return o[1] > said || o[0] >= said })
	switch {
	case next < 0:
		return c.tokens, nil
	case offsets[next][0] < said: // a token reaches over the edge
		return ids, nil
	}
	return slices.Concat(c.tokens, ids[next:]), nil
}
