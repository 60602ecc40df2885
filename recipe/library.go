package recipe

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

//go:embed recipes/*.yaml
var library embed.FS

// Embedded lists the names of the recipes inside the program.
func Embedded() []string {
	files, err := fs.Glob(library, "recipes/*.yaml")
	if err != nil {
		panic(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(path.Base(f), ".yaml"))
	}
	return names
}

// Source returns the text of a recipe: that of a file, or that of an embedded one where no file has the name.
func Source(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err == nil || !os.IsNotExist(err) {
		return text, err
	}
	if text, inside := fs.ReadFile(library, "recipes/"+strings.TrimSuffix(name, ".yaml")+".yaml"); inside == nil {
		return text, nil
	}
	known := map[string]bool{}
	for _, n := range Embedded() {
		known[n] = true
	}
	hint := didYouMean(name, known)
	if hint == "" {
		hint = fmt.Sprintf(": there are %s, and files", strings.Join(Embedded(), ", "))
	}
	return nil, fmt.Errorf("there is no recipe %s%s", name, hint)
}
