package model

import (
	"math"
	"sync"
)

// ropeTable holds the cosines and sines of the rotary angles, extended as longer sequences come.
type ropeTable struct {
	mu       sync.Mutex
	inv      []float64
	cos, sin []float32 // (positions, head_dim/2)
}

// newRopeTable computes the inverse frequencies theta^(-2i/p) with their scaling: linear divides all by the factor, llama3 divides the
// slow ones and blends in between (Llama 3.1, as Transformers computes it).
func newRopeTable(c *Config) *ropeTable {
	r := &ropeTable{inv: make([]float64, c.HeadDim/2)}
	s := c.RopeScaling
	for i := range r.inv {
		f := math.Pow(c.RopeTheta, -2*float64(i)/float64(c.HeadDim))
		switch s.Type {
		case "linear":
			f /= s.Factor
		case "llama3":
			wavelen, original := 2*math.Pi/f, float64(s.OriginalMaxPositionEmbeddings)
			if wavelen > original/s.LowFreqFactor {
				f /= s.Factor
			} else if wavelen >= original/s.HighFreqFactor {
				smooth := (original/wavelen - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
				f = (1-smooth)*f/s.Factor + smooth*f
			}
		}
		r.inv[i] = f
	}
	return r
}

// angles returns the tables for at least n positions.
func (r *ropeTable) angles(n int) (cos, sin []float32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	half := len(r.inv)
	if n*half > len(r.cos) {
		n = max(n, 2*len(r.cos)/half, 256)
		for pos := len(r.cos) / half; pos < n; pos++ {
			for _, f := range r.inv {
				s, c := math.Sincos(float64(pos) * f)
				r.cos, r.sin = append(r.cos, float32(c)), append(r.sin, float32(s))
			}
		}
	}
	return r.cos, r.sin
}
