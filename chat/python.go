package chat

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ardanlabs/jinja"
)

// strftime formats a time by Python's directives, in the C locale; unknown ones stay.
func strftime(now time.Time, format string) string {
	layouts := map[byte]string{
		'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'B': "January", 'b': "Jan", 'h': "Jan", 'A': "Monday", 'a': "Mon",
		'p': "PM", 'I': "03", 'Z': "MST", 'z': "-0700", 'y': "06", 'j': "002", 'e': "_2", 'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04",
		'D': "01/02/06", 'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'X': "15:04:05",
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		short := format[i] == '-' && i+1 < len(format)
		if short {
			i++
		}
		layout, ok := layouts[format[i]]
		switch {
		case format[i] == '%':
			b.WriteByte('%')
		case !ok:
			b.WriteString("%" + format[i:i+1])
		case short:
			s := now.Format(layout)
			b.WriteString(strings.TrimLeft(s[:len(s)-1], "0") + s[len(s)-1:])
		default:
			b.WriteString(now.Format(layout))
		}
	}
	return b.String()
}

// str returns what Python's str does.
func str(v jinja.Value) string {
	switch {
	case v.IsString():
		return v.AsString()
	case v.IsUndefined():
		return ""
	}
	return repr(v)
}

// repr returns what Python's repr does.
func repr(v jinja.Value) string {
	switch {
	case v.IsUndefined():
		return "Undefined"
	case v.IsNone():
		return "None"
	case v.IsBool() && v.AsBool():
		return "True"
	case v.IsBool():
		return "False"
	case v.IsInt():
		return strconv.FormatInt(v.AsInt(), 10)
	case v.IsFloat():
		return floatRepr(v.AsFloat())
	case v.IsString():
		return stringRepr(v.AsString())
	case v.IsList():
		words := make([]string, v.AsList().Len())
		for i, item := range v.AsList().Items {
			words[i] = repr(item)
		}
		return "[" + strings.Join(words, ", ") + "]"
	case v.IsDict():
		var words []string
		for _, k := range v.AsDict().Keys {
			words = append(words, stringRepr(k)+": "+repr(v.AsDict().Data[k]))
		}
		return "{" + strings.Join(words, ", ") + "}"
	}
	return v.String()
}

func stringRepr(s string) string {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, "\"") {
		q = '"'
	}
	b := []byte{q}
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < ' ' || r == 0x7f || r > 0x7f && r < 0x100 && !unicode.IsPrint(r):
			b = fmt.Appendf(b, `\x%02x`, r)
		case !unicode.IsPrint(r) && r < 0x10000:
			b = fmt.Appendf(b, `\u%04x`, r)
		case !unicode.IsPrint(r):
			b = fmt.Appendf(b, `\U%08x`, r)
		default:
			b = append(b, string(r)...)
		}
	}
	return string(append(b, q))
}

// floatRepr writes the shortest form that reads back as f, as Python and its JSON do.
func floatRepr(f float64) string {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	_, exponent, ok := strings.Cut(s, "e")
	if n, _ := strconv.Atoi(exponent); ok && n >= 0 && n < 16 {
		s = strconv.FormatFloat(f, 'f', -1, 64)
		ok = false
	}
	switch {
	case s == "+Inf":
		return "inf"
	case s == "-Inf":
		return "-inf"
	case s == "NaN":
		return "nan"
	case !ok && !strings.Contains(s, "."):
		s += ".0"
	}
	return s
}
