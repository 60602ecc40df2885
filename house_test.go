// Package krait_test holds the house rules: which package may know which, and how large a thing may grow. The rules run on the source
// itself, for every platform at once, and each is shown below to catch what it is there for.
package krait_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// floors lists the packages from the ground up. A package imports lower floors only: what is on its own floor or above is another room.
var floors = []struct {
	packages []string
	why      string
}{
	{[]string{"kernel", "tokenizer", "safetensors", "gguf", "hub", "sample"}, "the ground floor stands on the standard library and outside modules alone"},
	{[]string{"tensor", "data", "chat", "torchfile"}, "tensors and documents know kernels and tokens, not what is computed with them; torch's files hold the tensors of package safetensors"},
	{[]string{"autograd", "quant", "optim"}, "operations and their gradients know no model that is made of them"},
	{[]string{"model", "loss"}, "a model and a loss do not know each other: a recipe brings them together"},
	{[]string{"train", "engine", "checkpoint", "score"}, "training, decoding, files and scoring each use models without knowing the others: saving is passed in"},
	{[]string{"recipe", "eval", "serve"}, "making, judging and serving models do not meet: they share directories, not code"},
	{[]string{"cmd/krait"}, "nobody imports the program"},
}

// standalone are generators: programs that import the standard library only.
var standalone = []string{"kernel/gen", "scripts/ablations"}

// helpers are for tests alone. Each may import what is listed here of ours, and only test files may import it.
var helpers = map[string][]string{
	"internal/golden": {"safetensors"},
}

// closed names doors within the standard library that stay shut, by package.
var closed = []struct {
	pkg, imports, why string
}{
	{"model", `^(os|io/fs|flag|net.*)$`, "model knows no files, flags or HTTP"},
	{"train", `^(os|io/fs|encoding/.*|flag|net.*)$`, "train knows no file format: saving is passed in"},
	{"loss", `^(os|io/fs|encoding/.*|flag|net.*)$`, "a loss is arithmetic"},
	{"engine", `^(os|io/fs|flag|net.*)$`, "engine is tokens in, tokens out: it knows no text, files or HTTP"},
	{"kernel", `^(io/fs|encoding/.*|flag|net.*)$`, "kernel knows slices of numbers"},
	{"recipe", `^(flag|net/http)$`, "a stage gets a typed configuration; flags are the program's"},
}

// The size budget. Over it is a name in longFunctions, with the reason.
const (
	maxFunctionLines = 80
	maxFileLines     = 500
	maxNesting       = 5
)

// longFunctions may have more than maxFunctionLines lines.
var longFunctions = map[string]string{}

// readmeCommands stand in the README and are run by .ci/run as they stand there.
var readmeCommands = []string{"go test ./...", "krait demo"}

func TestFloors(t *testing.T) { report(t, floorErrors(parseTree(t, os.DirFS(".")))) }
func TestSize(t *testing.T)   { report(t, sizeErrors(parseTree(t, os.DirFS(".")))) }
func TestDocs(t *testing.T)   { report(t, docErrors(parseTree(t, os.DirFS(".")))) }
func TestReadme(t *testing.T) { report(t, readmeErrors(os.DirFS("."))) }
func TestMethod(t *testing.T) { report(t, methodErrors(os.DirFS("."), parseTree(t, os.DirFS(".")))) }

func report(t *testing.T, errs []string) {
	t.Helper()
	for _, e := range errs {
		t.Error(e)
	}
}

// source is one Go file.
type source struct {
	path, dir       string
	test, generated bool
	text            string
	file            *ast.File
	set             *token.FileSet
}

// at says where a position is.
func (s *source) at(p token.Pos) string { return fmt.Sprintf("%s:%d", s.path, s.set.Position(p).Line) }

