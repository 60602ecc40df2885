package recipe

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"krait/autograd"
	"krait/chat"
	"krait/checkpoint"
	"krait/data"
	"krait/loss"
	"krait/tokenizer"
)

// RowsConfig is how rows of text become tokens.
type RowsConfig struct {
	AsChat   bool   `json:"as_chat"`       // a prompt and an answer that are strings are said by the user and the assistant
	DropLong bool   `json:"drop_long"`     // rows longer than the context are left out; otherwise they are cut
	SkipBad  bool   `json:"skip_bad_rows"` // rows that mean nothing are left out; otherwise the first is an error
	Date     string `json:"date"`          // the day that templates call today, such as 2026-01-31

	Mixture            map[string]float64 `json:"mixture,omitempty"`             // files beside the others, and how often each of their rows is taken: 0.5 is half of them
	Decontaminate      []string           `json:"decontaminate,omitempty"`       // evaluation sets: rows that share text with them are left out
	DecontaminateWords int                `json:"decontaminate_ngram,omitempty"` // words in a row that are shared; 0: 13
}

// SFTConfig is the configuration of SFT.
type SFTConfig struct {
	Model string   `json:"model"`
	Data  []string `json:"data"` // files of conversations or text, all of them
	Out   string   `json:"-"`
	RowsConfig
	TrainConfig
}

// DefaultSFT returns the defaults of SFT: those of the original recipe, where it has some.
func DefaultSFT() SFTConfig {
	c := SFTConfig{TrainConfig: DefaultTrain()}
	c.LR, c.Beta2 = 2e-5, 0.999
	return c
}

// SFT trains a model to say what the assistant says in conversations, stage two of the method: cross-entropy on the assistant's tokens alone.
func SFT(ctx context.Context, c SFTConfig, report Report) error {
	start, rows, err := c.start(c.Model, &c.TrainConfig, report)
	if err != nil {
		return err
	}
	store, err := data.NewStore(filepath.Dir(c.Out))
	if err != nil {
		return err
	}
	defer store.Close()
	if err := rows.conversations(c.Data, store); err != nil {
		return err
	}
	report(Event{Stage: "sft", Note: rows.summary("conversations", store)})
	m := start.Model
	profile := new(autograd.Profile)
	lossOf := func(t *autograd.Tape, b data.Batch) loss.Total {
		return loss.CrossEntropy(t, loss.Head{Hidden: m.Forward(t, modelBatch(b)), Weight: m.Head()}, b.Targets)
	}
	t := &training{stage: "sft", out: c.Out, config: c, inputs: c.rowInputs(c.Data, c.Model), TrainConfig: c.TrainConfig,
		checkpoint: start, loss: lossOf, figures: rows.figures(), profile: profile, report: report}
	if t.stream, err = t.groupsOf(store); err != nil {
		return rows.unusable(err)
	}
	return t.run(ctx)
}

// conversations reads files of conversations and text into a store.
func (r *textRows) conversations(paths []string, store *data.Store) error {
	for _, file := range r.files(paths) {
		err := r.read(file.path, rowsOf(data.Chats(file.path), func(row data.Chat) (int, error) {
			s, err := r.encode(row)
			if err == nil && r.fit(&s) {
				for range file.copies(row.Line) {
					if err := store.Add(s); err != nil {
						return row.Line, notOfRow(err)
					}
				}
			}
			return row.Line, err
		}))
		if err != nil {
			return err
		}
	}
	return store.Flush()
}

// textRows turns rows into sequences and counts what becomes of them.
type textRows struct {
	RowsConfig
	tok      *tokenizer.Tokenizer
	template *chat.Template // nil where the model has none
	eos      []int32
	limit    int // tokens of a sequence
	seed     uint64
	overlap  *data.Overlap // with evaluation sets; nil: none to look for

	total, bad, cut, dropped int
	shared                   map[string]int // rows left out by the evaluation set that they share text with
}

// errNoTemplate says that rows need what the model has not: it is no fault of the row.
var errNoTemplate = errors.New("it is a conversation, and the model has no chat template: add chat_template.jinja to its directory, " +
	"or give rows of prompt and completion")

