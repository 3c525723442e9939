"""Functions in all their forms, from columns to columns."""

import io
import zipfile
from datetime import UTC, date, datetime

import pytest
from guest import Guest

HEAD = """
from dataclasses import dataclass
from datetime import date, datetime
from collections.abc import Iterator
import wafer

@dataclass
class In:
    a: float
    b: int | None

@dataclass
class Out:
    x: float
    y: int | None = None
"""


def test_one_row_for_each_row() -> None:
    guest = Guest(HEAD + "@wafer.function\ndef f(r: In) -> Out: return Out(r.a * 2, r.b)")
    assert guest.call([1.0, 2.0], [3, None]) == ([(2.0, 3), (4.0, None)], None, {})


def test_none_leaves_out_a_row() -> None:
    code = "@wafer.function\ndef f(r: In) -> Out | None: return Out(r.a) if r.a > 1 else None"
    assert Guest(HEAD + code).call([1.0, 2.0, 3.0], [0, 0, 0]) == (
        [(2.0, None), (3.0, None)],
        [1, 2],
        {},
    )


@pytest.mark.parametrize("hint", ["list[Out]", "Iterator[Out]"])
def test_several_rows_for_a_row(hint: str) -> None:
    body = "return [Out(r.a)] * r.b" if hint == "list[Out]" else "yield from [Out(r.a)] * r.b"
    code = f"@wafer.function\ndef f(r: In) -> {hint}:\n    {body}"
    rows, sources, errors = Guest(HEAD + code).call([1.0, 2.0, 3.0], [2, 0, 1])
    assert [x for x, _ in rows] == [1.0, 1.0, 3.0]
    assert (sources, errors) == ([0, 0, 2], {})


def test_generator_that_fails_midway_has_no_rows() -> None:
    code = "@wafer.function\ndef f(r: In) -> Iterator[Out]:\n    yield Out(r.a)\n    1 / r.b"
    rows, sources, errors = Guest(HEAD + code).call([1.0, 2.0], [0, 1])
    assert (rows, sources) == ([(2.0, None)], [1])
    assert list(errors) == [0]


def test_exception_is_the_error_of_its_row_and_names_the_line() -> None:
    code = "@wafer.function\ndef f(r: In) -> Out:\n    return Out(1 / r.a)\n"
    rows, _, errors = Guest(HEAD + code).call([1.0, 0.0, 2.0], [1, 1, 1])
    assert rows == [(1.0, None), None, (0.5, None)]
    line = HEAD.count("\n") + 3
    assert errors == {1: f"code_of_test.py, line {line}, in f: ZeroDivisionError: " + _zero_division()}


def _zero_division() -> str:
    try:
        return str(1 / 0.0)
    except ZeroDivisionError as error:
        return str(error)


def test_null_where_none_may_be_names_the_column() -> None:
    guest = Guest(HEAD + "@wafer.function\ndef f(r: In) -> Out: return Out(r.a)")
    rows, _, errors = guest.call([1.0, None], [1, 1])
    assert (rows[0], errors) == ((1.0, None), {1: "column `a` is null, and may not be"})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("Out('a')", "field `x`: found str 'a', wanted float"),
        ("Out(True)", "field `x`: found bool True, wanted float"),
        ("Out(None)", "field `x`: found None, wanted float"),
        ("Out(2**53 + 1)", "field `x`: found int 9007199254740993, which no float is equal to"),
        ("Out(1.0, 2**63)", "field `y`: found 9223372036854775808, which does not fit into 64 bits"),
        ("Out(1.0, 1.5)", "field `y`: found float 1.5, wanted int"),
        ("None", "the function returned None, wanted Out"),
        ("(1, 2)", "the function returned tuple (1, 2), wanted Out"),
    ],
)
def test_wrong_answer_fails_its_row(answer: str, message: str) -> None:
    code = f"@wafer.function\ndef f(r: In) -> Out: return Out(r.a) if r.a else {answer}"
    rows, _, errors = Guest(HEAD + code).call([1.0, 0.0], [1, 1])
    assert (rows, errors) == ([(1.0, None), None], {1: message})


