package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"krait/recipe"
)

// ui owns the terminal. Its rules: results go to standard output and nothing else does; progress, notes and errors go to standard error;
// progress is drawn as bars where standard error is a terminal, and printed as a line every few seconds where it is not; one sentence
// says what failed; colours are for terminals whose owner has not set NO_COLOR.
type ui struct {
	in    io.Reader
	out   *checkedWriter
	err   io.Writer
	quiet bool
	live  bool // standard error is a terminal: draw bars
	color bool // standard output may be coloured

	mu     sync.Mutex // guards what is below: bars are drawn by their own goroutine
	bars   *mpb.Progress
	stages map[string]*progress
}

// lineEvery is the least time between two lines of a stage's progress.
const lineEvery = 5 * time.Second

func newUI() *ui {
	smart := os.Getenv("TERM") != "dumb"
	return &ui{
		in: os.Stdin, out: &checkedWriter{w: os.Stdout}, err: os.Stderr,
		live:   smart && width(os.Stderr) > 0,
		color:  smart && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(os.Stdout.Fd())),
		stages: map[string]*progress{},
	}
}

// width returns the columns of a terminal; 0 where there is none, or one that does not know.
func width(f *os.File) int {
	if n, _, err := term.GetSize(int(f.Fd())); err == nil {
		return n
	}
	return 0
}

// checkedWriter remembers its first error, so that a full disk behind standard output is noticed.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(p)
	c.err = err
	return n, err
}

// writeError reports that standard output could not be written.
func (u *ui) writeError() error {
	if u.out.err == nil {
		return nil
	}
	var path *os.PathError
	if err := u.out.err; errors.As(err, &path) {
		return fmt.Errorf("write standard output: %w", path.Err)
	}
	return fmt.Errorf("write standard output: %w", u.out.err)
}

// stdin returns standard input; a read of it ends when ctx does.
func (u *ui) stdin(ctx context.Context) io.Reader { return &contextReader{ctx, u.in} }

// contextReader gives up waiting for a reader when its context ends. A read that was given up goes on: nothing may read after it.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := c.r.Read(p)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-c.ctx.Done():
		return 0, c.ctx.Err()
	}
}

// print writes a result.
func (u *ui) print(format string, args ...any) { fmt.Fprintf(u.out, format, args...) }

// json writes a result as one JSON object on a line.
func (u *ui) json(v any) error {
	line, err := jsonLine(v)
	if err != nil {
		return err
	}
	_, _ = u.out.Write(line) // run asks for the writer's error
	return nil
}

// jsonLine encodes v on one line, with <, > and & as they are.
func jsonLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("a result has no JSON form: %w", err)
	}
	return b.Bytes(), nil
}

