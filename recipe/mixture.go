package recipe

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"krait/data"
)

// overlapWords is the length of the runs of words by which text of evaluation sets is found (GPT-3's).
const overlapWords = 13

// errShared says that a row shares text with an evaluation set. It is no mistake of the row's.
var errShared = errors.New("it shares text with an evaluation set")

// mixed checks the files' weights and reads the evaluation sets.
func (r *textRows) mixed() error {
	for path, w := range r.Mixture {
		if !(w > 0 && w <= 1000) {
			return fmt.Errorf("mixture: %s has the weight %g, want a positive number of at most 1000", path, w)
		}
	}
	words := r.DecontaminateWords
	if words == 0 {
		words = overlapWords
	}
	switch {
	case words < 2 || words > 100:
		return fmt.Errorf("decontaminate_ngram is %d, want 2 to 100 words", words)
	case slices.Equal(r.Decontaminate, []string{"true"}):
		return errors.New("decontaminate: true names no evaluation sets: give their files")
	case len(r.Decontaminate) == 0 || slices.Equal(r.Decontaminate, []string{"false"}):
		return nil
	}
	var err error
	r.overlap, err = data.NewOverlap(words, r.Decontaminate...)
	return err
}

// contaminated returns the number of rows that evaluation sets have too.
func (r *textRows) contaminated() int {
	n := 0
	for _, k := range r.shared {
		n += k
	}
	return n
}

// mixedFile is a file and how often its rows are taken.
type mixedFile struct {
	path   string
	weight float64
	seed   uint64
}

// files lists the files to read: those given, once each, and those of the mixture.
func (r *textRows) files(paths []string) []mixedFile {
	var list []mixedFile
	for _, p := range paths {
		list = append(list, mixedFile{p, 1, 0})
	}
	for i, p := range slices.Sorted(maps.Keys(r.Mixture)) {
		list = append(list, mixedFile{p, r.Mixture[p], r.seed<<16 + uint64(i)})
	}
	return list
}

// copies returns how often a row is taken: the whole part of the weight, and once more by chance for the rest of it, which depends on the seed and the
// row's place alone.
func (f *mixedFile) copies(line int) int {
	n := int(f.weight)
	if rest := f.weight - float64(n); rest > 0 && rand.New(rand.NewPCG(f.seed, uint64(line))).Float64() < rest {
		n++
	}
	return n
}

// rowFiles lists the files that rows come from, for a recipe.
func (c *RowsConfig) rowFiles(paths []string) []*string {
	list := pointers(paths)
	for _, p := range slices.Sorted(maps.Keys(c.Mixture)) {
		list = append(list, &p)
	}
	if !slices.Equal(c.Decontaminate, []string{"true"}) && !slices.Equal(c.Decontaminate, []string{"false"}) {
		list = append(list, pointers(c.Decontaminate)...)
	}
	return list
}

// rowSlots adds the files of rows, those of the list and those that the configuration names, to what a recipe fills.
func (c *RowsConfig) rowSlots(list *[]string, s slots) slots {
	s.files, s.lists, s.mixture, s.rows = c.rowFiles(*list), []*[]string{list, &c.Decontaminate}, &c.Mixture, true
	return s
}

// rowInputs lists what a stage of rows reads, for its record: the models and the files.
func (c *RowsConfig) rowInputs(paths []string, models ...string) []string {
	for _, p := range c.rowFiles(paths) {
		models = append(models, *p)
	}
	return models
}
