package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/parquet-go/parquet-go"
)

// parquetMagic begins a Parquet file.
const parquetMagic = "PAR1"

// parquetRows calls each with the rows of a Parquet file as JSON objects, and their numbers from 1, until it returns false. One row group at a time is
// read, and of that a few rows.
func parquetRows(f *os.File, each func(line int, text []byte) bool) (err error) {
	defer func() {
		if p := recover(); p != nil { // the library trusts what a file says of itself
			err = fmt.Errorf("broken Parquet file: %v", p)
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	file, err := parquet.OpenFile(f, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("broken Parquet file: %w", err)
	}
	schema := file.Schema()
	rows := make([]parquet.Row, 16)
	line := 0
	for _, group := range file.RowGroups() {
		more, err := groupRows(group.Rows(), schema, rows, &line, each)
		if err != nil {
			return fmt.Errorf("row %d: %w", line+1, err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// groupRows reads the rows of one group, and reports whether to go on.
func groupRows(r parquet.Rows, schema *parquet.Schema, rows []parquet.Row, line *int, each func(int, []byte) bool) (bool, error) {
	defer r.Close()
	for {
		n, err := r.ReadRows(rows)
		for _, row := range rows[:n] {
			object := map[string]any{}
			if err := schema.Reconstruct(&object, row); err != nil {
				return false, err
			}
			text, err := json.Marshal(object)
			if err != nil {
				return false, err
			}
			if *line++; !each(*line, text) {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}
