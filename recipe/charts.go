package recipe

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// point is a place on a chart: tokens, or what else is counted, and loss.
type point struct{ x, y float64 }

// The chart's picture in its own units: the plot area lies between left and right, top and bottom.
const (
	chartWidth, chartHeight    = 520.0, 250.0
	plotLeft, plotRight        = 46.0, 508.0
	plotTop, plotBottom        = 14.0, 218.0
	chartPoints, chartSegments = 900, 240 // most raw points and line points to draw
)

// chart is a line chart as the template draws it.
type chart struct {
	Title, Unit, Last string
	XUnit             string // what the horizontal axis counts
	Dots, Line        string // SVG paths: the raw points, the smoothed line
	EndX, EndY        string
	XTicks, YTicks    []tick
}

// tick is a mark on an axis.
type tick struct{ At, Label string }

// scale maps losses to the height of a chart; log says by their logarithms.
type scale struct {
	lo, hi float64
	log    bool
}

// logFrom is the ratio of largest and least loss from which a chart is logarithmic.
const logFrom = 4

// scaleOf returns the scale that shows all the curves, the first raw points of a steep start perhaps cut.
func scaleOf(curves [][]point) scale {
	s := scale{lo: math.Inf(1), hi: math.Inf(-1)}
	for _, c := range curves {
		for _, p := range smooth(c) {
			s.lo, s.hi = min(s.lo, p.y), max(s.hi, p.y)
		}
	}
	s.log = s.hi > logFrom*s.lo
	if s.log {
		s.lo, s.hi = s.lo/1.35, s.hi*1.15
		return s
	}
	margin := max(0.12*(s.hi-s.lo), 0.01*s.hi)
	s.lo, s.hi = s.lo-margin, s.hi+margin
	return s
}

// linearScale returns the scale that shows a curve whose values may be zero or negative.
func linearScale(curve []point) scale {
	s := scale{lo: math.Inf(1), hi: math.Inf(-1)}
	for _, p := range smooth(curve) {
		s.lo, s.hi = min(s.lo, p.y), max(s.hi, p.y)
	}
	margin := max(0.12*(s.hi-s.lo), 0.01*max(math.Abs(s.hi), math.Abs(s.lo)), 1e-6)
	s.lo, s.hi = s.lo-margin, s.hi+margin
	return s
}

// height returns where y is on the chart.
func (s scale) height(y float64) float64 {
	share := (y - s.lo) / (s.hi - s.lo)
	if s.log {
		share = math.Log(y/s.lo) / math.Log(s.hi/s.lo)
	}
	return plotBottom - share*(plotBottom-plotTop)
}

// ticks returns the marks of the vertical axis.
func (s scale) ticks() []tick {
	values := niceTicks(s.lo, s.hi, 4)
	if s.log {
		values = logTicks(s.lo, s.hi)
	}
	var ticks []tick
	for _, v := range values {
		ticks = append(ticks, tick{coordinate(s.height(v)), strconv.FormatFloat(v, 'g', 4, 64)})
	}
	return ticks
}

// draw returns the chart of one curve of at least two points.
func (s scale) draw(title, unit, xUnit string, curve []point) chart {
	line := smooth(curve)
	most := curve[len(curve)-1].x
	at := func(x float64) float64 { return plotLeft + x/most*(plotRight-plotLeft) }
	c := chart{Title: title, Unit: unit, XUnit: xUnit, YTicks: s.ticks()}
	if s.log {
		c.Unit += ", logarithmic"
	}
	var dots, path strings.Builder
	for i := 0; i < len(curve); i += 1 + len(curve)/chartPoints {
		if y := s.height(curve[i].y); y >= plotTop-8 && y <= plotBottom {
			fmt.Fprintf(&dots, "M%s %sh0", coordinate(at(curve[i].x)), coordinate(y))
		}
	}
	for i, p := range line {
		command := "L"
		if i == 0 {
			command = "M"
		}
		fmt.Fprintf(&path, "%s%s %s", command, coordinate(at(p.x)), coordinate(s.height(p.y)))
	}
	end := line[len(line)-1]
	c.Dots, c.Line = dots.String(), path.String()
	c.EndX, c.EndY, c.Last = coordinate(at(end.x)), coordinate(s.height(end.y)), strconv.FormatFloat(end.y, 'g', 3, 64)
	for _, v := range niceTicks(0, most, 6) {
		c.XTicks = append(c.XTicks, tick{coordinate(at(v)), count(int(v))})
	}
	return c
}

// smooth returns at most chartSegments points of the curve's running mean. The window covers a fiftieth of the curve, and less at the ends, so
// that they stay where they are.
func smooth(curve []point) []point {
	half := len(curve) / 50
	var line []point
	for i := 0; i < len(curve); i += 1 + len(curve)/chartSegments {
		line = append(line, mean(curve, i, half))
	}
	if last := curve[len(curve)-1]; line[len(line)-1].x < last.x {
		line = append(line, point{last.x, mean(curve, len(curve)-1-half/2, half/2).y})
	}
	return line
}

// mean returns the mean of the curve around point i.
func mean(curve []point, i, half int) point {
	half = min(half, i, len(curve)-1-i)
	p := point{x: curve[i].x}
	for _, q := range curve[i-half : i+half+1] {
		p.y += q.y / float64(2*half+1)
	}
	return p
}

// niceTicks returns at most about n multiples of a round number in [lo,hi].
func niceTicks(lo, hi float64, n int) []float64 {
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/float64(n))))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if (hi-lo)/(m*step) <= float64(n) {
			step *= m
			break
		}
	}
	var ticks []float64
	for i := int(math.Ceil(lo/step - 1e-9)); float64(i)*step <= hi*(1+1e-9); i++ {
		ticks = append(ticks, math.Round(float64(i)*step*1e9)/1e9)
	}
	return ticks
}

// logTicks returns 1, 2 and 5 times the powers of ten in [lo,hi], or the powers alone where those are many.
func logTicks(lo, hi float64) []float64 {
	digits := []float64{1, 2, 5}
	if hi > 300*lo {
		digits = digits[:1]
	}
	var ticks []float64
	for e := math.Floor(math.Log10(lo)); e <= math.Log10(hi); e++ {
		for _, d := range digits {
			if v, _ := strconv.ParseFloat(fmt.Sprintf("%ge%g", d, e), 64); v >= lo && v <= hi {
				ticks = append(ticks, v)
			}
		}
	}
	return ticks
}

// coordinate writes a place on the chart, to a tenth of its unit.
func coordinate(v float64) string { return strconv.FormatFloat(math.Round(10*v)/10, 'f', -1, 64) }
