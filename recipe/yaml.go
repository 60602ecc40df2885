package recipe

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	yamlfile "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decoder fills typed configurations from YAML. Keys are the fields' JSON names; it knows no others, and says where in the file something is
// wrong. It collects what is wrong, so that one look shows all of it.
type decoder struct {
	file    string
	anchors map[string]ast.Node
	notes   []string // keys that are known and have no effect
	errs    []error
}

// maxErrors bounds the errors of one file.
const maxErrors = 10

// failf notes an error at a place.
func (d *decoder) failf(at *token.Position, format string, args ...any) {
	if len(d.errs) < maxErrors {
		d.errs = append(d.errs, fmt.Errorf("%s: %s", d.place(at), fmt.Sprintf(format, args...)))
	}
}

// place writes file:line:column; an argument of the command line has no lines.
func (d *decoder) place(at *token.Position) string {
	if at == nil || strings.HasPrefix(d.file, "argument ") {
		return d.file
	}
	return fmt.Sprintf("%s:%d:%d", d.file, at.Line, at.Column)
}

// err returns what was wrong.
func (d *decoder) err() error { return errors.Join(d.errs...) }

// parse reads one document.
func (d *decoder) parse(text []byte) (ast.Node, error) {
	f, err := parser.ParseBytes(text, 0)
	if err != nil {
		var syntax yamlfile.Error
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("%s: %s", d.place(syntax.GetToken().Position), syntax.GetMessage())
		}
		return nil, fmt.Errorf("%s: %w", d.file, err)
	}
	if len(f.Docs) != 1 || f.Docs[0].Body == nil {
		return nil, fmt.Errorf("%s: want one YAML document, not %d", d.file, len(f.Docs))
	}
	return f.Docs[0].Body, nil
}

// entry is a key of a mapping with its value.
type entry struct {
	key   string
	at    *token.Position
	value ast.Node
}

// plain follows anchors, aliases and tags to the node that holds the value.
func (d *decoder) plain(n ast.Node) ast.Node {
	for range 100 { // an alias may name itself
		switch x := n.(type) {
		case *ast.AnchorNode:
			if d.anchors == nil {
				d.anchors = map[string]ast.Node{}
			}
			d.anchors[x.Name.GetToken().Value] = x.Value
			n = x.Value
		case *ast.AliasNode:
			name := x.Value.GetToken().Value
			if n = d.anchors[name]; n == nil {
				d.failf(x.GetToken().Position, "nothing is anchored as &%s before", name)
				return nil
			}
		case *ast.TagNode:
			n = x.Value
		default:
			return n
		}
	}
	return nil
}

// entries lists a mapping's keys in order, those merged from elsewhere first.
func (d *decoder) entries(n ast.Node, what string) []entry {
	var values []*ast.MappingValueNode
	switch x := d.plain(n).(type) {
	case nil, *ast.NullNode:
		return nil
	case *ast.MappingNode:
		values = x.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{x}
	default:
		d.failf(x.GetToken().Position, "%s: want keys with values", what)
		return nil
	}
	var merged, own []entry
	for _, v := range values {
		if _, ok := v.Key.(*ast.MergeKeyNode); ok {
			merged = append(merged, d.entries(v.Value, what)...)
			continue
		}
		t := v.Key.GetToken()
		own = append(own, entry{t.Value, t.Position, v.Value})
	}
	return append(merged, own...)
}

// fields returns the fields of a struct by their JSON names; those of embedded structs are its own. What changes no result, and so has no place in
// a record, has a YAML name instead.
func fields(v reflect.Value) map[string]reflect.Value {
	all := map[string]reflect.Value{}
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			name = f.Tag.Get("yaml")
		}
		switch {
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			for k, x := range fields(v.Field(i)) {
				if _, ok := all[k]; !ok {
					all[k] = x
				}
			}
		case name != "":
			all[name] = v.Field(i)
		}
	}
	return all
}

// fill sets the fields of the struct that v points to. what names it in errors.
func (d *decoder) fill(v any, list []entry, what string) {
	known := fields(reflect.ValueOf(v).Elem())
	seen := map[string]bool{}
	for _, e := range list {
		d.set(known, e, what, seen)
	}
}

