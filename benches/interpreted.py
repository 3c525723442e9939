"""interpreted.py WAFER [PYTHON JAVASCRIPT]: what does a function cost whose interpreter is shared?

A project of one function: the first `wafer apply` of a user, with an empty cache, and `wafer apply` after an edit. Then
a project of many different functions, 1,000 in Python and 100 in JavaScript unless other numbers are given: how long
`wafer apply` takes, what the store grows by for each, how fast the first call of each is over HTTP, and what memory the
server has before and after. Functions are of several shapes: arithmetic, regular expressions, time zones, tables that
are made when the module is loaded, imports of the standard library, whole columns, and folders of modules. Every answer
is compared with what it has to be.

Prints medians with their spread. Everything is below a folder for temporary files, which is removed.
"""

import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager

# Rounds of everything that is done more than once.
ROUNDS = 3
# A request to every view, of which each function reads what it needs.
REQUEST = {"amount": 7.0, "words": "order 12 of 40", "at": "2026-01-05T11:00:00Z"}
FIELDS = 'request = { amount = "float64", words = "utf8", at = "timestamp" }'

# How a module in Python begins and ends. Between them is the code of a shape, whose `score` is what `body` returns.
PYTHON = '''"""Function number {number}."""

from dataclasses import dataclass
from datetime import datetime

import wafer
{code}

@dataclass
class Payment:
    """What the request brings along."""

    amount: float
    """EUR."""
    words: str
    """What the customer wrote."""
    at: datetime
    """When it was asked for."""


@dataclass
class Score:
    """The answer."""

    score: float
    """A number."""
'''
PYTHON_ROWS = '''

@wafer.function
def score(payment: Payment) -> Score:
    """Computes score {number} of a payment."""
    return Score(body(payment))
'''
PYTHON_COLUMNS = '''

@wafer.function(columns=True)
def score(payments: wafer.Columns[Payment]) -> wafer.Columns[Score]:
    """Computes score {number} of payments."""
    return wafer.Columns(score=[body(amount) for amount in payments.amount])
'''
# Of each shape: its code, the rest of the module, and what the answer to the request is.
PYTHON_SHAPES = [
    ("\n\ndef body(payment):\n    return payment.amount * {number} + 0.5\n", PYTHON_ROWS, lambda n: 7 * n + 0.5),
    (
        'import re\n\nNUMBER = re.compile(r"order (\\d+)")\n\n\n'
        "def body(payment):\n    return float(NUMBER.match(payment.words)[1]) + {number}\n",
        PYTHON_ROWS,
        lambda n: 12.0 + n,
    ),
    (
        'from zoneinfo import ZoneInfo\n\nBERLIN = ZoneInfo("Europe/Berlin")\n\n\n'
        "def body(payment):\n    return float(payment.at.astimezone(BERLIN).hour + {number})\n",
        PYTHON_ROWS,
        lambda n: 12.0 + n,
    ),
    (
        '\nTABLE = {{f"key {{index}}": float(index * {number}) for index in range(2_000)}}\n\n\n'
        'def body(payment):\n    return TABLE[f"key {{int(payment.amount)}}"]\n',
        PYTHON_ROWS,
        lambda n: 7.0 * n,
    ),
    (
        "import decimal\nimport functools\nimport itertools\nimport json\nimport math\nimport statistics\n"
        "from collections import Counter\n"
        "\n\ndef body(payment):\n    return statistics.fmean([payment.amount, {number}])\n",
        PYTHON_ROWS,
        lambda n: (7 + n) / 2,
    ),
    ("\n\ndef body(amount):\n    return amount - {number}\n", PYTHON_COLUMNS, lambda n: 7.0 - n),
    (
        "from parts import eighth\n\n\ndef body(payment):\n    return eighth.part(payment.amount) + {number}\n",
        PYTHON_ROWS,
        lambda n: 15.0 + n,
    ),
]
# What the last shape imports: modules that each import another one.
PARTS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")

