"""An independent oracle for training sets: DuckDB computes what they should contain.

oracle.py generate FOLDER    writes the data of a project: events, facts, labels
oracle.py check FOLDER FILE  compares a training set over that project with SQL
oracle.py self-test          compares the SQL with a naive loop over tiny data

Needs duckdb, numpy and pyarrow. Nothing of Wafer is imported: the oracle reads the
Parquet files of the offline tables by their Delta logs and nothing else.
"""

import argparse
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import compare
import expected
import generate
import naive


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("generate", help="write FOLDER/data/*.parquet")
    command.add_argument("folder", type=Path)
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--events", type=int, default=30_000)
    command.add_argument("--facts", type=int, default=20_000)
    command.add_argument("--labels", type=int, default=10_000)

    command = commands.add_parser("check", help="compare a training set with SQL")
    command.add_argument("folder", type=Path, help="the project, with data/labels.parquet")
    command.add_argument("result", type=Path, help="the training set, Parquet")
    group = "ALIAS=TABLE[,TTL_SECONDS]"
    command.add_argument("--plain", type=expected.Group.parse, action="append", default=[], metavar=group)
    command.add_argument("--windows", type=expected.Group.parse, action="append", default=[], metavar=group)
    command.add_argument("--columns", type=names, default=[], help="aggregated columns, such as small,amount")
    command.add_argument("--spans", type=expected.spans, default=[], help="such as 20m,3h-exact,12d,lifetime")
    command.add_argument("--functions", type=names, default=list(expected.FUNCTIONS))

    command = commands.add_parser("self-test", help="compare the SQL with a naive loop")
    command.add_argument("--seeds", type=int, default=8)

    arguments = parser.parse_args()
    if arguments.command == "generate":
        sizes = (arguments.events, arguments.facts, arguments.labels)
        generate.write(arguments.folder, arguments.seed, *sizes)
        return 0
    if arguments.command == "self-test":
        return naive.self_test(arguments.seeds)
    plan = expected.Plan(
        arguments.plain, arguments.windows, arguments.columns, arguments.spans, arguments.functions
    )
    return compare.check(arguments.folder, arguments.result, plan)


def names(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
