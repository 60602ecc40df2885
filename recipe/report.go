package recipe

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"krait/checkpoint"
	"krait/train"
)

//go:embed report.html.tmpl
var reportText string

var reportTemplate = template.Must(template.New("report").Parse(reportText))

// WriteReport writes what the demo measured as one HTML file that needs no other: style and charts are inside, there is no script. The
// file is absent, or as it was, or whole.
func WriteReport(path string, r *DemoResult) error {
	var b bytes.Buffer
	if err := reportTemplate.Execute(&b, newReportPage(r)); err != nil {
		return fmt.Errorf("report %s: %w", path, err)
	}
	if err := checkpoint.WriteFile(path, b.Bytes()); err != nil {
		return fmt.Errorf("report %s: %w", path, err)
	}
	return nil
}

// reportPage is the report in the order of its template, every value as text.
type reportPage struct {
	Headline, Lead string
	Tiles          []reportTile
	Models         []reportModel
	Speeds         []reportSpeed
	Charts         []chart
	Stages         []reportBar
	Shares         []reportBar
	Training       string
	Sample         string
	Provenance     string
}

type reportTile struct{ Value, Label, Note string }

type reportModel struct {
	Name, NLL, Perplexity, Ratio, Parameters, State string
	Result                                          bool // what the demo is about
}

type reportSpeed struct {
	Name, Rate, PerStep, Acceptance, Speedup, Identical string
	Wrong                                               bool // not the plain output
}

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
		Models: reportModels(r), Speeds: reportSpeeds(r), Tiles: reportTiles(r), Charts: reportCharts(r.Curves),
		Stages: stageBars(r), Shares: shareBars(r.Training.Shares), Sample: strings.TrimSpace(r.Sample),
		Provenance: fmt.Sprintf("Krait %s, %s kernels, %s in all.", Version, r.Kernels, duration(r.Seconds)),
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

func reportModels(r *DemoResult) []reportModel {
	var rows []reportModel
	for _, m := range []struct {
		name   string
		m      *DemoModel
		result bool
	}{{"Teacher", &r.Teacher, false}, {"Hybrid, initialised", &r.HybridInit, false}, {"Hybrid, distilled", &r.Hybrid, true},
		{"Mamba2 only, initialised", &r.PureInit, false}, {"Mamba2 only, distilled", &r.Pure, true}, {"Draft model", &r.Draft, false}} {
		rows = append(rows, reportModel{m.name, fixed(m.m.NLL, 4), significant(m.m.Perplexity), significant(m.m.Ratio),
			count(m.m.Parameters), size(m.m.StateBytes512), m.result})
	}
	return rows
}

