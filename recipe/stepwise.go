package recipe

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// StepwiseConfig is a chain of conversions in which attention leaves step by step, each step from what the one before has learnt: all its
// weights, also embeddings and head. Attention that leaves in a step begins its Mamba layer with the projections that the steps before
// have trained.
type StepwiseConfig struct {
	Ratios     []float64     `json:"ratios"`       // percent of layers with attention in each step, falling, such as 75, 50, 25
	AttnLayers [][]int       `json:"attn_layers"`  // instead of Ratios: the layers with attention in each step
	Order      []string      `json:"order"`        // instead of both: layers that leave one a step, or the word paper for its order
	NumLayers  int           `json:"num_layers"`   // of the model; 0: as the model says
	Chunks     bool          `json:"split_labels"` // step k of n learns from part k of n of the labels
	Init       InitConfig    `json:"init"`         // teacher: what the first step begins from
	Align      DistillConfig `json:"align"`        // steps: 0 leaves it out
	Distill    DistillConfig `json:"distill"`
}

// DefaultStepwise returns the defaults of the chain: no alignment, as in the paper.
func DefaultStepwise() StepwiseConfig {
	c := StepwiseConfig{Init: DefaultInit(), Align: DefaultDistill(), Distill: DefaultDistill()}
	c.Align.Steps = 0
	return c
}

// AttentionAt returns the layers of n that keep attention at a share of attention in percent: layer i where the running count of kept layers
// grows, ⌊(i+1)·share⌋ > ⌊i·share⌋. At 75, 50, 25, 12.5 and 0 percent these are the lists of the paper's recipes.
func AttentionAt(percent float64, n int) []int {
	layers := []int{}
	at := func(i int) float64 { return math.Floor(float64(i)*percent/100 + 1e-9) }
	for i := range n {
		if at(i+1) > at(i) {
			layers = append(layers, i)
		}
	}
	return layers
}

// nested returns the layers to keep of those that have attention left: the wanted ones if it has them all, as many at equal distances otherwise.
func nested(left, wanted []int) []int {
	if !slices.ContainsFunc(wanted, func(l int) bool { return !slices.Contains(left, l) }) || len(wanted) >= len(left) {
		return wanted
	}
	kept := []int{}
	for _, i := range AttentionAt(100*float64(len(wanted))/float64(len(left)), len(left)) {
		kept = append(kept, left[i])
	}
	return kept
}

// PaperOrder returns the order in which the paper's layer-wise recipe replaces n layers: every second from 0, then every fourth from 1, every
// eighth from 3 and so on.
func PaperOrder(n int) []int {
	var order []int
	for step := 2; len(order) < n; step *= 2 {
		for i := step/2 - 1; i < n; i += step {
			order = append(order, i)
		}
	}
	return order
}

// steps returns the name of each step and the layers that keep attention in it.
func (c *StepwiseConfig) steps(layers int) (names []string, attention [][]int, err error) {
	if n := b2i(len(c.Ratios) > 0) + b2i(len(c.AttnLayers) > 0) + b2i(len(c.Order) > 0); n != 1 {
		return nil, nil, fmt.Errorf("want one of ratios, attn_layers and order")
	}
	left := seq(layers)
	for _, r := range c.Ratios {
		if !(r >= 0 && r < 100) {
			return nil, nil, fmt.Errorf("ratios: %g is no share of attention in percent below 100", r)
		}
		left = nested(left, AttentionAt(r, layers))
		names, attention = append(names, strconv.FormatFloat(r, 'g', -1, 64)), append(attention, left)
	}
	for i, l := range c.AttnLayers {
		names, attention = append(names, strconv.Itoa(i+1)), append(attention, slices.Sorted(slices.Values(l)))
	}
	if len(c.Order) > 0 {
		if names, attention, err = c.ordered(layers); err != nil {
			return nil, nil, err
		}
	}
	before := seq(layers)
	for i, l := range attention {
		for _, x := range l {
			if !slices.Contains(before, x) {
				return nil, nil, fmt.Errorf("step %s wants attention in layer %d, which has lost it before: give the lists by attn_layers", names[i], x)
			}
		}
		if len(l) == len(before) {
			return nil, nil, fmt.Errorf("step %s keeps attention in the same %d layers as before it", names[i], len(l))
		}
		before = l
	}
	return names, attention, nil
}

// ordered takes layers one by one.
func (c *StepwiseConfig) ordered(layers int) (names []string, attention [][]int, err error) {
	order := PaperOrder(layers)
	if !slices.Equal(c.Order, []string{"paper"}) {
		order = nil
		for _, word := range c.Order {
			l, err := strconv.Atoi(word)
			if err != nil || l < 0 || l >= layers || slices.Contains(order, l) {
				return nil, nil, fmt.Errorf("order: %q: want each layer from 0 to %d at most once, or the word paper", word, layers-1)
			}
			order = append(order, l)
		}
	}
	for i := range order {
		left := []int{}
		for l := range layers {
			if !slices.Contains(order[:i+1], l) {
				left = append(left, l)
			}
		}
		names, attention = append(names, "layer-"+strconv.Itoa(order[i])), append(attention, left)
	}
	return names, attention, nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// expand turns the chain into stages. prefix is the name of the chain's own stage where that is not its kind.
func (c *StepwiseConfig) expand(prefix string, layers int) ([]*Stage, error) {
	names, attention, err := c.steps(layers)
	if err != nil {
		return nil, err
	}
	if prefix = strings.TrimPrefix(prefix, "stepwise"); prefix != "" {
		prefix += "-"
	}
	var stages []*Stage
	add := func(kind, name string, config any) {
		k, _ := kindNamed(kind)
		stages = append(stages, &Stage{Name: prefix + kind + "-" + name, Kind: kind, Config: config, kind: k})
	}
	for i, name := range names {
		init, align, distill := c.Init, c.Align, c.Distill
		init.AttnLayers, init.Seed = attention[i], c.Init.Seed+uint64(i)
		if i > 0 {
			init.Teacher = "" // the chain goes on from its step before
		}
		add("init", name, &init)
		if c.Chunks {
			align.Part, align.Parts = i+1, len(names)
			distill.Part, distill.Parts = i+1, len(names)
		}
		if align.Steps > 0 || align.Epochs > 0 {
			add("align", name, &align)
		}
		add("distill", name, &distill)
	}
	return stages, nil
}
