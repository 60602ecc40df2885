package sample

import (
	"math"
	"sync"
)

// cut keeps values above value, and the first ties of those equal to it.
type cut struct {
	value float32
	ties  int
}

// keeps reports whether v stays; it must be asked once for each value, in order.
func (c *cut) keeps(v float32) bool {
	if v == c.value && c.ties > 0 {
		c.ties--
		return true
	}
	return v > c.value
}

// scratch keeps the memory of cuts between calls.
var scratch = sync.Pool{New: func() any { return new([]float32) }}

// cutCount returns the cut that keeps the k largest of x; 0 < k < len(x). It passes over x once with a heap of k values, the least on top.
func cutCount(x []float32, k int) cut {
	pooled := scratch.Get().(*[]float32)
	defer scratch.Put(pooled)
	if cap(*pooled) < k {
		*pooled = make([]float32, k)
	}
	heap := (*pooled)[:k]
	copy(heap, x)
	for i := k/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	for _, v := range x[k:] {
		if v > heap[0] {
			heap[0] = v
			sink(heap, 0)
		}
	}
	c := cut{value: heap[0]}
	for _, v := range heap {
		if v == c.value {
			c.ties++
		}
	}
	return c
}

// sink restores the heap below i.
func sink(heap []float32, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && heap[child+1] < heap[child] {
			child++
		}
		if heap[i] <= heap[child] {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}

// cutMass returns the cut that keeps the fewest of the weights whose sum reaches the part p of all, which is sum; 0 < p < 1.
func cutMass(weights []float32, sum, p float64) cut {
	pooled := scratch.Get().(*[]float32)
	defer scratch.Put(pooled)
	// Weights below this are together less than half of what may go, so none of them is needed. Usually few are above it.
	least := float32(0.5 * (1 - p) * sum / float64(len(weights)))
	candidates := (*pooled)[:0]
	for _, w := range weights {
		if w > least {
			candidates = append(candidates, w)
		}
	}
	*pooled = candidates
	return selectMass(candidates, p*sum)
}

// selectMass is quickselect by mass: it returns the cut at which the sum of the largest values of v first reaches target. It reorders v.
func selectMass(v []float32, target float64) cut {
	above := 0.0
	for {
		pivot := median(v[0], v[len(v)/2], v[len(v)-1])
		greater, equal := partition(v, pivot)
		sum := above
		for _, w := range v[:greater] {
			sum += float64(w)
		}
		if greater > 0 && sum >= target {
			v = v[:greater]
			continue
		}
		ties := equal - greater
		if reached := sum + float64(pivot)*float64(ties); reached < target && equal < len(v) {
			above, v = reached, v[equal:]
			continue
		}
		need := int(math.Ceil((target - sum) / float64(pivot)))
		return cut{value: pivot, ties: min(max(need, 1), ties)}
	}
}

// partition orders v as [greater | equal | less] than the pivot and returns where the first two parts end.
func partition(v []float32, pivot float32) (greater, equal int) {
	lo, i, hi := 0, 0, len(v)
	for i < hi {
		switch w := v[i]; {
		case w > pivot:
			v[i], v[lo] = v[lo], w
			lo++
			i++
		case w < pivot:
			hi--
			v[i], v[hi] = v[hi], w
		default:
			i++
		}
	}
	return lo, hi
}

func median(a, b, c float32) float32 { return max(min(a, b), min(max(a, b), c)) }
