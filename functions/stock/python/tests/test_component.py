"""The component that `recipe/build.sh` makes: `WAFER_PYTHON_COMPONENT` names it."""

from __future__ import annotations

import os
import pathlib
from datetime import UTC, datetime
from typing import Any

import pytest

COMPONENT = os.environ.get("WAFER_PYTHON_COMPONENT")
if COMPONENT is None:
    pytest.skip("WAFER_PYTHON_COMPONENT names no component", allow_module_level=True)

import wasmtime
from component import PAGE, Component, Interpreter, Run, runs_between

MOST_RUNS = 16_384
STACK = range(1024, (1 << 20) + 1024)

HEAD = """
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo
import json, random
import wafer

@dataclass
class In:
    at: datetime
    text: str | None

@dataclass
class Out:
    hour: int
    \"\"\"The local hour.\"\"\"
    text: str | None = None
"""
LINE = HEAD.count("\n") + 3
"""The line of the body of a function that `called` calls."""

FUNCTION = HEAD + """
ZONE = ZoneInfo("America/New_York")
calls = 0

@wafer.function
def f(row: In) -> Out:
    global calls
    calls += 1
    return Out(row.at.astimezone(ZONE).hour, row.text and row.text * calls)
"""
WINTER, SUMMER = datetime(2013, 1, 1, 12, tzinfo=UTC), datetime(2013, 7, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def component() -> Component:
    return Component(pathlib.Path(COMPONENT or ""))


@pytest.fixture
def new(component: Component) -> Interpreter:
    return Interpreter(component)


def called(interpreter: Interpreter, body: str) -> Any:
    """Calls a function of one row, and returns its answer or the error of the row."""
    error = interpreter.function(HEAD + f"@wafer.function\ndef f(row: In) -> Out:\n    {body}\n")
    assert error is None, error
    rows, errors = interpreter.call(interpreter.inputs, interpreter.outputs, [WINTER], [None])
    return errors.get(0, rows[0])


def test_reading_a_new_memory_does_not_change_it(new: Interpreter) -> None:
    before = new.memory()
    assert new.read() == before
    assert new.memory() == before


def test_instances_of_a_function_are_the_same(component: Component) -> None:
    memories = []
    for _ in range(2):
        interpreter = Interpreter(component)
        assert interpreter.function(FUNCTION) is None
        memories.append(interpreter.read())
    assert memories[0] == memories[1]


def test_new_instances_are_given_the_memory_of_a_function(component: Component) -> None:
    initialised = Interpreter(component)
    assert initialised.function(FUNCTION) is None
    wanted = initialised.read()
    assert initialised.read() == wanted
    assert not any(wanted[STACK.start : STACK.stop])
    runs = runs_between(Interpreter(component).memory(), wanted)
    size = sum(len(content) for _, content in runs)
    print(f"{size} bytes in {len(runs)} runs, {len(wanted) // PAGE} pages")
    assert len(runs) <= MOST_RUNS and size <= 512 << 10
    for _ in range(2):
        restored = Interpreter(component)
        restored.restore(len(wanted) // PAGE, runs)
        assert restored.memory() == wanted
        assert restored.read() == wanted
        # Nothing is left of the call of another instance.
        answer = restored.call(
            initialised.inputs, initialised.outputs, [WINTER, SUMMER], ["a", None]
        )
        assert answer == ([(7, "a"), (8, None)], {})


def test_most_runs_are_restored(component: Component) -> None:
    initialised = Interpreter(component)
    assert initialised.function(FUNCTION + "numbers = list(range(10**5))") is None
    wanted = initialised.read()
    runs = runs_between(Interpreter(component).memory(), wanted)
    pieces: list[Run] = []
    for left, (at, content) in zip(range(len(runs), 0, -1), runs, strict=True):
        single = min(max(MOST_RUNS - left - len(pieces), 0), len(content) - 1)
        pieces += [(at + i, content[i : i + 1]) for i in range(single)]
        pieces.append((at + single, content[single:]))
    assert len(pieces) == MOST_RUNS
    restored = Interpreter(component)
    restored.restore(len(wanted) // PAGE, pieces)
    assert restored.memory() == wanted
    at, content = pieces.pop()
    with pytest.raises(wasmtime.Trap):
        Interpreter(component).restore(
            len(wanted) // PAGE, [*pieces, (at, content[:1]), (at + 1, content[1:])]
        )


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("return Out(json.loads('{'))", "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("return Out(datetime.now().hour)", "PermissionError: [Errno 63] Operation not permitted; a function has no clock, "),
        ("return Out(random.random())", "`random.random` has no seed, "),
        ("return Out(ZoneInfo('Utopia/Amaurot'))", "ZoneInfoNotFoundError: 'No time zone found with key Utopia/Amaurot'"),
        ("return f.function(row)", "RecursionError: maximum recursion depth exceeded"),
        ("open('/etc/passwd')", "PermissionError: [Errno 63] Operation not permitted: '/etc/passwd'; a function has no clock, "),
    ],
)
def test_errors_of_rows(new: Interpreter, body: str, error: str) -> None:
    assert called(new, body).startswith(f"code_of_test.py, line {LINE}, in f: {error}")


def test_random_numbers_of_a_seed(new: Interpreter) -> None:
    assert called(new, "return Out(random.Random(7).randrange(10**9))") == (347_712_782, None)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("return Out(len(repr(json.loads('[' * 900 + ']' * 900))))", (1800, None)),
        ("return Out(eval('+'.join('1' * 300)))", (300, None)),
    ],
)
def test_what_is_nested_as_usual_is_within_the_stack(
    new: Interpreter, body: str, answer: tuple[int, None]
) -> None:
    assert called(new, body) == answer


