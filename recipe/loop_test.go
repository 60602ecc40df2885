package recipe

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/loss"
	"krait/optim"
	"krait/train"
)

// TestEventsGolden: TensorBoard's own writer makes the same bytes of the same steps.
func TestEventsGolden(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), eventsFile))
	if err != nil {
		t.Fatal(err)
	}
	w := &eventWriter{f}
	at := func(seconds float64) time.Time {
		return time.Unix(int64(seconds), int64((seconds-math.Floor(seconds))*1e9))
	}
	for _, err := range []error{
		w.version(at(1700000000.25)),
		w.step(train.Step{Step: 1, Loss: 1.25, GradNorm: 0.5, LR: 1e-3, Total: 300, Tokens: 300, Seconds: 2, Parts: map[string]float64{"kl": 0.5, "ce": 0.75}}, at(1700000001.5)),
		w.step(train.Step{Step: 300, Skipped: "loss NaN", Total: 90000, Eval: &train.Eval{Loss: 2.5, Top1: 0.875}}, at(1700000003.75)),
		w.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/events.golden")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes\n%q\nwant %d\n%q", len(got), got, len(want), want)
	}
}

// teacherDir writes the embedded model to a directory and returns it.
func teacherDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "teacher")
	if err := Example(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// randomLabels writes documents of random tokens and lengths.
func randomLabels(t *testing.T, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "labels")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var text []byte
	for range n {
		line, err := json.Marshal(randomDocument(rng))
		if err != nil {
			t.Fatal(err)
		}
		text = append(append(text, line...), '\n')
	}
	if err := os.WriteFile(filepath.Join(dir, labelsFile), text, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func randomDocument(rng *rand.Rand) data.Document {
	d := data.Document{Prompt: 1, IDs: []int32{1}}
	for range 5 + rng.IntN(60) {
		d.IDs = append(d.IDs, int32(3+rng.IntN(500)))
	}
	return d
}

// TestAccumulationIsTheBigBatch: eight batches of one ragged document each give the gradient of one batch of eight, for a divergence and a
// cross-entropy together, to 1e-6 of its norm; a mean over batches instead of tokens would not.
func TestAccumulationIsTheBigBatch(t *testing.T) {
	teacher, err := checkpoint.LoadFS(Stories260K())
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "hybrid")
	if err := Init(t.Context(), InitConfig{Teacher: teacherDir(t), Out: out, AttnLayers: []int{1, 3}, Init: "linear", Seed: 5}, func(Event) {}); err != nil {
		t.Fatal(err)
	}
	student, err := checkpoint.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	s := student.Model
	s.Train(func(string) bool { return true })
	rng := rand.New(rand.NewPCG(1, 2))
	var docs []data.Document
	for range 8 {
		docs = append(docs, randomDocument(rng))
	}
	gradients := func(tokens, accumulate int) []float32 {
		stream, err := data.NewStream(docs, tokens, 512, 7)
		if err != nil {
			t.Fatal(err)
		}
		stream.Once = true
		var params []optim.Param
		for name, p := range s.Params {
			params = append(params, optim.Param{Name: name, Tensor: p, Scale: 1})
		}
		var g []float32
		r := &train.Run[data.Batch]{
			Config:    train.Config{Steps: 1, Accumulate: accumulate, Schedule: optim.Schedule{Peak: 0, Total: 1}},
			Optimizer: optim.NewAdamW(optim.Config{Beta1: 0.9, Beta2: 0.9, Eps: 1e-8}, params), Next: stream.Next,
			Loss: func(tape *autograd.Tape, b data.Batch) loss.Total {
				mb := modelBatch(b)
				th := loss.Head{Hidden: teacher.Model.Forward(autograd.NewScratch(), mb), Weight: teacher.Model.Head()}
				return loss.Distill(tape, loss.Head{Hidden: s.Forward(tape, mb), Weight: s.Head()}, th, b.Targets, loss.Weights{KL: 1, CE: 0.5})
			},
			Reduce: func(params []optim.Param, total *loss.Total) error {
				for _, p := range params {
					for _, v := range p.Tensor.Grad {
						g = append(g, v/float32(total.Tokens))
					}
				}
				return nil
			},
			Log: func(train.Step) error { return nil },
		}
		if err := r.Loop(t.Context()); err != nil {
			t.Fatal(err)
		}
		return g
	}
	whole, parts := gradients(1<<20, 1), gradients(1, 8)
	var difference, norm float64
	for i := range whole {
		d := float64(whole[i]) - float64(parts[i])
		difference += d * d
		norm += float64(whole[i]) * float64(whole[i])
	}
	if ratio := math.Sqrt(difference / norm); !(ratio <= 1e-6) {
		t.Errorf("the gradients differ by %.2g of their norm", ratio)
	} else {
		t.Logf("the gradients differ by %.2g of their norm", ratio)
	}
}

// trainSmall distils a small hybrid with a changed configuration and returns its directory and what was said.
func trainSmall(t *testing.T, change func(*DistillConfig)) (string, string, error) {
	t.Helper()
	dir := t.TempDir()
	c := DefaultDistill()
	c.Teacher, c.Labels, c.Student, c.Out = teacherDir(t), randomLabels(t, 60), filepath.Join(dir, "init"), filepath.Join(dir, "out")
	if err := Init(t.Context(), InitConfig{Teacher: c.Teacher, Out: c.Student, AttnLayers: []int{1, 3}, Init: "linear", Seed: 5}, func(Event) {}); err != nil {
		t.Fatal(err)
	}
	c.Steps, c.Warmup, c.BatchTokens, c.SaveEvery = 12, 0, 100, 3
	change(&c)
	var said strings.Builder
	err := Distill(t.Context(), c, func(e Event) { said.WriteString(e.Note + "\n") })
	return c.Out, said.String(), err
}

// TestEvaluation: the loss of held-out rows and of a text is measured at its intervals, logged, and what is held out is not learnt.
func TestEvaluation(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(HeldOut()[:1500]), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _, err := trainSmall(t, func(c *DistillConfig) { c.EvalEvery, c.EvalRows, c.EvalText = 5, 10, text })
	if err != nil {
		t.Fatal(err)
	}
	steps, err := ReadMetrics(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if want := s.Step%5 == 0 || s.Step == 12; (s.Eval != nil) != want {
			t.Errorf("step %d: evaluation %v", s.Step, s.Eval)
		}
	}
	last := steps[11].Eval
	p, err := checkpoint.ReadProvenance(out)
	if err != nil || last == nil {
		t.Fatal(err)
	}
	if last.Loss <= 0 || last.NLL <= 0 || last.KL <= 0 || last.Top1 <= 0 || p.Metrics["eval_loss"] != last.Loss || p.Metrics["eval_nll"] != last.NLL {
		t.Errorf("%+v, %v", last, p.Metrics)
	}
	row := evalAgain(t, out, text)
	if math.Abs(row.NLL-last.NLL) > 1e-6 || math.Abs(row.KL-last.KL) > 1e-6 {
		t.Errorf("the trained model has %v nats and a KL of %v on the text, the training measured %+v", row.NLL, row.KL, last)
	}
	if _, _, err := trainSmall(t, func(c *DistillConfig) { c.EvalEvery, c.EvalRows = 5, 31 }); err == nil || !strings.Contains(err.Error(), "more than half of the 60") {
		t.Errorf("%v", err)
	}
	if _, _, err := trainSmall(t, func(c *DistillConfig) { c.EvalRows = 5 }); err == nil || !strings.Contains(err.Error(), "need eval_steps") {
		t.Errorf("%v", err)
	}
}

// evalAgain measures a finished model on a text with the stage for that.
func evalAgain(t *testing.T, dir, text string) EvalRow {
	t.Helper()
	out := filepath.Join(t.TempDir(), "eval")
	c := EvalConfig{Teacher: teacherDir(t), Models: []string{dir}, Out: out, Text: text, Context: 2048}
	if err := Eval(t.Context(), c, func(Event) {}); err != nil {
		t.Fatal(err)
	}
	rows, err := ReadEval(out)
	if err != nil || len(rows) != 2 {
		t.Fatal(err, rows)
	}
	return rows[1]
}

// TestRewind: losses that are no numbers are skipped; after three of them the weights are those of the last saved state again, training goes on, and
// the model that comes out is the one of a run without those steps.
func TestRewind(t *testing.T) {
	teacher := teacherDir(t)
	run := func(broken ...int) ([]byte, string, *checkpoint.Provenance) {
		start, err := checkpoint.Load(teacher)
		if err != nil {
			t.Fatal(err)
		}
		docs, err := data.ReadDocuments(filepath.Join(randomLabels(t, 1), labelsFile), 512) // one document: every batch is the same
		if err != nil {
			t.Fatal(err)
		}
		c := DefaultTrain()
		c.Schedule, c.Warmup, c.Steps, c.BatchTokens, c.SaveEvery = "constant", 0, 6+len(broken), 1, 2
		calls := 0
		var said strings.Builder
		tr := &training{stage: "test", out: filepath.Join(t.TempDir(), "out"), TrainConfig: c, checkpoint: start, docs: docs, report: func(e Event) { said.WriteString(e.Note + "\n") },
			profile: new(autograd.Profile)}
		tr.loss = func(tape *autograd.Tape, b data.Batch) loss.Total {
			calls++
			l := loss.CrossEntropy(tape, loss.Head{Hidden: start.Model.Forward(tape, modelBatch(b)), Weight: start.Model.Head()}, b.Targets)
			for _, n := range broken {
				if n == calls {
					l.Sum = math.NaN()
				}
			}
			return l
		}
		if err := tr.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		weights, err := os.ReadFile(filepath.Join(tr.out, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		p, err := checkpoint.ReadProvenance(tr.out)
		if err != nil {
			t.Fatal(err)
		}
		return weights, said.String(), p
	}
	clean, _, _ := run()
	broken, said, p := run(5, 6, 7) // behind the state of step 4
	if !bytes.Equal(clean, broken) {
		t.Error("the broken steps left a trace in the weights")
	}
	if !strings.Contains(said, "step 5 skipped: loss NaN") || !strings.Contains(said, "those of step 4 again") || p.Metrics["skipped_steps"] != 3 || p.Metrics["rewinds"] != 1 {
		t.Errorf("%q, %v", said, p.Metrics)
	}
}
