"""What is not a function is refused when it is registered, with a sentence and a way out."""

import io
import zipfile

import pytest
from conftest import MESSAGES
from guest import Guest

HEAD = """from dataclasses import dataclass
import wafer
@dataclass
class In:
    a: float
@dataclass
class Out:
    x: float
"""
FUNCTION = "@wafer.function\ndef f(r: In) -> Out: return Out(r.a)\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("@wafer.function\ndef f(r) -> Out: ...", "parameter `r` of function `f` has no type hint"),
        ("@wafer.function\ndef f(r: In): ...", "function `f` has no type hint for what it returns"),
        ("@wafer.function\ndef f() -> Out: ...", "function `f` takes nothing"),
        ("@wafer.function\ndef f(r: float) -> Out: ...", "parameter `r` of function `f` is `float`, and has to be a dataclass"),
        ("@wafer.function\ndef f(r: In) -> float: ...", "what function `f` returns is `float`, and has to be a dataclass"),
        ("@wafer.function\ndef f(r: In, s: int) -> Out: ...", "function `f` has 2 parameters, and is given a row; a second one needs `init=`"),
        ("@wafer.function\nasync def f(r: In) -> Out: ...", "function `f` is `async`"),
        ("@wafer.function(columns=True)\ndef f(r: In) -> Out: ...", "has to be wafer.Columns[Input]"),
        ("@dataclass\nclass Bad:\n    z: complex\n@wafer.function\ndef f(r: Bad) -> Out: ...", "field `z` of `Bad` has the type `complex`, which no column has: bool, int"),
        ("@dataclass\nclass Bad:\n    z: dict[str, int]\n@wafer.function\ndef f(r: Bad) -> Out: ...", "field `z` of `Bad` has the type `dict[str, int]`"),
        ("@dataclass\nclass Bad:\n    z: int | str\n@wafer.function\ndef f(r: Bad) -> Out: ...", "field `z` of `Bad` has the type `int | str`"),
        ("@wafer.function\ndef f(r: 'Nowhere') -> Out: ...", "a type hint of function `f` cannot be read: name 'Nowhere' is not defined"),
        ("", "has no function: write `@wafer.function` above one"),
        (FUNCTION + "@wafer.function\ndef g(r: In) -> Out: ...", 'has the functions `f`, `g`: say which, as in `python = "FILE.py:f"`'),
    ],
)
def test_function_without_a_signature(code: str, message: str) -> None:
    error = Guest(HEAD + code).error
    assert error is not None and message in error


@pytest.mark.parametrize(
    ("line", "without"),
    [
        ("import os", "files, processes or an environment"),
        ("import os.path as p", "files, processes or an environment"),
        ("from os import environ", "files, processes or an environment"),
        ("import socket", "sockets"),
        ("import json, subprocess", "processes"),
        ("from ctypes import CDLL", "native code"),
        ("import threading", "threads"),
        ("from urllib.request import urlopen", "sockets"),
        ("from urllib import request", "sockets"),
        ("import asyncio", "sockets"),
        ("import sqlite3", "files"),
    ],
)
def test_import_of_what_a_function_has_not(line: str, without: str) -> None:
    error = Guest(HEAD + line + "\n" + FUNCTION).error
    assert error is not None
    assert error.startswith(f"code_of_test.py, line {HEAD.count(chr(10)) + 1}: a function cannot import `")
    assert f"it has no {without}" in error


def test_import_hidden_from_the_source_is_refused_too() -> None:
    error = Guest(HEAD + "__import__('cffi')\n" + FUNCTION).error
    assert error is not None and "a function cannot import `cffi`: it has no native code" in error


def test_native_package_is_refused() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("ride.py", HEAD + "import fast\n" + FUNCTION)
        archive.writestr("site-packages/fast.cpython-314-x86_64-linux-gnu.so", b"\x7fELF")
    error = Guest(content.getvalue(), file="ride.py").error
    assert error is not None and "`fast` is native code" in error


def test_import_error_shows_own_lines_only() -> None:
    error = Guest(HEAD + "import absent\n" + FUNCTION).error
    line = HEAD.count("\n") + 1
    assert error == (
        "Traceback (most recent call last):\n"
        f'  File "code_of_test.py", line {line}, in <module>\n'
        "    import absent\n"
        "ModuleNotFoundError: No module named 'absent'"
    )


