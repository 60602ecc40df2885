package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"krait/autograd"
	"krait/kernel"
	"krait/quant"
	"krait/tensor"
)

// splitTolerance bounds the difference between a run without a state, whose chunks are matrix products, and the same tokens one by one, relative to
// the largest logit.
const splitTolerance = 1e-4

// tiny returns a small random model whose layers outside attention are Mamba2.
func tiny(t testing.TB, seed uint64, kv int, window int, attention ...int) *Model {
	return tinyLike(t, seed, kv, window, attention, func(*Config) {})
}

// tinyLike is tiny with a change of the configuration.
func tinyLike(t testing.TB, seed uint64, kv int, window int, attention []int, change func(c *Config)) *Model {
	t.Helper()
	c := Config{HiddenSize: 24, IntermediateSize: 20, NumHiddenLayers: 3, NumAttentionHeads: 4, NumKeyValueHeads: kv, HeadDim: 8, VocabSize: 13,
		MaxPositionEmbeddings: 256, RMSNormEps: 1e-5, RopeTheta: 1e4, SlidingWindow: window}
	if len(attention) < 3 {
		c.Mamba = MambaFor(&c, attention)
	}
	change(&c)
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, p := range m.Params {
		for i := range p.Data {
			p.Data[i] = float32(rng.NormFloat64()) * 0.4
		}
	}
	return m
}

// mamba1 makes the Mamba layers of a configuration Mamba1, with 4 states.
func mamba1(c *Config) {
	m := Mamba1For(c, c.Mamba.AttnLayers)
	m.DState, m.NGroups = 4, m.DInner/4
	c.Mamba = m
}

// halfKV makes a model keep keys and values in f16.
func halfKV(m *Model) *Model {
	m.SetKV(kernel.KVF16)
	return m
}

// tolerance is splitTolerance for a model. Where rounding to f16 follows a difference of a Mamba layer, a key or a value may come out 2⁻¹¹ of
// itself away.
func tolerance(m *Model) float64 {
	if m.KV() == kernel.KVF16 {
		return 64 * splitTolerance
	}
	return splitTolerance
}

func fuzzModels(t testing.TB) []*Model {
	return []*Model{halfKV(tiny(t, 1, 2, 0, 1)), halfKV(tiny(t, 3, 4, 5, 0, 1, 2)), halfKV(tinyLike(t, 6, 2, 0, []int{0, 2}, mamba1)),
		tiny(t, 1, 2, 0, 1), tiny(t, 2, 1, 0), tiny(t, 3, 4, 5, 0, 1, 2), tiny(t, 4, 4, 0, 2),
		tinyLike(t, 5, 2, 0, []int{0, 2}, func(c *Config) { c.QKNorm = true }),
		tinyLike(t, 6, 2, 0, []int{1}, mamba1), tinyLike(t, 7, 1, 0, nil, mamba1), tinyLike(t, 8, 2, 0, []int{1}, func(c *Config) {
			mamba1(c)
			c.Mamba.RepeatFirst = false
		}), tinyLike(t, 9, 2, 0, []int{1}, func(c *Config) { c.Mamba.RepeatFirst = true }),
		tinyLike(t, 10, 2, 0, nil, func(c *Config) {
			c.Mamba = &MambaConfig{Backbone: true, DInner: 32, DState: 6, NGroups: 4, Groups: 2, DConv: 4, RMSNormEps: 1e-5}
		}),
		tinyLike(t, 11, 2, 0, nil, func(c *Config) {
			c.Mamba = &MambaConfig{Backbone: true, DInner: 32, DState: 5, NGroups: 1, Groups: 1, DConv: 3, RMSNormEps: 1e-5, DTRank: 3, ProjBias: true}
		})}
}

// FuzzState drives a state by the script's bytes: each is a run's length, and whether the run is provisional and how much of it is sure and kept. The
// logits of every row must be those of one fresh run over the tokens that were committed, and bit for bit those of the same tokens fed one by one.
func FuzzState(f *testing.F) {
	f.Add([]byte{3, 0x81, 0x85, 40, 0x90, 1, 1, 0xff})
	f.Add([]byte{0x81, 0x81, 0x81, 17, 16, 15, 0xc0})
	f.Add([]byte{64, 0x8a, 64, 0x8b})
	f.Add([]byte{63, 63, 0xbf, 2, 0xbe, 0x83})
	models := fuzzModels(f)
	for _, m := range models {
		m.Pack()
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		for _, m := range models {
			runScript(t, m, script)
		}
	})
}

