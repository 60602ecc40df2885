package loss

import (
	"fmt"

	"krait/autograd"
	"krait/tensor"
)

// BradleyTerry is the loss of a reward model on pairs of answers, a sum over pairs, which Total counts as its Tokens (Ouyang et al. 2022,
// eq. 1; the margin is that of Touvron et al. 2023, eq. 2). The rows of scores (rows, 1) at ends are those of whole answers, a chosen one's
// and then the rejected one's, pair by pair:
//
//	-log σ(chosen - rejected - margin) + centre·(chosen + rejected)²
//
// margins may be nil. Parts are the metrics under TRL's names: of min_reward and max_reward those of this batch, as often as it has pairs.
func BradleyTerry(t *autograd.Tape, scores *tensor.Tensor, ends []int, margins []float64, centre float64) Total {
	if len(ends)%2 != 0 || scores.Cols() != 1 || margins != nil && len(ends) != 2*len(margins) {
		panic(fmt.Sprintf("loss: scores of %d columns at %d ends with %d margins", scores.Cols(), len(ends), len(margins)))
	}
	pairs := len(ends) / 2
	total := Total{Tokens: pairs, Parts: map[string]float64{"accuracy": 0}}
	record := t.Recording(scores)
	least, most := scores.Data[ends[0]], scores.Data[ends[0]]
	for i := range pairs {
		chosen, rejected := ends[2*i], ends[2*i+1]
		c, r := float64(scores.Data[chosen]), float64(scores.Data[rejected])
		x, sum := c-r, c+r
		if margins != nil {
			x -= margins[i]
		}
		total.Sum += softplus(-x) + centre*sum*sum
		if c > r {
			total.Parts["accuracy"]++
		}
		total.Parts["margin"] += c - r
		total.Parts["mean_reward"] += sum / 2
		least = min(least, scores.Data[chosen], scores.Data[rejected])
		most = max(most, scores.Data[chosen], scores.Data[rejected])
		if record {
			slope, pull := sigmoid(x)-1, 2*centre*sum
			t.Grad(scores)[chosen] += float32(slope + pull)
			t.Grad(scores)[rejected] += float32(pull - slope)
		}
	}
	total.Parts["min_reward"] = float64(least) * float64(pairs)
	total.Parts["max_reward"] = float64(most) * float64(pairs)
	return total
}
