#!/bin/sh
# How fast is each format of files read? The same million rows of 5 floats as Parquet, Arrow, CSV and
# NDJSON, each through a function into a group of its own: formats.sh PYTHON OUT. PYTHON has numpy
# and pyarrow; `wafer` is on the PATH or named by WAFER. Writes some 400 MB below OUT.
#
# Times are of the whole command, from its start; FORMATS names some of the formats, RUNS how often.
set -eu
cd "$(dirname "$0")/peers"
python=$1 out=$2
wafer="${WAFER:-wafer}"
formats="${FORMATS:-parquet arrow csv ndjson}"
mkdir -p "$out"
out=$(cd "$out" && pwd)
[ -e "$out/group_0.parquet" ] || "$python" data.py "$out" --labels 1000 --rows 1000000 --groups 1 --events 1000
[ -e "$out/rows.ndjson" ] || "$python" - "$out" <<'SCRIPT'
import json
import sys
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

out = sys.argv[1]
rows = pyarrow.parquet.read_table(f"{out}/group_0.parquet")
pyarrow.parquet.write_table(rows, f"{out}/rows.parquet", row_group_size=131_072)
with pa.ipc.new_file(f"{out}/rows.arrow", rows.schema) as file:
    file.write_table(rows, max_chunksize=8_192)
# Text with a zone, as a program would write it.
at = rows.column_names.index("event_timestamp")
texts = [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in rows["event_timestamp"].to_pylist()]
rows = rows.set_column(at, "event_timestamp", pa.array(texts))
pyarrow.csv.write_csv(rows, f"{out}/rows.csv")
with open(f"{out}/rows.ndjson", "w") as file:
    for batch in rows.to_batches():
        file.writelines(json.dumps(row) + "\n" for row in batch.to_pylist())
SCRIPT
"$wafer" build > /dev/null
{
    printf '[project]\nname = "formats"\n[entities.entity]\nkeys = { entity_id = "int64" }\n'
    printf '[functions.points]\ncomponent = "%s/.wafer/build/points.wasm"\n' "$PWD"
    for format in $formats; do
        printf '[sources.%s]\ntype = "files"\npath = "rows.%s"\n' "$format" "$format"
        printf '[groups.%s]\nentity = "entity"\nevent_time = "event_timestamp"\n' "$format"
        printf '[pipelines.%s]\nsource = "%s"\nfunction = "points"\ngroup = "%s"\n' "$format" "$format" "$format"
    done
} > "$out/wafer.toml"
for run in $(seq "${RUNS:-3}"); do
    export WAFER_STORE_PATH="$out/store$run"
    rm -rf "$WAFER_STORE_PATH"
    "$wafer" -C "$out" apply --no-build > /dev/null
    for format in $formats; do
        /usr/bin/time -f "$format: %e s, %U s user, %M KiB" "$wafer" -C "$out" run "$format" > /dev/null
    done
    rm -rf "$WAFER_STORE_PATH"
done
