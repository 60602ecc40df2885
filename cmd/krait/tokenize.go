package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func tokenizeCommand(u *ui) *cobra.Command {
	var noSpecial bool
	cmd := verb("tokenize MODEL", cobra.Command{
		Short: "turn text into token ids, line by line",
		Long: `Read one JSON string a line from standard input and print its token ids as one JSON array a line. A directory with
tokenizer files alone will do for MODEL.`,
		Example: `  echo '"Once upon a time"' | krait tokenize stories260k
  echo '"Once upon a time"' | krait tokenize stories260k --no-special`,
	}, func(cmd *cobra.Command, args []string) error {
		t, err := loadTokenizer(args[0])
		if err != nil {
			return err
		}
		return u.lines(cmd.Context(), func(line []byte) (any, error) {
			if at := invalidUTF8(line); at >= 0 {
				return nil, fmt.Errorf("not valid UTF-8 at byte %d", at)
			}
			var text *string
			if err := json.Unmarshal(line, &text); err != nil || text == nil {
				return nil, fmt.Errorf("%s: want one JSON string", clip(line))
			}
			ids, err := t.Encode(*text, !noSpecial)
			if ids == nil {
				ids = []int32{}
			}
			return ids, err
		})
	})
	cmd.Flags().BoolVar(&noSpecial, "no-special", false, "leave out the tokens that the tokenizer adds around a text (BOS, EOS)")
	return cmd
}

func detokenizeCommand(u *ui) *cobra.Command {
	return verb("detokenize MODEL", cobra.Command{
		Short: "turn token ids into text, line by line",
		Long: `Read one JSON array of token ids a line from standard input and print the text as one JSON string a line. Special
tokens are kept. A directory with tokenizer files alone will do for MODEL.`,
		Example: `  echo '[1,403,407,261,378]' | krait detokenize stories260k`,
	}, func(cmd *cobra.Command, args []string) error {
		t, err := loadTokenizer(args[0])
		if err != nil {
			return err
		}
		return u.lines(cmd.Context(), func(line []byte) (any, error) {
			var ids []int32
			if err := json.Unmarshal(line, &ids); err != nil || ids == nil {
				return nil, fmt.Errorf("%s: want one JSON array of token ids", clip(line))
			}
			return t.Decode(ids, false)
		})
	})
}

// lines answers each line of standard input with one line of JSON, and waits for input only when all answers are out.
func (u *ui) lines(ctx context.Context, answer func(line []byte) (any, error)) error {
	in, out := bufio.NewReaderSize(u.stdin(ctx), 1<<16), bufio.NewWriterSize(u.out, 1<<16)
	defer out.Flush()
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read standard input: %w", err)
		}
		if len(line) > 0 {
			reply, bad := answer(bytes.TrimRight(line, "\r\n"))
			if bad != nil {
				return fmt.Errorf("standard input, line %d: %w", n, bad)
			}
			encoded, bad := jsonLine(reply)
			if bad != nil {
				return bad
			}
			if _, bad = out.Write(encoded); bad != nil {
				return nil // run reports it
			}
		}
		if err != nil {
			return nil
		}
		if in.Buffered() == 0 {
			out.Flush()
		}
	}
}
