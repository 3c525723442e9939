#!/bin/sh
# Lives through three days of January 2013: flights that land and weather reports
# come as events, departures ask for features, all in the order of their time.
set -eu
cd "$(dirname "$0")"
wafer="${WAFER:-wafer}"
from=2013-01-02T05:00:00Z
to=2013-01-05T05:00:00Z
store=$(mktemp -d)
log="$store/serve.log"
server=
finish() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } || true
    rm -rf "$store"
}
trap finish EXIT
export WAFER_STORE_PATH="$store/store"

"$wafer" apply > /dev/null
# What was known before: airports, and what had happened by the first morning.
for pipeline in airport airport_weather plane_outcome; do
    "$wafer" run "$pipeline" --to "$from" --clock "$from,0"
done

"$wafer" serve --listen 127.0.0.1:0 --clock "$from,0" 2> "$log" &
server=$!
url=
while [ -z "$url" ]; do
    sleep 0.1
    kill -0 "$server" || { cat "$log"; exit 1; }
    url=$(sed -n 's/^serving .* on //p' "$log")
done
"$wafer" replay arrival_delay --requests data/departures.csv --time scheduled_departure \
    --from "$from" --to "$to" --server "$url"
