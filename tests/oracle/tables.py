"""Finds the live Parquet files of an offline table by its Delta log."""

import json
from pathlib import Path
from urllib.parse import unquote


def live_files(table: Path) -> list[Path]:
    """Returns the live files, by replaying `add` and `remove` from version 0 on."""
    logs = sorted((table / "_delta_log").glob("*.json"))
    versions = [int(log.stem) for log in logs]
    if not logs or versions != list(range(len(logs))):
        raise SystemExit(f"{table}: its log does not go from version 0 without a gap: {versions}")
    live: set[str] = set()
    for log in logs:
        actions = [json.loads(line) for line in log.read_text().splitlines() if line]
        # The actions of one version are not ordered.
        live -= {action["remove"]["path"] for action in actions if "remove" in action}
        for add in (action["add"] for action in actions if "add" in action):
            if add.get("deletionVector"):
                raise SystemExit(f"{table}: deletion vectors are not understood")
            live.add(add["path"])
    return [table / unquote(path) for path in sorted(live)]
