package data

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
)

// Store holds groups of sequences in a file, so that they need no memory but 12 bytes a group. It is a GroupSource when Flush has been called. The file
// has no name where the system allows that, and goes away with the program.
type Store struct {
	f      *os.File
	w      *bufio.Writer
	starts []int64 // where each group begins, and behind the last its end
	sizes  []int32 // tokens of each group
	buf    []byte
}

// NewStore returns an empty store whose file lies in dir.
func NewStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".krait-tokens-*")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name()) // some systems keep the name of an open file; Close removes it there
	return &Store{f: f, w: bufio.NewWriterSize(f, 1<<20), starts: []int64{0}}, nil
}

// Close drops the groups.
func (s *Store) Close() error {
	err := s.f.Close()
	_ = os.Remove(s.f.Name())
	return err
}

// Add appends a group.
func (s *Store) Add(group ...Sequence) error {
	b := binary.AppendUvarint(s.buf[:0], uint64(len(group)))
	size := 0
	for _, q := range group {
		b = binary.AppendUvarint(b, uint64(len(q.IDs)))
		size += len(q.IDs)
		for i, id := range q.IDs {
			v := uint64(id) << 1
			if q.Learn[i] {
				v |= 1
			}
			b = binary.AppendUvarint(b, v)
		}
	}
	s.buf = b
	s.starts = append(s.starts, s.starts[len(s.starts)-1]+int64(len(b)))
	s.sizes = append(s.sizes, int32(size))
	_, err := s.w.Write(b)
	return err
}

// Flush makes what was added readable.
func (s *Store) Flush() error { return s.w.Flush() }

// Len returns the number of groups.
func (s *Store) Len() int { return len(s.sizes) }

// Size returns the tokens of group i.
func (s *Store) Size(i int) int { return int(s.sizes[i]) }

// Group reads group i. It panics where its own file can no longer be read.
func (s *Store) Group(i int) []Sequence {
	b := make([]byte, s.starts[i+1]-s.starts[i])
	if _, err := s.f.ReadAt(b, s.starts[i]); err != nil {
		panic(fmt.Sprintf("data: the tokens of group %d cannot be read: %v", i, err))
	}
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		b = b[n:]
		return v
	}
	group := make([]Sequence, next())
	for g := range group {
		n := next()
		q := Sequence{IDs: make([]int32, n), Learn: make([]bool, n)}
		for i := range q.IDs {
			v := next()
			q.IDs[i], q.Learn[i] = int32(v>>1), v&1 != 0
		}
		group[g] = q
	}
	return group
}

// Part is the groups of a source from one number to before another.
type Part struct {
	GroupSource
	From, To int
}

// Len returns the number of groups.
func (p Part) Len() int { return p.To - p.From }

// Size returns the tokens of group i of the part.
func (p Part) Size(i int) int { return p.GroupSource.Size(p.From + i) }

// Group returns group i of the part.
func (p Part) Group(i int) []Sequence { return p.GroupSource.Group(p.From + i) }

// InMemory returns groups in memory as a source.
func InMemory(groups [][]Sequence) GroupSource { return memory(groups) }
