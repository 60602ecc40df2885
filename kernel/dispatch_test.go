package kernel

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestChooseLevel(t *testing.T) {
	best := Levels()[len(Levels())-1]
	for _, c := range []struct {
		name, want string
		fails      bool
	}{{"", best, false}, {"portable", "portable", false}, {best, best, false}, {"sse9", best, true}} {
		table, err := choose(c.name)
		if table.name != c.want || (err != nil) != c.fails {
			t.Errorf("choose(%q) = %s, %v; want %s", c.name, table.name, err, c.want)
		}
	}
	if SetLevel("sse9") == nil {
		t.Error("SetLevel accepted a level that does not exist")
	}
}

// Without this, a new file with assembly would break the portable build where nobody looks.
func TestPuregoLeavesAssemblyOut(t *testing.T) {
	files, err := filepath.Glob("*")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range files {
		stem := strings.TrimSuffix(name, filepath.Ext(name))
		if filepath.Ext(name) != ".s" && !strings.HasSuffix(stem, "_amd64") && !strings.HasSuffix(stem, "_arm64") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		seen++
		constraint, _, _ := bytes.Cut(text, []byte("package "))
		if !bytes.Contains(constraint, []byte("//go:build !purego\n")) {
			t.Errorf("%s lacks //go:build !purego", name)
		}
	}
	if seen < 4 {
		t.Errorf("only %d files with assembly", seen)
	}
}

// TestLevelsAreComplete: a level of amd64 has a kernel for everything, so that nothing is left portable by oversight; what arm64 lacks, Why names.
func TestLevelsAreComplete(t *testing.T) {
	if names := portable.leftPortable(); len(names) < 30 {
		t.Errorf("the portable table has only %v", names)
	}
	onLevels(t, func(t *testing.T) {
		for _, name := range active.leftPortable() {
			if runtime.GOARCH == "amd64" || !strings.Contains(Why(), name) {
				t.Errorf("%s: %s is the portable one", active.name, name)
			}
		}
	})
}

func TestWhy(t *testing.T) {
	if why := Why(); why == "" || asked != "" && levelError == nil && !strings.Contains(why, asked) {
		t.Errorf("Why() = %q with KRAIT_KERNELS=%q", why, asked)
	}
}
