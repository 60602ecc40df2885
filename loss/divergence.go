package loss

import (
	"fmt"
	"math"

	"krait/kernel"
)

// Divergence says how a student's distribution S is compared with its teacher's T.
type Divergence int

// The divergences. M is a mixture, m is Weights.Mix.
const (
	ForwardKL   Divergence = iota // KL(T ‖ S)
	ReverseKL                     // KL(S ‖ T)
	JS                            // m·KL(T ‖ M) + (1-m)·KL(S ‖ M), M = m·T + (1-m)·S: the generalised Jensen-Shannon divergence (GKD, Agarwal et al. 2024)
	Skew                          // KL(T ‖ M), M = m·T + (1-m)·S (DistiLLM, Ko et al. 2024)
	SkewReverse                   // KL(S ‖ M), M = m·S + (1-m)·T

	// TotalVariation is ½ Σ |T - S|, and 1 - that is the probability Σ min(T, S) that speculative sampling accepts a token drawn from S.
	TotalVariation
)

var divergenceNames = [...]string{"kl", "reverse_kl", "js", "skew_kl", "skew_reverse_kl", "tv"}

// String returns the name under which the divergence is logged.
func (d Divergence) String() string { return divergenceNames[d] }

// ParseDivergence reads a divergence as the command line spells it: forward, reverse, js, skew, skew-reverse or tv.
func ParseDivergence(s string) (Divergence, error) {
	for i, name := range []string{"forward", "reverse", "js", "skew", "skew-reverse", "tv"} {
		if s == name {
			return Divergence(i), nil
		}
	}
	return 0, fmt.Errorf("divergence %q: want forward, reverse, js, skew, skew-reverse or tv", s)
}

// Mixes reports whether the divergence has a mixture, whose weight must be above 0 and below 1.
func (d Divergence) Mixes() bool { return d >= JS && d <= SkewReverse }

// TopK is what is known of a teacher: of each row the ids of its K likeliest tokens with their log-probabilities, (rows, K) each, and the
// probability of all other tokens together (rows).
type TopK struct {
	K              int
	IDs            []int32
	LogProbs, Tail []float32
}

// leastTail stands for a tail that was rounded away: with no probability at all, reverse KL would be infinite.
const leastTail = 1e-9

// divergedRow returns one row's divergence and cross-entropy and, when recording, replaces its logits by their gradient. It knows all divergences, a
// teacher of whole rows or of the likeliest tokens, and rows without a target. at is the row's number in the batch.
func (d *distill) divergedRow(logits, teacher []float32, at int, target int32, w Weights) (kl, ce float64) {
	m := kernel.Max(logits)
	p := make([]float32, len(logits))
	sum := kernel.ExpSum(p, logits, m)
	kernel.Scale(p, 1/sum, p)
	logZ := float64(m) + math.Log(float64(sum))
	if target >= 0 {
		ce = logZ - float64(logits[target])
	} else {
		w.CE = 0
	}
	var q, ratio []float32
	if d.topK != nil {
		q, ratio = d.topK.row(at, p, logits, logZ)
	} else {
		q, ratio = wholeRow(teacher, logits, logZ)
	}
	kl = diverge(w.Divergence, w.Mix, p, q, ratio)
	if d.recording { // diverge left the gradient in ratio
		kernel.Scale(logits, float32(w.CE), p)
		kernel.Axpy(logits, float32(w.KL), ratio)
		if target >= 0 {
			logits[target] -= float32(w.CE)
		}
	}
	return max(0, kl), ce
}

// wholeRow turns a teacher's logits into its probabilities q and log(q/p), p being the student's of these logits. The teacher's are used up.
func wholeRow(teacher, logits []float32, logZ float64) (q, ratio []float32) {
	m := kernel.Max(teacher)
	ratio = make([]float32, len(teacher))
	copy(ratio, teacher)
	sum := kernel.ExpSum(teacher, teacher, m)
	kernel.Scale(teacher, 1/sum, teacher)
	shift := float32(logZ - float64(m) - math.Log(float64(sum)))
	for i, l := range logits {
		ratio[i] += shift - l
	}
	return teacher, ratio
}

