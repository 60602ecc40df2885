#!/usr/bin/env bash
# Installs the peer of krait bench --compare llama.cpp: a package with llama.cpp built for this machine. Argument: a directory for a
# virtual environment of its own (default: ./peer); then: krait bench --shape smol135m --type q8 --compare llama.cpp --python DIR/bin/python
set -euo pipefail
dir=${1:-peer}
python3 -m venv "$dir"
"$dir/bin/pip" install --quiet xllamacpp==2026.10.11549
"$dir/bin/python" -c 'import xllamacpp; print("xllamacpp", xllamacpp.__version__)'