// imports returns the imports that are packages of this module, without its name, and the others.
func (s *source) imports() (ours, others []string) {
	for _, i := range s.file.Imports {
		p := strings.Trim(i.Path.Value, `"`)
		if dir, ok := strings.CutPrefix(p, "krait/"); ok {
			ours = append(ours, dir)
		} else {
			others = append(others, p)
		}
	}
	return ours, others
}

// parseTree parses every Go file, whatever platform it is for.
func parseTree(t *testing.T, tree fs.FS) []*source {
	t.Helper()
	var list []*source
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != "." && (name == "testdata" || name == "out" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		text, err := fs.ReadFile(tree, p)
		if err != nil {
			return err
		}
		s := &source{path: p, dir: path.Dir(p), test: strings.HasSuffix(p, "_test.go"), text: string(text), set: token.NewFileSet()}
		if s.file, err = parser.ParseFile(s.set, p, text, parser.ParseComments); err != nil {
			return err
		}
		s.generated = ast.IsGenerated(s.file)
		list = append(list, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// floorOf returns a package's floor from 1, or 0.
func floorOf(dir string) int {
	for i, f := range floors {
		if slices.Contains(f.packages, dir) {
			return i + 1
		}
	}
	return 0
}

func floorErrors(tree []*source) []string {
	var errs []string
	for _, s := range tree {
		if s.dir == "." && s.test {
			continue // these rules
		}
		allowed, helper := helpers[s.dir]
		alone := slices.Contains(standalone, s.dir)
		if floorOf(s.dir) == 0 && !helper && !alone {
			errs = append(errs, fmt.Sprintf("%s: package %s is on no floor: give it one in house_test.go", s.path, s.dir))
			continue
		}
		if s.test {
			continue // a test may look anywhere that the compiler lets it
		}
		ours, others := s.imports()
		for _, to := range ours {
			if why := importError(s.dir, to, allowed, helper, alone); why != "" {
				errs = append(errs, fmt.Sprintf("%s: %s imports %s: %s", s.path, s.dir, to, why))
			}
		}
		for _, to := range others {
			if alone && strings.Contains(strings.Split(to, "/")[0], ".") {
				errs = append(errs, fmt.Sprintf("%s: %s imports %s: a generator imports the standard library only", s.path, s.dir, to))
			}
			for _, c := range closed {
				if c.pkg == s.dir && regexp.MustCompile(c.imports).MatchString(to) {
					errs = append(errs, fmt.Sprintf("%s: %s imports %s: %s", s.path, s.dir, to, c.why))
				}
			}
		}
	}
	return errs
}

// importError says why one of our packages may not import another, or nothing.
func importError(from, to string, allowed []string, helper, alone bool) string {
	a, b := floorOf(from), floorOf(to)
	switch {
	case alone:
		return "a generator imports the standard library only"
	case strings.HasPrefix(to, "internal/"):
		return "internal packages are for tests"
	case helper && !slices.Contains(allowed, to):
		return fmt.Sprintf("this helper may import %v of ours", allowed)
	case helper:
		return ""
	case b == 0:
		return "that package is on no floor"
	case b >= a:
		return fmt.Sprintf("floor %d may not import floor %d: %s", a, b, floors[min(a, b)-1].why)
	}
	return ""
}

func sizeErrors(tree []*source) []string {
	var errs []string
	excused := map[string]bool{}
	for _, s := range tree {
		if s.generated {
			continue
		}
		if n := strings.Count(s.text, "\n"); n > maxFileLines {
			errs = append(errs, fmt.Sprintf("%s has %d lines, the budget is %d", s.path, n, maxFileLines))
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			name := s.dir + "." + funcName(f)
			_, excuse := longFunctions[name]
			if n := strings.Count(s.text[f.Pos()-s.file.FileStart:f.End()-s.file.FileStart], "\n") + 1; n > maxFunctionLines && !s.test && !slices.Contains(standalone, s.dir) {
				if excused[name] = excuse; !excuse {
					errs = append(errs, fmt.Sprintf("%s: %s has %d lines, the budget is %d", s.at(f.Pos()), name, n, maxFunctionLines))
				}
			}
			if n, at := nesting(f.Body); n > maxNesting {
				errs = append(errs, fmt.Sprintf("%s: %s is nested %d deep, the budget is %d", s.at(at), name, n, maxNesting))
			}
		}
	}
	for name, why := range longFunctions {
		if !excused[name] {
			errs = append(errs, fmt.Sprintf("%s needs no excuse any more (%s): take it out of house_test.go", name, why))
		}
	}
	return errs
}

// funcName returns F, and T.F for a method.
func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	return receiver(f) + "." + f.Name.Name
}

// receiver returns the name of a method's type.
func receiver(f *ast.FuncDecl) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(types.ExprString(f.Recv.List[0].Type), "*"), "[")
	return name
}

