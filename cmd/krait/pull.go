package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"krait/hub"
	"krait/recipe"
)

// pulled is the JSON object of pull.
type pulled struct {
	Name            string   `json:"name"`
	Type            string   `json:"type"` // model or dataset
	Revision        string   `json:"revision"`
	Commit          string   `json:"commit"`
	Path            string   `json:"path"`
	Files           []string `json:"files"`
	Bytes           int64    `json:"bytes"`
	DownloadedBytes int64    `json:"downloaded_bytes"`
}

func pullCommand(u *ui) *cobra.Command {
	var f hub.Filter
	var asJSON, dataset bool
	cmd := verb("pull NAME", cobra.Command{
		Short: "fetch a model or a dataset from the Hugging Face hub",
		Long: `Fetch ORG/NAME, or ORG/NAME@REVISION, from the hub into the cache that it shares with huggingface_hub, and print the
directory. A model comes with its configuration, tokenizer and safetensors (pytorch_model*.bin where it has none); --include
chooses other files, and .gguf files come only so. In a PATTERN, * matches a slash too. A download that was stopped is
taken up where it ended. Afterwards ORG/NAME is a MODEL for every verb,
and a dataset's ORG/NAME, ORG/NAME@REVISION or ORG/NAME:FILE (a file, a pattern or a split) is DATA, prompts or pairs.

HF_HOME or HF_HUB_CACHE say where the cache is, HF_TOKEN opens gated and private models, HF_ENDPOINT names another hub,
HF_HUB_OFFLINE=1 uses no network; HTTPS_PROXY and NO_PROXY are respected.`,
		Example: `  krait pull HuggingFaceTB/SmolLM2-135M-Instruct
  krait pull HuggingFaceTB/SmolLM2-135M-Instruct-GGUF --include '*q8_0.gguf'
  krait pull --dataset roneneldan/TinyStories --include '*.txt'`,
	}, func(cmd *cobra.Command, args []string) error {
		r, err := hubRepo(cmd, args[0], dataset)
		if err != nil {
			return err
		}
		return pull(cmd.Context(), u, r, f, asJSON)
	})
	flags := cmd.Flags()
	flags.BoolVar(&dataset, "dataset", false, "the name is a dataset's")
	flags.StringArrayVar(&f.Include, "include", nil, "fetch only files that match a `PATTERN`; may stand several times")
	flags.StringArrayVar(&f.Exclude, "exclude", nil, "leave out files that match a `PATTERN`; may stand several times")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func pull(ctx context.Context, u *ui, r hub.Repo, f hub.Filter, asJSON bool) error {
	c, err := hubClient()
	if err != nil {
		return err
	}
	s, err := c.Snapshot(ctx, r, f, pullProgress(u))
	u.close()
	if errors.Is(err, context.Canceled) {
		return &interrupted{hint: "the same command goes on from where it was"}
	}
	if err != nil {
		return err
	}
	if asJSON {
		if r.Revision == "" {
			r.Revision = "main"
		}
		return u.json(pulled{r.Name, string(r.Kind), r.Revision, s.Commit, s.Dir, s.Files, s.Bytes, s.Downloaded})
	}
	files := fmt.Sprintf("%d files", len(s.Files))
	if len(s.Files) == 1 {
		files = "1 file"
	}
	u.note("%s: %s, %s, of which %s came now", r, files, formatBytes(s.Bytes), formatBytes(s.Downloaded))
	u.print("%s\n", s.Dir)
	return nil
}

// pullProgress shows a pull as the stages' progress is shown. It is at its end when the last file is in its place.
func pullProgress(u *ui) func(hub.Progress) {
	unit, name := int64(0), ""
	return func(p hub.Progress) {
		e := recipe.Event{Stage: "pull", Note: p.Say}
		if unit == 0 {
			if unit, name = 1<<20, "MiB"; p.Total < 64<<20 {
				unit, name = 1<<10, "KiB"
			}
		}
		if p.Fetched > 0 {
			e.Total, e.Unit = int((p.Total+unit-1)/unit), name
			e.Text = fmt.Sprintf("%d/%d files", p.FilesDone, p.FilesTotal)
			if e.Done = e.Total; p.FilesDone < p.FilesTotal {
				e.Done = min(int(p.Done/unit), e.Total-1)
			}
		}
		u.report(e)
	}
}
