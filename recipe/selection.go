package recipe

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"krait/checkpoint"
	"krait/model"
)

// slots returns what a recipe fills: a student only where the method measures one, labels only where candidates are distilled. What a recipe says
// of all trainings is not of the few steps of a candidate.
func (c *SelectConfig) slots() slots {
	student, text := given, given
	if c.needsStudent() {
		student = latest
	}
	if c.Steps > 0 {
		text = labels
	}
	return slots{out: &c.Out, seed: &c.Seed, files: []*string{&c.Text},
		refs: []ref{{"teacher", &c.Teacher, base}, {"student", &c.Student, student}, {"labels", &c.Labels, text}}}
}

// needsStudent reports whether the method measures a student without attention.
func (c *SelectConfig) needsStudent() bool { return c.Method == "kl-restore" || c.Method == "greedy" }

// selectStage is Select in a recipe; what it chose is in its directory.
func selectStage(ctx context.Context, c SelectConfig, report Report) error {
	r, err := Select(ctx, c, report)
	if err != nil {
		return err
	}
	report(Event{Stage: "select", Note: fmt.Sprintf("layers %s keep attention", enumerate(r.AttnLayers))})
	return nil
}

// follow makes an initialisation that lists no layers keep those of a selection before it, the latest where it names none, and begin with the
// teacher whose layers were measured.
func (c *InitConfig) follow(latest string, before []*Stage) {
	if c.Selection == "" && c.lists() == 0 {
		c.Selection = latest
	}
	i := slices.IndexFunc(before, func(s *Stage) bool { return s.Name == c.Selection })
	if i < 0 || c.Teacher != "" {
		return
	}
	if s, ok := before[i].Config.(*SelectConfig); ok {
		c.Teacher = s.Teacher
	}
}

// lists returns how many ways of naming layers are in use beside a selection.
func (c *InitConfig) lists() int {
	return b2i(c.AttnLayers != nil) + b2i(c.SSMLayers != nil) + b2i(c.Every > 0)
}

// checkLists refuses two ways of naming layers.
func (c *InitConfig) checkLists() error {
	if c.Selection != "" && c.Selection != "none" && c.lists() > 0 {
		return fmt.Errorf("selection: %s chooses the layers, so attn_layers, ssm_layers and every must not", c.Selection)
	}
	return nil
}

// chooseLayers sets AttnLayers, of a model of n layers, from whatever says them.
func (c *InitConfig) chooseLayers(n int) (err error) {
	if err := c.checkLists(); err != nil {
		return err
	}
	switch {
	case c.Selection != "":
		if c.AttnLayers, err = ReadSelection(c.Selection); err != nil {
			return err
		}
	case c.Every > 0:
		if c.AttnLayers, err = everyLayer(n, c.Every); err != nil {
			return err
		}
	}
	if c.SSMLayers != nil {
		if err := model.CheckAttnLayers(c.SSMLayers, n); err != nil {
			return fmt.Errorf("ssm_layers: %w", err)
		}
		c.AttnLayers = slices.DeleteFunc(seq(n), func(l int) bool { return slices.Contains(c.SSMLayers, l) })
	}
	return model.CheckAttnLayers(c.AttnLayers, n)
}

// inputs lists what an initialisation reads.
func (c *InitConfig) inputs() []string {
	in := []string{c.Teacher, c.MambaFrom}
	if c.Selection != "" {
		in = append(in, filepath.Join(c.Selection, selectionFile))
	}
	return in
}

// hybrid makes the model: new Mamba layers, or those of another student with the teacher's attention beside them.
func (c *InitConfig) hybrid(report Report, teacher *checkpoint.Checkpoint, mamba *model.MambaConfig, init model.Init) (*model.Model, error) {
	if c.MambaFrom == "" {
		return model.FromTeacher(teacher.Model, mamba, init, rand.New(rand.NewPCG(c.Seed, 0)))
	}
	student, err := report.load(c.MambaFrom)
	if err != nil {
		return nil, err
	}
	if m := student.Model.Config.Mamba; m != nil {
		for _, l := range m.AttnLayers {
			if !slices.Contains(c.AttnLayers, l) {
				return nil, fmt.Errorf("mamba_from: layer %d of %s is attention: there is no Mamba layer to take over", l, c.MambaFrom)
			}
		}
	}
	m, err := model.Restore(student.Model, teacher.Model, c.AttnLayers)
	if err != nil {
		return nil, fmt.Errorf("mamba_from: %w", err)
	}
	return m, nil
}

