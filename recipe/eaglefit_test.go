package recipe

import (
	"math/rand/v2"
	"testing"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/model"
	"krait/tensor"
)

// TestFitHead: a head's start is the solution of the normal equations, and better than that of a random fusion at saying what comes next.
func TestFitHead(t *testing.T) {
	c, err := checkpoint.LoadFS(Stories260K())
	if err != nil {
		t.Fatal(err)
	}
	target := c.Model
	rng := rand.New(rand.NewPCG(1, 5))
	var docs []data.Document
	for range 12 {
		ids := make([]int32, 100)
		for i := range ids {
			ids[i] = 1 + int32(rng.IntN(500))
		}
		docs = append(docs, data.Document{IDs: ids})
	}
	docs = append(docs, data.Document{IDs: []int32{1}})
	head, err := model.NewEagle(target, []int{4}, nil, rng)
	if err != nil {
		t.Fatal(err)
	}
	fresh := stateError(head, target, docs)
	if err := fitHead(t.Context(), head, target, docs); err != nil {
		t.Fatal(err)
	}
	if fitted := stateError(head, target, docs); fitted > 0.8*fresh {
		t.Errorf("squared distance %.3f, of a fusion that is not fitted %.3f", fitted, fresh)
	}
	f := newFit(head)
	for _, d := range docs {
		f.read(head, target, d.IDs)
	}
	n, w := f.xx.Shape[0], tensor.New(head.Fusion.Proj.Weight.Shape...)
	gram, wanted := append([]float32(nil), f.xx.Grad...), append([]float32(nil), f.yx.Grad...)
	f.solve(w)
	trace, worst, size := 0.0, 0.0, 0.0
	for i := range n {
		trace += float64(gram[i*n+i])
	}
	for r := range w.Rows() {
		for i := range n {
			got := fitRidge * trace / float64(n) * float64(w.Row(r)[i])
			for j := range n {
				got += float64(w.Row(r)[j]) * float64(gram[j*n+i])
			}
			e := got - float64(wanted[r*n+i])
			worst, size = worst+e*e, size+float64(wanted[r*n+i])*float64(wanted[r*n+i])
		}
	}
	if worst > 1e-4*size {
		t.Errorf("the normal equations are off by %.2g of %.2g", worst, size)
	}
	if err := fitHead(t.Context(), head, target, docs[12:]); err == nil {
		t.Error("a document of one token")
	}
}

// stateError returns the squared distance of a head's hidden rows from the target's, beside the latter's squares.
func stateError(head, target *model.Model, docs []data.Document) float64 {
	sum, size := 0.0, 0.0
	for _, d := range docs[:12] {
		b := model.Single(d.IDs, nil)
		truth := target.Forward(nil, b)
		b.Hidden = autograd.Before(nil, truth, []int{len(d.IDs)})
		for i, v := range head.Forward(nil, b).Data {
			e := float64(v - truth.Data[i])
			sum, size = sum+e*e, size+float64(truth.Data[i])*float64(truth.Data[i])
		}
	}
	return sum / size
}
