package chat

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/ardanlabs/jinja"
)

// function is what a template can call.
type function func(args []jinja.Value, kwargs map[string]jinja.Value) (jinja.Value, error)

// functions are those that rewritten sources and templates call, by name.
var functions = map[string]function{
	"krait_str":    func(a []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) { return text(str(a[0])) },
	"krait_string": func(a []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) { return text(str(a[0])) },
	"krait_need":   need,
	"krait_add":    add,
	"krait_iter":   iterable,
	"krait_scope":  scope,
	"krait_method": method,
	"krait_tojson": toJSON,
	"krait_length": length,
	"krait_count":  length,
	"krait_items":  items,
	"krait_join":   func(a []jinja.Value, k map[string]jinja.Value) (jinja.Value, error) { return joined(a, k) },
	"krait_list":   list,
	"krait_first":  func(a []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) { return end(a[0], false) },
	"krait_last":   func(a []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) { return end(a[0], true) },
	"krait_trim": func(a []jinja.Value, k map[string]jinja.Value) (jinja.Value, error) {
		return stringMethod("strip", str(a[0]), a[1:], k)
	},
	"krait_title": func(a []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) { return text(title(str(a[0]))) },
	"krait_capitalize": func(a []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
		return text(capitalize(str(a[0])))
	},
	"krait_upper": func(a []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
		return text(strings.ToUpper(str(a[0])))
	},
	"krait_lower": func(a []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
		return text(strings.ToLower(str(a[0])))
	},
	"krait_replace":   replace,
	"krait_cat":       cat,
	"krait_format":    format,
	"range":           numbers,
	"raise_exception": raise,
}

func text(s string) (jinja.Value, error) { return jinja.NewString(s), nil }

// raise is the template's own refusal of a conversation.
func raise(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if len(args) == 0 {
		return jinja.Undefined(), errors.New("the template refuses the conversation")
	}
	return jinja.Undefined(), errors.New(str(args[0]))
}

// need returns its first argument, which must be defined: something is about to be taken of it.
func need(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if args[0].IsUndefined() {
		return args[0], fmt.Errorf("%s is undefined", strings.Trim(str(args[1]), "[] "))
	}
	return args[0], nil
}

func add(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	a, b := args[0], args[1]
	switch {
	case a.IsString() && b.IsString():
		return text(a.AsString() + b.AsString())
	case a.IsList() && b.IsList():
		return jinja.NewList(append(append([]jinja.Value(nil), a.AsList().Items...), b.AsList().Items...)), nil
	case whole(a) && whole(b):
		return jinja.NewInt(integer(a) + integer(b)), nil
	case (whole(a) || a.IsFloat()) && (whole(b) || b.IsFloat()):
		return jinja.NewFloat(float(a) + float(b)), nil
	}
	return a, fmt.Errorf("cannot add %s and %s", typeName(a), typeName(b))
}

func cat(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	var b strings.Builder
	for _, v := range args {
		b.WriteString(str(v))
	}
	return text(b.String())
}

// format fills %s and %d.
func format(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	var b strings.Builder
	parts := strings.Split(str(args[0]), "%")
	b.WriteString(parts[0])
	next := 1
	for i := 1; i < len(parts); i++ {
		switch p := parts[i]; {
		case p == "" && i+1 < len(parts):
			i++
			b.WriteString("%" + parts[i])
		case p != "" && (p[0] == 's' || p[0] == 'd') && next < len(args):
			b.WriteString(str(args[next]) + p[1:])
			next++
		default:
			return args[0], fmt.Errorf("format: %%%.1s is not supported, or its value is missing", p)
		}
	}
	return text(b.String())
}

func whole(v jinja.Value) bool { return v.IsInt() || v.IsBool() }

func integer(v jinja.Value) int64 {
	switch {
	case v.IsInt():
		return v.AsInt()
	case v.IsBool() && v.AsBool():
		return 1
	case v.IsFloat():
		return int64(v.AsFloat())
	}
	return 0
}

func float(v jinja.Value) float64 {
	if v.IsFloat() {
		return v.AsFloat()
	}
	return float64(integer(v))
}

func typeName(v jinja.Value) string {
	switch {
	case v.IsUndefined():
		return "something undefined"
	case v.IsNone():
		return "none"
	case v.IsString():
		return "a string"
	case v.IsList():
		return "a list"
	case v.IsDict():
		return "a mapping"
	case v.IsCallable():
		return "a function"
	}
	return "a number"
}