// nesting returns how deep statements and function literals stand within one another, and where. An else-if is as deep as its if.
func nesting(body *ast.BlockStmt) (deepest int, at token.Pos) {
	depth := 0
	elses := map[ast.Node]bool{}
	var stack []int
	ast.Inspect(body, func(n ast.Node) bool {
		if n == nil {
			depth -= stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			return true
		}
		step := 0
		switch x := n.(type) {
		case *ast.IfStmt:
			if x.Else != nil {
				elses[x.Else] = true
			}
			if !elses[x] {
				step = 1
			}
		case *ast.ForStmt, *ast.RangeStmt, *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt, *ast.FuncLit:
			step = 1
		}
		depth += step
		stack = append(stack, step)
		if depth > deepest {
			deepest, at = depth, n.Pos()
		}
		return true
	})
	return deepest, at
}

// docErrors demands a sentence for every package and for every exported name of a package that can be imported.
func docErrors(tree []*source) []string {
	var errs []string
	documented := map[string]bool{}
	for _, s := range tree {
		if s.file.Doc != nil && !s.generated {
			documented[s.dir] = true
		}
		if s.test || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			for _, name := range undocumented(d) {
				errs = append(errs, fmt.Sprintf("%s: %s.%s has no doc comment that begins with its name", s.at(d.Pos()), s.dir, name))
			}
		}
	}
	for _, s := range tree {
		if !s.test && !documented[s.dir] {
			errs = append(errs, fmt.Sprintf("package %s has no sentence that says what it is", s.dir))
			documented[s.dir] = true
		}
	}
	return errs
}

// undocumented returns the exported names of a declaration that nothing is said about.
func undocumented(d ast.Decl) []string {
	var names []string
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) && !says(d.Doc, d.Name.Name) {
			names = append(names, funcName(d))
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch x := spec.(type) {
			case *ast.TypeSpec:
				if x.Name.IsExported() && !says(x.Doc, x.Name.Name) && !says(d.Doc, x.Name.Name) {
					names = append(names, x.Name.Name)
				}
			case *ast.ValueSpec: // a group's comment speaks for all in it
				for _, id := range x.Names {
					if id.IsExported() && x.Doc == nil && x.Comment == nil && d.Doc == nil {
						names = append(names, id.Name)
					}
				}
			}
		}
	}
	return names
}

// says reports whether a comment begins with the name, perhaps after an article.
func says(c *ast.CommentGroup, name string) bool {
	words := strings.Fields(c.Text())
	if len(words) > 1 && (words[0] == "A" || words[0] == "An" || words[0] == "The") {
		words = words[1:]
	}
	return len(words) > 1 && strings.TrimRight(words[0], ",:") == name
}

func readmeErrors(tree fs.FS) []string {
	var errs []string
	for _, name := range []string{"README.md", ".ci/run"} {
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			errs = append(errs, err.Error())
			continue
		}
		for _, c := range readmeCommands {
			if !strings.Contains(string(text), c) {
				errs = append(errs, fmt.Sprintf("%s does not have the command %q", name, c))
			}
		}
	}
	return errs
}