// row is wholeRow for the likeliest tokens of row at: what the teacher gives all others together is dealt among them as the student p does, so
// that all divergences and their gradients are those of the K+1 outcomes.
func (k *TopK) row(at int, p, logits []float32, logZ float64) (q, ratio []float32) {
	ids, logProbs := k.IDs[at*k.K:][:k.K], k.LogProbs[at*k.K:][:k.K]
	q, ratio = make([]float32, len(p)), make([]float32, len(p))
	copy(q, p)
	for _, id := range ids {
		q[id] = 0
	}
	rest := max(float64(kernel.Sum(q)), 1e-37)
	share := max(float64(k.Tail[at]), leastTail) / rest
	kernel.Scale(q, float32(share), q)
	logShare := float32(math.Log(share))
	for i := range ratio {
		ratio[i] = logShare
	}
	for i, id := range ids {
		q[id] = float32(math.Exp(float64(logProbs[i])))
		ratio[id] = float32(float64(logProbs[i]) + logZ - float64(logits[id]))
	}
	return q, ratio
}

// diverge returns the divergence of the student's probabilities p from the teacher's q, and puts the gradient with respect to the student's
// logits in the place of ratio, which is log(q/p). For a divergence D whose derivative by p[i] is g[i], that is p[i]·(g[i] - Σ p·g).
func diverge(kind Divergence, mix float64, p, q, ratio []float32) float64 {
	switch kind {
	case ForwardKL: // g = -q/p
		value := float64(kernel.Dot(q, ratio))
		copy(ratio, p)
		kernel.Axpy(ratio, -1, q)
		return value
	case ReverseKL: // g = log(p/q) + 1
		value := -float64(kernel.Dot(p, ratio))
		for i, r := range ratio {
			ratio[i] = p[i] * (-r - float32(value))
		}
		return value
	}
	if kind == TotalVariation {
		return totalVariation(p, q, ratio)
	}
	teacher := mix // the teacher's share of the mixture
	if kind == SkewReverse {
		teacher = 1 - mix
	}
	var ofTeacher, ofStudent, mean float64 // KL(T ‖ M), KL(S ‖ M), Σ p·g
	for i, r := range ratio {
		u := logMix(teacher, float64(r)) // log(M/S)
		ofTeacher += float64(q[i]) * (float64(r) - u)
		ofStudent -= float64(p[i]) * u
		g := -(1 - mix) * u
		switch kind {
		case Skew:
			g = -(1 - mix) * math.Exp(float64(r)-u)
		case SkewReverse:
			g = -u - mix*math.Exp(-u)
		}
		mean += float64(p[i]) * g
		ratio[i] = float32(g)
	}
	for i, g := range ratio {
		ratio[i] = p[i] * (g - float32(mean))
	}
	switch kind {
	case Skew:
		return ofTeacher
	case SkewReverse:
		return ofStudent
	}
	return mix*ofTeacher + (1-mix)*ofStudent
}

// totalVariation is diverge for it: g = ½ sign(p - q).
func totalVariation(p, q, ratio []float32) float64 {
	value, mean := 0.0, 0.0
	for i := range p {
		d := float64(p[i]) - float64(q[i])
		g := math.Copysign(0.5, d)
		value += g * d
		mean += float64(p[i]) * g
		ratio[i] = float32(g)
	}
	for i, g := range ratio {
		ratio[i] = p[i] * (g - float32(mean))
	}
	return value
}

// logMix is log(share·exp(r) + 1 - share).
func logMix(share, r float64) float64 {
	if r > 0 {
		return r + math.Log(share+(1-share)*math.Exp(-r))
	}
	return math.Log(share*math.Exp(r) + 1 - share)
}

// entropy returns that of the distribution whose logits these are, in nats: log Z - Σ p·l.
func entropy(logits []float32) float64 {
	m := kernel.Max(logits)
	p := make([]float32, len(logits))
	sum := kernel.ExpSum(p, logits, m)
	dot := 0.0
	for i, l := range logits {
		if p[i] > 0 {
			dot += float64(p[i]) * float64(l-m)
		}
	}
	return math.Log(float64(sum)) - dot/float64(sum)
}
