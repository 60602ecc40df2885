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
	Speedup         float64 `json:"speedup"` // ours over the peer's: the median over neighbouring runs
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

// StartPeer runs llama.cpp on a file. Close ends it.
func StartPeer(ctx context.Context, python, file string, threads, window int) (*Peer, error) {
	config, err := json.Marshal(map[string]any{"model": file, "threads": threads, "context": window})
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

// run reads a prompt and decodes tokens tokens greedily; it returns the seconds of the prompt and those of a decoded token.
func (p *Peer) run(prompt []int32, tokens int) (reading, token float64, err error) {
	line, err := json.Marshal(map[string]any{"prompt": prompt, "tokens": tokens})
	if err != nil {
		return 0, 0, err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return 0, 0, fmt.Errorf("llama.cpp: %w", err)
	}
	var t struct {
		Error         string  `json:"error"`
		PromptTokens  int     `json:"prompt_tokens"`
		PromptSeconds float64 `json:"prompt_seconds"`
		Tokens        int     `json:"tokens"`
		Seconds       float64 `json:"seconds"`
	}
	switch err := p.read(&t); {
	case err != nil:
		return 0, 0, err
	case t.Error != "":
		return 0, 0, fmt.Errorf("llama.cpp: %s", t.Error)
	case t.PromptTokens != len(prompt) || t.Tokens != tokens:
		return 0, 0, fmt.Errorf("llama.cpp read %d of %d tokens and wrote %d of %d", t.PromptTokens, len(prompt), t.Tokens, tokens)
	}
	return t.PromptSeconds, t.Seconds / float64(max(1, tokens-1)), nil // its clock starts when the first token is there
}

// against makes the peer's run of a test, where it has one.
func (p *Peer) against(t *benchTest, ours timing, vocabulary int) (float64, error) {
	switch t.name {
	case "tg128":
		_, token, err := p.run([]int32{1}, ours.steps+1)
		return token, err
	case "pp512":
		reading, _, err := p.run(randomTokens(ours.tokens, vocabulary, 7), 1)
		return reading, err
	}
	return 0, nil
}
