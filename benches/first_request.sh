#!/bin/sh
# What does the first request of an endpoint with a model of 50 MB cost? Over HTTP, against a
# server that has just started: as soon as it listens, then once more, and once a second later.
# Ten servers; medians and spread. What is made for it is in a copy of the flights project's store.
# (What it would be without the snapshot is measured by `cold_start.rs`.)
#
# usage: benches/first_request.sh   (after the commands of docs/models.md up to `wafer train`)
set -eu
cd "$(dirname "$0")/.."
wafer="${WAFER:-${CARGO_TARGET_DIR:-target}/release/wafer}"
work=$(mktemp -d)
server=
stop() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2> /dev/null || true
    server=
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cp -r functions/flights/.wafer "$work/store"
export WAFER_STORE_PATH="$work/store"
flights() { "$wafer" -C functions/flights "$@"; }

# Trees of 256 leaves over features of the view, as LightGBM writes them.
awk -v bytes=50000000 'BEGIN {
    srand(2013); splits = 255;
    printf "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=3\n";
    printf "objective=binary sigmoid:1\nfeature_names=distance_km local_hour scheduled_speed_kmh route_arr_delay_minutes_mean_30d\n";
    printf "feature_infos=[0:1] [0:1] [0:1] [0:1]\n\n";
    for (n = 0; n < splits; n++) {
        feature = feature (n ? " " : "") n % 4; decision = decision (n ? " " : "") 2;
        l = 2 * n + 1; r = 2 * n + 2;
        left = left (n ? " " : "") (l < splits ? l : -(l - splits) - 1);
        right = right (n ? " " : "") (r < splits ? r : -(r - splits) - 1);
    }
    for (tree = 0; written < bytes; tree++) {
        threshold = ""; leaf = "";
        for (n = 0; n < splits; n++) threshold = threshold (n ? " " : "") rand() * 1000;
        for (n = 0; n <= splits; n++) leaf = leaf (n ? " " : "") sprintf("%.16f", rand() - 0.5);
        text = "Tree=" tree "\nnum_leaves=" splits + 1 "\nnum_cat=0\nsplit_feature=" feature "\nthreshold=" threshold \
            "\ndecision_type=" decision "\nleft_child=" left "\nright_child=" right "\nleaf_value=" leaf "\nis_linear=0\nshrinkage=1\n\n\n";
        print text; written += length(text) + 1;
    }
    print "end of trees"
}' > "$work/large.txt"
flights models push late_arrival --artifact "$work/large.txt" > /dev/null
flights release create large --model late_arrival > /dev/null
flights endpoints set large large --log 0 > /dev/null
cat > "$work/request.json" <<'JSON'
{"inputs": [
  {"name": "tailnum", "datatype": "BYTES", "shape": [1], "data": ["N14228"]},
  {"name": "carrier", "datatype": "BYTES", "shape": [1], "data": ["UA"]},
  {"name": "origin", "datatype": "BYTES", "shape": [1], "data": ["JFK"]},
  {"name": "dest", "datatype": "BYTES", "shape": [1], "data": ["IAH"]},
  {"name": "scheduled_departure", "datatype": "BYTES", "shape": [1], "data": ["2013-12-31T13:00:00Z"]},
  {"name": "scheduled_arrival", "datatype": "BYTES", "shape": [1], "data": ["2013-12-31T18:30:00Z"]}]}
JSON
ask() {
    curl -sf -o "$work/answer" -w '%{time_total}\n' -H 'Content-Type: application/json' \
        --data-binary @"$work/request.json" "$url/v2/models/large/infer" >> "$work/$1"
}
for round in 1 2 3 4 5 6 7 8 9 10; do
    "$wafer" -C functions/flights serve --listen 127.0.0.1:0 --clock 2013-12-31T12:00:00Z,0 2> "$work/log" &
    server=$!
    url=
    while [ -z "$url" ]; do
        kill -0 "$server" || { cat "$work/log"; exit 1; }
        url=$(sed -n 's/^serving .* on //p' "$work/log")
    done
    ask first
    ask second
    sleep 1
    ask later
    grep -q '"outputs"' "$work/answer" || { cat "$work/answer"; exit 1; }
    stop
done
echo "model of $(wc -c < "$work/large.txt") bytes"
for which in first second later; do
    sort -n "$work/$which" | awk -v which="$which" '{ t[NR] = $1 * 1000 }
        END { printf "%s request: %.2f ms (%.2f to %.2f), median of %d servers\n", which, (t[int((NR + 1) / 2)] + t[int(NR / 2) + 1]) / 2, t[1], t[NR], NR }'
done
