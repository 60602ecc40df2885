package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"krait/checkpoint"
	"krait/recipe"
)

func recipeCommand(u *ui) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recipe",
		Short: "run the stages of a recipe, and look at recipes",
		Long: `A recipe is a YAML file that lists the stages of the method with their settings. It is run into a directory of its own,
with a directory for each stage. Stages that are whole are kept, an interrupted one goes on, and where the recipe has changed,
what would be made again is said before anything is replaced.`,
	}
	onlySubVerbs(cmd)
	cmd.AddCommand(recipeRunCommand(u), recipeListCommand(u), recipeCatCommand(u), recipeCopyCommand(u), recipeValidateCommand(u), recipeSchemaCommand(u))
	return cmd
}

// recipeArguments makes a command take RECIPE and then key=value arguments.
func recipeArguments(c *cobra.Command) *cobra.Command {
	c.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage(cmd, "%s: RECIPE is missing: a file, or one of %s", cmd.Name(), strings.Join(recipe.Embedded(), ", "))
		}
		for _, a := range args[1:] {
			if key, _, ok := strings.Cut(a, "="); !ok || key == "" {
				return usage(cmd, "%s: argument %q: want key=value, such as distill.steps=200", cmd.Name(), a)
			}
		}
		return nil
	}
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return recipe.Embedded(), cobra.ShellCompDirectiveDefault
	}
	c.Use = strings.TrimSuffix(c.Use, " RECIPE [flags]") + " RECIPE [key=value …] [flags]"
	return c
}

// runSummary is the JSON object of recipe run.
type runSummary struct {
	Name   string         `json:"name"`
	Out    string         `json:"out"`
	Report string         `json:"report"`
	Stages []stageOutcome `json:"stages"`
}

type stageOutcome struct {
	Name    string             `json:"name"`
	Kind    string             `json:"kind"`
	Out     string             `json:"out"`
	Seconds float64            `json:"seconds"`
	Metrics map[string]float64 `json:"metrics"`
}

