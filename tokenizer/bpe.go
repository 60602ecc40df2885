package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// model is a byte-pair encoder: a word's symbols are merged in the order of the merges' ranks.
type model struct {
	vocab        map[string]int32
	merges       map[uint64]merge // key: pairKey
	unk          int32            // -1: unknown characters vanish
	fuseUnk      bool             // a run of unknown characters is one unk
	ignoreMerges bool             // a word that is a token needs no merging
	byteLevel    bool             // words arrive as text; each byte is looked up by its rune
	bytes        [256]int32       // id of a byte's token in the model's spelling, or -1
	byteFallback bool             // characters outside the vocabulary become the tokens <0x00> … <0xFF>
	mark         string           // where words may be cut before this mark without changing a merge; "" if nowhere
	cache        wordCache
}

type merge struct{ rank, id int32 }

func pairKey(a, b int32) uint64 { return uint64(uint32(a))<<32 | uint64(uint32(b)) }

// word appends the ids of one piece of text.
func (e *encoder) word(c chunk) {
	mark := e.t.model.mark
	if mark == "" {
		e.encode(c)
		return
	}
	// Texts of a SentencePiece family arrive whole; cut at word beginnings they stay short enough to remember.
	start := 0
	for i := 0; i < len(c.s); {
		k := strings.Index(c.s[i:], mark)
		if k < 0 {
			break
		}
		if k > 0 && i+k > start {
			e.encode(c.cut(start, i+k))
			start = i + k
		}
		i += k + len(mark)
	}
	if start < len(c.s) {
		e.encode(c.cut(start, len(c.s)))
	}
}

func (e *encoder) encode(c chunk) {
	m := &e.t.model
	if e.track {
		for _, s := range e.merge.run(m, c.s) {
			e.ids = append(e.ids, s.id)
			e.spans = append(e.spans, c.origin(int(s.start), int(s.end)))
		}
		return
	}
	slot := m.cache.slot(c.s)
	if ids, ok := m.cache.get(slot, c.s); ok {
		e.ids = append(e.ids, ids...)
		return
	}
	from := len(e.ids)
	for _, s := range e.merge.run(m, c.s) {
		e.ids = append(e.ids, s.id)
	}
	m.cache.put(slot, c.s, e.ids[from:])
}

// symbol is a token in the making: bytes start to end of the word. Symbols form a list, so that a merge costs no moving.
type symbol struct {
	id         int32
	start, end int32
	prev, next int32 // -1 at the ends
}

// candidate is a pair of neighbours that a merge would join; it is stale if either has changed since.
type candidate struct {
	rank, at    int32 // at: index of the left symbol
	left, right int32 // ids
	id          int32 // of the result
}

func (a candidate) before(b candidate) bool {
	return a.rank < b.rank || a.rank == b.rank && a.at < b.at
}

// merger holds the memory of one word's merging, reused from word to word.
type merger struct {
	symbols []symbol
	heap    []candidate
	spelled []byte
}

// run returns the tokens of word. The result is valid until the next call.
func (g *merger) run(m *model, word string) []symbol {
	g.symbols, g.heap = g.symbols[:0], g.heap[:0]
	if m.ignoreMerges {
		if id, ok := m.vocab[g.spell(m, word)]; ok {
			return append(g.symbols, symbol{id: id, end: int32(len(word))})
		}
	}
	if m.byteLevel {
		g.addBytes(m, word, 0)
	} else {
		g.addRunes(m, word)
	}
	for i := range g.symbols {
		g.symbols[i].prev, g.symbols[i].next = int32(i-1), int32(i+1)
	}
	if n := len(g.symbols); n > 0 {
		g.symbols[n-1].next = -1
	}
	for i := range g.symbols {
		g.offer(m, int32(i))
	}
	for len(g.heap) > 0 {
		g.apply(m, g.pop())
	}
	out := g.symbols[:0] // merged symbols keep the place of their leftmost part, so out never overtakes i
	for i := int32(0); i >= 0 && int(i) < len(g.symbols); {
		s := g.symbols[i]
		i = s.next
		out = append(out, s)
	}
	return out
}

