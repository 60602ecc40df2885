package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestQuantize writes small weights and uses them: what generate says with them is what it says with --type on the original, and the
// agreement with the original is that of the type.
func TestQuantize(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "example", "teacher")
	text := filepath.Join("teacher", "heldout.txt")
	for _, c := range []struct {
		name          string
		bits, kl, top float64
	}{{"bf16", 17.5, 0.0005, 0.99}, {"q8", 9.2, 0.0008, 0.98}, {"q4", 5.6, 0.2, 0.75}} {
		var q quantized
		mustJSON(t, dir, &q, "quantize", "teacher", "--type", c.name, "--out", c.name, "--json")
		if q.Parameters != 260032 || q.Bits > c.bits || q.Type != c.name {
			t.Errorf("%s: %+v", c.name, q)
		}
		want := must(t, dir, "generate", "teacher", "--type", c.name, "--prompt", "Once", "-n", "40", "-q")
		if got := must(t, dir, "generate", c.name, "--prompt", "Once", "-n", "40", "-q"); got != want {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
		if got := must(t, dir, "generate", c.name, "--prompt", "Once", "-n", "40", "-q", "--ngram"); got != want {
			t.Errorf("%s, speculating: %q, want %q", c.name, got, want)
		}
		var a agreement
		mustJSON(t, dir, &a, "eval", "agreement", c.name, "teacher", "--text", text, "--type", c.name, "--json")
		if !(a.KL > 0 && a.KL < c.kl && a.Top1 > c.top) {
			t.Errorf("%s: %+v", c.name, a)
		}
		must(t, dir, "eval", "ppl", c.name, "--text", text)
	}
	checkKVFlag(t, dir, text)
	for _, args := range [][]string{{"quantize", "teacher", "--type", "f32", "--out", "x"}, {"quantize", "teacher", "--type", "q8"}, {"generate", "q8", "--prompt", "a", "--kv", "bf16"}, {"eval", "ppl", "q8", "--text", text, "--kv", ""}} {
		if r := krait(t, dir, "", args...); r.status != 2 {
			t.Errorf("%v: status %d", args, r.status)
		}
	}
	if r := krait(t, dir, "", "quantize", "teacher", "--type", "q8", "--out", "q8"); r.status != 1 {
		t.Errorf("over a directory: status %d", r.status)
	}
}

// checkKVFlag: a narrow model's state is half as large, and show says so; --kv changes what eval measures by little, and what generate
// writes for short texts by nothing.
func checkKVFlag(t *testing.T, dir, text string) {
	t.Helper()
	var wide, narrow shown
	mustJSON(t, dir, &wide, "show", "teacher", "--json")
	mustJSON(t, dir, &narrow, "show", "q8", "--json")
	if w, n := wide.StateBytes, narrow.StateBytes; w.KV != "f32" || n.KV != "f16" || w.PerToken != 2*n.PerToken || n.PerToken == 0 {
		t.Errorf("show: %+v, %+v", w, n)
	}
	if table := must(t, dir, "show", "q8"); !strings.Contains(table, "keys and values in f16") {
		t.Error(table)
	}
	var exact, half agreement
	mustJSON(t, dir, &exact, "eval", "agreement", "teacher", "teacher", "--text", text, "--json")
	mustJSON(t, dir, &half, "eval", "agreement", "teacher", "teacher", "--text", text, "--kv", "f16", "--json")
	if exact.KL > 1e-6 || !(half.KL > exact.KL && half.KL < 1e-4) || half.Top1 < 0.99 {
		t.Errorf("f32: %+v, f16: %+v", exact, half)
	}
	args := []string{"generate", "teacher", "--prompt", "Once", "-n", "40", "-q"}
	want := must(t, dir, args...)
	for _, more := range [][]string{{"--kv", "f32"}, {"--kv", "f16"}, {"--kv", "f16", "--ngram"}} {
		if got := must(t, dir, append(args, more...)...); got != want {
			t.Errorf("%v: %q, want %q", more, got, want)
		}
	}
}
