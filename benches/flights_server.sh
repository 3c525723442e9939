# Starts the flights project's server on a free port, for the benches that are run by wrk. It is
# sourced in the folder of the repository, with the program in `wafer` and a new folder for temporary
# files in `work`. It sets `server`, the number of the server's process, and `url`. The server ends
# and the folder is removed with the bench.
"$wafer" -C functions/flights serve --listen 127.0.0.1:0 --clock 2013-12-31T12:00:00Z,0 2> "$work/log" &
server=$!
trap 'kill "$server"; wait "$server" || true; rm -rf "$work"' EXIT
url=
while [ -z "$url" ]; do
    sleep 0.1
    url=$(sed -n 's/^serving .* on //p' "$work/log")
done
