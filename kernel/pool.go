package kernel

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Parallel calls f(i) for every i in [0,n), on all cores, and returns when all calls have returned. Calls must write to separate
// places; which goroutine makes which call is not defined. Only one region is spread over the cores at a time: a call from inside
// a chunk, or while another goroutine's region runs, makes its own calls itself, in order. A panic in f stops the region and goes on
// in the caller, as a *ChunkPanic if it began on another goroutine.
func Parallel(n int, f func(i int)) {
	if n <= 1 || runtime.GOMAXPROCS(0) == 1 || !workers.busy.CompareAndSwap(false, true) {
		for i := range n {
			f(i)
		}
		return
	}
	workers.run(n, f)
}

// ChunkPanic carries a panic of a chunk from the worker goroutine it began on to the caller of Parallel.
type ChunkPanic struct {
	Value any
	Stack []byte
}

// Error is the value of the panic and the stack of the chunk.
func (p *ChunkPanic) Error() string {
	return fmt.Sprintf("%v, in a parallel chunk:\n%s", p.Value, p.Stack)
}

// pool is a fork-join pool in which the caller never waits for a worker that has not claimed a chunk, so a worker that the
// operating system runs late, or not at all, costs nothing. Chunks are claimed by compare-and-swap on one word.
//
// Whoever claims loads state, then f, then swaps state. f and pending are replaced only between regions, that is after every chunk of
// the last region was claimed; a swap that succeeds proves that state, with its sequence number, has not changed since it was
// loaded, hence that f belongs to it.
type pool struct {
	state   atomic.Uint64 // sequence number << 32 | chunks not claimed
	_       [56]byte
	pending atomic.Int32 // chunks not finished
	_       [60]byte
	n       atomic.Int32
	f       unsafe.Pointer // the running region's func(int), itself a pointer; accessed atomically
	panic   atomic.Pointer[ChunkPanic]
	_       [40]byte
	busy    atomic.Bool // a region is running
	seq     uint32      // owned by the holder of busy, as is started
	started int
	skipped int          // regions since the last wake-up
	missed  atomic.Int32 // wake-ups in a row that came to nothing
	mu      sync.Mutex
	wake    sync.Cond
	parked  atomic.Int32
}

var workers pool

func init() { workers.wake.L = &workers.mu }

// A worker spins about 100 µs before it parks: waking a parked goroutine costs more than most regions, and the regions of a decoding
// step follow one another within microseconds. It counts rounds of looks, not time, so that being descheduled does not count; after a
// round it lets other goroutines run.
const (
	spinRounds = 30
	spinLooks  = 4096
)

// run spreads one region over the cores; the caller holds busy.
func (p *pool) run(n int, f func(int)) {
	for ; p.started < runtime.GOMAXPROCS(0)-1; p.started++ {
		go p.worker()
	}
	atomic.StorePointer(&p.f, *(*unsafe.Pointer)(unsafe.Pointer(&f))) // &f would allocate
	p.n.Store(int32(n))
	p.pending.Store(int32(n))
	p.seq++
	p.state.Store(uint64(p.seq)<<32 | uint64(n))
	p.wakeWorkers()
	unfinished := 0 // calls the caller has begun and not finished: 1 when f panics or exits the goroutine
	defer func() { p.finish(unfinished) }()
	for {
		i, _, ok := p.claim()
		if !ok {
			break
		}
		unfinished = 1
		f(i)
		unfinished = 0
		p.pending.Add(-1)
	}
}

// wakeWorkers wakes workers that are parked. On a busy machine the operating system may run a woken worker on the caller's own core,
// where it only takes the caller's time; so each wake-up that came to nothing doubles the number of regions to the next, up to 32.
func (p *pool) wakeWorkers() {
	if p.parked.Load() == 0 {
		return
	}
	if p.skipped++; p.skipped < 1<<min(p.missed.Load(), 5) {
		return
	}
	p.skipped = 0
	p.mu.Lock() // a worker between its last look at state and its wait holds mu
	p.wake.Broadcast()
	p.mu.Unlock()
}

// claim takes the next chunk of the running region, if one is left.
func (p *pool) claim() (int, func(int), bool) {
	for {
		s := p.state.Load()
		if uint32(s) == 0 {
			return 0, nil, false
		}
		f, n := atomic.LoadPointer(&p.f), int(p.n.Load())
		if p.state.CompareAndSwap(s, s-1) {
			return n - int(uint32(s)), *(*func(int))(unsafe.Pointer(&f)), true
		}
	}
}

// cancel claims all chunks that are left and drops them.
func (p *pool) cancel() {
	for {
		s := p.state.Load()
		if uint32(s) == 0 {
			return
		}
		if p.state.CompareAndSwap(s, s&^0xffffffff) {
			p.pending.Add(-int32(uint32(s)))
			return
		}
	}
}

// finish waits for the chunks that workers have claimed and opens the pool for the next region.
func (p *pool) finish(unfinished int) {
	if unfinished > 0 {
		p.cancel()
		p.pending.Add(-1)
	}
	for i := 1; p.pending.Load() != 0; i++ {
		if i%spinLooks == 0 {
			runtime.Gosched()
		}
	}
	failed := p.panic.Swap(nil)
	atomic.StorePointer(&p.f, nil)
	p.busy.Store(false)
	if failed != nil && unfinished == 0 {
		panic(failed)
	}
}

func (p *pool) worker() {
	defer func() { go p.worker() }() // reached only when f ends this goroutine with runtime.Goexit
	useful := true                   // whether the worker has run a chunk since it was woken
	for {
		if p.drain() {
			p.missed.Store(0)
			useful = true
		}
		if !p.spin() {
			if !useful {
				p.missed.Add(1)
			}
			p.park()
			useful = false
		}
	}
}

// drain runs chunks until none is left to claim and reports whether it ran any.
func (p *pool) drain() (ran bool) {
	unfinished := false
	defer func() {
		if !unfinished {
			return
		}
		if v := recover(); v != nil {
			p.panic.CompareAndSwap(nil, &ChunkPanic{v, debug.Stack()})
			p.cancel()
		}
		p.pending.Add(-1)
	}()
	for {
		i, f, ok := p.claim()
		if !ok {
			return ran
		}
		ran, unfinished = true, true
		f(i)
		unfinished = false
		p.pending.Add(-1)
	}
}

// spin waits for a region for a while and reports whether it saw one.
func (p *pool) spin() bool {
	for range spinRounds {
		for range spinLooks {
			if uint32(p.state.Load()) != 0 {
				return true
			}
		}
		runtime.Gosched()
	}
	return false
}

// park waits to be woken by a region. The worker spins afterwards even if it came too late for that one: another is likely to follow.
func (p *pool) park() {
	p.mu.Lock()
	p.parked.Add(1)
	if uint32(p.state.Load()) == 0 {
		p.wake.Wait()
	}
	p.parked.Add(-1)
	p.mu.Unlock()
}
