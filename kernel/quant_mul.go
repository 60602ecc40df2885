package kernel

import (
	"fmt"
	"math"
	"runtime"
	"unsafe"
)

// narrow is how a level multiplies with one format.
type narrow struct {
	few, many panelPass // few is for as many rows as it can take at once
	// activations writes one row of x, whose length is a multiple of 64, as panel reads it.
	activations func(dst []byte, x []float32)
}

// panelPass is one pass over panels.
type panelPass struct {
	rows   int // of x that it serves
	panels int // that it reads side by side: 1, or 2 narrow ones
	panel  panelFunc
}

// panelFunc adds to y (rows, columns of the panels), row stride ldy, the products of k columns of the panel w, and of the one between bytes
// after it, and the rows of x, ldx bytes apart. A sum begins with y and runs along k in one chain of multiply-adds, one a group, so it
// may be cut anywhere between groups.
type panelFunc func(y []float32, ldy int, w []byte, between int, x []byte, ldx, rows, k int, next nextWeights)

// nextWeights says to one of some passes over weights where those lie that are needed after all of the passes: so many bytes ahead, perhaps
// nowhere (0). It is for fetching them in time.
type nextWeights struct{ ahead, pass, passes int }

func panelBF16Portable(y []float32, ldy int, w []byte, _ int, x []byte, ldx, rows, k int, _ nextWeights) {
	for i := range rows {
		for c := range PanelWidth {
			sum := y[i*ldy+c]
			for l := range k {
				sum = multiplyAdd(brainToFloat(le16(x[i*ldx+2*l:])), brainToFloat(le16(w[(l/2*PanelWidth+c)*4+l%2*2:])), sum)
			}
			y[i*ldy+c] = sum
		}
	}
}

// panelQuantPortable is the panel kernel of Q8 and Q4 in terms of weight, which returns column c of a half superblock's row r with its bias, and of
// value, which returns a group's integer c.
func panelQuantPortable(f PanelFormat, weight func(half []byte, r, c int) int32, value func(a []byte, c int) int32) panelFunc {
	block := f.block()
	return func(y []float32, ldy int, w []byte, _ int, x []byte, ldx, rows, k int, _ nextWeights) {
		for i := range rows {
			for g := range k / quantGroupLen {
				b, a := w[g/2*block:][:block], x[i*ldx+g*f.groupBytes():]
				half := b[g%2*(block-64)/2:]
				scale := math.Float32frombits(le32(a[f.scaleAt():]))
				for r := range 16 {
					sum := int32(le32(a[f.offsetAt():]))
					for c := range quantGroupLen {
						sum += weight(half, r, c) * value(a, c)
					}
					both := halfToFloat(le16(b[block-64+g%2*32+2*r:])) * scale
					y[i*ldy+r] = multiplyAdd(float32(sum), both, y[i*ldy+r])
				}
			}
		}
	}
}

func weightQ8(half []byte, r, c int) int32 { return int32(half[c/4*64+r*4+c%4]) }

func weightQ4(half []byte, r, c int) int32 {
	return int32(half[c%16/4*64+r*4+c%4] >> (c / 16 * 4) & 15)
}

// byPortable is a level of one kind of pass, over one row.
func byPortable(panel panelFunc, activations func(dst []byte, x []float32)) narrow {
	p := panelPass{1, 1, panel}
	return narrow{p, p, activations}
}

var narrowPortable = [panelFormats]narrow{
	BF16: byPortable(panelBF16Portable, brainRowPortable),
	Q8:   byPortable(panelQuantPortable(Q8, weightQ8, wordOf), quantizeRowPortable(Q8, mostQ8, putWord)),
	Q4:   byPortable(panelQuantPortable(Q4, weightQ4, byteOf), quantizeRowPortable(Q4, mostQ4, putByte)),
}

// Mul sets y (rows,N) = x (rows,K)·Wᵀ, with row strides ldy and ldx, over all cores where that pays. x is rounded to bf16, or in groups of
// 32 to 16 bits for Q8 and 8 for Q4. A row of y is the same bits whatever rows stand beside it and however many cores there are. The kernels of every level
// agree in all bits, except that processors with instructions for bf16 add its products in pairs and take denormal numbers for 0.
func (p *QuantPanels) Mul(y []float32, ldy int, x []float32, ldx, rows int) {
	MulEach([]QuantProduct{{p, y, ldy}}, x, ldx, rows)
}

// QuantProduct is a matrix and where its product goes: y (rows,N) with a row stride.
type QuantProduct struct {
	*QuantPanels
	Y   []float32
	Ldy int
}

