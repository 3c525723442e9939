#!/bin/sh
# What ten times the rows cost: growth.sh PYTHON OUT. Training sets and windows over a
# tenth of the data of `peers/run.sh`, to be compared with its numbers. PYTHON has numpy
# and pyarrow; `wafer` is on the PATH or named by WAFER. Writes some 300 MB below OUT.
set -eu
cd "$(dirname "$0")/peers"
python=$1 out=$2
wafer="${WAFER:-wafer}"
mkdir -p "$out"
out=$(cd "$out" && pwd)
data="$out/tenth"
[ -e "$data/events.parquet" ] || "$python" data.py "$data" --labels 500000 --rows 1000000 --groups 3 --events 1000000
ln -sfn "$data" data
export WAFER_STORE_PATH="$out/tenth_store"
timed() {
    name=$1
    shift
    /usr/bin/time -f "$name %e s, %M KiB" "$@" > /dev/null
}
"$wafer" apply > /dev/null
for group in group_0 group_1 group_2 payments; do
    timed "run $group, 1 M rows:" "$wafer" run "$group"
done
for _ in 1 2 3; do
    timed "training set, 500,000 labels:" "$wafer" training-set points --labels "$data/labels.parquet" --out "$out/tenth.parquet"
    timed "windows, 1 M events:" "$wafer" training-set windows --labels "$data/events.parquet" --out "$out/tenth.parquet"
done
