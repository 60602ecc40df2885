package recipe

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strings"

	"krait/checkpoint"
	"krait/train"
)

//go:embed report.html.tmpl
var reportText string

var reportTemplate = template.Must(template.New("report").Parse(reportText))

// WriteReport writes what the demo measured as one HTML file that needs no other: style and charts are inside, there is no script. The
// file is absent, or as it was, or whole.
func WriteReport(path string, r *DemoResult) error { return newReportPage(r).write(path) }

// write writes the page.
func (p *reportPage) write(path string) error {
	var b bytes.Buffer
	if err := reportTemplate.Execute(&b, p); err != nil {
		return fmt.Errorf("report %s: %w", path, err)
	}
	if err := checkpoint.WriteFile(path, b.Bytes()); err != nil {
		return fmt.Errorf("report %s: %w", path, err)
	}
	return nil
}

// reportPage is a report in the order of its template, every value as text.
type reportPage struct {
	Brand, Title, Headline, Lead string
	Tiles                        []reportTile
	Tables                       []reportTable
	Selections                   []selectionChart
	Charts                       []chart
	Reading                      []reading
	Stages                       []reportBar
	Shares                       []reportBar
	Training                     string
	Samples                      []reportSample
	Provenance                   string
}

type reportTile struct{ Value, Label, Note string }

// reportTable is a table; the first cell of a row names it.
type reportTable struct {
	Title, Note string
	Head        []string
	Rows        []reportRow
}

type reportRow struct {
	Cells  []string
	Result bool // what the report is about
	Wrong  bool // its last cell says that something is broken
}

// reading explains a word of the charts.
type reading struct{ Word, Text string }

type reportSample struct{ Title, Text string }

// reportBar is one part of a whole: its width in percent of the largest, or of all.
type reportBar struct {
	Name, Value string
	Width       float64
	Color       int
}

func newReportPage(r *DemoResult) *reportPage {
	p := &reportPage{
		Headline: fmt.Sprintf("A Llama of %s parameters became a hybrid that keeps attention in %d layers: %s× its teacher’s perplexity, %s tokens a second.",
			count(r.Teacher.Parameters), len(demoHybridLayers), significant(r.Hybrid.Ratio), rate(max(r.PlainTokensPerSecond, r.Speculative.TokensPerSecond))),
		Lead: fmt.Sprintf("Layers %s, counted from 0, kept their attention; the others began as Mamba2 with its weights and learnt from text that the teacher wrote. "+
			"All is measured on stories that no model here has seen.", enumerate(demoHybridLayers)),
		Brand: "Krait demo", Title: "Krait demo: a Llama becomes a hybrid",
		Tables: []reportTable{reportModels(r), reportSpeeds(r)}, Tiles: reportTiles(r), Charts: reportCharts(r.Curves), Reading: readings("align", "distill"),
		Stages: stageBars(r), Shares: shareBars(r.Training.Shares),
		Provenance: fmt.Sprintf("Krait %s, %s kernels, %s in all.", Version, r.Kernels, duration(r.Seconds)),
	}
	if text := strings.TrimSpace(r.Sample); text != "" {
		p.Samples = []reportSample{{"A story by the hybrid", text}}
	}
	if r.Training.Tokens > 0 {
		p.Training = fmt.Sprintf("%s tokens trained on, %s a second.", count(r.Training.Tokens), rate(r.Training.TokensPerSecond))
	}
	return p
}

func reportTiles(r *DemoResult) []reportTile {
	same := "same output as plain decoding, token for token"
	if !r.Speculative.Identical {
		same = "output differs from plain decoding: this is a bug"
	}
	return []reportTile{
		{significant(r.Hybrid.Ratio) + "×", "the teacher’s perplexity", fmt.Sprintf("%s× with no attention at all", significant(r.Pure.Ratio))},
		{size(r.Hybrid.StateBytes512), "state at 512 tokens", fmt.Sprintf("%s in the teacher, %s with no attention", size(r.Teacher.StateBytes512), size(r.Pure.StateBytes512))},
		{fixed(r.Speculative.Speedup, 2) + "×", "plain speed with speculation", same},
		{duration(r.Seconds), "from the teacher to this page", fmt.Sprintf("%s kernels", r.Kernels)},
	}
}

func reportModels(r *DemoResult) reportTable {
	t := reportTable{Title: "Models on held-out text", Head: []string{"Model", "Loss, nats a token", "Perplexity", "To the teacher’s", "Parameters", "State at 512 tokens"},
		Note: stateNote}
	for _, m := range []struct {
		name   string
		m      *DemoModel
		result bool
	}{{"Teacher", &r.Teacher, false}, {"Hybrid, initialised", &r.HybridInit, false}, {"Hybrid, distilled", &r.Hybrid, true},
		{"Mamba2 only, initialised", &r.PureInit, false}, {"Mamba2 only, distilled", &r.Pure, true}, {"Draft model", &r.Draft, false}} {
		t.Rows = append(t.Rows, reportRow{Result: m.result, Cells: []string{m.name, fixed(m.m.NLL, 4), significant(m.m.Perplexity), significant(m.m.Ratio),
			count(m.m.Parameters), size(m.m.StateBytes512)}})
	}
	return t
}