JAVASCRIPT = """import {{ fn, types as t }} from "wafer";
{code}
const inputs = {{ amount: t.float64, words: t.utf8, at: t.timestamp }};
const outputs = {{ score: t.float64.doc("A number.") }};
"""
JAVASCRIPT_ROWS = """
export default fn(
  {{ doc: "Computes score {number} of a payment.", inputs, outputs }},
  (payment) => ({{ score: body(payment) }}),
);
"""
JAVASCRIPT_COLUMNS = """
export default fn(
  {{ doc: "Computes score {number} of payments.", inputs, outputs, columns: true }},
  ({{ columns: {{ amount }} }}) => ({{ score: amount.map(body) }}),
);
"""
JAVASCRIPT_SHAPES = [
    ("const body = (payment) => payment.amount * {number} + 0.5;", JAVASCRIPT_ROWS, lambda n: 7 * n + 0.5),
    (
        "const ORDER = /order (\\d+)/;\nconst body = (payment) => Number(ORDER.exec(payment.words)[1]) + {number};",
        JAVASCRIPT_ROWS,
        lambda n: 12.0 + n,
    ),
    (
        "const table = new Map();\n"
        "for (let index = 0; index < 2000; index++) table.set(`key ${{index}}`, index * {number});\n"
        "const body = (payment) => table.get(`key ${{payment.amount}}`);",
        JAVASCRIPT_ROWS,
        lambda n: 7.0 * n,
    ),
    ("const body = (amount) => amount - {number};", JAVASCRIPT_COLUMNS, lambda n: 7.0 - n),
    (
        'import {{ part }} from "./parts/eighth.js";\nconst body = (payment) => part(payment.amount) + {number};',
        JAVASCRIPT_ROWS,
        lambda n: 15.0 + n,
    ),
]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def python_function(folder, number):
    """Writes function `number`, and returns its path in the project and what it answers."""
    code, rest, answer = PYTHON_SHAPES[number % len(PYTHON_SHAPES)]
    text = (PYTHON.replace("{code}", code) + rest).format(number=number)
    if "parts" not in code:
        write(folder / f"f{number}.py", text)
        return f"f{number}.py:score", answer(number)
    # The module that has the function is the one that is named like the table of `wafer.toml`.
    write(folder / f"f{number}/f{number}.py", text)
    write(folder / f"f{number}/parts/__init__.py", "")
    for index, name in enumerate(PARTS):
        before = f"from parts import {PARTS[index - 1]}\n\n\n" if index else ""
        value = f"{PARTS[index - 1]}.part(amount) + 1" if index else "amount + 1"
        write(folder / f"f{number}/parts/{name}.py", f"{before}def part(amount):\n    return {value}\n")
    return f"f{number}:score", answer(number)


def javascript_function(folder, number):
    """Writes function `number`, and returns its path in the project and what it answers."""
    code, rest, answer = JAVASCRIPT_SHAPES[number % len(JAVASCRIPT_SHAPES)]
    text = (JAVASCRIPT.replace("{code}", code) + rest).format(number=number)
    if "./parts" not in code:
        write(folder / f"f{number}.js", text)
        return f"f{number}.js", answer(number)
    write(folder / f"f{number}/index.js", text)
    for index, name in enumerate(PARTS):
        before = f'import {{ part as before }} from "./{PARTS[index - 1]}.js";\n' if index else ""
        value = "before(amount) + 1" if index else "amount + 1"
        write(folder / f"f{number}/parts/{name}.js", f"{before}export const part = (amount) => {value};\n")
    return f"f{number}", answer(number)


def project(folder, language, count):
    """Writes a project of `count` functions, each in a view of its own, and returns what each answers."""
    make = {"python": python_function, "javascript": javascript_function}[language]
    lines, answers = ['[project]\nname = "many"\n'], []
    for number in range(count):
        source, answer = make(folder, number)
        answers.append(answer)
        lines.append(f'[functions.f{number}]\n{language} = "{source}"\n')
        lines.append(f'[views.f{number}]\n{FIELDS}\nfunctions = ["f{number}"]\n')
    write(folder / "wafer.toml", "\n".join(lines))
    return answers


