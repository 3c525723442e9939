"""Tests of cost.py, and of the costs in the documentation and in the script for the first hour.

These are compared with those that follow from the plan that WAFER_PLAN names, which `cargo xtask infra` makes. Without it,
these tests are skipped.
"""

import csv
import json
import os
import pathlib
import re
import tempfile
import unittest
from datetime import date
from decimal import Decimal

import cost

ROOT = pathlib.Path(__file__).parent.parent
DOCUMENTS = ["docs/aws.md", "docs/scale.md"]
SMOKE = (ROOT / "infra/flights/smoke.sh").read_text()


def resource(kind, name="this", index=None, **values):
    return {"mode": "managed", "type": kind, "name": name, "index": index, "values": values}


def metric(namespace, name, **dimensions):
    return {"namespace": namespace, "metric_name": name, "dimensions": dimensions}


def query(*metrics):
    return {"metric": list(metrics)}


def plan(*found):
    """Returns a plan in the shape of `terraform show -json`, with resources in a module of a module."""
    inner = {"resources": list(found)}
    data = {"mode": "data", "type": "aws_kms_key", "name": "other", "values": {}}
    return {"planned_values": {"root_module": {"resources": [data], "child_modules": [{"child_modules": [inner]}]}}}


ALARMS = [
    resource("aws_cloudwatch_metric_alarm", metric_query=[], **metric("AWS/Lambda", "Errors", FunctionName="f")),
    resource("aws_cloudwatch_metric_alarm", metric_query=[], **metric("Wafer", "OutboxAge", Project="p")),
    # A sum is charged by what it is a sum of.
    resource(
        "aws_cloudwatch_metric_alarm",
        metric_name=None,
        metric_query=[
            query(),
            query(metric("AWS/DynamoDB", "SystemErrors", TableName="t", Operation="GetItem")),
            query(metric("AWS/DynamoDB", "SystemErrors", TableName="t", Operation="PutItem")),
        ],
    ),
]
SMALL = plan(
    *ALARMS,
    resource("aws_cloudwatch_dashboard"),
    resource("aws_kms_key"),
    resource("aws_sqs_queue", "outbox", kms_data_key_reuse_period_seconds=86_400),
    resource("aws_sqs_queue", "dead", kms_data_key_reuse_period_seconds=None),
    resource("aws_lambda_event_source_mapping", "outbox", starting_position=None),
    resource("aws_lambda_event_source_mapping", "stream", "clicks", starting_position=None),
    resource("aws_lambda_event_source_mapping", "other", "orders", starting_position="TRIM_HORIZON"),
    # An attribute that is known after the plan is applied is not in it: the key.
    resource("aws_scheduler_schedule", schedule_expression="rate(5 minutes)"),
    resource("aws_dynamodb_table", server_side_encryption=[{"enabled": True}]),
    *(resource("aws_lambda_function", index=name, memory_size=2_048, kms_key_arn=None) for name in ["requests", "events", "runs"]),
)


def usage(**changed):
    """Returns the defaults, but for some."""
    return {name.replace("-", "_"): Decimal(default) for name, default, _ in cost.USAGE} | changed


class Plans(unittest.TestCase):
    def test_what_is_charged_is_counted(self):
        made = cost.read_plan(SMALL)
        self.assertEqual((made.alarms, made.alarm_metrics, made.dashboards, made.keys), (3, 4, 1, 1))
        self.assertEqual(made.own_metrics, {("Wafer", "OutboxAge", (("Project", "p"),))})
        self.assertEqual((made.queues, made.polled, made.streams), ([86_400, 300], 2, 1))
        self.assertEqual((made.looks, made.memory["runs"]), (8_640, 2))
        self.assertEqual(made.encrypted, ["table", "schedule"])

    def test_other_files_are_refused(self):
        for found, wanted in [({"values": {}}, "this is no plan"), (plan(*ALARMS), "has no function `events`")]:
            with self.assertRaisesRegex(SystemExit, wanted):
                cost.read_plan(found)

    def test_schedules_are_counted(self):
        for expression, wanted in [
            ("rate(1 minute)", 43_200),
            ("rate(12 hours)", 60),
            ("rate(1 day)", 30),
            ("at(2026-01-01T00:00:00)", 0),
            ("cron(0 * * * ? *)", 720),
            ("cron(0,30 8-17 * * ? *)", 600),
            ("cron(*/15 * ? * 2-6 *)", 4 * 24 * Decimal(30) * 5 / 7),
            ("cron(5/20 0 1 * ? *)", 3),
            ("cron(0 0 1,15 1,7 ? *)", Decimal(2) * 2 / 12),
        ]:
            self.assertEqual(cost.runs_a_month(expression), wanted, expression)
        with self.assertRaisesRegex(SystemExit, "`daily` is no expression"):
            cost.runs_a_month("daily")


