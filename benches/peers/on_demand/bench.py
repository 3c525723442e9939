"""The parts of `on_demand.sh` that are no servers: data, requests, the comparison of answers, and the table.

bench.py data OUT               accounts.parquet: 100,000 accounts with 10 features
bench.py requests OUT           requests/FORM-ROWS.lines, each line the body of a request, and wrk.lua
bench.py check OUT WAFER FEAST  asks all servers the same, and compares every answer with what it has to be
bench.py table OUT              what wrk measured (results.jsonl), as medians of the rounds
"""

import json
import random
import statistics
import sys
import urllib.request
from pathlib import Path

ACCOUNTS = 100_000
REQUESTS = 512
ROWS = (1, 100)
CONNECTIONS = (1, 8)
LOOKED_UP = (
    "balance",
    "fee_rate",
    "mean_amount",
    "risk",
    "fixed_loss",
    "credit",
    "payments",
    "disputes",
    "refunds",
    "country",
)
COMPUTED = ("relative_amount", "balance_after", "expected_loss", "unsettled_share")
# Who is asked, by the name in the results: the server, the form of its requests, and the route.
VIEWS = ("rust", "javascript", "python_columns", "python_rows")
FEAST_VIEWS = ("account", "python_rows", "python_lists", "pandas")
FEAST_ROUTE = "/get-online-features"
ASKED = {
    "wafer lookup": ("wafer", "lookup", "/v1/views/lookup/features"),
    **{f"wafer {view}": ("wafer", "wafer", f"/v1/views/{view}/features") for view in VIEWS},
    "wafer python_rows, by Feast's protocol": ("wafer", "feast-python_rows", FEAST_ROUTE),
    **{f"feast {view}": ("feast", f"feast-{view}", FEAST_ROUTE) for view in FEAST_VIEWS},
}
WITHOUT_FUNCTION = ("wafer lookup", "feast account")
# Feast computes such a view for the first row of a request alone, and answers one value for all rows.
SINGLETON = "feast python_rows"
# The faster of them is what others are compared with.
PYTHON_MODE = (SINGLETON, "feast python_lists")

