package main

import (
	"os"
	"testing"
)

func TestGeneratedFilesAreFresh(t *testing.T) {
	for name, want := range generate() {
		got, err := os.ReadFile("../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s differs from what the generator writes; run go generate ./kernel", name)
		}
	}
}
