package sample

import (
	"fmt"
	"math"
)

// Adjustments change logits before anything else is done with them, by what was said so far and by the token: also for greedy choice. The
// zero value changes nothing. The order is that of vLLM: bias, repetition, frequency and presence, pattern.
type Adjustments struct {
	Bias       map[int32]float64 // added to the logits of tokens; -Inf bans one
	Repetition float64           // divides the logits of tokens in prompt or output, where they are positive, else multiplies them (Keskar et al. 2019); 0 and 1 are off
	Frequency  float64           // is subtracted for every time that a token is in the output
	Presence   float64           // is subtracted once for a token that is in the output
	Pattern    *Pattern          // the output as a whole has to match it; nil is off
}

// active reports whether anything is changed.
func (a *Adjustments) active() bool {
	return len(a.Bias) > 0 || a.Repetition != 0 && a.Repetition != 1 || a.Frequency != 0 || a.Presence != 0 || a.Pattern != nil
}

func (a *Adjustments) validate() error {
	finite := func(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
	switch {
	case !finite(a.Repetition) || a.Repetition < 0:
		return fmt.Errorf("repetition penalty is %g, want a positive number, 1 for none", a.Repetition)
	case !finite(a.Frequency):
		return fmt.Errorf("frequency penalty is %g, want a number", a.Frequency)
	case !finite(a.Presence):
		return fmt.Errorf("presence penalty is %g, want a number", a.Presence)
	}
	for id, b := range a.Bias {
		if id < 0 || math.IsNaN(b) || math.IsInf(b, 1) {
			return fmt.Errorf("bias of token %d is %g, want a token's id and a number, or -Inf", id, b)
		}
	}
	return nil
}

// History is what was said so far, as far as the adjustments ask for it. A nil History adjusts nothing.
type History struct {
	Adjustments
	prompt map[int32]bool
	output map[int32]int // how often
	said   []int32       // output
	states []*patternState
}

// NewHistory returns the history behind a prompt, nil if the adjustments change nothing.
func NewHistory(a Adjustments, prompt []int32) *History {
	if !a.active() {
		return nil
	}
	h := &History{Adjustments: a, prompt: map[int32]bool{}, output: map[int32]int{}}
	for _, id := range prompt {
		h.prompt[id] = true
	}
	if a.Pattern != nil {
		h.states = append(h.states, a.Pattern.start)
	}
	return h
}

// Push adds a token of the output.
func (h *History) Push(token int32) {
	if h == nil {
		return
	}
	h.said = append(h.said, token)
	h.output[token]++
	if h.Pattern != nil {
		h.states = append(h.states, h.Pattern.after(h.states[len(h.states)-1], token))
	}
}

// Pop takes the last n tokens back.
func (h *History) Pop(n int) {
	if h == nil {
		return
	}
	for range n {
		token := h.said[len(h.said)-1]
		h.said = h.said[:len(h.said)-1]
		if h.output[token]--; h.output[token] == 0 {
			delete(h.output, token)
		}
	}
	if h.Pattern != nil {
		h.states = h.states[:len(h.states)-n]
	}
}

// Adjust returns the adjusted logits (vocab), in dst, grown if need be.
func (h *History) Adjust(dst, logits []float32) []float32 {
	if h == nil {
		return logits
	}
	dst = append(dst[:0], logits...)
	for id, b := range h.Bias {
		if int(id) < len(dst) {
			dst[id] += float32(b)
		}
	}
	if h.Repetition != 0 && h.Repetition != 1 {
		for id := range h.prompt {
			h.repeated(dst, id)
		}
		for id := range h.output {
			if !h.prompt[id] {
				h.repeated(dst, id)
			}
		}
	}
	if h.Frequency != 0 || h.Presence != 0 {
		for id, n := range h.output {
			if int(id) < len(dst) {
				dst[id] -= float32(h.Frequency*float64(n) + h.Presence)
			}
		}
	}
	if h.Pattern != nil {
		h.Pattern.mask(dst, h.states[len(h.states)-1])
	}
	return dst
}

func (h *History) repeated(logits []float32, id int32) {
	if int(id) >= len(logits) {
		return
	}
	if logits[id] > 0 {
		logits[id] /= float32(h.Repetition)
	} else {
		logits[id] *= float32(h.Repetition)
	}
}

// LogProb returns the natural logarithm of a token's probability under the softmax of the logits (vocab).
func LogProb(logits []float32, token int32) float64 {
	top := float32(math.Inf(-1))
	for _, v := range logits {
		top = max(top, v)
	}
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - float64(top))
	}
	return float64(logits[token]) - float64(top) - math.Log(sum)
}
