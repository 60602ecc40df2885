// Package data holds documents of token ids, their file form, and the order in which training sees them.
package data

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// Document is a sequence of token ids of which the first Prompt are given and the rest are to be learnt.
type Document struct {
	IDs    []int32 `json:"ids"`
	Prompt int     `json:"prompt"`
}

// maxLine bounds one document's line.
const maxLine = 64 << 20

// ReadDocuments reads a JSONL file of documents, one object a line. Token ids must be below vocab. Errors name the line.
func ReadDocuments(path string, vocab int) ([]Document, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	docs, err := parseDocuments(f, vocab)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return docs, nil
}

func parseDocuments(r io.Reader, vocab int) ([]Document, error) {
	var docs []Document
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var d Document
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if d.Prompt < 0 || d.Prompt > len(d.IDs) {
			return nil, fmt.Errorf("line %d: prompt %d of %d tokens", n, d.Prompt, len(d.IDs))
		}
		for _, id := range d.IDs {
			if id < 0 || int(id) >= vocab {
				return nil, fmt.Errorf("line %d: token %d is not in the vocabulary of %d", n, id, vocab)
			}
		}
		docs = append(docs, d)
	}
	return docs, lines.Err()
}

// Batch is documents laid end to end: Lens cuts Tokens into runs, and Targets[i] is the token that row i must predict, or -1 where none counts.
type Batch struct {
	Tokens, Targets []int32
	Lens            []int
	Groups          []int // the numbers of the groups that Groups dealt
}

// Counted returns the number of rows that have a target.
func (b *Batch) Counted() int {
	n := 0
	for _, t := range b.Targets {
		if t >= 0 {
			n++
		}
	}
	return n
}

// Cursor is a place in the endless stream of batches: documents used up of the current epoch's order.
type Cursor struct {
	Epoch    int `json:"epoch"`
	Position int `json:"position"`
}

// Stream deals documents into batches of about Tokens tokens, in an order that is new in every epoch and depends on the seed alone. No
// document is padded, and none is cut but those longer than Context, whose later parts are documents of their own.
type Stream struct {
	// Crop is the share of documents of which only the part from a random place on is dealt, so that a model also learns to read text that
	// begins in the middle, without a beginning-of-text token.
	Crop float64
	// Once makes a batch end where a pass over the documents does.
	Once bool

	docs   []Document
	tokens int
	seed   uint64
	at     Cursor
	order  []int
}

// NewStream returns a stream over the documents, or an error if they have nothing to learn.
func NewStream(docs []Document, tokens, context int, seed uint64) (*Stream, error) {
	s := &Stream{tokens: tokens, seed: seed}
	for _, d := range docs {
		for lo := 0; len(d.IDs)-lo > 1; lo += context {
			part := Document{IDs: d.IDs[lo:min(len(d.IDs), lo+context)], Prompt: max(0, d.Prompt-lo)}
			if part.Prompt < len(part.IDs) {
				s.docs = append(s.docs, part)
			}
		}
	}
	if len(s.docs) == 0 {
		return nil, fmt.Errorf("the documents have no tokens to learn")
	}
	s.Seek(Cursor{})
	return s, nil
}

// Cursor returns the place of the next batch.
func (s *Stream) Cursor() Cursor { return s.at }

// Epoch returns how often the documents have been dealt, with the part of the pass that is under way.
func (s *Stream) Epoch() float64 {
	return float64(s.at.Epoch) + float64(s.at.Position)/float64(len(s.order))
}

// Seek goes to a place that Cursor returned.
func (s *Stream) Seek(c Cursor) {
	s.at = c
	s.order = rand.New(rand.NewPCG(s.seed, uint64(c.Epoch))).Perm(len(s.docs))
}

// Next returns the next batch: at least one document, and as many as fit.
func (s *Stream) Next() Batch {
	var b Batch
	for {
		if s.at.Position == len(s.order) {
			if s.Once && len(b.Tokens) > 0 {
				return b
			}
			s.Seek(Cursor{Epoch: s.at.Epoch + 1})
		}
		d := s.document()
		if len(b.Tokens) > 0 && len(b.Tokens)+len(d.IDs) > s.tokens {
			return b
		}
		b.add(d)
		s.at.Position++
	}
}

// document returns the document at the cursor, cropped if its turn says so: that depends on the seed, the epoch and its number alone.
func (s *Stream) document() Document {
	n := s.order[s.at.Position]
	d := s.docs[n]
	if s.Crop > 0 {
		rng := rand.New(rand.NewPCG(s.seed+uint64(s.at.Epoch)<<32, uint64(n)))
		if rng.Float64() < s.Crop && len(d.IDs) > d.Prompt+2 {
			from := rng.IntN(len(d.IDs)-d.Prompt-2) + d.Prompt
			d = Document{IDs: d.IDs[from:]}
		}
	}
	return d
}

// add appends a document: row i predicts token i+1 unless that belongs to the prompt.
func (b *Batch) add(d Document) {
	b.Tokens = append(b.Tokens, d.IDs...)
	b.Lens = append(b.Lens, len(d.IDs))
	for i := range d.IDs {
		target := int32(-1)
		if i+1 < len(d.IDs) && i+1 >= d.Prompt {
			target = d.IDs[i+1]
		}
		b.Targets = append(b.Targets, target)
	}
}
