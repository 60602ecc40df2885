package recipe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"krait/checkpoint"
	"krait/data"
	"krait/engine"
	"krait/model"
	"krait/sample"
)

// labelsFile holds the documents of a label directory, one JSON object a line.
const labelsFile = "labels.jsonl"

// LabelConfig is the configuration of Label.
type LabelConfig struct {
	Teacher     string  `json:"teacher"`
	Out         string  `json:"-"`
	Prompts     string  `json:"prompts"`           // a text file, one prompt a line, or JSONL with a "prompt"; empty: the beginning of a text
	AsChat      bool    `json:"as_chat,omitempty"` // prompts are said by the user in a conversation; otherwise they begin a text
	Count       int     `json:"count"`             // documents to write, prompts are used in turn (0: 1000); of Text: at most so many (0: all)
	MaxTokens   int     `json:"max_tokens"`        // of a document, prompt included
	Temperature float64 `json:"temperature"`
	TopP        float64 `json:"top_p"`
	TopK        int     `json:"top_k"`
	Seed        uint64  `json:"seed"`
	Type        string  `json:"type,omitempty"`         // of the weights that write: bf16, q8 or q4; empty: f32
	TopKLogits  int     `json:"top_k_logits,omitempty"` // keep the teacher's so many likeliest tokens at each place, for distilling without it
	Width       int     `json:"-" yaml:"width"`         // documents written side by side; changes no document

	// Text are files of text or conversations, forms as data.Chats reads them. Their rows are the documents, and the teacher writes nothing. What is before
	// the first answer of a row is given; rows longer than MaxTokens become several documents.
	Text               []string `json:"text,omitempty"`
	Pack               bool     `json:"pack,omitempty"`                // texts lie end to end in documents of MaxTokens, a row begins where the one before ends
	SkipBad            bool     `json:"skip_bad_rows,omitempty"`       // as RowsConfig says
	Decontaminate      []string `json:"decontaminate,omitempty"`       // likewise
	DecontaminateWords int      `json:"decontaminate_ngram,omitempty"` // likewise
}

// defaultLabels are written where nothing says how many.
const defaultLabels = 1000

// DefaultLabel returns the defaults of Label: the teacher's own distribution.
func DefaultLabel() LabelConfig {
	return LabelConfig{MaxTokens: 256, Temperature: 1, TopP: 1, Width: 16}
}

// Label lets the teacher write text, the pseudo-labels that the student learns from, or takes text that there is. Each document depends on the seed
// and its number alone, so an interrupted run goes on as if nothing had happened.
func Label(ctx context.Context, c LabelConfig, report Report) error {
	teacher, err := c.writer(report)
	if err != nil {
		return err
	}
	if err := c.check(&teacher.Model.Config); err != nil {
		return err
	}
	var prompts [][]int32
	if len(c.Text) == 0 {
		if prompts, err = labelPrompts(teacher, c.Prompts, c.MaxTokens, c.AsChat); err != nil {
			return err
		}
	}
	p, err := provenance("label", c, slices.Concat([]string{c.Teacher, c.Prompts}, c.Text, c.Decontaminate)...)
	if err != nil {
		return err
	}
	if err := begin(c.Out, p, report); err != nil {
		return err
	}
	w, err := openLabels(filepath.Join(checkpoint.Partial(c.Out), labelsFile))
	if err != nil {
		return err
	}
	defer w.f.Close()
	if w.next > 0 {
		of := ""
		if c.Count > 0 {
			of = fmt.Sprintf(" of %d", c.Count)
		}
		report(Event{Stage: "label", Note: fmt.Sprintf("going on from document %d%s", w.next, of)})
	}
	p.Metrics = map[string]float64{}
	if len(c.Text) == 0 {
		err = c.write(ctx, teacher, prompts, w, report)
	} else {
		err = c.fromText(ctx, teacher, w, p.Metrics, report)
	}
	if err != nil {
		return errors.Join(err, w.f.Sync())
	}
	if c.TopKLogits > 0 {
		if c.Type != "" { // what the teacher finds likely is said by its own weights
			if teacher, err = report.load(c.Teacher); err != nil {
				return err
			}
		}
		if err := errors.Join(w.f.Sync(), storeTopK(ctx, c.Out, teacher.Model, c.TopKLogits, report)); err != nil {
			return err
		}
	}
	p.Metrics["documents"], p.Metrics["tokens"] = float64(w.next), float64(w.tokens)
	return w.finish(c.Out, p)
}

