package engine

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMatch(t *testing.T) {
	a := newAutomaton()
	tokens := []int32{5, 6, 7, 8, 9, 1, 6, 7}
	if at, n := a.match(tokens); at != 3 || n != 2 {
		t.Errorf("match at %d of length %d", at, n)
	}
	if at, n := a.match(append(tokens, 8)); at != 4 || n != 3 {
		t.Errorf("match at %d of length %d", at, n)
	}
	if got := propose(nil, tokens, 3, 7); !slices.Equal(got, []int32{8, 9, 1, 6, 7, 8, 9}) {
		t.Errorf("proposal %v", got)
	}
	if at, n := newAutomaton().match([]int32{3}); at != 0 || n != 0 {
		t.Errorf("match at %d of length %d in one token", at, n)
	}
}

// TestMatchRescan compares with a rescan of everything, at every length, for texts from random to periodic.
func TestMatchRescan(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 9))
	for _, vocab := range []int{1, 2, 4, 20} {
		for _, copies := range []float64{0, 0.2} {
			a, tokens := newAutomaton(), text(rng, vocab, 500, copies)
			for i := 1; i <= len(tokens); i += 1 + rng.IntN(3) {
				at, n := a.match(tokens[:i])
				wantAt, want := rescan(tokens[:i])
				if n != want || vocab > 1 && copies == 0 && at != wantAt || n > 0 && !slices.Equal(tokens[at-n:at], tokens[i-n:i]) {
					t.Fatalf("vocabulary %d, after %d tokens: match at %d of length %d, want %d of length %d", vocab, i, at, n, wantAt, want)
				}
			}
			if len(a.states) > 2*len(tokens) || len(a.edges) > 3*len(tokens) {
				t.Fatalf("vocabulary %d: %d states and %d edges for %d tokens", vocab, len(a.states), len(a.edges), len(tokens))
			}
		}
	}
}

// text returns n random tokens in which, with probability copies at each, 20 earlier ones come again.
func text(rng *rand.Rand, vocab, n int, copies float64) []int32 {
	var tokens []int32
	for len(tokens) < n {
		if from := len(tokens) - 20; from > 0 && rng.Float64() < copies {
			from = rng.IntN(from)
			tokens = append(tokens, tokens[from:from+20]...)
		}
		tokens = append(tokens, int32(rng.IntN(vocab)))
	}
	return tokens[:n]
}

func rescan(tokens []int32) (at, length int) {
	for end := len(tokens) - 1; end >= 1; end-- {
		n := 0
		for n < end && tokens[end-1-n] == tokens[len(tokens)-1-n] {
			n++
		}
		if n > length {
			at, length = end, n
		}
	}
	return at, length
}

// TestCorpus compares matches and proposals with a rescan of the corpus.
func TestCorpus(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 13))
	const vocab = 5
	corpus := text(rng, vocab, 600, 0.1)
	c := NewCorpus(corpus)
	r := reader{corpus: c}
	tokens := append(text(rng, vocab+1, 200, 0), corpus[580:]...) // with a token that the corpus has not, up to the corpus's end
	for i := range tokens {
		n := r.match(tokens[:i+1])
		if want := longestIn(corpus, tokens[:i+1]); n != want {
			t.Fatalf("after %v: match of %d, want %d", tokens[:i+1], n, want)
		}
		if n == 0 {
			continue
		}
		context := slices.Clone(tokens[i+1-n : i+1])
		for _, x := range c.propose(nil, r.at, 6) {
			counts := followers(corpus, context, vocab)
			for len(counts) == 0 { // the corpus ends
				context = context[1:]
				counts = followers(corpus, context, vocab)
			}
			if counts[x] < slices.Max(counts) {
				t.Fatalf("after %v: proposal %d, but the counts are %v", context, x, counts)
			}
			context = append(context, x)
		}
	}
}

func longestIn(corpus, tokens []int32) int {
	for n := len(tokens); n > 0; n-- {
		for at := 0; at+n <= len(corpus); at++ {
			if slices.Equal(corpus[at:at+n], tokens[len(tokens)-n:]) {
				return n
			}
		}
	}
	return 0
}

// followers counts what follows a context in a corpus; nil: nothing does.
func followers(corpus, context []int32, vocab int) []int {
	var counts []int
	for at := 0; at+len(context) < len(corpus); at++ {
		if slices.Equal(corpus[at:at+len(context)], context) {
			if counts == nil {
				counts = make([]int, vocab)
			}
			counts[corpus[at+len(context)]]++
		}
	}
	return counts
}

func BenchmarkAutomaton(b *testing.B) {
	tokens := text(rand.New(rand.NewPCG(1, 1)), 5000, 4096, 0.01)
	for b.Loop() {
		newAutomaton().match(tokens)
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N*len(tokens)), "ns/token")
}
