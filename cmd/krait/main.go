// Krait turns a Llama-type Transformer into a hybrid of attention and Mamba2 layers, distils it and decodes it with lossless speculation.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"krait/kernel"
	"krait/recipe"
)

// Exit statuses that scripts may rely on.
const (
	statusDone        = 0
	statusFailed      = 1
	statusUsage       = 2
	statusInterrupted = 130
)

func main() { os.Exit(run(os.Args[1:])) }

// run executes one command line and returns the exit status.
func run(args []string) int {
	u := newUI()
	ctx, stop := interruptible()
	defer stop()
	root := rootCommand(u)
	root.SetArgs(args)
	err := findVerb(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	u.close()
	if err == nil {
		err = u.writeError()
	}
	return u.status(err)
}

// interruptible returns a context that the first SIGINT or SIGTERM cancels; the second exits at once.
func interruptible() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(statusInterrupted)
	}()
	return ctx, cancel
}

// usageError is a command line that means nothing.
type usageError struct {
	err  error
	verb string // the verb's words, for the hint; empty: krait itself
}

func (e *usageError) Error() string { return e.err.Error() }

func usage(cmd *cobra.Command, format string, args ...any) error {
	verb := strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), "krait"))
	return &usageError{fmt.Errorf(format, args...), verb}
}

func rootCommand(u *ui) *cobra.Command {
	cobra.EnableCommandSorting = false
	root := &cobra.Command{
		Use:   "krait",
		Short: "turn a Llama-type Transformer into an attention/Mamba2 hybrid and run it fast",
		Long: `Krait turns a Llama-type Transformer into a hybrid of attention and Mamba2 layers, distils it from the
original, and decodes it with lossless speculation.

MODEL, TEACHER and STUDENT are directories as Hugging Face has them: config.json, model.safetensors,
tokenizer.json or tokenizer.model, and mamba_config.json for hybrids. Where a model is only read, a GGUF file will do, and the name
stories260k means the small Llama inside this program; "krait example DIR" writes it to a directory.

Results go to standard output, progress and notes to standard error. Exit status: 0 done, 1 failed,
2 wrong usage, 130 interrupted. KRAIT_KERNELS chooses the kernels (see "krait env"), NO_COLOR turns colours off.`,
		Example: `  krait example teacher
  krait init teacher --attn-layers 1,3 --out hybrid
  krait generate hybrid --prompt "Once upon a time"`,
		Version:       recipe.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := kernel.LevelError(); err != nil {
				return &usageError{err, "env"}
			}
			return nil
		},
	}
	root.SetVersionTemplate("krait {{.Version}}\n")
	root.SetOut(u.out)
	root.SetErr(u.err)
	root.PersistentFlags().BoolVarP(&u.quiet, "quiet", "q", false, "no progress and no notes on standard error")
	root.SetFlagErrorFunc(flagError)
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	root.AddGroup(&cobra.Group{ID: "make", Title: "Make a hybrid:"}, &cobra.Group{ID: "use", Title: "Use a model:"},
		&cobra.Group{ID: "look", Title: "Look closer:"})
	for _, g := range []struct {
		id    string
		verbs []*cobra.Command
	}{
		{"make", []*cobra.Command{demoCommand(u), recipeCommand(u), exampleCommand(u), selectCommand(u), initCommand(u), labelCommand(u), alignCommand(u), distillCommand(u), draftCommand(u), sftCommand(u), rewardCommand(u), ppoCommand(u), dpoCommand(u), preferCommand(u), exportCommand(u), quantizeCommand(u)}},
		{"use", []*cobra.Command{runCommand(u), generateCommand(u), evalCommand(u), pullCommand(u), listCommand(u), rmCommand(u)}},
		{"look", []*cobra.Command{dataCommand(u), runsCommand(u), diffCommand(u), reportCommand(u), showCommand(u), logitsCommand(u), tokenizeCommand(u), detokenizeCommand(u), templateCommand(u), benchCommand(u), envCommand(u)}},
	} {
		for _, c := range g.verbs {
			c.GroupID = g.id
			root.AddCommand(withModels(c))
		}
	}
	root.SetHelpCommand(helpCommand(root))
	root.SetHelpCommandGroupID("look")
	root.SetCompletionCommandGroupID("look")
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Short = "write a script that completes verbs and flags in your shell"
		onlySubVerbs(c)
	}
	return root
}