// elements returns what a loop over v runs through.
func elements(v jinja.Value) ([]jinja.Value, error) {
	var all []jinja.Value
	switch {
	case v.IsUndefined():
	case v.IsList():
		all = v.AsList().Items
	case v.IsDict():
		for _, k := range v.AsDict().Keys {
			all = append(all, jinja.NewString(k))
		}
	case v.IsString():
		for _, r := range v.AsString() {
			all = append(all, jinja.NewString(string(r)))
		}
	default:
		return nil, fmt.Errorf("cannot loop over %s", typeName(v))
	}
	return all, nil
}

// iterable returns a list that later changes of the value do not reach: the engine would notice some of them.
func iterable(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	if args[0].IsList() || args[0].IsUndefined() {
		return args[0], nil
	}
	return list(args, nil)
}

func list(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	all, err := elements(args[0])
	return jinja.NewList(append([]jinja.Value(nil), all...)), err
}

// end returns the first or the last element.
func end(v jinja.Value, last bool) (jinja.Value, error) {
	all, err := elements(v)
	if err != nil || len(all) == 0 {
		return jinja.Undefined(), err
	}
	if last {
		return all[len(all)-1], nil
	}
	return all[0], nil
}

func length(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	all, err := elements(args[0])
	return jinja.NewInt(int64(len(all))), err
}

func items(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	var pairs []jinja.Value
	switch v := args[0]; {
	case v.IsUndefined():
	case v.IsDict():
		for _, k := range v.AsDict().Keys {
			pairs = append(pairs, jinja.NewList([]jinja.Value{jinja.NewString(k), v.AsDict().Data[k]}))
		}
	default:
		return v, errors.New("can only get item pairs from a mapping")
	}
	return jinja.NewList(pairs), nil
}

func joined(args []jinja.Value, kwargs map[string]jinja.Value) (jinja.Value, error) {
	all, err := elements(args[0])
	if err != nil {
		return args[0], err
	}
	sep := ""
	if len(args) > 1 {
		sep = str(args[1])
	} else if d, ok := kwargs["d"]; ok {
		sep = str(d)
	}
	words := make([]string, len(all))
	for i, v := range all {
		if attr, ok := kwargs["attribute"]; ok && v.IsDict() {
			v, _ = v.AsDict().Get(str(attr))
		}
		words[i] = str(v)
	}
	return text(strings.Join(words, sep))
}

func replace(args []jinja.Value, kwargs map[string]jinja.Value) (jinja.Value, error) {
	if len(args) < 3 {
		return jinja.Undefined(), errors.New("replace: want what and by what")
	}
	return stringMethod("replace", str(args[0]), args[1:], kwargs)
}

// scope renders the body of a call block, which has its own variables.
func scope(_ []jinja.Value, kwargs map[string]jinja.Value) (jinja.Value, error) {
	return kwargs["caller"].AsCallable().Fn(nil, nil)
}

// guard returns what macros call when they begin and when they end, for one rendering.
func guard() (enter, leave function) {
	depth := 0
	count := func(n int) function {
		return func([]jinja.Value, map[string]jinja.Value) (jinja.Value, error) {
			if depth += n; depth > maxDepth {
				return jinja.Undefined(), fmt.Errorf("macros call each other more than %d deep", maxDepth)
			}
			return text("")
		}
	}
	return count(1), count(-1)
}

// numbers is Python's range.
func numbers(args []jinja.Value, _ map[string]jinja.Value) (jinja.Value, error) {
	start, stop, step := int64(0), int64(0), int64(1)
	for _, v := range args {
		if !whole(v) {
			return v, fmt.Errorf("range of %s", typeName(v))
		}
	}
	switch len(args) {
	case 1:
		stop = integer(args[0])
	case 3:
		step = integer(args[2])
		fallthrough
	case 2:
		start, stop = integer(args[0]), integer(args[1])
	default:
		return jinja.Undefined(), errors.New("range: want one to three numbers")
	}
	var all []jinja.Value
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if all = append(all, jinja.NewInt(i)); len(all) > maxRange {
			return jinja.Undefined(), fmt.Errorf("range of more than %d numbers", maxRange)
		}
	}
	if step == 0 {
		return jinja.Undefined(), errors.New("range: a step of 0")
	}
	return jinja.NewList(all), nil
}

// generation returns scope between two marks.
func generation(begin, end string) function {
	return func(args []jinja.Value, kwargs map[string]jinja.Value) (jinja.Value, error) {
		v, err := scope(args, kwargs)
		if err != nil {
			return v, err
		}
		return text(begin + str(v) + end)
	}
}

// method calls a method that strings have.
func method(args []jinja.Value, kwargs map[string]jinja.Value) (jinja.Value, error) {
	name, object := args[0].AsString(), args[1]
	if object.IsDict() {
		if f, ok := object.AsDict().Get(name); ok && f.IsCallable() {
			return f.AsCallable().Fn(args[2:], kwargs)
		}
	}
	if !object.IsString() {
		return object, fmt.Errorf("%s has no method %s that may be called", typeName(object), name)
	}
	return stringMethod(name, object.AsString(), args[2:], kwargs)
}

