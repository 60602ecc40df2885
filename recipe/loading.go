package recipe

import (
	"path/filepath"

	"krait/checkpoint"
)

// LoadStage is the stage of events that say how much of a model is read.
const LoadStage = "load"

// SlowLoad is the size of weights from which on reading them is shown.
const SlowLoad = 1 << 30

// slowLoad is SlowLoad, but for tests.
var slowLoad int64 = SlowLoad

// Loading reports how much of a large model's weights is read.
func Loading(report Report, name string) checkpoint.Progress {
	return func(done, total int64) {
		if total >= slowLoad {
			report(Event{Stage: LoadStage, Done: int(done >> 20), Total: int(total >> 20), Unit: "MiB", Text: filepath.Base(name)})
		}
	}
}

// load reads a model and shows it.
func (r Report) load(dir string) (*checkpoint.Checkpoint, error) {
	return checkpoint.LoadProgress(dir, Loading(r, dir))
}

// loadPacked reads a model that is only read from and shows it; see checkpoint.LoadPacked.
func (r Report) loadPacked(dir, format string) (*checkpoint.Checkpoint, error) {
	return checkpoint.LoadPackedProgress(dir, format, Loading(r, dir))
}

// loadDraftPacked is loadPacked for what may be a draft head.
func (r Report) loadDraftPacked(dir, format string) (*checkpoint.Checkpoint, error) {
	return checkpoint.LoadDraftPacked(dir, format, Loading(r, dir))
}
