#!/bin/sh
# How many feature vectors a second, and how fast? The flights project over HTTP,
# loaded by wrk (Debian package wrk): 1 and 100 entities a request, with the
# on-demand function; the latency at one connection, and at eight.
#
# usage: benches/request.sh   (after `cargo xtask quickstart`)
set -eu
cd "$(dirname "$0")/.."
wafer="${WAFER:-${CARGO_TARGET_DIR:-target}/release/wafer}"
seconds="${SECONDS_EACH:-10}"
work=$(mktemp -d)
. benches/flights_server.sh
for rows in 1 100; do
    awk -v rows="$rows" 'BEGIN {
        split("N14228 N24211 N619AA N804JB N668DN N39463 N516JB N829AS N593JB N3ALAA", tail, " ");
        split("IAH LAX MIA ORD ATL BOS SFO FLL MCO DEN", dest, " ");
        split("JFK LGA EWR", origin, " ");
        printf "wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\nwrk.body = [[{\"rows\":[";
        for (i = 0; i < rows; i++) {
            if (i) printf ",";
            printf "{\"tailnum\":\"%s\",\"origin\":\"%s\",\"dest\":\"%s\",\"scheduled_departure\":\"2013-12-31T13:00:00Z\",\"scheduled_arrival\":\"2013-12-31T18:30:00Z\"}", tail[i % 10 + 1], origin[i % 3 + 1], dest[(i + int(i / 10)) % 10 + 1];
        }
        print "]}]]";
    }' > "$work/$rows.lua"
    for connections in 1 8; do
        echo "== $rows entities a request, $connections connections"
        wrk -t1 -c"$connections" -d"${seconds}s" --latency -s "$work/$rows.lua" "$url/v1/views/arrival_delay/features" |
            grep -E '50%|99%|Requests/sec|Non-2xx' || true
    done
done
echo "== processor time of the server"
ps -o cputime=,rss= -p "$server"
