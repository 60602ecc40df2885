package recipe

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"krait/checkpoint"
	"krait/kernel"
)

// The files of a run's directory, beside a directory for each stage.
const (
	runFile    = "run.json"
	recipeFile = "recipe.yaml" // as it was given
	lockFile   = "run.lock"
)

// RunState is run.json: what a run is to make and how far it is.
type RunState struct {
	Name      string       `json:"name"`
	Version   string       `json:"version"`
	Kernels   string       `json:"kernels"`
	Model     string       `json:"model"`
	Overrides []string     `json:"overrides,omitempty"` // arguments of the last start
	Started   time.Time    `json:"started"`
	Updated   time.Time    `json:"updated"`
	Stages    []StageState `json:"stages"`
}

// StageState is one stage's record.
type StageState struct {
	Name    string             `json:"name"`
	Kind    string             `json:"kind"`
	Config  json.RawMessage    `json:"config"` // earlier stages by their names
	Needs   []string           `json:"needs,omitempty"`
	Inputs  []checkpoint.Input `json:"inputs,omitempty"` // what it reads from outside the run
	Hash    string             `json:"hash"`             // of kind, configuration, inputs and the hashes of the stages it needs
	Done    bool               `json:"done"`
	Seconds float64            `json:"seconds"` // of all starts together
}

// ChangedError says that a run would have to replace what it has made, and why.
type ChangedError struct {
	Dir     string
	Stages  []string // that would be made again
	Reasons []string
}

// Error says what changed and what that would replace.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s was made differently: %s; so %s would be made again and replace what is there: --force does that, another directory begins another run",
		e.Dir, strings.Join(e.Reasons, "; "), strings.Join(e.Stages, ", "))
}

// Run makes what the recipe lists in its directory. Stages that are whole are kept and those that were interrupted go on. Where a change would
// replace what is there, it is a *ChangedError, unless force is set.
func (r *Recipe) Run(ctx context.Context, force bool, report Report) (*RunState, error) {
	if err := r.missing(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(r.Out, 0o755); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(r.Out, lockFile))
	if ok, err := lock.TryLock(); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("%s: another krait is at work in this run", r.Out)
	}
	defer lock.Unlock()
	x := &execution{Recipe: r, report: report}
	if err := x.plan(); err != nil {
		return nil, err
	}
	if len(x.again) > 0 && !force {
		return x.state, &ChangedError{r.Out, x.again, x.reasons}
	}
	for _, why := range x.reasons {
		report(Event{Stage: r.Name, Note: "changed since the last run: " + why})
	}
	if err := checkpoint.WriteFile(filepath.Join(r.Out, recipeFile), r.Source); err != nil {
		return nil, err
	}
	for i, s := range r.Stages {
		if err := x.stage(ctx, s, &x.state.Stages[i]); err != nil {
			return x.state, fmt.Errorf("stage %s: %w", s.Name, err)
		}
	}
	return x.state, nil
}

// execution is one start of a run.
type execution struct {
	*Recipe
	report  Report
	state   *RunState
	again   []string // stages whose directories must go
	reasons []string
	hashes  map[string]string // of the stages as they are to be made
}

func (x *execution) path(name string) string { return filepath.Join(x.Out, name) }

// plan compares the recipe with the record of the run.
func (x *execution) plan() error {
	old, err := ReadRun(x.Out)
	if errors.Is(err, fs.ErrNotExist) {
		old = &RunState{Started: time.Now().UTC()}
	} else if err != nil {
		return err
	}
	x.state = &RunState{Name: x.Name, Version: Version, Kernels: kernel.Level(), Model: x.Model, Overrides: x.Overrides, Started: old.Started}
	before := map[string]*StageState{}
	for i := range old.Stages {
		before[old.Stages[i].Name] = &old.Stages[i]
	}
	x.hashes = map[string]string{}
	for _, s := range x.Stages {
		st, err := s.state(x.hashes)
		if err != nil {
			return fmt.Errorf("stage %s: %w", s.Name, err)
		}
		x.hashes[s.Name] = st.Hash
		was := before[s.Name]
		if was != nil && was.Hash == st.Hash {
			st.Seconds, st.Done = was.Seconds, was.Done
		} else if x.there(s.Name) {
			x.again = append(x.again, s.Name)
			if why := st.changes(was); why != "" {
				x.reasons = append(x.reasons, why)
			}
			st.Hash = "" // until the stage begins: what is there is not what the recipe says
		}
		x.state.Stages = append(x.state.Stages, st)
	}
	return nil
}

// there reports whether a stage has made something, whole or not.
func (x *execution) there(name string) bool {
	for _, path := range []string{x.path(name), checkpoint.Partial(x.path(name))} {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
	}
	return false
}