LUA = """-- Sends the lines of the file that is named after `--`, in turn.
local bodies, turn = {}, 0
function init(arguments)
    for line in io.lines(arguments[1]) do bodies[#bodies + 1] = line end
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
end
function request()
    turn = turn % #bodies + 1
    return wrk.format(nil, nil, nil, bodies[turn])
end
function done(summary, latency)
    local errors = summary.errors
    io.write(string.format('{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"errors":%d}\\n', summary.requests,
        summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def data(out: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    floats = {name: np.round(rng.gamma(2.0, 50.0, ACCOUNTS), 2) for name in LOOKED_UP[:6]}
    whole = {name: rng.integers(0, 1_000, ACCOUNTS) for name in LOOKED_UP[6:9]}
    country = rng.choice(["AT", "DE", "FR", "IT", "PL"], ACCOUNTS)
    # 2024-01-01T00:00:00Z, and some seconds of the day.
    stamps = pa.array((19_723 * 86_400 + rng.integers(0, 86_400, ACCOUNTS)) * 1_000_000)
    columns = {"account_id": np.arange(ACCOUNTS), "event_timestamp": stamps.cast(pa.timestamp("us", "UTC"))}
    pq.write_table(pa.table(columns | floats | whole | {"country": country}), out / "accounts.parquet")


def asked(rows: int) -> dict[str, tuple[str, str, str]]:
    """Who is asked for so many rows at once."""
    return {name: how for name, how in ASKED.items() if rows == 1 or name != SINGLETON}


def rows_of_requests(rows: int) -> list[list[tuple[int, float]]]:
    """Accounts and amounts of all requests."""
    chance = random.Random(rows)
    one = lambda: (chance.randrange(ACCOUNTS), round(chance.uniform(1, 500), 2))
    return [[one() for _ in range(rows)] for _ in range(REQUESTS)]


def body(form: str, rows: list[tuple[int, float]]) -> dict:
    ids, amounts = zip(*rows)
    if form == "lookup":
        return {"rows": [{"account_id": account} for account in ids]}
    if form == "wafer":
        return {"rows": [{"account_id": account, "amount": amount} for account, amount in rows]}
    view = form.removeprefix("feast-")
    features = [f"account:{name}" for name in LOOKED_UP]
    if view == "account":
        return {"features": features, "entities": {"account_id": ids}}
    features += [f"{view}:{name}" for name in COMPUTED]
    return {"features": features, "entities": {"account_id": ids, "amount": amounts}}


def requests(out: Path) -> None:
    folder = out / "requests"
    folder.mkdir(exist_ok=True)
    (out / "wrk.lua").write_text(LUA)
    for form in {form for _, form, _ in ASKED.values()}:
        for rows in ROWS:
            lines = (json.dumps(body(form, each), separators=(",", ":")) for each in rows_of_requests(rows))
            (folder / f"{form}-{rows}.lines").write_text("\n".join(lines) + "\n")
    for rows in ROWS:
        lines = [f"{name}\t{server}\t{form}\t{route}\n" for name, (server, form, route) in asked(rows).items()]
        (out / f"asked-{rows}.tsv").write_text("".join(lines))


def check(out: Path, servers: dict[str, str]) -> None:
    import pyarrow.parquet as pq

    accounts = pq.read_table(out / "accounts.parquet").to_pylist()
    values = 0
    for rows in ROWS:
        for each in rows_of_requests(rows)[: REQUESTS // rows]:
            wanted = [expected(accounts[account], amount) for account, amount in each]
            for name, (server, form, route) in asked(rows).items():
                found = answered(servers[server] + route, body(form, each))
                names = LOOKED_UP + COMPUTED if name not in WITHOUT_FUNCTION else LOOKED_UP
                for want, have in zip(wanted, found, strict=True):
                    for feature in names:
                        values += 1
                        if want[feature] != have[feature]:
                            raise SystemExit(f"{name}: {feature} of {want} is {have[feature]}")
    print(f"{values:,} values were compared with what they have to be, and all are equal", file=sys.stderr)


def expected(account: dict, amount: float) -> dict:
    """Computes what every server has to answer, to the last bit."""
    a = account
    return a | {
        "relative_amount": amount / (1.0 + a["mean_amount"]),
        "balance_after": a["balance"] - amount * (1.0 + a["fee_rate"]),
        "expected_loss": a["risk"] * amount + a["fixed_loss"],
        "unsettled_share": (a["disputes"] + a["refunds"]) / (1.0 + a["payments"]),
    }


def answered(url: str, question: dict) -> list[dict]:
    """Asks for features, and returns them by name for each row."""
    question = json.dumps(question).encode()
    request = urllib.request.Request(url, question, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        answer = json.load(response)
    if "rows" in answer:
        return [{k.removeprefix("account_"): v for k, v in row["features"].items()} for row in answer["rows"]]
    names = [name.removeprefix("account_") for name in answer["metadata"]["feature_names"]]
    return [dict(zip(names, row)) for row in zip(*(result["values"] for result in answer["results"]))]


def table(out: Path) -> None:
    measured: dict[tuple, list[dict]] = {}
    for line in (out / "results.jsonl").read_text().splitlines():
        result = json.loads(line)
        if result["errors"] or not result["requests"]:
            raise SystemExit(f"requests failed, or none was answered: {line}")
        result["rate"] = result["requests"] / result["seconds"]
        result["processor"] = result["ticks"] / result["ticks_per_second"] * 1e3 / result["requests"]
        measured.setdefault((result["rows"], result["connections"], result["name"]), []).append(result)
    for rows in ROWS:
        for connections in CONNECTIONS:
            print(f"\n{rows} entities a request, {connections} connections:\n")
            print("| asked | requests/s | beside Python mode | p50 | p99 | processor time of a request |")
            print("| --- | --- | --- | --- | --- | --- |")
            peers = [measured[rows, connections, name] for name in PYTHON_MODE if name in asked(rows)]
            best = [max(result["rate"] for result in turn) for turn in zip(*peers)]
            for name in asked(rows):
                rounds = measured[rows, connections, name]
                times = [result["rate"] / peer for result, peer in zip(rounds, best)]
                cells = [
                    spread([result["rate"] for result in rounds], 0),
                    spread(times, 1) + " ×",
                    *(spread([result[key] for result in rounds], 2) + " ms" for key in ("p50", "p99", "processor")),
                ]
                print(f"| {name} | {' | '.join(cells)} |")


def spread(values: list[float], digits: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


if __name__ == "__main__":
    command, out = sys.argv[1], Path(sys.argv[2])
    match command:
        case "data":
            data(out)
        case "requests":
            requests(out)
        case "check":
            check(out, {"wafer": sys.argv[3], "feast": sys.argv[4]})
        case "table":
            table(out)
