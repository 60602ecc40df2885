package score

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"testing"

	"krait/checkpoint"
	"krait/model"
)

// referenceTolerance is what the reference, float32 in another order of operations, allows: absolute, on logits of size 10.
const referenceTolerance = 2e-4

func stories(t *testing.T) *model.Model {
	t.Helper()
	c, err := checkpoint.Load("../recipe/stories260k")
	if err != nil {
		t.Fatal(err)
	}
	return c.Model
}

func read(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

// TestReferenceLogits compares the embedded model with llama2.c, packed and not.
func TestReferenceLogits(t *testing.T) {
	var ref struct {
		IDs    []int32     `json:"ids_with_bos"`
		Logits [][]float64 `json:"logits"`
	}
	read(t, "testdata/stories260k_logits.json", &ref)
	m := stories(t)
	for range 2 {
		got := m.Logits(nil, m.Forward(nil, model.Single(ref.IDs[:len(ref.Logits)], nil)))
		worst := 0.0
		for i, row := range ref.Logits {
			for j, want := range row {
				worst = max(worst, math.Abs(want-float64(got.Row(i)[j])))
			}
		}
		t.Logf("largest difference %.2g", worst)
		if !(worst <= referenceTolerance) {
			t.Errorf("logits differ by %g, want at most %g", worst, referenceTolerance)
		}
		m.Pack()
	}
}

// TestReferenceLikelihoods compares each text's likelihood with llama2.c's, token by token through windows of one more token each.
func TestReferenceLikelihoods(t *testing.T) {
	var ref struct {
		Score []struct {
			IDs  []int32   `json:"ids_with_bos"`
			NLL  []float64 `json:"nll"`
			Mean float64   `json:"mean_nll"`
		} `json:"score"`
	}
	read(t, "testdata/stories260k_nll.json", &ref)
	m := stories(t)
	for i, s := range ref.Score {
		l, err := Perplexity(context.Background(), m, s.IDs, len(s.IDs), len(s.IDs))
		if err != nil {
			t.Fatal(err)
		}
		if l.Tokens != len(s.NLL) || !(math.Abs(l.Mean()-s.Mean) <= referenceTolerance) {
			t.Errorf("text %d: %g nats over %d tokens, want %g over %d", i, l.Mean(), l.Tokens, s.Mean, len(s.NLL))
		}
	}
	if len(ref.Score) == 0 {
		t.Fatal("no reference")
	}
}

// TestWindows checks that every token but the first is predicted once when windows overlap, with a token before it in the same window.
func TestWindows(t *testing.T) {
	ids := make([]int32, 37)
	for i := range ids {
		ids[i] = int32(i)
	}
	for _, w := range []struct{ size, stride, counted int }{{10, 5, 36}, {10, 10, 33}, {37, 37, 36}, {100, 100, 36}, {10, 1, 36}, {2, 1, 36}} {
		batches, targets, err := windows(ids, w.size, w.stride)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[int32]int{}
		for b := range batches {
			for i, target := range targets[b] {
				if target >= 0 {
					seen[target]++
					if target != batches[b].Tokens[i]+1 {
						t.Errorf("size %d stride %d: token %d is predicted from %d", w.size, w.stride, target, batches[b].Tokens[i])
					}
				}
			}
		}
		if len(seen) != w.counted {
			t.Errorf("size %d stride %d: %d tokens predicted, want %d", w.size, w.stride, len(seen), w.counted)
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("size %d stride %d: token %d predicted %d times", w.size, w.stride, id, n)
			}
		}
	}
	for _, bad := range [][2]int{{1, 1}, {10, 0}, {10, 11}} {
		if _, _, err := windows(ids, bad[0], bad[1]); err == nil {
			t.Errorf("context %d and stride %d were accepted", bad[0], bad[1])
		}
	}
}

// TestAgreement checks that a model agrees with itself and disagrees with a damaged copy.
func TestAgreement(t *testing.T) {
	m, other := stories(t), stories(t)
	ids := make([]int32, 300)
	for i := range ids {
		ids[i] = int32(3 + i*7%500)
	}
	same, err := Agree(context.Background(), m, m, ids, 128, 128)
	if err != nil {
		t.Fatal(err)
	}
	if same.KL > 1e-6 || same.Top1 != 1 {
		t.Errorf("a model against itself: %+v", same)
	}
	for i := range other.Norm.Weight.Data {
		other.Norm.Weight.Data[i] *= float32(1 + i%3)
	}
	if a, err := Agree(context.Background(), other, m, ids, 128, 128); err != nil || a.KL < 1e-3 || a.Top1 > 0.99 {
		t.Errorf("a damaged model: %+v, error %v", a, err)
	}
}
