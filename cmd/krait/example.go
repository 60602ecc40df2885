package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"krait/checkpoint"
	"krait/recipe"
)

func exampleCommand(u *ui) *cobra.Command {
	return verb("example DIR", cobra.Command{
		Short: "write the embedded model to a directory",
		Long: `Write the model inside this program, a Llama of 260 thousand parameters that tells children's stories, to the
directory DIR, with its tokenizer and licence and heldout.txt, a text that it was not trained on. DIR must not exist.`,
		Example: `  krait example teacher
  krait eval ppl teacher --text teacher/heldout.txt`,
	}, func(_ *cobra.Command, args []string) error {
		if err := writeExample(args[0]); err != nil {
			return err
		}
		u.print("%s\n", args[0])
		return nil
	})
}

// writeExample writes the embedded files to dir, which is absent or whole afterwards.
func writeExample(dir string) (err error) {
	if err := checkpoint.RefuseExisting(dir); err != nil {
		return err
	}
	tmp := checkpoint.Partial(dir)
	if _, err := os.Stat(filepath.Join(tmp, "plan.json")); err == nil {
		return fmt.Errorf("%s holds a stage's unfinished work: remove it or choose another name", tmp)
	}
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("write %s: %w", dir, err)
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	files := recipe.Stories260K()
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return err
		}
		if err := checkpoint.WriteFile(filepath.Join(tmp, e.Name()), data); err != nil {
			return fmt.Errorf("write %s: %w", dir, err)
		}
	}
	return checkpoint.Finish(dir)
}
