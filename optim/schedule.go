package optim

import (
	"fmt"
	"math"
	"slices"
)

// Schedule is the course of the learning rate: a linear warm-up to the peak, and then its name. Floor is the end of the decay as a share of the
// peak; Decay is the share of all steps in which a WSD schedule falls.
type Schedule struct {
	Name        string
	Peak, Floor float64
	Warmup      int
	Total       int
	Decay       float64
}

// The names of schedules, and the names that Transformers has for them.
var schedules = map[string][]string{
	"cosine":   {"cosine_with_min_lr", "cosine_warmup_with_min_lr"},
	"linear":   {"linear_with_warmup"},
	"constant": {"constant_with_warmup"},
	"wsd":      {"warmup_stable_decay"},
}

// ParseSchedule returns the name of a schedule: cosine, linear, constant or wsd (warm-up, stable, decay; Hu et al. 2024), or Transformers' name for it.
func ParseSchedule(name string) (string, error) {
	for s, others := range schedules {
		if name == s || slices.Contains(others, name) {
			return s, nil
		}
	}
	return "", fmt.Errorf("lr_scheduler_type %q: want cosine, linear, constant or wsd", name)
}

// Rate returns the learning rate of a step, from 0. A half cosine, or a line, leads from the peak to the floor over all steps after the warm-up; WSD
// stays at the peak and falls along a line in its last steps.
func (s *Schedule) Rate(step int) float64 {
	if step < s.Warmup {
		return s.Peak * float64(step+1) / float64(s.Warmup)
	}
	progress := float64(step-s.Warmup) / float64(max(1, s.Total-s.Warmup))
	switch s.Name {
	case "constant":
		return s.Peak
	case "linear":
		return s.Peak * (s.Floor + (1-s.Floor)*(1-progress))
	case "wsd":
		fall := max(1, int(math.Round(s.Decay*float64(s.Total))))
		left := min(1, float64(s.Total-step)/float64(fall))
		return s.Peak * (s.Floor + (1-s.Floor)*left)
	}
	return s.Peak * (s.Floor + (1-s.Floor)*0.5*(1+math.Cos(math.Pi*progress)))
}
