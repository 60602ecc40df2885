package checkpoint

import (
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"krait/kernel"
	"krait/score"
)

// TestSmolLM2Perplexity compares the perplexity of real text under a real model with Transformers', from the text on: 0.2 % is what is
// asked, and the order of sums in float32 is all that may differ. Each window must agree by itself, so that errors cannot cancel.
func TestSmolLM2Perplexity(t *testing.T) {
	path := realModel(t, smolLM2)
	if testing.Short() || kernel.Level() == "portable" {
		t.Skip("it computes 4096 rows of a real model: ten minutes without vectors")
	}
	f, err := os.Open(filepath.Join(ggufGoldens, "perplexity.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var texts []struct {
		Label, Text string
		IDs         []int32
		Context     int
		NLL         []float64
	}
	if err := json.NewDecoder(z).Decode(&texts); err != nil || len(texts) != 2 {
		t.Fatalf("%d texts, %v", len(texts), err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Model.Pack()
	tok, err := c.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range texts {
		ids, err := tok.Encode(x.Text, false)
		if err != nil || !slices.Equal(ids, x.IDs) {
			t.Fatalf("%s: the text has other ids (%v)", x.Label, err)
		}
		var sum, total float64
		for i, want := range x.NLL {
			l, err := score.Perplexity(t.Context(), c.Model, ids[i*x.Context:(i+1)*x.Context], x.Context, x.Context)
			if err != nil || math.Abs(l.NLL/want-1) > 1e-4 {
				t.Errorf("%s, window %d: %g nats (%v), Transformers has %g", x.Label, i, l.NLL, err, want)
			}
			sum, total = sum+l.NLL, total+want
		}
		tokens := float64(len(ids) - len(x.NLL))
		got, want := math.Exp(sum/tokens), math.Exp(total/tokens)
		t.Logf("%s: perplexity %.6f, Transformers' %.6f, %.1e apart", x.Label, got, want, got/want-1)
		if math.Abs(got/want-1) > 0.002 {
			t.Errorf("%s: perplexity %g, Transformers has %g", x.Label, got, want)
		}
	}
}
