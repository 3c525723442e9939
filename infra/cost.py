"""cost.py [--write FILE] [usage] PLAN.json: what a project costs on AWS, by its Terraform plan.

Prints the tables of costs in Markdown. With --write, replaces them in a file, between
`<!-- cost: NAME -->` and `<!-- /cost -->`. The plan comes from

    terraform plan -out=PLAN && terraform show -json PLAN > PLAN.json

It says how many alarms, queues, schedules and so on there are, and what is encrypted with the key.
How often something happens, and how long it takes, are the arguments: --help lists them. A month has
30 days. Prices are list prices (prices.csv), without free tiers.
"""

import argparse
import csv
import dataclasses
import json
import pathlib
import re
import sys
import textwrap
from decimal import ROUND_HALF_UP, Decimal

HERE = pathlib.Path(__file__).parent
MONTH_DAYS = 30
MONTH_SECONDS = MONTH_DAYS * 86_400
MILLION = 1_000_000
WIDTH = 120

# The usage: name of the argument, default, meaning.
#
# A look that starts an environment reads of the table its layout (host/aws/src/layout.rs), that its bucket was
# probed (host/aws/src/objects.rs), the pointer to what is applied and the id of the store
# (host/catalog/src/generations.rs, context.rs), and the time of the last use, which it writes anew
# (host/catalog/src/machine_clock.rs). In an environment that is warm it reads the pointer alone, at half the price, as
# that read may be eventually consistent. Each pipeline with a schedule adds its state, and the claim of each interval
# that is due (host/pipelines/src/trigger/schedule.rs). Which environments stay warm for five minutes, Lambda decides, so
# here none does.
USAGE = [
    ("look-seconds", "0.2", "seconds of a look"),
    ("look-reads", "5", "reads of DynamoDB in a look that starts an environment"),
    ("look-writes", "1", "writes of DynamoDB in such a look"),
    ("look-listings", "2", "listings of S3 in a look: whether there is something to flush, and how old the oldest is"),
    ("request-ms", "10", "milliseconds of a request"),
    ("groups", "5", "groups that a request looks up, each a strongly consistent read of up to 4 KB"),
    ("event-ms", "5", "milliseconds of an event"),
    ("event-groups", "5", "groups that an event of the project goes into"),
    ("batch", "100", "events in a batch"),
    ("batch-writes", "2", "writes of S3 for a batch"),
    ("batch-reads", "4", "reads of S3 for a batch"),
    ("tables-gb", "0.1", "GB of tables on S3"),
    ("online-gb", "0.01", "GB in DynamoDB"),
    ("batch-tb", "0.001", "TB through batch runs"),
    ("batch-rows", "0.005", "million entities that batch runs change online"),
]

# Lambda writes three lines for each invocation:
# https://docs.aws.amazon.com/lambda/latest/operatorguide/log-structure.html
REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
INVOCATION_LINES = (
    f"START RequestId: {REQUEST_ID} Version: $LATEST\n"
    f"END RequestId: {REQUEST_ID}\n"
    f"REPORT RequestId: {REQUEST_ID}\tDuration: 10.12 ms\tBilled Duration: 11 ms\tMemory Size: 1769 MB"
    "\tMax Memory Used: 123 MB\t\n"
)
# What the program writes at the level `info`: nothing for a request, a line for a batch of events
# (host/lambda/src/handler.rs), and a metric for a look (host/lambda/src/metrics.rs).
EVENTS_LINE = " INFO bootstrap::handler: `landed_flights`: 100 accepted, 0 duplicates, 0 rejected\n"
METRIC_LINE = (
    '{"OutboxAge":0.0,"Project":"flights","_aws":{"CloudWatchMetrics":[{"Dimensions":[["Project"]],'
    '"Metrics":[{"Name":"OutboxAge","Unit":"Seconds"}],"Namespace":"Wafer"}],"Timestamp":1574109732004}}\n'
)

# Lambda begins with five connections to a queue:
# https://aws.amazon.com/blogs/compute/introducing-faster-polling-scale-up-for-aws-lambda-functions-configured-with-amazon-sqs/
# Each waits for messages as long as SQS lets it.
CONNECTIONS = 5
POLL_SECONDS = 20

