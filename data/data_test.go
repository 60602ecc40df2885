package data

import (
	"reflect"
	"strings"
	"testing"
)

func docs(lens ...int) []Document {
	var d []Document
	id := int32(0)
	for _, n := range lens {
		x := Document{Prompt: 1}
		for range n {
			x.IDs = append(x.IDs, id)
			id++
		}
		d = append(d, x)
	}
	return d
}

// TestStreamResumes checks that a stream set to a cursor deals what the first one would have dealt, across an epoch's end.
func TestStreamResumes(t *testing.T) {
	all := docs(5, 9, 3, 12, 7, 1, 8)
	a, err := NewStream(all, 16, 10, 3)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		a.Next()
	}
	cursor := a.Cursor()
	b, _ := NewStream(all, 16, 10, 3)
	b.Seek(cursor)
	for i := range 20 {
		x, y := a.Next(), b.Next()
		if !reflect.DeepEqual(x, y) {
			t.Fatalf("batch %d after the cursor differs", i)
		}
		if len(x.Tokens) > 16 {
			t.Fatalf("batch of %d tokens, want at most 16", len(x.Tokens))
		}
	}
}

// TestStreamDealsEverything checks that an epoch holds each document's tokens once, long ones cut at the context.
func TestStreamDealsEverything(t *testing.T) {
	s, err := NewStream(docs(5, 23, 3), 16, 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int32]int{}
	for s.Cursor().Epoch == 0 && s.Cursor().Position < len(s.docs) {
		b := s.Next()
		for _, n := range b.Lens {
			if n > 10 {
				t.Errorf("document of %d tokens, want at most 10", n)
			}
		}
		for _, id := range b.Tokens {
			seen[id]++
		}
	}
	for id := range int32(31) {
		if seen[id] != 1 {
			t.Errorf("token %d was dealt %d times", id, seen[id])
		}
	}
}

// TestTargets checks that the prompt is not a target and that nothing predicts across documents.
func TestTargets(t *testing.T) {
	var b Batch
	b.add(Document{IDs: []int32{7, 8, 9, 10}, Prompt: 2})
	b.add(Document{IDs: []int32{1, 2}, Prompt: 1})
	if want := []int32{-1, 9, 10, -1, 2, -1}; !reflect.DeepEqual(b.Targets, want) {
		t.Errorf("targets %v, want %v", b.Targets, want)
	}
	if b.Counted() != 3 {
		t.Errorf("%d rows counted, want 3", b.Counted())
	}
}

func TestBadDocuments(t *testing.T) {
	for in, want := range map[string]string{
		"{\"ids\":[1,2],\"prompt\":1}\n{\"ids\":[1,99]}":    "line 2: token 99",
		"{\"ids\":[1,2],\"prompt\":3}":                      "line 1: prompt 3",
		"{\"ids\":[1,2],\"prompt\":1}\n{\"ids\":[1,2],\"pr": "line 2: ",
	} {
		if _, err := parseDocuments(strings.NewReader(in), 50); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", in, err, want)
		}
	}
	if _, err := NewStream(docs(1, 1), 4, 4, 0); err == nil {
		t.Error("documents without a target were accepted")
	}
}
