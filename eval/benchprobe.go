package eval

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"krait/kernel"
	"krait/quant"
)

// BenchProbes are the rates of the machine, measured in the same seconds as the rows: medians over all of them.
type BenchProbes struct {
	ReadGBPerSecond     float64  `json:"read_gb_per_second"`         // memory, read by all threads, from a buffer larger than every cache
	WeightsReadGBPerSec float64  `json:"read_weights_gb_per_second"` // the same from a buffer as large as the weights: more where a cache holds them
	FMAGFlops           float64  `json:"fma_gflops"`                 // float32 multiply-adds, all threads together
	FMAOneCoreGFlops    float64  `json:"fma_one_core_gflops"`        //
	BF16GFlops          float64  `json:"bf16_gflops,omitempty"`      // products of bf16, all threads together
	Dot8GOps            float64  `json:"dot8_gops,omitempty"`        // products of 8-bit weights and activations, two operations each; a weight of q8 and a row take two
	Dot4GOps            float64  `json:"dot4_gops,omitempty"`        // the same with nibbles for weights
	ProcessorShare      float64  `json:"processor_share,omitempty"`  // of the threads' time that this program got while it asked for all: below 1, others were busy too
	Absent              []string `json:"absent"`                     // rates that the level in use has no instructions for
	LastLevelCacheBytes int      `json:"last_level_cache_bytes,omitempty"`
}

// rates is one moment's probes, in units a second. A rate that the level in use has no instructions for is 0.
type rates struct{ read, weightsRead, fma, fmaOne, bf16, dot8, dot4, share float64 }

// operations is how many there are with weights of each format.
type operations [quant.Q4 + 1]float64

// times returns those of n rows, of which o is one's.
func (o operations) times(n float64) operations {
	for f := range o {
		o[f] *= n
	}
	return o
}

// of returns the rate of operations with weights of a format. Weights of bf16 can be widened to float32 where that is faster.
func (r rates) of(f quant.Format) float64 {
	return [...]float64{quant.F32: r.fma, quant.BF16: max(r.bf16, r.fma), quant.Q8: r.dot8, quant.Q4: r.dot4}[f]
}

// limit returns the least seconds of work that reads bytes and makes operations: architecture's limit(n).
func (r rates) limit(bytes float64, ops operations) float64 {
	seconds := 0.0
	for f, n := range ops {
		if rate := r.of(quant.Format(f)); rate > 0 {
			seconds += n / rate
		}
	}
	return max(bytes/max(r.read, r.weightsRead), seconds)
}

// between returns the mean of two moments.
func (r rates) between(s rates) rates {
	return rates{(r.read + s.read) / 2, (r.weightsRead + s.weightsRead) / 2, (r.fma + s.fma) / 2, (r.fmaOne + s.fmaOne) / 2,
		(r.bf16 + s.bf16) / 2, (r.dot8 + s.dot8) / 2, (r.dot4 + s.dot4) / 2, (r.share + s.share) / 2}
}

// How long a probe looks.
const (
	fmaProbe    = 15 * time.Millisecond
	readProbe   = 40 * time.Millisecond
	readBlock   = 1 << 16  // floats that a thread reads at a time
	usualCache  = 32 << 20 // where the system does not tell
	readRepeats = 256      // passes at most over a small buffer
)

// prober measures the machine. buffer is as large as the weights where a cache may hold them, and otherwise nil.
type prober struct {
	reader  *kernel.Reader
	memory  kernel.Memory
	buffer  []float32
	partial []float32
	cache   int
	moments []rates
}

// newProber returns a prober for a model whose weights take the given bytes.
func newProber(weightBytes int) *prober {
	p := &prober{reader: kernel.NewReader(), cache: lastLevelCache()}
	if weightBytes < max(p.cache, usualCache) {
		blocks := max(1, weightBytes/4/readBlock)
		mem := p.memory.Bytes(4 * blocks * readBlock)
		p.buffer, p.partial = unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(mem))), blocks*readBlock), make([]float32, blocks)
		for i := range p.buffer {
			p.buffer[i] = 1
		}
	}
	return p
}

