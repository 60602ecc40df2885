package engine

import (
	"slices"

	"krait/autograd"
	"krait/model"
	"krait/tensor"
)

// above holds what a draft head (model.Fusion) has yet to read of the target's hidden rows (after the final norm, float32). The target leaves them as it
// feeds tokens; the row of token i enters the head with token i+1.
type above struct {
	width int
	first int       // position of the first row
	rows  []float32 // (rows, width)
}

// newAbove returns the rows for a draft, nil where it is no head.
func newAbove(draft *model.Model) *above {
	if !draft.Config.Eagle {
		return nil
	}
	return &above{width: draft.Config.HiddenSize}
}

func (a *above) end() int { return a.first + len(a.rows)/a.width }

// saw takes in the rows (n, width) of the tokens from position at on. Rows that are there stay; those missing in between are zeros, which cost a head
// some of its acceptance and nothing else.
func (a *above) saw(at int, rows []float32) {
	if gap := at - a.end(); gap > 0 {
		a.rows = append(a.rows, make([]float32, gap*a.width)...)
	}
	if known := (a.end() - at) * a.width; known < len(rows) {
		a.rows = append(a.rows, rows[known:]...)
	}
}

// before returns the rows (n, width) that enter a head with n tokens from position from on: those of the tokens before each, zeros before the first.
func (a *above) before(t *autograd.Tape, from, n int) *tensor.Tensor {
	x := t.New(n, a.width)
	for i := range n {
		if at := from + i - 1; at < a.first || at >= a.end() {
			clear(x.Row(i))
		} else {
			copy(x.Row(i), a.rows[(at-a.first)*a.width:])
		}
	}
	return x
}

// forget drops the rows before position n.
func (a *above) forget(n int) {
	if n = min(n, a.end()); n > a.first {
		a.rows = a.rows[:copy(a.rows, a.rows[(n-a.first)*a.width:])]
		a.first = n
	}
}

// cut drops the rows from position n on.
func (a *above) cut(n int) { a.rows = a.rows[:max(0, min(n, a.end())-a.first)*a.width] }

func (a *above) clone() *above {
	if a == nil {
		return nil
	}
	return &above{a.width, a.first, slices.Clone(a.rows)}
}

// sees reports whether somebody reads the target's hidden rows.
func (g *generation) sees() bool { return g.draft != nil && g.draft.above != nil }

// tell hands the hidden rows (len(fed), hidden) of a round to a draft head, as far as they belong to tokens that stand. It comes between accept and
// committed.
func (g *generation) tell(hidden *tensor.Tensor) {
	if !g.sees() {
		return
	}
	a, at := g.draft.above, len(g.tokens)-g.known
	a.saw(at, hidden.Slice(0, g.known).Data)
	at += g.known
	if g.branched {
		a.saw(at, hidden.Row(g.known))
	} else if kept := len(g.block) - 1; kept > 0 {
		chain := g.known + g.second
		a.saw(at, hidden.Slice(chain, chain+kept).Data)
	}
}

// read returns the hidden rows that enter the draft with the next n tokens, which the target has passed; nil where it reads none.
func (d *drafter) read(n int) *tensor.Tensor {
	if d.above == nil {
		return nil
	}
	return d.above.before(d.tape, d.state.Len(), n)
}

// readOwn is read for the next token of a chain, where the target has not been yet: the head's own last row.
func (d *drafter) readOwn() *tensor.Tensor {
	if d.above == nil {
		return nil
	}
	d.ownShape = [2]int{1, len(d.own)}
	d.ownRow = tensor.Tensor{Shape: d.ownShape[:], Data: d.own}
	return &d.ownRow
}
