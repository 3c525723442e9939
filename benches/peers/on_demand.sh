#!/bin/sh
# On-demand features over HTTP, side by side with Feast's feature server: 100,000 accounts with 10
# features and an amount in the request; a function computes 4 features of them, by 2 or 3
# operations each. Wafer calls it in Rust, in JavaScript, and in Python by whole columns and row by
# row; Feast in its modes for Python (of one row, which it calls a singleton, and of lists) and for
# pandas, with the online store that its users get by default, SQLite. 1 and 100 entities a request,
# 1 and 8 connections of wrk (Debian package wrk), in several rounds in which all take turns.
#
# Feast's server has one worker, as by default. It is spared what costs it most besides: its log
# of accesses, and starting the worker anew every 1,000 requests.
#
# usage: on_demand.sh PYTHON OUT [ROUNDS]   PYTHON has feast (`pip install feast==0.67.0 'setuptools<81'`), and the
#        program `feast` beside it; `wafer` is on the PATH or named by WAFER
set -eu
cd "$(dirname "$0")/on_demand"
python=$1 out=$2 rounds=${3:-5}
feast="$(dirname "$python")/feast"
wafer="${WAFER:-wafer}"
seconds="${SECONDS_EACH:-5}"
export FEAST_USAGE=False PYTHONWARNINGS=ignore
mkdir -p "$out"
out=$(cd "$out" && pwd)
server= peer=
stop() {
    for process in $server $peer; do
        kill "$process" 2> /dev/null || true
        wait "$process" 2> /dev/null || true
    done
    server= peer=
}
trap stop EXIT
trap 'exit 130' INT TERM

[ -e "$out/accounts.parquet" ] || "$python" bench.py data "$out"
"$python" bench.py requests "$out"
ln -sfn "$out" data
export WAFER_STORE_PATH="$out/store"
"$wafer" apply > /dev/null
"$wafer" run account
if [ ! -e "$out/feast/filled" ]; then
    rm -rf "$out/feast"
    cp -r feast "$out/feast"
    "$feast" -c "$out/feast" apply > "$out/feast.log"
    "$feast" -c "$out/feast" materialize 2023-12-01T00:00:00 2024-02-01T00:00:00 >> "$out/feast.log" 2>&1
    touch "$out/feast/filled"
fi

"$wafer" serve --listen 127.0.0.1:0 2> "$out/wafer.log" &
server=$!
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$feast" -c "$out/feast" serve --port "$port" --no-access-log --max-requests 0 --max-requests-jitter 0 \
    > "$out/feast-server.log" 2>&1 &
peer=$!
peer_url="http://127.0.0.1:$port" url=
until [ -n "$url" ] && curl -sf "$peer_url/health" > /dev/null; do
    sleep 0.2
    kill -0 "$server" || { cat "$out/wafer.log"; exit 1; }
    kill -0 "$peer" || { cat "$out/feast-server.log"; exit 1; }
    url=$(sed -n 's/^serving .* on //p' "$out/wafer.log")
done
"$python" bench.py check "$out" "$url" "$peer_url"

# A process with those that it started.
family() { echo "$1 $(pgrep -P "$1" || true)"; }
# Processor time of a process with those that it started.
ticks() {
    for process in $(family "$1"); do cat "/proc/$process/stat"; done | awk '{ sum += $14 + $15 } END { print sum }'
}
load() { # file of requests, connections, URL, seconds
    wrk -t1 -c"$2" -d"$4s" --timeout 30s -s "$out/wrk.lua" "$3" -- "$out/requests/$1.lines" | tail -n 1
}
round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    for rows in 1 100; do
        for connections in 1 8; do
            while IFS="$(printf '\t')" read -r name to form route; do
                case "$to" in
                    wafer) process=$server base=$url ;;
                    feast) process=$peer base=$peer_url ;;
                esac
                load "$form-$rows" "$connections" "$base$route" 1 > /dev/null
                before=$(ticks "$process")
                measured=$(load "$form-$rows" "$connections" "$base$route" "$seconds")
                taken=$(($(ticks "$process") - before))
                echo "{\"name\":\"$name\",\"rows\":$rows,\"connections\":$connections,\"ticks\":$taken,\"ticks_per_second\":$(getconf CLK_TCK),${measured#\{}"
            done < "$out/asked-$rows.tsv"
        done
    done
done > "$out/results.jsonl"
for process in "$server" "$peer"; do
    for each in $(family "$process"); do ps -o rss=,args= -p "$each"; done
done
"$wafer" --version
"$python" --version
"$python" -c 'import feast, pandas; print("feast", feast.__version__, "pandas", pandas.__version__)'
"$python" bench.py table "$out"