func runScript(t *testing.T, m *Model, script []byte) {
	rng := rand.New(rand.NewPCG(5, uint64(len(script))))
	s := m.NewState()
	var tokens []int32
	var rows [][]float32 // the logits of each committed token
	for _, b := range script {
		n := int(b&63) + 1
		if len(tokens)+n > 200 {
			break
		}
		run := make([]int32, n)
		for i := range run {
			run[i] = rng.Int32N(13)
		}
		keep := n
		if b >= 128 {
			keep = rng.IntN(n + 1)
			s.MarkAfter(rng.IntN(keep + 1))
		}
		logits := m.Logits(nil, m.Forward(nil, Single(run, s)))
		if b >= 128 {
			s.Keep(keep)
		}
		tokens = append(tokens, run[:keep]...)
		for i := range keep {
			rows = append(rows, logits.Row(i))
		}
	}
	if s.Len() != len(tokens) {
		t.Fatalf("state of %d tokens, want %d", s.Len(), len(tokens))
	}
	if len(tokens) == 0 {
		return
	}
	whole := m.Logits(nil, m.Forward(nil, Single(tokens, nil)))
	one := m.NewState()
	for i, row := range rows {
		compare(t, m, i, row, whole.Row(i))
		if want := m.Logits(nil, m.Forward(nil, Single(tokens[i:i+1], one))).Data; !slices.Equal(row, want) {
			t.Fatalf("token %d: %v, one by one %v", i, row, want)
		}
	}
}

func compare(t *testing.T, m *Model, i int, got, want []float32) {
	t.Helper()
	var scale float64
	for _, v := range want {
		scale = max(scale, math.Abs(float64(v)))
	}
	for j, v := range got {
		if d := math.Abs(float64(v - want[j])); !(d <= tolerance(m)*scale) {
			t.Fatalf("token %d, logit %d: %g, in one run %g", i, j, v, want[j])
		}
	}
}

// TestVerificationIsExact feeds tokens one by one, and in provisional runs with rollbacks as a verification does: the same bits.
func TestVerificationIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for n, m := range fuzzModels(t) {
		m.Pack()
		plain, spec := m.NewState(), m.NewState()
		tokens := make([]int32, 150)
		for i := range tokens {
			tokens[i] = rng.Int32N(13)
		}
		var want []*tensor.Tensor
		for i := range tokens {
			want = append(want, m.Logits(nil, m.Forward(nil, Single(tokens[i:i+1], plain))))
		}
		for at := 0; at < len(tokens); {
			k := min(len(tokens)-at, 1+rng.IntN(9))
			keep := 1 + rng.IntN(k)
			run := append([]int32(nil), tokens[at:at+k]...)
			for i := keep; i < k; i++ {
				run[i] = rng.Int32N(13) // wrong guesses
			}
			spec.Mark()
			cut := rng.IntN(k) // a verification in two steps
			var got [][]float32
			for _, part := range [][]int32{run[:cut], run[cut:]} {
				if len(part) > 0 {
					logits := m.Logits(nil, m.Forward(nil, Single(part, spec)))
					for i := range part {
						got = append(got, logits.Row(i))
					}
				}
			}
			spec.Keep(keep)
			for i := range keep {
				for j, v := range got[i] {
					if v != want[at+i].Data[j] {
						t.Fatalf("model %d, token %d of a run of %d: logit %d is %g, alone %g", n, at+i, k, j, v, want[at+i].Data[j])
					}
				}
			}
			at += keep
		}
	}
}

// TestBatchIsExact decodes several sequences together and alone: the same bits.
func TestBatchIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for n, m := range fuzzModels(t) {
		m.Pack()
		const seqs = 5
		var together, alone [seqs]*State
		for i := range seqs {
			together[i], alone[i] = m.NewState(), m.NewState()
		}
		for step := range 20 {
			var b Batch
			for i := range seqs {
				k := 1 + rng.IntN(3)
				if step == 0 {
					k = 10 + 7*i
				}
				for range k {
					b.Tokens = append(b.Tokens, rng.Int32N(13))
				}
				b.Runs = append(b.Runs, Run{Len: k, State: together[i]})
			}
			got := m.Forward(nil, b)
			row := 0
			for i, r := range b.Runs {
				want := m.Forward(nil, Single(b.Tokens[row:row+r.Len], alone[i]))
				for j, v := range want.Data {
					if got.Data[row*got.Cols()+j] != v {
						t.Fatalf("model %d, step %d, sequence %d: %g in the batch, %g alone", n, step, i, got.Data[row*got.Cols()+j], v)
					}
				}
				row += r.Len
			}
		}
	}
}

