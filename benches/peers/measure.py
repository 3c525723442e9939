"""The command line of the peers' scripts, and how they are measured.

Each run is a process of its own. Time is what it says it took from reading to the
written file, without the start of Python and imports. Memory is the most that the
process ever held.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from time import perf_counter

# Reads DATA, writes a file, on a number of threads.
Peer = Callable[[Path, Path, int], None]


def command_line(doc: str, peers: dict[str, Peer], keys: list[str]) -> None:
    """SCRIPT bench DATA OUT, SCRIPT PEER DATA FILE, SCRIPT checksum FILE."""
    script = Path(sys.argv[0])
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("bench", *peers):
        command = commands.add_parser(name)
        command.add_argument("data", type=Path)
        command.add_argument("out", type=Path)
        command.add_argument("--threads", type=int, default=2)
    commands.choices["bench"].add_argument("--runs", type=int, default=5)
    command = commands.add_parser("checksum")
    command.add_argument("file", type=Path)
    command.add_argument("--prefix", nargs="+", required=True, help="of the columns")
    arguments = parser.parse_args()
    match arguments.command:
        case "checksum":
            import checksum  # Not at the top: a peer's memory should be its own.

            checksum.show(arguments.file, keys, arguments.prefix)
        case "bench":
            bench(script, list(peers), arguments)
        case peer:
            start = perf_counter()
            peers[peer](arguments.data, arguments.out, arguments.threads)
            print(perf_counter() - start)


def bench(script: Path, peers: list[str], arguments: argparse.Namespace) -> None:
    """Writes OUT/SCRIPT.json and OUT/SCRIPT.md, beside the files that the peers write."""
    out, threads = arguments.out, arguments.threads
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for peer in peers:
        file = out / f"{script.stem}_{peer}.parquet"
        command = [str(script), peer, str(arguments.data), str(file), "--threads", str(threads)]
        results[f"{peer} {metadata.version(peer)}"] = spread(command, arguments.runs, threads)
    facts = {"data": arguments.data.name, "threads": threads, "runs": arguments.runs}
    (out / f"{script.stem}.json").write_text(json.dumps(facts | {"peers": results}, indent=2) + "\n")
    rows = [
        f"| {peer} | {r['median_s']:.2f} s | {r['min_s']:.2f} to {r['max_s']:.2f} s | {r['peak_rss_mib']:,.0f} MiB |"
        for peer, r in results.items()
    ]
    head = ["| peer | median | min to max | peak memory |", "| --- | --- | --- | --- |"]
    text = "\n".join([", ".join(f"{key} {value}" for key, value in facts.items()), "", *head, *rows, ""])
    (out / f"{script.stem}.md").write_text(text)
    print(text)


def spread(command: list[str], runs: int, threads: int) -> dict[str, float]:
    """Runs `python COMMAND`, which prints its seconds."""
    seconds, memory = [], []
    # Polars takes its number of threads from here.
    environment = os.environ | {"POLARS_MAX_THREADS": str(threads)}
    for _ in range(runs):
        with subprocess.Popen([sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True) as child:
            printed = child.stdout.read()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
        seconds.append(float(printed))
        memory.append(usage.ru_maxrss / 1024)
    return {
        "median_s": round(statistics.median(seconds), 3),
        "min_s": round(min(seconds), 3),
        "max_s": round(max(seconds), 3),
        "peak_rss_mib": round(max(memory), 1),
    }
