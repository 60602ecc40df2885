package kernel

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestParallelCallsEachOnce(t *testing.T) {
	for n := range 40 {
		for range 200 {
			calls := make([]int32, n)
			Parallel(n, func(i int) { atomic.AddInt32(&calls[i], 1) })
			for i, c := range calls {
				if c != 1 {
					t.Fatalf("n=%d: chunk %d was called %d times", n, i, c)
				}
			}
		}
	}
}

// Regions of changing length and function follow one another while workers are late: a worker that took the function of one region
// into the next would write to the wrong slice, which the race detector sees as well.
func TestParallelKeepsRegionsApart(t *testing.T) {
	for round := range 3000 {
		n := 1 + round%7
		got := make([]int, n)
		Parallel(n, func(i int) {
			if round%97 == 0 {
				time.Sleep(time.Microsecond)
			}
			got[i] = round + i
		})
		for i, v := range got {
			if v != round+i {
				t.Fatalf("round %d: chunk %d gave %d", round, i, v)
			}
		}
		if round%500 == 0 {
			time.Sleep(time.Millisecond) // lets the workers park
		}
	}
}

func TestParallelFromManyGoroutinesAndNested(t *testing.T) {
	var wg sync.WaitGroup
	var sum atomic.Int64
	for range 8 {
		wg.Go(func() {
			for range 200 {
				Parallel(5, func(int) {
					Parallel(3, func(i int) { sum.Add(int64(i)) })
				})
			}
		})
	}
	wg.Wait()
	if got := sum.Load(); got != 8*200*5*3 {
		t.Fatalf("sum %d, want %d", got, 8*200*5*3)
	}
}

func TestParallelPanics(t *testing.T) {
	for bad := range 8 {
		func() {
			defer func() {
				v := recover()
				if c, ok := v.(*ChunkPanic); ok {
					v = c.Value
				}
				if v != "boom" {
					t.Fatalf("recovered %v, want boom", v)
				}
			}()
			Parallel(8, func(i int) {
				if i == bad {
					panic("boom")
				}
				time.Sleep(20 * time.Microsecond)
			})
		}()
		TestParallelCallsEachOnce(t) // the pool works on after a panic
	}
}

func TestParallelSurvivesGoexit(t *testing.T) {
	done := make(chan bool)
	go func() {
		defer close(done)
		Parallel(64, func(i int) {
			time.Sleep(time.Microsecond)
			if i%2 == 1 {
				runtime.Goexit()
			}
		})
	}()
	<-done
	TestParallelCallsEachOnce(t)
}

func TestParallelSerialOnOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	next := 0
	Parallel(10, func(i int) {
		if i != next {
			t.Fatalf("chunk %d, want %d", i, next)
		}
		next++
	})
}

func TestParallelDoesNotAllocate(t *testing.T) {
	f := func(int) {}
	Parallel(4, f)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 1000 {
		Parallel(4, f)
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > 100 { // testing.AllocsPerRun would run on one processor; others may allocate a little
		t.Fatalf("%d allocations in 1000 calls", n)
	}
}

func BenchmarkParallel(b *testing.B) {
	for _, work := range []time.Duration{0, time.Microsecond, 10 * time.Microsecond, 100 * time.Microsecond} {
		b.Run(work.String(), func(b *testing.B) {
			f := func(int) {
				for start := time.Now(); time.Since(start) < work; {
				}
			}
			for b.Loop() {
				Parallel(2, f)
			}
		})
	}
}