// TestSnapshot checks that a snapshot shares nothing with the state, and that restoring it goes on as before.
func TestSnapshot(t *testing.T) {
	for n, m := range fuzzModels(t) {
		s := m.NewState()
		m.Forward(nil, Single([]int32{1, 2, 3, 4, 5}, s))
		snap := s.Snapshot()
		first := m.Forward(nil, Single([]int32{6, 7, 8}, s))
		m.Forward(nil, Single([]int32{1, 1, 1, 1}, s))
		for range 2 {
			s.Restore(snap)
			again := m.Forward(nil, Single([]int32{6, 7, 8}, s))
			for i, v := range again.Data {
				if v != first.Data[i] {
					t.Fatalf("model %d: element %d after Restore is %g, want %g", n, i, v, first.Data[i])
				}
			}
		}
		if got, want := s.Bytes(), m.StateBytes(8); got != want {
			t.Errorf("model %d: state of %d bytes, StateBytes says %d", n, got, want)
		}
	}
}

// TestKVFormatFollowsTheWeights: f16 for narrow weights, float32 for float32 weights, what SetKV says in any case, and a state's size with it.
func TestKVFormatFollowsTheWeights(t *testing.T) {
	m := tiny(t, 1, 2, 0, 0, 1, 2)
	perToken := func() int { return m.StateBytes(3) - m.StateBytes(2) }
	numbers := 2 * 3 * 2 * 8 // keys and values, layers, heads, width
	expect := func(what string, f kernel.KVFormat) {
		t.Helper()
		s := m.NewState()
		m.Forward(nil, Single([]int32{1, 2, 3}, s))
		if m.KV() != f || perToken() != numbers*f.Bytes() || s.Bytes() != m.StateBytes(3) {
			t.Errorf("%s: %v, %d bytes a token, state of %d, want %v", what, m.KV(), perToken(), s.Bytes(), f)
		}
	}
	expect("as made", kernel.KVF32)
	m.Pack()
	expect("packed", kernel.KVF32)
	for _, f := range []quant.Format{quant.Q8, quant.F32, quant.BF16} {
		m.PackAs(f)
		expect(f.String(), map[bool]kernel.KVFormat{true: kernel.KVF32, false: kernel.KVF16}[f == quant.F32])
	}
	m.SetKV(kernel.KVF32)
	expect("bf16 and set", kernel.KVF32)
	m.SetKV(kernel.KVF16)
	m.PackAs(quant.F32)
	expect("f32 and set", kernel.KVF16)
	frozen, err := NewFrozen(m.Config, quant.Q4)
	if err != nil || frozen.KV() != kernel.KVF16 {
		t.Errorf("frozen q4: %v, %v", frozen.KV(), err)
	}
}

func TestBadConfigurations(t *testing.T) {
	good := tiny(t, 1, 2, 0, 1).Config
	for want, spoil := range map[string]func(c *Config){
		"num_key_value_heads": func(c *Config) { c.NumKeyValueHeads = 3 },
		"head_dim":            func(c *Config) { c.HeadDim = 7 },
		"vocab_size":          func(c *Config) { c.VocabSize = 0 },
		"attn_layers":         func(c *Config) { m := *c.Mamba; m.AttnLayers = []int{3}; c.Mamba = &m },
		"d_state":             func(c *Config) { m := *c.Mamba; m.DState = 4; c.Mamba = &m },
		"dt_rank":             func(c *Config) { m := *c.Mamba; m.DTRank, m.NoNorm = 1, true; c.Mamba = &m },
		"d_xb":                func(c *Config) { m := *c.Mamba; m.DXB = 20; c.Mamba = &m },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %s", err, want)
		}
	}
}

// TestScratchTape checks that a tape which takes memory back after every block gives the bits of one that does not, and stays small.
func TestScratchTape(t *testing.T) {
	tokens := make([]int32, 120)
	for i := range tokens {
		tokens[i] = int32(i*i) % 13
	}
	for n, m := range fuzzModels(t) {
		tape := autograd.NewScratch()
		want := m.Forward(nil, Single(tokens, nil))
		for range 3 {
			tape.Reset()
			for i, v := range m.Forward(tape, Single(tokens, nil)).Data {
				if v != want.Data[i] {
					t.Fatalf("model %d: element %d is %g on a scratch tape, want %g", n, i, v, want.Data[i])
				}
			}
		}
	}
}