func stringMethod(name, s string, args []jinja.Value, kwargs map[string]jinja.Value) (jinja.Value, error) {
	first, n := "", -1
	hasFirst := len(args) > 0 && !args[0].IsNone()
	if hasFirst {
		first = str(args[0])
	}
	switch name {
	case "strip", "lstrip", "rstrip":
		cut := isSpace
		if hasFirst {
			cut = func(r rune) bool { return strings.ContainsRune(first, r) }
		}
		if name != "rstrip" {
			s = strings.TrimLeftFunc(s, cut)
		}
		if name != "lstrip" {
			s = strings.TrimRightFunc(s, cut)
		}
		return text(s)
	case "split", "rsplit":
		if limit, ok := kwargs["maxsplit"]; ok {
			n = int(integer(limit))
		} else if len(args) > 1 {
			n = int(integer(args[1]))
		}
		return split(s, first, hasFirst, n, name == "rsplit")
	case "splitlines":
		lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(s, "\r\n", "\n"), "\n"), "\n")
		if s == "" {
			lines = nil
		}
		return stringList(lines), nil
	case "replace":
		if len(args) < 2 {
			return jinja.Undefined(), errors.New("replace: want what and by what")
		}
		if len(args) > 2 && !args[2].IsNone() {
			n = int(integer(args[2]))
		} else if c, ok := kwargs["count"]; ok {
			n = int(integer(c))
		}
		return text(strings.Replace(s, first, str(args[1]), n))
	case "title":
		return text(title(s))
	case "capitalize":
		return text(capitalize(s))
	case "isdigit":
		return jinja.NewBool(s != "" && strings.TrimFunc(s, unicode.IsDigit) == ""), nil
	case "join":
		if !hasFirst {
			return jinja.Undefined(), errors.New("join: want a list")
		}
		return joined([]jinja.Value{args[0], jinja.NewString(s)}, nil)
	}
	if !hasFirst {
		return jinja.Undefined(), fmt.Errorf("%s: an argument is missing", name)
	}
	return search(name, s, first)
}

// search answers the methods that look for a string.
func search(name, s, what string) (jinja.Value, error) {
	at, last := strings.Index(s, what), strings.LastIndex(s, what)
	runes := func(n int) int64 { return int64(len([]rune(s[:max(n, 0)]))) + int64(min(n, 0)) }
	switch name {
	case "find":
		return jinja.NewInt(runes(at)), nil
	case "rfind":
		return jinja.NewInt(runes(last)), nil
	case "removeprefix":
		return text(strings.TrimPrefix(s, what))
	case "removesuffix":
		return text(strings.TrimSuffix(s, what))
	case "partition":
		if at < 0 {
			return stringList([]string{s, "", ""}), nil
		}
		return stringList([]string{s[:at], what, s[at+len(what):]}), nil
	}
	if last < 0 { // rpartition
		return stringList([]string{"", "", s}), nil
	}
	return stringList([]string{s[:last], what, s[last+len(what):]}), nil
}

func stringList(words []string) jinja.Value {
	all := make([]jinja.Value, len(words))
	for i, w := range words {
		all[i] = jinja.NewString(w)
	}
	return jinja.NewList(all)
}

// split is Python's str.split and rsplit; most is the number of cuts, or negative.
func split(s, sep string, hasSep bool, most int, right bool) (jinja.Value, error) {
	if !hasSep {
		if most < 0 {
			return stringList(strings.FieldsFunc(s, isSpace)), nil
		}
		return jinja.Undefined(), errors.New("split by white space with a limit is not supported")
	}
	if sep == "" {
		return jinja.Undefined(), errors.New("split: empty separator")
	}
	if most < 0 {
		return stringList(strings.Split(s, sep)), nil
	}
	if !right {
		return stringList(strings.SplitN(s, sep, most+1)), nil
	}
	parts := strings.Split(s, sep)
	if n := len(parts) - most; n > 1 {
		parts = append([]string{strings.Join(parts[:n], sep)}, parts[n:]...)
	}
	return stringList(parts), nil
}

func title(s string) string {
	inside := false
	return strings.Map(func(r rune) rune {
		was := inside
		inside = unicode.IsLetter(r)
		if was {
			return unicode.ToLower(r)
		}
		return unicode.ToTitle(r)
	}, s)
}

func capitalize(s string) string {
	first := true
	return strings.Map(func(r rune) rune {
		if first {
			first = false
			return unicode.ToTitle(r)
		}
		return unicode.ToLower(r)
	}, s)
}