// MulEach is Mul of the same x by several matrices of one format and K, bit for bit: x is rounded once, and the cores meet once. It keeps
// no operand.
func MulEach(products []QuantProduct, x []float32, ldx, rows int) {
	if rows <= 0 || len(products) == 0 {
		return
	}
	first := products[0].QuantPanels
	checkMatrix("x", x, rows, first.K, ldx)
	weights := 0
	for i := range products {
		p := &products[i]
		if p.Format != first.Format || p.K != first.K {
			panic(fmt.Sprintf("kernel: a product of panels %d wide in format %d beside others %d wide in format %d", p.K, p.Format, first.K, first.Format))
		}
		checkMatrix("y", p.Y, rows, p.N, p.Ldy)
		weights += p.N * p.K
	}
	if first.Format == BF16 && active.mulBrain != nil && rows > fewRows && first.K > 0 {
		for i := range products {
			p := &products[i]
			active.mulBrain(p.Y, p.Ldy, x, ldx, rows, p.QuantPanels)
			runtime.KeepAlive(p.QuantPanels)
		}
		return
	}
	j := quantJobs.get()
	j.start(products, x, ldx, rows)
	j.prepare()
	if weights < quantStream && rows*weights < quantWork || runtime.GOMAXPROCS(0) == 1 {
		j.products(0, j.panels)
	} else {
		Parallel(j.chunks, j.run)
	}
	clear(j.parts)
	j.x = nil
	quantJobs.put(j)
	for i := range products {
		runtime.KeepAlive(products[i].QuantPanels)
	}
}

const (
	quantStream  = 1 << 17   // weights from which even one row is spread over the cores
	quantWork    = 1 << 19   // multiply-adds from which several rows are
	chunkBytes   = 128 << 10 // weights of a chunk of a large product
	fewRows      = 16        // up to this many rows the weights are read from memory once, in order
	rowBlock     = 256       // rows whose activations of one block of columns stay in L2
	panelsNearby = 8         // panels that few rows go through for one block of columns
)

// columnBlock is the number of columns for which weights stay in L1, or the activations of few rows that go through a panel once.
func (f PanelFormat) columnBlock(rows int, once bool) int {
	switch {
	case f == BF16 && once:
		return 1024
	case f == BF16:
		return 256
	case once && rows*f.activationBytes(2048) <= 20<<10:
		return 2048
	}
	return 1024
}

// quantJob is a product whose chunks are ranges of panels, or of as many panels as a pass serves, those of one matrix after those of another. Jobs are
// reused, so that a product allocates nothing.
type quantJob struct {
	pass           panelPass
	activations    func(dst []byte, x []float32)
	format         PanelFormat
	width          int // columns that one pass serves
	parts          []quantPart
	x              []float32
	ldx, rows, k   int
	cols           int    // k, padded
	act            []byte // activations
	ldact          int    // bytes from one row of them to the next
	panels, chunks int
	run, prepareOn func(i int)
	actStore       []float32
}

// quantPart is one matrix of a job.
type quantPart struct {
	QuantProduct
	tail   []float32 // (rows, width): the last panel's columns, where it is partial
	panels int
}

var quantJobs = freeList[quantJob]{make: func() *quantJob {
	j := new(quantJob)
	j.run = func(i int) { j.products(j.panels*i/j.chunks, j.panels*(i+1)/j.chunks) }
	j.prepareOn = func(i int) { j.prepareRows(i*prepareRows, min((i+1)*prepareRows, j.rows)) }
	return j
}}

func (j *quantJob) start(products []QuantProduct, x []float32, ldx, rows int) {
	j.format, j.k = products[0].Format, products[0].K
	level := &active.narrow[j.format]
	j.pass, j.activations = level.many, level.activations
	if rows <= level.few.rows {
		j.pass = level.few
	}
	j.width = j.format.width() * j.pass.panels
	j.x, j.ldx, j.rows = x, ldx, rows
	j.cols = roundUp(j.k, superblock)
	j.ldact = roundUp(j.format.activationBytes(j.cols), cacheLine)
	if j.ldact/cacheLine%2 == 0 {
		j.ldact += cacheLine // an odd number of lines, so that rows spread over the cache
	}
	width, at := j.width, j.ldact/4*rows
	j.actStore = grow(j.actStore, at+len(products)*rows*width)
	j.act = bytesOf(j.actStore[:at])
	j.parts, j.panels = j.parts[:0], 0
	bytes := 0
	for _, p := range products {
		j.parts = append(j.parts, quantPart{p, j.actStore[at:][:rows*width], (p.N + width - 1) / width})
		j.panels += (p.N + width - 1) / width
		bytes += len(p.Data)
		at += rows * width
	}
	procs := runtime.GOMAXPROCS(0)
	j.chunks = min(j.panels, max(groupsPerCore*procs, min(8*groupsPerCore*procs, bytes/chunkBytes)))
}