// set sets one field by its key or by another name for it.
func (d *decoder) set(known map[string]reflect.Value, e entry, what string, seen map[string]bool) {
	name := strings.ReplaceAll(e.key, "-", "_")
	if _, ok := known[name]; !ok {
		for _, other := range aliases[name] {
			if _, ok := known[other]; ok {
				name = other
				break
			}
		}
	}
	field, ok := known[name]
	if !ok {
		if why, ok := noEffect[name]; ok {
			d.notes = append(d.notes, fmt.Sprintf("%s: %s has no effect here: %s", d.place(e.at), e.key, why))
			return
		}
		d.failf(e.at, "%s has no key %q%s", what, e.key, didYouMean(name, known))
		return
	}
	if seen[name] && name != e.key {
		d.failf(e.at, "%s is another name for %s, which stands here too", e.key, name)
		return
	}
	seen[name] = true
	d.value(field, e.value, e.key, e.at)
}

// value sets one value from a node; key and at say where it stands.
func (d *decoder) value(v reflect.Value, n ast.Node, key string, at *token.Position) {
	n = d.plain(n)
	if n == nil {
		return
	}
	if _, ok := n.(*ast.NullNode); ok {
		return // as if it were not there
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		at = t.Position
	}
	switch v.Kind() {
	case reflect.Struct:
		d.fill(v.Addr().Interface(), d.entries(n, key), key)
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(p.Elem(), n, key, at)
		v.Set(p)
	case reflect.Map:
		d.mapping(v, n, key)
	case reflect.Slice:
		d.list(v, n, key, at)
	default:
		text, ok := scalar(n)
		if !ok {
			d.failf(at, "%s: want %s", key, wanted(v.Type()))
			return
		}
		if !setScalar(v, text, n) {
			d.failf(at, "%s is %q: want %s", key, text, wanted(v.Type()))
		}
	}
}

// mapping sets a map of strings to values.
func (d *decoder) mapping(v reflect.Value, n ast.Node, key string) {
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range d.entries(n, key) {
		x := reflect.New(v.Type().Elem()).Elem()
		d.value(x, e.value, key+"."+e.key, e.at)
		v.SetMapIndex(reflect.ValueOf(e.key), x)
	}
}

// list sets a list. A single value is a list of one; the word none is an empty list.
func (d *decoder) list(v reflect.Value, n ast.Node, key string, at *token.Position) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		if text, ok := scalar(n); ok && text == "none" {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
			return
		}
		one := reflect.New(v.Type().Elem()).Elem()
		if one.Kind() == reflect.Slice {
			d.failf(at, "%s: want a list of lists, such as [[1, 3], [3]]", key)
			return
		}
		d.value(one, n, key, at)
		v.Set(reflect.Append(reflect.MakeSlice(v.Type(), 0, 1), one))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, x := range seq.Values {
		d.value(list.Index(i), x, fmt.Sprintf("%s[%d]", key, i), at)
	}
	v.Set(list)
}

// scalar returns the text of a node that is one value.
func scalar(n ast.Node) (string, bool) {
	switch x := n.(type) {
	case *ast.StringNode:
		return x.Value, true
	case *ast.LiteralNode:
		return x.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// setScalar sets a value from its text and reports whether the text means one. Numbers are read from their text whatever YAML takes them for:
// 2e-5 is a number. A quoted number is text.
func setScalar(v reflect.Value, text string, n ast.Node) bool {
	kind := n.GetToken().Type
	quoted := kind == token.SingleQuoteType || kind == token.DoubleQuoteType
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return true
	case reflect.Bool:
		v.SetBool(text == "true" || text == "True")
		return !quoted && slices.Contains([]string{"true", "True", "false", "False"}, text)
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		v.SetFloat(f)
		return err == nil && !quoted && f-f == 0
	case reflect.Int:
		f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
		v.SetInt(int64(f))
		return err == nil && !quoted && f == float64(int64(f)) && f < 1<<53 && f > -1<<53
	case reflect.Uint64:
		u, err := strconv.ParseUint(strings.ReplaceAll(text, "_", ""), 10, 64)
		v.SetUint(u)
		return err == nil && !quoted
	}
	return false
}

// wanted names a type in words.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Uint64:
		return "a whole number from 0 up"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	}
	return "one value"
}

// didYouMean returns the key nearest to a word, as the end of a sentence.
func didYouMean[V any](word string, known map[string]V) string {
	best, least := "", 1+len(word)/3
	consider := func(candidate, name string) {
		if n := distance(word, candidate); n < least || n == least && best != "" && name < best {
			best, least = name, n
		}
	}
	for k := range known {
		consider(k, k)
	}
	for k, others := range aliases {
		for _, o := range others {
			if _, ok := known[o]; ok {
				consider(k, k)
			}
		}
	}
	if best == "" {
		return ""
	}
	return ": did you mean " + best + "?"
}

// distance is the edit distance of two words, where neighbours that change places count once (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