def test_recursion_of_functions_in_c_is_an_error_of_the_row(new: Interpreter) -> None:
    error = called(new, "return Out(eval('+'.join('1' * 2000)))")
    assert f"line {LINE}, in f: RecursionError: Stack overflow" in error


def test_traceback_is_logged_by_lines(new: Interpreter) -> None:
    called(new, "return Out(json.loads('{'))")
    assert new.messages == [
        (3, "Traceback (most recent call last):"),
        (3, f'  File "code_of_test.py", line {LINE}, in f'),
        (3, "    return Out(json.loads('{'))"),
        (3, "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ]


def test_prints_are_logged(new: Interpreter) -> None:
    called(new, "print('a', row.text); return Out(1)")
    assert new.messages == [(2, "a None")]


def test_trainer(component: Component, new: Interpreter) -> None:
    code = HEAD + """
@wafer.trainer
class Counts:
    def __init__(self):
        self.rows, self.passes = [0, 0], 0
    def feed(self, rows: list[In], role: wafer.Role) -> None:
        self.rows[role == "validation"] += len(rows)
    def next_pass(self):
        self.passes += 1
        return self.passes < 2
    def finish(self):
        return wafer.Trained({"model": bytes(3 << 19)}, {"rows": self.rows[0], "seen": self.rows[1]})
"""
    assert Interpreter(component).trainer(code, "delay") == (
        "trainer `Counts` does not ask for the label, `delay`; the fields of `In` are `at`, `text`"
    )
    assert new.trainer(code, "text") is None
    assert [(name, tag) for name, tag, *_ in new.inputs] == [("at", 6), ("text", 4)]
    assert new.feed(0, [WINTER, SUMMER], ["a", None]) is None
    assert new.feed(1, [WINTER], ["b"]) is None
    assert [new.next_pass(), new.next_pass()] == [True, False]
    assert new.finish() == ({"model": 3 << 19}, {"rows": 2.0, "seen": 1.0})
    assert new.read_artifact("model", 0) == bytes(1 << 20)
    assert new.read_artifact("model", 1 << 20) == bytes(1 << 19)


@pytest.mark.parametrize(
    "module", ["importlib.metadata", "importlib.resources", "pkgutil", "platform", "threading"]
)
def test_dependencies_can_import_what_they_seldom_need(new: Interpreter, module: str) -> None:
    assert called(new, f"__import__('{module}'); return Out(1)") == (1, None)
