#!/bin/sh
# Training sets and windows side by side with Polars and DuckDB, on the same files, with
# two threads: run.sh PYTHON OUT [RUNS]. PYTHON has numpy, pyarrow, polars and duckdb;
# `wafer` is on the PATH or named by WAFER. Writes some 3 GB below OUT.
set -eu
cd "$(dirname "$0")"
python=$1 out=$2 runs=${3:-3}
wafer="${WAFER:-wafer}"
mkdir -p "$out"
out=$(cd "$out" && pwd)
data="$out/data"
[ -e "$data/events.parquet" ] || "$python" data.py "$data" --labels 5000000 --rows 10000000 --groups 3 --events 10000000
# The first million of the labels, over the same tables.
small="$out/small"
mkdir -p "$small"
ln -sf "$data"/group_*.parquet "$small/"
"$python" - "$data/labels.parquet" "$small/labels.parquet" <<'SCRIPT'
import sys
import pyarrow.parquet as pq
pq.write_table(pq.read_table(sys.argv[1]).slice(0, 1_000_000), sys.argv[2], row_group_size=131_072)
SCRIPT
ln -sfn "$data" data
export WAFER_STORE_PATH="$out/store"
times="$out/wafer.txt"
: > "$times"
timed() {
    name=$1
    shift
    /usr/bin/time -f "$name %e s, %M KiB" -a -o "$times" "$@" > /dev/null
}
"$wafer" apply > /dev/null
for group in group_0 group_1 group_2 payments tiled; do
    timed "run $group, 10 M rows:" "$wafer" run "$group"
done
timed "materialize group_0, 10 M rows:" "$wafer" materialize group_0
timed "materialize tiled, 10 M rows:" "$wafer" materialize tiled
run=0
while [ "$run" -lt "$runs" ]; do
    run=$((run + 1))
    timed "training set, 1 M labels:" "$wafer" training-set points --labels "$small/labels.parquet" --out "$out/wafer_1m.parquet"
    timed "training set, 5 M labels:" "$wafer" training-set points --labels "$data/labels.parquet" --out "$out/wafer_5m.parquet"
    timed "windows, 10 M events:" "$wafer" training-set windows --labels "$data/events.parquet" --out "$out/wafer_windows.parquet"
done
"$python" joins.py bench "$small" "$out/peers_1m" --runs "$runs"
"$python" joins.py bench "$data" "$out/peers_5m" --runs "$runs"
"$python" windows.py bench "$data" "$out/peers_windows" --runs "$runs"
# The same values, or the comparison means nothing.
"$python" joins.py checksum "$out/wafer_5m.parquet" --prefix group_ | tail -1
"$python" joins.py checksum "$out/peers_5m/joins_polars.parquet" --prefix group_ | tail -1
"$python" windows.py checksum "$out/wafer_windows.parquet" --prefix w_count_ w_amount_sum_ w_amount_mean_ | tail -1
"$python" windows.py checksum "$out/peers_windows/windows_polars.parquet" --prefix count_ sum_ mean_ | tail -1
cat "$times"
