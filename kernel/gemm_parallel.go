//go:build (amd64 || arm64) && !purego

package kernel

import "runtime"

// scratch holds the packed operands of one goroutine's product.
type scratch struct{ a, b, c []float32 }

// job is a product cut into a grid of blocks. Jobs are reused with their closure, so that a region allocates nothing.
type job struct {
	product
	gridRows, gridCols int
	rowUnit, colUnit   int
	run                func(i int)
}

var (
	scratches = freeList[scratch]{make: func() *scratch { return new(scratch) }}
	jobs      = freeList[job]{make: func() *job {
		j := new(job)
		j.run = j.chunk
		return j
	}}
)

// parallelWork is the number of multiply-adds from which a product is spread over the cores: about ten microseconds, so that a worker the
// operating system holds up costs little.
const parallelWork = 1 << 19

// parallel computes the product on all cores and reports whether it did.
func (p *product) parallel() bool {
	procs := runtime.GOMAXPROCS(0)
	if procs == 1 {
		return false
	}
	j := jobs.get()
	j.product = *p
	j.split(procs)
	if blocks := j.gridRows * j.gridCols; blocks > 1 {
		j.plan(p.m/j.gridRows, p.n/j.gridCols)
		Parallel(blocks, j.run)
	} else {
		j.plan(p.m, p.n)
		j.block(0, p.m, 0, p.n)
	}
	j.product = product{} // keeps no operand alive
	jobs.put(j)
	return true
}

// packCost is what packing an element costs, in multiply-adds.
const packCost = 12

// split chooses the grid with the least work in its largest block; each block packs its own operands.
func (j *job) split(blocks int) {
	g := j.geometry
	best := 0
	for rows := 1; rows <= blocks; rows++ {
		cols := blocks / rows
		rowUnit, colUnit := g.rows, g.nr()
		if j.m/rows <= 5*g.rows {
			rowUnit = 1
		}
		if j.panels {
			colUnit = PanelWidth
		} else if j.n/cols <= 4*g.nr() {
			colUnit = g.lanes
		}
		m, n := part(j.m, rows, rowUnit), part(j.n, cols, colUnit)
		cost := m*n + packCost*m
		if !j.panels {
			cost += packCost * n
		}
		if best == 0 || cost < best {
			best = cost
			j.gridRows, j.gridCols, j.rowUnit, j.colUnit = rows, cols, rowUnit, colUnit
		}
	}
}

// part is the size of the largest of parts parts of n in whole units.
func part(n, parts, unit int) int {
	units := (n + unit - 1) / unit
	return min(n, (units+parts-1)/parts*unit)
}

// chunk computes block i of the grid.
func (j *job) chunk(i int) {
	cut := func(n, parts, unit, i int) int {
		units := (n + unit - 1) / unit
		return min(n, units*i/parts*unit)
	}
	r, c := i/j.gridCols, i%j.gridCols
	i0, i1 := cut(j.m, j.gridRows, j.rowUnit, r), cut(j.m, j.gridRows, j.rowUnit, r+1)
	j0, j1 := cut(j.n, j.gridCols, j.colUnit, c), cut(j.n, j.gridCols, j.colUnit, c+1)
	if i0 < i1 && j0 < j1 {
		j.block(i0, i1, j0, j1)
	}
}
