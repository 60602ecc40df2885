package data

import (
	"strings"
	"testing"
)

func TestPreferenceForms(t *testing.T) {
	const hh = `\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:`
	for in, want := range map[string][2]string{
		`{"prompt":"a ","chosen":"b","rejected":"c"}`: {`"a "+"b"`, `"a "+"c"`},
		`{"prompt":[{"role":"user","content":"a"}],"chosen":[{"role":"assistant","content":"b"}],"rejected":[{"role":"assistant","content":"c"}]}`: {
			"user:a | assistant:b", "user:a | assistant:c"},
		`{"prompt":"a","chosen":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"score_chosen":8.5,
			"rejected":[{"role":"user","content":"a"},{"role":"assistant","content":"c"}]}`: {"user:a | assistant:b", "user:a | assistant:c"},
		`{"prompt":"a","chosen":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"}],
			"rejected":[{"role":"assistant","content":"c"}]}`: {"system:s user:a | assistant:b", "user:a | assistant:c"},
		`{"chosen":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"},{"role":"assistant","content":"d"}],
			"rejected":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"},
			{"role":"assistant","content":"e"}]}`: {"user:a assistant:b user:c | assistant:d", "user:a assistant:b user:c | assistant:e"},
		`{"system":"s","conversations":[{"from":"human","value":"a"}],"chosen":{"from":"gpt","value":"b"},"rejected":{"from":"gpt","value":"c"}}`: {
			"system:s user:a | assistant:b", "system:s user:a | assistant:c"},
		`{"chosen":"` + hh + ` d","rejected":"` + hh + ` e"}`: {
			`user:a assistant:b user:c | assistant:d "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"+" d"`,
			`user:a assistant:b user:c | assistant:e "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"+" e"`},
		`{"chosen":"The sky is blue","rejected":"The sky is green"}`: {`"The sky is"+" blue"`, `"The sky is"+" green"`},
		`{"chosen":"xä","rejected":"xö"}`:                            {`"x"+"ä"`, `"x"+"ö"`},
	} {
		p, err := parseRow([]byte(in), parsePreference)
		if got := [2]string{say(p.Chosen), say(p.Rejected)}; err != nil || got != want {
			t.Errorf("%s:\n%q, %v\nwant %q", in, got, err, want)
		}
	}
}

func TestBadPreferences(t *testing.T) {
	for in, want := range map[string]string{
		`{"prompt":"a","chosen":"b"}`:                                                           "fields chosen, prompt: want chosen and rejected",
		`{"prompt":"a","chosen":"b","rejected":""}`:                                             "rejected: nothing in it is to be learnt",
		`{"prompt":"a","chosen":3,"rejected":"c"}`:                                              "chosen: want a list of messages",
		`{"prompt":{"a":1},"chosen":"b","rejected":"c"}`:                                        "prompt.from: want a string",
		`{"chosen":"b","rejected":"b"}`:                                                         "chosen and rejected say the same",
		`{"chosen":"\n\nHuman: b\n\nAssistant: c","rejected":"\n\nHuman: b"}`:                   "chosen and rejected say the same",
		`{"chosen":"\n\nHuman: b\n\nAssistant: c","rejected":"\n\nHuman: b\n\nAssistant:"}`:     "rejected: nothing in it is to be learnt",
		`{"chosen":[{"role":"user","content":"a"}],"rejected":[{"role":"user","content":"a"}]}`: "chosen and rejected say the same",
	} {
		if _, err := parseRow([]byte(in), parsePreference); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}
