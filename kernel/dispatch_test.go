package kernel

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
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

// TestLevelsAreComplete: a level that has vectors has a kernel for everything, so that no entry of the table is left portable by oversight.
func TestLevelsAreComplete(t *testing.T) {
	base := reflect.ValueOf(portable)
	for _, level := range levels[1:] {
		v := reflect.ValueOf(*level)
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Type.Kind() == reflect.Func && !base.Field(i).IsNil() && v.Field(i).Pointer() == base.Field(i).Pointer() {
				t.Errorf("%s: %s is the portable one", level.name, field.Name)
			}
		}
		for f := range panelFormats {
			if reflect.ValueOf(level.narrow[f].panel).Pointer() == reflect.ValueOf(portable.narrow[f].panel).Pointer() {
				t.Errorf("%s: the product with %v is the portable one", level.name, PanelFormat(f))
			}
		}
	}
}

func TestWhy(t *testing.T) {
	if why := Why(); why == "" || asked != "" && levelError == nil && !strings.Contains(why, asked) {
		t.Errorf("Why() = %q with KRAIT_KERNELS=%q", why, asked)
	}
}
