package optim

import (
	"math"
	"testing"
)

// TestSchedules compares rates with those of transformers 5.24's get_scheduler (peak 1, 10 steps of warm-up, 100 in all), of which the step
// counts from the update before: its step n+1 within the warm-up is ours n.
func TestSchedules(t *testing.T) {
	for _, c := range []struct {
		s    Schedule
		step int
		want float64
	}{
		{Schedule{Name: "cosine"}, 0, 0.1},
		{Schedule{Name: "cosine"}, 9, 1},
		{Schedule{Name: "cosine"}, 10, 1},
		{Schedule{Name: "cosine"}, 40, 0.75},
		{Schedule{Name: "cosine"}, 55, 0.5},
		{Schedule{Name: "cosine", Floor: 0.1}, 55, 0.55},
		{Schedule{Name: "linear"}, 55, 0.5},
		{Schedule{Name: "linear", Floor: 0.2}, 99, 0.2 + 0.8/90},
		{Schedule{Name: "constant"}, 99, 1},
		{Schedule{Name: "wsd", Decay: 0.2}, 79, 1},
		{Schedule{Name: "wsd", Decay: 0.2}, 90, 0.5},
		{Schedule{Name: "wsd", Decay: 0.2}, 99, 0.05},
	} {
		c.s.Peak, c.s.Warmup, c.s.Total = 1, 10, 100
		if got := c.s.Rate(c.step); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s, step %d: %g, want %g", c.s.Name, c.step, got, c.want)
		}
	}
	for name, want := range map[string]string{"cosine": "cosine", "constant_with_warmup": "constant", "warmup_stable_decay": "wsd", "linear": "linear", "cosin": ""} {
		if got, err := ParseSchedule(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