func reportSpeeds(r *DemoResult) []reportSpeed {
	rows := []reportSpeed{{Name: "Plain", Rate: rate(r.PlainTokensPerSecond), PerStep: "1.00", Acceptance: "–", Speedup: "1.00×", Identical: "–"}}
	for _, s := range []struct {
		name string
		s    *DemoSpeculation
	}{{"Draft and n-grams", &r.Speculative}, {"Draft alone", &r.DraftOnly}, {"N-grams alone", &r.NGram}} {
		same := "yes"
		if !s.s.Identical {
			same = "no"
		}
		rows = append(rows, reportSpeed{fmt.Sprintf("%s, up to %d tokens ahead", s.name, s.s.Speculate), rate(s.s.TokensPerSecond), fixed(s.s.TokensPerStep, 2),
			percent(s.s.Acceptance), fixed(s.s.Speedup, 2) + "×", same, !s.s.Identical})
	}
	return rows
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
			charts = append(charts, s.draw(titles[i], kind.unit, p))
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

// enumerate writes 1, 2 and 3.
func enumerate(n []int) string {
	var b strings.Builder
	for i, v := range n {
		switch {
		case i > 0 && i == len(n)-1:
			b.WriteString(" and ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(v))
	}
	return b.String()
}

// missing stands for a number that was not measured.
const missing = "–"

func fixed(v float64, digits int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) || v == 0 {
		return missing
	}
	if v >= 1000 {
		return group(int(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

// significant writes four digits of perplexities and their ratios.
func significant(v float64) string {
	digits := 3
	for x := v; x >= 10 && digits > 0; x /= 10 {
		digits--
	}
	return fixed(v, digits)
}

func rate(v float64) string { return fixed(math.Round(v), 0) }

func percent(v float64) string {
	if math.IsNaN(v) {
		return missing
	}
	return strconv.FormatFloat(100*v, 'f', 1, 64) + " %"
}

// group writes 1234567 as 1 234 567, with narrow spaces.
func group(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// count writes a large number with its unit: 260 k, 1.04 M.
func count(n int) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, " G"}, {1e6, " M"}, {1e3, " k"}} {
		if v := float64(n) / u.size; v >= 1 {
			round := math.Pow(10, max(0, 2-math.Floor(math.Log10(v)))) // three digits, more where the number is whole
			return strconv.FormatFloat(math.Round(v*round)/round, 'f', -1, 64) + u.name
		}
	}
	return strconv.Itoa(n)
}

// size writes bytes.
func size(n int) string {
	if n <= 0 {
		return missing
	}
	if n >= 1<<20 {
		return strconv.FormatFloat(float64(n)/(1<<20), 'f', 2, 64) + " MiB"
	}
	if n >= 100<<10 {
		return strconv.FormatFloat(float64(n)/(1<<10), 'f', 0, 64) + " KiB"
	}
	return strconv.FormatFloat(float64(n)/(1<<10), 'f', 1, 64) + " KiB"
}

// duration writes seconds as people say them.
func duration(seconds float64) string {
	switch {
	case math.IsNaN(seconds) || seconds < 0:
		return missing
	case seconds < 10:
		return strconv.FormatFloat(seconds, 'f', 1, 64) + " s"
	case seconds < 90:
		return strconv.FormatFloat(seconds, 'f', 0, 64) + " s"
	}
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
}

// point is a place on a chart: tokens and loss.
type point struct{ x, y float64 }

// The chart's picture in its own units: the plot area lies between left and right, top and bottom.
const (
	chartWidth, chartHeight    = 520.0, 250.0
	plotLeft, plotRight        = 46.0, 508.0
	plotTop, plotBottom        = 14.0, 218.0
	chartPoints, chartSegments = 900, 240 // most raw points and line points to draw
)

// chart is a line chart as the template draws it.
type chart struct {
	Title, Unit, Last string
	Dots, Line        string // SVG paths: the raw points, the smoothed line
	EndX, EndY        string
	XTicks, YTicks    []tick
}

// tick is a mark on an axis.
type tick struct{ At, Label string }

// scale maps losses to the height of a chart; log says by their logarithms.
type scale struct {
	lo, hi float64
	log    bool
}

// logFrom is the ratio of largest and least loss from which a chart is logarithmic.
const logFrom = 4

// scaleOf returns the scale that shows all the curves, the first raw points of a steep start perhaps cut.
func scaleOf(curves [][]point) scale {
	s := scale{lo: math.Inf(1), hi: math.Inf(-1)}
	for _, c := range curves {
		for _, p := range smooth(c) {
			s.lo, s.hi = min(s.lo, p.y), max(s.hi, p.y)
		}
	}
	s.log = s.hi > logFrom*s.lo
	if s.log {
		s.lo, s.hi = s.lo/1.35, s.hi*1.15
		return s
	}
	margin := max(0.12*(s.hi-s.lo), 0.01*s.hi)
	s.lo, s.hi = s.lo-margin, s.hi+margin
	return s
}

// height returns where y is on the chart.
func (s scale) height(y float64) float64 {
	share := (y - s.lo) / (s.hi - s.lo)
	if s.log {
		share = math.Log(y/s.lo) / math.Log(s.hi/s.lo)
	}
	return plotBottom - share*(plotBottom-plotTop)
}

// ticks returns the marks of the vertical axis.
func (s scale) ticks() []tick {
	values := niceTicks(s.lo, s.hi, 4)
	if s.log {
		values = logTicks(s.lo, s.hi)
	}
	var ticks []tick
	for _, v := range values {
		ticks = append(ticks, tick{coordinate(s.height(v)), strconv.FormatFloat(v, 'g', 4, 64)})
	}
	return ticks
}

// draw returns the chart of one curve of at least two points.
func (s scale) draw(title, unit string, curve []point) chart {
	line := smooth(curve)
	most := curve[len(curve)-1].x
	at := func(x float64) float64 { return plotLeft + x/most*(plotRight-plotLeft) }
	c := chart{Title: title, Unit: unit, YTicks: s.ticks()}
	if s.log {
		c.Unit += ", logarithmic"
	}
	var dots, path strings.Builder
	for i := 0; i < len(curve); i += 1 + len(curve)/chartPoints {
		if y := s.height(curve[i].y); y >= plotTop-8 && y <= plotBottom {
			fmt.Fprintf(&dots, "M%s %sh0", coordinate(at(curve[i].x)), coordinate(y))
		}
	}
	for i, p := range line {
		command := "L"
		if i == 0 {
			command = "M"
		}
		fmt.Fprintf(&path, "%s%s %s", command, coordinate(at(p.x)), coordinate(s.height(p.y)))
	}
	end := line[len(line)-1]
	c.Dots, c.Line = dots.String(), path.String()
	c.EndX, c.EndY, c.Last = coordinate(at(end.x)), coordinate(s.height(end.y)), strconv.FormatFloat(end.y, 'g', 3, 64)
	for _, v := range niceTicks(0, most, 6) {
		c.XTicks = append(c.XTicks, tick{coordinate(at(v)), count(int(v))})
	}
	return c
}

// smooth returns at most chartSegments points of the curve's running mean. The window covers a fiftieth of the curve, and less at the ends, so
// that they stay where they are.
func smooth(curve []point) []point {
	half := len(curve) / 50
	var line []point
	for i := 0; i < len(curve); i += 1 + len(curve)/chartSegments {
		line = append(line, mean(curve, i, half))
	}
	if last := curve[len(curve)-1]; line[len(line)-1].x < last.x {
		line = append(line, point{last.x, mean(curve, len(curve)-1-half/2, half/2).y})
	}
	return line
}

// mean returns the mean of the curve around point i.
func mean(curve []point, i, half int) point {
	half = min(half, i, len(curve)-1-i)
	p := point{x: curve[i].x}
	for _, q := range curve[i-half : i+half+1] {
		p.y += q.y / float64(2*half+1)
	}
	return p
}

// niceTicks returns at most about n multiples of a round number in [lo,hi].
func niceTicks(lo, hi float64, n int) []float64 {
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/float64(n))))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if (hi-lo)/(m*step) <= float64(n) {
			step *= m
			break
		}
	}
	var ticks []float64
	for i := int(math.Ceil(lo/step - 1e-9)); float64(i)*step <= hi*(1+1e-9); i++ {
		ticks = append(ticks, math.Round(float64(i)*step*1e9)/1e9)
	}
	return ticks
}

// logTicks returns 1, 2 and 5 times the powers of ten in [lo,hi], or the powers alone where those are many.
func logTicks(lo, hi float64) []float64 {
	digits := []float64{1, 2, 5}
	if hi > 300*lo {
		digits = digits[:1]
	}
	var ticks []float64
	for e := math.Floor(math.Log10(lo)); e <= math.Log10(hi); e++ {
		for _, d := range digits {
			if v, _ := strconv.ParseFloat(fmt.Sprintf("%ge%g", d, e), 64); v >= lo && v <= hi {
				ticks = append(ticks, v)
			}
		}
	}
	return ticks
}

// coordinate writes a place on the chart, to a tenth of its unit.
func coordinate(v float64) string { return strconv.FormatFloat(math.Round(10*v)/10, 'f', -1, 64) }
