#!/usr/bin/env bash
# Ablations of the method on the model inside the program, at equal tokens: makes every row of scripts/ablations/rows.yaml once for each seed and
# prints the table with mean and spread. What is made already is kept, so that it goes on where it was stopped. One seed takes about 14 minutes of
# one core of Zen 3 kind.
#
#   scripts/ablations.sh DIR STORIES [SEED…]
#
# DIR is the directory to work in; STORIES a text of TinyStories with <|endoftext|> between the stories, such as TinyStoriesV2-GPT4-valid.txt, of which
# the first 9,500 lines are the data set that the pseudo-labels are compared with and the last 450 choose layers. Without seeds it takes 1 2 3.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
stories=$(realpath "$2")
mkdir -p "$1"
cd "$1"
shift 2
seeds=("$@")
[ $# -gt 0 ] || seeds=(1 2 3)

lines=$(wc -l < "$stories")
[ "$lines" -ge 10000 ] || { echo "$stories has $lines lines: want at least 10000, so that the parts do not overlap" >&2; exit 1; }
if [ ! -x krait ]; then # the same program to the end, whatever happens to the sources
  (cd "$root" && CGO_ENABLED=0 go build -o "$OLDPWD/krait" ./cmd/krait)
  git -C "$root" rev-parse HEAD > commit || true
fi
cp "$root/recipe/stories260k/heldout.txt" heldout.txt
head -n 9500 "$stories" > stories.txt
tail -n 450 "$stories" | sed '1,/^<|endoftext|>/d' | grep -v '^<|endoftext|>' > select.txt

./krait recipe run "$root/scripts/ablations/texts.yaml" >&2
runs=()
for seed in "${seeds[@]}"; do
  ./krait recipe run "$root/scripts/ablations/rows.yaml" "seed=$seed" "out=seed-$seed" name=ablations >&2
  runs+=("seed-$seed")
done
(cd "$root" && go build -o "$OLDPWD/table" ./scripts/ablations)
./table "${runs[@]}"
