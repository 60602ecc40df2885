package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/term"
)

// errInterrupted is Ctrl-C where a line is typed.
var errInterrupted = errors.New("interrupted")

// lines reads what is typed: with editing and a history on a terminal, plainly elsewhere.
type lines struct {
	plain *bufio.Reader // nil on a terminal
	ui    *ui
	keys  *keys
	edit  *term.Terminal
}

func newLines(ctx context.Context, u *ui, terminal bool) *lines {
	if !terminal {
		return &lines{plain: bufio.NewReader(u.stdin(ctx)), ui: u}
	}
	l := &lines{ui: u, keys: &keys{in: u.in}}
	l.edit = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{l.keys, u.out}, "")
	l.edit.History = newHistory(historyPath())
	return l
}

// read returns the next line, or several that were pasted together.
func (l *lines) read(prompt string) (string, error) {
	if l.plain != nil {
		line, err := l.plain.ReadString('\n')
		if err != nil && line == "" {
			return "", err
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	in := l.ui.in.(*os.File)
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return "", err
	}
	defer term.Restore(int(in.Fd()), old)
	if columns, rows, err := term.GetSize(int(in.Fd())); err == nil && columns > 0 {
		_ = l.edit.SetSize(columns, rows) // it does not fail
	}
	l.edit.SetBracketedPasteMode(true)
	defer l.edit.SetBracketedPasteMode(false)
	l.edit.SetPrompt(prompt)
	l.keys.interrupted = false
	var said strings.Builder
	for {
		line, err := l.edit.ReadLine()
		said.WriteString(line)
		switch {
		case l.keys.interrupted:
			return "", errInterrupted
		case errors.Is(err, term.ErrPasteIndicator): // the rest of what was pasted belongs to it
			said.WriteByte('\n')
			continue
		}
		return said.String(), err
	}
}

// keys passes on what is typed. Ctrl-C, which would look like the end of the input, becomes the end of an emptied line.
type keys struct {
	in          io.Reader
	held        []byte
	interrupted bool
}

func (k *keys) Read(p []byte) (int, error) {
	if len(k.held) == 0 {
		buffer := make([]byte, 256)
		n, err := k.in.Read(buffer)
		if err != nil {
			return 0, err
		}
		for _, b := range buffer[:n] {
			if b == 3 {
				k.interrupted = true
				k.held = append(k.held[:0], 5, 21, '\r') // to the end, delete to the beginning, enter
				break
			}
			k.held = append(k.held, b)
		}
	}
	n := copy(p, k.held)
	k.held = k.held[n:]
	return n, nil
}

// maxHistory is the number of lines that a history file keeps.
const maxHistory = 1000

// history is what was typed before, the latest last, in a file where there is a path.
type history struct {
	path  string
	lines []string
}

// historyPath returns the file of the history, or "" where none is wanted or possible.
func historyPath() string {
	if os.Getenv("KRAIT_NOHISTORY") != "" {
		return ""
	}
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		var err error
		switch runtime.GOOS {
		case "windows":
			dir, err = os.UserCacheDir()
		case "darwin":
			dir, err = os.UserConfigDir()
		default:
			dir, err = os.UserHomeDir()
			dir = filepath.Join(dir, ".local", "state")
		}
		if err != nil {
			return ""
		}
	}
	return filepath.Join(dir, "krait", "history")
}

// newHistory reads a history. A file that cannot be read is no reason not to talk.
func newHistory(path string) *history {
	h := &history{path: path}
	data, err := os.ReadFile(path)
	if path == "" || err != nil {
		return h
	}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			h.lines = append(h.lines, line)
		}
	}
	if len(h.lines) > 2*maxHistory {
		h.lines = h.lines[len(h.lines)-maxHistory:]
		_ = os.WriteFile(path, []byte(strings.Join(h.lines, "\n")+"\n"), 0o600) // as above
	}
	return h
}

// Add appends a line, unless it is blank or a repetition.
func (h *history) Add(line string) {
	if strings.TrimSpace(line) == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return
	}
	h.lines = append(h.lines, line)
	if h.path == "" || os.MkdirAll(filepath.Dir(h.path), 0o700) != nil {
		return
	}
	f, err := os.OpenFile(h.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_, _ = f.WriteString(line + "\n")
	_ = f.Close()
}

// Len returns the number of lines.
func (h *history) Len() int { return len(h.lines) }

// At returns the i-th line from the latest.
func (h *history) At(i int) string { return h.lines[len(h.lines)-1-i] }