// start reads the model that a stage begins with, and what turns rows into its tokens.
func (c *RowsConfig) start(dir string, t *TrainConfig, report Report) (*checkpoint.Checkpoint, *textRows, error) {
	if err := t.validate(); err != nil {
		return nil, nil, err
	}
	if t.Crop != 0 {
		return nil, nil, errors.New("conversations cannot begin at a random place: crop must be 0")
	}
	start, err := report.load(dir)
	if err != nil {
		return nil, nil, err
	}
	r, err := c.rows(dir, start, t.Context, t.Seed)
	return start, r, err
}

// rows returns what turns rows into the tokens of a model, read from dir, in sequences of at most limit.
func (c *RowsConfig) rows(dir string, start *checkpoint.Checkpoint, limit int, seed uint64) (*textRows, error) {
	r := &textRows{RowsConfig: *c, eos: start.EOS, limit: limit, seed: seed, shared: map[string]int{}}
	if err := r.mixed(); err != nil {
		return nil, err
	}
	var err error
	if limit := start.Model.Config.MaxPositionEmbeddings; limit > 0 {
		r.limit = min(r.limit, limit)
	}
	if r.tok, err = start.Tokenizer(); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if r.template, err = chat.FromFiles(start.Files, ""); err != nil && !errors.Is(err, chat.ErrNoTemplate) {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if r.Date != "" {
		day, err := time.Parse(time.DateOnly, r.Date)
		if err != nil {
			return nil, fmt.Errorf("date %q: want a day such as 2026-01-31", r.Date)
		}
		if r.template != nil {
			r.template.Now = func() time.Time { return day }
		}
	}
	return r, nil
}

// notRow is an error that is no fault of a row: reading ends with it.
type notRow struct{ error }

func (e notRow) Unwrap() error { return e.error }

// notOfRow marks an error so that no row is blamed for it.
func notOfRow(err error) error {
	if err == nil {
		return nil
	}
	return notRow{err}
}

// rowsOf lets use have each of the rows; use returns its line. What is wrong with a row is a *data.RowError without a file; notRow stays as it is.
func rowsOf[T any](rows iter.Seq2[T, error], use func(T) (int, error)) iter.Seq[error] {
	return func(yield func(error) bool) {
		for r, err := range rows {
			if err == nil {
				var line int
				if line, err = use(r); err != nil && !errors.Is(err, errNoTemplate) && !errors.As(err, new(notRow)) {
					err = &data.RowError{Line: line, Err: err}
				}
			}
			if !yield(err) {
				return
			}
		}
	}
}

// read counts the rows of a file and stops at what is wrong, unless bad rows are to be left out.
func (r *textRows) read(path string, rows iter.Seq[error]) error {
	for err := range rows {
		r.total++
		var bad *data.RowError
		switch {
		case err == nil || errors.Is(err, errShared):
		case !errors.As(err, &bad):
			if errors.Is(err, errNoTemplate) {
				err = fmt.Errorf("%s: %w", path, err)
			}
			return err
		case r.SkipBad:
			r.bad++
		default:
			return &data.RowError{File: path, Line: bad.Line, Err: bad.Err}
		}
	}
	return nil
}

// encode turns an example into tokens, of which the answer's are to be learnt.
func (r *textRows) encode(c data.Chat) (s data.Sequence, err error) {
	if r.overlap != nil {
		if set, found := r.overlap.In(c.Text()); found {
			r.shared[set]++
			return s, errShared
		}
	}
	if r.AsChat && c.Messages == nil && c.Prompt != "" {
		c.Messages = []data.Message{{Role: "user", Content: c.Prompt}, {Role: "assistant", Content: strings.TrimLeft(c.Completion, " \n")}}
		c.Given, c.Completion = 1, ""
	}
	switch {
	case c.Messages != nil && r.template != nil:
		s, err = r.conversation(c)
	case c.Completion != "":
		s, err = r.plain(c)
	default:
		err = errNoTemplate
	}
	if err == nil && s.Learns() == 0 {
		err = errors.New("no token of it is to be learnt")
	}
	return s, err
}

// conversation renders a conversation by the model's template. Turns that are given are the assistant's too, but not to be learnt.
func (r *textRows) conversation(c data.Chat) (data.Sequence, error) {
	messages := make([]chat.Message, len(c.Messages))
	for i, m := range c.Messages {
		messages[i] = chat.Message{Role: m.Role, Content: m.Content}
		if m.JSON != nil {
			if err := messages[i].UnmarshalJSON(m.JSON); err != nil {
				return data.Sequence{}, fmt.Errorf("message %d: %w", i, err)
			}
		}
	}
	ids, learn, err := r.template.Masks(r.tok, messages, nil)
	if err != nil {
		return data.Sequence{}, err
	}
	if slices.ContainsFunc(messages[:c.Given], func(m chat.Message) bool { return m.Role == "assistant" }) {
		given, _, err := r.template.Masks(r.tok, messages[:c.Given], nil)
		if err != nil {
			return data.Sequence{}, err
		}
		for i := 0; i < min(len(given), len(ids)) && given[i] == ids[i]; i++ {
			learn[i] = false
		}
	}
	return data.Sequence{IDs: ids, Learn: learn}, nil
}

// plain encodes a prompt and its completion as one text, which the model's end of text closes. A token of which a part belongs to the prompt is not
// to be learnt.
func (r *textRows) plain(c data.Chat) (data.Sequence, error) {
	ids, offsets, err := r.tok.EncodeOffsets(c.Prompt+c.Completion, true)
	if err != nil {
		return data.Sequence{}, err
	}
	learn := make([]bool, len(ids))
	for i, o := range offsets {
		learn[i] = o[0] >= len(c.Prompt)
	}
	if len(r.eos) > 0 && (len(ids) == 0 || !slices.Contains(r.eos, ids[len(ids)-1])) {
		ids, learn = append(ids, r.eos[0]), append(learn, true)
	}
	return data.Sequence{IDs: ids, Learn: learn}, nil
}

// fit cuts sequences that are too long, and reports whether they are to be used: all of a group or none.
func (r *textRows) fit(group ...*data.Sequence) bool {
	long := false
	for _, s := range group {
		if len(s.IDs) > r.limit {
			long = true
			*s = s.Cut(r.limit)
		}
	}
	if long && (r.DropLong || slices.ContainsFunc(group, func(s *data.Sequence) bool { return s.Learns() == 0 })) {
		r.dropped++
		return false
	}
	if long {
		r.cut++
	}
	return true
}

// unusable explains why nothing is left of the rows.
func (r *textRows) unusable(err error) error {
	return fmt.Errorf("%w: of %d read, %d mean nothing, %d are longer than %d tokens and %d stand in evaluation sets", err, r.total, r.bad, r.dropped, r.limit, r.contaminated())
}

// summary says what became of the rows.
func (r *textRows) summary(what string, groups data.GroupSource) string {
	tokens, learns := 0, 0
	for i := range groups.Len() {
		for _, s := range groups.Group(i) {
			tokens += len(s.IDs)
			learns += s.Learns()
		}
	}
	text := fmt.Sprintf("%d %s of %d tokens, %d of them to be learnt", groups.Len(), what, tokens, learns)
	for _, set := range slices.Sorted(maps.Keys(r.shared)) {
		text += fmt.Sprintf("; %d left out as they share text with %s", r.shared[set], set)
	}
	for _, c := range []struct {
		n    int
		what string
	}{{r.cut, fmt.Sprintf("cut after %d tokens", r.limit)}, {r.dropped, fmt.Sprintf("left out as longer than %d tokens", r.limit)},
		{r.bad, "left out as they mean nothing"}} {
		if c.n > 0 {
			text += fmt.Sprintf("; %d %s", c.n, c.what)
		}
	}
	return text
}

// figures are the counts for the record.
func (r *textRows) figures() map[string]float64 {
	return map[string]float64{"rows": float64(r.total), "rows_cut": float64(r.cut), "rows_dropped": float64(r.dropped), "rows_bad": float64(r.bad),
		"rows_contaminated": float64(r.contaminated())}
}