func recipeRunCommand(u *ui) *cobra.Command {
	var force, asJSON bool
	cmd := recipeArguments(verb("run RECIPE", cobra.Command{
		Short: "run a recipe, or go on with it",
		Long: `Run a recipe: a YAML file, or the name of one inside the program ("krait recipe ls"). Arguments change it: key=value a key
of the recipe, such as out=DIR or model=DIR; train.key=value one of every stage that trains; STAGE.key=value one of a stage.
The run's directory is the recipe's out (without one runs/NAME). A run that was stopped goes on when the same command is given again, bit for bit.`,
		Example: `  krait recipe run demo
  krait recipe run demo out=trial labels.count=40 train.steps=20
  krait recipe run mine.yaml distill.learning_rate=2e-5 --force`,
	}, func(cmd *cobra.Command, args []string) error {
		r, err := loadRecipe(args)
		if err != nil {
			return err
		}
		for _, n := range r.Notes {
			u.note("%s", n)
		}
		return u.runRecipe(cmd.Context(), r, force, asJSON)
	}))
	cmd.Flags().BoolVar(&force, "force", false, "replace what was made differently")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// loadRecipe reads a recipe with its arguments; names of models and of datasets may be the hub's.
func loadRecipe(args []string) (*recipe.Recipe, error) {
	return recipe.Load(args[0], args[1:], modelPath, dataFiles)
}

func (u *ui) runRecipe(ctx context.Context, r *recipe.Recipe, force, asJSON bool) error {
	state, err := r.Run(ctx, force, u.report)
	u.close()
	if errors.Is(err, context.Canceled) {
		return &interrupted{hint: fmt.Sprintf("%s holds the work so far, the same command goes on from there", r.Out)}
	}
	if err != nil {
		return err
	}
	s := runSummary{Name: r.Name, Out: r.Out, Report: r.Path("report.html")}
	if err := recipe.ReportRun(r.Out, s.Report); err != nil {
		return err
	}
	rows := [][]string{{"STAGE", "KIND", "SECONDS", "RESULT"}}
	for _, st := range state.Stages {
		metrics, err := recipe.StageMetrics(r.Out, st.Name)
		if err != nil {
			return err
		}
		o := stageOutcome{Name: st.Name, Kind: st.Kind, Out: r.Path(st.Name), Seconds: st.Seconds, Metrics: metrics}
		s.Stages = append(s.Stages, o)
		rows = append(rows, []string{o.Name, o.Kind, fmt.Sprintf("%.1f", o.Seconds), recipe.MetricsText(metrics)})
	}
	if asJSON {
		return u.json(s)
	}
	u.table(rows)
	u.print("\nreport: %s\n", s.Report)
	return nil
}

func recipeListCommand(u *ui) *cobra.Command {
	return verb("ls", cobra.Command{
		Aliases: []string{"list"},
		Short:   "list the recipes inside the program",
		Example: "  krait recipe ls",
	}, func(*cobra.Command, []string) error {
		rows := [][]string{{"RECIPE", "STAGES", "WHAT"}}
		for _, name := range recipe.Embedded() {
			about, err := recipe.About(name)
			if err != nil {
				return err
			}
			rows = append(rows, []string{name, fmt.Sprint(about.Stages), about.Description})
		}
		u.table(rows)
		return nil
	})
}

func recipeCatCommand(u *ui) *cobra.Command {
	return verb("cat RECIPE", cobra.Command{
		Short:   "print a recipe",
		Example: "  krait recipe cat demo",
	}, func(_ *cobra.Command, args []string) error {
		text, err := recipe.Source(args[0])
		if err != nil {
			return err
		}
		u.print("%s", text)
		return nil
	})
}

func recipeCopyCommand(u *ui) *cobra.Command {
	return verb("cp RECIPE FILE", cobra.Command{
		Short:   "copy a recipe to a file, to change it",
		Example: "  krait recipe cp smollm2-50 mine.yaml",
	}, func(_ *cobra.Command, args []string) error {
		text, err := recipe.Source(args[0])
		if err != nil {
			return err
		}
		if _, err := os.Lstat(args[1]); err == nil {
			return fmt.Errorf("%s is there already", args[1])
		}
		if err := checkpoint.WriteFile(args[1], text); err != nil {
			return err
		}
		u.note("%s: change it, then \"krait recipe validate %s\"", args[1], args[1])
		return nil
	})
}

func recipeValidateCommand(u *ui) *cobra.Command {
	var asJSON bool
	cmd := recipeArguments(verb("validate RECIPE", cobra.Command{
		Short: "check a recipe and show the stages that it makes",
		Long: `Check a recipe without running it: names, types and values of all keys, what each stage reads. It prints the stages as they
would run.`,
		Example: `  krait recipe validate mine.yaml
  krait recipe validate smollm2-50 model=stories260k --json`,
	}, func(cmd *cobra.Command, args []string) error {
		r, err := loadRecipe(args)
		if err != nil {
			return err
		}
		for _, n := range r.Notes {
			u.note("%s", n)
		}
		if asJSON {
			state, err := r.Resolved()
			if err != nil {
				return err
			}
			return u.json(state)
		}
		rows := [][]string{{"STAGE", "KIND", "READS"}}
		for _, s := range r.Stages {
			rows = append(rows, []string{s.Name, s.Kind, strings.Join(s.Needs, ", ")})
		}
		u.table(rows)
		return nil
	}))
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object: every stage with all its settings")
	return cmd
}

func recipeSchemaCommand(u *ui) *cobra.Command {
	return verb("schema", cobra.Command{
		Short: "print the JSON schema of recipes, for editors",
		Long: `Print the JSON schema of recipes. An editor that knows YAML completes and checks a recipe that begins with the line
"# yaml-language-server: $schema=FILE".`,
		Example: "  krait recipe schema > krait-recipe.json",
	}, func(*cobra.Command, []string) error {
		schema, err := recipe.Schema()
		if err != nil {
			return err
		}
		u.print("%s\n", schema)
		return nil
	})
}
