package autograd

import (
	"math"
	"runtime"
	"sync"

	"krait/kernel"
	"krait/tensor"
)

// Heads is the shape of an attention layer: H query heads of width P share K key-value heads, H/K each (grouped-query attention). A
// positive Window limits a token to the last Window positions. KV is the format of the keys and values of runs without a Cache, so that
// they are read as those of a sequence that goes on would be; it is float32 where a gradient is recorded.
type Heads struct {
	H, K, P, Window int
	KV              kernel.KVFormat
}

// AttendRun is one sequence's rows in a batch: Len rows from row Start on. Cache holds the sequence's earlier keys and values, one KV for
// each key-value head, and takes the new ones; nil is a fresh sequence that nobody continues.
type AttendRun struct {
	Start, Len int
	Cache      []kernel.KV
}

// attendRows is the number of query rows in a block: enough to fill the matrix kernels, few enough that their scores stay in the cache.
const attendRows = 56

// scratchPool keeps the memory for scores between calls.
var scratchPool = sync.Pool{New: func() any { return new([]float32) }}

// Attend is causal softmax attention, softmax(q·kᵀ/√p)·v, within each run: q (rows, H·P), k and v (rows, K·P), result (rows, H·P).
func Attend(t *Tape, q, k, v *tensor.Tensor, h Heads, runs []AttendRun) *tensor.Tensor {
	defer t.Stop(Attention, t.Start())
	recording := t.Recording(q, k, v)
	a := attends.Get().(*attend)
	a.Heads, a.group, a.q, a.k, a.v, a.runs = h, h.H/h.K, q, k, v, runs
	a.y = t.New(q.Rows(), h.H*h.P, q, k, v)
	if !recording {
		y := a.y
		a.forward()
		a.forget()
		return y
	}
	a.KV, a.stats = kernel.KVF32, t.Scratch(2*q.Rows()*h.H)
	for _, r := range runs {
		if r.Cache != nil {
			panic("autograd: Attend with a cache has no gradient")
		}
	}
	a.forward()
	t.Record(Attention, func() { a.backward(t.gradOrScratch(q), t.gradOrScratch(k), t.gradOrScratch(v)) })
	return a.y
}

// attends keeps what inference needs for one layer at a time. One whose gradient is recorded is the tape's.
var attends = sync.Pool{New: func() any {
	a := new(attend)
	a.run = func(i int) { b := &a.blocks[i]; a.block(b.kv, b.run, b.lo, b.kh) }
	a.runPart = func(i int) { a.part(&a.parts[i]) }
	return a
}}

// forget gives a back.
func (a *attend) forget() {
	clear(a.blocks)
	clear(a.parts)
	a.q, a.k, a.v, a.y, a.stats, a.runs = nil, nil, nil, nil, nil, nil
	attends.Put(a)
}

type attend struct {
	Heads
	group      int
	q, k, v, y *tensor.Tensor
	stats      []float32 // (rows, K, group, 2)
	runs       []AttendRun
	blocks     []attendBlock
	run        func(i int) // attends block i
	parts      []attendPart
	partial    []float32   // their results
	runPart    func(i int) // attends part i
}

// attendPart is a block's share of a part of the key positions. Its results begin at partial[at]: y (rows, P), sums (rows, 2).
type attendPart struct {
	attendBlock
	part, at int
}

// attendBlock is the rows of a run from its token lo on, for the query heads of key-value head kh.
type attendBlock struct {
	kv     *kernel.KV
	run    AttendRun
	lo, kh int
}

// forward appends the new keys and values, then attends block by block. Blocks are independent, so they spread over the cores where that pays.
func (a *attend) forward() {
	work := 0
	for _, r := range a.runs {
		past := 0
		if r.Cache != nil {
			past = r.Cache[0].Len
		}
		work += r.Len * (past + r.Len) * a.H * a.P
	}
	if work < 1<<16 { // less than a hand-over to another core costs
		for _, r := range a.runs {
			cache := a.append(r)
			for g := range a.K {
				for lo := 0; lo < r.Len; lo += a.step() {
					a.block(&cache[g], r, lo, g)
				}
			}
		}
		return
	}
	a.blocks = a.blocks[:0]
	for _, r := range a.runs {
		cache := a.append(r)
		for g := range a.K {
			for lo := 0; lo < r.Len; lo += a.step() {
				a.blocks = append(a.blocks, attendBlock{&cache[g], r, lo, g})
			}
		}
	}
	if len(a.blocks) >= blocksPerCore*runtime.GOMAXPROCS(0) || !a.cut() {
		kernel.Parallel(len(a.blocks), a.run)
		return
	}
	kernel.Parallel(len(a.parts), a.runPart)
	a.join()
}

