// Package recipe holds the stages of the method, a file each: a stage is a function from directories to a new directory, which is absent or
// whole, and which goes on where it was when it is run again after an interruption.
package recipe

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"krait/checkpoint"
)

// Version is the version that stages write into what they make.
const Version = "0.1.0"

// Event is a stage's progress: Done of Total units. Text says how it goes. Note is a sentence for the user that is no progress.
type Event struct {
	Stage       string
	Done, Total int
	Unit        string
	Text, Note  string
}

// Report receives events; the binary shows them.
type Report func(Event)

//go:embed stories260k
var embedded embed.FS

// Stories260K returns the embedded default model's files: a real Llama of 260 k parameters with its tokenizer and licence, and
// heldout.txt, stories that it was not trained on.
func Stories260K() fs.FS {
	sub, err := fs.Sub(embedded, "stories260k")
	if err != nil {
		panic(err)
	}
	return sub
}

// HeldOut returns the embedded held-out text.
func HeldOut() string {
	b, err := fs.ReadFile(Stories260K(), "heldout.txt")
	if err != nil {
		panic(err)
	}
	return string(b)
}

// Example writes the embedded model's directory to out.
func Example(out string) error {
	if err := checkpoint.RefuseExisting(out); err != nil {
		return err
	}
	tmp := checkpoint.Partial(out)
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	entries, err := fs.ReadDir(Stories260K(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		b, err := fs.ReadFile(Stories260K(), e.Name())
		if err != nil {
			return err
		}
		if err := checkpoint.WriteFile(filepath.Join(tmp, e.Name()), b); err != nil {
			return err
		}
	}
	return checkpoint.Finish(out)
}

// provenance describes a stage's run: its configuration and the content of what it read.
func provenance(stage string, config any, inputs ...string) (*checkpoint.Provenance, error) {
	c, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	p := &checkpoint.Provenance{Stage: stage, Version: Version, Config: c}
	for _, path := range inputs {
		if path == "" {
			continue
		}
		in, err := checkpoint.Hash(path)
		if err != nil {
			return nil, err
		}
		p.Inputs = append(p.Inputs, in)
	}
	return p, nil
}

// writeProvenance writes the krait.json of a directory that is no checkpoint.
func writeProvenance(dir string, p *checkpoint.Provenance) error {
	j, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return checkpoint.WriteFile(filepath.Join(dir, "krait.json"), j)
}

// begin makes out.partial ready for a stage. If it holds work of the same stage, configuration and inputs, that work goes on; anything
// else is dropped, and the report says so.
func begin(out string, p *checkpoint.Provenance, report Report) error {
	if err := checkpoint.RefuseExisting(out); err != nil {
		return err
	}
	tmp := checkpoint.Partial(out)
	plan, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	old, err := os.ReadFile(checkpoint.PlanPath(out))
	if err == nil && string(old) == string(plan) {
		return nil
	}
	if err == nil {
		report(Event{Stage: p.Stage, Note: fmt.Sprintf("%s holds unfinished work of another configuration: starting over", tmp)})
	}
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return err
	}
	return checkpoint.WriteFile(checkpoint.PlanPath(out), plan)
}

// finish turns a stage's partial directory into its result.
func finish(out string) error {
	if err := os.Remove(checkpoint.PlanPath(out)); err != nil {
		return err
	}
	return checkpoint.Finish(out)
}

// matchesAny reports whether name contains one of parts.
func matchesAny(name string, parts []string) bool {
	for _, p := range parts {
		if strings.Contains(name, p) {
			return true
		}
	}
	return false
}
