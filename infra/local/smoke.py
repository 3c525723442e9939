#!/usr/bin/env python3
"""smoke.py: tests `infra/flights/smoke.sh` with programs that stand in for aws, terraform, wafer and curl.

With all answers as the pages of AWS say, each step must pass. With one answer that is otherwise, the script must stop at
the step that asks for it, say what it expected, and leave a report without the number of the account. The stand-ins are
this file under the names of the programs.
"""

import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ACCOUNT = "111122223333"
STEPS = 15
# Each is an answer that is otherwise, the step that must find it, and what the step must have expected.
OTHERWISE = {
    "another deployment": (1, "functions that are here already"),
    "a second plan has changes": (4, "a second plan finds something to change"),
    "no notification": (5, "the function flush was invoked"),
    "a dead letter": (5, "what could not be taken in"),
    "Terraform has to run": (6, "Terraform has something to do again"),
    "a mapping is disabled": (6, "what `wafer doctor --aws` finds right"),
    "messages are lost": (7, "delay of the flight that was sent"),
    "no message is moved": (8, "delay of the flight that was redriven"),
    "rows are missing": (9, "rows read and written by functions"),
    "an execution fails": (10, "state of it after a redrive"),
    "no command succeeds": (11, ""),
    "a label is missing": (11, "lines of the training set"),
    "the URL is open": (12, "a request that is not signed"),
    "an alarm": (13, "alarms"),
    "an alarm is not told": (13, "an alarm that is raised by hand is told to its topic"),
    "a queue is left": (15, "what is left with the project's tags"),
}


