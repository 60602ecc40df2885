package engine

import (
	"context"
	"testing"

	"krait/model"
	"krait/quant"
)

// TestDecodingDoesNotAllocate decodes with models of every mixer in every format. Caches grow in steps, so the rounds counted stand between two.
func TestDecodingDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	ctx := context.Background()
	for name, m := range map[string]*model.Model{"hybrid": wideModel(t), "attention": stories(t), "mamba1": tiny(t, "tiny-mamba1")} {
		for _, f := range []quant.Format{quant.F32, quant.BF16, quant.Q8, quant.Q4} {
			m.PackAs(f)
			e := New(m)
			g := e.newGeneration(Request{Prompt: []int32{1, 2, 3}, MaxTokens: 1000}, new(Stats))
			if err := g.prefill(ctx); err != nil {
				t.Fatal(err)
			}
			round := func() {
				if err := g.round(ctx); err != nil {
					t.Fatal(err)
				}
			}
			for range 70 {
				round()
			}
			if n := testing.AllocsPerRun(30, round); n != 0 {
				t.Errorf("%s, %v: %g allocations a token", name, f, n)
			}
			g.close(e)
		}
	}
}