# An environment writes the rows of the request log that are a minute old, unless a setting of the
# endpoint says otherwise (host/serving/src/routing.rs).
LOG_SECONDS = 60

# DynamoDB asks for the key of a table once in five minutes for each caller:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.howitworks.html
# S3 keeps that of a bucket for a time that is not documented, which counts as long here:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-key.html
# What CloudWatch Logs and SNS ask for is not documented either, and not counted.
KEY_SECONDS = 300
# SQS makes three requests for a data key, two for who sends and one for who receives, and uses the
# key for five minutes unless the queue says otherwise:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
QUEUE_KEY_REQUESTS = 3
QUEUE_KEY_SECONDS = 300


@dataclasses.dataclass(frozen=True)
class Price:
    dollars: Decimal
    per: int
    unit: str

    def of(self, count):
        return self.dollars * Decimal(count) / self.per

    def __str__(self):
        per = {1: f"a {self.unit}", 1_000: "a thousand", 10_000: "for ten thousand", MILLION: "a million"}[self.per]
        return f"{number(self.dollars)} {per}"


def number(amount):
    """Returns an amount of dollars with as many decimals as it needs, at least two and at most seven."""
    whole, fraction = f"{amount:.7f}".rstrip("0").split(".")
    return f"{whole}.{fraction:0<2}"


def read_prices(path=HERE / "prices.csv"):
    with path.open(newline="") as rows:
        return {row["name"]: Price(Decimal(row["dollars"]), int(row["per"]), row["unit"]) for row in csv.DictReader(rows)}


@dataclasses.dataclass
class Infrastructure:
    """What a plan makes that costs something."""

    alarms: int
    # How many metrics the alarms watch, and which of these no service of AWS writes.
    alarm_metrics: int
    own_metrics: set
    dashboards: int
    keys: int
    # For each queue the seconds for which its data key is used again.
    queues: list
    # Queues that Lambda asks, and those of them that are sources of events.
    polled: int
    streams: int
    # What schedules start in a month.
    looks: Decimal
    # GB of each function.
    memory: dict
    # What of a look needs the key: table, bucket, settings, schedule.
    encrypted: list


def resources(module):
    """Returns the resources of a module of a plan and of those within it."""
    yield from (found for found in module.get("resources", []) if found["mode"] == "managed")
    for inner in module.get("child_modules", []):
        yield from resources(inner)


def read_plan(plan):
    """Counts what a plan makes, given as `terraform show -json` writes it."""
    if "planned_values" not in plan:
        sys.exit("this is no plan: write it by `terraform show -json PLAN`, of a plan that `terraform plan -out` wrote")
    by_type = {}
    for found in resources(plan["planned_values"]["root_module"]):
        by_type.setdefault(found["type"], []).append(found)

    def values(kind):
        return [found["values"] for found in by_type.get(kind, [])]

    memory = {f["index"]: Decimal(f["values"]["memory_size"]) / 1024 for f in by_type.get("aws_lambda_function", [])}
    if missing := {"requests", "events", "runs"} - memory.keys():
        sys.exit(f"the plan has no function `{sorted(missing)[0]}`: it is not one of the module `functions`")
    alarms = [metrics_of(alarm) for alarm in values("aws_cloudwatch_metric_alarm")]
    # Streams, unlike queues, have a place to start from.
    polled = [m for m in by_type.get("aws_lambda_event_source_mapping", []) if m["values"].get("starting_position") is None]
    return Infrastructure(
        alarms=len(alarms),
        alarm_metrics=sum(map(len, alarms)),
        own_metrics={metric for metrics in alarms for metric in metrics if not metric[0].startswith("AWS/")},
        dashboards=len(values("aws_cloudwatch_dashboard")),
        keys=len(values("aws_kms_key")),
        queues=[q.get("kms_data_key_reuse_period_seconds") or QUEUE_KEY_SECONDS for q in values("aws_sqs_queue")],
        polled=len(polled),
        streams=sum(mapping["name"] == "stream" for mapping in polled),
        looks=sum((runs_a_month(s["schedule_expression"]) for s in values("aws_scheduler_schedule")), Decimal(0)),
        memory=memory,
        encrypted=encrypted(values),
    )


