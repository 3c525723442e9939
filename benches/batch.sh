#!/bin/sh
# How fast is a batch run, and does its memory stay flat? The flights pipeline
# over the data as it is, and over ten copies of it.
#
# usage: benches/batch.sh   (after `cargo xtask quickstart`; needs GNU time)
set -eu
cd "$(dirname "$0")/.."
wafer="$(realpath "${WAFER:-${CARGO_TARGET_DIR:-target}/release/wafer}")"
for copies in 1 10; do
    work=$(mktemp -d)
    cp functions/flights/wafer.toml "$work"
    mkdir -p "$work/.wafer" "$work/data/flights"
    cp -r functions/flights/.wafer/build "$work/.wafer/build"
    cp functions/flights/data/*.parquet functions/flights/data/*.csv "$work/data"
    for copy in $(seq "$copies"); do
        ln "$work/data/flights.parquet" "$work/data/flights/$copy.parquet"
    done
    sed -i 's|data/flights.parquet|data/flights|' "$work/wafer.toml"
    "$wafer" -C "$work" apply --no-build > /dev/null
    echo "== $copies x 336,776 flights"
    /usr/bin/time -f '%e s, %U s user, %S s system, %M KiB at most' "$wafer" -C "$work" run plane_outcome
    rm -rf "$work"
done
