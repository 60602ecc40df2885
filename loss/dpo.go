package loss

import (
	"fmt"
	"math"

	"krait/autograd"
)

// LogProbs returns log p[target] of each row whose target is not negative, and 0 for the others. Logits exist for chunkRows rows at a time.
func LogProbs(t *autograd.Tape, head Head, targets []int32) []float64 {
	defer t.Stop(autograd.GEMM, t.Start())
	d := &distill{tape: t, student: head, logps: make([]float64, len(targets))}
	d.rows(targets)
	return d.logps
}

// BackLogProbs adds the gradient of Σ upstream[row] · log p[target], over the rows that LogProbs counts, to the hidden rows and the head. It
// computes the logits once more, so that those of all rows need never be in memory.
func BackLogProbs(t *autograd.Tape, head Head, targets []int32, upstream []float64) {
	defer t.Stop(autograd.GEMM, t.Start())
	d := &distill{student: head, ceWeights: make([]float64, len(upstream))}
	if d.record(t); !d.recording {
		return
	}
	for i, u := range upstream {
		d.ceWeights[i] = -u // the cross-entropy is -log p
	}
	d.rows(targets)
}

// Preference says how DPO weighs a pair.
type Preference struct {
	Beta      float64 // how strongly the policy is held to the reference
	Smoothing float64 // share of pairs taken to be labelled the wrong way round
	IPO       bool    // the squared loss of Azar et al. 2023 on log-probabilities per token, instead of the sigmoid
}

// Reference is what the reference model says of a pair: the log-probabilities of its two answers, each summed over the answer's tokens.
type Reference struct {
	Chosen   float64 `json:"chosen"`
	Rejected float64 `json:"rejected"`
}

// DPO is the loss of direct preference optimisation (Rafailov et al. 2023, eq. 7), a sum over pairs, which Total counts as its Tokens. The
// rows of head are sequences of the lengths lens, a chosen answer's and then the rejected one's, pair by pair. With
// Δ = (log π(chosen) - log ref(chosen)) - (log π(rejected) - log ref(rejected)), sums over the rows whose target is not negative:
//
//	sigmoid:  -(1-s) log σ(β Δ) - s log σ(-β Δ)
//	IPO:      (Δ' - 1/(2β))², where Δ' is Δ of means over an answer's tokens
//
// Parts are the metrics under TRL's names, sums over pairs too.
func DPO(t *autograd.Tape, head Head, targets []int32, lens []int, refs []Reference, p Preference) Total {
	if len(lens) != 2*len(refs) {
		panic(fmt.Sprintf("loss: %d sequences for %d pairs", len(lens), len(refs)))
	}
	logps := LogProbs(t, head, targets)
	upstream := make([]float64, len(logps))
	total := Total{Tokens: len(refs), Parts: map[string]float64{}}
	at := 0
	for i, ref := range refs {
		chosen, rejected := answer{at, at + lens[2*i]}, answer{at + lens[2*i], at + lens[2*i] + lens[2*i+1]}
		at = rejected.to
		lc, lr := chosen.sum(logps), rejected.sum(logps)
		nc, nr := 1.0, 1.0 // what the difference is a mean over
		if p.IPO {
			nc, nr = chosen.counted(targets), rejected.counted(targets)
		}
		value, slope := p.pair((lc-ref.Chosen)/nc - (lr-ref.Rejected)/nr)
		total.Sum += value
		chosen.fill(upstream, slope/nc)
		rejected.fill(upstream, -slope/nr)
		total.count(p.Beta, lc, lr, ref)
	}
	BackLogProbs(t, head, targets, upstream)
	return total
}

// pair returns the loss of one pair and its derivative with respect to the difference d.
func (p *Preference) pair(d float64) (value, slope float64) {
	if p.IPO {
		x := d - 1/(2*p.Beta)
		return x * x, 2 * x
	}
	x := p.Beta * d
	value = (1-p.Smoothing)*softplus(-x) + p.Smoothing*softplus(x)
	return value, p.Beta * (sigmoid(x) - (1 - p.Smoothing))
}

// count adds one pair's metrics.
func (l *Total) count(beta, chosen, rejected float64, ref Reference) {
	rc, rr := beta*(chosen-ref.Chosen), beta*(rejected-ref.Rejected)
	l.Parts["rewards/chosen"] += rc
	l.Parts["rewards/rejected"] += rr
	l.Parts["rewards/margins"] += rc - rr
	l.Parts["logps/chosen"] += chosen
	l.Parts["logps/rejected"] += rejected
	right := 0.0
	if rc > rr {
		right = 1
	}
	l.Parts["rewards/accuracies"] += right
}

// answer is the rows of one sequence.
type answer struct{ from, to int }

func (a answer) sum(logps []float64) float64 {
	var s float64
	for _, l := range logps[a.from:a.to] {
		s += l
	}
	return s
}

// counted returns the number of rows that have a target, at least 1.
func (a answer) counted(targets []int32) float64 {
	n := 0.0
	for _, target := range targets[a.from:a.to] {
		if target >= 0 {
			n++
		}
	}
	return max(n, 1)
}

func (a answer) fill(upstream []float64, value float64) {
	for i := a.from; i < a.to; i++ {
		upstream[i] = value
	}
}

// softplus is log(1+exp(x)), which is -log σ(-x).
func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

func sigmoid(x float64) float64 { return math.Exp(-softplus(-x)) }
