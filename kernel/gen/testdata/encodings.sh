#!/usr/bin/env bash
# Writes the bytes in encodings.txt anew from its instructions. Needs GNU binutils 2.40 for both architectures, which Debian 12 has as
# binutils-x86-64-linux-gnu and binutils-aarch64-linux-gnu.
set -euo pipefail
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# bytes ARCHITECTURE PREFIX OPTIONS…: what the assembler makes of each instruction of an architecture, a tab, and the instruction.
bytes() {
	grep "^$1 " encodings.txt | cut -d' ' -f3- >"$tmp/text"
	"$2as" "${@:3}" -o "$tmp/o" "$tmp/text"
	"$2objdump" -d -w --no-addresses "$tmp/o" | grep -P '^\t' | cut -f2 | sed 's/ *$//' >"$tmp/bytes"
	test "$(wc -l <"$tmp/bytes")" = "$(wc -l <"$tmp/text")"
	paste -d'\t' "$tmp/bytes" "$tmp/text"
}

{
	bytes amd64 x86_64-linux-gnu- | while IFS=$'\t' read -r b t; do
		echo "amd64 ${b// /} $t"
	done
	# objdump shows arm64's words as numbers: their bytes lie the other way round.
	bytes arm64 aarch64-linux-gnu- -march=armv8.2-a+dotprod+i8mm | while IFS=$'\t' read -r b t; do
		echo "arm64 ${b:6:2}${b:4:2}${b:2:2}${b:0:2} $t"
	done
} >"$tmp/new"
mv "$tmp/new" encodings.txt
