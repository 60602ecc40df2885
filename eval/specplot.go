package eval

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The sizes of the plot, in SVG's pixels.
const (
	plotWidth   = 640
	panelHeight = 170
	panelTop    = 34
	plotLeft    = 56
	plotRight   = 150 // for names
	plotBottom  = 26
)

var plotColors = []string{"#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"}

// curve is a line of a panel.
type curve struct {
	name  string
	y     []float64
	color int
}

// Plot draws the report as SVG: tokens a step and speed-up of each row, acceptance by position, and the time of a step by its rows.
func (r *SpecReport) Plot() []byte {
	var b strings.Builder
	panels := []func(b *strings.Builder, top int){
		func(b *strings.Builder, top int) {
			r.bars(b, top, "tokens a step", func(x SpecRow) float64 { return x.TokensPerStep })
		},
		func(b *strings.Builder, top int) {
			r.bars(b, top, "speed-up over plain decoding", func(x SpecRow) float64 { return x.Speedup })
		},
	}
	var accepted []curve
	for i, x := range r.Rows {
		if len(x.AcceptanceAt) > 0 {
			accepted = append(accepted, curve{x.Name, x.AcceptanceAt, i})
		}
	}
	if len(accepted) > 0 {
		panels = append(panels, func(b *strings.Builder, top int) { lines(b, top, "acceptance by position in the guess", accepted, 1) })
	}
	if len(r.StepMS) > 1 {
		panels = append(panels, func(b *strings.Builder, top int) {
			lines(b, top, "milliseconds of a step by its rows", []curve{{"T(n)", r.StepMS, 0}}, 0)
		})
	}
	height := len(panels) * (panelHeight + panelTop + plotBottom)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11"><rect width="100%%" height="100%%" fill="white"/>`, plotWidth, height+20)
	fmt.Fprintf(&b, `<text x="8" y="16" font-size="13">%s, %s, %s kernels, %d threads</text>`+"\n", html.EscapeString(r.Shape), r.Type, r.ISA, r.Threads)
	for i, panel := range panels {
		panel(&b, 20+i*(panelHeight+panelTop+plotBottom))
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// frame draws the axis of a panel whose values go up to most, and returns where a value stands.
func frame(b *strings.Builder, top int, title string, most float64) func(v float64) float64 {
	step, ticks := niceStep(most)
	most = step * float64(ticks)
	at := func(v float64) float64 { return float64(top+panelTop) + panelHeight*(1-v/most) }
	fmt.Fprintf(b, `<text x="8" y="%d" font-weight="bold">%s</text>`+"\n", top+22, title)
	for i := range ticks + 1 {
		v := step * float64(i)
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.3g</text>`+"\n",
			plotLeft, plotWidth-plotRight, at(v), at(v), plotLeft-4, at(v)+4, v)
	}
	return at
}

// niceStep returns a distance of marks, 1, 2, 2.5 or 5 times a power of ten, and how many of them reach most: 3 to 6.
func niceStep(most float64) (step float64, ticks int) {
	for ten := math.Pow(10, math.Floor(math.Log10(most))-1); ; ten *= 10 {
		for _, x := range []float64{1, 2, 2.5, 5} {
			if ticks = int(math.Ceil(most/(x*ten) - 1e-9)); ticks <= 5 {
				return x * ten, ticks
			}
		}
	}
}

// bars draws one bar a row.
func (r *SpecReport) bars(b *strings.Builder, top int, title string, value func(SpecRow) float64) {
	most := 1.0
	for _, x := range r.Rows {
		most = max(most, value(x))
	}
	at := frame(b, top, title, most)
	width := float64(plotWidth-plotLeft-plotRight) / float64(max(1, len(r.Rows)))
	for i, x := range r.Rows {
		left, v := plotLeft+width*float64(i), value(x)
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/><text x="%.1f" y="%.1f" text-anchor="middle">%.2f</text>`+"\n",
			left+width*0.15, at(v), width*0.7, at(0)-at(v), plotColors[i%len(plotColors)], left+width/2, at(v)-3, v)
		legend(b, top, i, i, x.Name)
	}
	fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="black" stroke-dasharray="4 3"/>`+"\n", plotLeft, plotWidth-plotRight, at(1), at(1)) // plain decoding
}

// lines draws curves over 1, 2, … A positive most is the top of the axis.
func lines(b *strings.Builder, top int, title string, curves []curve, most float64) {
	longest := 2
	for _, c := range curves {
		longest = max(longest, len(c.y))
		for _, v := range c.y {
			most = max(most, v)
		}
	}
	at := frame(b, top, title, most)
	step := float64(plotWidth-plotLeft-plotRight-20) / float64(longest-1)
	for i, c := range curves {
		var points []string
		color := plotColors[c.color%len(plotColors)]
		for x, v := range c.y {
			if v > 0 || most == 1 {
				points = append(points, fmt.Sprintf("%.1f,%.1f", plotLeft+10+step*float64(x), at(v)))
				fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>`, plotLeft+10+step*float64(x), at(v), color)
			}
		}
		fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="%s"/>`+"\n", color, strings.Join(points, " "))
		legend(b, top, i, c.color, c.name)
	}
	for x := range longest {
		if longest <= 20 || x%4 == 0 {
			fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`, plotLeft+10+step*float64(x), top+panelTop+panelHeight+14, x+1)
		}
	}
	b.WriteString("\n")
}

// legend names a colour in line i.
func legend(b *strings.Builder, top, i, color int, name string) {
	y := top + panelTop + 8 + 14*i
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n",
		plotWidth-plotRight+8, y-9, plotColors[color%len(plotColors)], plotWidth-plotRight+22, y, html.EscapeString(name))
}
