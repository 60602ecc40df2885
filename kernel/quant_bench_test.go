package kernel

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
)

// BenchmarkVerify streams weights from memory through products of 1, 2, 4, 8 and 16 rows in turn, and reports the GB/s of one row as a share
// of what reading reaches in the same seconds, and T(n)/T(1), from the tenth percentiles of the times.
func BenchmarkVerify(b *testing.B) {
	v := verifier{reader: NewReader(), memory: new(Memory), w: randoms(rand.New(rand.NewPCG(1, 1)), 8192*2048)}
	v.bytes = v.memory.Bytes(512 << 20)
	onLevelsBench(b, func(b *testing.B) {
		for _, s := range [][2]int{{8192, 2048}, {2048, 8192}} {
			for _, f := range narrowFormats {
				b.Run(fmt.Sprintf("%v/%dx%d", f, s[0], s[1]), func(b *testing.B) { v.run(b, f, s[0], s[1]) })
			}
		}
	})
	runtime.KeepAlive(v.memory)
}

// verifier holds more weights than caches do.
type verifier struct {
	reader *Reader
	memory *Memory
	bytes  []byte
	w      []float32
	at     int
}

func (v *verifier) run(b *testing.B, f PanelFormat, n, k int) {
	p := Quantize(f, v.w, n, k, nil)
	size := len(p.Data)
	v.fill(p)
	x, y := v.w[:16*k], make([]float32, 16*n)
	rowsOf := []int{1, 2, 4, 8, 16}
	times := make([][]float64, len(rowsOf))
	var reads []float64
	for pass := 0; b.Loop(); pass++ {
		for i, rows := range rowsOf {
			if v.at += size; v.at+size > len(v.bytes) {
				v.at = 0
			}
			p.Data = v.bytes[v.at:][:size]
			start := time.Now()
			p.Mul(y, n, x, k, rows)
			times[i] = append(times[i], float64(time.Since(start).Nanoseconds()))
		}
		if pass%8 == 0 {
			reads = append(reads, v.reader.GBPerSecond(0))
		}
	}
	quantile := func(x []float64, q float64) float64 {
		slices.Sort(x)
		return x[int(q*float64(len(x)-1))]
	}
	one, read := quantile(times[0], 0.1), quantile(reads, 0.9)
	b.ReportMetric(float64(size)/one, "GB/s")
	b.ReportMetric(read, "read-GB/s")
	b.ReportMetric(100*float64(size)/one/read, "%read")
	for i, rows := range rowsOf[1:] {
		b.ReportMetric(quantile(times[i+1], 0.1)/one, fmt.Sprintf("T%d/T1", rows))
	}
}

// BenchmarkNarrowPrefill multiplies 512 rows.
func BenchmarkNarrowPrefill(b *testing.B) {
	onLevelsBench(b, func(b *testing.B) {
		const rows, n, k = 512, 8192, 2048
		w, x, y := make([]float32, n*k), make([]float32, rows*k), make([]float32, rows*n)
		for i := range w {
			w[i] = float32(i%31) - 15
		}
		for i := range x {
			x[i] = float32(i%17) - 8
		}
		f32 := PackPanels(w, n, k)
		b.Run("f32", func(b *testing.B) {
			for b.Loop() {
				f32.Mul(y, n, x, k, rows)
			}
			reportRate(b, 2*float64(rows*n*k), 2)
		})
		for _, f := range narrowFormats {
			p := Quantize(f, w, n, k, new(Memory))
			b.Run(f.String(), func(b *testing.B) {
				for b.Loop() {
					p.Mul(y, n, x, k, rows)
				}
				reportRate(b, 2*float64(rows*n*k), 2)
			})
		}
	})
}

// BenchmarkNarrowShapes multiplies, on one core, matrices that no cache holds with the numbers of rows of decoding, verification, batches and
// prefill, at the shapes of models. It reports the fastest pass, which is the one that other programs disturbed least.
func BenchmarkNarrowShapes(b *testing.B) {
	procs := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(procs)
	v := verifier{memory: new(Memory), w: randoms(rand.New(rand.NewPCG(1, 1)), 49152*576)}
	v.bytes = v.memory.Bytes(256 << 20)
	onLevelsBench(b, func(b *testing.B) {
		for _, f := range narrowFormats {
			for _, s := range [][2]int{{576, 576}, {1536, 576}, {576, 1536}, {49152, 576}, {2048, 2048}, {8192, 2048}} {
				v.fill(Quantize(f, v.w[:s[0]*s[1]], s[0], s[1], nil))
				for _, rows := range []int{1, 2, 4, 8, 16, 32, 512} {
					b.Run(fmt.Sprintf("%v/%dx%d/rows=%d", f, s[0], s[1], rows), func(b *testing.B) { v.fastest(b, f, s[0], s[1], rows) })
				}
			}
		}
	})
	runtime.KeepAlive(v.memory)
}

// fill copies p over and over.
func (v *verifier) fill(p *QuantPanels) {
	for i := 0; i+len(p.Data) <= len(v.bytes); i += len(p.Data) {
		copy(v.bytes[i:], p.Data)
	}
}

func (v *verifier) fastest(b *testing.B, f PanelFormat, n, k, rows int) {
	p := &QuantPanels{Format: f, N: n, K: k}
	size := QuantSize(f, n, k)
	x, y := v.w[:rows*k], make([]float32, rows*n)
	best := time.Hour
	for b.Loop() {
		if v.at += size; v.at+size > len(v.bytes) {
			v.at = 0
		}
		p.Data = v.bytes[v.at:][:size]
		start := time.Now()
		p.Mul(y, n, x, k, rows)
		best = min(best, time.Since(start))
	}
	ns := float64(best.Nanoseconds())
	b.ReportMetric(float64(size)/ns, "GB/s")
	b.ReportMetric(2*float64(rows*n)*float64(k)/ns, "Gop/s")
}