class Tables(unittest.TestCase):
    def costs(self, **changed):
        return cost.Costs(cost.read_plan(SMALL), usage(**changed), cost.read_prices())

    def test_costs_of_a_month_without_events(self):
        wanted = {
            "looks": "0.06",  # 8,640 × 0.2 s × 2 GB
            "calls": "0.10",  # 43,200 reads, 8,640 writes, 17,280 listings
            "schedules": "0.01",
            "queues": "0.52",  # 2 × 648,000
            "key": "1.00",
            "key requests": "0.13",  # 8,640 × 2, 30 × 3, 8,640 × 3
            "alarms": "0.40",
            "dashboards": "3.00",
            "metrics": "0.30",
            "logs": "0.00",
            "storage": "0.01",
        }
        rows = self.costs().idle
        self.assertEqual({name: str(row.cost) for name, row in rows.items()}, wanted)
        text = self.costs().blocks()["idle"]
        self.assertIn("| **together** | | | **5.53** |", text)
        # Without alarms, dashboard and the queue of the stream.
        self.assertIn("1.87 is left, of which 1.00 is the key", text)

    def test_usage_decides(self):
        rows = self.costs(groups=Decimal(10), request_ms=Decimal(20)).requests
        self.assertEqual([str(row.cost) for row in rows.values()], ["0.87", "1.25", "0.13", "0.03"])
        rows = self.costs(batch=Decimal(10)).events
        self.assertEqual([str(row.cost) for row in rows.values()], ["1.38", "1.16", "0.12", "0.19", "0.02", "0.05"])

    def test_deploy_says_of_the_log_what_the_table_has(self):
        total = cost.total(self.costs().log.values())
        self.assertEqual(str(total), "8.01")
        program = (ROOT / "host/cli/src/commands/deploy.rs").read_text()
        said = re.search(r"DOLLARS_A_MILLION_COMMITS: f64 = ([0-9.]+);", program)[1]
        self.assertAlmostEqual(total, Decimal(said), delta=Decimal("0.05"))

    def test_first_hour_has_these_prices(self):
        for what, name in [
            ("functions, GB-seconds", "lambda_time"),
            ("reads of the table, units", "dynamodb_read"),
            ("writes of the table, units", "dynamodb_write"),
        ]:
            said = re.search(rf'\["{what}", .*, ([0-9.]+)\]', SMOKE)[1]
            self.assertEqual(Decimal(said), cost.read_prices()[name].of(1), what)

    def test_calculator_adds_up(self):
        *lines, last = self.costs().blocks()["calculator"].splitlines()
        self.assertIn("    requests   R × (0.53 + 0.13 + 0.125 × G)", lines)
        parts, _, total = last.removeprefix("For flights: ").rstrip(".").partition(" = ")
        self.assertEqual(sum(map(Decimal, parts.split(" + "))), Decimal(total))

    def test_amounts_have_as_many_decimals_as_they_need(self):
        for amount, wanted in [("3", "3.00"), ("0.0000166667", "0.0000167"), ("0.125", "0.125"), ("0.750", "0.75")]:
            self.assertEqual(cost.number(Decimal(amount)), wanted)

    def test_prices_name_their_page_and_day(self):
        with (ROOT / "infra/prices.csv").open(newline="") as rows:
            for row in csv.DictReader(rows):
                self.assertRegex(row["source"], "^https://aws.amazon.com/.*pricing/", row)
                self.assertLess(date(2026, 1, 1), date.fromisoformat(row["looked_up"]), row)


with_plan = unittest.skipUnless("WAFER_PLAN" in os.environ, "WAFER_PLAN is not set; `cargo xtask infra` sets it")


class Documents(unittest.TestCase):
    def test_only_tables_are_replaced(self):
        text = "a\n<!-- cost: idle -->\nold\n<!-- /cost -->\nb\n"
        made, names = cost.replaced(text, {"idle": "new"})
        self.assertEqual((made, names), ("a\n<!-- cost: idle -->\n\nnew\n\n<!-- /cost -->\nb\n", ["idle"]))
        self.assertEqual(cost.replaced(made, {"idle": "new"})[0], made)
        with self.assertRaisesRegex(SystemExit, "no table of costs `idle`: there are events"):
            cost.replaced(text, {"events": ""})

    @with_plan
    def test_first_hour_costs_what_the_plan_does(self):
        made = cost.read_plan(json.loads(pathlib.Path(os.environ["WAFER_PLAN"]).read_text()))
        idle = cost.Costs(made, usage(), cost.read_prices()).idle
        sums = " + ".join(str(idle[name].cost) for name in ("key", "alarms", "dashboards", "metrics"))
        self.assertIn(f"({sums}) / 730]", SMOKE)
        for memory in made.memory.values():
            self.assertIn(f"* {memory * 1024:.0f} / 1024,", SMOKE)

    @with_plan
    def test_documentation_has_the_tables_of_the_plan(self):
        path = os.environ["WAFER_PLAN"]
        tables, found = cost.blocks(cost.arguments([path])), []
        written = " ".join(f"--write {document}" for document in DOCUMENTS)
        for document in DOCUMENTS:
            text = (ROOT / document).read_text()
            made, names = cost.replaced(text, tables)
            found += names
            advice = f"{document} is stale: run python3 infra/cost.py {written} {path}"
            self.assertEqual(text, made, advice)
        self.assertEqual(sorted(found), sorted(tables))

    def test_tables_are_written_to_files(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "a.md"
            file.write_text("<!-- cost: events -->\n<!-- /cost -->\n")
            cost.write([file], {"events": "new"})
            self.assertEqual(file.read_text(), "<!-- cost: events -->\n\nnew\n\n<!-- /cost -->\n")


if __name__ == "__main__":
    unittest.main()
