package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"krait/train"
)

// curveUnit says what the loss of a kind of stage is.
var curveUnit = map[string]string{
	"align":   "squared error over the teacher's, summed over layers",
	"distill": "loss against the teacher, nats a token",
	"draft":   "loss against the model to guess for, nats a token",
	"sft":     "cross-entropy, nats a token to be learnt",
	"dpo":     "loss of a pair",
	"reward":  "loss of a pair",
}

// partCurves are the figures beside the loss that a kind of stage is judged by.
var partCurves = map[string][]struct{ part, title, unit string }{
	"reward": {{"accuracy", "accuracy", "share of pairs judged right"}, {"margin", "margin", "score of the chosen answer over the rejected one's"}},
	"dpo": {{"rewards/accuracies", "accuracy", "share of pairs whose chosen answer is ahead"},
		{"rewards/margins", "margin", "reward of the chosen answer over the rejected one's"}},
	"ppo": {{"objective/scores", "score", "reward of a response"}, {"objective/kl", "KL", "divergence from the reference, nats a response"}},
}

// partPoints returns a part of the loss against tokens.
func partPoints(steps []train.Step, part string) []point {
	var p []point
	for _, s := range steps {
		if v, ok := s.Parts[part]; ok && s.Total > 0 && !math.IsInf(v, 0) && !math.IsNaN(v) {
			p = append(p, point{float64(s.Total), v})
		}
	}
	return p
}

// readings explains the curves of kinds of stages.
func readings(kinds ...string) []reading {
	texts := map[string]reading{
		"align":   {"Alignment", "trains each new mixer by itself to put out what the teacher’s attention puts out for the same input; 1 a layer would be no better than silence."},
		"distill": {"Distillation", "trains the whole model to predict what the teacher predicts: the divergence of its distribution over the next token from the teacher’s, 0 where they agree."},
		"sft":     {"Fine-tuning", "trains the model to say what the assistant says in conversations; the rest of them is given."},
		"dpo":     {"DPO", "trains the model to find the chosen answers likelier than the rejected ones, measured by a reference; log 2 = 0.693 is where the model is its reference."},
		"reward":  {"Reward model", "trains a model to score chosen answers above rejected ones; log 2 = 0.693 is where it cannot tell them apart."},
		"ppo":     {"PPO", "trains the model to earn a higher score for its answers, while the divergence from its reference, a price in it, stays small."},
	}
	var list []reading
	for _, k := range kinds {
		if r, ok := texts[k]; ok {
			list = append(list, r)
		}
	}
	return list
}

// stageLog is a stage of a run with what it logged.
type stageLog struct {
	StageState
	steps  []train.Step
	eval   []EvalRow
	share  map[string]float64 // of the training time, by kind of work
	layers *Selection         // that a selection chose
}

