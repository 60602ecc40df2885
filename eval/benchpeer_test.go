package eval

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

const fakePeer = "KRAIT_FAKE_PEER"

// TestMain lets this program stand in for Python with a peer: it answers as eval/peer.py does.
func TestMain(m *testing.M) {
	mode := os.Getenv(fakePeer)
	if mode == "" {
		os.Exit(m.Run())
	}
	if len(os.Args) == 3 { // -c "import …"
		os.Exit(map[string]int{"missing": 1}[mode])
	}
	if mode == "broken" {
		fmt.Fprintln(os.Stderr, "Traceback:\nRuntimeError: no such model")
		os.Exit(1)
	}
	var train trainShape
	if json.Unmarshal([]byte(os.Args[len(os.Args)-1]), &train) == nil && train.Hidden > 0 {
		fmt.Printf("{\"version\": \"torch 0\", \"seconds\": 1000, \"waited\": 0.01, \"parameters\": %s, \"peak_gib\": 2.5}\n", os.Getenv("KRAIT_FAKE_PARAMETERS"))
		return
	}
	fmt.Println("loading")
	fmt.Println(`{"name": "fake", "version": "1"}`)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var spec peerSpeculation
		if json.Unmarshal(in.Bytes(), &spec) == nil && len(spec.Accepted) > 0 && mode != "refusing" { // a token takes 2 s, a guessed one half of that
			rows := len(spec.Accepted)
			for _, n := range spec.Accepted {
				rows += n
			}
			seconds := 2 * rows
			if spec.Depth > 0 {
				seconds = rows
			}
			fmt.Printf("{\"seconds\": %d, \"rows\": %d, \"steps\": %d, \"rollback\": \"copy\"}\n", seconds, rows, len(spec.Accepted))
			continue
		}
		var r peerWork
		if err := json.Unmarshal(in.Bytes(), &r); err != nil || mode == "refusing" {
			fmt.Println(`{"error": "context too small"}`)
			continue
		}
		fmt.Printf("{\"seconds\": %d, \"rows\": %d, \"steps\": %d}\n", 1+r.Rows, r.Rows*r.Sequences, r.Steps)
	}
}

func TestPeer(t *testing.T) {
	t.Setenv(fakePeer, "good")
	ctx := context.Background()
	if err := PeerPython(ctx, os.Args[0]); err != nil {
		t.Fatal(err)
	}
	p, err := StartPeer(ctx, os.Args[0], "model.gguf", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := Bench(ctx, subject(t, "tiny"), BenchConfig{Runs: 1, Seconds: 0.02, Tests: []string{"tg128", "pp512", "verify2", "batch8", "gemm_f32"}, Peer: p})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range r.Rows {
		want := map[string]float64{"tg128": 2000, "pp512": 513000, "verify2": 3000, "batch8": 2000}[row.Test]
		if (row.Peer == nil) != (want == 0) || want > 0 && (row.Peer.Milliseconds != want || !(row.Peer.Speedup > 1)) ||
			want > 0 && row.Peer.Ratio != map[string]float64{"verify2": 1.5, "batch8": 1}[row.Test] {
			t.Errorf("%s: %+v", row.Test, row.Peer)
		}
	}
	if r.Peer.Name != "fake" {
		t.Errorf("%+v", r.Peer)
	}
}

func TestSpeculatingPeer(t *testing.T) {
	ctx := context.Background()
	c := SpecConfig{Synthetic: []float64{2}, Depth: 3, Runs: 2, Seconds: 0.01}
	for mode, want := range map[string]string{"good": "", "refusing": "llama.cpp: context too small"} {
		t.Setenv(fakePeer, mode)
		p, err := StartSpeculatingPeer(ctx, os.Args[0], "model.gguf", "draft.gguf", 1)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		c.Peer = p
		r, err := BenchSpec(ctx, subject(t, "tinyhybrid"), subject(t, "tinydraft"), c)
		if want != "" {
			if err == nil || err.Error() != want {
				t.Errorf("%s: %v", mode, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, want := *r.Rows[0].Peer, (SpecPeer{0.5, 1, 2, "copy"}); got != want || r.Peer.Name != "fake" {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

func TestPeerFails(t *testing.T) {
	ctx := context.Background()
	if err := PeerPython(ctx, "no-such-python"); err == nil || !strings.Contains(err.Error(), "there is no no-such-python") {
		t.Error(err)
	}
	t.Setenv(fakePeer, "missing")
	if err := PeerPython(ctx, os.Args[0]); err == nil || !strings.Contains(err.Error(), "install-peer.sh") {
		t.Error(err)
	}
	t.Setenv(fakePeer, "broken")
	if _, err := StartPeer(ctx, os.Args[0], "model.gguf", 2); err == nil || !strings.Contains(err.Error(), "RuntimeError: no such model") {
		t.Error(err)
	}
	t.Setenv(fakePeer, "refusing")
	p, err := StartPeer(ctx, os.Args[0], "model.gguf", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.run(peerWork{Rows: 1, Sequences: 1, Steps: 1}); err == nil || !strings.Contains(err.Error(), "context too small") {
		t.Error(err)
	}
}

// TestTrainPeer: a step of another program stands beside ours, if it trains as many weights.
func TestTrainPeer(t *testing.T) {
	t.Setenv(fakePeer, "good")
	ctx, s := context.Background(), subject(t, "tinyhybrid")
	p, err := NewTrainPeer(ctx, os.Args[0], &s.Model.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KRAIT_FAKE_PARAMETERS", fmt.Sprint(s.Model.NumParams()))
	c := BenchConfig{Runs: 2, Seconds: 0.02, Tests: []string{"train2048"}, Train: p}
	r, err := Bench(ctx, s, c)
	if err != nil {
		t.Fatal(err)
	}
	if x := r.Rows[0].Peer; x == nil || x.Milliseconds != 1e6 || !(x.Speedup > 1) || r.TrainPeer.Version != "torch 0" || r.TrainPeer.PeakGiB != 2.5 {
		t.Errorf("%+v, %+v", r.Rows[0].Peer, r.TrainPeer)
	}
	t.Setenv("KRAIT_FAKE_PARAMETERS", "7")
	if _, err := Bench(ctx, s, c); err == nil || !strings.Contains(err.Error(), "a model of 7 parameters") {
		t.Error(err)
	}
	t.Setenv(fakePeer, "broken")
	if _, err := Bench(ctx, s, c); err == nil || !strings.Contains(err.Error(), "pytorch ended: RuntimeError: no such model") {
		t.Error(err)
	}
	t.Setenv(fakePeer, "missing")
	if _, err := NewTrainPeer(ctx, os.Args[0], &s.Model.Config); err == nil || !strings.Contains(err.Error(), "no package torch") {
		t.Error(err)
	}
	for _, name := range []string{"hybrid135m", "llama8b-hybrid", "smol135m"} {
		config, err := ShapeConfig(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := trainShapeOf(&config); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