// spell returns word in the model's spelling.
func (g *merger) spell(m *model, word string) string {
	if !m.byteLevel {
		return word
	}
	g.spelled = g.spelled[:0]
	for i := range len(word) {
		g.spelled = utf8.AppendRune(g.spelled, byteRunes[word[i]])
	}
	return string(g.spelled)
}

// addBytes adds a symbol for every byte; a byte that has no token vanishes.
func (g *merger) addBytes(m *model, word string, start int) {
	for i := range len(word) {
		at := int32(start + i)
		if id := m.bytes[word[i]]; id >= 0 {
			g.symbols = append(g.symbols, symbol{id: id, start: at, end: at + 1})
		} else {
			g.addUnknown(m, at, at+1)
		}
	}
}

func (g *merger) addRunes(m *model, word string) {
	for i := 0; i < len(word); {
		_, n := utf8.DecodeRuneInString(word[i:])
		char := word[i : i+n]
		if id, ok := m.vocab[char]; ok {
			g.symbols = append(g.symbols, symbol{id: id, start: int32(i), end: int32(i + n)})
		} else if m.byteFallback && m.hasBytes(char) {
			g.addBytes(m, char, i)
		} else {
			g.addUnknown(m, int32(i), int32(i+n))
		}
		i += n
	}
}

func (m *model) hasBytes(char string) bool {
	for i := range len(char) {
		if m.bytes[char[i]] < 0 {
			return false
		}
	}
	return true
}

func (g *merger) addUnknown(m *model, start, end int32) {
	if m.unk < 0 {
		return
	}
	if n := len(g.symbols); m.fuseUnk && n > 0 && g.symbols[n-1].id == m.unk {
		g.symbols[n-1].end = end
		return
	}
	g.symbols = append(g.symbols, symbol{id: m.unk, start: start, end: end})
}

// offer queues the merge of symbol i with its right neighbour, if there is one.
func (g *merger) offer(m *model, i int32) {
	j := g.symbols[i].next
	if j < 0 {
		return
	}
	a, b := g.symbols[i].id, g.symbols[j].id
	if to, ok := m.merges[pairKey(a, b)]; ok {
		g.push(candidate{to.rank, i, a, b, to.id})
	}
}

// apply merges the pair of c, unless it is stale, and offers the two new neighbourhoods.
func (g *merger) apply(m *model, c candidate) {
	left := &g.symbols[c.at]
	if left.id != c.left || left.next < 0 || g.symbols[left.next].id != c.right {
		return
	}
	right := &g.symbols[left.next]
	left.id, left.end, left.next = c.id, right.end, right.next
	right.id = -1 // whoever still points here is stale
	if left.next >= 0 {
		g.symbols[left.next].prev = c.at
	}
	if left.prev >= 0 {
		g.offer(m, left.prev)
	}
	g.offer(m, c.at)
}

// push and pop keep heap a binary heap; container/heap would box every candidate.
func (g *merger) push(c candidate) {
	g.heap = append(g.heap, c)
	i := len(g.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !c.before(g.heap[up]) {
			break
		}
		g.heap[i] = g.heap[up]
		i = up
	}
	g.heap[i] = c
}

func (g *merger) pop() candidate {
	top, last := g.heap[0], g.heap[len(g.heap)-1]
	g.heap = g.heap[:len(g.heap)-1]
	n := len(g.heap)
	if n == 0 {
		return top
	}
	i := 0
	for {
		down := 2*i + 1
		if down >= n {
			break
		}
		if down+1 < n && g.heap[down+1].before(g.heap[down]) {
			down++
		}
		if !g.heap[down].before(last) {
			break
		}
		g.heap[i] = g.heap[down]
		i = down
	}
	g.heap[i] = last
	return top
}
