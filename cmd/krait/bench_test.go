package main

import (
	"strings"
	"testing"
)

func TestBench(t *testing.T) {
	dir := t.TempDir()
	var r struct {
		Shape string
		Rows  []map[string]any
	}
	keys := mustJSON(t, dir, &r, "bench", "stories260k", "--json", "--tests", "tg128,verify2,gemm_bf16", "--runs", "1", "--seconds", "0.05", "--threads", "1")
	wantKeys(t, keys, "isa", "shape", "vocabulary", "type", "threads", "parameters", "rows", "probes")
	probes, _ := keys["probes"].(map[string]any)
	wantKeys(t, probes, "read_gb_per_second", "fma_gflops", "absent")
	if r.Shape != "stories260k" || len(r.Rows) != 3 || keys["threads"] != 1.0 {
		t.Fatalf("%+v", keys)
	}
	for _, row := range r.Rows {
		if row["test"] == "gemm_bf16" {
			if row["absent"] != true || row["fraction_of_limit"] != nil {
				t.Errorf("absent: %v", row)
			}
			continue
		}
		wantKeys(t, row, "isa", "tokens_per_second", "milliseconds", "fraction_of_limit", "absent")
		if _, ok := row["ratio"]; ok != (row["test"] == "verify2") {
			t.Errorf("ratio: %v", row)
		}
	}
	if table := must(t, dir, "bench", "--shape", "tinyhybrid", "--tests", "tg128,depth4096", "--runs", "1", "--seconds", "0.05"); !strings.Contains(table, "depth4096") {
		t.Error(table)
	}
}

// TestBenchType measures narrow weights.
func TestBenchType(t *testing.T) {
	for _, weights := range []string{"bf16", "q8", "q4"} {
		keys := mustJSON(t, t.TempDir(), nil, "bench", "stories260k", "--type", weights, "--json", "--tests", "verify2", "--runs", "1", "--seconds", "0.05")
		if keys["type"] != weights {
			t.Errorf("type %v, want %s", keys["type"], weights)
		}
	}
}

// TestBenchWithoutPeer says why there is no comparison, and measures all the same.
func TestBenchWithoutPeer(t *testing.T) {
	r := krait(t, t.TempDir(), "", "bench", "stories260k", "--compare", "llama.cpp", "--tests", "tg128", "--runs", "1", "--seconds", "0.05")
	if r.status != 0 || !strings.Contains(r.errors, "no comparison: llama.cpp reads GGUF files") || !strings.Contains(r.out, "tg128") {
		t.Errorf("%+v", r)
	}
}

func TestBenchSpec(t *testing.T) {
	dir := t.TempDir()
	var r struct{ Rows []map[string]any }
	mustJSON(t, dir, &r, "bench", "spec", "--shape", "tinyhybrid", "--synthetic", "2.5,3.4", "--runs", "1", "--seconds", "0.05", "--json")
	if len(r.Rows) != 2 {
		t.Fatal(r)
	}
	for i, name := range []string{"synthetic-2.5", "synthetic-3.4"} {
		wantKeys(t, r.Rows[i], "name", "tokens_per_step", "depth", "plain_tokens_per_second", "tokens_per_second", "speedup", "identical", "draft")
		if r.Rows[i]["name"] != name || r.Rows[i]["identical"] != true {
			t.Error(r.Rows[i])
		}
	}
	if table := must(t, dir, "bench", "spec", "stories260k", "--synthetic", "2", "--depth", "2", "--runs", "1", "--seconds", "0.05"); !strings.Contains(table, "synthetic-2") {
		t.Error(table)
	}
}

func TestBenchUsage(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"bench":                                           "neither MODEL nor --shape",
		"bench spec":                                      "neither MODEL nor --shape",
		"bench a b":                                       `argument "b"`,
		"bench stories260k --shape tiny":                  "two models",
		"bench --shape nosuch":                            "want one of smol135m",
		"bench --shape tiny --tests tg129":                `"tg129"`,
		"bench --shape tiny --threads 0":                  "--threads is 0",
		"bench --shape tiny --runs 0":                     "--runs is 0",
		"bench --shape tiny --seconds 0":                  "--seconds is 0",
		"bench --shape tiny --compare vllm":               "--compare",
		"bench --shape tiny --type q9":                    "--type",
		"bench spec --shape tiny --synthetic 0.5":         "--synthetic 0.5",
		"bench spec --shape tiny --synthetic 4 --depth 2": "--synthetic 4",
		"bench spec --shape tiny --depth -2":              "--depth is -2",
		"bench spec --shape tiny --draft-shape nosuch":    "--draft-shape",
	} {
		if r := krait(t, dir, "", strings.Fields(args)...); r.status != 2 || r.out != "" || !strings.Contains(r.errors, want) {
			t.Errorf("%s: status %d, %q, want %q", args, r.status, r.errors, want)
		}
	}
	if r := krait(t, dir, "", "bench", "nowhere"); r.status != 1 {
		t.Errorf("a model that is not there: status %d, %q", r.status, r.errors)
	}
}
