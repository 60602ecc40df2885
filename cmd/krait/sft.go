package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"krait/recipe"
)

func sftCommand(u *ui) *cobra.Command {
	var c recipe.SFTConfig
	var asJSON bool
	cmd := verb("sft MODEL", cobra.Command{
		Short: "fine-tune a model on conversations: what the assistant says is learnt",
		Long: `Fine-tune a model on conversations or text (cross-entropy on the assistant's tokens alone). A FILE is Parquet, JSON lines,
a JSON array or plain text (.txt, a row a line), with gzip, zstd or neither. The form of a row is known by its fields: messages; conversations with from and value (ShareGPT);
prompt and completion, strings or messages; instruction, input and output (Alpaca); or text. Conversations need the model's
chat template; prompts and completions that are strings are plain text, unless --as-chat is given.
A run that was stopped goes on when the same command is given again, bit for bit.`,
		Example: `  krait sft hybrid --data chats.jsonl --out tuned --steps 500
  krait sft hybrid --data openhermes.json.gz --data mine.jsonl --context 1024 --out tuned`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Model = args[0]
		if err := requireFlags(cmd, "out"); err != nil {
			return err
		}
		if len(c.Data) == 0 && len(c.Mixture) == 0 {
			return usage(cmd, "sft: --data FILE is missing")
		}
		if err := checkRows(cmd, &c.RowsConfig); err != nil {
			return err
		}
		if err := checkTrain(cmd, &c.TrainConfig); err != nil {
			return err
		}
		return u.stage(cmd.Context(), c.Out, asJSON, []string{c.Model}, func(ctx context.Context, report recipe.Report) error {
			return recipe.SFT(ctx, c, report)
		})
	})
	f := cmd.Flags()
	f.StringArrayVar(&c.Data, "data", nil, "conversations or text: a file or a dataset of the hub (NAME, NAME@REVISION, NAME:FILE), `DATA`; may be given again")
	f.StringVar(&c.Out, "out", "", "directory to make: `DIR`")
	rowFlags(f, &c.RowsConfig)
	trainFlags(f, &c.TrainConfig)
	c.TrainConfig = recipe.DefaultSFT().TrainConfig
	rowDefaults(f)
	weightFlags(f, &c.TrainConfig)
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// rowFlags binds how rows become tokens.
func rowFlags(f *pflag.FlagSet, c *recipe.RowsConfig) {
	f.BoolVar(&c.AsChat, "as-chat", false, "a prompt and an answer that are strings are said by the user and the assistant")
	f.BoolVar(&c.DropLong, "drop-long", false, "leave out rows that are longer than --context instead of cutting them")
	f.BoolVar(&c.SkipBad, "skip-bad-rows", false, "leave out rows that mean nothing instead of stopping at the first")
	f.Var(&mixtureFlag{weights: &c.Mixture}, "mixture", "another file, or a dataset of the hub, and how often each of its rows is taken: `DATA=WEIGHT`, such as chats.jsonl=0.5 for half of them; may be given again")
	f.StringArrayVar(&c.Decontaminate, "decontaminate", nil, "leave out rows that share text with the evaluation set `DATA`; may be given again")
	f.IntVar(&c.DecontaminateWords, "decontaminate-ngram", 0, "`N` words in a row that are shared text (default: 13)")
	f.StringVar(&c.Date, "date", "", "the `DAY` that a chat template calls today, such as 2026-01-31")
}

// mixtureFlag is a list of files with a weight each.
type mixtureFlag struct {
	weights *map[string]float64
	list    []string // as they were given
}

func (m *mixtureFlag) String() string { return strings.Join(m.list, ",") }
func (m *mixtureFlag) Type() string   { return "mixture" }

func (m *mixtureFlag) Set(s string) error { return m.Append(s) }

// Append adds a FILE=WEIGHT.
func (m *mixtureFlag) Append(s string) error {
	at := strings.LastIndexByte(s, '=')
	w, err := strconv.ParseFloat(s[at+1:], 64)
	if at <= 0 || err != nil {
		return errors.New("want DATA=WEIGHT")
	}
	if *m.weights == nil {
		*m.weights = map[string]float64{}
	}
	(*m.weights)[s[:at]] = w
	m.list = append(m.list, s)
	return nil
}

func (m *mixtureFlag) GetSlice() []string { return m.list }

func (m *mixtureFlag) Replace(list []string) error {
	m.list, *m.weights = nil, nil
	for _, s := range list {
		if err := m.Append(s); err != nil {
			return err
		}
	}
	return nil
}

// rowDefaults makes the values that flags are bound to their defaults, and hides the flag that conversations have no use for.
func rowDefaults(f *pflag.FlagSet) {
	f.VisitAll(func(flag *pflag.Flag) {
		switch flag.Value.Type() {
		case "int", "float64":
			flag.DefValue = flag.Value.String()
		}
		flag.Hidden = flag.Hidden || flag.Name == "crop"
	})
}

func checkRows(cmd *cobra.Command, c *recipe.RowsConfig) error {
	if _, err := time.Parse(time.DateOnly, c.Date); c.Date != "" && err != nil {
		return usage(cmd, "--date %q: want a day such as 2026-01-31", c.Date)
	}
	if f := cmd.Flags().Lookup("crop"); f != nil && f.Changed && f.Value.String() != "0" {
		return usage(cmd, "--crop: conversations cannot begin at a random place")
	}
	return nil
}
