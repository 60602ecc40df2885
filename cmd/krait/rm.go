package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"krait/hub"
)

// removed is the JSON object of rm.
type removed struct {
	Removed []string `json:"removed"`
	Bytes   int64    `json:"bytes"`
}

func rmCommand(u *ui) *cobra.Command {
	var yes, dataset, asJSON bool
	cmd := verb("rm NAME", cobra.Command{
		Short: "remove models and datasets from the cache",
		Long: `Remove all that the cache has of ORG/NAME, every revision of it, and nothing else. A terminal is asked before; --yes
answers. Datasets are named datasets/ORG/NAME, or --dataset says so.`,
		Example: "  krait rm HuggingFaceTB/SmolLM2-135M-Instruct\n  krait rm --yes datasets/roneneldan/TinyStories",
	}, func(cmd *cobra.Command, args []string) error {
		var repos []hub.Repo
		for _, name := range args {
			r, err := hubRepo(cmd, name, dataset)
			if err != nil {
				return err
			}
			if r.Revision != "" {
				return usage(cmd, "%s: revisions share files: name the whole, %s", name, strings.TrimSuffix(name, "@"+r.Revision))
			}
			if !slices.Contains(repos, r) {
				repos = append(repos, r)
			}
		}
		return remove(cmd.Context(), u, repos, !yes && term.IsTerminal(int(os.Stdin.Fd())), asJSON)
	})
	cmd.Use = "rm NAME... [flags]"
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage(cmd, "rm: NAME is missing")
		}
		return nil
	}
	f := cmd.Flags()
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&dataset, "dataset", false, "the names are datasets'")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// remove removes repositories, all of which must be there.
func remove(ctx context.Context, u *ui, repos []hub.Repo, ask, asJSON bool) error {
	c, err := hubClient()
	if err != nil {
		return err
	}
	list, err := c.List()
	if err != nil {
		return err
	}
	var names []string
	var bytes int64
	for _, r := range repos {
		i := slices.IndexFunc(list, func(x hub.Cached) bool { return x.Repo == r })
		if i < 0 {
			return fmt.Errorf("%s is not in the cache, nothing was removed: \"krait list\" shows what is", r)
		}
		names, bytes = append(names, r.String()), bytes+list[i].Bytes
	}
	if ask {
		ok, err := u.confirm(ctx, fmt.Sprintf("remove %s, %s?", strings.Join(names, ", "), formatBytes(bytes)))
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("nothing was removed")
		}
	}
	out := removed{Removed: []string{}}
	for _, r := range repos {
		n, err := c.Remove(r)
		if err != nil {
			return err
		}
		out.Removed, out.Bytes = append(out.Removed, r.String()), out.Bytes+n
		if !asJSON {
			u.print("removed %s, %s\n", r, formatBytes(n))
		}
	}
	if asJSON {
		return u.json(out)
	}
	return nil
}

// confirm asks on the terminal; only a y says yes.
func (u *ui) confirm(ctx context.Context, question string) (bool, error) {
	fmt.Fprintf(u.err, "krait: %s [y/N] ", question)
	line, err := bufio.NewReader(u.stdin(ctx)).ReadString('\n')
	if err != nil && err != io.EOF {
		return false, err
	}
	if err == io.EOF {
		fmt.Fprintln(u.err)
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}
