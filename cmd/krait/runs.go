package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"krait/recipe"
)

// runRow is a run in the JSON object of runs.
type runRow struct {
	Dir     string             `json:"dir"`
	Name    string             `json:"name"`
	Done    int                `json:"done"`
	Stages  int                `json:"stages"`
	Seconds float64            `json:"seconds"`
	Updated time.Time          `json:"updated"`
	Figures map[string]float64 `json:"figures"` // of the last stage that left some
}

func runsCommand(u *ui) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "runs [DIR …]",
		Short: "list the runs of recipes",
		Long: `List the runs of recipes: their directories, how far they are and what they reached. Without a DIR they are looked for here
and in runs.`,
		Example:               "  krait runs\n  krait runs experiments --json",
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{".", "runs"}
			}
			rows := []runRow{}
			for _, dir := range args {
				found, err := findRuns(dir)
				if err != nil {
					return err
				}
				rows = append(rows, found...)
			}
			slices.SortFunc(rows, func(a, b runRow) int { return b.Updated.Compare(a.Updated) })
			if asJSON {
				return u.json(map[string]any{"runs": rows})
			}
			table := [][]string{{"RUN", "RECIPE", "STAGES", "TIME", "UPDATED", "RESULT"}}
			for _, r := range rows {
				table = append(table, []string{r.Dir, r.Name, fmt.Sprintf("%d/%d", r.Done, r.Stages), (time.Duration(r.Seconds) * time.Second).String(),
					r.Updated.Local().Format("2006-01-02 15:04"), recipe.MetricsText(r.Figures)})
			}
			u.table(table)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// findRuns lists the run that dir is and those directly in it.
func findRuns(dir string) ([]runRow, error) {
	states, err := filepath.Glob(filepath.Join(dir, "*", "run.json"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, "run.json")); err == nil {
		states = append(states, filepath.Join(dir, "run.json"))
	}
	var rows []runRow
	for _, path := range states {
		row, err := readRunRow(filepath.Dir(path))
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func readRunRow(dir string) (runRow, error) {
	s, err := recipe.ReadRun(dir)
	if err != nil {
		return runRow{}, err
	}
	r := runRow{Dir: dir, Name: s.Name, Stages: len(s.Stages), Updated: s.Updated, Figures: map[string]float64{}}
	for _, st := range s.Stages {
		r.Seconds += st.Seconds
		if !st.Done {
			continue
		}
		r.Done++
		metrics, err := recipe.StageMetrics(dir, st.Name)
		if err != nil {
			return r, err
		}
		if len(metrics) > 0 {
			r.Figures = metrics
		}
	}
	return r, nil
}

// runDiff is the JSON object of diff.
type runDiff struct {
	A       string      `json:"a"`
	B       string      `json:"b"`
	Stages  []stageDiff `json:"stages"`
	Figures []runFigure `json:"figures"`
}

type stageDiff struct {
	Stage   string `json:"stage"`
	Setting string `json:"setting"`
	A       string `json:"a"`
	B       string `json:"b"`
}

// runFigure is what a stage reached in each of two runs; nil where it left none.
type runFigure struct {
	Stage string   `json:"stage"`
	Name  string   `json:"name"`
	A     *float64 `json:"a"`
	B     *float64 `json:"b"`
}

func diffCommand(u *ui) *cobra.Command {
	var asJSON bool
	cmd := verb("diff RUN RUN", cobra.Command{
		Short:   "show what two runs have differently: settings and results",
		Long:    "Show what two runs of recipes have differently: the settings that differ, and the figures of every stage side by side.",
		Example: "  krait diff runs/a runs/b",
	}, func(_ *cobra.Command, args []string) error {
		d, err := diffRuns(args[0], args[1])
		if err != nil {
			return err
		}
		if asJSON {
			return u.json(d)
		}
		rows := [][]string{{"STAGE", "SETTING", d.A, d.B}}
		for _, s := range d.Stages {
			rows = append(rows, []string{s.Stage, s.Setting, s.A, s.B})
		}
		if len(d.Stages) == 0 {
			rows = append(rows, []string{"(all)", "(the same)"})
		}
		u.table(rows)
		u.print("\n")
		rows = [][]string{{"STAGE", "FIGURE", d.A, d.B, "CHANGE"}}
		for _, f := range d.Figures {
			change := ""
			if f.A != nil && f.B != nil && *f.A != 0 {
				change = fmt.Sprintf("%+.1f %%", 100*(*f.B-*f.A) / *f.A)
			}
			rows = append(rows, []string{f.Stage, f.Name, figureText(f.A), figureText(f.B), change})
		}
		u.table(rows)
		return nil
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func figureText(v *float64) string {
	if v == nil {
		return "–"
	}
	return strconv.FormatFloat(*v, 'g', 6, 64)
}

func diffRuns(a, b string) (*runDiff, error) {
	x, err := recipe.ReadRun(a)
	if err != nil {
		return nil, err
	}
	y, err := recipe.ReadRun(b)
	if err != nil {
		return nil, err
	}
	d := &runDiff{A: a, B: b, Stages: []stageDiff{}, Figures: []runFigure{}}
	var names []string
	for _, s := range slices.Concat(x.Stages, y.Stages) {
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	for _, name := range names {
		p, q := stageNamed(x, name), stageNamed(y, name)
		switch {
		case p == nil:
			d.Stages = append(d.Stages, stageDiff{name, "(stage)", "–", q.Kind})
		case q == nil:
			d.Stages = append(d.Stages, stageDiff{name, "(stage)", p.Kind, "–"})
		default:
			if p.Kind != q.Kind {
				d.Stages = append(d.Stages, stageDiff{name, "stage", p.Kind, q.Kind})
			}
			for _, c := range recipe.Differences(p.Config, q.Config) {
				d.Stages = append(d.Stages, stageDiff{name, c.Key, c.A, c.B})
			}
		}
		if err := d.figures(name); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func stageNamed(s *recipe.RunState, name string) *recipe.StageState {
	for i := range s.Stages {
		if s.Stages[i].Name == name {
			return &s.Stages[i]
		}
	}
	return nil
}

// figures adds the figures of a stage.
func (d *runDiff) figures(stage string) error {
	x, err := recipe.StageMetrics(d.A, stage)
	if err != nil {
		return err
	}
	y, err := recipe.StageMetrics(d.B, stage)
	if err != nil {
		return err
	}
	all := maps.Clone(x)
	maps.Copy(all, y)
	for _, k := range slices.Sorted(maps.Keys(all)) {
		f := runFigure{Stage: stage, Name: k}
		if v, ok := x[k]; ok {
			f.A = &v
		}
		if v, ok := y[k]; ok {
			f.B = &v
		}
		d.Figures = append(d.Figures, f)
	}
	return nil
}

func reportCommand(u *ui) *cobra.Command {
	var out string
	cmd := verb("report RUN", cobra.Command{
		Short: "write the report of a run: one HTML file with all its figures",
		Long: `Write the report of a run as one HTML file that needs no other: curves, models, layers, time and samples of text. It also shows
how far a run is that has not ended.`,
		Example: "  krait report runs/mine\n  krait report runs/mine --out mine.html",
	}, func(_ *cobra.Command, args []string) error {
		if out == "" {
			out = filepath.Join(args[0], "report.html")
		}
		if err := recipe.ReportRun(args[0], out); err != nil {
			return err
		}
		u.print("%s\n", out)
		return nil
	})
	cmd.Flags().StringVar(&out, "out", "", "`FILE` to write (default: report.html in the run)")
	return cmd
}