def metrics_of(alarm):
    """Returns the metrics that an alarm watches, each with its namespace and dimensions."""
    direct = [alarm] if alarm.get("metric_name") else []
    queried = [metric for query in alarm.get("metric_query") or [] for metric in query["metric"]]
    return [
        (metric["namespace"], metric["metric_name"], tuple(sorted(metric["dimensions"].items())))
        for metric in direct + queried
    ]


def is_given(values, name):
    """Returns whether an attribute has a value. One that is known after the plan is applied is not in the plan."""
    return name not in values or values[name] is not None


def encrypted(values):
    tables = [sse for table in values("aws_dynamodb_table") for sse in table.get("server_side_encryption") or []]
    buckets = [
        default
        for bucket in values("aws_s3_bucket_server_side_encryption_configuration")
        for rule in bucket["rule"]
        for default in rule["apply_server_side_encryption_by_default"]
    ]
    parts = {
        "table": any(sse["enabled"] for sse in tables),
        "bucket": any(default["sse_algorithm"] == "aws:kms" for default in buckets),
        "settings": any(is_given(function, "kms_key_arn") for function in values("aws_lambda_function")),
        "schedule": any(is_given(schedule, "kms_key_arn") for schedule in values("aws_scheduler_schedule")),
    }
    return [name for name, is_encrypted in parts.items() if is_encrypted]


def runs_a_month(expression):
    """Returns how often an expression of EventBridge Scheduler is due in a month."""
    if found := re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression):
        seconds = {"minute": 60, "hour": 3_600, "day": 86_400}[found[2]]
        return Decimal(MONTH_SECONDS) / (int(found[1]) * seconds)
    if expression.startswith("at("):
        return Decimal(0)
    found = re.fullmatch(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)", expression)
    if not found:
        sys.exit(f"`{expression}` is no expression of EventBridge Scheduler")
    minute, hour, day, month, weekday, _ = found.groups()
    days = Decimal(MONTH_DAYS) if day in "*?" else Decimal(count(day, 31))
    if weekday not in "*?":
        days = Decimal(MONTH_DAYS) * count(weekday, 7) / 7
    return days * count(minute, 60) * count(hour, 24) * count(month, 12) / 12