// measure takes the machine's rates now and remembers them.
func (p *prober) measure() rates {
	r := rates{read: p.reader.GBPerSecond(readProbe) * 1e9, fmaOne: kernel.FMAPeak(fmaProbe) * 1e9}
	start, used := time.Now(), processorTime()
	r.fma = allCores(kernel.FMAPeak)
	r.share = min(1, (processorTime()-used).Seconds()/time.Since(start).Seconds()/float64(runtime.GOMAXPROCS(0)))
	r.bf16 = allCores(kernel.BF16Peak)
	r.dot8 = allCores(func(d time.Duration) float64 { return kernel.DotPeak(kernel.Q8, d) })
	r.dot4 = allCores(func(d time.Duration) float64 { return kernel.DotPeak(kernel.Q4, d) })
	r.weightsRead = r.read
	if p.buffer != nil {
		p.read(1) // what a cache can hold is there afterwards
		r.weightsRead = p.read(min(readRepeats, 1+(1<<27)/len(p.buffer)))
	}
	p.moments = append(p.moments, r)
	return r
}

// read returns the bytes a second at which all threads together read the buffer, passes times.
func (p *prober) read(passes int) float64 {
	f := func(i int) { // two streams: a little faster than one
		b := p.buffer[i*readBlock:][:readBlock]
		p.partial[i] += kernel.Dot(b[:readBlock/2], b[readBlock/2:])
	}
	start := time.Now()
	for range passes {
		kernel.Parallel(len(p.partial), f)
	}
	return float64(passes) * 4 * float64(len(p.buffer)) / time.Since(start).Seconds()
}

// allCores returns the operations a second of all threads together that peak tells of one, in 10⁹.
func allCores(peak func(d time.Duration) float64) float64 {
	var wg sync.WaitGroup
	peaks := make([]float64, runtime.GOMAXPROCS(0))
	for i := range peaks {
		wg.Go(func() { peaks[i] = peak(fmaProbe) })
	}
	wg.Wait()
	sum := 0.0
	for _, x := range peaks {
		sum += x * 1e9
	}
	return sum
}

// probes returns the medians of all moments.
func (p *prober) probes() BenchProbes {
	pick := func(f func(rates) float64) float64 {
		var list []float64
		for _, m := range p.moments {
			list = append(list, f(m)/1e9)
		}
		return median(list)
	}
	x := BenchProbes{
		ReadGBPerSecond: pick(func(r rates) float64 { return r.read }), WeightsReadGBPerSec: pick(func(r rates) float64 { return r.weightsRead }),
		ProcessorShare: pick(func(r rates) float64 { return r.share * 1e9 }),
		FMAGFlops:      pick(func(r rates) float64 { return r.fma }), FMAOneCoreGFlops: pick(func(r rates) float64 { return r.fmaOne }),
		BF16GFlops: pick(func(r rates) float64 { return r.bf16 }), Dot8GOps: pick(func(r rates) float64 { return r.dot8 }), Dot4GOps: pick(func(r rates) float64 { return r.dot4 }),
		Absent: []string{}, LastLevelCacheBytes: p.cache,
	}
	for name, rate := range map[string]float64{"fma_gflops": x.FMAGFlops, "bf16_gflops": x.BF16GFlops, "dot8_gops": x.Dot8GOps, "dot4_gops": x.Dot4GOps} {
		if rate == 0 {
			x.Absent = append(x.Absent, name)
		}
	}
	slices.Sort(x.Absent)
	return x
}

// lastLevelCache returns the bytes of the largest cache that the system tells of, or 0.
func lastLevelCache() int {
	for _, index := range []string{"index3", "index2"} {
		text, err := os.ReadFile("/sys/devices/system/cpu/cpu0/cache/" + index + "/size")
		if err != nil {
			continue
		}
		if n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(string(text)), "K")); err == nil {
			return n << 10
		}
	}
	return 0
}

// freeMemory returns the bytes that the system says can be had, or 0 where it does not say.
func freeMemory() int {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err == nil {
				return n << 10
			}
		}
	}
	return 0
}
