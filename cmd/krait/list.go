package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// listed is the JSON object of list.
type listed struct {
	Cache string       `json:"cache"`
	Repos []listedRepo `json:"repos"`
}

type listedRepo struct {
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Commit   string            `json:"commit"`  // of main, or of the youngest snapshot
	Refs     map[string]string `json:"refs"`    // commits by branch or tag
	Commits  []string          `json:"commits"` // the snapshots
	Path     string            `json:"path"`
	Bytes    int64             `json:"bytes"`
	Partial  bool              `json:"partial"` // a download of it was stopped
	Modified time.Time         `json:"modified"`
}

func listCommand(u *ui) *cobra.Command {
	var asJSON bool
	cmd := verb("list", cobra.Command{
		Aliases: []string{"ls"},
		Short:   "the models and datasets in the cache",
		Long: `List the models and datasets that are in the cache, the youngest first: those that "krait pull" fetched and those of
huggingface_hub. ID is the commit that the name means.`,
		Example: "  krait list\n  krait ls --json",
	}, func(*cobra.Command, []string) error {
		c, err := hubClient()
		if err != nil {
			return err
		}
		list, err := c.List()
		if err != nil {
			return err
		}
		out := listed{Cache: c.Cache, Repos: []listedRepo{}}
		rows := [][]string{{"NAME", "ID", "SIZE", "MODIFIED"}}
		for _, x := range list {
			commit := x.Commit()
			commits := append([]string{}, x.Commits...)
			out.Repos = append(out.Repos, listedRepo{x.Repo.Name, string(x.Repo.Kind), commit, x.Refs, commits, x.Dir, x.Bytes, x.Partial, x.Modified.UTC()})
			size := formatBytes(x.Bytes)
			if x.Partial {
				size += ", partial"
			}
			rows = append(rows, []string{x.Repo.String(), fmt.Sprintf("%.12s", or(commit, "-")), size, ago(time.Since(x.Modified))})
		}
		if asJSON {
			return u.json(out)
		}
		u.table(rows)
		return nil
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// ago says how long ago something was.
func ago(d time.Duration) string {
	const day = 24 * time.Hour
	for _, unit := range []struct {
		d    time.Duration
		name string
	}{{365 * day, "year"}, {30 * day, "month"}, {7 * day, "week"}, {day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		switch n := d / unit.d; {
		case n == 1:
			return "1 " + unit.name + " ago"
		case n > 1:
			return fmt.Sprintf("%d %ss ago", n, unit.name)
		}
	}
	return "just now"
}
