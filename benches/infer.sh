#!/bin/sh
# How fast are predictions? The flights project's endpoint over the Open Inference Protocol:
# features (8 lookups, 4 of them of three windows), the on-demand function and 100 trees, 1 and
# 100 rows a request; with nothing, a tenth and everything logged; beside MLServer with the same
# model file, which is given the features ready-made. Loaded by wrk (Debian package wrk). What is
# made for it is in a copy of the project's store.
#
# usage: benches/infer.sh   (after the commands of docs/models.md up to `wafer train`; MLSERVER names the
#        program, `pip install mlserver mlserver-lightgbm 'uvloop<0.22'`; without it Wafer is
#        measured alone)
set -eu
cd "$(dirname "$0")/.."
wafer="${WAFER:-${CARGO_TARGET_DIR:-target}/release/wafer}"
seconds="${SECONDS_EACH:-10}"
work=$(mktemp -d)
server= peer=
stop() {
    for process in $server $peer; do
        kill "$process" 2> /dev/null || true
        wait "$process" 2> /dev/null || true
    done
    server= peer=
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
flights() { "$wafer" -C functions/flights "$@"; }
cp -r functions/flights/.wafer "$work/store"
export WAFER_STORE_PATH="$work/store"

# A model of 100 trees, released for the bench.
flights train late_arrival --set trees=100 --set early_stopping=0 --doc "100 trees, for the bench" > "$work/trained"
flights release create --model late_arrival --output json > "$work/release.json"
release=$(sed -n 's/^  "name": *"\(.*\)",*$/\1/p' "$work/release.json")
version=$(sed -n 's/^  "version": *\([0-9]*\).*/\1/p' "$work/release.json")
flights models get "late_arrival@$version" --out "$work/model.txt" > /dev/null

body() {
    awk -v rows="$1" -v first="$2" 'BEGIN {
        split("N14228 N24211 N619AA N804JB N668DN N39463 N516JB N829AS N593JB N3ALAA", tail, " ");
        split("UA UA AA B6 DL UA B6 EV B6 AA", carrier, " ");
        split("IAH LAX MIA ORD ATL BOS SFO FLL MCO DEN", dest, " ");
        split("JFK LGA EWR", origin, " ");
        for (i = 0; i < rows; i++) {
            c = i ? "," : "";
            plane = (i + first - 1) % 10 + 1;
            t = t c "\"" tail[plane] "\""; a = a c "\"" carrier[plane] "\"";
            o = o c "\"" origin[i % 3 + 1] "\""; d = d c "\"" dest[(i + int(i / 10)) % 10 + 1] "\"";
            s = s c "\"2013-12-31T13:00:00Z\""; e = e c "\"2013-12-31T18:30:00Z\"";
        }
        f = "{\"name\":\"%s\",\"datatype\":\"BYTES\",\"shape\":[%d],\"data\":[%s]}";
        printf "{\"inputs\":[" f "," f "," f "," f "," f "," f "]}", "tailnum", rows, t, "carrier", rows, a,
            "origin", rows, o, "dest", rows, d, "scheduled_departure", rows, s, "scheduled_arrival", rows, e;
    }'
}
load() { # name url rows-file connections: each line of the file is a request, taken in turn
    cat > "$work/wrk.lua" <<LUA
local bodies, turn = {}, 0
for line in io.lines("$3") do bodies[#bodies + 1] = line end
local headers = { ["Content-Type"] = "application/json" }
function request()
    turn = turn % #bodies + 1
    return wrk.format("POST", nil, headers, bodies[turn])
end
LUA
    # One request is looked at before thousands are not.
    head -n 1 "$3" | curl -sf -H 'Content-Type: application/json' --data-binary @- "$2" > "$work/answer"
    grep -q '"outputs"' "$work/answer" || { cat "$work/answer"; exit 1; }
    wrk -t1 -c"$4" -d2s -s "$work/wrk.lua" "$2" > /dev/null
    before=$(ticks)
    wrk -t1 -c"$4" -d"${seconds}s" --latency -s "$work/wrk.lua" "$2" > "$work/wrk.out"
    if grep -E 'Non-2xx|Socket errors' "$work/wrk.out"; then exit 1; fi
    awk -v name="$1, $4 connections" -v ticks=$(($(ticks) - before)) -v each="$(getconf CLK_TCK)" '
        $1 == "50%" { p50 = $2 } $1 == "99%" { p99 = $2 } $1 == "Requests/sec:" { rate = $2 } / requests in / { count = $1 }
        END { printf "%s: %s requests/s, p50 %s, p99 %s, %.2f ms of a processor each\n", name, rate, p50, p99, ticks / each * 1000 / count }' "$work/wrk.out"
}
# Processor time of what is measured, with the processes that it started.
ticks() {
    all="$server $peer"
    for parent in $server $peer; do all="$all $(pgrep -P "$parent" || true)"; done
    for process in $all; do cat "/proc/$process/stat"; done | awk '{ sum += $14 + $15 } END { print sum }'
}
# Requests of ten planes, so that of some a tenth is logged.
for plane in 1 2 3 4 5 6 7 8 9 10; do
    body 1 "$plane"; echo
done > "$work/1.json"
body 100 1 > "$work/100.json"
for log in 0 10 100; do
    flights endpoints set "logged_$log" "$release" --log "$log" > /dev/null
done
"$wafer" -C functions/flights serve --listen 127.0.0.1:0 --clock 2013-12-31T12:00:00Z,0 2> "$work/log" &
server=$!
url=
while [ -z "$url" ]; do
    sleep 0.1
    kill -0 "$server" || { cat "$work/log"; exit 1; }
    url=$(sed -n 's/^serving .* on //p' "$work/log")
done
for rows in 1 100; do
    for connections in 1 8; do
        load "wafer, $rows rows" "$url/v2/models/logged_0/infer" "$work/$rows.json" "$connections"
    done
done
# What logging adds: in turn, since processors are not equally fast all the time.
for connections in 1 8; do
    for round in 1 2 3 4 5 6 7 8; do
        for log in 0 10 100; do
            sleep 1.2 # what was logged before is in the tables by then
            load "wafer, 1 rows, $log % logged" "$url/v2/models/logged_$log/infer" "$work/1.json" "$connections"
        done
    done > "$work/rounds"
    for log in 0 10 100; do
        grep ", $log % logged" "$work/rounds" | sed 's/.*p50 \([0-9.]*[um]s\).*/\1/' |
            awk '{ print /ms/ ? $0 * 1000 : $0 + 0 }' | sort -n |
            awk -v share="$log" -v connections="$connections" '{ p[NR] = $1 }
                END { printf "%s %% logged, %s connections: p50 %.0f us (%.0f to %.0f), median of %d rounds\n", share, connections, (p[int((NR + 1) / 2)] + p[int(NR / 2) + 1]) / 2, p[1], p[NR], NR }'
    done
done
curl -s "$url/metrics" | grep '^wafer_log_rows_total' || true
stop

[ -n "${MLSERVER:-}" ] || exit 0
port=$(awk 'BEGIN { srand(); print 20000 + int(rand() * 20000) }')
mkdir "$work/mlserver"
cp "$work/model.txt" "$work/mlserver/model.bst"
features=$(sed -n 's/^feature_names=//p' "$work/model.txt" | wc -w)
cat > "$work/mlserver/model-settings.json" <<SETTINGS
{"name": "bench", "implementation": "mlserver_lightgbm.LightGBMModel", "parameters": {"uri": "./model.bst"}}
SETTINGS
for workers in 0 1; do
    cat > "$work/mlserver/settings.json" <<SETTINGS
{"host": "127.0.0.1", "http_port": $port, "grpc_port": $((port + 1)), "metrics_port": $((port + 2)), "parallel_workers": $workers, "debug": false}
SETTINGS
    (cd "$work/mlserver" && exec "$MLSERVER" start .) > "$work/mlserver.log" 2>&1 &
    peer=$!
    tries=0
    until curl -sf "http://127.0.0.1:$port/v2/models/bench/ready" > /dev/null; do
        sleep 0.5
        tries=$((tries + 1))
        [ $tries -lt 120 ] || { cat "$work/mlserver.log"; exit 1; }
    done
    for rows in 1 100; do
        awk -v rows="$rows" -v features="$features" 'BEGIN {
            srand(2013);
            printf "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP64\",\"shape\":[%d,%d],\"data\":[", rows, features;
            for (i = 0; i < rows * features; i++) printf "%s%.6f", i ? "," : "", rand() * 100;
            printf "]}]}\n";
        }' > "$work/mlserver-$rows.json"
        for connections in 1 8; do
            load "mlserver, $rows rows, $workers workers" "http://127.0.0.1:$port/v2/models/bench/infer" "$work/mlserver-$rows.json" "$connections"
        done
    done
    stop
done
