package sample

import (
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestAdjust(t *testing.T) {
	inf := float32(math.Inf(-1))
	logits := []float32{2, -1, 0.5, 1, 3}
	for _, c := range []struct {
		name string
		a    Adjustments
		want []float32
	}{ // the prompt is 0 1, the output 1 2 2
		{"bias", Adjustments{Bias: map[int32]float64{0: 1.5, 4: math.Inf(-1), 99: 1}}, []float32{3.5, -1, 0.5, 1, inf}},
		{"repetition", Adjustments{Repetition: 2}, []float32{1, -2, 0.25, 1, 3}},
		{"repetition rewarded", Adjustments{Repetition: 0.5}, []float32{4, -0.5, 1, 1, 3}},
		{"frequency", Adjustments{Frequency: 0.25}, []float32{2, -1.25, 0, 1, 3}},
		{"presence", Adjustments{Presence: 0.25}, []float32{2, -1.25, 0.25, 1, 3}},
		{"all", Adjustments{Bias: map[int32]float64{2: 1}, Repetition: 2, Frequency: 0.25, Presence: 1}, []float32{1, -3.25, -0.75, 1, 3}},
	} {
		h := NewHistory(c.a, []int32{0, 1})
		for _, id := range []int32{1, 2, 3, 3, 4} {
			h.Push(id)
		}
		h.Pop(3)
		h.Push(2)
		if got := h.Adjust(nil, logits); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		for h.Pop(3); len(h.output) > 0 || len(h.said) > 0; {
			t.Fatalf("%s: something is left: %v", c.name, h.output)
		}
	}
	if h := NewHistory(Adjustments{Repetition: 1}, []int32{1}); h != nil {
		t.Error("a history of nothing")
	}
	var none *History
	if none.Push(1); &none.Adjust(nil, logits)[0] != &logits[0] {
		t.Error("no history changes logits")
	}
	if got := LogProb([]float32{0, float32(math.Log(3))}, 1); math.Abs(got-math.Log(0.75)) > 1e-7 {
		t.Errorf("log-probability %g", got)
	}
}

func TestBadAdjustments(t *testing.T) {
	nan := math.NaN()
	for word, a := range map[string]Adjustments{
		"repetition penalty is -1": {Repetition: -1}, "frequency penalty is NaN": {Frequency: nan}, "presence penalty is +Inf": {Presence: math.Inf(1)},
		"bias of token -1": {Bias: map[int32]float64{-1: 0}}, "bias of token 2 is +Inf": {Bias: map[int32]float64{2: math.Inf(1)}},
	} {
		if err := (Options{Adjustments: a}).Validate(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v, want %q", err, word)
		}
	}
	for word, expression := range map[string]string{"missing closing": "(", "word boundaries": `\\ba`, "line ends": "(?m)a$"} {
		if _, err := NewPattern(strings.ReplaceAll(expression, `\\`, `\`), []string{"a", ""}, []int32{1}); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v, want %q", expression, err, word)
		}
	}
	if _, err := NewPattern("a", []string{"a"}, nil); err == nil {
		t.Error("a pattern without an end")
	}
}

// patternVocabulary has tokens that share beginnings, one of several bytes, half a character, one without text and the end.
var patternVocabulary = []string{"a", "b", "c", "cc", "ab", "abc", "d", "é", "\xff", "", "1", "12", "</s>"}

const patternEnd = 12

// TestPattern compares what a pattern allows with all texts that package regexp matches: a token is allowed exactly where some text goes on with
// it, and the end where the text matches.
func TestPattern(t *testing.T) {
	for _, expression := range []string{"a(b|cc)*d?", "(ab|c)+é", "^[a-c]{2,3}$", "(a|ab)(c|bcd)", "(?i)A?B", "a|$", `\d+(ab)?`, "(a*)*b", "", "[^a]c", "é*1(2|c)"} {
		p, err := NewPattern(expression, patternVocabulary, []int32{patternEnd})
		if err != nil {
			t.Fatal(err)
		}
		whole := regexp.MustCompile(`^(?:` + expression + `)$`)
		// live reports whether some text of at most 3 more tokens makes it match.
		var live func(text string, more int) bool
		live = func(text string, more int) bool {
			if whole.MatchString(text) {
				return true
			}
			for id, x := range patternVocabulary {
				if more > 0 && x != "" && x != "\xff" && id != patternEnd && live(text+x, more-1) {
					return true
				}
			}
			return false
		}
		rng := rand.New(rand.NewPCG(1, 9))
		for range 40 {
			h := NewHistory(Adjustments{Pattern: p}, nil)
			text := ""
			for range 4 {
				var allowed []int32
				for id, l := range h.Adjust(nil, make([]float32, len(patternVocabulary)+2)) {
					want := false
					switch {
					case id == patternEnd:
						want = whole.MatchString(text)
					case id < len(patternVocabulary) && id != 8 && id != 9:
						want = live(text+patternVocabulary[id], 3)
					}
					if got := l == 0; got != want {
						t.Fatalf("%q after %q: token %d is allowed %v, want %v", expression, text, id, got, want)
					}
					if l == 0 && id != patternEnd {
						allowed = append(allowed, int32(id))
					}
				}
				if len(allowed) == 0 {
					break
				}
				id := allowed[rng.IntN(len(allowed))]
				h.Push(id)
				text += patternVocabulary[id]
			}
		}
	}
}

func BenchmarkPattern(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	texts := make([]string, 50_000)
	for i := range texts {
		for range 1 + rng.IntN(8) {
			texts[i] += string(rune(' ' + rng.IntN(95)))
		}
	}
	logits := make([]float32, len(texts))
	for b.Loop() {
		p, err := NewPattern(`\{"name": "[^"]{1,40}", "age": [0-9]+\}`, texts, []int32{0})
		if err != nil {
			b.Fatal(err)
		}
		NewHistory(Adjustments{Pattern: p}, nil).Adjust(logits, logits)
	}
}
