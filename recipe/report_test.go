package recipe

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"krait/train"
)

// plausibleResult returns figures such as a demo leaves, for tests and for looking at the page (KRAIT_REPORT=file go test -run Report).
func plausibleResult() *DemoResult {
	rng := rand.New(rand.NewPCG(1, 2))
	curve := func(stage string, steps int, from, to float64) DemoCurve {
		c := DemoCurve{Stage: stage}
		for i := range steps {
			x := float64(i) / float64(steps)
			mean := to + (from-to)*math.Exp(-9*math.Sqrt(x)*1.2)
			c.Steps = append(c.Steps, train.Step{Step: i + 1, Loss: mean * (1 + 0.09*rng.NormFloat64()), Tokens: 2048, Total: 2048 * (i + 1), Seconds: 0.1})
		}
		return c
	}
	row := func(name string, nll, ratio float64, params, bytes int) DemoModel {
		return DemoModel{Name: name, NLL: nll, Perplexity: math.Exp(nll), Ratio: ratio, Parameters: params, StateBytes512: bytes}
	}
	return &DemoResult{
		Seconds: 412.6, Kernels: "avx512",
		StageSeconds: map[string]float64{"teacher": 0.02, "labels": 61, "hybrid_init": 0.03, "hybrid_aligned": 23, "hybrid": 92, "pure_init": 0.03,
			"pure_aligned": 41, "pure": 121, "draft": 33},
		Teacher: row("teacher", 1.301, 1, 260032, 655360), HybridInit: row("hybrid_init", 4.93, 37.8, 294176, 317952),
		Hybrid: row("hybrid", 1.369, 1.071, 294176, 317952), PureInit: row("pure_init", 5.71, 82.3, 316936, 92800),
		Pure: row("pure", 1.481, 1.197, 316936, 92800), Draft: row("draft", 2.05, 2.11, 79000, 131072),
		PlainTokensPerSecond: 5210,
		Speculative: DemoSpeculation{Draft: "model", Speculate: 4, TokensPerSecond: 7340, TokensPerStep: 2.31, Acceptance: 0.684, Speedup: 1.41, Identical: true,
			Depth: 3, MeanDepth: 2.25, Depths: []int{4, 1, 2, 9}, Why: []string{"draft: 68 % of first guesses are right: 3, for 1.40 times plain speed"}},
		NGram:     DemoSpeculation{Draft: "ngram", Speculate: 4, TokensPerSecond: 5630, TokensPerStep: 1.32, Acceptance: 0.31, Speedup: 1.08, Identical: true},
		DraftOnly: DemoSpeculation{Draft: "model", Speculate: 4, TokensPerSecond: 6340, TokensPerStep: 2.11, Acceptance: 0.6, Speedup: 1.31, Identical: true},
		Training: DemoTraining{Tokens: 4600000, TokensPerSecond: 15100,
			Shares: map[string]float64{"gemm": 0.43, "scan": 0.24, "attention": 0.06, "elementwise": 0.19, "overhead": 0.08}},
		Sample: "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"",
		Curves: []DemoCurve{curve("hybrid_aligned", 200, 4.1, 0.52), curve("hybrid", 700, 1.1, 0.061), curve("pure_aligned", 250, 6.6, 1.1),
			curve("pure", 700, 2.3, 0.142), curve("draft", 400, 1.9, 0.74)},
	}
}

// writeReport writes a report and returns its text.
func writeReport(t *testing.T, r *DemoResult) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.html")
	if p := os.Getenv("KRAIT_REPORT"); p != "" {
		path = p
	}
	if err := WriteReport(path, r); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// parsePage walks the page's elements, with every one closed, and returns its text.
func parsePage(page string) (string, error) {
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict = false
	d.AutoClose, d.Entity = xml.HTMLAutoClose, xml.HTMLEntity
	var text strings.Builder
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return text.String(), nil
		}
		if err != nil {
			return "", err
		}
		if s, ok := token.(xml.CharData); ok {
			text.Write(s)
		}
	}
}

