package kernel

import (
	"testing"
	"time"
)

// TestDotPeak holds the products of panels that L1 holds, on one core, against the peaks: no product is faster than its limit.
func TestDotPeak(t *testing.T) {
	level := active
	defer func() { active = level }()
	for _, l := range levels {
		active = l
		for _, f := range []PanelFormat{Q8, Q4} {
			const k = 512
			pass := active.narrow[f].many
			rows, width := pass.rows, 16*pass.panels
			p := Quantize(f, make([]float32, width*k), width, k, nil)
			ldx := f.activationBytes(k)
			y, x := make([]float32, rows*width), make([]byte, rows*ldx)
			best := time.Hour
			for start := time.Now(); time.Since(start) < 20*time.Millisecond; {
				at := time.Now()
				for range 20 {
					pass.panel(y, width, p.Data, len(p.Data)-QuantSize(f, 16, k), x, ldx, rows, k, nextWeights{})
				}
				best = min(best, time.Since(at)/20)
			}
			rate := 2 * float64(rows*width) * k / float64(best.Nanoseconds())
			peak := 0.0
			for range 3 {
				peak = max(peak, DotPeak(f, 10*time.Millisecond)) // a neighbour may disturb one
			}
			t.Logf("%s %s: %.0f of %.0f Gop/s, %.0f %%", l.name, f, rate, peak, 100*rate/peak)
			if (peak == 0) != (l == levels[0]) || peak > 0 && rate > 1.1*peak {
				t.Errorf("%s %s: %.0f Gop/s, peak %.0f", l.name, f, rate, peak)
			}
		}
		if DotPeak(BF16, time.Millisecond) != 0 {
			t.Error("bf16 has no products of integers")
		}
	}
}