// stateNote says what the state of a model is.
const stateNote = "State is what one sequence keeps in memory to go on from: keys and values of attention layers, which grow with the text, " +
	"and the recurrent state of Mamba2 layers, which does not."

func reportSpeeds(r *DemoResult) reportTable {
	t := reportTable{Title: "Writing with the hybrid", Head: []string{"Guesses by", "Tokens a second", "Tokens a step", "Guesses a step", "Guesses accepted", "Speed-up", "Output identical to plain"},
		Note: "Greedy output for the same prompts, runs in turn, medians. The engine measures what guessing costs and guesses fewer tokens, or none, where it would not pay.",
		Rows: []reportRow{{Cells: []string{"Plain", rate(r.PlainTokensPerSecond), "1.00", "–", "–", "1.00×", "–"}}}}
	for _, s := range []struct {
		name string
		s    *DemoSpeculation
	}{{"Draft and n-grams", &r.Speculative}, {"Draft alone", &r.DraftOnly}, {"N-grams alone", &r.NGram}} {
		same := "yes"
		if !s.s.Identical {
			same = "no"
		}
		t.Rows = append(t.Rows, reportRow{Wrong: !s.s.Identical, Cells: []string{fmt.Sprintf("%s, up to %d tokens ahead", s.name, s.s.Speculate),
			rate(s.s.TokensPerSecond), fixed(s.s.TokensPerStep, 2), fmt.Sprintf("mostly %d, mean %s", s.s.Depth, fixed(s.s.MeanDepth, 2)), percent(s.s.Acceptance), fixed(s.s.Speedup, 2) + "×", same}})
		for _, w := range s.s.Why {
			if !strings.Contains(t.Note, w) {
				t.Note += " " + strings.ToUpper(w[:1]) + w[1:] + "."
			}
		}
	}
	return t
}

// stageName is how the report calls a stage.
var stageName = map[string]string{
	"teacher": "Unpack the teacher", "labels": "Teacher writes text",
	"hybrid_init": "Hybrid: initialise", "hybrid_aligned": "Hybrid: align mixers", "hybrid": "Hybrid: distil",
	"pure_init": "Mamba2 only: initialise", "pure_aligned": "Mamba2 only: align mixers", "pure": "Mamba2 only: distil",
	"draft": "Draft: distil",
}

// stageBars shows where the time went. What no stage accounts for is evaluation and timing.
func stageBars(r *DemoResult) []reportBar {
	order := []string{"teacher", "labels", "hybrid_init", "hybrid_aligned", "hybrid", "pure_init", "pure_aligned", "pure", "draft"}
	for _, k := range slices.Sorted(maps.Keys(r.StageSeconds)) {
		if !slices.Contains(order, k) {
			order = append(order, k)
		}
	}
	var bars []reportBar
	rest := r.Seconds
	add := func(name string, seconds float64) {
		if seconds >= 0.05 { // shorter ones would be noise on the page
			bars = append(bars, reportBar{Name: name, Value: duration(seconds), Width: seconds})
		}
	}
	for _, k := range order {
		rest -= r.StageSeconds[k]
		name := stageName[k]
		if name == "" {
			name = k
		}
		add(name, r.StageSeconds[k])
	}
	add("Measure", rest)
	return toPercent(bars)
}

// toPercent turns widths into percent of the largest.
func toPercent(bars []reportBar) []reportBar {
	most := 0.0
	for _, b := range bars {
		most = max(most, b.Width)
	}
	for i := range bars {
		bars[i].Width = math.Round(1000*bars[i].Width/most) / 10
	}
	return bars
}

// shareBars cuts the training time into its kinds of work.
func shareBars(shares map[string]float64) []reportBar {
	order := []string{"gemm", "scan", "attention", "elementwise", "overhead"}
	names := []string{"Matrix products", "Scan and convolution", "Attention", "Elementwise", "Everything else"}
	var bars []reportBar
	for i, k := range order {
		if s := shares[k]; s > 0 && s <= 1 {
			bars = append(bars, reportBar{names[i], percent(s), math.Round(1000*s) / 10, i})
		}
	}
	return bars
}

// reportCharts draws the training curves. Curves of the same kind share the scale of losses.
func reportCharts(curves []DemoCurve) []chart {
	var charts []chart
	for _, kind := range []struct {
		stages []string
		unit   string
	}{
		{[]string{"hybrid_aligned", "pure_aligned"}, "squared error over the teacher's, summed over layers"},
		{[]string{"hybrid", "pure"}, "KL to the teacher, nats a token"},
		{[]string{"draft"}, "KL to the hybrid, nats a token"},
	} {
		var points [][]point
		var titles []string
		for _, c := range curves {
			if p := lossPoints(c.Steps); slices.Contains(kind.stages, c.Stage) && len(p) > 1 {
				points, titles = append(points, p), append(titles, stageName[c.Stage])
			}
		}
		s := scaleOf(points)
		for i, p := range points {
			charts = append(charts, s.draw(titles[i], kind.unit, "tokens", p))
		}
	}
	return charts
}

// lossPoints returns loss against tokens, without what cannot be drawn.
func lossPoints(steps []train.Step) []point {
	var p []point
	for _, s := range steps {
		if s.Total > 0 && s.Loss > 0 && !math.IsInf(s.Loss, 1) {
			p = append(p, point{float64(s.Total), s.Loss})
		}
	}
	return p
}
