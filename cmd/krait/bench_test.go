package main

import (
	"encoding/xml"
	"path/filepath"
	"strings"
	"testing"

	"krait/kernel"
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
			if row["absent"] == kernel.HasBF16() || (row["fraction_of_limit"] == nil) != (row["absent"] == true) {
				t.Errorf("absent: %v", row)
			}
			continue
		}
		wantKeys(t, row, "isa", "tokens_per_second", "milliseconds", "fraction_of_limit", "absent")
		if _, ok := row["ratio"]; ok != (row["test"] == "verify2") {
			t.Errorf("ratio: %v", row)
		}
	}
	if table := must(t, dir, "bench", "--shape", "tinyhybrid", "--tests", "tg128,depth4096", "--runs", "1", "--seconds", "0.05"); !strings.Contains(table, "depth4096") || strings.Count(table, kernel.Level()) < 3 {
		t.Error(table)
	}
}

// TestBenchAbsent: a level that lacks something says so on its row, in the table and in the JSON object.
func TestBenchAbsent(t *testing.T) {
	c := command(t.TempDir(), "bench", "--shape", "tinydraft", "--tests", "gemm_bf16,tg128", "--runs", "1", "--seconds", "0.05")
	c.Env = append(c.Env, "KRAIT_KERNELS=portable")
	r := finish(t, c)
	for _, want := range []string{"absent in bf16", "absent: the level portable has no instructions for products of bf16", "gemm_bf16  portable"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s%s", want, r.out, r.errors)
		}
	}
}

// TestBenchType measures narrow weights.
func TestBenchType(t *testing.T) {
	for _, weights := range []string{"bf16", "q8", "q4"} {
		keys := mustJSON(t, t.TempDir(), nil, "bench", "stories260k", "--type", weights, "--json", "--tests", "verify2", "--runs", "1", "--seconds", "0.05")
		if keys["type"] != weights || keys["kv"] != "f16" {
			t.Errorf("type %v, want %s; keys and values %v", keys["type"], weights, keys["kv"])
		}
	}
	if keys := mustJSON(t, t.TempDir(), nil, "bench", "--shape", "tiny", "--type", "q8", "--kv", "f32", "--json", "--tests", "gemm_f32", "--runs", "1", "--seconds", "0.05"); keys["kv"] != "f32" {
		t.Errorf("keys and values %v, want f32", keys["kv"])
	}
}

