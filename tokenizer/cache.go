package tokenizer

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
)

const (
	cacheSlots = 1 << 14 // words; a text's frequent words are far fewer
	cacheWord  = 64      // bytes; longer words seldom come again
)

// wordCache remembers the ids of words. Each word has one slot and the latest word wins it, so the memory is bounded and no
// lock is needed.
type wordCache struct {
	seed  maphash.Seed
	slots []atomic.Pointer[cachedWord]
}

type cachedWord struct {
	word string
	ids  []int32
}

func newWordCache() wordCache {
	return wordCache{maphash.MakeSeed(), make([]atomic.Pointer[cachedWord], cacheSlots)}
}

// slot returns the word's slot, or nil for a word too long to keep.
func (c *wordCache) slot(word string) *atomic.Pointer[cachedWord] {
	if len(word) > cacheWord {
		return nil
	}
	return &c.slots[maphash.String(c.seed, word)%cacheSlots]
}

func (c *wordCache) get(slot *atomic.Pointer[cachedWord], word string) ([]int32, bool) {
	if slot == nil {
		return nil, false
	}
	w := slot.Load()
	if w == nil || w.word != word {
		return nil, false
	}
	return w.ids, true
}

// put copies word and ids: the word is a piece of a text that should not stay in memory.
func (c *wordCache) put(slot *atomic.Pointer[cachedWord], word string, ids []int32) {
	if slot != nil {
		slot.Store(&cachedWord{strings.Clone(word), slices.Clone(ids)})
	}
}
