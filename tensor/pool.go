package tensor

// Pool keeps blocks of memory that are taken and given back in any order. Where it has none that is large enough, a new one takes the place
// of the largest, so that steps of changing sizes hold as many blocks as the one that needed most at a time, not one for every size they
// ever had. A pool is not safe for concurrent use.
type Pool struct{ blocks [][]float32 }

// Take returns the smallest block of at least n elements, at its whole length and with undefined contents.
func (p *Pool) Take(n int) []float32 {
	best, largest := -1, -1
	for i, f := range p.blocks {
		if len(f) >= n && (best < 0 || len(f) < len(p.blocks[best])) {
			best = i
		}
		if largest < 0 || len(f) > len(p.blocks[largest]) {
			largest = i
		}
	}
	var b []float32
	if best >= 0 {
		b = p.blocks[best]
	} else {
		b, best = make([]float32, n), largest
	}
	if best >= 0 {
		last := len(p.blocks) - 1
		p.blocks[best] = p.blocks[last]
		p.blocks[last] = nil
		p.blocks = p.blocks[:last]
	}
	return b
}

// Give returns a block that Take handed out, at its whole length.
func (p *Pool) Give(b []float32) { p.blocks = append(p.blocks, b) }

// Bytes returns the memory of the blocks that are not taken.
func (p *Pool) Bytes() int {
	n := 0
	for _, b := range p.blocks {
		n += 4 * len(b)
	}
	return n
}
