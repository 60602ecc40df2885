package recipe

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// enumerate writes 1, 2 and 3.
func enumerate(n []int) string {
	var b strings.Builder
	for i, v := range n {
		switch {
		case i > 0 && i == len(n)-1:
			b.WriteString(" and ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(v))
	}
	return b.String()
}

// missing stands for a number that was not measured.
const missing = "–"

func fixed(v float64, digits int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) || v == 0 {
		return missing
	}
	if v >= 1000 {
		return group(int(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

// significant writes four digits of perplexities and their ratios.
func significant(v float64) string {
	digits := 3
	for x := v; x >= 10 && digits > 0; x /= 10 {
		digits--
	}
	return fixed(v, digits)
}

func rate(v float64) string { return fixed(math.Round(v), 0) }

func percent(v float64) string {
	if math.IsNaN(v) {
		return missing
	}
	return strconv.FormatFloat(100*v, 'f', 1, 64) + " %"
}

// group writes 1234567 as 1 234 567, with narrow spaces.
func group(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// count writes a large number with its unit: 260 k, 1.04 M.
func count(n int) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, " G"}, {1e6, " M"}, {1e3, " k"}} {
		if v := float64(n) / u.size; v >= 1 {
			round := math.Pow(10, max(0, 2-math.Floor(math.Log10(v)))) // three digits, more where the number is whole
			return strconv.FormatFloat(math.Round(v*round)/round, 'f', -1, 64) + u.name
		}
	}
	return strconv.Itoa(n)
}

// size writes bytes.
func size(n int) string {
	if n <= 0 {
		return missing
	}
	if n >= 1<<20 {
		return strconv.FormatFloat(float64(n)/(1<<20), 'f', 2, 64) + " MiB"
	}
	if n >= 100<<10 {
		return strconv.FormatFloat(float64(n)/(1<<10), 'f', 0, 64) + " KiB"
	}
	return strconv.FormatFloat(float64(n)/(1<<10), 'f', 1, 64) + " KiB"
}

// duration writes seconds as people say them.
func duration(seconds float64) string {
	switch {
	case math.IsNaN(seconds) || seconds < 0:
		return missing
	case seconds < 10:
		return strconv.FormatFloat(seconds, 'f', 1, 64) + " s"
	case seconds < 90:
		return strconv.FormatFloat(seconds, 'f', 0, 64) + " s"
	}
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
}
