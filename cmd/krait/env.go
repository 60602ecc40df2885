package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"krait/kernel"
	"krait/recipe"
)

// environment is the JSON object of env.
type environment struct {
	Version   string   `json:"version"`
	Commit    string   `json:"commit,omitempty"`
	Go        string   `json:"go"`
	OS        string   `json:"os"`
	Arch      string   `json:"arch"`
	Cores     int      `json:"cores"`
	Threads   int      `json:"threads"`
	Kernels   string   `json:"kernels"`
	Why       string   `json:"kernels_why"`
	Available []string `json:"kernels_available"`
	BF16      string   `json:"bf16"` // what --compute bf16 brings
}

func envCommand(u *ui) *cobra.Command {
	var asJSON bool
	cmd := verb("env", cobra.Command{
		Short:   "show version, machine and kernels, for a report of a problem",
		Long:    "Show the version, the machine and the kernels in use. KRAIT_KERNELS chooses other kernels, GOMAXPROCS the number of threads.",
		Example: "  krait env\n  KRAIT_KERNELS=portable krait env --json",
	}, func(*cobra.Command, []string) error {
		e := environment{
			Version: recipe.Version, Commit: commit(), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
			Cores: runtime.NumCPU(), Threads: runtime.GOMAXPROCS(0), Kernels: kernel.Level(), Why: kernel.Why(), Available: kernel.Levels(), BF16: bf16Note(),
		}
		if asJSON {
			return u.json(e)
		}
		version := e.Version
		if e.Commit != "" {
			version += " (" + e.Commit + ")"
		}
		u.table([][]string{
			{"krait", version},
			{"go", e.Go},
			{"system", e.OS + "/" + e.Arch},
			{"cores", fmt.Sprintf("%d, %d in use", e.Cores, e.Threads)},
			{"kernels", fmt.Sprintf("%s (available: %s)", e.Kernels, strings.Join(e.Available, ", "))},
			{"", e.Why},
			{"bf16", e.BF16},
		})
		return nil
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// bf16Note says what training with --compute bf16 brings on this processor, by a short measurement.
func bf16Note() string {
	const moment = 5 * time.Millisecond
	if !kernel.HasBF16() {
		return "no instructions for bf16 at this level: --compute bf16 rounds operands and multiplies them as float32, no faster than f32"
	}
	ratio := kernel.GemmBF16Peak(moment) / kernel.FMAPeak(moment)
	if ratio < 1.1 {
		return "the instructions for bf16 are slower than float32's on this processor: --compute bf16 is no faster than f32"
	}
	return fmt.Sprintf("the instructions for bf16 make %.1f times the products of float32 a second, with --compute bf16", ratio)
}

// commit returns the revision that the program was built from, where the build knows it.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var revision, modified string
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				modified = " modified"
			}
		}
	}
	return revision + modified
}
