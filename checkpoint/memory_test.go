package checkpoint

import (
	"path/filepath"
	"runtime"
	"testing"

	"krait/gguf"
	"krait/model"
	"krait/safetensors"
)

// smallLlama returns a model large enough that its weights, and not what else a load allocates, are what is measured.
func smallLlama(t *testing.T) *Checkpoint {
	t.Helper()
	m, err := model.New(model.Config{
		HiddenSize: 256, IntermediateSize: 768, NumHiddenLayers: 4, NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 64, VocabSize: 8000,
		MaxPositionEmbeddings: 64, RMSNormEps: 1e-5, RopeTheta: 1e4, TieWordEmbeddings: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params {
		for i := range p.Data {
			p.Data[i] = float32(i%251-125) / 999
		}
	}
	return New(m)
}

// TestLoadPackedMakesNoCopy: loading for inference takes from the Go heap, where a float32 copy of a matrix would be, a small part of what the
// weights take, in every format from every kind of file.
func TestLoadPackedMakesNoCopy(t *testing.T) {
	c := smallLlama(t)
	dir := t.TempDir()
	sources := map[string]string{"f32": filepath.Join(dir, "f32"), "bf16": filepath.Join(dir, "bf16"), "q8": filepath.Join(dir, "q8"), "gguf": filepath.Join(dir, "m.gguf")}
	if err := Save(sources["f32"], c); err != nil {
		t.Fatal(err)
	}
	c.DType = safetensors.BF16
	if err := Save(sources["bf16"], c); err != nil {
		t.Fatal(err)
	}
	if err := ExportGGUF(sources["gguf"], c, gguf.Q8_0); err != nil {
		t.Fatal(err)
	}
	q8, err := LoadPacked(sources["f32"], "q8")
	if err != nil {
		t.Fatal(err)
	}
	if err := SaveQuantized(sources["q8"], q8); err != nil {
		t.Fatal(err)
	}
	for source, path := range sources {
		for _, format := range []string{"", "f32", "bf16", "q8", "q4"} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			x, err := LoadPacked(path, format)
			if err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			weights := uint64(4 * x.Model.NumParams())
			if n := after.TotalAlloc - before.TotalAlloc; n > weights/10 {
				t.Errorf("%s as %q: %d bytes of the Go heap, the float32 weights would take %d", source, format, n, weights)
			}
		}
	}
}