// state returns a stage's record before it has run. Hashes are those of the stages before.
func (s *Stage) state(hashes map[string]string) (StageState, error) {
	st := StageState{Name: s.Name, Kind: s.Kind, Needs: s.Needs}
	var err error
	if st.Config, err = s.JSON(); err != nil {
		return st, err
	}
	sl := s.kind.slots(s.Config)
	var outside []ref
	for _, f := range sl.refs {
		if *f.field != "" && !slices.Contains(s.Needs, *f.field) {
			outside = append(outside, f)
		}
	}
	for _, f := range sl.files {
		if *f != "" {
			outside = append(outside, ref{field: f})
		}
	}
	for _, f := range outside {
		path := ruleFile(*f.field)
		if path == "" {
			continue
		}
		in, err := checkpoint.Hash(f.content(path))
		if err != nil {
			return st, err
		}
		st.Inputs = append(st.Inputs, in)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", s.Kind, st.Config)
	for _, in := range st.Inputs {
		fmt.Fprintln(h, in.SHA256)
	}
	for _, n := range s.Needs {
		fmt.Fprintln(h, hashes[n])
	}
	st.Hash = hex.EncodeToString(h.Sum(nil))
	return st, nil
}

// changes says what a stage has now that it had not before; nothing where only the stages before it changed.
func (s *StageState) changes(was *StageState) string {
	if was == nil {
		return fmt.Sprintf("%s: it is there and no record says how it was made", s.Name)
	}
	var list []string
	if was.Kind != s.Kind {
		list = append(list, fmt.Sprintf("kind %s → %s", was.Kind, s.Kind))
	}
	for _, d := range Differences(was.Config, s.Config) {
		list = append(list, fmt.Sprintf("%s %s → %s", d.Key, d.A, d.B))
	}
	for _, in := range s.Inputs {
		if !slices.ContainsFunc(was.Inputs, func(o checkpoint.Input) bool { return o.SHA256 == in.SHA256 }) &&
			slices.ContainsFunc(was.Inputs, func(o checkpoint.Input) bool { return o.Path == in.Path }) {
			list = append(list, "the content of "+in.Path)
		}
	}
	if len(list) == 0 {
		return ""
	}
	return s.Name + ": " + strings.Join(list, ", ")
}

// Difference is a setting that two configurations have differently.
type Difference struct{ Key, A, B string }

// Differences compares two JSON objects key by key.
func Differences(a, b json.RawMessage) []Difference {
	var x, y map[string]json.RawMessage
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return []Difference{{"configuration", string(a), string(b)}}
	}
	keys := map[string]bool{}
	for k := range x {
		keys[k] = true
	}
	for k := range y {
		keys[k] = true
	}
	say := func(v json.RawMessage) string {
		if v == nil {
			return "–"
		}
		return string(v)
	}
	var list []Difference
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if !bytes.Equal(compact(x[k]), compact(y[k])) {
			list = append(list, Difference{k, say(compact(x[k])), say(compact(y[k]))})
		}
	}
	return list
}

func compact(v json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if v == nil || json.Compact(&b, v) != nil {
		return v
	}
	return b.Bytes()
}

// stage makes one stage, or finds it made.
func (x *execution) stage(ctx context.Context, s *Stage, st *StageState) error {
	out := x.path(s.Name)
	if slices.Contains(x.again, s.Name) {
		for _, path := range []string{out, checkpoint.Partial(out)} {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	if _, err := os.Stat(out); err == nil {
		st.Done = true
		x.report(Event{Stage: s.Name, Note: "is there already"})
		return x.save()
	}
	st.Done, st.Hash = false, x.hashes[s.Name]
	if err := x.save(); err != nil {
		return err
	}
	sl := s.kind.slots(s.Config)
	for _, f := range sl.refs {
		if slices.Contains(s.Needs, *f.field) {
			*f.field = x.path(*f.field)
		}
	}
	*sl.out = out
	start := time.Now()
	err := s.kind.run(ctx, s.Config, func(e Event) {
		if e.Stage != LoadStage {
			e.Stage = s.Name
		}
		x.report(e)
	})
	st.Seconds += time.Since(start).Seconds()
	debug.FreeOSMemory() // what this stage had is not the next one's
	st.Done = err == nil
	return errors.Join(err, x.save())
}

// save writes the record.
func (x *execution) save() error {
	x.state.Updated = time.Now().UTC()
	j, err := json.MarshalIndent(x.state, "", "  ")
	if err != nil {
		return err
	}
	return checkpoint.WriteFile(x.path(runFile), append(j, '\n'))
}

// ReadRun reads the record of a run's directory.
func ReadRun(dir string) (*RunState, error) {
	b, err := os.ReadFile(filepath.Join(dir, runFile))
	if err != nil {
		return nil, err
	}
	s := new(RunState)
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, runFile), err)
	}
	return s, nil
}