// TestDemoJSON checks the file that krait demo --json writes, where KRAIT_DEMO_JSON names one: the figures that scripts may rely on are
// there, and speculation changed nothing.
func TestDemoJSON(t *testing.T) {
	file := os.Getenv("KRAIT_DEMO_JSON")
	if file == "" {
		t.Skip("KRAIT_DEMO_JSON names no file")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	report(t, demoErrors(text))
}

func demoErrors(text []byte) []string {
	var demo map[string]any
	if err := json.Unmarshal(text, &demo); err != nil {
		return []string{err.Error()}
	}
	var errs []string
	number := func(where string, object any, keys ...string) {
		fields, _ := object.(map[string]any)
		for _, k := range keys {
			if v, ok := fields[k].(float64); !ok || v <= 0 {
				errs = append(errs, fmt.Sprintf("%s%s is %v, want a positive number", where, k, fields[k]))
			}
		}
	}
	number("", demo, "seconds", "plain_tokens_per_second")
	for _, m := range []string{"teacher", "hybrid_init", "hybrid", "pure"} {
		number(m+".", demo[m], "perplexity", "perplexity_ratio", "parameters", "state_bytes_512")
	}
	number("training.", demo["training"], "tokens", "tokens_per_second")
	number("speculative.", demo["speculative"], "tokens_per_second", "tokens_per_step", "speedup")
	if s, _ := demo["speculative"].(map[string]any); s["identical"] != true {
		errs = append(errs, fmt.Sprintf("speculative.identical is %v: speculation must not change a token", s["identical"]))
	}
	return errs
}

// methodErrors demands that the files and names that docs/method.md refers to exist: `model/init.go`, `autograd.SSD`, `model.State.Keep`.
func methodErrors(files fs.FS, tree []*source) []string {
	text, err := fs.ReadFile(files, "docs/method.md")
	if err != nil {
		return []string{err.Error()}
	}
	known := map[string]bool{}
	for _, s := range tree {
		for _, d := range s.file.Decls {
			for _, name := range declared(d) {
				known[s.file.Name.Name+"."+name] = true
			}
		}
	}
	var errs []string
	for _, m := range regexp.MustCompile("`([a-z0-9_/]+\\.go|[a-z]+(?:\\.[A-Za-z0-9]+)+)`").FindAllStringSubmatch(string(text), -1) {
		if _, err := fs.Stat(files, m[1]); err != nil && !known[m[1]] {
			errs = append(errs, fmt.Sprintf("docs/method.md names %s, which does not exist", m[1]))
		}
	}
	return errs
}

// declared returns the names that a declaration makes, T.F for a method.
func declared(d ast.Decl) []string {
	if f, ok := d.(*ast.FuncDecl); ok {
		return []string{funcName(f)}
	}
	var names []string
	for _, spec := range d.(*ast.GenDecl).Specs {
		switch x := spec.(type) {
		case *ast.TypeSpec:
			names = append(names, x.Name.Name)
		case *ast.ValueSpec:
			for _, id := range x.Names {
				names = append(names, id.Name)
			}
		}
	}
	return names
}

// TestRulesCatch plants one violation of each rule.
func TestRulesCatch(t *testing.T) {
	deep := "package recipe\n\nfunc f() {" + strings.Repeat("\nfor {", maxNesting+1) + strings.Repeat("\n}", maxNesting+1) + "\n}\n"
	long := "package recipe\n\nfunc f() {" + strings.Repeat("\nprintln()", maxFunctionLines) + "\n}\n"
	for _, c := range []struct{ file, text, want string }{
		{"kernel/a.go", `package kernel; import _ "krait/tensor"`, "kernel imports tensor: floor 1 may not import floor 2: the ground floor stands"},
		{"model/a.go", `package model; import _ "krait/loss"`, "model imports loss: floor 4 may not import floor 4: a model and a loss"},
		{"train/a.go", `package train; import _ "krait/recipe"`, "train imports recipe: floor 5 may not import floor 6: training"},
		{"recipe/a.go", `package recipe; import _ "krait/serve"`, "recipe imports serve: floor 6 may not import floor 6: making"},
		{"model/a.go", `package model; import _ "os"`, "model imports os: model knows no files"},
		{"train/a.go", `package train; import _ "encoding/json"`, "train imports encoding/json: train knows no file format"},
		{"score/a.go", `package score; import _ "krait/internal/golden"`, "score imports internal/golden: internal packages are for tests"},
		{"internal/golden/a.go", `package golden; import _ "krait/model"`, "golden imports model: this helper may import [safetensors]"},
		{"internal/other/a.go", `package other`, "package internal/other is on no floor"},
		{"util/a.go", `package util`, "package util is on no floor"},
		{"a.go", `package krait`, "package . is on no floor"},
		{"recipe/a.go", `package recipe; import _ "krait/util"`, "recipe imports util: that package is on no floor"},
		{"kernel/gen/a.go", `package main; import _ "krait/kernel"`, "kernel/gen imports kernel: a generator imports"},
		{"kernel/gen/a.go", `package main; import _ "golang.org/x/sys/cpu"`, "kernel/gen imports golang.org/x/sys/cpu: a generator imports"},
		{"recipe/a.go", long, "recipe/a.go:3: recipe.f has 82 lines"},
		{"recipe/a.go", "package recipe\n" + strings.Repeat("\n", maxFileLines), "recipe/a.go has 501 lines"},
		{"recipe/a.go", deep, "recipe/a.go:9: recipe.f is nested 6 deep"},
		{"recipe/a.go", "package recipe", "package recipe has no sentence"},
		{"recipe/a.go", "package recipe\n\nfunc F() {}", "recipe.F has no doc"},
		{"recipe/a.go", "package recipe\n\ntype t struct{}\n\n// Does nothing.\nfunc F() {}", "recipe.F has no doc"},
		{"recipe/a.go", "package recipe\n\n// T is.\ntype T struct{}\n\nfunc (*T) F() {}", "recipe.T.F has no doc"},
		{"recipe/a.go", "package recipe\n\ntype T struct{}", "recipe.T has no doc"},
		{"recipe/a.go", "package recipe\n\nconst C = 1", "recipe.C has no doc"},
		{".ci/run", "go vet", `.ci/run does not have the command "go test ./..."`},
		{"README.md", "go test ./...", `README.md does not have the command "krait demo"`},
		{"docs/method.md", "`model/gone.go` and `recipe.Gone`", "docs/method.md names model/gone.go"},
		{"docs/method.md", "`model/gone.go` and `recipe.Gone`", "docs/method.md names recipe.Gone"},
	} {
		files := fstest.MapFS{c.file: {Data: []byte(c.text)}}
		tree := parseTree(t, files)
		errs := slices.Concat(floorErrors(tree), sizeErrors(tree), docErrors(tree), readmeErrors(files), methodErrors(files, tree))
		if !slices.ContainsFunc(errs, func(e string) bool { return strings.Contains(e, c.want) }) {
			t.Errorf("%s: %.60q: want %q among\n%s", c.file, c.text, c.want, strings.Join(errs, "\n"))
		}
	}
	for _, want := range []string{"seconds is <nil>", "hybrid.perplexity is 0", "speculative.identical is false"} {
		errs := demoErrors([]byte(`{"hybrid": {"perplexity": 0}, "speculative": {"identical": false}}`))
		if !slices.ContainsFunc(errs, func(e string) bool { return strings.Contains(e, want) }) {
			t.Errorf("want %q among %q", want, errs)
		}
	}
	clean := "// Package recipe is.\npackage recipe\n\nimport (\n_ \"krait/model\"\n_ \"os\"\n)\n\n// F does.\nfunc F() { if true {} else if false {} }\n"
	tree := parseTree(t, fstest.MapFS{"recipe/a.go": {Data: []byte(clean)}})
	report(t, slices.Concat(floorErrors(tree), sizeErrors(tree), docErrors(tree)))
}
