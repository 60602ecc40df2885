package recipe

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"krait/checkpoint"
	"krait/model"
)

// selectTest makes a teacher and a student of it that has no attention.
func selectTest(t *testing.T, method string) SelectConfig {
	t.Helper()
	dir := t.TempDir()
	c := DefaultSelect()
	c.Teacher, c.Student, c.Out, c.Keep, c.Method = stories(t, ""), filepath.Join(dir, "student"), filepath.Join(dir, "chosen"), 2, method
	c.Text = filepath.Join(dir, "text")
	if err := os.WriteFile(c.Text, []byte(HeldOut()[:6000]), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Init(t.Context(), InitConfig{Teacher: c.Teacher, Out: c.Student, AttnLayers: []int{}, Init: "attention"}, quiet); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSelect checks each method against what it says: the layers with the largest or least KL of the table, which a measurement by hand repeats.
func TestSelect(t *testing.T) {
	for _, method := range selectMethods {
		c := selectTest(t, method)
		r, err := Select(t.Context(), c, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if layers, err := ReadSelection(c.Out); err != nil || !reflect.DeepEqual(layers, r.AttnLayers) || len(layers) != 2 || !slices.IsSorted(layers) {
			t.Errorf("%s: %v, %v, want %v", method, layers, err, r.AttnLayers)
		}
		candidates := map[string]int{"uniform": 0, "leave-one-out": 5, "kl-restore": 5, "greedy": 9}[method]
		if len(r.Candidates) != candidates {
			t.Fatalf("%s: %d candidates, want %d", method, len(r.Candidates), candidates)
		}
		for _, x := range r.Candidates {
			first := r.Candidates[slices.IndexFunc(r.Candidates, func(y Candidate) bool { return y.Layer == r.Ranked[x.Round-1] && y.Round == x.Round })]
			if better := x.KL < first.KL; x.KL <= 0 || x.Layer != first.Layer && better != (method == "leave-one-out") {
				t.Errorf("%s: round %d chose layer %d of KL %g, and not %d of %g", method, x.Round, first.Layer, first.KL, x.Layer, x.KL)
			}
		}
		if method == "greedy" {
			if last := r.Candidates[slices.IndexFunc(r.Candidates, func(x Candidate) bool { return x.Round == 2 && x.Layer == r.Ranked[1] })]; last.KL != r.KL {
				t.Errorf("the last round says %g, the result %g", last.KL, r.KL)
			}
			if r.KL > r.UniformKL || r.KL >= r.StudentKL {
				t.Errorf("KL %g with them, %g evenly spread, %g without attention", r.KL, r.UniformKL, r.StudentKL)
			}
		}
		svg, err := os.ReadFile(filepath.Join(c.Out, "selection.svg"))
		if err != nil || strings.Count(string(svg), "#2b5797") != 2 || !strings.HasSuffix(string(svg), "</svg>\n") {
			t.Errorf("%s: picture %s, %v", method, svg, err)
		}
	}
}

// TestSelectGoesOn checks that measurements survive an interruption, with distillation of the candidates too.
func TestSelectGoesOn(t *testing.T) {
	c := selectTest(t, "greedy")
	c.Labels = filepath.Join(t.TempDir(), "labels")
	labelled(t, c.Teacher, c.Labels, 0)
	c.TrainConfig = tiny()
	c.Steps, c.Context = 3, 64
	plain, distilled := c, c
	plain.Steps, plain.Out = 0, c.Out+"-plain"
	before, err := Select(t.Context(), plain, quiet)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := Select(t.Context(), distilled, quiet)
	if err != nil || whole.StudentKL >= before.StudentKL || whole.KL >= before.KL {
		t.Fatalf("%+v, %v: want less than without distillation, %+v", whole, err, before)
	}
	distilled.Out = c.Out + "-parts"
	interrupt(t, func(r Report) error { _, err := Select(t.Context(), distilled, r); return err })
	sameFile(t, filepath.Join(c.Out, selectionFile), filepath.Join(distilled.Out, selectionFile))
}

// TestRestore checks that a student with all attention back, and untouched otherwise, is the teacher; and that a layer without its mixer is not.
func TestRestore(t *testing.T) {
	c := selectTest(t, "uniform")
	teacher, err := checkpoint.Load(c.Teacher)
	if err != nil {
		t.Fatal(err)
	}
	student, err := checkpoint.Load(c.Student)
	if err != nil {
		t.Fatal(err)
	}
	text, err := heldOut(teacher, HeldOut()[:2000], 256)
	if err != nil {
		t.Fatal(err)
	}
	text.teacher = teacher.Model
	m, err := model.Restore(student.Model, teacher.Model, seq(5))
	if err != nil {
		t.Fatal(err)
	}
	if f, err := text.measure(t.Context(), m); err != nil || f.KL > 1e-6 {
		t.Errorf("KL %g of the teacher restored, %v", f.KL, err)
	}
	if m, err = model.WithoutMixer(teacher.Model, 2); err != nil {
		t.Fatal(err)
	}
	if f, err := text.measure(t.Context(), m); err != nil || f.KL < 1e-3 {
		t.Errorf("KL %g of the teacher without a mixer, %v", f.KL, err)
	}
	if _, err := model.Restore(student.Model, student.Model, []int{1}); err == nil {
		t.Error("attention was restored from a Mamba layer")
	}
	if _, err := model.WithoutMixer(student.Model, 1); err == nil {
		t.Error("a Mamba layer was silenced as attention")
	}
}

func TestBadSelect(t *testing.T) {
	base := selectTest(t, "greedy")
	for want, change := range map[string]func(*SelectConfig){
		"method \"best\"":            func(c *SelectConfig) { c.Method = "best" },
		"5 layers to keep of 5":      func(c *SelectConfig) { c.Keep = 5 },
		"0 layers to keep":           func(c *SelectConfig) { c.Keep = 0 },
		"made by init with no atten": func(c *SelectConfig) { c.Student = "" },
		"has attention layers":       func(c *SelectConfig) { c.Student = c.Teacher },
		"want labels to distil on":   func(c *SelectConfig) { c.Steps = 2 },
		"no such file":               func(c *SelectConfig) { c.Text = "none" },
	} {
		c := base
		change(&c)
		if _, err := Select(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), want) && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v, want %q", err, want)
		}
		if _, err := os.Stat(checkpoint.Partial(c.Out)); err == nil {
			t.Errorf("%s: work was begun", want)
		}
	}
}