// ReportRun writes a run's report as one HTML file that needs no other.
func ReportRun(dir, path string) error {
	state, err := ReadRun(dir)
	if err != nil {
		return err
	}
	var logs []stageLog
	for _, s := range state.Stages {
		l := stageLog{StageState: s, share: map[string]float64{}}
		if l.steps, err = ReadMetrics(filepath.Join(dir, s.Name)); err != nil {
			return err
		}
		if l.eval, err = ReadEval(filepath.Join(dir, s.Name)); err != nil {
			return err
		}
		if l.layers, err = readSelection(filepath.Join(dir, s.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		metrics, err := StageMetrics(dir, s.Name)
		if err != nil {
			return err
		}
		for k, v := range metrics {
			if kind, ok := strings.CutPrefix(k, "share_"); ok {
				l.share[kind] = v
			}
		}
		logs = append(logs, l)
	}
	return runPage(state, logs).write(path)
}

// runPage lays out a run's report.
func runPage(state *RunState, logs []stageLog) *reportPage {
	p := &reportPage{Brand: "Krait run", Title: "Krait run: " + state.Name}
	done, seconds := 0, 0.0
	var kinds []string
	for _, l := range logs {
		done += b2i(l.Done)
		seconds += l.Seconds
		if len(l.steps) > 0 && !slices.Contains(kinds, l.Kind) {
			kinds = append(kinds, l.Kind)
		}
		if l.Seconds >= 0.05 {
			p.Stages = append(p.Stages, reportBar{Name: l.Name, Value: duration(l.Seconds), Width: l.Seconds})
		}
	}
	p.Stages = toPercent(p.Stages)
	p.Headline = fmt.Sprintf("%s: %d of %d stages made in %s.", state.Name, done, len(logs), duration(seconds))
	p.Lead = fmt.Sprintf("From %s. Each stage is a directory of the run; each began with what the one before had made.", state.Model)
	p.Charts, p.Reading = runCharts(logs), readings(kinds...)
	for _, l := range logs {
		if l.layers == nil {
			continue
		}
		if c, ok := selectionChartOf(l.Name, l.layers); ok {
			p.Selections = append(p.Selections, c)
		}
	}
	p.Training, p.Shares = runTraining(logs)
	rows := lastEval(logs)
	p.Tiles = runTiles(logs, rows, seconds)
	p.Tables = runTables(logs)
	for _, r := range rows {
		if text := strings.TrimSpace(r.Sample); text != "" {
			p.Samples = append(p.Samples, reportSample{"Text by " + r.Model, text})
		}
	}
	p.Provenance = fmt.Sprintf("Krait %s, %s kernels, begun %s.", state.Version, state.Kernels, state.Started.Format("2006-01-02 15:04 MST"))
	return p
}

// lastEval returns the rows of the last evaluation.
func lastEval(logs []stageLog) []EvalRow {
	for _, l := range slices.Backward(logs) {
		if len(l.eval) > 0 {
			return l.eval
		}
	}
	return nil
}

// runTiles are the figures on top.
func runTiles(logs []stageLog, rows []EvalRow, seconds float64) []reportTile {
	var tiles []reportTile
	if len(rows) > 1 {
		last := rows[len(rows)-1]
		tiles = append(tiles, reportTile{significant(last.Ratio) + "×", "the teacher’s perplexity", last.Model},
			reportTile{fixed(last.KL, 4), "nats a token from the teacher", percent(last.Top1) + " of its first choices"},
			reportTile{size(last.StateBytes), "state of a sequence", fmt.Sprintf("%s in the teacher", size(rows[0].StateBytes))})
	}
	tokens := 0
	for _, l := range logs {
		if len(l.steps) > 0 {
			tokens += l.steps[len(l.steps)-1].Total
		}
	}
	return append(tiles, reportTile{duration(seconds), "from the first stage to the last", count(tokens) + " tokens trained on"})
}

// runCharts draws the loss of every stage that trains, and the held-out figures where it measured them.
func runCharts(logs []stageLog) []chart {
	var charts []chart
	for _, l := range logs {
		if p := lossPoints(l.steps); len(p) > 1 && l.Kind != "ppo" { // whose loss is around 0 and says little
			charts = append(charts, scaleOf([][]point{p}).draw(l.Name, curveUnit[l.Kind], "tokens", p))
		}
		for _, c := range partCurves[l.Kind] {
			if p := partPoints(l.steps, c.part); len(p) > 1 {
				charts = append(charts, linearScale(p).draw(l.Name+": "+c.title, c.unit, "tokens", p))
			}
		}
		var nll []point
		for _, s := range l.steps {
			if s.Eval != nil && s.Eval.Loss > 0 && !math.IsInf(s.Eval.Loss, 1) {
				nll = append(nll, point{float64(s.Total), s.Eval.Loss})
			}
		}
		if len(nll) > 1 {
			charts = append(charts, scaleOf([][]point{nll}).draw(l.Name+" on what is held out", curveUnit[l.Kind], "tokens", nll))
		}
	}
	return charts
}

// runTraining sums the trainings up.
func runTraining(logs []stageLog) (string, []reportBar) {
	shares := map[string]float64{}
	tokens, seconds := 0, 0.0
	for _, l := range logs {
		t := sumSeconds(l.steps)
		seconds += t
		for kind, v := range l.share {
			shares[kind] += v * t
		}
		for _, s := range l.steps {
			tokens += s.Tokens
		}
	}
	if seconds == 0 {
		return "", nil
	}
	rest := 1.0
	for kind := range shares {
		shares[kind] /= seconds
		rest -= shares[kind]
	}
	shares["overhead"] = rest
	return fmt.Sprintf("%s tokens trained on, %s a second.", count(tokens), rate(float64(tokens)/seconds)), shareBars(shares)
}

// runTables are the models of every evaluation, the layers of every model, and how well each layer was aligned.
func runTables(logs []stageLog) []reportTable {
	var tables []reportTable
	layers := reportTable{Title: "Layers", Head: []string{"Model", "Attention", "Layers from 0: attention A, Mamba2 M"}}
	seen := map[string]bool{}
	for _, l := range logs {
		if len(l.eval) == 0 {
			continue
		}
		t := reportTable{Title: "Models on held-out text: " + l.Name, Note: stateNote,
			Head: []string{"Model", "Attention", "Loss, nats a token", "Perplexity", "To the teacher’s", "KL to it", "Its first choice", "Parameters", "State", "Tokens a second"}}
		for i, r := range l.eval {
			t.Rows = append(t.Rows, reportRow{Result: i > 0 && i == len(l.eval)-1, Cells: []string{r.Model, percent(float64(len(r.Attention)) / float64(max(1, r.Layers))),
				fixed(r.NLL, 4), significant(r.Perplexity), significant(r.Ratio), fixed(r.KL, 4), percent(r.Top1), count(r.Parameters), size(r.StateBytes), rate(r.TokensPerSecond)}})
			if !seen[r.Model] {
				seen[r.Model] = true
				layers.Rows = append(layers.Rows, reportRow{Cells: []string{r.Model, fmt.Sprintf("%d of %d", len(r.Attention), r.Layers), layerLetters(r)}})
			}
		}
		tables = append(tables, t)
	}
	if len(layers.Rows) > 0 {
		tables = append(tables, layers)
	}
	for _, l := range logs {
		if l.layers != nil {
			tables = append(tables, selectionTable(l.Name, l.layers))
		}
		if t := alignTable(l); len(t.Rows) > 0 {
			tables = append(tables, t)
		}
	}
	return tables
}

// layerLetters writes a model's layers as A and M.
func layerLetters(r EvalRow) string {
	var b strings.Builder
	for l := range r.Layers {
		if l > 0 && l%10 == 0 {
			b.WriteByte(' ')
		}
		b.WriteByte("MA"[b2i(slices.Contains(r.Attention, l))])
	}
	return b.String()
}

// alignTable shows the error of each layer at the beginning and the end of an alignment.
func alignTable(l stageLog) reportTable {
	t := reportTable{Title: "Alignment of the layers: " + l.Name, Head: []string{"Layer", "Error at first", "Error at last"},
		Note: "Squared error of the mixer’s output over the teacher’s, means of a tenth of the steps."}
	if l.Kind != "align" || len(l.steps) == 0 {
		return t
	}
	tenth := max(1, len(l.steps)/10)
	for layer := range 10000 {
		key := fmt.Sprintf("layer_%d", layer)
		if _, ok := l.steps[0].Parts[key]; ok {
			t.Rows = append(t.Rows, reportRow{Cells: []string{fmt.Sprint(layer), fixed(meanPart(l.steps[:tenth], key), 4), fixed(meanPart(l.steps[len(l.steps)-tenth:], key), 4)}})
		}
	}
	return t
}

func meanPart(steps []train.Step, key string) float64 {
	var sum float64
	for _, s := range steps {
		sum += s.Parts[key]
	}
	return sum / float64(len(steps))
}
