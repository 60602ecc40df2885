package eval

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"krait/autograd"
	"krait/kernel"
	"krait/loss"
	"krait/model"
	"krait/optim"
	"krait/quant"
	"krait/tensor"
)

// mostTrainRuns bounds the steps of training that are timed: one takes long.
const mostTrainRuns = 3

// bf16Train is the test of training whose products are of operands in bf16.
const bf16Train = "train2048_bf16"

// needBF16 leaves a test out where the level has no instructions for products of bf16.
func (t *benchTest) needBF16() {
	if t.absent = !kernel.HasBF16(); t.absent {
		t.skip = "the level " + kernel.Level() + " has no instructions for products of bf16 on this processor"
	}
}

// trainTest sets up a step of distillation: forward and backward of KL and cross-entropy on a student, against a teacher of the same
// shape, which is the model itself, and the optimiser's update. With bf16 all products are of operands in bf16.
func (b *bench) trainTest(t *benchTest, bf16 bool) {
	t.runs = min(t.runs, mostTrainRuns)
	if bf16 {
		if t.needBF16(); t.absent {
			return
		}
	}
	if b.work.format != quant.F32 {
		t.skip = "training needs float32 weights: --type f32"
		return
	}
	if need, free := b.trainBytes(), freeMemory(); free > 0 && need > free {
		t.skip = fmt.Sprintf("a step of training takes about %.1f GB of memory, %.1f GB are free", float64(need)/1e9, float64(free)/1e9)
		return
	}
	var s *trainStep
	t.free = func() {
		s = nil
		debug.FreeOSMemory()
	}
	t.run = func(context.Context) (timing, error) {
		if s == nil {
			var err error
			if s, err = newTrainStep(b.model, bf16); err != nil {
				return timing{}, err
			}
			s.step() // takes the memory
		}
		seconds, share := s.step()
		return timing{seconds: seconds, tokens: trainRows, steps: 1, share: share}, nil
	}
	if bf16 { // no probe tells what such products take together with the others
		t.cost = nil
		return
	}
	t.cost = func(timing) (float64, operations) { // the teacher's forward, the student's, and twice that backwards
		return 0, b.work.ops.times(4 * trainRows)
	}
}

// trainBytes estimates what trainTest allocates: weights, gradients and moments, and the activations of student and teacher.
func (b *bench) trainBytes() int {
	c := &b.model.Config
	row := c.NumHiddenLayers * (10*c.HiddenSize + 4*c.IntermediateSize)
	return 4 * (4*b.work.parameters + 3*row*trainRows/2 + 3*256*c.VocabSize)
}

// trainStep is a training run that stands still between steps.
type trainStep struct {
	student, teacher *model.Model
	optimizer        *optim.AdamW
	tape, scratch    *autograd.Tape
	profile          *autograd.Profile
	batch            model.Batch
	targets          []int32
}

func newTrainStep(teacher *model.Model, bf16 bool) (*trainStep, error) {
	student, err := cloned(teacher)
	if err != nil {
		return nil, err
	}
	if bf16 {
		if teacher, err = cloned(teacher); err != nil {
			return nil, err
		}
		teacher.PackForTraining(true)
		student.ComputeBF16()
	}
	student.Train(func(string) bool { return true })
	s := &trainStep{student: student, teacher: teacher, tape: autograd.NewTape(), scratch: autograd.NewScratch(), profile: new(autograd.Profile)}
	var params []optim.Param
	for name, p := range student.Params {
		params = append(params, optim.Param{Name: name, Tensor: p, Scale: 1})
	}
	s.optimizer = optim.NewAdamW(optim.Config{Beta1: 0.9, Beta2: 0.98, Eps: 1e-8}, params)
	s.tape.SetProfile(s.profile)
	s.scratch.SetProfile(s.profile)
	s.batch.Tokens = randomTokens(trainRows, teacher.Config.VocabSize, 13)
	s.targets = randomTokens(trainRows, teacher.Config.VocabSize, 17)
	run := trainRows
	if n := teacher.Config.MaxPositionEmbeddings; n > 0 {
		run = min(run, n)
	}
	for left := trainRows; left > 0; left -= run {
		s.batch.Runs = append(s.batch.Runs, model.Run{Len: min(run, left)})
	}
	return s, nil
}

// cloned returns a model with the same weights, not packed.
func cloned(m *model.Model) (*model.Model, error) {
	c, err := model.New(m.Config)
	if err != nil {
		return nil, err
	}
	var from []*tensor.Tensor
	for _, p := range m.Params {
		from = append(from, p)
	}
	i := 0
	for _, p := range c.Params {
		copy(p.Data, from[i].Data)
		i++
	}
	return c, nil
}

// step makes an optimiser step and returns its seconds, and the share of them that went to matrix products.
func (s *trainStep) step() (seconds, share float64) {
	*s.profile = autograd.Profile{}
	start := time.Now()
	s.tape.Reset()
	s.scratch.Reset()
	teacher := loss.Head{Hidden: s.teacher.Forward(s.scratch, s.batch), Weight: s.teacher.Head()}
	student := loss.Head{Hidden: s.student.Forward(s.tape, s.batch), Weight: s.student.Head()}
	total := loss.Distill(s.tape, student, teacher, s.targets, loss.Weights{KL: 1, CE: 1})
	s.tape.Backward()
	norm := optim.GradNorm(s.optimizer.Params, 1/float64(total.Tokens))
	s.optimizer.Update(1e-5, optim.ClipScale(norm, 1)/float64(total.Tokens))
	seconds = time.Since(start).Seconds()
	return seconds, s.profile[autograd.GEMM].Seconds() / seconds
}