// groupsPerCore is the least number of chunks a core, so that a late worker costs half its share.
const groupsPerCore = 2

const (
	prepareRows = 4       // rows of a chunk of prepare
	prepareWork = 1 << 15 // numbers from which it is spread over the cores
)

// prepare writes the activations.
func (j *quantJob) prepare() {
	if j.rows <= prepareRows || j.rows*j.cols < prepareWork {
		j.prepareRows(0, j.rows)
		return
	}
	Parallel((j.rows+prepareRows-1)/prepareRows, j.prepareOn)
}

func (j *quantJob) prepareRows(lo, hi int) {
	whole := j.k / superblock * superblock
	for r := lo; r < hi; r++ {
		x, act := j.x[r*j.ldx:][:j.k], j.act[r*j.ldact:]
		if whole > 0 {
			j.activations(act, x[:whole])
		}
		if whole < j.k {
			buffer := tails.get()
			clear(buffer[copy(buffer[:], x[whole:]):])
			j.activations(act[j.format.activationBytes(whole):], buffer[:])
			tails.put(buffer)
		}
	}
}

var tails = freeList[[superblock]float32]{make: func() *[superblock]float32 { return new([superblock]float32) }}

// products computes the columns of panels lo…hi.
func (j *quantJob) products(lo, hi int) {
	for i := range j.parts {
		p := &j.parts[i]
		if lo < p.panels && hi > 0 {
			j.part(p, max(lo, 0), min(hi, p.panels))
		}
		lo, hi = lo-p.panels, hi-p.panels
	}
}

// part computes the columns of panels lo…hi of one matrix.
func (j *quantJob) part(m *quantPart, lo, hi int) {
	nearby, step := m.panels, j.format.columnBlock(j.rows, j.rows <= j.pass.rows)
	if j.rows <= fewRows {
		nearby = panelsNearby
	}
	for r := 0; r < j.rows; r += rowBlock {
		rows := min(rowBlock, j.rows-r)
		for p := lo; p < hi; p += nearby {
			last := min(p+nearby, hi) - 1
			for k := 0; k < j.cols; k += step {
				for q := p; q <= last; q++ {
					next := j.at(q+1, k)
					switch {
					case q < last:
					case k+step < j.cols:
						next = j.at(p, k+step)
					case q+1 < hi:
						next = j.at(q+1, 0)
					default:
						next = j.at(q, k)
					}
					j.block(m, q, r, rows, k, min(step, j.cols-k), next-j.at(q, k))
				}
			}
		}
	}
	if at := m.N / j.width * j.width; hi == m.panels && at < m.N {
		for r := range j.rows {
			copy(m.Y[r*m.Ldy+at:][:m.N-at], m.tail[r*j.width:])
		}
	}
}

// at is where column k of panel q begins among the bytes of a matrix.
func (j *quantJob) at(q, k int) int {
	return (q*j.pass.panels*j.cols + k) / superblock * j.format.block()
}

// block adds the products of n columns from k on of panel q to rows r…r+rows-1; from k = 0 it begins them. The next block is ahead.
func (j *quantJob) block(m *quantPart, q, r, rows, k, n, ahead int) {
	y, ldy := m.tail[r*j.width:], j.width
	if (q+1)*j.width <= m.N {
		y, ldy = m.Y[r*m.Ldy+q*j.width:], m.Ldy
	}
	if k == 0 {
		for i := range rows {
			clear(y[i*ldy:][:j.width])
		}
	}
	w, between := m.Data[j.at(q, k):], 0
	if j.pass.panels > 1 && q*j.width+j.format.width() < m.N { // else the only panel stands for the one that there is not
		between = j.cols / superblock * j.format.block()
	}
	passes := (rows + j.pass.rows - 1) / j.pass.rows
	for pass := range passes {
		i, end := rows*pass/passes, rows*(pass+1)/passes
		x := j.act[(r+i)*j.ldact+j.format.activationBytes(k):]
		j.pass.panel(y[i*ldy:], ldy, w, between, x, j.ldact, end-i, n, nextWeights{ahead, pass, passes})
	}
}

// bytesOf returns the memory of x.
func bytesOf(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}
