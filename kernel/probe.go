package kernel

import (
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

const (
	probeBytes = 512 << 20 // more than caches hold
	probePass  = 64 << 20  // read in one measurement
	probeChunk = 1 << 20
)

// probeSum keeps the portable reads from being optimised away.
var probeSum atomic.Uint32

func streamPortable(p []byte) {
	var sum byte
	for i := 0; i < len(p); i += cacheLine {
		sum += p[i]
	}
	probeSum.Add(uint32(sum))
}

// ReadProbe returns the GB/s at which all cores together read memory that no cache holds, in huge pages where the system has them: the
// median over passes of 64 MiB, repeated for about d. It is the limit of every product whose weights are read once.
func ReadProbe(d time.Duration) float64 {
	return NewReader().GBPerSecond(d)
}

// Reader measures reading. It holds half a gibibyte, so that probes between other measurements need not get it anew.
type Reader struct {
	memory *Memory
	data   []byte
	at     int
}

// NewReader returns a Reader whose memory has been touched.
func NewReader() *Reader {
	r := &Reader{memory: new(Memory)}
	r.data = r.memory.Bytes(probeBytes)
	Parallel(probeBytes/probeChunk, func(i int) {
		for o := range probeChunk / 4096 {
			r.data[i*probeChunk+o*4096] = byte(o)
		}
	})
	return r
}

// GBPerSecond is ReadProbe on the memory of r.
func (r *Reader) GBPerSecond(d time.Duration) float64 {
	var rates []float64
	for end := time.Now().Add(d); len(rates) == 0 || time.Now().Before(end); {
		pass := r.data[r.at:][:probePass]
		r.at = (r.at + probePass) % probeBytes
		start := time.Now()
		Parallel(probePass/probeChunk, func(i int) { active.stream(pass[i*probeChunk:][:probeChunk]) })
		rates = append(rates, probePass/float64(time.Since(start).Nanoseconds()))
	}
	slices.Sort(rates)
	runtime.KeepAlive(r)
	return rates[len(rates)/2]
}

// dotPeak runs turns of ops operations with integers on registers alone.
type dotPeak struct {
	run func(turns int)
	ops float64
}

// DotPeak returns the Gop/s, two for each product and its sum, that this core reaches with the integers of Q8 or Q4 weights by the sequence of
// instructions of the level in use, all exact: the limit of their products, of which a weight and a row take Digits. It is 0 for the
// portable level, and for BF16.
func DotPeak(f PanelFormat, d time.Duration) float64 {
	p := active.peakDot[f]
	return peakRate(p.run, p.ops, d)
}
