package recipe

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"krait/checkpoint"
	"krait/data"
)

// errEnough ends the reading of files.
var errEnough = errors.New("enough documents")

// textDocuments turns the rows of files into documents.
type textDocuments struct {
	*LabelConfig
	rows *textRows
	bos  []int32
	open []int32 // of packed documents: the one that is not full yet
	put  func(data.Document) error
	made int
}

// fromText makes the labels of what stands in files instead of what the teacher writes. The files are read from their beginnings again when an
// interrupted run goes on; what is written already is passed over.
func (c *LabelConfig) fromText(ctx context.Context, teacher *checkpoint.Checkpoint, w *labelWriter, figures map[string]float64, report Report) error {
	rowsConfig := RowsConfig{AsChat: c.AsChat, SkipBad: c.SkipBad, Decontaminate: c.Decontaminate, DecontaminateWords: c.DecontaminateWords}
	rows, err := rowsConfig.rows(c.Teacher, teacher, c.MaxTokens, c.Seed)
	if err != nil {
		return err
	}
	written := w.next
	t := &textDocuments{LabelConfig: c, rows: rows, bos: teacher.BOS}
	t.put = func(d data.Document) error {
		t.made++
		if t.made > written {
			if err := w.put(t.made-1, d); err != nil {
				return err
			}
			report(Event{Stage: "label", Done: t.made, Total: max(c.Count, t.made), Unit: "documents", Text: fmt.Sprintf("%d tokens", w.tokens)})
		}
		if t.made == c.Count {
			return errEnough
		}
		return ctx.Err()
	}
	err = t.read()
	if err == nil && len(t.open) > 1 {
		err = t.put(data.Document{IDs: t.open})
	}
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if t.made == 0 {
		return rows.unusable(errors.New("the text has nothing to learn from"))
	}
	note := fmt.Sprintf("%d documents of %d tokens from %d rows", t.made, w.tokens, rows.total)
	if rows.bad > 0 {
		note += fmt.Sprintf("; %d left out as they mean nothing", rows.bad)
	}
	if n := rows.contaminated(); n > 0 {
		note += fmt.Sprintf("; %d left out as they share text with an evaluation set", n)
	}
	if t.made < c.Count {
		note += fmt.Sprintf("; the text has no more, %d were asked for", c.Count)
	}
	report(Event{Stage: "label", Note: note})
	figures["rows"], figures["rows_bad"], figures["rows_contaminated"] = float64(rows.total), float64(rows.bad), float64(rows.contaminated())
	return nil
}

// read reads the files.
func (t *textDocuments) read() error {
	for _, path := range t.Text {
		err := t.rows.read(path, rowsOf(data.Chats(path), func(row data.Chat) (int, error) {
			if t.Pack && (row.Messages != nil || row.Prompt != "") {
				return row.Line, errors.New("pack lays whole texts end to end, and this is a prompt with its answer")
			}
			s, err := t.rows.encode(row)
			if err == nil {
				err = notOfRow(t.add(s))
			}
			return row.Line, err
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

// add makes documents of a sequence: parts of at most MaxTokens, or what fills the open document.
func (t *textDocuments) add(s data.Sequence) error {
	ids, prompt := s.IDs, slices.Index(s.Learn, true)
	if t.Pack {
		ids = t.between(ids)
	}
	for len(ids) > 0 {
		n := min(len(ids), t.MaxTokens-len(t.open))
		d := data.Document{IDs: slices.Concat(t.open, ids[:n]), Prompt: min(prompt, n)}
		ids, prompt = ids[n:], max(0, prompt-n)
		if t.Pack && len(d.IDs) < t.MaxTokens {
			t.open = d.IDs
			return nil
		}
		t.open = nil
		if len(d.IDs) < 2 || d.Prompt == len(d.IDs) {
			continue // nothing in it is to be predicted
		}
		if err := t.put(d); err != nil {
			return err
		}
	}
	return nil
}

// between drops the end of a text that a beginning follows: one token between two texts is what a model has seen there.
func (t *textDocuments) between(ids []int32) []int32 {
	if last := len(ids) - 1; last > 0 && slices.Contains(t.bos, ids[0]) && slices.Contains(t.rows.eos, ids[last]) {
		return ids[:last]
	}
	return ids
}