// TestBenchCompare refuses peers that there are not, and says why PyTorch cannot train a model.
func TestBenchCompare(t *testing.T) {
	if r := krait(t, t.TempDir(), "", "bench", "stories260k", "--compare", "vllm"); r.status != 2 || !strings.Contains(r.errors, "want llama.cpp or pytorch") {
		t.Errorf("%+v", r)
	}
	r := krait(t, t.TempDir(), "", "bench", "--shape", "tinymamba", "--compare", "pytorch", "--tests", "tg128", "--runs", "1", "--seconds", "0.05")
	if r.status != 0 || !strings.Contains(r.errors, "no comparison of training: PyTorch's step is that of Mamba2 layers") {
		t.Errorf("%+v", r)
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
	var r struct {
		Rows     []map[string]any
		Rollback struct {
			Rows   int
			Share  float64
			Log    int `json:"log_bytes"`
			Copies int `json:"state_copies_bytes"`
		}
	}
	mustJSON(t, dir, &r, "bench", "spec", "--shape", "tinyhybrid", "--synthetic", "2.5,3.4", "--runs", "1", "--seconds", "0.05", "--json")
	if len(r.Rows) != 2 {
		t.Fatal(r)
	}
	if r.Rollback.Rows != 5 || r.Rollback.Log <= 0 || r.Rollback.Copies < 4*r.Rollback.Log || r.Rollback.Share > 1 {
		t.Errorf("%+v", r.Rollback)
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

// TestBenchSpecText measures prompts, from JSON lines and from a text, with all who guess, and draws the figures.
func TestBenchSpecText(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "chat.jsonl"), []byte("\"Once upon a time\"\n{\"turns\": [\"The big dog\", \"x\"]}\n{\"id\": 3, \"prompt\": \"Lily\"}\n"))
	write(t, filepath.Join(dir, "stories.txt"), []byte("One day\n\nTim had a cat.\nThe cat\n\n"))
	var r struct {
		Rows  []map[string]any
		Steps []float64 `json:"step_milliseconds"`
	}
	mustJSON(t, dir, &r, "bench", "spec", "stories260k", "--text", "chat.jsonl", "--text", "stories.txt", "--ngram", "--self-draft", "0-2", "--prompts", "2",
		"--max-tokens", "60", "--runs", "1", "--plot", "spec.svg", "--json")
	if len(r.Rows) != 6 || len(r.Steps) < 2 {
		t.Fatal(r)
	}
	for i, name := range []string{"chat n-grams", "stories n-grams", "chat draft", "stories draft", "chat both", "stories both"} {
		wantKeys(t, r.Rows[i], "name", "tokens_per_step", "mean_depth", "plain_tokens_per_second", "tokens_per_second", "speedup", "least_speedup", "identical")
		if r.Rows[i]["name"] != name || r.Rows[i]["identical"] != true {
			t.Error(r.Rows[i])
		}
	}
	if plot := string(read(t, filepath.Join(dir, "spec.svg"))); xml.Unmarshal([]byte(plot), new(struct{})) != nil || strings.Count(plot, "<polyline") < 2 || strings.Count(plot, "<rect") < 12 {
		t.Error(plot)
	}
	if table := must(t, dir, "bench", "spec", "stories260k", "--text", "stories.txt", "--ngram", "--runs", "1", "--max-tokens", "20"); !strings.Contains(table, "stories n-grams") {
		t.Error(table)
	}
	r.Rows, r.Steps = nil, nil
	mustJSON(t, dir, &r, "bench", "spec", "stories260k", "--text", "chat.jsonl", "--ngram", "--self-draft", "0-2", "--at-once", "2", "--max-tokens", "60", "--runs", "1", "--json")
	for i, name := range []string{"chat n-grams", "chat draft", "chat both"} {
		if x := r.Rows[i]; x["name"] != name || x["identical"] != true || !(x["tokens_per_step"].(float64) >= 1) || !(x["least_speedup"].(float64) > 0) {
			t.Error(x)
		}
	}
	if len(r.Steps) < 2 || !(r.Steps[0] > 0) { // steps of two sequences were made
		t.Error(r.Steps)
	}
	var check struct {
		Identical bool
		Checks    []map[string]any
	}
	mustJSON(t, dir, &check, "bench", "spec", "stories260k", "--text", "chat.jsonl", "--ngram", "--self-draft", "0-3", "--max-tokens", "30", "--check-identical", "--json")
	if !check.Identical || len(check.Checks) != 36 || check.Checks[8]["identical"] != 3.0 || check.Checks[8]["accepted"] == nil {
		t.Error(check)
	}
	write(t, filepath.Join(dir, "bad.jsonl"), []byte("\"A\"\n{\"x\": 1}\n"))
	write(t, filepath.Join(dir, "empty.txt"), []byte("\n\n"))
	for args, want := range map[string]string{"bad.jsonl": "bad.jsonl: line 2: want a JSON string", "empty.txt": "empty.txt: there is no prompt", "nowhere": "nowhere"} {
		if r := krait(t, dir, "", "bench", "spec", "stories260k", "--ngram", "--text", args); r.status != 1 || !strings.Contains(r.errors, want) {
			t.Errorf("%s: %+v", args, r)
		}
	}
}

func TestBenchUsage(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"bench":                                                                 "neither MODEL nor --shape",
		"bench spec":                                                            "neither MODEL nor --shape",
		"bench a b":                                                             `argument "b"`,
		"bench stories260k --shape tiny":                                        "two models",
		"bench --shape nosuch":                                                  "want one of smol135m",
		"bench --shape tiny --tests tg129":                                      `"tg129"`,
		"bench --shape tiny --threads 0":                                        "--threads is 0",
		"bench --shape tiny --runs 0":                                           "--runs is 0",
		"bench --shape tiny --seconds 0":                                        "--seconds is 0",
		"bench --shape tiny --compare vllm":                                     "--compare",
		"bench spec --shape tiny --compare pytorch":                             "--compare \"pytorch\": want llama.cpp",
		"bench spec stories260k --compare llama.cpp":                            "--compare needs --shape",
		"bench --shape tiny --type q9":                                          "--type",
		"bench --shape tiny --kv f8":                                            "--kv",
		"bench spec --shape tiny --synthetic 0.5":                               "--synthetic 0.5",
		"bench spec --shape tiny --synthetic 4 --depth 2":                       "--synthetic 4",
		"bench spec --shape tiny --depth -2":                                    "--depth is -2",
		"bench spec stories260k --text x --ngram --check-identical --plot y":    "measures nothing to draw",
		"bench spec --shape tiny --ngram":                                       "--ngram goes with --text",
		"bench spec --shape tiny --ngram --text x":                              "random weights",
		"bench spec stories260k --text x":                                       "--text needs --draft",
		"bench spec stories260k --text x --ngram --depth 3":                     "nothing is synthetic",
		"bench spec stories260k --text x --ngram --prompts 0":                   "--prompts 0",
		"bench spec stories260k --text x --ngram --at-once 0":                   "--at-once 0",
		"bench spec stories260k --text x --ngram --at-once 2 --check-identical": "batches of its own",
		"bench spec --shape tiny --draft-shape nosuch":                          "--draft-shape",
	} {
		if r := krait(t, dir, "", strings.Fields(args)...); r.status != 2 || r.out != "" || !strings.Contains(r.errors, want) {
			t.Errorf("%s: status %d, %q, want %q", args, r.status, r.errors, want)
		}
	}
	if r := krait(t, dir, "", "bench", "nowhere"); r.status != 1 {
		t.Errorf("a model that is not there: status %d, %q", r.status, r.errors)
	}
}
