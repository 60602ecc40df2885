package loss

import (
	"fmt"
	"math"

	"krait/autograd"
	"krait/tensor"
)

// GAE is generalised advantage estimation (Schulman et al. 2016) over the steps of one response, which ends behind them:
//
//	δ_t = r_t + γ V_{t+1} - V_t,  A_t = δ_t + γ λ A_{t+1}
//
// It returns A, and the returns A + V.
func GAE(rewards, values []float64, gamma, lambda float64) (advantages, returns []float64) {
	if len(rewards) != len(values) {
		panic(fmt.Sprintf("loss: %d rewards for %d values", len(rewards), len(values)))
	}
	advantages, returns = make([]float64, len(values)), make([]float64, len(values))
	var next, last float64 // V_{t+1}, A_{t+1}
	for t := len(values) - 1; t >= 0; t-- {
		last = rewards[t] + gamma*next - values[t] + gamma*lambda*last
		next = values[t]
		advantages[t] = last
		returns[t] = last + values[t]
	}
	return advantages, returns
}

// Whiten gives all the numbers together mean 0, or the mean that they have unless shift, and variance 1 (with Bessel's correction, as TRL).
func Whiten(shift bool, rows ...[]float64) {
	var n, mean, variance float64
	for _, row := range rows {
		for _, v := range row {
			n++
			mean += v
		}
	}
	mean /= max(n, 1)
	for _, row := range rows {
		for _, v := range row {
			variance += (v - mean) * (v - mean)
		}
	}
	variance /= max(n-1, 1)
	back := mean
	if shift {
		back = 0
	}
	for _, row := range rows {
		for i, v := range row {
			row[i] = (v-mean)/math.Sqrt(variance+1e-8) + back
		}
	}
}

// KLEstimate is one token's estimate of KL(policy ‖ reference) from its log-probabilities under both: log π - log ref, which is k1, or k3, which is
// never negative and varies less (Schulman 2020).
func KLEstimate(k3 bool, logp, ref float64) float64 {
	logr := ref - logp
	if k3 {
		return math.Expm1(logr) - logr
	}
	return -logr
}

// PPO says how far proximal policy optimisation (Schulman et al. 2017) goes in a step.
type PPO struct {
	Clip      float64 // of the ratio of the new probability to the old one
	ClipValue float64 // of the change of a value
}

// Policy is PPO's clipped policy loss, a sum over the rows whose target is not negative, the tokens of responses:
//
//	max(-A ρ, -A clip(ρ, 1-ε, 1+ε)),  ρ = π(token) / old π(token)
//
// old are the log-probabilities when the response was sampled, and advantages the A, row by row. Parts are metrics under TRL's names, sums too.
func (c PPO) Policy(t *autograd.Tape, head Head, targets []int32, old, advantages []float64) Total {
	logps, entropies := logProbs(t, head, targets)
	upstream := make([]float64, len(targets))
	total := Total{Parts: map[string]float64{"policy/clipfrac_avg": 0}}
	for i, target := range targets {
		if target < 0 {
			continue
		}
		total.Tokens++
		diff := logps[i] - old[i]
		ratio := math.Exp(diff)
		plain, clipped := -advantages[i]*ratio, -advantages[i]*min(max(ratio, 1-c.Clip), 1+c.Clip)
		total.Sum += max(plain, clipped)
		if clipped > plain {
			total.Parts["policy/clipfrac_avg"]++
		} else {
			upstream[i] = plain // the derivative by log π is that of ρ, which is ρ itself
		}
		total.Parts["policy/approxkl_avg"] += diff * diff / 2
		total.Parts["policy/entropy_avg"] += entropies[i]
		total.Parts["val/ratio"] += ratio
	}
	total.Parts["loss/policy_avg"] = total.Sum
	BackLogProbs(t, head, targets, upstream)
	return total
}

// logProbs is LogProbs with the entropies of the rows whose target is not negative.
func logProbs(t *autograd.Tape, head Head, targets []int32) (logps, entropies []float64) {
	defer t.Stop(autograd.GEMM, t.Start())
	d := &distill{tape: t, student: head, logps: make([]float64, len(targets)), entropies: make([]float64, len(targets))}
	d.rows(targets)
	return d.logps, d.entropies
}

// Value is PPO's clipped value loss, a sum over the rows of values (rows, 1) that are counted:
//
//	½ max((V - R)², (clip(V, old-ε, old+ε) - R)²)
//
// old are the values when the response was sampled, returns the R, row by row. The gradient is that of the sum times scale; the sum is not.
func (c PPO) Value(t *autograd.Tape, values *tensor.Tensor, counted []bool, old, returns []float64, scale float64) Total {
	total := Total{Parts: map[string]float64{"val/clipfrac_avg": 0}}
	record := t.Recording(values)
	for i, v := range values.Data {
		if !counted[i] {
			continue
		}
		total.Tokens++
		err := float64(v) - returns[i]
		clipped := min(max(float64(v), old[i]-c.ClipValue), old[i]+c.ClipValue) - returns[i]
		if clipped*clipped > err*err {
			total.Sum += clipped * clipped / 2
			total.Parts["val/clipfrac_avg"]++
			continue
		}
		total.Sum += err * err / 2
		if record {
			t.Grad(values)[i] += float32(scale * err)
		}
	}
	total.Parts["loss/value_avg"] = total.Sum
	return total
}
