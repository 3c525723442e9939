"""The component, and how it is called: as that of Python functions is, from whose tests this comes."""

from __future__ import annotations

import os
import pathlib
import sys
import types
from typing import Any

import pytest

HERE = pathlib.Path(__file__).parent
PYTHON = HERE.parents[1] / "python"
sys.path[:0] = [str(PYTHON / "library"), str(PYTHON / "tests")]
log = types.ModuleType("_wafer")
log.log = log.keep = lambda *_: None  # type: ignore[attr-defined]
sys.modules["_wafer"] = log

import component as harness


class JavaScript(harness.Interpreter):
    """A new instance of the interpreter."""

    language = "javascript"
    file = "code_of_test.js"


HEAD = 'import { fn, trainer, types as t, Refused } from "wafer";\n'
LINE = 3
"""The line of the body of a function of one row."""


def of_body(body: str, inputs: str = "x: t.nullable(t.float64)", outputs: str = "y: t.nullable(t.float64)") -> str:
    """Returns the source of a function of one row."""
    declared = f"{{ inputs: {{ {inputs} }}, outputs: {{ {outputs} }} }}"
    return HEAD + f"export default fn({declared}, function f(row) {{\n{body}\n}});\n"


@pytest.fixture(scope="session")
def component(tmp_path_factory: Any) -> harness.Component:
    """The component that `WAFER_JAVASCRIPT_COMPONENT` names, or the one that is committed."""
    named = os.environ.get("WAFER_JAVASCRIPT_COMPONENT")
    if named is None:
        import zstandard

        packed = (HERE.parent / "javascript.wasm.zst").read_bytes()
        named = tmp_path_factory.mktemp("component") / "javascript.wasm"
        named.write_bytes(zstandard.decompress(packed))
    return harness.Component(pathlib.Path(named))


@pytest.fixture
def new(component: harness.Component) -> JavaScript:
    return JavaScript(component)


def called(interpreter: JavaScript, code: str, *columns: list[Any], **options: Any) -> Any:
    """Returns the rows and the errors of a function that is called once."""
    error = interpreter.function(code, **options)
    assert error is None, error
    return interpreter.call(interpreter.inputs, interpreter.outputs, *columns)


def error_of(interpreter: JavaScript, body: str) -> str:
    """Returns the error of the only row of a function."""
    _, errors = called(interpreter, of_body(body), [1.0])
    return str(errors[0])