// blocksPerCore is the number of blocks a core from which on they need not be cut for the cores to be busy alike.
const blocksPerCore = 4

// cut makes parts of the blocks and reports whether they are more than the blocks.
func (a *attend) cut() bool {
	size := 0
	a.parts = a.parts[:0]
	for _, b := range a.blocks {
		pos, rows := a.place(&b)
		first, end := kernel.AttendParts(pos, rows, a.group, a.Window)
		for n := first; n < end; n++ {
			a.parts = append(a.parts, attendPart{b, n, size})
			size += rows * (a.P + 2)
		}
	}
	a.partial = kernel.Grow(a.partial, size)
	return len(a.parts) > len(a.blocks)
}

// place returns the position of a block's first token and the number of its query rows.
func (a *attend) place(b *attendBlock) (pos, rows int) {
	return b.kv.Len - b.run.Len + b.lo, min(a.step(), b.run.Len-b.lo) * a.group
}

// part attends a part of a block.
func (a *attend) part(b *attendPart) {
	pos, rows := a.place(&b.attendBlock)
	size := rows * a.P
	buf := scratchPool.Get().(*[]float32)
	s := kernel.Grow(*buf, size+kernel.AttendScratch(rows, b.kv))
	q, y := s[:size], a.partial[b.at:][:size+2*rows]
	a.gather(q, a.q.Data, b.run.Start+b.lo, rows/a.group, b.kh)
	kernel.Scale(q, a.scale(), q)
	kernel.AttendPart(y, y[size:], q, b.kv, pos, rows, a.group, a.Window, b.part, s[size:])
	*buf = s
	scratchPool.Put(buf)
}

// join puts the parts together, in order, as AttendBlock does.
func (a *attend) join() {
	for i := 0; i < len(a.parts); {
		b := &a.parts[i]
		_, rows := a.place(&b.attendBlock)
		size := rows * a.P
		y, sums := a.partial[b.at:][:size], a.partial[b.at+size:][:2*rows]
		for i++; i < len(a.parts) && a.parts[i].kv == b.kv && a.parts[i].lo == b.lo; i++ {
			more := a.partial[a.parts[i].at:][:size+2*rows]
			kernel.AttendFold(y, sums, more, more[size:], rows, a.P)
		}
		kernel.AttendEnd(y, sums, rows, a.P)
		if a.stats != nil {
			copy(a.statsOf(b.run.Start+b.lo, rows/a.group, b.kh), sums)
		}
		a.scatter(y, b.run.Start+b.lo, rows/a.group, b.kh)
	}
}

// scatter puts the results of a block into its rows' columns.
func (a *attend) scatter(y []float32, row, tokens, g int) {
	for i := range tokens {
		copy(a.y.Data[(row+i)*a.H*a.P+g*a.group*a.P:][:a.group*a.P], y[i*a.group*a.P:])
	}
}

// step returns the number of tokens in a block of query rows.
func (a *attend) step() int { return max(1, attendRows/a.group) }

// append adds a run's keys and values to its cache, or to a new one.
func (a *attend) append(r AttendRun) []kernel.KV {
	cache := r.Cache
	if cache == nil {
		cache = make([]kernel.KV, a.K)
	}
	for g := range a.K {
		if cache[g].P = a.P; r.Cache == nil {
			cache[g].Format = a.KV
		}
	}
	kernel.ReserveKV(cache, cache[0].Len+r.Len)
	for g := range a.K {
		o := r.Start*a.K*a.P + g*a.P
		cache[g].Append(a.k.Data[o:], a.K*a.P, a.v.Data[o:], a.K*a.P, r.Len)
	}
	return cache
}

