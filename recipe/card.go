package recipe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	yamlfile "github.com/goccy/go-yaml"

	"krait/checkpoint"
)

// cardFile is a model's card.
const cardFile = "README.md"

// cardHead is a card's front matter in the hub's form.
type cardHead struct {
	License     string   `yaml:"license,omitempty"`
	LicenseName string   `yaml:"license_name,omitempty"`
	LicenseLink string   `yaml:"license_link,omitempty"`
	Language    any      `yaml:"language,omitempty"`
	BaseModel   any      `yaml:"base_model,omitempty"`
	Relation    string   `yaml:"base_model_relation,omitempty"`
	Datasets    any      `yaml:"datasets,omitempty"`
	Pipeline    string   `yaml:"pipeline_tag,omitempty"`
	Library     string   `yaml:"library_name,omitempty"`
	Tags        []string `yaml:"tags,omitempty"`
}

// readCard reads the front matter of a card; what cannot be read is as if it were not there.
func readCard(text []byte) (h cardHead) {
	rest, ok := bytes.CutPrefix(text, []byte("---\n"))
	if !ok {
		return h
	}
	front, _, ok := bytes.Cut(rest, []byte("\n---"))
	if !ok || yamlfile.Unmarshal(front, &h) != nil {
		return cardHead{}
	}
	return h
}

// describe gives a result its card: what it was made of and how, its figures, and the licence of what it comes from. The card of the model that it
// comes from is what its files still hold.
func describe(c *checkpoint.Checkpoint, p *checkpoint.Provenance, out, from, relation string) error {
	old := readCard(c.Files[cardFile])
	h := cardHead{License: old.License, LicenseName: old.LicenseName, LicenseLink: old.LicenseLink, Language: old.Language, BaseModel: old.BaseModel,
		Relation: relation, Datasets: old.Datasets, Pipeline: "text-generation", Library: "krait", Tags: []string{"krait", p.Stage}}
	if h.License == "" {
		h.License = licenceOf(c.Files["LICENSE"])
	}
	if h.BaseModel == nil || old.Library != "krait" {
		h.BaseModel = modelID(from)
	}
	if c.Model.Config.Mamba != nil {
		h.Tags = append(h.Tags, "mamba", "hybrid")
	}
	front, err := yamlfile.Marshal(h)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "---\n%s---\n\n# Model card of %s\n\n", front, filepath.Base(out))
	cardModel(&b, c, out, h)
	fmt.Fprintf(&b, "## How it was made\n\nKrait %s, stage `%s`:\n\n```json\n%s\n```\n\n", p.Version, p.Stage, indented(p.Config))
	if len(p.Inputs) > 0 {
		b.WriteString("## From what\n\n| input | SHA-256 of its content |\n|---|---|\n")
		for _, in := range p.Inputs {
			fmt.Fprintf(&b, "| `%s` | `%s` |\n", in.Path, in.SHA256)
		}
		b.WriteByte('\n')
	}
	if len(p.Metrics) > 0 {
		b.WriteString("## Figures\n\n| figure | value |\n|---|---|\n")
		for _, k := range slices.Sorted(maps.Keys(p.Metrics)) {
			fmt.Fprintf(&b, "| %s | %s |\n", k, strconv.FormatFloat(p.Metrics[k], 'g', 6, 64))
		}
		b.WriteByte('\n')
	}
	cardLicence(&b, h)
	c.Files[cardFile] = b.Bytes()
	return nil
}

// cardModel says what the model is and how it is run.
func cardModel(b *bytes.Buffer, c *checkpoint.Checkpoint, out string, h cardHead) {
	config := &c.Model.Config
	var attention []int
	for l := range config.NumHiddenLayers {
		if config.IsAttention(l) {
			attention = append(attention, l)
		}
	}
	fmt.Fprintf(b, "A language model of %s parameters in %d layers", count(c.Model.NumParams()), config.NumHiddenLayers)
	switch len(attention) {
	case config.NumHiddenLayers:
		b.WriteString(", all of them with attention")
	case 0:
		b.WriteString(", all of them Mamba layers")
	default:
		fmt.Fprintf(b, ": attention in layers %s, counted from 0, Mamba layers elsewhere", enumerate(attention))
	}
	fmt.Fprintf(b, ". It comes from %v.\n\n    krait generate %s --prompt \"Once upon a time\"\n\n", h.BaseModel, filepath.Base(out))
}

// cardLicence says what may be done with the model.
func cardLicence(b *bytes.Buffer, h cardHead) {
	b.WriteString("## Licence\n\n")
	switch h.License {
	case "":
		b.WriteString("The model that this one comes from names no licence in its directory. What may be done with it holds for this one too.\n")
	default:
		fmt.Fprintf(b, "%s, inherited from the model that this one comes from. The text that it was trained on may have terms of its own.\n", h.License)
	}
}

// indented writes JSON over several lines.
func indented(j json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, j, "", "  ") != nil {
		return string(j)
	}
	return b.String()
}

// licenceOf knows the identifiers of common licences by their text.
func licenceOf(text []byte) string {
	head := strings.ToLower(string(text[:min(len(text), 600)]))
	switch {
	case strings.Contains(head, "apache license"):
		return "apache-2.0"
	case strings.Contains(head, "mit license") || strings.Contains(head, "permission is hereby granted, free of charge"):
		return "mit"
	case len(text) > 0:
		return "other"
	}
	return ""
}

// modelID returns the hub's name of a model in its cache, or the name of its directory.
func modelID(path string) string {
	for part := range strings.SplitSeq(filepath.ToSlash(path), "/") {
		if name, ok := strings.CutPrefix(part, "models--"); ok {
			return strings.ReplaceAll(name, "--", "/")
		}
	}
	return filepath.Base(path)
}