// findVerb reports a verb that does not exist, with the nearest that does.
func findVerb(root *cobra.Command, args []string) error {
	if len(args) > 0 && strings.HasPrefix(args[0], "__complete") { // what shells call; added while executing
		return nil
	}
	_, _, err := root.Find(args)
	if err == nil {
		return nil
	}
	var typed string
	if _, scan := fmt.Sscanf(err.Error(), "unknown command %q", &typed); scan != nil {
		return usage(root, "%s", firstLine(err))
	}
	return usage(root, "unknown verb %q%s", typed, didYouMean(root, typed))
}

func didYouMean(parent *cobra.Command, typed string) string {
	if parent.SuggestionsMinimumDistance <= 0 {
		parent.SuggestionsMinimumDistance = 2
	}
	if near := parent.SuggestionsFor(typed); len(near) > 0 {
		return fmt.Sprintf(": did you mean %s?", strings.Join(near, " or "))
	}
	return ""
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [VERB]",
		Short:   "help about a verb",
		Example: "  krait help generate\n  krait help eval ppl",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := findVerb(root, args); err != nil {
				return err
			}
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usage(root, "there is no verb %q", strings.Join(args, " "))
			}
			c.InitDefaultHelpFlag()
			c.InitDefaultVersionFlag()
			return c.Help()
		},
	}
}

// onlySubVerbs makes a command that is nothing without one of its own verbs say so.
func onlySubVerbs(c *cobra.Command) {
	c.FParseErrWhitelist = cobra.FParseErrWhitelist{UnknownFlags: true} // so that the sub-verb is judged first
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage(cmd, "%s: unknown verb %q%s", cmd.Name(), args[0], didYouMean(cmd, args[0]))
		}
		var names []string
		for _, sub := range cmd.Commands() {
			names = append(names, sub.Name())
		}
		return usage(cmd, "%s: want one of %s", cmd.Name(), strings.Join(names, ", "))
	}
}

// flagError says what is wrong with a flag in one sentence.
func flagError(cmd *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return err
	case errors.As(err, &value):
		return usage(cmd, "--%s %q: want %s", value.GetFlag().Name, value.GetValue(), wanted(value.GetFlag()))
	case errors.As(err, &missing):
		return usage(cmd, "--%s needs a value: %s", missing.GetFlag().Name, wanted(missing.GetFlag()))
	}
	return usage(cmd, "%s", firstLine(err))
}

// wanted names a flag's type in words.
func wanted(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int":
		return "a whole number"
	case "uint64":
		return "a whole number from 0 up"
	case "float64":
		return "a number"
	case "bool":
		return "true or false"
	}
	name, _ := pflag.UnquoteUsage(f)
	if name == "" {
		name = "a value"
	}
	return name
}

// verb returns a command whose arguments are those that use names in capitals, all required.
func verb(use string, c cobra.Command, run func(cmd *cobra.Command, args []string) error) *cobra.Command {
	c.Use = use
	c.RunE = run
	c.DisableFlagsInUseLine = true
	names := strings.Fields(use)[1:]
	c.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage(cmd, "%s: %s is missing", cmd.Name(), names[len(args)])
		case len(args) > len(names):
			return usage(cmd, "%s: argument %q is one too many", cmd.Name(), args[len(names)])
		}
		return nil
	}
	if len(names) > 0 {
		c.Use += " "
	}
	c.Use = strings.TrimSpace(c.Use) + " [flags]"
	return &c
}

// requireFlags reports the first of the flags that was not given.
func requireFlags(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); !f.Changed || f.Value.String() == "" {
			kind, _ := pflag.UnquoteUsage(f)
			return usage(cmd, "%s: --%s %s is missing", cmd.Name(), name, kind)
		}
	}
	return nil
}
