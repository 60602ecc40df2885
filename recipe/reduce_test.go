package recipe

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"testing"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/loss"
	"krait/optim"
	"krait/train"
)

// workerOf names, in a worker's environment, the half of the documents that it trains on.
const workerOf = "KRAIT_TEST_REDUCE_HALF"

// reduceDocuments are those of the test below: ragged, and not the same tokens in both halves.
func reduceDocuments() (docs []data.Document) {
	for n := range 8 {
		d := data.Document{Prompt: 1}
		for i := range 9 + 7*n {
			d.IDs = append(d.IDs, int32(3+(17*n+29*i+i*i)%500))
		}
		docs = append(docs, d)
	}
	return docs
}

// reduceRun makes one step over the documents, a batch each, and returns the weights' gradients as Reduce leaves them, divided by the tokens.
func reduceRun(t *testing.T, docs []data.Document, reduce func([]optim.Param, *loss.Total) error) (means []float32, tokens int) {
	c, err := checkpoint.LoadFS(Stories260K())
	if err != nil {
		t.Fatal(err)
	}
	m := c.Model
	m.Train(func(string) bool { return true })
	var params []optim.Param
	for name, p := range m.Params {
		params = append(params, optim.Param{Name: name, Tensor: p, Scale: 1})
	}
	stream, err := data.NewStream(docs, 1, 512, 7)
	if err != nil {
		t.Fatal(err)
	}
	r := &train.Run[data.Batch]{
		Config:    train.Config{Steps: 1, Accumulate: len(docs), Schedule: optim.Schedule{Name: "constant", Peak: 1e-3, Floor: 1, Total: 1}},
		Optimizer: optim.NewAdamW(optim.Config{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, params), Next: stream.Next,
		Loss: func(tape *autograd.Tape, b data.Batch) loss.Total {
			return loss.CrossEntropy(tape, loss.Head{Hidden: m.Forward(tape, modelBatch(b)), Weight: m.Head()}, b.Targets)
		},
		Log: func(train.Step) error { return nil },
		Reduce: func(params []optim.Param, total *loss.Total) error {
			if err := reduce(params, total); err != nil {
				return err
			}
			tokens = total.Tokens
			for _, p := range params {
				for _, g := range p.Tensor.Grad {
					means = append(means, g/float32(tokens))
				}
			}
			return nil
		},
	}
	if err := r.Loop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return means, tokens
}

// sums is what a worker sends and gets back: the gradients' sums, and the loss's sum and count.
type sums struct {
	grads  []float32
	sum    float64
	tokens int64
}

func (s *sums) send(w io.Writer) error {
	return errors.Join(binary.Write(w, binary.LittleEndian, s.tokens), binary.Write(w, binary.LittleEndian, s.sum), binary.Write(w, binary.LittleEndian, s.grads))
}

func (s *sums) receive(r io.Reader) error {
	return errors.Join(binary.Read(r, binary.LittleEndian, &s.tokens), binary.Read(r, binary.LittleEndian, &s.sum), binary.Read(r, binary.LittleEndian, s.grads))
}

// exchange is a worker's Reduce: its sums go out, those of all come back.
func exchange(params []optim.Param, total *loss.Total, out io.Writer, in io.Reader) error {
	s := sums{sum: total.Sum, tokens: int64(total.Tokens)}
	for _, p := range params {
		s.grads = append(s.grads, p.Tensor.Grad...)
	}
	if err := errors.Join(s.send(out), s.receive(in)); err != nil {
		return err
	}
	total.Sum, total.Tokens = s.sum, int(s.tokens)
	at := 0
	for _, p := range params {
		at += copy(p.Tensor.Grad, s.grads[at:])
	}
	return nil
}

// TestReduceAcrossProcesses lets two processes train on half of the documents each, adds their sums between them, and compares what each then steps with
// to one process that accumulates all.
func TestReduceAcrossProcesses(t *testing.T) {
	docs := reduceDocuments()
	if half := os.Getenv(workerOf); half != "" {
		if half == "0" {
			docs = docs[:3]
		} else {
			docs = docs[3:]
		}
		out, in := os.NewFile(3, "out"), os.NewFile(4, "in") // pipes that the parent holds the other ends of
		defer out.Close()
		defer in.Close()
		means, tokens := reduceRun(t, docs, func(params []optim.Param, total *loss.Total) error { return exchange(params, total, out, in) })
		if err := (&sums{grads: means, tokens: int64(tokens)}).send(out); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, tokens := reduceRun(t, docs, func([]optim.Param, *loss.Total) error { return nil })
	var out, in [2]*os.File
	all := sums{grads: make([]float32, len(want))}
	for i, half := range []string{"0", "1"} {
		c := exec.Command(os.Args[0], "-test.run=^TestReduceAcrossProcesses$")
		c.Env = append(os.Environ(), workerOf+"="+half)
		theirOut, theirIn := (*os.File)(nil), (*os.File)(nil)
		var err [2]error
		out[i], theirOut, err[0] = os.Pipe()
		theirIn, in[i], err[1] = os.Pipe()
		c.ExtraFiles = []*os.File{theirOut, theirIn}
		if err := errors.Join(err[0], err[1], c.Start()); err != nil {
			t.Skipf("two processes cannot be started here: %v", err)
		}
		theirOut.Close()
		theirIn.Close()
		defer c.Wait()
	}
	for i := range out {
		s := sums{grads: make([]float32, len(want))}
		if err := s.receive(out[i]); err != nil {
			t.Fatal(err)
		}
		all.sum, all.tokens = all.sum+s.sum, all.tokens+s.tokens
		for j, g := range s.grads {
			all.grads[j] += g
		}
	}
	for i := range in {
		if err := all.send(in[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range out {
		got := sums{grads: make([]float32, len(want))}
		if err := got.receive(out[i]); err != nil {
			t.Fatal(err)
		}
		var difference, norm float64
		for j, g := range got.grads {
			d := float64(g) - float64(want[j])
			difference, norm = difference+d*d, norm+float64(want[j])*float64(want[j])
		}
		if ratio := math.Sqrt(difference / norm); int(got.tokens) != tokens || !(ratio <= 1e-6) {
			t.Errorf("process %d: %d tokens, gradients %.2g off; one process alone had %d tokens", i, got.tokens, ratio, tokens)
		} else {
			t.Logf("process %d: gradients %.2g off", i, ratio)
		}
	}
}
