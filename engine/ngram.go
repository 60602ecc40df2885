package engine

// The lengths of the n-grams that are looked for, longest first.
const (
	longestNGram  = 4
	shortestNGram = 2
)

// ngrams knows, for every n-gram of a sequence, where its latest occurrence ended. The n-grams that end at the last token are not in it
// yet: they are what is looked for.
type ngrams struct {
	next map[[longestNGram]int32]int // position behind the n-gram; shorter ones are filled with -1
	seen int                         // n-grams that end before this position are in the index
}

func newNGrams() *ngrams { return &ngrams{next: map[[longestNGram]int32]int{}} }

// key returns the n-gram that ends before position end.
func key(tokens []int32, end, n int) [longestNGram]int32 {
	k := [longestNGram]int32{-1, -1, -1, -1}
	copy(k[:], tokens[end-n:end])
	return k
}

// match takes in the tokens that are new and returns the position behind the latest earlier occurrence of the longest n-gram that
// tokens ends with, and its length, or 0.
func (g *ngrams) match(tokens []int32) (at, length int) {
	for end := g.seen + 1; end < len(tokens); end++ {
		for n := shortestNGram; n <= min(longestNGram, end); n++ {
			g.next[key(tokens, end, n)] = end
		}
		g.seen = end
	}
	for n := min(longestNGram, len(tokens)); n >= shortestNGram; n-- {
		if at, ok := g.next[key(tokens, len(tokens), n)]; ok {
			return at, n
		}
	}
	return 0, 0
}

// propose appends to dst the k tokens from position at on. Where the tokens end the proposal goes on with itself: the match is a period.
func propose(dst, tokens []int32, at, k int) []int32 {
	base := len(dst)
	for i := range k {
		if at+i < len(tokens) {
			dst = append(dst, tokens[at+i])
		} else {
			dst = append(dst, dst[base+at+i-len(tokens)])
		}
	}
	return dst
}
