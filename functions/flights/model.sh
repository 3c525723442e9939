#!/bin/sh
# A model of late arrivals, from labels to an endpoint: trained on flights of January to August,
# stopped by those of September, evaluated on October to December beside two simple ones; then
# three days of October are lived through with two releases of it, and what was served is
# compared with what a training set has. Fills the project's store, as far as it is not; what is
# lived through is in a store of its own.
set -eu
cd "$(dirname "$0")"
wafer="${WAFER:-wafer}"
from=2013-10-07T04:00:00Z
to=2013-10-10T04:00:00Z
work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } || true
    rm -rf "$work"
}
trap finish EXIT
windows="route_delays carrier_delays origin_delays plane_delays"

"$wafer" apply > /dev/null
for pipeline in airport airport_weather plane_outcome $windows scheduled_flight; do
    "$wafer" run "$pipeline" > /dev/null
done
"$wafer" export scheduled_flight_v1 --out data/labels.parquet \
    --columns tailnum,carrier,flight,origin,dest,scheduled_departure,scheduled_arrival,arrived_late

# Gradient-boosted trees, trained in the sandbox: many, and few.
trained() { # which of the two it is, and what is set for it
    which="$1"
    shift
    "$wafer" train late_arrival "$@"
    "$wafer" models show late_arrival --output json > "$work/shown"
    sed -n 's/^  "version": *\([0-9]*\).*/\1/p' "$work/shown" > "$work/version"
    "$wafer" models get "late_arrival@$(cat "$work/version")" --out "$work/$which.txt" > /dev/null
}
trained 1 --doc "many trees"
trained 2 --set trees=30 --doc "few trees"
set=$(sed -n 's/.*"training_set": *"\([^"]*\)".*/\1/p' "$work/shown")
# What is to be beaten: the same for every flight, and the mean delay of its route.
cat > "$work/constant.json" <<'MODEL'
{"intercept": -1.2, "coefficients": {"route_arr_delay_minutes_mean_30d": 0.0}, "missing": {"route_arr_delay_minutes_mean_30d": 0.0}, "link": "logistic"}
MODEL
sed 's/0.0}, "missing"/0.05}, "missing"/; s/-1.2/-1.6/' "$work/constant.json" > "$work/route.json"
for baseline in constant route; do
    "$wafer" models push baseline --artifact "$work/$baseline.json" --training-set "$set" --doc "$baseline"
done

# Three days, lived through: planes are shared out to the two releases.
export WAFER_STORE_PATH="$work/store"
"$wafer" apply > /dev/null
for pipeline in airport airport_weather plane_outcome $windows; do
    "$wafer" run "$pipeline" --to "$from" --clock "$from,0" > /dev/null
done
for version in 1 2; do
    "$wafer" models push late_arrival --artifact "$work/$version.txt" > /dev/null
    "$wafer" release create --model "late_arrival@$version"
done
"$wafer" endpoints set late r1
"$wafer" endpoints set late r1=80 r2=20 --key tailnum --log 100
"$wafer" serve --listen 127.0.0.1:0 --clock "$from,0" 2> "$work/log" &
server=$!
url=
while [ -z "$url" ]; do
    sleep 0.1
    kill -0 "$server" || { cat "$work/log"; exit 1; }
    url=$(sed -n 's/^serving .* on //p' "$work/log")
done
"$wafer" replay delay_model --endpoint late --requests data/labels.parquet --time scheduled_departure \
    --from "$from" --to "$to" --server "$url" > "$work/replayed"
grep -v '^feature \|^[a-z_0-9]* *[0-9]' "$work/replayed"
"$wafer" endpoints rollback late
kill "$server" && wait "$server" || true
server=
"$wafer" skew late
