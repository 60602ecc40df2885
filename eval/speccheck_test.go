package eval

import "testing"

// TestCheckCountsDifferences: an answer with another token, one that ends early and one that goes on are not identical.
func TestCheckCountsDifferences(t *testing.T) {
	k := &check{plain: [][]int32{{1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {1, 2, 3}}}
	var row CheckRow
	for i, got := range [][]int32{{1, 2, 3}, {1, 9, 3}, {1, 2}, {1, 2, 3, 4}} {
		k.compare(&row, i, got)
	}
	r := CheckReport{Prompts: 4, Identical: true}
	if r.add(row); r.Identical || row.Identical != 1 || len(row.Different) != 3 || row.Different[0] != "prompt 2, token 2 of 3" {
		t.Errorf("%+v", r)
	}
}

func TestNiceStep(t *testing.T) {
	for most, want := range map[float64]float64{1: 0.2, 1.25: 0.25, 3.3: 1, 4.2: 1, 0.323: 0.1, 57: 20, 5.84: 2} {
		step, ticks := niceStep(most)
		if step < want*0.999 || step > want*1.001 || step*float64(ticks) < most*0.999 || ticks < 3 {
			t.Errorf("marks up to %g: %d steps of %g, want steps of %g", most, ticks, step, want)
		}
	}
}