func TestReport(t *testing.T) {
	r := plausibleResult()
	r.Sample += " <script>alert('&')</script>"
	page := writeReport(t, r)
	text, err := parsePage(page)
	if err != nil {
		t.Fatalf("the page is not well-formed: %v", err)
	}
	for _, want := range []string{"260 k parameters", "hybrid that keeps attention in 2 layers: 1.071×", "Layers 1 and 3", "Teacher", "Hybrid, initialised", "Hybrid, distilled", "Mamba2 only, initialised",
		"Mamba2 only, distilled", "Draft model", "1.071", "1.197", "37.80", "138.4", "640 KiB", "5\u202f210", "7\u202f340", "68.4 %", "1.41×", "1.08×", "6 min 53 s",
		"43.0 %", "avx512", "mostly 3, mean 2.25", "Draft: 68 % of first guesses are right: 3, for 1.40 times plain speed.", "<script>alert('&')</script>"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if n := strings.Count(page, "<svg"); n != len(r.Curves) {
		t.Errorf("%d charts, want %d", n, len(r.Curves))
	}
	if m := regexp.MustCompile(`(?i)https?:|url\(|@import|<script|<link|<img|\ssrc=|NaN|Inf\b`).FindString(page); m != "" {
		t.Errorf("the page contains %q", m)
	}
	if n := len(page); n > 400<<10 {
		t.Errorf("the page has %d bytes", n)
	}
}

// TestReportWithoutFigures plants what an interrupted, partly repeated or broken run can leave.
func TestReportWithoutFigures(t *testing.T) {
	nan := math.NaN()
	broken := plausibleResult()
	broken.Hybrid.Ratio, broken.Seconds, broken.PlainTokensPerSecond, broken.Speculative.Speedup = nan, nan, math.Inf(1), nan
	broken.Training.Shares["gemm"], broken.Training.TokensPerSecond = nan, nan
	broken.Speculative.Identical = false
	for i := range broken.Curves {
		broken.Curves[i].Steps[3].Loss = nan
	}
	one := &DemoResult{Curves: []DemoCurve{{Stage: "hybrid", Steps: []train.Step{{Loss: 1, Total: 5}}}, {Stage: "pure"}}}
	flat := &DemoResult{Curves: []DemoCurve{{Stage: "draft", Steps: []train.Step{{Loss: 1, Total: 5}, {Loss: 1, Total: 10}}}}}
	for i, r := range []*DemoResult{{}, broken, one, flat} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			page := writeReport(t, r)
			if _, err := parsePage(page); err != nil {
				t.Fatalf("the page is not well-formed: %v", err)
			}
			body := page[strings.Index(page, "<body"):]
			if m := regexp.MustCompile(`NaN|Inf|ZgotmplZ|!\(`).FindString(body); m != "" {
				t.Errorf("the page contains %q", m)
			}
			if bad := strings.Contains(body, `class="wrong"`); bad != true {
				t.Error("output that differs from plain decoding is not marked")
			}
		})
	}
}

// TestReportIsWhole: a report that can't be written leaves nothing, and leaves an old one as it was.
func TestReportIsWhole(t *testing.T) {
	dir := t.TempDir()
	if err := WriteReport(filepath.Join(dir, "absent", "report.html"), plausibleResult()); err == nil {
		t.Error("a report in a directory that does not exist was written")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}

func TestReportNumbers(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{count(0), "0"}, {count(999), "999"}, {count(1000), "1 k"}, {count(260032), "260 k"}, {count(1540000), "1.54 M"}, {count(999999), "1000 k"},
		{count(4600000), "4.6 M"}, {size(655360), "640 KiB"}, {size(17920), "17.5 KiB"}, {size(3 << 20), "3.00 MiB"}, {duration(9.96), "10.0 s"}, {duration(61), "61 s"},
		{duration(412.6), "6 min 53 s"}, {duration(3599.7), "60 min 00 s"}, {group(1234567), "1\u202f234\u202f567"}, {fixed(math.NaN(), 2), missing},
		{fixed(1.0714, 3), "1.071"}, {significant(12.345), "12.35"}, {significant(1234.5), "1\u202f235"}, {significant(0.99951), "1.000"}, {rate(0.4), missing}, {enumerate([]int{1, 3, 5}), "1, 3 and 5"}, {enumerate(nil), ""},
		{fmt.Sprint(niceTicks(0, 1433600, 6)), "[0 250000 500000 750000 1e+06 1.25e+06]"}, {fmt.Sprint(logTicks(0.04, 2.5)), "[0.05 0.1 0.2 0.5 1 2]"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