def run(wafer, folder, *arguments):
    """Runs a command, and returns its seconds, and processor seconds with those of its children."""
    before, begun = os.times(), time.perf_counter()
    command = [wafer, "-C", folder, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    took, after = time.perf_counter() - begun, os.times()
    if done.returncode or "does not share" in done.stderr:
        raise SystemExit(f"{command}: {done.stderr}")
    return took, sum(after[2:4]) - sum(before[2:4])


def disk(folder):
    """Returns the bytes that a folder takes on disk, and that its files have."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(file.st_blocks * 512 for file in files), sum(file.st_size for file in files)


def spread(values, unit="s", digits=2):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} {unit} ({low:,.{digits}f} to {high:,.{digits}f})"


def one_function(wafer, work, language):
    """The project of `wafer new`: the first apply of a user, and applies after edits."""
    first, edited, added = [], [], []
    for turn in range(ROUNDS):
        os.environ["WAFER_CACHE"] = f"{work}/{language}-cache-{turn}"
        folder = work / f"{language}-one-{turn}"
        subprocess.run([wafer, "new", folder, "--lang", language], check=True, capture_output=True)
        first.append(run(wafer, folder, "apply"))
        source = next(folder.glob("ride_features.*"))
        for _ in range(ROUNDS):
            before = disk(folder / ".wafer")
            source.write_text(source.read_text().replace(" * 60", " * 60 * 1", 1))
            edited.append(run(wafer, folder, "apply"))
            added.append([b - a for a, b in zip(before, disk(folder / ".wafer"))])
    for name, times in (("first apply of a user", first), ("apply after an edit", edited)):
        took, processor = zip(*times)
        print(f"{language}: {name}: {spread(took)}; {spread(processor, 'processor seconds')}")
    taken, size = zip(*added)
    print(f"{language}: an edit adds {spread(taken, 'bytes on disk', 0)}, {spread(size, 'bytes of files', 0)}")


@contextmanager
def serving(wafer, folder):
    """Starts a server, and gives its process, its address, and the seconds until it answers."""
    begun = time.perf_counter()
    command = [wafer, "-C", folder, "serve", "--listen", "127.0.0.1:0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = next(filter(None, (re.match("serving .* on http://([^/\n]*)", said) for said in server.stderr)))[1]
        yield server.pid, address, time.perf_counter() - begun
    finally:
        server.terminate()
        server.wait()


def memory(pid):
    """Returns resident and private memory in MiB."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {name: int(size) / 1024 for name, size in re.findall(r"(\w+): +(\d+) kB", text)}
    return sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"]


def processor_ms(pid):
    threads = pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e6


def call_each(pid, connection, answers):
    """Calls each function once, and returns the milliseconds and the processor milliseconds of each."""
    body, took, used = json.dumps({"rows": [REQUEST]}), [], []
    for number, wanted in enumerate(answers):
        before, begun = processor_ms(pid), time.perf_counter()
        connection.request("POST", f"/v1/views/f{number}/features", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        took.append((time.perf_counter() - begun) * 1e3)
        used.append(processor_ms(pid) - before)
        if answer.status != 200 or json.loads(said)["rows"][0]["features"]["score"] != wanted:
            raise SystemExit(f"function {number} has to answer {wanted}, and answered {said.decode()}")
    return took, used


def percentile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def many_functions(wafer, work, language, count):
    """A project of many functions, whose interpreter is compiled already."""
    folder = work / f"{language}-many"
    project(folder, language, 1)
    run(wafer, folder, "apply")
    before = disk(folder / ".wafer")
    answers = project(folder, language, count)
    took, processor = run(wafer, folder, "apply")
    print(f"{language}: apply of {count - 1} new functions: {took:.1f} s, {processor:.1f} processor seconds")
    taken, size = ((b - a) / (count - 1) for a, b in zip(before, disk(folder / ".wafer")))
    print(f"{language}: each adds {taken:,.0f} bytes on disk, {size:,.0f} bytes of files")
    print(f"{language}: apply that changes nothing: {spread([run(wafer, folder, 'apply')[0] for _ in range(ROUNDS)])}")
    edits = []
    for _ in range(ROUNDS):
        source = folder / ("f0.py" if language == "python" else "f0.js")
        source.write_text(source.read_text().replace(" + 0.5", " + 0.5 + 0", 1))
        edits.append(run(wafer, folder, "apply")[0])
    print(f"{language}: apply after an edit of one of {count}: {spread(edits)}")
    rounds = [serve_many(wafer, folder, answers) for _ in range(ROUNDS)]
    for name in rounds[0]:
        unit = "KiB" if "each" in name else "MiB" if "memory" in name else "s" if "start" in name else "ms"
        print(f"{language}: {name}: {spread([values[name] for values in rounds], unit)}")


def serve_many(wafer, folder, answers):
    """Starts a server, calls each function twice, and returns what was measured."""
    measured = {}
    with serving(wafer, folder) as (pid, address, measured["start of the server"]):
        started = memory(pid)
        connection = http.client.HTTPConnection(address)
        (measured["very first call"],), _ = call_each(pid, connection, answers[:1])
        _, one = memory(pid)
        first = call_each(pid, connection, answers)
        called = memory(pid)
        second = call_each(pid, connection, answers)
    for name, calls in (("first call of a function", first), ("second call", second)):
        for what, values in zip(("", ", processor time"), calls):
            # The first one of them was called before.
            values = values[1:]
            measured[f"{name}{what}, median"] = statistics.median(values)
            measured[f"{name}{what}, p99"] = percentile(values, 0.99)
            measured[f"{name}{what}, max"] = max(values)
    for name, (resident, private) in (("the start", started), ("all were called", called)):
        measured[f"memory after {name}, resident"] = resident
        measured[f"memory after {name}, private"] = private
    measured["private, each function"] = (called[1] - one) * 1024 / (len(answers) - 1)
    return measured


def main(wafer, python=1_000, javascript=100):
    wafer = pathlib.Path(wafer).absolute()
    os.environ["WAFER_LOG"] = "warn"
    with tempfile.TemporaryDirectory() as work:
        for language, count in (("python", int(python)), ("javascript", int(javascript))):
            one_function(wafer, pathlib.Path(work), language)
            many_functions(wafer, pathlib.Path(work), language, count)


if __name__ == "__main__":
    main(*sys.argv[1:])
