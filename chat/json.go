package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ardanlabs/jinja"
)

// decodeValue reads one JSON value; mappings keep their order.
func decodeValue(data []byte) (jinja.Value, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := readValue(d)
	if err != nil {
		return v, err
	}
	if d.More() {
		return v, errors.New("more than one JSON value")
	}
	return v, nil
}

func readValue(d *json.Decoder) (jinja.Value, error) {
	t, err := d.Token()
	if err != nil {
		return jinja.Undefined(), err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return jinja.FromGoValue(t), nil
	}
	if delim == '[' {
		var all []jinja.Value
		for d.More() {
			v, err := readValue(d)
			if err != nil {
				return v, err
			}
			all = append(all, v)
		}
		_, err = d.Token()
		return jinja.NewList(all), err
	}
	dict := jinja.NewDict()
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return dict, err
		}
		v, err := readValue(d)
		if err != nil {
			return v, err
		}
		dict.AsDict().Set(key.(string), v)
	}
	_, err = d.Token()
	return dict, err
}

// goValue turns what callers pass as variables into a value. Raw JSON keeps the order of its mappings; Go maps are sorted.
func goValue(v any) (jinja.Value, error) {
	switch x := v.(type) {
	case json.RawMessage:
		return decodeValue(x)
	case jinja.Value:
		return x, nil
	case nil, bool, int, int64, float64, string, json.Number:
		return jinja.FromGoValue(v), nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return jinja.Undefined(), err
	}
	return decodeValue(data)
}

// toJSON is the tojson filter as Transformers defines it: not ASCII alone, no escapes for HTML, mappings in their order.
func toJSON(args []jinja.Value, kwargs map[string]jinja.Value) (jinja.Value, error) {
	e := jsonEncoder{item: ", ", key: ": "}
	option := func(i int, name string) (jinja.Value, bool) {
		if len(args) > i {
			return args[i], !args[i].IsNone()
		}
		v, ok := kwargs[name]
		return v, ok && !v.IsNone()
	}
	if v, ok := option(1, "ensure_ascii"); ok {
		e.ascii = v.IsTruthy()
	}
	if v, ok := option(2, "indent"); ok {
		e.item = ","
		e.newline = "\n"
		if e.indent = str(v); !v.IsString() {
			e.indent = strings.Repeat(" ", int(max(integer(v), 0)))
		}
	}
	if v, ok := option(3, "separators"); ok {
		if !v.IsList() || v.AsList().Len() != 2 {
			return v, errors.New("tojson: separators: want two strings")
		}
		e.item, e.key = str(v.AsList().Get(0)), str(v.AsList().Get(1))
	}
	if v, ok := option(4, "sort_keys"); ok {
		e.sorted = v.IsTruthy()
	}
	if err := e.value(args[0], e.newline); err != nil {
		return args[0], fmt.Errorf("tojson: %w", err)
	}
	return text(e.out.String())
}

// jsonEncoder writes as Python's json.dumps.
type jsonEncoder struct {
	out                        strings.Builder
	item, key, indent, newline string
	ascii, sorted              bool
}

// value writes v; line is a newline with the indentation of what surrounds it, or empty.
func (e *jsonEncoder) value(v jinja.Value, line string) error {
	inner := line
	if line != "" {
		inner += e.indent
	}
	switch {
	case v.IsUndefined():
		return errors.New("the value is undefined")
	case v.IsCallable():
		return errors.New("a function has no JSON form")
	case v.IsNone():
		e.out.WriteString("null")
	case v.IsBool():
		fmt.Fprint(&e.out, v.AsBool())
	case v.IsFloat():
		e.out.WriteString(strings.NewReplacer("inf", "Infinity", "nan", "NaN").Replace(floatRepr(v.AsFloat())))
	case v.IsString():
		e.string(v.AsString())
	case v.IsList():
		if v.AsList().Len() == 0 {
			e.out.WriteString("[]")
			return nil
		}
		for i, x := range v.AsList().Items {
			e.separate(i, "[", inner)
			if err := e.value(x, inner); err != nil {
				return err
			}
		}
		e.out.WriteString(line + "]")
	case v.IsDict():
		return e.dict(v.AsDict(), line, inner)
	default:
		e.out.WriteString(repr(v))
	}
	return nil
}

func (e *jsonEncoder) separate(i int, open, inner string) {
	if i > 0 {
		open = e.item
	}
	e.out.WriteString(open + inner)
}

func (e *jsonEncoder) dict(d *jinja.Dict, line, inner string) error {
	keys := d.OrderedKeys()
	if len(keys) == 0 {
		e.out.WriteString("{}")
		return nil
	}
	if e.sorted {
		slices.Sort(keys)
	}
	for i, k := range keys {
		e.separate(i, "{", inner)
		e.string(k)
		e.out.WriteString(e.key)
		if err := e.value(d.Data[k], inner); err != nil {
			return err
		}
	}
	e.out.WriteString(line + "}")
	return nil
}

func (e *jsonEncoder) string(s string) {
	e.out.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			e.out.WriteString("\\" + string(r))
		case r == '\n':
			e.out.WriteString(`\n`)
		case r == '\r':
			e.out.WriteString(`\r`)
		case r == '\t':
			e.out.WriteString(`\t`)
		case r == '\b':
			e.out.WriteString(`\b`)
		case r == '\f':
			e.out.WriteString(`\f`)
		case r < ' ' || r > '~' && e.ascii && r < 0x10000:
			fmt.Fprintf(&e.out, `\u%04x`, r)
		case r > '~' && e.ascii:
			r -= 0x10000
			fmt.Fprintf(&e.out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			e.out.WriteRune(r)
		}
	}
	e.out.WriteByte('"')
}
