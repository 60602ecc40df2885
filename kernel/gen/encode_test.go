package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// rawSamples are instructions that Go's assembler lacks, with every bit of every field: architecture, bytes as they lie in memory, and text in the GNU
// assembler's syntax.
func rawSamples() []string {
	var samples []string
	for op, e := range neon {
		for _, args := range fieldSamples(len(e.fields), strings.IndexByte(e.fields, 'i')) {
			word, text := encode(op, args...)
			samples = append(samples, fmt.Sprintf("arm64 %x %s", binary.LittleEndian.AppendUint32(nil, word), text))
		}
	}
	for _, write := range []func(g *gen, src2, src1, dst int){(*gen).dotBF16, (*gen).roundBF16} {
		for _, r := range fieldSamples(3, -1) {
			g := newGen()
			write(g, r[0], r[1], r[2])
			bytes, text := rawLine(g.asm.String())
			samples = append(samples, "amd64 "+bytes+" "+text)
		}
	}
	tiles := func(write func(g *gen)) {
		g := newGen()
		write(g)
		for line := range strings.Lines(g.asm.String()) {
			if bytes, text := rawLine(line); bytes != "" {
				samples = append(samples, "amd64 "+bytes+" "+text)
			}
		}
	}
	for _, tile := range []int{0, 1, 2, 4, 7} {
		tiles(func(g *gen) { g.tileZero(tile) })
		for r := range regNames {
			for _, at := range [][2]int{{r, regSI}, {regAX, r}} {
				tiles(func(g *gen) { g.tileLoad(tile, at[0], at[1], tile&4<<4); g.tileStore(tile, at[0], at[1], 64-tile&4<<4) })
			}
		}
	}
	for _, r := range [][3]int{{0, 1, 2}, {1, 2, 4}, {2, 4, 0}, {4, 0, 1}, {7, 3, 5}, {3, 5, 7}, {5, 7, 3}} { // they have to be distinct
		tiles(func(g *gen) { g.tileDot(r[0], r[1], r[2]) })
	}
	tiles(func(g *gen) { g.tileConfigure(); g.tileRelease() })
	sort.Strings(samples)
	return slices.Compact(samples)
}

// fieldSamples returns operands of n fields: all zero, all ones, and each bit of each field alone. The field small has two bits, others five.
func fieldSamples(n, small int) [][]int {
	samples := [][]int{make([]int, n), make([]int, n)}
	for f := range n {
		bits := 5
		if f == small {
			bits = 2
		}
		samples[1][f] = 1<<bits - 1
		for b := range bits {
			one := make([]int, n)
			one[f] = 1 << b
			samples = append(samples, one)
		}
	}
	return samples
}

var (
	rawData     = regexp.MustCompile(`\b(LONG|WORD|BYTE) \$0x([0-9a-f]+)`)
	rawRegister = regexp.MustCompile(`\b([zt])(\d+)\b`)
	rawMemory   = regexp.MustCompile(`\((\w+)\)(?:\((\w+)\*1\))?`)
)

// rawLine returns the bytes of a line of amd64's raw data and the text of its comment in the GNU assembler's syntax.
func rawLine(line string) (bytes, text string) {
	code, comment, _ := strings.Cut(line, "//")
	for _, m := range rawData.FindAllStringSubmatch(code, -1) {
		v, err := strconv.ParseUint(m[2], 16, 32)
		if err != nil {
			panic(err)
		}
		size := map[string]int{"LONG": 4, "WORD": 2, "BYTE": 1}[m[1]]
		bytes += hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, v)[:size])
	}
	text = strings.ToLower(strings.TrimSpace(comment))
	text = rawRegister.ReplaceAllString(text, "%${1}mm$2")
	general := func(name string) string {
		if name[0] == 'r' {
			return "%" + name
		}
		return "%r" + name
	}
	text = rawMemory.ReplaceAllStringFunc(text, func(at string) string {
		m := rawMemory.FindStringSubmatch(at)
		if m[2] == "" {
			return "(" + general(m[1]) + ")"
		}
		return "(" + general(m[1]) + "," + general(m[2]) + ",1)"
	})
	return bytes, text
}

// TestEncodings compares the generator's bytes with those of an assembler, which testdata/encodings.sh writes. A new instruction is added
// to that file with any bytes before the script is run: the message has the lines.
func TestEncodings(t *testing.T) {
	golden, err := os.ReadFile("testdata/encodings.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(golden)) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 3)
		want[fields[0]+" "+fields[2]] = fields[1]
	}
	samples := rawSamples()
	if len(samples) < 400 || len(want) < len(samples) {
		t.Errorf("%d samples, %d lines in testdata/encodings.txt", len(samples), len(want))
	}
	wrong := ""
	for _, s := range samples {
		fields := strings.SplitN(s, " ", 3)
		if want[fields[0]+" "+fields[2]] != fields[1] {
			wrong += s + "\n"
		}
	}
	if wrong != "" {
		t.Errorf("not in testdata/encodings.txt:\n%s", wrong)
	}
}

// TestRawDataIsDecoded: every line of raw data in the generated files says which instruction it is, and an instruction has one form.
func TestRawDataIsDecoded(t *testing.T) {
	known := map[string]bool{"vdpbf16ps": true, "vcvtne2ps2bf16": true, "tileloadd": true, "tilestored": true, "tilezero": true, "tdpbf16ps": true,
		"ldtilecfg": true, "tilerelease": true}
	for op := range neon {
		name, _, _ := strings.Cut(op, " ")
		known[name] = true
	}
	for name, text := range generate() {
		lines := 0
		for line := range strings.Lines(text) {
			if !strings.HasSuffix(name, ".s") || !regexp.MustCompile(`\b(LONG|WORD|BYTE|QUAD) \$`).MatchString(line) {
				continue
			}
			lines++
			_, comment, _ := strings.Cut(line, "// ")
			op, operands, _ := strings.Cut(strings.TrimSpace(comment), " ")
			if !known[strings.ToLower(op)] || operands == "" && op != "TILERELEASE" {
				t.Fatalf("%s: raw data without its instruction: %s", name, line)
			}
		}
		if strings.HasSuffix(name, ".s") && lines == 0 {
			t.Errorf("%s has no raw data", name)
		}
	}
}
