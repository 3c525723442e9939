#!/bin/sh
# How much does a server still answer when more is asked than it can do? The flights project over
# HTTP, loaded by wrk (Debian package wrk) with one entity a request, at ever more connections: from
# those that are enough to keep it busy to 2,500, all of them always waiting for an answer. Goodput
# is the number of answers with status 200 in a second; refusals (429, 503) are counted apart.
#
# usage: benches/overload.sh   (after `cargo xtask quickstart`)
set -eu
cd "$(dirname "$0")/.."
wafer="${WAFER:-${CARGO_TARGET_DIR:-target}/release/wafer}"
seconds="${SECONDS_EACH:-10}"
# A connection is an open file, of wrk and of the server.
ulimit -n 8192
work=$(mktemp -d)
. benches/flights_server.sh
cat > "$work/one.lua" <<'LUA'
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[{"rows":[{"tailnum":"N14228","origin":"JFK","dest":"LAX","scheduled_departure":"2013-12-31T13:00:00Z","scheduled_arrival":"2013-12-31T18:30:00Z"}]}]]
LUA
for connections in ${CONNECTIONS:-8 64 256 800 2500}; do
    wrk -t1 -c"$connections" -d"${seconds}s" --timeout 30s --latency -s "$work/one.lua" \
        "$url/v1/views/arrival_delay/features" > "$work/wrk"
    awk -v connections="$connections" '
        / requests in / { requests = $1; seconds = $4; sub("s,", "", seconds) }
        /Non-2xx/ { refused = $NF }
        /Socket errors/ { errors = $0; sub(/^ */, "", errors) }
        $1 == "50%" { p50 = $2 }
        $1 == "99%" { p99 = $2 }
        END {
            printf "%5d connections: %6.0f answers/s, %6.0f refused/s, p50 %s, p99 %s %s\n",
                connections, (requests - refused) / seconds, refused / seconds, p50, p99, errors
        }' "$work/wrk"
done
echo "processor time and memory (KiB) of the server, lines of its log:"
ps -o cputime=,rss= -p "$server"
wc -l < "$work/log"