// ReadSelection returns the layers that Select left in a directory.
func ReadSelection(dir string) ([]int, error) {
	r, err := readSelection(dir)
	if err != nil {
		return nil, err
	}
	return r.AttnLayers, nil
}

func readSelection(dir string) (*Selection, error) {
	b, err := os.ReadFile(filepath.Join(dir, selectionFile))
	if err != nil {
		return nil, err
	}
	r := new(Selection)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, selectionFile), err)
	}
	if len(r.AttnLayers) == 0 {
		return nil, fmt.Errorf("%s: no layers are chosen in it", filepath.Join(dir, selectionFile))
	}
	return r, nil
}

// selectionChart is the bars of a selection as the report's template draws them, in the units of a chart.
type selectionChart struct {
	Title, Unit string
	YTicks      []tick
	Bars        []layerBar
}

// layerBar is one layer's KL; places and sizes are coordinates.
type layerBar struct {
	X, Y, Width, Height, Middle string
	Layer, Note                 string
	Chosen                      bool
}

// selectionChartOf draws the first round's KL of each layer; nothing where nothing was measured.
func selectionChartOf(name string, r *Selection) (c selectionChart, ok bool) {
	first, most := r.firstRound()
	if most == 0 {
		return c, false
	}
	c = selectionChart{Title: name, Unit: "KL of the teacher to " + r.candidate() + ", nats a token; layers that keep attention are dark"}
	s := scale{lo: 0, hi: 1.05 * most}
	c.YTicks = s.ticks()
	step := (plotRight - plotLeft) / float64(len(first))
	for i, x := range first {
		at, top := plotLeft+step*(float64(i)+0.1), s.height(x.KL)
		c.Bars = append(c.Bars, layerBar{X: coordinate(at), Y: coordinate(top), Width: coordinate(0.8 * step), Height: coordinate(plotBottom - top), Middle: coordinate(at + 0.4*step),
			Layer: fmt.Sprint(x.Layer), Note: fmt.Sprintf("layer %d: %.4f", x.Layer, x.KL), Chosen: slices.Contains(r.AttnLayers, x.Layer)})
	}
	return c, true
}

// firstRound returns the candidates that every layer is among, and the largest KL of them.
func (r *Selection) firstRound() (first []Candidate, most float64) {
	for _, x := range r.Candidates {
		if x.Round == 1 {
			first = append(first, x)
			most = max(most, x.KL)
		}
	}
	return first, most
}

// candidate says what was measured of a layer.
func (r *Selection) candidate() string {
	if r.Method == "leave-one-out" {
		return "itself without the layer’s attention"
	}
	return "the student with the layer’s attention restored"
}

// selectionTable lists the layers with what was measured in each round, the chosen ones marked with their rank.
func selectionTable(name string, r *Selection) reportTable {
	t := reportTable{Title: "Layers that keep attention: " + name, Head: []string{"Layer", "Importance"}}
	rounds := 0
	byLayer := map[int]map[int]float64{}
	for _, x := range r.Candidates {
		rounds = max(rounds, x.Round)
		if byLayer[x.Layer] == nil {
			byLayer[x.Layer] = map[int]float64{}
		}
		byLayer[x.Layer][x.Round] = x.KL
	}
	for n := range rounds {
		t.Head = append(t.Head, fmt.Sprintf("KL, round %d", n+1))
	}
	var layers []int
	for l := range byLayer {
		layers = append(layers, l)
	}
	for _, l := range r.AttnLayers {
		if byLayer[l] == nil { // chosen without a measurement
			layers = append(layers, l)
		}
	}
	slices.Sort(layers)
	for _, l := range layers {
		rank := slices.Index(r.Ranked, l)
		row := reportRow{Result: rank >= 0, Cells: []string{fmt.Sprint(l), missing}}
		if rank >= 0 {
			row.Cells[1] = fmt.Sprint(rank + 1)
		}
		for n := range rounds {
			cell := missing
			if kl, ok := byLayer[l][n+1]; ok {
				cell = fixed(kl, 4)
			}
			row.Cells = append(row.Cells, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	note := []string{"Chosen by " + r.Method + "."}
	if rounds > 0 {
		note = append(note, "KL of the teacher to "+r.candidate()+", nats a token.")
	}
	if r.KL > 0 {
		note = append(note, fmt.Sprintf("The student with these layers is at %s; with as many evenly spread at %s; with none at %s.", fixed(r.KL, 4), fixed(r.UniformKL, 4), fixed(r.StudentKL, 4)))
	}
	t.Note = strings.Join(note, " ")
	return t
}
