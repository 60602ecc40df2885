package tensor

// arenaChunk is the size of an arena's block in elements (4 MiB): large enough that few are needed, small enough to waste little.
const arenaChunk = 1 << 20

// Arena hands out slices that all end together at Reset. It keeps its memory, so a loop of equal steps allocates only in the first.
// An arena is not safe for concurrent use.
type Arena struct {
	chunks [][]float32
	chunk  int // chunks[chunk] is being filled
	used   int // elements used in it
	heads  []Tensor
	shapes []int
	nHeads int
}

// Raw returns n elements with undefined contents.
func (a *Arena) Raw(n int) []float32 {
	for a.chunk < len(a.chunks) && a.used+n > len(a.chunks[a.chunk]) {
		a.chunk++
		a.used = 0
	}
	if a.chunk == len(a.chunks) {
		a.chunks = append(a.chunks, make([]float32, max(n, arenaChunk)))
		a.used = 0
	}
	s := a.chunks[a.chunk][a.used:][:n:n]
	a.used += (n + 15) &^ 15 // keep 64-byte alignment
	if a.used > len(a.chunks[a.chunk]) {
		a.used = len(a.chunks[a.chunk])
	}
	return s
}

// Zero returns n zero elements.
func (a *Arena) Zero(n int) []float32 {
	s := a.Raw(n)
	clear(s)
	return s
}

// Tensor returns a matrix (rows, cols) with undefined contents and no gradient.
func (a *Arena) Tensor(rows, cols int) *Tensor {
	if a.nHeads == len(a.heads) {
		a.heads = make([]Tensor, max(256, 2*len(a.heads)))
		a.shapes = make([]int, 2*len(a.heads))
		a.nHeads = 0
	}
	i := a.nHeads
	a.nHeads++
	shape := a.shapes[2*i : 2*i+2 : 2*i+2]
	shape[0], shape[1] = rows, cols
	a.heads[i] = Tensor{Shape: shape, Data: a.Raw(rows * cols)}
	return &a.heads[i]
}

// Place is a point in the life of an arena, to go back to.
type Place struct{ chunk, used, nHeads int }

// Place returns where the arena stands.
func (a *Arena) Place() Place { return Place{a.chunk, a.used, a.nHeads} }

// Release takes back everything that was handed out since the arena stood at p.
func (a *Arena) Release(p Place) { a.chunk, a.used, a.nHeads = p.chunk, p.used, p.nHeads }

// Reset takes back everything that was handed out.
func (a *Arena) Reset() { a.chunk, a.used, a.nHeads = 0, 0, 0 }

// Bytes returns the memory that the arena holds.
func (a *Arena) Bytes() int {
	n := 0
	for _, c := range a.chunks {
		n += 4 * len(c)
	}
	return n
}