class Stub:
    """The stand-in for a program. What it remembers is a file in its folder."""

    def __init__(self):
        self.file = pathlib.Path(os.environ["SMOKE_STUBS"]) / "memory.json"
        self.memory = json.loads(self.file.read_text())

    def is_otherwise(self, what):
        return self.memory["otherwise"] == what

    def remember(self, name, value):
        self.memory[name] = value
        self.file.write_text(json.dumps(self.memory))

    def answer(self, program, arguments):
        if self.is_otherwise("no command succeeds") and program == "wafer":
            sys.exit("error: by the test")
        return getattr(self, program)(arguments)

    def aws(self, arguments):
        given = {name: value for name, value in zip(arguments, arguments[1:]) if name.startswith("--")}
        if arguments == ["--version"]:
            return "aws-cli/2.0.0"
        service, operation = [word for word in arguments if not word.startswith("-") and word not in ("json", "text")][:2]
        found = getattr(self, f"aws_{service}_{operation}".replace("-", "_"))(given)
        return found["Account"] if given.get("--query") == "Account" else "" if "--query" in given else json.dumps(found)

    def aws_sts_get_caller_identity(self, given):
        return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me"}

    def aws_lambda_list_functions(self, given):
        names = ["wafer-flights-runs"] if self.is_otherwise("another deployment") else ["another"]
        return {"Functions": [{"FunctionName": name} for name in names]}

    def aws_sqs_get_queue_url(self, given):
        return {"QueueUrl": f"https://sqs/{ACCOUNT}/{given['--queue-name']}"}

    def aws_sqs_get_queue_attributes(self, given):
        name = given["--queue-url"].rsplit("/", 1)[1]
        waiting = "1" if self.is_otherwise("a dead letter") and "-dead-" in name else "0"
        return {
            "Attributes": {
                "QueueArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}",
                "ApproximateNumberOfMessages": waiting,
                "ApproximateNumberOfMessagesNotVisible": "0",
            }
        }

    def aws_sqs_send_message(self, given):
        event = json.loads(given["--message-body"])
        name = given["--queue-url"].split("wafer-flights-")[1]
        if not self.is_otherwise("messages are lost"):
            self.remember(name, event)
        return {"MessageId": "m"}

    def aws_sqs_start_message_move_task(self, given):
        assert given["--source-arn"].endswith(":wafer-flights-dead-events"), given
        assert given["--destination-arn"].endswith(":wafer-flights-landed_flights"), given
        if not self.is_otherwise("no message is moved"):
            self.remember("landed_flights", self.memory["dead-events"])
        return {"TaskHandle": "t"}

    def aws_logs_filter_log_events(self, given):
        is_start = given["--filter-pattern"] == "START" and not self.is_otherwise("no notification")
        return {"events": [{"message": "START"}] if is_start else []}

    def aws_logs_describe_log_groups(self, given):
        return {"logGroups": []}

    def aws_cloudwatch_describe_alarms(self, given):
        return {"MetricAlarms": [{"AlarmName": "wafer-flights-late"}] if self.is_otherwise("an alarm") else []}

    def aws_cloudwatch_set_alarm_state(self, given):
        assert given["--state-value"] == "ALARM", given
        self.remember("raised", given["--alarm-name"])
        return ""

    def aws_cloudwatch_describe_alarm_history(self, given):
        assert given["--alarm-name"] == self.memory.get("raised") and given["--history-item-type"] == "Action", given
        now = datetime.datetime.now(datetime.timezone.utc)
        since = datetime.datetime.fromisoformat(given["--start-date"].replace("Z", "+00:00"))
        assert now - datetime.timedelta(minutes=10) < since <= now, given
        done = "Failed to execute action" if self.is_otherwise("an alarm is not told") else "Successfully executed action"
        summary = f"{done} arn:aws:sns:us-east-1:{ACCOUNT}:wafer-flights-alarms"
        return {"AlarmHistoryItems": [{"HistoryItemType": "Action", "HistorySummary": summary}]}

    def aws_cloudwatch_get_metric_statistics(self, given):
        return {"Datapoints": [{"Sum": 60000.0}, {"Sum": 1.0}]}

    def aws_stepfunctions_start_execution(self, given):
        assert json.loads(given["--input"])["plan"]["pipeline"] == "airport_weather", given
        assert given["--state-machine-arn"].startswith("arn:"), given
        self.remember("execution", "RUNNING")
        return {"executionArn": f"arn:aws:states:us-east-1:{ACCOUNT}:execution:wafer-flights-batch:1"}

    def aws_stepfunctions_stop_execution(self, given):
        self.remember("execution", "ABORTED")
        return {}

    def aws_stepfunctions_redrive_execution(self, given):
        self.remember("execution", "FAILED" if self.is_otherwise("an execution fails") else "SUCCEEDED")
        return {}

    def aws_stepfunctions_describe_execution(self, given):
        return {"status": self.memory["execution"]}

    def aws_kms_describe_key(self, given):
        assert given["--key-id"].startswith("arn:aws:kms:"), given
        return {"KeyMetadata": {"KeyState": "PendingDeletion"}}

    def aws_resourcegroupstaggingapi_get_resources(self, given):
        left = ["kms:us-east-1:1:key/k"] + ["sqs:us-east-1:1:q"] * self.is_otherwise("a queue is left")
        return {"ResourceTagMappingList": [{"ResourceARN": f"arn:aws:{rest}"} for rest in left]}

    def aws_configure_export_credentials(self, given):
        return {"AccessKeyId": "AKID", "SecretAccessKey": "SECRET", "SessionToken": "TOKEN"}

    def terraform(self, arguments):
        if arguments == ["version"]:
            return "Terraform v1.10.0"
        folder, command = pathlib.Path(arguments[0].removeprefix("-chdir=")), arguments[1]
        if command == "init":
            (folder / ".terraform.lock.hcl").write_text("")
        if command == "plan" and self.is_otherwise("a second plan has changes"):
            print("~ resource")
            sys.exit(2)
        machine = f"arn:aws:states:us-east-1:{ACCOUNT}:stateMachine:wafer-flights-batch"
        outputs = {
            "environment": f"export AWS_REGION=us-east-1\nexport WAFER_STATE_MACHINE={machine}\n",
            "url": "https://u.lambda-url.us-east-1.on.aws/",
        }
        key = {"type": "aws_kms_key", "values": {"arn": f"arn:aws:kms:us-east-1:{ACCOUNT}:key/k"}}
        shown = {"values": {"root_module": {"child_modules": [{"resources": [key]}]}}}
        return outputs[arguments[-1]] if command == "output" else json.dumps(shown) if command == "show" else ""

    def wafer(self, arguments):
        if "package" in arguments:
            pathlib.Path("dist").mkdir(exist_ok=True)
            pathlib.Path("dist/wafer-x86_64.zip").write_text("")
        return getattr(self, "wafer_" + arguments[2].replace("-", "_"), lambda _: "")(arguments) if arguments[2:] else ""

    def wafer_deploy(self, arguments):
        if "--prepare" in arguments:
            made = {"streams": ["landed_flights", "weather_reports"]}
            pathlib.Path(arguments[-1]).write_text(json.dumps(made))
        return json.dumps({"tfvars_changed": self.is_otherwise("Terraform has to run")})

    def wafer_doctor(self, arguments):
        wrong = ["concurrency"] + ["wafer-flights-landed_flights"] * self.is_otherwise("a mapping is disabled")
        queues = ["wafer-flights-landed_flights", "wafer-flights-weather_reports"]
        names = ["cargo", "credentials", "bucket", "wafer-flights-events", "concurrency", *queues]
        print(json.dumps([{"what": name, "ok": name not in wrong, "detail": "…"} for name in names]))
        sys.exit(1)

    def wafer_run(self, arguments):
        if "plane_outcome" not in arguments:
            return json.dumps({"rows_written": 1458})
        if self.memory.get("ran"):
            return json.dumps({"ran": None})
        self.remember("ran", True)
        rows = 328062 if self.is_otherwise("rows are missing") else 328063
        return json.dumps({"rows_read": 336776, "rows_written": rows})

    def wafer_get(self, arguments):
        flight, report = self.memory.get("landed_flights", {}), self.memory.get("weather_reports", {})
        features = {
            "plane_arr_delay_minutes": flight.get("arr_delay"),
            "weather_humidity_percent": report.get("humid"),
        }
        return json.dumps({"features": features})

    def wafer_training_set(self, arguments):
        given = dict(zip(arguments, arguments[1:]))
        rows = pathlib.Path(given["--labels"]).read_text().splitlines(keepends=True)
        rows = rows[:-1] if self.is_otherwise("a label is missing") else rows
        pathlib.Path(given["--out"]).write_text("".join(rows))
        return ""

    def curl(self, arguments):
        assert not any("SECRET" in argument for argument in arguments), arguments
        if "--aws-sigv4" not in arguments:
            return "200" if self.is_otherwise("the URL is open") else "403"
        settings = sys.stdin.read()
        wanted = 'user = "AKID:SECRET"\nheader = "x-amz-security-token: TOKEN"\n'
        return "200" if settings == wanted else "403"


