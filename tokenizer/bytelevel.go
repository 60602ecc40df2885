package tokenizer

// byteRunes is GPT-2's alphabet: the rune that spells each byte, printable and never white space.
// runeBytes is its inverse.
var byteRunes, runeBytes = func() (runes [256]rune, bytes map[rune]byte) {
	bytes = make(map[rune]byte, 256)
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if !(b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae) {
			r = next
			next++
		}
		runes[b], bytes[r] = r, byte(b)
	}
	return runes, bytes
}()

// spellBytes writes every byte of s as its rune.
func spellBytes(_ *encoder, s string, edit func(i, j int, with string)) {
	for i := range len(s) {
		if r := byteRunes[s[i]]; r != rune(s[i]) || r >= 0x80 {
			edit(i, i+1, string(r))
		}
	}
}

// readBytes is the inverse for one token; a token with a rune outside the alphabet stands for itself.
func readBytes(dst []byte, token string) []byte {
	start := len(dst)
	for _, r := range token {
		b, ok := runeBytes[r]
		if !ok {
			return append(dst[:start], token...)
		}
		dst = append(dst, b)
	}
	return dst
}