def test_syntax_error_names_the_line() -> None:
    error = Guest(HEAD + "def f(:\n").error
    assert error is not None and f"line {HEAD.count(chr(10)) + 1}" in error and "SyntaxError" in error


def test_source_that_is_no_text() -> None:
    error = Guest(b"x = '\xff'").error
    assert error is not None and "code_of_test.py is not text in UTF-8" in error


def test_end_of_python_is_an_error_of_the_row() -> None:
    code = HEAD + "@wafer.function\ndef f(r: In) -> Out: raise SystemExit(3)"
    _, _, errors = Guest(code).call([1.0])
    assert "SystemExit: 3; a function cannot end Python" in errors[0]


def test_memory_that_is_not_there_is_an_error_of_the_row() -> None:
    code = HEAD + "@wafer.function\ndef f(r: In) -> Out: raise MemoryError"
    _, _, errors = Guest(code).call([1.0])
    assert errors[0].endswith("MemoryError; the setting `memory` of the function says how much there is")


def test_recursion_is_an_error_of_the_row() -> None:
    code = HEAD + "@wafer.function\ndef f(r: In) -> Out: return f.function(r)"
    _, _, errors = Guest(code).call([1.0])
    assert "RecursionError" in errors[0]


def test_traceback_of_a_row_is_logged_with_own_lines() -> None:
    MESSAGES.clear()
    code = HEAD + "import json\n@wafer.function\ndef f(r: In) -> Out: return Out(json.loads('{'))"
    _, _, errors = Guest(code).call([1.0] * 9)
    line = HEAD.count("\n") + 3
    assert len(errors) == 9
    source = "def f(r: In) -> Out: return Out(json.loads('{'))"
    message = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    lines = [
        "Traceback (most recent call last):",
        f'  File "code_of_test.py", line {line}, in f',
        f"    {source}",
        f"JSONDecodeError: {message}",
    ]
    # Each line is a message, and only the first rows of a batch have a traceback.
    assert MESSAGES == [(3, text) for text in lines] * 3
    assert errors[8] == f"code_of_test.py, line {line}, in f: JSONDecodeError: {message}"


def test_parameters_without_init() -> None:
    error = Guest(HEAD + FUNCTION, speed="3").error
    assert error is not None and "has no `init=`, which would take the parameters `speed`" in error


def test_wrong_name_of_a_file() -> None:
    error = Guest(HEAD + FUNCTION, file="my-ride.py").error
    assert error == "`my-ride.py` is not a name of a module, which has letters, digits and `_`"


def test_file_with_the_name_of_a_module_of_python() -> None:
    error = Guest(HEAD + FUNCTION, file="random.py").error
    assert error == "`random` is a module of Python itself: give the file another name"


def test_function_that_is_not_there() -> None:
    error = Guest(HEAD + FUNCTION, python_function="g").error
    assert error == "`code_of_test` has no function `g` (it has `f`)"


def test_archive_that_is_cut() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("ride.py", HEAD + FUNCTION)
    error = Guest(content.getvalue()[:-30], file="ride.py").error
    assert error is not None and "the archive of the code cannot be read" in error


def test_error_in_a_dependency_names_the_line_of_the_author() -> None:
    content = io.BytesIO()
    code = HEAD + "import helper\n@wafer.function\ndef f(r: In) -> Out:\n    return helper.fail()\n"
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("ride.py", code)
        archive.writestr("site-packages/helper.py", "def fail():\n    raise ValueError('no')\n")
    MESSAGES.clear()
    _, _, errors = Guest(content.getvalue(), file="ride.py").call([1.0])
    line = code.count("\n")
    assert errors == {0: f"ride.py, line {line}, in f: ValueError: no"}
    assert [message for _, message in MESSAGES] == [
        "Traceback (most recent call last):",
        f'  File "ride.py", line {line}, in f',
        "    return helper.fail()",
        "ValueError: no",
    ]


def test_error_of_whole_columns_names_the_line() -> None:
    code = HEAD + (
        "@wafer.function(columns=True)\n"
        "def f(c: wafer.Columns[In]) -> wafer.Columns[Out]:\n"
        "    raise wafer.Refused('no such model')\n"
    )
    message = Guest(code).call([1.0])
    assert message == f"code_of_test.py, line {code.count(chr(10))}, in f: no such model"
