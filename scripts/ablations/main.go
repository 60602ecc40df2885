// Command ablations prints what several runs of rows.yaml measured as one table in Markdown: of each row the mean over the runs and, in brackets, the least
// and the largest. Its arguments are the runs' directories. What was not measured in all of them says in how many.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// measured is a line of eval.json.
type measured struct {
	Model     string  `json:"model"`
	Attention []int   `json:"attn_layers"`
	Layers    int     `json:"num_layers"`
	NLL       float64 `json:"nll"`
	Ratio     float64 `json:"perplexity_ratio"`
	KL        float64 `json:"kl"`
	Top1      float64 `json:"top1"`
}

// row is what the runs measured of one model, by run; attention are the layers that keep it in each.
type row struct {
	name                string
	attention           map[string]string
	kept, layers        int
	ratio, kl, top1, at map[string]float64 // at: nats a token
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "ablations: the directories of runs are missing")
		os.Exit(2)
	}
	rows, err := read(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "ablations:", err)
		os.Exit(1)
	}
	fmt.Print(table(rows, os.Args[1:]))
}

// read collects the rows of the runs in the order in which the first run that has them measured them.
func read(runs []string) ([]*row, error) {
	var rows []*row
	for _, run := range runs {
		var state struct {
			Stages []struct{ Name, Kind string }
		}
		if err := parse(filepath.Join(run, "run.json"), &state); err != nil {
			return nil, err
		}
		for _, s := range state.Stages {
			path := filepath.Join(run, s.Name, "eval.json")
			if _, err := os.Stat(path); s.Kind != "eval" || err != nil {
				continue
			}
			var list []measured
			if err := parse(path, &list); err != nil {
				return nil, err
			}
			for _, m := range list[1:] { // the first is the teacher
				rows = add(rows, run, m)
			}
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: nothing has been measured there", strings.Join(runs, ", "))
	}
	return rows, nil
}

func parse(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func add(rows []*row, run string, m measured) []*row {
	i := slices.IndexFunc(rows, func(r *row) bool { return r.name == m.Model })
	if i < 0 {
		i, rows = len(rows), append(rows, &row{name: m.Model, kept: len(m.Attention), layers: m.Layers, attention: map[string]string{},
			ratio: map[string]float64{}, kl: map[string]float64{}, top1: map[string]float64{}, at: map[string]float64{}})
	}
	r := rows[i]
	r.attention[run] = strings.ReplaceAll(strings.Trim(fmt.Sprint(m.Attention), "[]"), " ", ",")
	r.ratio[run], r.kl[run], r.top1[run], r.at[run] = m.Ratio, m.KL, 100*m.Top1, m.NLL
	return rows
}

// table lays the rows out. Each is compared with the first that has as many layers of attention, run by run, in nats a token.
func table(rows []*row, runs []string) string {
	var b strings.Builder
	b.WriteString("| row | attention | perplexity ratio | KL, nats a token | top-1, % | nats against |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		var layers []string
		for _, run := range runs {
			if a, ok := r.attention[run]; ok && !slices.Contains(layers, a) {
				layers = append(layers, a)
			}
		}
		name := r.name
		if len(r.at) < len(runs) {
			name += fmt.Sprintf(" (%d of %d runs)", len(r.at), len(runs))
		}
		against := "–"
		first := rows[slices.IndexFunc(rows, func(x *row) bool { return x.kept == r.kept })]
		if first != r {
			diff := map[string]float64{}
			for run, nll := range r.at {
				if other, ok := first.at[run]; ok {
					diff[run] = nll - other
				}
			}
			against = first.name + " " + spread(diff, "%+.3f")
		}
		which := fmt.Sprintf("%d of %d", r.kept, r.layers)
		if r.kept > 0 {
			which += ": " + strings.Join(layers, "; ")
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", name, which,
			spread(r.ratio, "%.3f"), spread(r.kl, "%.3f"), spread(r.top1, "%.1f"), against)
	}
	return b.String()
}

// spread is the mean of the runs' values with the least and the largest.
func spread(values map[string]float64, format string) string {
	if len(values) == 0 {
		return "–"
	}
	sum, lo, hi := 0.0, math.Inf(1), math.Inf(-1)
	for _, v := range values {
		sum, lo, hi = sum+v, min(lo, v), max(hi, v)
	}
	mean := fmt.Sprintf(format, sum/float64(len(values)))
	if len(values) == 1 {
		return mean
	}
	return mean + " [" + fmt.Sprintf(format, lo) + ", " + fmt.Sprintf(format, hi) + "]"
}
