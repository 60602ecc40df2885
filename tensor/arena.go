package tensor

// arenaChunk is the size of an arena's block in elements (4 MiB): large enough that few are needed, small enough to waste little.
const arenaChunk = 1 << 20

// Arena hands out slices that all end together at Reset. It keeps its memory, so a loop of equal steps allocates only in the first.
// An arena is not safe for concurrent use.
type Arena struct {
	chunks [][]float32
	chunk  int         // chunks[chunk] is being filled
	used   int         // elements used in it
	free   Pool        // blocks of their own, for slices that would waste a chunk
	taken  [][]float32 // those handed out, in the order of their taking
	heads  []Tensor
	shapes []int
	nHeads int
}

// Raw returns n elements with undefined contents.
func (a *Arena) Raw(n int) []float32 {
	if n > arenaChunk/4 {
		return a.block(n)
	}
	if a.chunk < len(a.chunks) && a.used+n > arenaChunk {
		a.chunk++
		a.used = 0
	}
	if a.chunk == len(a.chunks) {
		a.chunks = append(a.chunks, make([]float32, arenaChunk))
		a.used = 0
	}
	s := a.chunks[a.chunk][a.used:][:n:n]
	a.used = min(a.used+(n+15)&^15, arenaChunk) // keep 64-byte alignment
	return s
}

// block returns n elements of a block of their own.
func (a *Arena) block(n int) []float32 {
	b := a.free.Take(n)
	a.taken = append(a.taken, b)
	return b[:n:n]
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
type Place struct{ chunk, used, taken, nHeads int }

// Place returns where the arena stands.
func (a *Arena) Place() Place { return Place{a.chunk, a.used, len(a.taken), a.nHeads} }

// Release takes back everything that was handed out since the arena stood at p.
func (a *Arena) Release(p Place) {
	for _, b := range a.taken[p.taken:] {
		a.free.Give(b)
	}
	clear(a.taken[p.taken:])
	a.chunk, a.used, a.taken, a.nHeads = p.chunk, p.used, a.taken[:p.taken], p.nHeads
}

// Reset takes back everything that was handed out.
func (a *Arena) Reset() { a.Release(Place{}) }

// Bytes returns the memory that the arena holds.
func (a *Arena) Bytes() int {
	n := 0
	for _, list := range [][][]float32{a.chunks, a.free.blocks, a.taken} {
		for _, b := range list {
			n += 4 * len(b)
		}
	}
	return n
}