// check refuses what no labels can be made by.
func (c *LabelConfig) check(teacher *model.Config) error {
	if len(c.Text) == 0 && c.Count == 0 {
		c.Count = defaultLabels
	}
	options := sample.Options{Temperature: c.Temperature, TopP: c.TopP, TopK: c.TopK}
	if err := options.Validate(); err != nil {
		return err
	}
	if limit := teacher.MaxPositionEmbeddings; c.Count < 0 || c.MaxTokens < 2 || limit > 0 && c.MaxTokens > limit {
		return fmt.Errorf("%d documents of at most %d tokens: want a positive number of documents and 2 to %d tokens (the model's context)", c.Count, c.MaxTokens, limit)
	}
	if most := min(teacher.VocabSize, maxTopK); c.TopKLogits < 0 || c.TopKLogits > most {
		return fmt.Errorf("the %d likeliest tokens: want at most %d, or 0 for none", c.TopKLogits, most)
	}
	switch {
	case len(c.Text) > 0 && c.Prompts != "":
		return errors.New("prompts and text: the documents are written by the teacher or stand in a text, not both")
	case len(c.Text) > 0 && (c.Type != "" || c.Temperature != 1 || c.TopP != 1 || c.TopK != 0):
		return errors.New("type, temperature, top_p and top_k are of what the teacher writes: where text is given it writes nothing")
	case len(c.Text) == 0 && (c.Pack || c.SkipBad || len(c.Decontaminate) > 0 || c.DecontaminateWords != 0):
		return errors.New("pack, skip_bad_rows and decontaminate are of the rows of a text: give text")
	}
	return nil
}

// write lets the teacher write documents.
func (c *LabelConfig) write(ctx context.Context, teacher *checkpoint.Checkpoint, prompts [][]int32, w *labelWriter, report Report) error {
	options := sample.Options{Temperature: c.Temperature, TopP: c.TopP, TopK: c.TopK}
	first, sent := w.next, w.next
	next := func() (engine.Request, bool) {
		if sent >= c.Count {
			return engine.Request{}, false
		}
		prompt := prompts[sent%len(prompts)]
		sent++
		return engine.Request{Prompt: prompt, MaxTokens: c.MaxTokens - len(prompt), Sampling: options,
			Seed: c.Seed<<32 + uint64(sent), Stop: teacher.EOS}, true
	}
	done := func(i int, tokens []int32, _ string) error {
		prompt := prompts[(first+i)%len(prompts)]
		if err := w.put(first+i, data.Document{IDs: append(append([]int32{}, prompt...), tokens...), Prompt: len(prompt)}); err != nil {
			return err
		}
		report(Event{Stage: "label", Done: w.next, Total: c.Count, Unit: "documents", Text: fmt.Sprintf("%d tokens", w.tokens)})
		return nil
	}
	return engine.New(teacher.Model).Batch(ctx, max(1, c.Width), next, done)
}

// writer loads the teacher with the weights that are to write.
func (c *LabelConfig) writer(report Report) (*checkpoint.Checkpoint, error) {
	if c.Type == "" {
		return report.load(c.Teacher)
	}
	return report.loadPacked(c.Teacher, c.Type)
}

// labelWriter appends documents to the file in order; those that are done before their turn wait.
type labelWriter struct {
	f            *os.File
	next, tokens int
	waiting      map[int]data.Document
}

// openLabels opens the file after its last whole line.
func openLabels(path string) (*labelWriter, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	w := &labelWriter{f: f, waiting: map[int]data.Document{}}
	var whole int64
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		var d data.Document
		if err != nil || json.Unmarshal(line, &d) != nil {
			break
		}
		whole += int64(len(line))
		w.next++
		w.tokens += len(d.IDs)
	}
	if err := f.Truncate(whole); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.Seek(whole, io.SeekStart)
	return w, err
}

func (w *labelWriter) put(i int, d data.Document) error {
	w.waiting[i] = d
	var out bytes.Buffer
	for {
		d, ok := w.waiting[w.next]
		if !ok {
			break
		}
		line, err := json.Marshal(d)
		if err != nil {
			return err
		}
		out.Write(append(line, '\n'))
		delete(w.waiting, w.next)
		w.next++
		w.tokens += len(d.IDs)
	}
	_, err := w.f.Write(out.Bytes())
	return err
}

func (w *labelWriter) finish(out string, p *checkpoint.Provenance) error {
	if err := w.f.Sync(); err != nil {
		return err
	}
	if err := writeProvenance(checkpoint.Partial(out), p); err != nil {
		return err
	}
	return finish(out)
}
