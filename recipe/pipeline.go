package recipe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"krait/checkpoint"
)

// EmbeddedModel is the name of the model inside the program, wherever no directory has it.
const EmbeddedModel = "stories260k"

// Recipe is the method as a list of stages.
type Recipe struct {
	Name        string
	Description string
	Model       string // the teacher: a directory, or the name of the embedded model
	Out         string // the run's directory
	Stages      []*Stage
	Notes       []string // what the file says that has no effect
	Source      []byte   // the file
	Overrides   []string
}

// Stage is one stage of a recipe.
type Stage struct {
	Name   string   // its directory in the run
	Kind   string   //
	Config any      // a pointer to the kind's configuration; earlier stages stand in it by their names until the run begins
	Needs  []string // the earlier stages that it reads

	kind kind
	at   *token.Position
}

// header is what stands at the top of a recipe.
type header struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Model       string `json:"model"`
	Out         string `json:"out"`
	Seed        uint64 `json:"seed"`
}

// reader reads one recipe.
type reader struct {
	decoder
	header
	finder
	train     []entry // keys of every stage that trains
	overrides []override
	recipe    *Recipe
}

// override is one key=value of a command line.
type override struct {
	path []string // the stage and its key, or a key of the recipe
	text string
	used bool
}

// Load reads the recipe of a file or of the embedded ones, changes it by arguments of the form key=value, stage.key=value or train.key=value,
// and checks it. model finds a model that is not there by its name, and data the files of a dataset, none where it is not known; both may be nil.
func Load(name string, arguments []string, model func(string) (string, error), data func(string) ([]string, error)) (*Recipe, error) {
	text, err := Source(name)
	if err != nil {
		return nil, err
	}
	return Parse(name, text, arguments, model, data)
}

// Parse is Load for the text of a file.
func Parse(file string, text []byte, arguments []string, model func(string) (string, error), data func(string) ([]string, error)) (*Recipe, error) {
	r := &reader{decoder: decoder{file: file}, finder: finder{model, data}, recipe: &Recipe{Source: text, Overrides: arguments}}
	for _, a := range arguments {
		key, value, ok := strings.Cut(a, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("argument %s: want key=value, such as train.seed=3 or distill.steps=200", a)
		}
		r.overrides = append(r.overrides, override{path: strings.SplitN(key, ".", 2), text: value})
	}
	root, err := r.parse(text)
	if err != nil {
		return nil, err
	}
	r.read(root)
	if err := r.err(); err != nil {
		return nil, err
	}
	return r.recipe, nil
}

// read reads the recipe from its document.
func (r *reader) read(root ast.Node) {
	r.Name = strings.TrimSuffix(filepath.Base(r.file), filepath.Ext(r.file))
	var list []entry
	var stages ast.Node
	for _, e := range r.entries(root, "a recipe") {
		switch e.key {
		case "train":
			r.train = r.entries(e.value, "train")
		case "stages":
			stages = e.value
		default:
			list = append(list, e)
		}
	}
	if stages == nil && len(r.errs) == 0 {
		r.flat(list)
		return
	}
	r.fill(&r.header, list, "a recipe")
	r.override(&r.header, "", "a recipe")
	r.checkTrain()
	for _, n := range r.items(stages) {
		r.stage(n)
	}
	r.finish()
}

// items returns the stages of a list.
func (r *reader) items(n ast.Node) []ast.Node {
	seq, ok := r.plain(n).(*ast.SequenceNode)
	if !ok {
		r.failf(nil, "stages: want a list of stages")
		return nil
	}
	return seq.Values
}