def test_integer_is_a_float_that_is_equal() -> None:
    guest = Guest(HEAD + "@wafer.function\ndef f(r: In) -> Out: return Out(3 if r.a else 0.5)")
    assert guest.call([1.0, 0.0], [1, 1])[0] == [(3.0, None), (0.5, None)]


VALUES = {
    "bool": [True, False, True] * 5,
    "int": [0, -(2**63), 2**63 - 1],
    "float": [0.0, -1.5, 1e308],
    "str": ["", "a", "Zürich \U0001f600"],
    "bytes": [b"", b"\0\xff", b"abc"],
    "datetime": [datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 5, 1, 2, 3, 4, 567, tzinfo=UTC)],
    "date": [date(1, 1, 1), date(1970, 1, 1), date(9999, 12, 31)],
    "list[int]": [[], [1, 2], [3]],
    "list[float]": [[], [1.0, 2.0], [3.0]],
    "list[str]": [[], ["a", "ü"], ["c"]],
    "wafer.float32": [0.5, -2.0],
    "wafer.vector(2)": [[0.5, 1.0], [2.0, 3.0]],
}


@pytest.mark.parametrize("hint", VALUES)
def test_values_of_all_types_come_out_as_they_went_in(hint: str) -> None:
    code = f"""
from dataclasses import dataclass
from datetime import date, datetime
import wafer
@dataclass
class Row:
    value: {hint}
    perhaps: {hint} | None
@wafer.function
def f(row: Row) -> Row: return row
"""
    values = VALUES[hint]
    perhaps = [None if row % 2 else value for row, value in enumerate(values)]
    rows, _, errors = Guest(code).call(values, perhaps)
    assert errors == {}
    assert rows == list(zip(values, perhaps, strict=True))


def test_moment_outside_of_years_fails_its_row() -> None:
    from array import array

    from wafer import _guest

    code = """
from dataclasses import dataclass
from datetime import datetime
import wafer
@dataclass
class Row:
    at: datetime
@wafer.function
def f(row: Row) -> Row: return row
"""
    assert Guest(code).error is None
    answer = _guest.call(2, [(6, None, array("q", [0, 2**62]).tobytes())])
    assert answer[3] == [(1, "column `at`: 4611686018427387904 µs since 1970 is outside of the years 1 to 9999")]


def test_moment_without_zone_is_refused() -> None:
    code = """
from dataclasses import dataclass
from datetime import datetime
import wafer
@dataclass
class Row:
    at: datetime
@wafer.function
def f(row: Row) -> Row: return Row(row.at.replace(tzinfo=None))
"""
    _, _, errors = Guest(code).call([datetime(2026, 1, 1, tzinfo=UTC)])
    assert "has no time zone" in errors[0]


COLUMNS = """
from array import array
from dataclasses import dataclass
import wafer
@dataclass
class In:
    a: float
    s: str | None
@dataclass
class Out:
    x: float
    n: int | None
"""


def test_whole_columns() -> None:
    code = COLUMNS + """
@wafer.function(columns=True)
def f(c: wafer.Columns[In]) -> wafer.Columns[Out]:
    assert isinstance(c.a, memoryview) and len(c) == 2 and c.valid("s") == [True, False]
    return wafer.Columns(x=array("d", [a * 2 for a in c.a]), n=[s and len(s) for s in c.s])
"""
    assert Guest(code).call([1.0, 2.0], ["abc", None]) == ([(2.0, 3), (4.0, None)], None, {})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("wafer.Columns(x=[1.0], n=[1, 1])", "column `x` has 1 values, wanted 2, one for each row"),
        ("wafer.Columns(x=[1.0, 2.0])", "the function returned no column `n`"),
        ("wafer.Columns(x=array('f', [1, 2]), n=[1, 1])", "column `x`: found a buffer of items of type `f`, wanted `d` (float)"),
        ("wafer.Columns(x=3, n=[1, 1])", "column `x`: 'int' object is not iterable"),
        ("[]", "the function returned list [], wanted wafer.Columns"),
    ],
)
def test_wrong_columns_fail_the_batch(answer: str, message: str) -> None:
    code = COLUMNS + f"@wafer.function(columns=True)\ndef f(c: wafer.Columns[In]) -> wafer.Columns[Out]: return {answer}"
    assert Guest(code).call([1.0, 2.0], ["a", "b"]) == message