// table writes rows as a result, in columns.
func (u *ui) table(rows [][]string) {
	w := tabwriter.NewWriter(u.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	w.Flush()
}

// note tells the user something beside the result.
func (u *ui) note(format string, args ...any) {
	if !u.quiet {
		u.say("krait: " + fmt.Sprintf(format, args...))
	}
}

// say prints a line on standard error, above the bars if there are any.
func (u *ui) say(line string) {
	u.mu.Lock()
	bars := u.bars
	u.mu.Unlock()
	if bars != nil {
		if _, err := bars.Write([]byte(line + "\n")); err == nil {
			return
		}
	}
	fmt.Fprintln(u.err, line)
}

// status prints the sentence that belongs to an error and returns the exit status.
func (u *ui) status(err error) int {
	var wrong *usageError
	switch {
	case err == nil:
		return statusDone
	case errors.As(err, &wrong):
		fmt.Fprintf(u.err, "krait: %v (see: %s)\n", err, strings.TrimSpace("krait help "+wrong.verb))
		return statusUsage
	case errors.Is(err, context.Canceled):
		var stopped *interrupted
		if !errors.As(err, &stopped) {
			err = &interrupted{}
		}
		fmt.Fprintf(u.err, "krait: %v\n", err)
		return statusInterrupted
	}
	fmt.Fprintf(u.err, "krait: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	return statusFailed
}

// interrupted is the end of a verb that the user stopped; hint says how to go on.
type interrupted struct{ hint string }

func (e *interrupted) Error() string { return strings.TrimSuffix("interrupted: "+e.hint, ": ") }
func (e *interrupted) Unwrap() error { return context.Canceled }

// report shows a stage's event.
func (u *ui) report(e recipe.Event) {
	if e.Note != "" {
		u.note("%s: %s", e.Stage, e.Note)
	}
	if u.quiet || e.Total <= 1 {
		return
	}
	u.mu.Lock()
	p := u.stages[e.Stage]
	begun := p == nil
	if begun {
		p = &progress{stage: e.Stage, first: e.Done - 1, start: time.Now(), printed: time.Now()}
		u.stages[e.Stage] = p
	}
	p.done, p.total, p.unit, p.text = e.Done, e.Total, e.Unit, e.Text
	if begun && u.live {
		u.addBar(p)
	}
	line := ""
	if p.bar == nil && (p.done >= p.total || time.Since(p.printed) >= lineEvery) {
		p.printed = time.Now()
		line = fmt.Sprintf("krait: %s %s", p.stage, p.figures())
	}
	u.mu.Unlock()
	switch {
	case p.bar != nil:
		p.bar.SetTotal(int64(e.Total), false)
		p.bar.SetCurrent(int64(e.Done))
	case line != "":
		u.say(line)
	}
	if e.Stage == recipe.LoadStage && e.Done == e.Total {
		u.end(e.Stage) // the next model has its own
	}
}

// addBar gives a stage a bar; u.mu is held.
func (u *ui) addBar(p *progress) {
	if u.bars == nil {
		u.bars = mpb.New(mpb.WithOutput(u.err), mpb.WithWidth(30), mpb.WithAutoRefresh())
	}
	figures := func(decor.Statistics) string {
		u.mu.Lock()
		defer u.mu.Unlock()
		return " " + p.figures()
	}
	p.bar = u.bars.AddBar(int64(p.total), mpb.PrependDecorators(decor.Name(fmt.Sprintf("%-8s", p.stage))), mpb.AppendDecorators(decor.Any(figures)))
}

// end takes the bar of a stage that is done off the terminal's hands, so that what comes next is written below it.
func (u *ui) end(stage string) {
	u.mu.Lock()
	delete(u.stages, stage)
	last := len(u.stages) == 0
	u.mu.Unlock()
	if last {
		u.close()
	}
}

// close ends the bars; those of stages that did not reach their end stay as they are.
func (u *ui) close() {
	u.mu.Lock()
	bars := u.bars
	u.bars = nil
	var unfinished []*mpb.Bar
	for _, p := range u.stages {
		if p.bar != nil && p.done < p.total {
			unfinished = append(unfinished, p.bar)
		}
	}
	u.mu.Unlock()
	for _, b := range unfinished {
		b.Abort(false)
	}
	if bars != nil {
		bars.Wait()
	}
}

// progress is how far a stage is. first is where this process took it up, so that the rate of a resumed stage is its own.
type progress struct {
	stage, unit, text  string
	first, done, total int
	start, printed     time.Time
	bar                *mpb.Bar
}

// figures returns "120/600 documents  35.1/s  ETA 14s  …".
func (p *progress) figures() string {
	s := fmt.Sprintf("%d/%d %s", p.done, p.total, p.unit)
	if rate := float64(p.done-p.first-1) / time.Since(p.start).Seconds(); rate > 0 {
		s += "  " + formatRate(rate) + "/s"
		if p.done < p.total {
			s += "  ETA " + time.Duration(float64(p.total-p.done)/rate*float64(time.Second)).Round(time.Second).String()
		}
	}
	if p.text != "" {
		s += "  " + p.text
	}
	return s
}

// formatRate returns a rate with about three digits.
func formatRate(r float64) string {
	switch {
	case r >= 100:
		return fmt.Sprintf("%.0f", r)
	case r >= 10:
		return fmt.Sprintf("%.1f", r)
	}
	return fmt.Sprintf("%.2f", r)
}

// formatBytes returns a size with its unit.
func formatBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/unit, 0
	for ; v >= unit && i < 3; i++ {
		v /= unit
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGT"[i])
}
