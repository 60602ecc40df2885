package chat

import (
	"fmt"
	"strings"

	"krait/tokenizer"
)

// Masks returns the tokens of a whole conversation and, for each, whether it is the assistant's own: what it says, and the token that ends its
// turn. Such are the tokens that training learns and that generation would have to produce. The spans are those of the template's
// generation blocks where it has them; otherwise they are found by rendering the conversation without its turns and with other words in
// them. A token of which only a part is the assistant's, such as one that merges the end of the prompt with a first letter, is not.
func (t *Template) Masks(tok *tokenizer.Tokenizer, messages []Message, extra map[string]any) (ids []int32, assistant []bool, err error) {
	text, spans, err := t.spans(messages, extra)
	if err != nil {
		return nil, nil, err
	}
	ids, offsets, err := tok.EncodeOffsets(text, false)
	if err != nil {
		return nil, nil, err
	}
	assistant = make([]bool, len(ids))
	for _, s := range spans {
		to := s.endOfTurn(tok, text, ids, offsets)
		for i, o := range offsets {
			// A token with an empty range is a space that the tokenizer put in, which generation would have to produce too.
			if o[0] >= s.from && o[1] <= to && o[0] < to {
				assistant[i] = true
			}
		}
	}
	return ids, assistant, nil
}

// span is what the assistant says in one turn, as a range of bytes, and the text that closes the turn when nothing comes after it.
type span struct {
	from, to int
	closing  string
}

// spans returns the rendered conversation and the byte ranges of the assistant's words in it, in order.
func (t *Template) spans(messages []Message, extra map[string]any) (string, []span, error) {
	text, err := t.Render(messages, false, extra)
	if err != nil {
		return "", nil, err
	}
	if t.marked != nil {
		spans, err := t.markedSpans(text, messages, extra)
		return text, spans, err
	}
	var spans []span
	for i := range messages {
		if messages[i].Role != "assistant" {
			continue
		}
		s, ok, err := t.wordsOf(text, messages, i, extra)
		if err != nil {
			return "", nil, fmt.Errorf("message %d: %w", i, err)
		}
		if ok {
			spans = append(spans, s)
		}
	}
	return text, spans, nil
}

// markedSpans renders once more, with marks around the generation blocks.
func (t *Template) markedSpans(text string, messages []Message, extra map[string]any) ([]span, error) {
	begin, end := unused(text)
	marked, err := t.render(t.marked, messages, false, extra, map[string]function{"krait_generation": generation(begin, end)})
	if err != nil {
		return nil, err
	}
	var spans []span
	var plain strings.Builder
	for {
		before, rest, ok := strings.Cut(marked, begin)
		plain.WriteString(before)
		if !ok {
			break
		}
		inside, after, ok := strings.Cut(rest, end)
		if !ok || strings.Contains(inside, begin) {
			return nil, fmt.Errorf("chat template: a generation block is inside another, or what it printed was cut")
		}
		spans = append(spans, span{from: plain.Len(), to: plain.Len() + len(inside)})
		plain.WriteString(inside)
		marked = after
	}
	if plain.String() != text {
		return nil, fmt.Errorf("chat template: it changes what its generation blocks print, so they cannot be found")
	}
	return spans, nil
}

// unused returns two strings that do not occur in text: characters that Unicode will never assign.
func unused(text string) (string, string) {
	for n := 1; ; n++ {
		a, b := strings.Repeat("\uFDD0", n)+"\uFDD1", strings.Repeat("\uFDD2", n)+"\uFDD3"
		if !strings.Contains(text, a) && !strings.Contains(text, b) {
			return a, b
		}
	}
}

// wordsOf returns where in text, which is the rendered conversation, stands what message i says: the part that changes when it says something
// else. Where the template puts white space between the beginning of an answer and the words, as the generation prompt shows, it belongs to them.
func (t *Template) wordsOf(text string, messages []Message, i int, extra map[string]any) (words span, ok bool, err error) {
	if strings.TrimFunc(messages[i].Content, isSpace) == "" {
		return words, false, nil // nothing said, or tool calls alone
	}
	begin, _ := unused(text)
	other, err := t.renderWith(messages, i, begin, extra)
	if err != nil {
		return words, false, err
	}
	at := strings.Index(other, begin)
	if at < 0 || strings.Count(other, begin) != 1 {
		return words, false, fmt.Errorf("the template does not print what the assistant says, or prints it twice")
	}
	before, after := other[:at], other[at+len(begin):]
	if len(before)+len(after) > len(text) || !strings.HasPrefix(text, before) || !strings.HasSuffix(text, after) {
		return words, false, fmt.Errorf("the template prints other messages otherwise because of what the assistant says")
	}
	words = span{from: len(before), to: len(text) - len(after)}
	if prompt, err := t.Render(messages[:i], true, extra); err == nil && len(prompt) < words.from && strings.HasPrefix(text, prompt) &&
		strings.TrimFunc(text[len(prompt):words.from], isSpace) == "" {
		words.from = len(prompt)
	}
	if alone, err := t.Render(messages[:i+1], false, extra); err == nil && strings.HasPrefix(alone, text[:words.to]) {
		words.closing = alone[words.to:]
	}
	return words, true, nil
}

// renderWith renders the conversation with other words in message i.
func (t *Template) renderWith(messages []Message, i int, content string, extra map[string]any) (string, error) {
	changed := append([]Message(nil), messages...)
	changed[i].Content = content
	return t.Render(changed, false, extra)
}

// endOfTurn returns where the turn ends: behind the special token that follows the words, and the white space between them, unless it is the
// beginning of the next turn; where there is none, behind the words.
func (s *span) endOfTurn(tok *tokenizer.Tokenizer, text string, ids []int32, offsets [][2]int) int {
	closing := strings.TrimLeftFunc(s.closing, isSpace)
	at := s.to + len(s.closing) - len(closing)
	for i, o := range offsets {
		if o[0] == at && o[1] > at && tok.IsSpecial(ids[i]) && strings.HasPrefix(closing, text[o[0]:o[1]]) {
			return o[1]
		}
	}
	return s.to
}
