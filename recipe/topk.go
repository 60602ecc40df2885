package recipe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/kernel"
	"krait/loss"
	"krait/model"
	"krait/safetensors"
	"krait/tensor"
)

// topKFile holds, beside the labels, what the teacher thinks of each of their tokens' successors, documents laid end to end: ids I32 (tokens, K) of
// the likeliest, log_probs F32 (tokens, K), and tail F32 (tokens), the probability of all others together.
const topKFile = "top_logits.safetensors"

// topKParts are the tensors of topKFile; each grows in a file of its own, so that an interrupted run can go on.
var topKParts = []string{"ids", "log_probs", "tail"}

// topKBatch is about how many tokens the teacher reads together.
const topKBatch = 2048

// maxTopK bounds K: from about here on storing costs more than asking the teacher again.
const maxTopK = 1024

// storeTopK asks the teacher about the documents of a label directory under work, and leaves topKFile.
func storeTopK(ctx context.Context, out string, m *model.Model, k int, report Report) error {
	dir := checkpoint.Partial(out)
	docs, err := data.ReadDocuments(filepath.Join(dir, labelsFile), m.Config.VocabSize)
	if err != nil {
		return err
	}
	w, err := openTopK(dir, docs, k)
	if err != nil {
		return err
	}
	defer w.close()
	m.Pack()
	scratch := autograd.NewScratch()
	for w.next < len(docs) {
		if err := ctx.Err(); err != nil {
			return err
		}
		var b data.Batch
		from := w.next
		for w.next < len(docs) && (len(b.Tokens) == 0 || len(b.Tokens)+len(docs[w.next].IDs) <= topKBatch) {
			b.Tokens, b.Lens = append(b.Tokens, docs[w.next].IDs...), append(b.Lens, len(docs[w.next].IDs))
			w.next++
		}
		scratch.Reset()
		if err := w.put(m, scratch, m.Forward(scratch, modelBatch(b))); err != nil {
			return err
		}
		report(Event{Stage: "label", Done: w.next, Total: len(docs), Unit: "documents", Text: fmt.Sprintf("read again for the %d likeliest tokens, from %d", k, from)})
	}
	return w.finish(m.Config.VocabSize)
}

// topKWriter appends rows to the parts.
type topKWriter struct {
	dir        string
	k          int
	files      []*os.File
	next, rows int // documents that are whole in all parts, and their rows in the file
}

