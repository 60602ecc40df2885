package recipe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// teacherWord means the recipe's model wherever a stage names a model.
const teacherWord = "teacher"

// wire fills in what each stage reads where the recipe does not say, and notes which earlier stages those are.
func (r *reader) wire() {
	made := map[product]string{}
	var stages []*Stage
	for _, s := range r.recipe.Stages {
		if err := r.findData(s); err != nil {
			r.failf(s.at, "stage %s: %v", s.Name, err)
			return
		}
		sl := s.kind.slots(s.Config)
		if sl.train != nil {
			if sl.train.Steps == 0 && sl.train.Epochs == 0 {
				sl.train.Steps = DefaultTrain().Steps
			}
			if err := sl.train.validate(); err != nil {
				r.failf(s.at, "stage %s: %v", s.Name, err)
			}
		}
		if c, ok := s.Config.(*InitConfig); ok {
			c.follow(made[makesLayers], stages)
			if err := c.checkLists(); err != nil {
				r.failf(s.at, "stage %s: %v", s.Name, err)
			}
		}
		for _, f := range sl.refs {
			name, err := r.reference(f, made, stages)
			if err != nil {
				r.failf(s.at, "stage %s: %v", s.Name, err)
				return
			}
			if *f.field = name; name == teacherWord && (len(stages) == 0 || stages[0].Kind != exampleKind.name) && isEmbedded(r.Model) {
				stages = slices.Insert(stages, 0, &Stage{Name: teacherWord, Kind: exampleKind.name, Config: exampleKind.config(), kind: exampleKind})
			}
			if slices.ContainsFunc(stages, func(x *Stage) bool { return x.Name == name }) && !slices.Contains(s.Needs, name) {
				s.Needs = append(s.Needs, name)
			}
		}
		stages = append(stages, s)
		made[s.kind.makes] = s.Name
	}
	if len(stages) == 0 {
		r.failf(nil, "stages: the list is empty")
	}
	r.recipe.Stages = stages
}

// reference returns the name of the stage, or the path, that a field means.
func (r *reader) reference(f ref, made map[product]string, before []*Stage) (string, error) {
	name := *f.field
	if name == "none" {
		return "", nil
	}
	if name == "" {
		switch f.role {
		case given, layersOf:
			return "", nil
		case base:
			name = teacherWord
		case latest:
			if name = made[makesModel]; name == "" {
				name = teacherWord
			}
		case labels:
			name = made[makesLabels]
		case draftOf:
			name = made[makesDraft]
		case rewardOf:
			name = made[makesReward]
		}
		if name == "" {
			return "", fmt.Errorf("%s: no stage before makes any, and no directory is given", f.key)
		}
	}
	if slices.ContainsFunc(before, func(s *Stage) bool { return s.Name == name }) {
		return name, nil
	}
	if _, err := os.Stat(name); name == teacherWord && (r.Model != "" || err != nil || *f.field == "") {
		if name = r.Model; name == "" {
			return "", fmt.Errorf("%s: the recipe has no model: say \"model: DIR\" at its top", f.key)
		}
	}
	if isEmbedded(name) {
		if name != r.Model && r.Model != "" {
			return "", fmt.Errorf("%s: %s is inside the program: write it to a directory with \"krait example DIR\"", f.key, name)
		}
		r.Model = name
		return teacherWord, nil
	}
	if slices.ContainsFunc(r.recipe.Stages, func(s *Stage) bool { return s.Name == name }) {
		return "", fmt.Errorf("%s: the stage %s comes later", f.key, name)
	}
	if path, err := r.found(name); err == nil {
		return path, nil
	}
	return name, nil // it may come to be before the run
}

// dataKey is how errors call a file of data, whatever key names it.
const dataKey = "data"

