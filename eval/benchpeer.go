package eval

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

//go:embed peer.py
var peerScript string

// PeerModule is the Python package with a prebuilt llama.cpp.
const PeerModule = "xllamacpp"

// BenchPeer is another engine's figure for the test of a row, from runs that took turns with ours.
type BenchPeer struct {
	TokensPerSecond float64 `json:"tokens_per_second"`
	Milliseconds    float64 `json:"milliseconds"`
	Ratio           float64 `json:"ratio,omitempty"` // as in the row: over the peer's own tg128
	Speedup         float64 `json:"speedup"`         // ours over the peer's: the median over neighbouring runs
}

// Peer is llama.cpp, running on a GGUF file in a process of its own.
type Peer struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	said    bytes.Buffer // on standard error
}

// PeerPython returns why a Python cannot run llama.cpp, or nil.
func PeerPython(ctx context.Context, python string) error {
	if _, err := exec.LookPath(python); err != nil {
		return fmt.Errorf("there is no %s", python)
	}
	if err := exec.CommandContext(ctx, python, "-c", "import "+PeerModule).Run(); err != nil {
		return fmt.Errorf("%s has no package %s (scripts/install-peer.sh installs it)", python, PeerModule)
	}
	return nil
}

// peerWindow is the context of each of the peer's sequences.
const peerWindow = 1024

// StartPeer runs llama.cpp on a file. Close ends it.
func StartPeer(ctx context.Context, python, file string, threads int) (*Peer, error) {
	return startPeer(ctx, python, map[string]any{"model": file, "threads": threads, "context": peerWindow, "sequences": sequences})
}

// StartSpeculatingPeer runs llama.cpp on two files, of a model and of a draft that guesses for it.
func StartSpeculatingPeer(ctx context.Context, python, file, draft string, threads int) (*Peer, error) {
	return startPeer(ctx, python, map[string]any{"model": file, "draft": draft, "threads": threads, "context": peerWindow, "sequences": 1})
}

func startPeer(ctx context.Context, python string, options map[string]any) (*Peer, error) {
	config, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	p := &Peer{cmd: exec.CommandContext(ctx, python, "-c", peerScript, string(config))}
	p.cmd.Stderr = &p.said
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.read(p); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close ends the peer.
func (p *Peer) Close() {
	p.in.Close()
	if p.cmd.Wait() != nil { // it was interrupted, or failed: what it has to say was said
		return
	}
}

// read takes a line of JSON.
func (p *Peer) read(v any) error {
	for {
		line, err := p.out.ReadBytes('\n')
		if err != nil {
			p.in.Close()
			_ = p.cmd.Wait() // so that standard error is whole
			return fmt.Errorf("llama.cpp ended: %s", lastLine(p.said.String()))
		}
		if len(line) > 0 && line[0] == '{' { // libraries may chat there
			return json.Unmarshal(line, v)
		}
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// peerWork is what the peer does: sequences of prefix tokens each get steps times rows more, with logits of all of them or of the last.
type peerWork struct {
	Prefix    int  `json:"prefix"`
	Rows      int  `json:"rows"`
	Sequences int  `json:"sequences"`
	Steps     int  `json:"steps"`
	All       bool `json:"all"`
}

// peerAnswer is what the peer says of its work.
type peerAnswer struct {
	Error    string  `json:"error"`
	Rows     int     `json:"rows"`
	Steps    int     `json:"steps"`
	Seconds  float64 `json:"seconds"`
	Rollback string  `json:"rollback"` // of speculation: "cut" by the model's memory, or "copy", with what stays fed again
}

// ask gives the peer work of so many steps of so many rows, and returns its answer.
func (p *Peer) ask(work any, steps, rows int) (peerAnswer, error) {
	var t peerAnswer
	line, err := json.Marshal(work)
	if err != nil {
		return t, err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return t, fmt.Errorf("llama.cpp: %w", err)
	}
	switch err := p.read(&t); {
	case err != nil:
		return t, err
	case t.Error != "":
		return t, fmt.Errorf("llama.cpp: %s", t.Error)
	case t.Rows != rows || t.Steps != steps || !(t.Seconds > 0):
		return t, fmt.Errorf("llama.cpp made %d steps of %d rows in %g s, asked for %d of %d", t.Steps, t.Rows, t.Seconds, steps, rows)
	}
	return t, nil
}

// run returns the seconds of one of the steps of the work.
func (p *Peer) run(w peerWork) (float64, error) {
	t, err := p.ask(w, w.Steps, w.Rows*w.Sequences)
	return t.Seconds, err
}

// peerSpeculation is rounds of speculation: after prefix tokens the draft guesses depth tokens a round, and so many of each round's are accepted.
type peerSpeculation struct {
	Prefix   int   `json:"prefix"`
	Depth    int   `json:"depth"`
	Accepted []int `json:"accepted"`
}

// speculate returns the tokens a second of such rounds, and how the model takes guesses back. Depth 0 is plain decoding.
func (p *Peer) speculate(w peerSpeculation) (perSecond float64, rollback string, err error) {
	rows := len(w.Accepted)
	for _, n := range w.Accepted {
		rows += n
	}
	t, err := p.ask(w, len(w.Accepted), rows)
	return float64(rows) / t.Seconds, t.Rollback, err
}

// SpecPeer is another engine's speculation with the same number of guesses and as many of them accepted, in turns with ours: medians.
type SpecPeer struct {
	PlainTokensPerSecond float64 `json:"plain_tokens_per_second"`
	TokensPerSecond      float64 `json:"tokens_per_second"`
	Speedup              float64 `json:"speedup"`  // over its own plain decoding
	Rollback             string  `json:"rollback"` // "cut": its memory forgets guesses; "copy": it goes back to a copy and is fed again
}

// peerRounds makes the peer's run beside one of ours: about most tokens plain, and as many in rounds of depth guesses, accepted as drawn. It is
// nil where there is no peer.
func (s *spec) peerRounds(depth, most int, accept func(k int) int) (*SpecPeer, error) {
	if s.Peer == nil {
		return nil, nil
	}
	var r SpecPeer
	var err error
	if r.PlainTokensPerSecond, _, err = s.Peer.speculate(peerSpeculation{Prefix: 1, Accepted: make([]int, most)}); err != nil {
		return nil, err
	}
	w := peerSpeculation{Prefix: 1, Depth: depth}
	for rows := 0; rows < most; rows += 1 + w.Accepted[len(w.Accepted)-1] {
		w.Accepted = append(w.Accepted, accept(depth))
	}
	r.TokensPerSecond, r.Rollback, err = s.Peer.speculate(w)
	r.Speedup = r.TokensPerSecond / r.PlainTokensPerSecond
	return &r, err
}

// against makes the peer's run of a test, where it has one. It takes nothing back after a verification, which costs us something.
func (p *Peer) against(t *benchTest, ours timing) (float64, error) {
	switch {
	case t.name == "tg128":
		return p.run(peerWork{Prefix: 1, Rows: 1, Sequences: 1, Steps: ours.steps, All: true})
	case t.name == "pp512":
		return p.run(peerWork{Rows: ours.tokens, Sequences: 1, Steps: 1})
	case t.name == "batch8":
		return p.run(peerWork{Prefix: 1, Rows: 1, Sequences: sequences, Steps: ours.steps, All: true})
	case strings.HasPrefix(t.name, "verify"):
		return p.run(peerWork{Prefix: prefixRows, Rows: ours.tokens, Sequences: 1, Steps: ours.steps, All: true})
	}
	return 0, nil
}
