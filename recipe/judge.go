package recipe

import (
	"context"
	"errors"
	"math"

	"krait/checkpoint"
	"krait/data"
	"krait/model"
)

// JudgeConfig is the configuration of Judge.
type JudgeConfig struct {
	Model       string   // a reward model
	Data        []string // files of preferences, all of them
	Context     int      // tokens of an answer with its prompt, at most
	BatchTokens int      // scored together; changes no score
	RowsConfig
}

// Judgement is how well a reward model's scores agree with preferences.
type Judgement struct {
	Pairs    int     `json:"pairs"`
	Accuracy float64 `json:"accuracy"` // share of the pairs whose chosen answer has the higher score
	Low      float64 `json:"accuracy_low"`
	High     float64 `json:"accuracy_high"` // Low to High is the 95 % interval
	Margin   float64 `json:"margin"`        // mean score of the chosen answers less that of the rejected
}

// Judge lets a reward model score pairs of answers.
func Judge(ctx context.Context, c JudgeConfig, report Report) (Judgement, error) {
	m, err := checkpoint.LoadReward(c.Model)
	if err != nil {
		return Judgement{}, err
	}
	rows, err := c.rows(c.Model, m, c.Context, 0)
	if err != nil {
		return Judgement{}, err
	}
	pairs, err := rows.pairs(c.Data, func(data.Preference) error { return nil })
	if err != nil {
		return Judgement{}, err
	}
	if len(pairs) == 0 {
		return Judgement{}, rows.unusable(errors.New("no pair is left to judge"))
	}
	report(Event{Stage: "eval", Note: rows.summary("pairs", data.InMemory(pairs))})
	m.Model.Pack()
	return judge(ctx, m.Model, pairs, c.BatchTokens)
}

// judge scores pairs, the chosen answer first.
func judge(ctx context.Context, m *model.Model, pairs [][]data.Sequence, tokens int) (Judgement, error) {
	var all []data.Sequence
	for _, p := range pairs {
		all = append(all, p...)
	}
	list, err := scores(ctx, m, all, tokens)
	if err != nil {
		return Judgement{}, err
	}
	right, margin := 0, 0.0
	for i := 0; i < len(list); i += 2 {
		if list[i] > list[i+1] {
			right++
		}
		margin += list[i] - list[i+1]
	}
	n := float64(len(pairs))
	j := Judgement{Pairs: len(pairs), Accuracy: float64(right) / n, Margin: margin / n}
	j.Low, j.High = wilson(right, len(pairs))
	return j, nil
}

// wilson returns the 95 % interval of a share of which k of n were seen (Wilson 1927).
func wilson(k, n int) (low, high float64) {
	const z = 1.959963984540054
	p, size := float64(k)/float64(n), float64(n)
	centre, half := p+z*z/(2*size), z*math.Sqrt(p*(1-p)/size+z*z/(4*size*size))
	return (centre - half) / (1 + z*z/size), (centre + half) / (1 + z*z/size)
}
