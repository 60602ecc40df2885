package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedToken is an entry of added_tokens: found in the text before the model sees it.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	Special    bool   `json:"special"`
	Normalized bool   `json:"normalized"`
	LStrip     bool   `json:"lstrip"`      // takes the white space before it
	RStrip     bool   `json:"rstrip"`      // takes the white space after it
	SingleWord bool   `json:"single_word"` // only where no word character touches it
}

// matcher finds added tokens, the longest of those that begin leftmost: a trie over bytes.
type matcher struct {
	tokens []addedToken
	starts [256]bool // bytes that some token begins with: nearly all text fails here
	nodes  []trieNode
}

type trieNode struct {
	next  map[byte]int32
	token int32 // index of the token that ends here, or -1
}

func newMatcher(tokens []addedToken) *matcher {
	m := &matcher{nodes: []trieNode{{token: -1}}}
	for _, a := range tokens {
		if a.Content == "" {
			continue
		}
		at := int32(0)
		for i := range len(a.Content) {
			n := &m.nodes[at]
			child, ok := n.next[a.Content[i]]
			if !ok {
				if n.next == nil {
					n.next = map[byte]int32{}
				}
				child = int32(len(m.nodes))
				n.next[a.Content[i]] = child
				m.nodes = append(m.nodes, trieNode{token: -1})
			}
			at = child
		}
		m.starts[a.Content[0]] = true
		m.nodes[at].token = int32(len(m.tokens))
		m.tokens = append(m.tokens, a)
	}
	return m
}

// longest returns the longest token that s begins with, or nil.
func (m *matcher) longest(s string) *addedToken {
	found, at := int32(-1), int32(0)
	for i := range len(s) {
		child, ok := m.nodes[at].next[s[i]]
		if !ok {
			break
		}
		at = child
		if m.nodes[at].token >= 0 {
			found = m.nodes[at].token
		}
	}
	if found < 0 {
		return nil
	}
	return &m.tokens[found]
}

// split cuts c around the added tokens: emit gets each piece, with the token's id or -1 for the text between.
func (m *matcher) split(c chunk, emit func(c chunk, id int32)) {
	done := 0
	for i := 0; i < len(c.s); {
		if !m.starts[c.s[i]] {
			i++
			continue
		}
		a := m.longest(c.s[i:])
		if a == nil {
			i++
			continue
		}
		start, stop := i, i+len(a.Content)
		i = stop
		if a.SingleWord && (touchesWord(utf8.DecodeLastRuneInString(c.s[:start])) || touchesWord(utf8.DecodeRuneInString(c.s[stop:]))) {
			continue
		}
		if a.LStrip {
			start = done + len(strings.TrimRightFunc(c.s[done:start], unicode.IsSpace))
		}
		if a.RStrip {
			stop = len(c.s) - len(strings.TrimLeftFunc(c.s[stop:], unicode.IsSpace))
			i = stop
		}
		if done < start {
			emit(c.cut(done, start), -1)
		}
		emit(c.cut(start, stop), a.ID)
		done = stop
	}
	if done < len(c.s) {
		emit(c.cut(done, len(c.s)), -1)
	}
}

// touchesWord takes the results of utf8.DecodeRuneInString, whose size is 0 at the end of the text.
func touchesWord(r rune, size int) bool { return size > 0 && isWord(r) }
