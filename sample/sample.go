// Package sample turns logits into a distribution, draws from it, and decides which drafted tokens a target distribution accepts.
package sample

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Options says how logits become a distribution. The zero value is greedy.
type Options struct {
	Temperature float64 // divides the logits; 0 takes the largest logit and ignores the options down to MinP
	TopK        int     // only the TopK largest logits stay; 0 is off
	TopP        float64 // then only the fewest tokens whose probabilities sum to TopP stay; 0 and 1 are off
	MinP        float64 // then only tokens at least MinP times as probable as the first stay; 0 is off
	Adjustments         // come before all of these; a History applies them
}

// Validate refuses options that mean nothing.
func (o Options) Validate() error {
	switch {
	case !(o.Temperature >= 0) || math.IsInf(o.Temperature, 1):
		return fmt.Errorf("temperature is %g, want a number from 0 (greedy) up", o.Temperature)
	case o.TopK < 0:
		return fmt.Errorf("top-k is %d, want a positive number, or 0 for all tokens", o.TopK)
	case !(o.TopP >= 0 && o.TopP <= 1):
		return fmt.Errorf("top-p is %g, want a number from 0 to 1", o.TopP)
	case !(o.MinP >= 0 && o.MinP <= 1):
		return fmt.Errorf("min-p is %g, want a number from 0 to 1", o.MinP)
	}
	return o.Adjustments.validate()
}

// Greedy reports whether the options take the largest logit.
func (o Options) Greedy() bool { return o.Temperature == 0 }

// Argmax returns the first of the largest logits. Logits that are NaN or +Inf, or all -Inf, are an error: no distribution belongs to them.
func Argmax(logits []float32) (int32, error) {
	best := float32(math.Inf(-1))
	at := -1
	for i, v := range logits {
		if v > best {
			best, at = v, i
		} else if v != v {
			return 0, fmt.Errorf("logit %d is NaN", i)
		}
	}
	if at < 0 {
		return 0, fmt.Errorf("none of %d logits is above -Inf", len(logits))
	}
	if math.IsInf(float64(best), 1) {
		return 0, fmt.Errorf("logit %d is +Inf", at)
	}
	return int32(at), nil
}

// smallest is the exponent below which a weight e^x is taken to be zero; float32 has no normal numbers there.
const smallest = -87

// Dist writes to dst, grown if need be, the probabilities (vocab) of the logits (vocab) under valid options: temperature, top-k, top-p,
// min-p, in this order. Where a cut falls between equal tokens the earlier ids stay. Logits of which Argmax has none are an error.
func Dist(dst, logits []float32, o Options) ([]float32, error) {
	top, err := Argmax(logits)
	if err != nil {
		return dst, err
	}
	if cap(dst) < len(logits) {
		dst = make([]float32, len(logits))
	}
	dst = dst[:len(logits)]
	if o.Greedy() {
		clear(dst)
		dst[top] = 1
		return dst, nil
	}
	all := cut{value: float32(math.Inf(-1)), ties: len(logits)}
	topK := all
	if o.TopK > 0 && o.TopK < len(logits) {
		topK = cutCount(logits, o.TopK)
	}
	best, scale := float64(logits[top]), 1/o.Temperature
	sum := 0.0
	for i, v := range logits {
		w := float32(0)
		if topK.keeps(v) {
			if x := (float64(v) - best) * scale; x > smallest {
				w = float32(math.Exp(x)) // the first token's is 1
			} else if x != x { // 0·Inf: a temperature whose inverse overflows, at the largest logit
				w = 1
			}
		}
		dst[i] = w
		sum += float64(w)
	}
	if o.TopP > 0 && o.TopP < 1 || o.MinP > 0 {
		topP := all
		if o.TopP > 0 && o.TopP < 1 {
			topP = cutMass(dst, sum, o.TopP)
		}
		sum = 0
		for i, w := range dst {
			if !topP.keeps(w) || float64(w) < o.MinP {
				dst[i] = 0
			} else {
				sum += float64(w)
			}
		}
	}
	norm := 1 / sum
	for i, w := range dst {
		if w != 0 {
			dst[i] = float32(float64(w) * norm)
		}
	}
	return dst, nil
}

// Pick draws a token from a distribution.
func Pick(dist []float32, rng *rand.Rand) int32 {
	u, sum := rng.Float64(), 0.0
	last := 0
	for i, p := range dist {
		if p == 0 {
			continue
		}
		sum += float64(p)
		if u < sum {
			return int32(i)
		}
		last = i // the probabilities may sum to a little less than 1
	}
	return int32(last)
}

// Verify decides on a token drawn from the distribution draft: it is accepted with probability min(1, target/draft), else next is drawn from
// normalize(max(target-draft, 0)), which makes next a draw from target (Leviathan et al. 2023, algorithm 1). The test is u·draft < target
// with u in [0,1), so a token that target excludes is never accepted, and one that draft excludes, which cannot have been drawn from
// it, is accepted exactly where target allows it. A residual without mass, which is rounding, is replaced by target.
func Verify(target, draft []float32, token int32, rng *rand.Rand) (next int32, accepted bool) {
	if rng.Float64()*float64(draft[token]) < float64(target[token]) {
		return token, true
	}
	mass := 0.0
	for i, p := range target {
		if d := p - draft[i]; d > 0 {
			mass += float64(d)
		}
	}
	if mass == 0 {
		return Pick(target, rng), false
	}
	u, sum := rng.Float64()*mass, 0.0
	last := 0
	for i, p := range target {
		if d := p - draft[i]; d > 0 {
			sum += float64(d)
			if u < sum {
				return int32(i), false
			}
			last = i
		}
	}
	return int32(last), false
}

// VerifyCertain is Verify for a token that was not drawn but determined, as by prompt n-grams: the draft distribution has all its mass there.
func VerifyCertain(target []float32, token int32, rng *rand.Rand) (next int32, accepted bool) {
	if rng.Float64() < float64(target[token]) {
		return token, true
	}
	mass := 0.0
	for i, p := range target {
		if i != int(token) {
			mass += float64(p)
		}
	}
	if mass == 0 {
		return Pick(target, rng), false
	}
	u, sum := rng.Float64()*mass, 0.0
	last := 0
	for i, p := range target {
		if i == int(token) || p == 0 {
			continue
		}
		sum += float64(p)
		if u < sum {
			return int32(i), false
		}
		last = i
	}
	return int32(last), false
}

// VerifyTwo is Verify with a second candidate that was not drawn but follows from the first, such as the likeliest other token of the draft: it
// is asked where the first is refused, against what is left of the target's distribution then. next is a draw from target (recursive
// rejection, as in SpecInfer, Miao et al. 2024). of is 0 or 1 for the candidate accepted, -1 for none. scratch (vocab) is grown if need be.
func VerifyTwo(scratch *[]float32, target, draft []float32, first, second int32, rng *rand.Rand) (next int32, of int) {
	if rng.Float64()*float64(draft[first]) < float64(target[first]) {
		return first, 0
	}
	if cap(*scratch) < len(target) {
		*scratch = make([]float32, len(target))
	}
	left := (*scratch)[:len(target)]
	mass := 0.0
	for i, p := range target {
		left[i] = max(0, p-draft[i])
		mass += float64(left[i])
	}
	if mass == 0 {
		copy(left, target)
		mass = 1
	}
	for i, p := range left {
		left[i] = float32(float64(p) / mass)
	}
	next, accepted := VerifyCertain(left, second, rng)
	if accepted {
		return next, 1
	}
	return next, -1
}
