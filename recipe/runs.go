package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"krait/checkpoint"
)

// Path returns the directory of a stage.
func (r *Recipe) Path(stage string) string { return filepath.Join(r.Out, stage) }

// Resolved returns the stages of the recipe with all their settings, as a run would record them.
func (r *Recipe) Resolved() (*RunState, error) {
	state := &RunState{Name: r.Name, Version: Version, Model: r.Model, Overrides: r.Overrides}
	for _, s := range r.Stages {
		c, err := s.JSON()
		if err != nil {
			return nil, err
		}
		state.Stages = append(state.Stages, StageState{Name: s.Name, Kind: s.Kind, Config: c, Needs: s.Needs})
	}
	return state, nil
}

// Summary is what a list says of a recipe.
type Summary struct {
	Description string
	Stages      int // as the file lists them
}

// About reads what a recipe says of itself, without what it needs to run.
func About(name string) (Summary, error) {
	text, err := Source(name)
	if err != nil {
		return Summary{}, err
	}
	r := &reader{decoder: decoder{file: name}}
	root, err := r.parse(text)
	if err != nil {
		return Summary{}, err
	}
	var s Summary
	for _, e := range r.entries(root, "a recipe") {
		switch e.key {
		case "description":
			s.Description, _ = scalar(r.plain(e.value))
		case "stages":
			s.Stages = len(r.items(e.value))
		}
	}
	return s, r.err()
}

// StageMetrics returns the figures that a stage left, none where it is not whole.
func StageMetrics(run, stage string) (map[string]float64, error) {
	p, err := checkpoint.ReadProvenance(filepath.Join(run, stage))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]float64{}, nil
	}
	if err != nil {
		return nil, err
	}
	if p.Metrics == nil {
		p.Metrics = map[string]float64{}
	}
	return p.Metrics, nil
}

// MetricsText writes figures on one line; where the time went is left to the report.
func MetricsText(m map[string]float64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if !strings.HasPrefix(k, "share_") && !(strings.HasPrefix(k, "rows") && m[k] == 0) {
			parts = append(parts, fmt.Sprintf("%s %s", k, strconv.FormatFloat(m[k], 'g', 5, 64)))
		}
	}
	return strings.Join(parts, ", ")
}