// block attends the rows of run r from its token lo on, one step of them, for the query heads of key-value head g.
func (a *attend) block(kv *kernel.KV, r AttendRun, lo, g int) {
	row, pos, tokens := r.Start+lo, kv.Len-r.Len+lo, min(a.step(), r.Len-lo)
	buf := scratchPool.Get().(*[]float32)
	n := tokens * a.group
	size := n * a.P
	s := kernel.Grow(*buf, 2*size+n*(a.P+4)+kernel.AttendScratch(n, kv))
	q, y := s[:size], s[size:2*size]
	a.gather(q, a.q.Data, row, tokens, g)
	kernel.Scale(q, a.scale(), q)
	var stats []float32
	if a.stats != nil {
		stats = a.statsOf(row, tokens, g)
	}
	kernel.AttendBlock(y, stats, q, kv, pos, n, a.group, a.Window, s[2*size:])
	a.scatter(y, row, tokens, g)
	*buf = s
	scratchPool.Put(buf)
}

func (a *attend) scale() float32 { return float32(1 / math.Sqrt(float64(a.P))) }

// statsOf returns the place of a block's statistics. They are laid out head by head, so that a block's are contiguous.
func (a *attend) statsOf(row, tokens, g int) []float32 {
	return a.stats[2*a.group*(g*a.q.Rows()+row):][:2*a.group*tokens]
}

// gather copies the columns of the query heads of key-value head g: rows (token, head in group).
func (a *attend) gather(dst, src []float32, row, tokens, g int) {
	w := a.group * a.P
	for i := range tokens {
		copy(dst[i*w:][:w], src[(row+i)*a.H*a.P+g*w:])
	}
}

// backward adds the gradients, one task for each run and key-value head, so that no two tasks write to the same place.
func (a *attend) backward(dq, dk, dv []float32) {
	kernel.Parallel(len(a.runs)*a.K, func(i int) { a.headGrad(dq, dk, dv, a.runs[i/a.K], i%a.K) })
}

func (a *attend) headGrad(dq, dk, dv []float32, r AttendRun, g int) {
	p, ldk := a.P, a.K*a.P
	o := r.Start*ldk + g*p
	padded := (r.Len + kernel.PanelWidth - 1) / kernel.PanelWidth * kernel.PanelWidth
	buf := scratchPool.Get().(*[]float32)
	step := a.step()
	n := step * a.group
	s := kernel.Grow(*buf, 5*padded*p+4*n*p+2*n*(padded+kernel.PanelWidth)+2*n*p)
	take := func(m int) []float32 { x := s[:m:m]; s = s[m:]; return x }
	whole := s
	kv := kernel.KV{P: p, K: take(padded * p), V: take(padded * p)}
	kv.Append(a.k.Data[o:], ldk, a.v.Data[o:], ldk, r.Len)
	values := kernel.KV{P: p, K: take(padded * p), V: kv.V} // the values as panels; its own rows are the values again
	values.Append(a.v.Data[o:], ldk, a.v.Data[o:], ldk, r.Len)
	grad := &kernel.AttendGrad{P: p, LD: padded, K: kv.K, VPanels: values.K, DKT: take(padded * p), DVT: take(padded * p)}
	clear(grad.DKT)
	clear(grad.DVT)
	grad.KRows = kv.V // from here on the rows hold the keys: nothing reads the values' rows any more
	for t := range r.Len {
		copy(grad.KRows[t*p:][:p], a.k.Data[o+t*ldk:])
	}
	q, y, dy, dqs := take(n*p), take(n*p), take(n*p), take(n*p)
	for lo := 0; lo < r.Len; lo += step {
		tokens := min(step, r.Len-lo)
		size, row := tokens*a.group*p, r.Start+lo
		a.gather(q, a.q.Data, row, tokens, g)
		kernel.Scale(q[:size], a.scale(), q)
		a.gather(y, a.y.Data, row, tokens, g)
		a.gather(dy, a.y.Grad, row, tokens, g)
		clear(dqs[:size])
		kernel.AttendBlockGrad(dqs, dy, y, a.statsOf(row, tokens, g), q, grad, lo, tokens*a.group, a.group, a.Window, s)
		w := a.group * p
		for i := range tokens {
			kernel.Axpy(dq[(row+i)*a.H*p+g*w:][:w], a.scale(), dqs[i*w:])
		}
	}
	for t := range r.Len {
		for i := range p {
			dk[o+t*ldk+i] += grad.DKT[i*padded+t]
			dv[o+t*ldk+i] += grad.DVT[i*padded+t]
		}
	}
	*buf = whole[:cap(whole)]
	scratchPool.Put(buf)
}
