package data

import (
	"cmp"
	"math/rand/v2"
	"slices"
)

// packWindow is the number of groups, in their order of the epoch, that are packed together.
const packWindow = 2048

// packed reorders groups so that batches of at most tokens tokens waste little: best fit of falling sizes (Johnson 1974) within a window of the order. It
// returns the new order and where each batch ends. A group larger than tokens is a batch of its own. What comes together, and in which order
// the batches come, depends on the order and rng alone.
func packed(order []int, size func(int) int, tokens int, rng *rand.Rand) (packedOrder, ends []int) {
	for lo := 0; lo < len(order); lo += packWindow {
		window := slices.Clone(order[lo:min(lo+packWindow, len(order))])
		slices.SortStableFunc(window, func(a, b int) int { return cmp.Compare(size(b), size(a)) })
		var bins [][]int
		var free []int // tokens left in each bin
		for _, n := range window {
			best := -1
			for i, f := range free {
				if f >= size(n) && (best < 0 || f < free[best]) {
					best = i
				}
			}
			if best < 0 {
				bins, free, best = append(bins, nil), append(free, tokens), len(bins)
			}
			bins[best] = append(bins[best], n)
			free[best] -= size(n)
		}
		rng.Shuffle(len(bins), func(i, j int) { bins[i], bins[j] = bins[j], bins[i] })
		for _, b := range bins {
			packedOrder = append(packedOrder, b...)
			ends = append(ends, len(packedOrder))
		}
	}
	return packedOrder, ends
}
