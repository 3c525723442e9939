#!/bin/sh
# Events into windows, and requests for them: how many events a second are durable and
# counted, and how fast are vectors with three windows? The flights project's landed
# flights over HTTP in batches of 100, then wrk (Debian package wrk) on `delay_model`.
#
# usage: benches/windows.sh   (after `cargo xtask quickstart`)
set -eu
cd "$(dirname "$0")/.."
wafer="${WAFER:-${CARGO_TARGET_DIR:-target}/release/wafer}"
work=$(mktemp -d)
export WAFER_STORE_PATH="$work/store"
"$wafer" -C functions/flights apply --no-build > /dev/null
. benches/flights_server.sh
# The same flight again and again, each with a number of its own: 1 event, 6 rows.
for batch in 1 100; do
    awk -v batch="$batch" 'BEGIN {
        print "local n = 0";
        print "request = function()";
        print "  local rows = {}";
        printf "  for i = 1, %d do n = n + 1\n", batch;
        print "    rows[i] = string.format([[{\"tailnum\":\"N%d\",\"carrier\":\"UA\",\"flight\":%d,\"origin\":\"EWR\",\"dest\":\"IAH\",\"time_hour\":\"2013-12-%02dT10:00:00Z\",\"minute\":%d,\"dep_delay\":2,\"arr_time\":830,\"arr_delay\":%d,\"air_time\":227}]], n % 4000, n, n % 28 + 1, n % 60, n % 90)";
        print "  end";
        print "  return wrk.format(\"POST\", nil, {[\"Content-Type\"] = \"application/x-ndjson\"}, table.concat(rows, \"\\n\"))";
        print "end";
    }' > "$work/events.lua"
    echo "== events, $batch a request, 8 connections"
    wrk -t1 -c8 -d"${SECONDS_EACH:-10}s" --latency -s "$work/events.lua" "$url/v1/sources/landed_flights/events" |
        grep -E '50%|99%|Requests/sec|Non-2xx' || true
done
cat > "$work/request.lua" <<'SCRIPT'
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{"rows":[{"tailnum":"N7","carrier":"UA","origin":"EWR","dest":"IAH","scheduled_departure":"2013-12-31T13:00:00Z","scheduled_arrival":"2013-12-31T18:30:00Z"}]}]]
SCRIPT
for connections in 1 8; do
    echo "== vectors with 4 windowed groups of 3 windows, $connections connections"
    wrk -t1 -c"$connections" -d"${SECONDS_EACH:-10}s" --latency -s "$work/request.lua" "$url/v1/views/delay_model/features" |
        grep -E '50%|99%|Requests/sec|Non-2xx' || true
done