// finish wires what was read.
func (r *reader) finish() {
	for _, o := range r.overrides {
		if !o.used {
			r.failf(nil, "argument %s=%s: %s", strings.Join(o.path, "."), o.text, r.misled(o))
		}
	}
	r.recipe.Name, r.recipe.Description, r.recipe.Model, r.recipe.Out = r.header.Name, strings.TrimSpace(r.header.Description), r.header.Model, r.header.Out
	if r.recipe.Out == "" {
		r.recipe.Out = filepath.Join("runs", r.recipe.Name)
	}
	r.recipe.Notes = r.notes
	if len(r.errs) == 0 {
		r.expand()
	}
	if len(r.errs) == 0 {
		r.wire()
	}
}

// misled says why an argument meant nothing.
func (r *reader) misled(o override) string {
	names := map[string]bool{"train": true}
	for _, s := range r.recipe.Stages {
		names[s.Name] = true
	}
	for k := range fieldsOf(&r.header) {
		names[k] = true
	}
	return fmt.Sprintf("there is no stage %q%s", o.path[0], didYouMean(o.path[0], names))
}

// stage reads one stage: its kind by the key stage, its name by name, and its configuration.
func (r *reader) stage(n ast.Node) {
	list := r.entries(n, "a stage")
	s := &Stage{at: position(n)}
	if len(list) > 0 {
		s.at = list[0].at
	}
	var rest []entry
	for _, e := range list {
		var to *string
		switch e.key {
		case "stage":
			to = &s.Kind
		case "name":
			to = &s.Name
		default:
			rest = append(rest, e)
			continue
		}
		text, ok := scalar(r.plain(e.value))
		if !ok || text == "" {
			r.failf(e.at, "%s: want a word", e.key)
			return
		}
		*to = text
	}
	r.add(s, rest)
}

// add gives a stage its configuration.
func (r *reader) add(s *Stage, list []entry) {
	known := map[string]bool{}
	for _, k := range kinds {
		known[k.name] = true
	}
	var ok bool
	if s.kind, ok = kindNamed(s.Kind); !ok {
		if s.Kind == "" {
			r.failf(s.at, "a stage has no kind: begin it with \"stage: distill\" or another of %s", KindNames())
		} else {
			r.failf(s.at, "there is no stage of the kind %q%s", s.Kind, orList(didYouMean(s.Kind, known)))
		}
		return
	}
	if s.Name == "" {
		s.Name = r.freeName(s.Kind)
	}
	if r.named(s.Name) != nil {
		r.failf(s.at, "two stages are called %q: give one another name", s.Name)
		return
	}
	if s.Name != filepath.Base(s.Name) || s.Name == "." || s.Name == ".." || strings.HasSuffix(s.Name, ".partial") || slices.Contains([]string{"train", "run.json"}, s.Name) {
		r.failf(s.at, "%q is no name for a stage: it is to be a directory", s.Name)
		return
	}
	s.Config = s.kind.config()
	r.common(s.Config, s.kind)
	r.fill(s.Config, list, "a stage of the kind "+s.Kind)
	for _, sl := range s.kind.all(s.Config) { // an argument for all trainings goes before what the file says of one
		if sl.train != nil {
			r.override(sl.train, "train", "train")
		}
	}
	r.override(s.Config, s.Name, "a stage of the kind "+s.Kind)
	r.recipe.Stages = append(r.recipe.Stages, s)
}

// all returns the slots of a stage, or those of the stages in a chain.
func (k *kind) all(config any) []slots {
	if c, ok := config.(*StepwiseConfig); ok {
		return []slots{{seed: &c.Init.Seed}, c.Align.slots(), c.Distill.slots()}
	}
	return []slots{k.slots(config)}
}

// common sets what the recipe says for all stages.
func (r *reader) common(config any, k kind) {
	for i, s := range k.all(config) {
		if s.seed != nil {
			*s.seed = r.Seed
		}
		if s.train == nil {
			continue
		}
		s.train.Warmup, s.train.Steps = AutoWarmup, 0
		r.fill(s.train, r.train, "train")
		if s.rows {
			s.train.Crop = 0 // conversations cannot begin in the middle
		}
		if _, ok := config.(*StepwiseConfig); ok && i == 1 {
			s.train.Steps, s.train.Epochs = 0, 0 // no alignment unless it is asked for
		}
	}
}