// openTopK opens the parts after the last document that is whole in all of them.
func openTopK(dir string, docs []data.Document, k int) (*topKWriter, error) {
	w := &topKWriter{dir: dir, k: k}
	have := int64(math.MaxInt64)
	for i, name := range topKParts {
		f, err := os.OpenFile(filepath.Join(dir, name+".part"), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			w.close()
			return nil, err
		}
		w.files = append(w.files, f)
		info, err := f.Stat()
		if err != nil {
			w.close()
			return nil, err
		}
		have = min(have, info.Size()/w.rowBytes(i))
	}
	for w.next < len(docs) && int64(w.rows+len(docs[w.next].IDs)) <= have {
		w.rows += len(docs[w.next].IDs)
		w.next++
	}
	for i, f := range w.files {
		at := int64(w.rows) * w.rowBytes(i)
		if _, err := f.Seek(at, 0); err != nil {
			w.close()
			return nil, err
		}
		if err := f.Truncate(at); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

// rowBytes returns the size of a row of a part.
func (w *topKWriter) rowBytes(part int) int64 {
	if topKParts[part] == "tail" {
		return 4
	}
	return 4 * int64(w.k)
}

func (w *topKWriter) close() {
	for _, f := range w.files {
		f.Close()
	}
}

// put appends the rows of hidden (rows, hidden).
func (w *topKWriter) put(m *model.Model, scratch *autograd.Tape, hidden *tensor.Tensor) error {
	const chunk = 256
	vocab := m.Config.VocabSize
	for lo := 0; lo < hidden.Rows(); lo += chunk {
		hi := min(hidden.Rows(), lo+chunk)
		logits := m.Logits(scratch, hidden.Slice(lo, hi))
		ids, logProbs, tail := make([]int32, (hi-lo)*w.k), make([]float32, (hi-lo)*w.k), make([]float32, hi-lo)
		tensor.Rows(hi-lo, 8*vocab, func(a, b int) {
			for r := a; r < b; r++ {
				tail[r] = likeliest(logits.Row(r), ids[r*w.k:][:w.k], logProbs[r*w.k:][:w.k])
			}
		})
		if t := float64(kernel.Sum(tail) + kernel.Sum(logProbs)); math.IsNaN(t) || math.IsInf(t, 0) {
			return errors.New("the teacher's logits are not finite: its weights are no numbers to compute with")
		}
		bits := make([]byte, 4*len(ids))
		for i, id := range ids {
			binary.LittleEndian.PutUint32(bits[4*i:], uint32(id))
		}
		for i, b := range [][]byte{bits, safetensors.EncodeFloat32s(safetensors.F32, logProbs), safetensors.EncodeFloat32s(safetensors.F32, tail)} {
			if _, err := w.files[i].Write(b); err != nil {
				return err
			}
		}
		w.rows += hi - lo
	}
	return nil
}

// likeliest fills ids and logProbs with the likeliest tokens, in their order, and returns the probability of the others. The logits are used up.
func likeliest(logits []float32, ids []int32, logProbs []float32) (tail float32) {
	n := 0
	for id, l := range logits {
		if n == len(ids) && !(l > logProbs[n-1]) {
			continue
		}
		at := min(n, len(ids)-1)
		for at > 0 && l > logProbs[at-1] {
			ids[at], logProbs[at] = ids[at-1], logProbs[at-1]
			at--
		}
		ids[at], logProbs[at] = int32(id), l
		n = min(n+1, len(ids))
	}
	m := kernel.Max(logits)
	z := float64(kernel.ExpSum(logits, logits, m))
	for i, id := range ids {
		logits[id] = 0
		logProbs[i] = float32(float64(logProbs[i]-m) - math.Log(z))
	}
	return float32(float64(kernel.Sum(logits)) / z)
}

// finish makes one file of the parts.
func (w *topKWriter) finish(vocab int) error {
	tensors := []safetensors.Tensor{{Name: "ids", DType: "I32", Shape: []int{w.rows, w.k}},
		{Name: "log_probs", DType: safetensors.F32, Shape: []int{w.rows, w.k}}, {Name: "tail", DType: safetensors.F32, Shape: []int{w.rows}}}
	err := safetensors.WriteFunc(filepath.Join(w.dir, topKFile), tensors, map[string]string{"vocab_size": strconv.Itoa(vocab)},
		func(t safetensors.Tensor) ([]byte, error) { return os.ReadFile(filepath.Join(w.dir, t.Name+".part")) })
	if err != nil {
		return err
	}
	for _, name := range topKParts {
		if err := os.Remove(filepath.Join(w.dir, name+".part")); err != nil {
			return err
		}
	}
	return nil
}

// topKReader reads topKFile document by document.
type topKReader struct {
	file  *safetensors.File
	parts []safetensors.Tensor
	k     int
	first []int // the row where each document begins, and the end
}

// openTopKReader opens what label stored of the documents, all of them.
func openTopKReader(dir string, docs []data.Document, vocab int) (*topKReader, error) {
	path := filepath.Join(dir, topKFile)
	f, err := safetensors.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s has no %s, so the teacher is needed: label stores it with --top-k-logits", dir, topKFile)
	}
	if err != nil {
		return nil, err
	}
	r := &topKReader{file: f, first: []int{0}}
	for i, d := range docs {
		r.first = append(r.first, r.first[i]+len(d.IDs))
	}
	rows := r.first[len(docs)]
	for i, name := range topKParts {
		t, ok := f.Tensor(name)
		if !ok || len(t.Shape) == 0 || t.Shape[0] != rows || t.DType != [...]safetensors.DType{"I32", safetensors.F32, safetensors.F32}[i] {
			f.Close()
			return nil, fmt.Errorf("%s: no tensor %s of %d rows, as the labels have tokens", path, name, rows)
		}
		r.parts = append(r.parts, t)
	}
	if r.k = r.parts[0].Shape[1]; f.Metadata()["vocab_size"] != strconv.Itoa(vocab) {
		f.Close()
		return nil, fmt.Errorf("%s is of a vocabulary of %s tokens, the student's has %d: they must share a tokenizer", path, f.Metadata()["vocab_size"], vocab)
	}
	return r, nil
}

// of returns the rows of documents, laid end to end.
func (r *topKReader) of(numbers []int) (*loss.TopK, error) {
	t := &loss.TopK{K: r.k}
	for _, n := range numbers {
		from, to := r.first[n], r.first[n+1]
		ids := r.parts[0].Data[4*from*r.k : 4*to*r.k]
		for i := 0; i < len(ids); i += 4 {
			t.IDs = append(t.IDs, int32(binary.LittleEndian.Uint32(ids[i:])))
		}
		for i, dst := range []*[]float32{&t.LogProbs, &t.Tail} {
			part, width := r.parts[i+1], r.k
			if i == 1 {
				width = 1
			}
			values := make([]float32, (to-from)*width)
			piece := safetensors.Tensor{Name: part.Name, DType: part.DType, Shape: []int{len(values)}, Data: part.Data[4*from*width : 4*to*width]}
			if err := safetensors.Float32s(values, piece); err != nil {
				return nil, err
			}
			*dst = append(*dst, values...)
		}
	}
	return t, nil
}
