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
	reader := NewReader()
	const total = 512 << 20
	memory := new(Memory)
	bytes := memory.Bytes(total)
	rng := rand.New(rand.NewPCG(1, 1))
	w := randoms(rng, 8192*2048)
	rowsOf := []int{1, 2, 4, 8, 16}
	onLevelsBench(b, func(b *testing.B) {
		for _, s := range [][2]int{{8192, 2048}, {2048, 8192}} {
			for _, f := range narrowFormats {
				n, k := s[0], s[1]
				size := QuantSize(f, n, k)
				x, y := make([]float32, 16*k), make([]float32, 16*n)
				for i := range x {
					x[i] = float32(i%17) - 8
				}
				p := Quantize(f, w, n, k, nil)
				for i := 0; i+size <= total; i += size {
					copy(bytes[i:], p.Data)
				}
				at := 0
				times := make([][]time.Duration, len(rowsOf))
				b.Run(fmt.Sprintf("%v/%dx%d", f, n, k), func(b *testing.B) {
					var reads []float64
					for i := range times {
						times[i] = nil
					}
					for pass := 0; b.Loop(); pass++ {
						for i, rows := range rowsOf {
							if at+size > total {
								at = 0
							}
							p.Data = bytes[at:][:size]
							at += size
							start := time.Now()
							p.Mul(y, n, x, k, rows)
							times[i] = append(times[i], time.Since(start))
						}
						if pass%8 == 0 {
							reads = append(reads, reader.GBPerSecond(0))
						}
					}
					p10 := func(d []time.Duration) float64 {
						slices.Sort(d)
						return float64(d[len(d)/10].Nanoseconds())
					}
					slices.Sort(reads)
					one, read := p10(times[0]), reads[len(reads)*9/10]
					b.ReportMetric(float64(size)/one, "GB/s")
					b.ReportMetric(read, "read-GB/s")
					b.ReportMetric(100*float64(size)/one/read, "%read")
					for i, rows := range rowsOf[1:] {
						b.ReportMetric(p10(times[i+1])/one, fmt.Sprintf("T%d/T1", rows))
					}
				})
			}
		}
	})
	runtime.KeepAlive(memory)
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

// BenchmarkNarrowInCache runs the panel kernels on weights in L2, on one core.
func BenchmarkNarrowInCache(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	procs := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(procs)
	onLevelsBench(b, func(b *testing.B) {
		const n, k = 256, 1024
		w, x, y := randoms(rng, n*k), randoms(rng, 8*k), make([]float32, 8*n)
		for _, f := range narrowFormats {
			p := Quantize(f, w, n, k, new(Memory))
			for _, rows := range []int{1, 2, 4, 8} {
				b.Run(fmt.Sprintf("%v/rows=%d", f, rows), func(b *testing.B) {
					for b.Loop() {
						p.Mul(y, n, x, k, rows)
					}
					reportRate(b, 2*float64(rows*n*k), 1)
				})
			}
		}
	})
}
