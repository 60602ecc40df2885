package main

import (
	"fmt"
	"strings"
)

// encoding is an arm64 instruction that Go's assembler lacks: its word with all fields zero, its text in the GNU assembler's syntax, and
// the fields in the text's order: d, n and m are registers at bits 0, 5 and 16, i is an element of 32 bits, whose index is at bits 11
// (high) and 21 (low).
type encoding struct {
	word   uint32
	fields string
	text   string
}

const (
	three4S = "v%d.4s, v%d.4s, v%d.4s"
	two4S   = "v%d.4s, v%d.4s"
)

// neon lists the encodings (Arm Architecture Reference Manual, C7.2). A test compares them with an assembler's.
var neon = map[string]encoding{
	"fadd":   {0x4e20d400, "dnm", three4S},
	"fsub":   {0x4ea0d400, "dnm", three4S},
	"fmul":   {0x6e20dc00, "dnm", three4S},
	"fdiv":   {0x6e20fc00, "dnm", three4S},
	"fmax":   {0x4e20f400, "dnm", three4S},
	"fmin":   {0x4ea0f400, "dnm", three4S},
	"fmaxnm": {0x4e20c400, "dnm", three4S},
	"faddp":  {0x6e20d400, "dnm", three4S},
	"smax":   {0x4ea06400, "dnm", three4S},
	"fcvtns": {0x4e21a800, "dn", two4S},
	"frintn": {0x4e218800, "dn", two4S},
	"fsqrt":  {0x6ea1f800, "dn", two4S},
	"scvtf":  {0x4e21d800, "dn", two4S},
	"fabs":   {0x4ea0f800, "dn", two4S},
	// All ones in the lanes that are negative as integers, that is, whose sign is set.
	"cmlt": {0x4ea0a800, "dn", "v%d.4s, v%d.4s, #0"},
	// Without NaN, the largest lane in lane 0.
	"fmaxnmv": {0x6e30c800, "dn", "s%d, v%d.4s"},
	"smaxv":   {0x4eb0a800, "dn", "s%d, v%d.4s"},
	"fmla":    {0x4f801000, "dnmi", "v%d.4s, v%d.4s, v%d.s[%d]"},
	// The other form of a name: the word after it is not part of the instruction.
	"fmul element": {0x4f809000, "dnmi", "v%d.4s, v%d.4s, v%d.s[%d]"},
	"fcmeq":        {0x4e20e400, "dnm", three4S},
	"addv":         {0x4eb1b800, "dn", "s%d, v%d.4s"},
	"fcvtl":        {0x0e217800, "dn", "v%d.4s, v%d.4h"},
	"fcvtl2":       {0x4e217800, "dn", "v%d.4s, v%d.8h"},
	"fcvtn":        {0x0e216800, "dn", "v%d.4h, v%d.4s"},
	"fcvtn2":       {0x4e216800, "dn", "v%d.8h, v%d.4s"},
	"sdot":         {0x4f80e000, "dnmi", "v%d.4s, v%d.16b, v%d.4b[%d]"},
	"usdot":        {0x4f80f000, "dnmi", "v%d.4s, v%d.16b, v%d.4b[%d]"},
	"smull":        {0x0e20c000, "dnm", "v%d.8h, v%d.8b, v%d.8b"},
	"smull2":       {0x4e20c000, "dnm", "v%d.8h, v%d.16b, v%d.16b"},
	"smlal":        {0x0e208000, "dnm", "v%d.8h, v%d.8b, v%d.8b"},
	"smlal2":       {0x4e208000, "dnm", "v%d.8h, v%d.16b, v%d.16b"},
	"sxtl b":       {0x0f08a400, "dn", "v%d.8h, v%d.8b"},
	"sxtl2 b":      {0x4f08a400, "dn", "v%d.8h, v%d.16b"},
	"sxtl h":       {0x0f10a400, "dn", "v%d.4s, v%d.4h"},
	"sxtl2 h":      {0x4f10a400, "dn", "v%d.4s, v%d.8h"},
	"sadalp":       {0x4e606800, "dn", "v%d.4s, v%d.8h"},
}

// encode returns the word of an instruction and its text.
func encode(op string, args ...int) (uint32, string) {
	e, ok := neon[op]
	if !ok || len(args) != len(e.fields) {
		panic(fmt.Sprintf("arm64: no instruction %s with %d operands", op, len(args)))
	}
	word, list := e.word, []any(nil)
	for i, x := range args {
		limit := 32
		switch e.fields[i] {
		case 'd':
			word |= uint32(x)
		case 'n':
			word |= uint32(x) << 5
		case 'm':
			word |= uint32(x) << 16
		case 'i':
			limit = 4
			word |= uint32(x&1)<<21 | uint32(x>>1)<<11
		}
		if x < 0 || x >= limit {
			panic(fmt.Sprintf("arm64: %s: operand %d is %d", op, i, x))
		}
		list = append(list, x)
	}
	name, _, _ := strings.Cut(op, " ")
	return word, name + " " + fmt.Sprintf(e.text, list...)
}

// w writes an instruction that Go's assembler lacks.
func (g *gen) w(op string, args ...int) {
	word, text := encode(op, args...)
	g.f("WORD $0x%08x // %s", word, text)
}
