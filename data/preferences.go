package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// Preference is a prompt with two answers of which the first was preferred.
type Preference struct {
	Chosen, Rejected Chat
	Line             int      // where its row begins
	Margin           *float64 // by how much it was preferred: the column margin, nil where there is none
	Gap              *float64 // of the scores of both: score_chosen - score_rejected, nil where they are not there
}

// Preferences iterates over the pairs of a file: Parquet, JSON lines or a JSON array, with gzip, zstd or neither. chosen and rejected are strings or messages; what
// comes before them stands in prompt (a string or messages) or in conversations (LLaMA-Factory), or else it is what they have in common
// (UltraFeedback, HH-RLHF's transcripts). A row that means nothing is a *RowError, and the next one follows if the consumer goes on.
func Preferences(path string) iter.Seq2[Preference, error] {
	return parsed(path, parsePreference, func(p *Preference, line int) { p.Line = line })
}

func parsePreference(r row) (Preference, error) {
	var p Preference
	var err error
	switch {
	case !r.has("chosen", "rejected"):
		return p, fmt.Errorf("fields %s: want chosen and rejected", r.names())
	case r.has("prompt"):
		if p.Chosen, err = r.answer("prompt", "chosen"); err == nil {
			p.Rejected, err = r.answer("prompt", "rejected")
		}
	case r.has("conversations"):
		p, err = r.repliesTo()
	case r.isText("chosen") && r.isText("rejected"):
		p, err = r.texts()
	default:
		p, err = r.implicit()
	}
	if err != nil {
		return Preference{}, err
	}
	if p.Chosen, err = p.Chosen.check("chosen", nil); err != nil {
		return Preference{}, err
	}
	if p.Rejected, err = p.Rejected.check("rejected", nil); err != nil {
		return Preference{}, err
	}
	return p, p.measure(r)
}

// measure reads how strongly one answer was preferred, where the row says it.
func (p *Preference) measure(r row) error {
	var scores [2]*float64
	for field, dst := range map[string]**float64{"margin": &p.Margin, "score_chosen": &scores[0], "score_rejected": &scores[1]} {
		if r.has(field) && json.Unmarshal(r[field], dst) != nil {
			return fmt.Errorf("%s is %.40s, want a number", field, r[field])
		}
	}
	if scores[0] != nil && scores[1] != nil {
		gap := *scores[0] - *scores[1]
		p.Gap = &gap
	}
	return nil
}

// repliesTo reads a conversation with two ways to go on.
func (r row) repliesTo() (p Preference, err error) {
	before, err := r.conversation()
	if err != nil {
		return p, err
	}
	chosen, err := r.turns("chosen", "assistant")
	if err != nil {
		return p, err
	}
	rejected, err := r.turns("rejected", "assistant")
	return Preference{Chosen: Chat{Messages: slices.Concat(before, chosen), Given: len(before)},
		Rejected: Chat{Messages: slices.Concat(before, rejected), Given: len(before)}}, err
}

// implicit reads two conversations that begin alike.
func (r row) implicit() (p Preference, err error) {
	chosen, err := r.turns("chosen", "assistant")
	if err != nil {
		return p, err
	}
	rejected, err := r.turns("rejected", "assistant")
	if err != nil {
		return p, err
	}
	given := commonTurns(chosen, rejected)
	if given == len(chosen) || given == len(rejected) {
		return p, errors.New("chosen and rejected say the same")
	}
	return Preference{Chosen: Chat{Messages: chosen, Given: given}, Rejected: Chat{Messages: rejected, Given: given}}, nil
}

// commonTurns returns the number of messages with which both begin.
func commonTurns(a, b []Message) int {
	n := 0
	for n < min(len(a), len(b)) && a[n].Role == b[n].Role && a[n].Content == b[n].Content && string(a[n].JSON) == string(b[n].JSON) {
		n++
	}
	return n
}

// texts reads two strings without a prompt: HH-RLHF's transcripts, or texts that begin alike.
func (r row) texts() (p Preference, err error) {
	chosen, err := r.text("chosen")
	if err != nil {
		return p, err
	}
	rejected, err := r.text("rejected")
	if err != nil {
		return p, err
	}
	if chosen == rejected {
		return p, errors.New("chosen and rejected say the same")
	}
	if strings.HasPrefix(chosen, human) && strings.HasPrefix(rejected, human) {
		return transcripts(chosen, rejected)
	}
	at := 0
	for at < min(len(chosen), len(rejected)) && chosen[at] == rejected[at] {
		at++
	}
	for at > 0 && at < len(chosen) && !utf8.RuneStart(chosen[at]) || at > 0 && at < len(rejected) && !utf8.RuneStart(rejected[at]) {
		at--
	}
	if at > 0 && chosen[at-1] == ' ' {
		at-- // the space belongs to the word behind it, as in TRL
	}
	return Preference{Chosen: Chat{Prompt: chosen[:at], Completion: chosen[at:]}, Rejected: Chat{Prompt: rejected[:at], Completion: rejected[at:]}}, nil
}

// The marks of HH-RLHF's transcripts.
const (
	human     = "\n\nHuman:"
	assistant = "\n\nAssistant:"
)

// transcripts reads two of HH-RLHF's transcripts, in both forms: as conversations, and as text of which the last answer is to be learnt.
func transcripts(chosen, rejected string) (p Preference, err error) {
	a, atA := transcript(chosen)
	b, atB := transcript(rejected)
	given := commonTurns(a, b)
	if given == len(a) || given == len(b) {
		return p, errors.New("chosen and rejected say the same")
	}
	for _, side := range []struct {
		chat  *Chat
		turns []Message
		at    []int
		text  string
	}{{&p.Chosen, a, atA, chosen}, {&p.Rejected, b, atB, rejected}} {
		*side.chat = Chat{Messages: side.turns, Given: given}
		if last := len(side.turns) - 1; side.turns[last].Role == "assistant" && side.turns[last].Content != "" {
			side.chat.Prompt, side.chat.Completion = side.text[:side.at[last]], side.text[side.at[last]:]
		}
	}
	return p, nil
}

// transcript returns the turns of a transcript and where the words of each begin.
func transcript(text string) (turns []Message, at []int) {
	rest := 0
	for rest < len(text) {
		role, mark := "user", human
		if strings.HasPrefix(text[rest:], assistant) {
			role, mark = "assistant", assistant
		}
		from := rest + len(mark)
		to := len(text)
		for _, next := range []string{human, assistant} {
			if i := strings.Index(text[from:], next); i >= 0 {
				to = min(to, from+i)
			}
		}
		turns = append(turns, Message{Role: role, Content: strings.TrimSpace(text[from:to])})
		at = append(at, from)
		rest = to
	}
	return turns, at
}
