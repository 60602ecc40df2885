package recipe

import (
	"path/filepath"
	"strings"
	"testing"

	"krait/train"
)

// TestStagesShowLoading: a stage shows the reading of each of its models where that takes long, under a name of its own, and not where it does not.
func TestStagesShowLoading(t *testing.T) {
	dir := t.TempDir()
	c := DistillConfig{Teacher: stories(t, ""), Student: filepath.Join(dir, "student"), KL: 1, TrainConfig: tiny()}
	c.Labels = labelled(t, c.Teacher, filepath.Join(dir, "labels"), 0).Out
	c.Steps, c.Context = 1, 64
	if err := Init(t.Context(), InitConfig{Teacher: c.Teacher, Out: c.Student, AttnLayers: []int{1, 3}, Init: "attention"}, quiet); err != nil {
		t.Fatal(err)
	}
	shown := func(out string) (names []string) {
		c.Out = filepath.Join(dir, out)
		err := Distill(t.Context(), c, func(e Event) {
			if e.Stage == LoadStage && e.Done == e.Total && (len(names) == 0 || names[len(names)-1] != e.Text) {
				names = append(names, e.Text)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if names := shown("small"); len(names) > 0 {
		t.Errorf("small models were shown: %v", names)
	}
	defer func() { slowLoad = SlowLoad }()
	slowLoad = 1
	if names := shown("large"); len(names) != 2 || names[0] != "student" || names[1] != filepath.Base(c.Teacher) {
		t.Errorf("%v were shown, want the student and the teacher", names)
	}
}

// TestHeldOutChart: what is held out is measured as the stage's loss is, so its chart has the unit of that.
func TestHeldOutChart(t *testing.T) {
	for _, kind := range []string{"align", "dpo", "distill"} {
		l := stageLog{StageState: StageState{Name: "a", Kind: kind}}
		for i := range 4 {
			l.steps = append(l.steps, train.Step{Step: i + 1, Loss: 3, Total: 10 * (i + 1), Eval: &train.Eval{Loss: 2 / float64(i+1)}})
		}
		charts := runCharts([]stageLog{l})
		if last := charts[len(charts)-1]; !strings.HasPrefix(last.Unit, curveUnit[kind]) || !strings.Contains(last.Title, "held out") {
			t.Errorf("%s: the chart %q is in %q, want %q", kind, last.Title, last.Unit, curveUnit[kind])
		}
	}
}