def count(field, all_values):
    """Returns how many values a field of a cron expression stands for, of so many."""
    total = 0
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            values = all_values
        elif "-" in span and span.replace("-", "").isdigit():
            first, last = map(int, span.split("-"))
            values = last - first + 1
        else:
            values = all_values - int(span) if step and span.isdigit() else 1
        total += -(-values // int(step or 1))
    return total


def cents(amount):
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def gigabytes(text, times):
    return Decimal(len(text.encode()) * times) / 1_000_000_000


class Row:
    """A row of a table: what, how much, at which prices, and what that costs in cents."""

    def __init__(self, what, how_much, prices, cost):
        self.what, self.how_much, self.prices, self.cost = what, how_much, prices, cents(cost)

    def __str__(self):
        return f"| {self.what} | {self.how_much} | {self.prices} | {self.cost} |"


def total(rows):
    return sum((row.cost for row in rows), Decimal(0))


def table(rows):
    head = ["| what | how much | price | cost |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *map(str, rows), f"| **together** | | | **{total(rows)}** |"])


class Costs:
    """The tables, each from rows that it keeps for sums over them."""

    def __init__(self, infrastructure, usage, prices):
        self.infrastructure, self.usage, self.prices = infrastructure, usage, prices
        self.idle = self.idle_rows()
        self.requests = self.request_rows()
        self.events = self.event_rows()
        self.log = self.log_rows()

    def blocks(self):
        """Returns the tables by name."""
        return {
            "idle": f"{table(self.idle.values())}\n\n{self.least()}",
            "requests": table(self.requests.values()),
            "events": table(self.events.values()),
            "log": f"{table(self.log.values())}\n\n{self.log_shares()}",
            "calculator": self.calculator(),
        }

    def lambda_time(self, function, seconds):
        return self.prices["lambda_time"].of(seconds * self.infrastructure.memory[function])

    def memory(self, function):
        return f"{cents(self.infrastructure.memory[function])} GB"

    def logs(self, what, lines, times):
        each = f"{len(lines.encode())} bytes"
        price = self.prices["log_ingestion"]
        return Row(what, f"{times:,} × {each}", price, price.of(gigabytes(lines, times)))

    def idle_rows(self):
        made, usage, prices = self.infrastructure, self.usage, self.prices
        looks = int(made.looks)
        reads, writes, listings = (looks * usage[f"look_{calls}"] for calls in ("reads", "writes", "listings"))
        polls = MONTH_SECONDS // POLL_SECONDS * CONNECTIONS
        data_keys = sum(MONTH_SECONDS // reuse * QUEUE_KEY_REQUESTS for reuse in made.queues)
        key_requests = looks * len(made.encrypted) + data_keys
        return {
            "looks": Row(
                "Lambda, the looks that schedules start",
                f"{looks:,} × {usage['look_seconds']} s × {self.memory('runs')}, and the requests",
                f"{prices['lambda_time']}, {prices['lambda_request']}",
                self.lambda_time("runs", looks * usage["look_seconds"]) + prices["lambda_request"].of(looks),
            ),
            "calls": Row(
                "DynamoDB, S3 requests of these looks",
                f"{reads:,} reads, {writes:,} writes, {listings:,} listings",
                f"{prices['dynamodb_read']}, {prices['dynamodb_write']}, {prices['s3_write']}",
                prices["dynamodb_read"].of(reads) + prices["dynamodb_write"].of(writes) + prices["s3_write"].of(listings),
            ),
            "schedules": Row("EventBridge Scheduler", f"{looks:,}", prices["schedule"], prices["schedule"].of(looks)),
            "queues": Row(
                f"SQS: Lambda asks each queue, {CONNECTIONS} at a time, {POLL_SECONDS} s each",
                f"{polls:,} × {made.polled} queues",
                prices["sqs_request"],
                prices["sqs_request"].of(polls * made.polled),
            ),
            "key": Row(
                "the key; a dollar more after each of its first two yearly rotations",
                made.keys,
                prices["key"],
                prices["key"].of(made.keys),
            ),
            "key requests": Row(
                "KMS requests, at most",
                f"{looks:,} looks × {len(made.encrypted)} ({', '.join(made.encrypted)}), {data_keys:,} of queues",
                prices["key_request"],
                prices["key_request"].of(key_requests),
            ),
            "alarms": Row(
                f"{made.alarms} alarms",
                f"{made.alarm_metrics} metrics",
                prices["alarm_metric"],
                prices["alarm_metric"].of(made.alarm_metrics),
            ),
            "dashboards": Row("the dashboard", made.dashboards, prices["dashboard"], prices["dashboard"].of(made.dashboards)),
            "metrics": Row(
                "the metric of the outbox",
                len(made.own_metrics),
                prices["own_metric"],
                prices["own_metric"].of(len(made.own_metrics)),
            ),
            "logs": self.logs("logs of the looks", INVOCATION_LINES + METRIC_LINE, looks),
            "storage": Row(
                "storage of the flights project",
                f"{usage['tables_gb']} GB of tables, {usage['online_gb']} GB online",
                f"{prices['s3_storage']}; {prices['dynamodb_storage']}, {prices['dynamodb_recovery']} for recovery",
                self.storage(),
            ),
        }

    def storage(self):
        usage, prices = self.usage, self.prices
        online = prices["dynamodb_storage"].of(usage["online_gb"]) + prices["dynamodb_recovery"].of(usage["online_gb"])
        return prices["s3_storage"].of(usage["tables_gb"]) + online

    def least(self):
        """Says what is left without what a project can do without."""
        made, idle = self.infrastructure, self.idle
        streams = cents(idle["queues"].cost * made.streams / made.polled) if made.polled else Decimal(0)
        left = total(idle.values()) - idle["alarms"].cost - idle["dashboards"].cost - streams
        return textwrap.fill(
            f"Without the module `observability`, and with events over HTTP instead of queues, {left} is left, of which "
            f"{idle['key'].cost} is the key.",
            WIDTH,
        )

    def key_row(self, functions, parts):
        """Returns the row of the key's requests for functions that work all month."""
        price, times = self.prices["key_request"], MONTH_SECONDS // KEY_SECONDS
        parts = [part for part in parts if part in self.infrastructure.encrypted]
        calls = len(parts) * len(functions)
        names = " and ".join(f"`{function}`" for function in functions)
        return Row(
            "KMS requests, at most",
            f"{times:,} × {calls}: every {KEY_SECONDS // 60} minutes, of {names}, for {' and '.join(parts)}",
            price,
            price.of(times * calls),
        )

    def request_rows(self):
        usage, prices = self.usage, self.prices
        return {
            "lambda": Row(
                "Lambda",
                f"{usage['request_ms']} ms × {self.memory('requests')}, and the requests",
                f"{prices['lambda_time']}, {prices['lambda_request']}",
                self.lambda_time("requests", usage["request_ms"] * MILLION / 1_000) + prices["lambda_request"].of(MILLION),
            ),
            "reads": Row(
                "DynamoDB",
                f"{usage['groups']} strongly consistent reads of up to 4 KB (`?reads=eventual` halves it)",
                prices["dynamodb_read"],
                prices["dynamodb_read"].of(usage["groups"] * MILLION),
            ),
            "logs": self.logs("logs: three lines of Lambda's own for each request", INVOCATION_LINES, MILLION),
            "keys": self.key_row(["requests"], ["table"]),
        }

    def event_rows(self):
        usage, prices = self.usage, self.prices
        batches = int(MILLION / usage["batch"])
        return {
            "items": Row(
                "DynamoDB",
                "identity 1 write, item 1 read and 1 write of up to 1 KB",
                f"{prices['dynamodb_write']}, {prices['dynamodb_read']}",
                self.identity() + self.item(),
            ),
            "objects": Row(
                "S3",
                f"{usage['batch_writes']} writes, {usage['batch_reads']} reads for each batch",
                f"{prices['s3_write']}, {prices['s3_read']}",
                self.objects(batches),
            ),
            "messages": Row(
                "SQS",
                "sent and received in tens, and deleted",
                prices["sqs_request"],
                prices["sqs_request"].of(3 * MILLION / Decimal(10)),
            ),
            "lambda": Row(
                "Lambda",
                f"{usage['event_ms']} ms an event × {self.memory('events')}, and the requests",
                f"{prices['lambda_time']}, {prices['lambda_request']}",
                self.lambda_time("events", usage["event_ms"] * MILLION / 1_000) + prices["lambda_request"].of(batches),
            ),
            "logs": self.logs("logs of the batches", INVOCATION_LINES + EVENTS_LINE, batches),
            "keys": self.key_row(["events", "flush"], ["table", "bucket"]),
        }

    def log_rows(self):
        """Returns what a million writes of the request log cost, each of one request or more."""
        prices = self.prices
        return {
            "objects": Row(
                "S3",
                "1 write, and 1 read by the flusher",
                f"{prices['s3_write']}, {prices['s3_read']}",
                prices["s3_write"].of(MILLION) + prices["s3_read"].of(MILLION),
            ),
            "items": Row(
                "DynamoDB",
                "3 writes (identity, record, removal of the record), 2 reads",
                f"{prices['dynamodb_write']}, {prices['dynamodb_read']}",
                prices["dynamodb_write"].of(3 * MILLION) + prices["dynamodb_read"].of(2 * MILLION),
            ),
            "messages": Row(
                "SQS",
                "the notification, received and deleted in tens",
                prices["sqs_request"],
                prices["sqs_request"].of(MILLION + 2 * MILLION / Decimal(10)),
            ),
        }

    def log_shares(self):
        """Says what that is for requests, if each is written by itself and if they wait for each other."""
        a_write = total(self.log.values()) / MILLION
        writes = MONTH_SECONDS // LOG_SECONDS
        return textwrap.fill(
            f"If each request were written by itself, a million requests of which 10 % are logged, as is usual, would cost "
            f"{cents(a_write * MILLION / 10)}, and of which all are logged {cents(a_write * MILLION)}; `wafer deploy` says so "
            f"for each endpoint. But an environment writes once a minute at most, unless it has 4,096 rows in less: {writes:,} "
            f"writes or {cents(a_write * writes)} a month, however much it answers. One that answers 100 requests a minute, 10 "
            f"of them logged, costs {cents(a_write * MILLION / 100)} for a million requests.",
            WIDTH,
        )

    def identity(self):
        return self.prices["dynamodb_write"].of(MILLION)

    def item(self):
        return self.prices["dynamodb_read"].of(MILLION) + self.prices["dynamodb_write"].of(MILLION)

    def objects(self, batches):
        usage, prices = self.usage, self.prices
        return prices["s3_write"].of(batches * usage["batch_writes"]) + prices["s3_read"].of(batches * usage["batch_reads"])

    def calculator(self):
        usage, prices = self.usage, self.prices
        read, requests, events = prices["dynamodb_read"].of(MILLION), self.requests, self.events
        by_batch = self.objects(MILLION).quantize(Decimal(1), ROUND_HALF_UP)
        other = [events["messages"].cost, events["lambda"].cost]
        write = prices["dynamodb_write"].of(MILLION)
        storage = self.idle["storage"].cost
        sums = [
            cents(requests["lambda"].cost + requests["logs"].cost + read * usage["groups"]),
            cents(self.identity() + usage["event_groups"] * self.item() + by_batch / usage["batch"] + sum(other)),
            requests["keys"].cost + events["keys"].cost,
            cents(usage["batch_tb"] * 2 + usage["batch_rows"] * write),
            storage,
            total(self.idle.values()) - storage,
        ]
        lines = [
            f"    requests   R × ({requests['lambda'].cost} + {requests['logs'].cost} + {number(read)} × G)",
            f"    events     E × ({number(self.identity())} + W × {number(self.item())} + {by_batch} ÷ B + "
            f"{other[0]} + {other[1]})",
            f"    keys       {sums[2]}, if requests and events come all month",
            f"    batch      T × 2 + N × {number(write)}",
            f"    storage    S tables × {number(prices['s3_storage'].dollars)} + S online × "
            f"({number(prices['dynamodb_storage'].dollars)} + {number(prices['dynamodb_recovery'].dollars)} for recovery)",
            f"    idle       {sums[-1]}",
        ]
        return "\n".join([*lines, "", f"For flights: {' + '.join(map(str, sums))} = {sum(sums)}."])


def replaced(text, blocks):
    """Returns a text with its tables made anew, and the names of these."""
    names = []

    def block(found):
        names.append(found[1])
        if found[1] not in blocks:
            sys.exit(f"there is no table of costs `{found[1]}`: there are {', '.join(blocks)}")
        return f"<!-- cost: {found[1]} -->\n\n{blocks[found[1]]}\n\n<!-- /cost -->"

    return re.sub(r"<!-- cost: (\w+) -->\n.*?<!-- /cost -->", block, text, flags=re.DOTALL), names


def write(paths, blocks):
    """Replaces the tables in files."""
    for path in paths:
        path.write_text(replaced(path.read_text(), blocks)[0])


def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=pathlib.Path, help="what `terraform show -json PLAN` wrote")
    parser.add_argument("--write", action="append", default=[], type=pathlib.Path, help="a file whose tables are made anew")
    for name, default, meaning in USAGE:
        parser.add_argument(f"--{name}", type=Decimal, default=Decimal(default), help=f"{meaning}; default {default}")
    return parser.parse_args(given)


def blocks(given):
    """Returns the tables of costs by name, for arguments."""
    plan = json.loads(given.plan.read_text())
    return Costs(read_plan(plan), vars(given), read_prices()).blocks()


def main():
    given = arguments()
    tables = blocks(given)
    write(given.write, tables)
    if not given.write:
        print("\n\n".join(f"{name}:\n\n{text}" for name, text in tables.items()))


if __name__ == "__main__":
    main()
