#!/bin/sh
# Builds the component in a folder: `build.sh FOLDER [--update]`. Needs Python 3.11 on Linux x86-64,
# and cargo. With `--update`, what changed sources make is written to where it is committed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
mkdir -p "$folder"
python3 -m pip download --quiet --no-deps --require-hashes --only-binary :all: \
    --requirement "$here/requirements.txt" --dest "$folder/wheels"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-index --no-deps --require-hashes \
    --find-links "$folder/wheels" --requirement "$here/requirements.txt"
# The sources of QuickJS are in a crate, of which nothing else is used.
cargo vendor --quiet --locked --manifest-path "$here/sources/Cargo.toml" "$folder/vendor" > /dev/null
"$folder/venv/bin/python" "$here/build.py" "$@"