def test_wrong_values_in_columns_fail_their_rows() -> None:
    code = COLUMNS + "@wafer.function(columns=True)\ndef f(c: wafer.Columns[In]) -> wafer.Columns[Out]: return wafer.Columns(x=[1.0, 'b'], n=[1, 1])"
    rows, _, errors = Guest(code).call([1.0, 2.0], ["a", "b"])
    assert (rows, errors) == ([(1.0, 1), None], {1: "field `x`: found str 'b', wanted float"})


def test_state_is_made_of_assets_and_parameters() -> None:
    code = HEAD + """
@dataclass
class Settings:
    factor: float
    name: str = "none"

def load(assets, settings: Settings):
    return float(assets["model"]) * settings.factor

@wafer.function(init=load)
def f(r: In, scale: float) -> Out: return Out(r.a * scale)
"""
    guest = Guest(code, assets={"model": b"10"}, factor="0.5")
    assert guest.call([1.0], [1])[0] == [(5.0, None)]
    assert Guest(code, assets={"model": b"10"}, factor="x").error == "the parameter `factor` is `x`, wanted float"
    assert Guest(code, assets={"model": b"10"}).error == "the parameter `factor` is missing"
    unknown = Guest(code, assets={"model": b"10"}, factor="1", other="2").error
    assert unknown == "there is no parameter `other`; there are `factor`, `name`"


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({"python_function": "g"}, "g"),
        ({"python_function": "g", "python_default": "f"}, "g"),
        ({"python_default": "g"}, "g"),
        ({"python_default": "f"}, "f"),
    ],
)
def test_one_of_several_functions_is_named_or_the_default(
    parameters: dict[str, str], wanted: str
) -> None:
    code = HEAD + "".join(
        f"@wafer.function\ndef {name}(r: In) -> Out:\n    '''{name}'''\n    return Out(r.a)\n"
        for name in "fg"
    )
    assert Guest(code, **parameters).described()[3] == wanted


def test_only_function_needs_no_name() -> None:
    code = HEAD + "@wafer.function\ndef f(r: In) -> Out: return Out(r.a)"
    assert Guest(code, python_default="rides").call([1.0], [1])[0] == [(1.0, None)]


def test_signature_is_of_hints_and_docstrings() -> None:
    code = '''
from dataclasses import dataclass, field
from typing import Annotated
import wafer
@dataclass
class In:
    a: Annotated[float, "From a hint."]
@dataclass
class Base:
    x: float
    """From a string."""
@dataclass
class Out(Base):
    y: list[str] | None = field(default=None, metadata={"doc": "From metadata."})
@wafer.function
def f(r: In) -> Out | None:
    """What it does.

    In detail.
    """
'''
    assert Guest(code).described() == (
        [("a", 2, 0, False, "From a hint.")],
        [("x", 2, 0, False, "From a string."), ("y", 11, 0, True, "From metadata.")],
        1,
        "What it does.\n\nIn detail.",
    )


def test_archive_has_modules_and_dependencies() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("features/__init__.py", "from .ride import ride")
        archive.writestr(
            "features/ride.py",
            HEAD + "import helper\n@wafer.function\ndef ride(r: In) -> Out: return Out(helper.twice(r.a))",
        )
        archive.writestr("site-packages/helper/__init__.py", "import os\ndef twice(x): return x * 2")
    guest = Guest(content.getvalue(), file="features")
    assert guest.call([2.0], [1])[0] == [(4.0, None)]


def test_function_is_called_natively_as_it_is() -> None:
    import wafer
    from dataclasses import dataclass

    @dataclass
    class Row:
        a: float

    def double(row):  # type: ignore[no-untyped-def]
        return Row(row.a * 2)

    double.__annotations__ = {"row": Row, "return": Row}
    assert wafer.function(double)(Row(2.0)) == Row(4.0)