// missing lists what the stages read that is neither there nor made by a stage before.
func (r *Recipe) missing() error {
	var errs []error
	for _, s := range r.Stages {
		sl := s.kind.slots(s.Config)
		check := func(key, path string) {
			if path == "" || IsRule(path) || slices.Contains(s.Needs, path) {
				return
			}
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				hint := "paths begin where krait is started"
				switch name, _, chosen := strings.Cut(path, ":"); {
				case strings.Count(name, "/") != 1 || strings.HasPrefix(path, "."):
				case key == dataKey && (chosen || filepath.Ext(path) == ""):
					hint = fmt.Sprintf("no file here, and no dataset in the cache; \"krait pull --dataset %s\" fetches one of the hub", name)
				case key != dataKey:
					hint = fmt.Sprintf("neither a stage nor a directory here; \"krait pull %s\" fetches a model of the hub", path)
				}
				errs = append(errs, fmt.Errorf("stage %s: %s: %s does not exist (%s)", s.Name, key, path, hint))
			} else if err != nil {
				errs = append(errs, fmt.Errorf("stage %s: %s: %w", s.Name, key, err))
			}
		}
		for _, f := range sl.refs {
			if f.content(*f.field) != "" {
				check(f.key, strings.TrimPrefix(*f.field, rulePrefix))
			}
		}
		for _, f := range sl.files {
			check(dataKey, *f)
		}
	}
	return errors.Join(errs...)
}

// flat reads a file without a list of stages, as TRL and the paper's code have them: one stage that its keys tell.
func (r *reader) flat(list []entry) {
	kind, has := "", map[string]bool{}
	for _, e := range list {
		has[e.key] = true
		if e.key == "stage" {
			kind, _ = scalar(r.plain(e.value))
		}
	}
	for i := range r.overrides {
		if o := &r.overrides[i]; len(o.path) == 1 && o.path[0] == "stage" {
			kind, o.used = o.text, true
		}
	}
	if kind == "" {
		switch {
		case has["ssm_layers"] || has["attn_layers"]:
			kind = "distill"
		case has["beta"] || has["loss_type"]:
			kind = "dpo"
		case has["teacher_model_name_or_path"] || has["kl_weight"]:
			kind = "distill"
		case has["dataset_mixer"] || has["dataset_name"] || has["datasets"] || has["data"]:
			kind = "sft"
		default:
			r.failf(nil, "no stages: want a list \"stages\", or keys of one stage and \"stage: sft\" or another of %s", KindNames())
			return
		}
	}
	r.flatStages(kind, list, has)
}

// flatStages shares the keys of a flat file out to the recipe and its stages.
func (r *reader) flatStages(kind string, list []entry, has map[string]bool) {
	top := map[string]bool{"name": true, "description": true, "seed": true, "out": true, "output_dir": true, "base_model": true, "model_name": true}
	if kind == "distill" && has["ssm_layers"] || kind == "label" || kind == "init" {
		top["model_name_or_path"], top["model"] = true, true
	}
	initKeys := map[string]bool{"ssm_layers": true, "attn_layers": true, "every": true, "init": true, "init_with_kqvo": true, "prev_checkpoint_path": true}
	var head, first, rest []entry
	for _, e := range list {
		switch {
		case e.key == "stage":
		case top[e.key]:
			head = append(head, e)
		case initKeys[e.key] && kind == "distill":
			first = append(first, e)
		case e.key == "train_datasets_path" || e.key == "test_datasets_path":
			r.notes = append(r.notes, fmt.Sprintf("%s: %s names the original's tensor files: give labels=DIR, which krait label makes", r.place(e.at), e.key))
		default:
			rest = append(rest, e)
		}
	}
	known := fieldsOf(&r.header)
	for i := range r.overrides { // a flat file's keys are its one stage's, but for the recipe's own
		o := &r.overrides[i]
		if _, ok := known[o.path[0]]; !ok && len(o.path) == 1 && !o.used {
			o.path = []string{kind, o.path[0]}
		}
	}
	r.fill(&r.header, head, "a recipe")
	r.override(&r.header, "", "a recipe")
	if len(first) > 0 {
		r.add(&Stage{Kind: "init"}, first)
		if has["kl_weight"] { // the paper's stage one trains the mixers alone
			r.train = nil
		}
	}
	s := &Stage{Kind: kind}
	r.add(s, rest)
	if c, ok := s.Config.(*DistillConfig); ok && len(first) > 0 && len(c.Train) == 0 {
		c.Train = []string{".mamba."}
	}
	r.finish()
}
