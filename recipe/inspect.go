package recipe

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"krait/data"
)

// InspectConfig is the configuration of Inspect.
type InspectConfig struct {
	Model   string   // whose tokenizer and chat template are used
	Files   []string // of conversations, text or preferences
	Context int      // tokens of a sequence at most
	Pairs   bool     // the rows are preferences
	RowsConfig
}

// InspectedRow is what becomes of one row: its sequences (of a preference, the chosen answer and the rejected one), or the reason why there are none.
type InspectedRow struct {
	File   string
	Line   int
	Group  []data.Sequence
	Cut    bool
	Reason string
}

// RowCounts are what became of the rows of files.
type RowCounts struct {
	Rows    int            `json:"rows"`
	Used    int            `json:"used"`
	Cut     int            `json:"cut"`
	Dropped map[string]int `json:"dropped"` // by reason
	Tokens  int            `json:"tokens"`
	Learnt  int            `json:"learnt"` // tokens to be learnt
	Longest int            `json:"longest"`
	Median  int            `json:"median"` // tokens of a sequence
	P95     int            `json:"p95"`
}

// Inspector turns rows into tokens as the stages that train on them do, and shows each.
type Inspector struct {
	rows *textRows
	c    InspectConfig
}

// NewInspector reads the model's tokenizer and template.
func NewInspector(c InspectConfig) (*Inspector, error) {
	t := DefaultTrain()
	t.Context = c.Context
	_, rows, err := c.start(c.Model, &t, func(Event) {})
	if err != nil {
		return nil, err
	}
	return &Inspector{rows: rows, c: c}, nil
}

// Texts returns the text of each token: what it adds to the token before.
func (in *Inspector) Texts(ids []int32) []string {
	texts := make([]string, len(ids))
	for i := range ids {
		lo := max(0, i-1)
		before, err := in.rows.tok.Decode(ids[lo:i], false)
		if err != nil {
			before = ""
		}
		both, err := in.rows.tok.Decode(ids[lo:i+1], false)
		if texts[i] = strings.TrimPrefix(both, before); err != nil {
			texts[i], _ = in.rows.tok.Token(ids[i])
		}
	}
	return texts
}

// Inspect shows each row to see until that returns false, and returns the counts of those it has shown.
func (in *Inspector) Inspect(see func(InspectedRow) bool) (RowCounts, error) {
	counts := RowCounts{Dropped: map[string]int{}}
	var lengths []int
	done := errors.New("seen enough")
	show := func(row InspectedRow, err error) error {
		counts.Rows++
		if err != nil {
			row.Group, row.Reason = nil, err.Error()
		}
		if row.Reason != "" {
			counts.Dropped[row.Reason]++
		} else {
			counts.Used++
			counts.Cut += b2i(row.Cut)
		}
		for _, s := range row.Group {
			lengths = append(lengths, len(s.IDs))
			counts.Tokens += len(s.IDs)
			counts.Learnt += s.Learns()
		}
		if !see(row) {
			return done
		}
		return nil
	}
	for _, file := range in.rows.files(in.c.Files) {
		err := in.file(file.path, show)
		if errors.Is(err, done) {
			break
		}
		if err != nil {
			return counts, err
		}
	}
	if len(lengths) > 0 {
		slices.Sort(lengths)
		counts.Longest, counts.Median, counts.P95 = lengths[len(lengths)-1], lengths[len(lengths)/2], lengths[len(lengths)*95/100]
	}
	return counts, nil
}

// file shows the rows of a file.
func (in *Inspector) file(path string, show func(InspectedRow, error) error) error {
	if in.c.Pairs {
		for p, err := range data.Preferences(path) {
			row := InspectedRow{File: path, Line: p.Line}
			if err := in.row(row, err, show, p.Chosen, p.Rejected); err != nil {
				return err
			}
		}
		return nil
	}
	for c, err := range data.Chats(path) {
		if err := in.row(InspectedRow{File: path, Line: c.Line}, err, show, c); err != nil {
			return err
		}
	}
	return nil
}

// row encodes the examples of a row and shows it.
func (in *Inspector) row(row InspectedRow, err error, show func(InspectedRow, error) error, chats ...data.Chat) error {
	var bad *data.RowError
	if errors.As(err, &bad) {
		row.Line = bad.Line
		return show(row, bad.Err)
	}
	if err != nil {
		return err
	}
	var refs []*data.Sequence
	for _, c := range chats {
		s, err := in.rows.encode(c)
		if err != nil {
			return show(row, err)
		}
		row.Group = append(row.Group, s)
	}
	for i := range row.Group {
		refs = append(refs, &row.Group[i])
		row.Cut = row.Cut || len(row.Group[i].IDs) > in.rows.limit
	}
	if !in.rows.fit(refs...) {
		return show(row, fmt.Errorf("longer than %d tokens", in.rows.limit))
	}
	return show(row, nil)
}
