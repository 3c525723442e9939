#!/bin/sh
# Builds the component in a folder: `build.sh FOLDER [--update]`. Needs Python 3.11 on Linux x86-64,
# and cargo. With `--update`, what changed sources make is written to where it is committed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
mkdir -p "$folder"
export WHEELS="$folder/wheels"
python3 -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
    --requirement "$here/requirements.txt" --dest "$WHEELS"
python3 -m venv "$folder/venv"
# The program of componentize-py and the data of time zones are taken apart, and not installed.
grep -v -e '^componentize-py' -e '^tzdata' "$here/requirements.txt" > "$folder/tools.txt"
"$folder/venv/bin/pip" install --quiet --no-index --no-deps --require-hashes \
    --find-links "$WHEELS" --requirement "$folder/tools.txt"
"$folder/venv/bin/python" "$here/build.py" "$@"