def run(folder, otherwise, arguments):
    """Runs the script with one answer that is otherwise, or none."""
    memory = folder / "memory.json"
    if not memory.exists() or otherwise or not arguments:
        memory.write_text(json.dumps({"otherwise": otherwise}))
    environment = os.environ | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "SMOKE_STUBS": str(folder),
        "AWS_REGION": "us-east-1",
        "WAFER_SMOKE_PAUSE": "0",
    }
    script = folder / "root/infra/flights/smoke.sh"
    command = ["bash", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def prepare(folder):
    """Makes a folder with the script, what it reads, and the stand-ins."""
    flights = folder / "root/infra/flights"
    flights.mkdir(parents=True)
    for path in (ROOT / "infra/flights").glob("*.*"):
        shutil.copy(path, flights)
    shutil.copytree(ROOT / "infra/modules", folder / "root/infra/modules")
    data = folder / "root/functions/flights/data"
    data.mkdir(parents=True)
    shutil.copy(ROOT / "functions/flights/data/departures.csv", data)
    (folder / "bin").mkdir()
    for program in ("aws", "terraform", "wafer", "curl"):
        path = folder / "bin" / program
        path.write_text(f"#!{sys.executable}\n" + pathlib.Path(__file__).read_text())
        path.chmod(0o755)


def check(condition, otherwise, said):
    if not condition:
        sys.exit(f"smoke.sh is wrong when the answers have this otherwise: {otherwise}:\n{said}")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        prepare(folder)
        report = folder / "root/infra/flights/smoke/report.txt"
        status, said = run(folder, None, ["--dry-run"])
        check(status == 0 and "Nothing was done" in said and not report.exists(), "nothing (dry run)", said)
        status, said = run(folder, None, [])
        check(status == 0 and "All as expected" in said and "DIFFERS" not in said, "nothing", said)
        check(all(f"\n{step} of {STEPS}: " in said for step in range(1, STEPS + 1)), "nothing", said)
        check(ACCOUNT not in report.read_text() and "SECRET" not in said, "nothing (report)", said)
        for otherwise, (step, expected) in OTHERWISE.items():
            status, said = run(folder, otherwise, ["--only", str(step)])
            check(status == 1 and f"Step {step} came out otherwise" in said, otherwise, said)
            check(not expected or f"DIFFERS  {expected}" in said, otherwise, said)
            check(ACCOUNT not in report.read_text(), otherwise, report.read_text())
    print(f"smoke.sh: {STEPS} steps, {len(OTHERWISE)} answers that are otherwise")


if __name__ == "__main__":
    program = pathlib.Path(sys.argv[0]).name
    if "SMOKE_STUBS" in os.environ and program in ("aws", "terraform", "wafer", "curl"):
        print(Stub().answer(program, sys.argv[1:]), end="")
    else:
        main()
