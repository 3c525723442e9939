"""lambda.py WAFER BOOTSTRAP [STARTS]: what the program for AWS Lambda costs, with the flights project.

Starts it again and again against a Runtime API of its own and the servers of `cargo xtask aws` (whose environment it
needs): from the start of the process to its first question for work (init) and to its first answer to a request for
features, then requests one after the other, what they take of the processor, and the memory that it holds. Prints
medians, minima and maxima.

BOOTSTRAP may be a command. `benches/without_scan.py PROGRAM` runs the program as if on Lambda's kernels, and
`infra/local/machine/bootstrap.sh` on one of them, in an emulated machine.
"""

import json
import os
import pathlib
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

REQUESTS = 2_000
FLIGHTS = pathlib.Path(__file__).parent.parent / "functions/flights"
VIEW = "arrival_delay"
ROW = {
    "tailnum": "N37470",
    "origin": "EWR",
    "dest": "IAH",
    "scheduled_departure": "2013-12-31T23:59:00Z",
    "scheduled_arrival": "2014-01-01T04:10:00Z",
}


class RuntimeApi(ThreadingHTTPServer):
    """Hands out events, and takes answers: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html"""

    daemon_threads = True

    def handle_error(self, request, client):
        """Prints nothing: a program that is killed breaks its connections."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.events, self.answers, self.asked = Queue(), Queue(), Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Answers go out in one piece.
    wbufsize = -1

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.server.asked.put(time.perf_counter())
        event = json.dumps(self.server.events.get()).encode()
        self.send_response(200)
        for name, value in (
            ("Lambda-Runtime-Aws-Request-Id", str(uuid.uuid4())),
            ("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 30_000)),
            ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:000000000000:function:wafer"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(event))),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(event)
        self.wfile.flush()

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.answers.put((time.perf_counter(), body))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()


def request():
    path = f"/v1/views/{VIEW}/features"
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "localhost"},
        "requestContext": {
            "http": {"method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "b"},
            "stage": "$default",
            "requestId": "id",
            "routeKey": "$default",
            "timeEpoch": 0,
        },
        "body": json.dumps({"rows": [ROW]}),
        "isBase64Encoded": False,
    }


def ask(url, body, headers):
    headers = headers | {
        "X-Amz-Date": "20200101T000000Z",
        "Authorization": "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/x/aws4_request, SignedHeaders=host, Signature=0",
    }
    method = "POST" if body else "PUT"
    urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method)).read()


def stores():
    """A table and a bucket of their own, as the environment of the program."""
    name = f"wafer-bench-{uuid.uuid4().hex[:12]}"
    keys = [("pk", "S", "HASH"), ("sk", "B", "RANGE")]
    table = {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": kind} for key, kind, _ in keys],
        "KeySchema": [{"AttributeName": key, "KeyType": role} for key, _, role in keys],
    }
    kind = {"X-Amz-Target": "DynamoDB_20120810.CreateTable", "Content-Type": "application/x-amz-json-1.0"}
    ask(os.environ["AWS_ENDPOINT_URL_DYNAMODB"], json.dumps(table).encode(), kind)
    ask(f"{os.environ['AWS_ENDPOINT_URL_S3']}/{name}", None, {})
    return {"WAFER_STORE_ONLINE": f"dynamodb://{name}", "WAFER_STORE_OBJECTS": f"s3://{name}/flights"}


def usage(pid):
    """What a program has used: resident memory now and at most, in MiB, and time on the processor, in milliseconds."""
    if port := os.environ.get("WAFER_MACHINE_USAGE"):
        with socket.create_connection(("127.0.0.1", int(port))) as machine, machine.makefile() as answer:
            resident, most, time_used = map(int, answer.read().split())
    else:
        process = pathlib.Path(f"/proc/{pid}")
        status = (process / "status").read_text()
        resident, most = (int(status.split(name)[1].split()[0]) for name in ("VmRSS:", "VmHWM:"))
        threads = (process / "task").glob("*/schedstat")
        time_used = sum(int(thread.read_text().split()[0]) for thread in threads)
    return resident / 1024, most / 1024, time_used / 1e6


def text(values, unit):
    return f"{statistics.median(values):.1f} {unit} ({min(values):.1f} to {max(values):.1f})"


def main(wafer, bootstrap, starts="20"):
    starts, bootstrap = int(starts), shlex.split(bootstrap)
    where = stores()
    run = lambda *arguments: subprocess.run([wafer, "-C", FLIGHTS, *arguments], env=os.environ | where, check=True)
    run("apply", "--no-build")
    for pipeline in ("airport", "airport_weather", "plane_outcome"):
        run("run", pipeline)
    inits, firsts, held = [], [], []
    for start in range(starts):
        api = RuntimeApi()
        with tempfile.TemporaryDirectory() as copies:
            own = {
                "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}",
                "AWS_LAMBDA_FUNCTION_NAME": "wafer",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"),
                "AWS_LAMBDA_FUNCTION_VERSION": "1",
                "AWS_LAMBDA_LOG_STREAM_NAME": "log",
                "AWS_LAMBDA_LOG_GROUP_NAME": "log",
                "WAFER_PROJECT": "flights",
                "WAFER_COPIES": copies,
                "WAFER_LOG": "error",
            }
            began = time.perf_counter()
            process = subprocess.Popen(bootstrap, env=os.environ | where | own)
            inits.append((api.asked.get() - began) * 1000)
            asked = time.perf_counter()
            api.events.put(request())
            ended, body = api.answers.get()
            firsts.append((ended - asked) * 1000)
            answer = json.loads(body)
            assert answer["statusCode"] == 200, answer
            held.append(usage(process.pid)[0])
            if start == starts - 1:
                times, before = [], usage(process.pid)
                for _ in range(REQUESTS):
                    asked = time.perf_counter()
                    api.events.put(request())
                    ended, _ = api.answers.get()
                    times.append((ended - asked) * 1000)
                times.sort()
                after = usage(process.pid)
                print(f"{REQUESTS} requests: p50 {times[REQUESTS // 2]:.2f} ms, p99 {times[REQUESTS * 99 // 100]:.2f} ms")
                print(f"processor time of each: {(after[2] - before[2]) / REQUESTS * 1000:.0f} µs")
                print(f"memory after them: {after[0]:.0f} MiB, {after[1]:.0f} MiB at most")
            process.kill()
            process.wait()
        api.shutdown()
    print(f"program: {os.path.getsize(bootstrap[-1]):,} bytes")
    print(f"from start to ready: {text(inits, 'ms')}")
    print(f"first request, code from S3: {text(firsts, 'ms')}")
    print(f"memory after it: {text(held, 'MiB')}")


if __name__ == "__main__":
    main(*sys.argv[1:])