// checkTrain reads the common training keys once, so that their mistakes are said once.
func (r *reader) checkTrain() {
	var c TrainConfig
	r.fill(&c, r.train, "train")
	r.override(&c, "train", "train")
	if len(r.errs) > 0 {
		r.train = nil
	}
}

// override applies the arguments that concern a stage, or the recipe itself where name is empty.
func (r *reader) override(config any, name, what string) {
	for i := range r.overrides {
		o := &r.overrides[i]
		if name == "" && len(o.path) != 1 || name != "" && (len(o.path) != 2 || o.path[0] != name) {
			continue
		}
		o.used = true
		d := &decoder{file: "argument " + strings.Join(o.path, ".") + "=" + o.text}
		value := ast.Node(ast.String(token.New("", "", &token.Position{Line: 1, Column: 1})))
		if o.text != "" {
			var err error
			if value, err = d.parse([]byte(o.text)); err != nil {
				r.errs = append(r.errs, err)
				continue
			}
		}
		keys := strings.Split(o.path[len(o.path)-1], ".")
		known := fieldsOf(config)
		for len(keys) > 1 { // such as distill.align.steps of a chain
			next, ok := known[keys[0]]
			if !ok {
				break
			}
			known, keys = fields(next), keys[1:]
		}
		d.set(known, entry{strings.Join(keys, "."), nil, value}, what, map[string]bool{})
		r.errs = append(r.errs, d.errs...)
	}
}

func (r *reader) named(name string) *Stage {
	for _, s := range r.recipe.Stages {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// freeName returns a kind's name, with a number where it is taken.
func (r *reader) freeName(kind string) string {
	name := kind
	for n := 2; r.named(name) != nil; n++ {
		name = kind + "-" + strconv.Itoa(n)
	}
	return name
}

// expand puts the stages of chains in their places.
func (r *reader) expand() {
	var all []*Stage
	for _, s := range r.recipe.Stages {
		c, ok := s.Config.(*StepwiseConfig)
		if !ok {
			all = append(all, s)
			continue
		}
		n := c.NumLayers
		if n == 0 {
			var err error
			if n, err = r.layers(); err != nil {
				r.failf(s.at, "%s: %v", s.Name, err)
				return
			}
		}
		chain, err := c.expand(s.Name, n)
		if err != nil {
			r.failf(s.at, "%s: %v", s.Name, err)
			return
		}
		for _, x := range chain {
			x.at = s.at
		}
		all = append(all, chain...)
	}
	r.recipe.Stages = all
}

// layers returns the number of the model's layers.
func (r *reader) layers() (int, error) {
	if isEmbedded(r.Model) {
		c, err := checkpoint.LoadFS(Stories260K())
		if err != nil {
			return 0, err
		}
		return c.Model.Config.NumHiddenLayers, nil
	}
	path, err := r.found(r.Model)
	if err != nil {
		return 0, fmt.Errorf("how many layers the model has is not known (num_layers says it too): %w", err)
	}
	c, err := checkpoint.ReadConfig(path)
	return c.NumHiddenLayers, err
}

// isEmbedded reports whether a name means the embedded model.
func isEmbedded(name string) bool {
	if name != EmbeddedModel {
		return false
	}
	_, err := os.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}

func fieldsOf(pointer any) map[string]reflect.Value { return fields(reflect.ValueOf(pointer).Elem()) }

func position(n ast.Node) *token.Position {
	if t := n.GetToken(); t != nil {
		return t.Position
	}
	return nil
}

// KindNames lists the kinds of stages for a sentence.
func KindNames() string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

func orList(suggestion string) string {
	if suggestion != "" {
		return suggestion
	}
	return ": want one of " + KindNames()
}

// JSON returns a stage's configuration as the run records it.
func (s *Stage) JSON() (json.RawMessage, error) { return json.Marshal(s.Config) }
