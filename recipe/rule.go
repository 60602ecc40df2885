package recipe

import (
	"fmt"
	"os"
	"strings"
	"unicode"
)

// rulePrefix marks a reward that is a rule and no model: "rule:happy", or "rule:" with a file of words.
const rulePrefix = "rule:"

// rule judges an answer by words: its score is the number of different words of the list among the answer's last ones. It is for rewards that can be
// checked by reading.
type rule struct {
	words map[string]bool
	last  int // words of the ending
}

// happyEnding are words with which a story ends well.
const happyEnding = `happy happily glad proud smile smiled smiles laugh laughed love loved loves fun hug hugged joy kind safe better best thanked
friends together`

// ruleEnding is the number of words that count as an ending.
const ruleEnding = 20

// IsRule reports whether a reward is a rule.
func IsRule(reward string) bool { return strings.HasPrefix(reward, rulePrefix) }

// ruleFile returns the file of a rule's words, or "" if it has none. What is no rule is its own file.
func ruleFile(reward string) string {
	if name := strings.TrimPrefix(reward, rulePrefix); name != "happy" || !IsRule(reward) {
		return name
	}
	return ""
}

// parseRule reads a reward for which IsRule holds.
func parseRule(reward string) (*rule, error) {
	name := strings.TrimPrefix(reward, rulePrefix)
	text := happyEnding
	if name != "happy" {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reward %q: want rule:happy or rule: with a file of words: %w", reward, err)
		}
		text = string(b)
	}
	r := &rule{words: map[string]bool{}, last: ruleEnding}
	for _, w := range wordsOf(text) {
		r.words[w] = true
	}
	if len(r.words) == 0 {
		return nil, fmt.Errorf("reward %q: %s has no words", reward, name)
	}
	return r, nil
}

// wordsOf returns the words of a text in small letters.
func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && r != '\'' })
}

// score returns that of an answer.
func (r *rule) score(answer string) float64 {
	words := wordsOf(answer)
	seen := map[string]bool{}
	for _, w := range words[max(0, len(words)-r.last):] {
		if r.words[w] {
			seen[w] = true
		}
	}
	return float64(len(seen))
}
