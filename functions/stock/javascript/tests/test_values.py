"""Values of every type go in and come out, and what does not fit fails its row."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import pytest
from conftest import HEAD, JavaScript, called

MOMENT = datetime(2013, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
MILLIS = MOMENT.replace(microsecond=123000)
TYPES = [
    ("t.bool", [True, False], "boolean"),
    ("t.int64", [2**63 - 1, -(2**63), 0, 7], "bigint"),
    ("t.safeInt", [2**53 - 1, -(2**53) + 1, 0, -1, 2**32], "number"),
    ("t.float64", [1.5, -0.0, math.inf, -math.inf, 5e-324, 1e308], "number"),
    ("t.float32", [1.5, -0.0, math.inf], "number"),
    ("t.utf8", ["", "abc", "ä€😀", "a\0b", "x" * 5000], "string"),
    ("t.binary", [b"", b"\0\xff", bytes(range(256))], "Uint8Array"),
    ("t.timestamp", [MOMENT, datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)], "bigint"),
    ("t.dateTime", [MILLIS, datetime(1, 1, 1, tzinfo=UTC)], "Date"),
    ("t.date", [date(2013, 1, 1), date(1, 1, 1), date(9999, 12, 31)], "Date"),
    ("t.list(t.int64)", [[], [1, 2**63 - 1]], "Array"),
    ("t.list(t.safeInt)", [[], [1, -2]], "Array"),
    ("t.list(t.float64)", [[1.5, -0.0], [], [math.inf]], "Array"),
    ("t.list(t.utf8)", [["ä", ""], [], ["b"]], "Array"),
    ("t.vector(2)", [[1.5, 2.0], [-0.0, 0.25]], "Float32Array"),
]


def same(type_: str, filter_: str = "") -> str:
    return HEAD + (
        f"export default fn({{ inputs: {{ x: {type_} }}, outputs: {{ x: {type_}, kind: t.utf8 }}{filter_} }},\n"
        '  ({ x }) => ({ x, kind: typeof x === "object" && x !== null ? x.constructor.name : typeof x }));'
    )


@pytest.mark.parametrize(("type_", "values", "kind"), TYPES)
def test_values_go_through(new: JavaScript, type_: str, values: list[Any], kind: str) -> None:
    rows, errors = called(new, same(type_), values)
    assert errors == {}
    assert [(repr(value), name) for value, name in rows] == [(repr(value), kind) for value in values]


@pytest.mark.parametrize(("type_", "values", "kind"), TYPES)
def test_nulls_go_through(new: JavaScript, type_: str, values: list[Any], kind: str) -> None:
    given = [None, *values, None]
    rows, errors = called(new, same(f"t.nullable({type_})"), given)
    assert errors == {}
    assert [value for value, _ in rows] == given
    assert rows[0][1] == "object" and rows[1][1] == kind


@pytest.mark.parametrize(("type_", "values", "kind"), TYPES)
def test_null_that_may_not_be_fails_its_row(new: JavaScript, type_: str, values: list[Any], kind: str) -> None:
    rows, errors = called(new, same(type_), [values[0], None, values[1]])
    assert errors == {1: "column `x` is null, and may not be"}
    assert [rows[0][0], rows[2][0]] == values[:2]


def test_not_a_number_has_one_form(new: JavaScript) -> None:
    code = HEAD + (
        "export default fn({ inputs: { x: t.float64 }, outputs: { bits: t.int64, x: t.float64 } }, ({ x }) =>\n"
        "  ({ bits: new BigInt64Array(Float64Array.of(x === 0 ? 0 / x : -x).buffer)[0], x: -x }));"
    )
    rows, _ = called(new, code, [math.nan, -math.nan, 0.0])
    assert [bits for bits, _ in rows] == [0x7FF8 << 48] * 3
    assert all(math.isnan(x) for _, x in rows[:2])


@pytest.mark.parametrize(
    ("type_", "value", "message"),
    [
        ("t.bool", "1", "found number 1, wanted true or false"),
        ("t.int64", "3", "found number 3, wanted a bigint, such as 3n (t.safeInt takes numbers)"),
        ("t.int64", "2n ** 63n", "found bigint 9223372036854775808n, which does not fit into 64 bits"),
        ("t.int64", "-(2n ** 63n) - 1n", "which does not fit into 64 bits"),
        ("t.safeInt", "2 ** 53", "found number 9007199254740992, wanted an integer below 2^53"),
        ("t.safeInt", "1.5", "found number 1.5, wanted an integer below 2^53"),
        ("t.safeInt", "NaN", "found number NaN, wanted an integer"),
        ("t.safeInt", "1n", "found bigint 1n, wanted an integer below 2^53 (a number)"),
        ("t.float64", '"1"', 'found string "1", wanted a number'),
        ("t.float64", "undefined", "found undefined, wanted a number"),
        ("t.float64", "null", "found null, wanted a number; declare t.nullable(…) if it may be missing"),
        ("t.nullable(t.float64)", "undefined", "found undefined, wanted a number or null"),
        ("t.float64", "new Number(1)", "found Number 1, wanted a number"),
        ("t.float32", "3.5e38", "found 3.5e+38, which does not fit into 32 bits"),
        ("t.utf8", "1", "found number 1, wanted a string"),
        ("t.utf8", '"a\\ud800b"', 'found string "a\\ud800b", which has half of a surrogate pair'),
        ("t.binary", "[1]", "found Array of 1, wanted a Uint8Array"),
        ("t.timestamp", "new Date(0)", "found Date 1970-01-01T00:00:00.000Z, wanted a bigint of microseconds since 1970"),
        ("t.dateTime", "0n", "found bigint 0n, wanted a Date"),
        ("t.dateTime", 'new Date("?")', "found Date that is invalid, wanted a Date"),
        ("t.date", "new Date(1)", "found Date 1970-01-01T00:00:00.001Z, wanted a Date at 00:00 UTC"),
        ("t.list(t.float64)", "1", "found number 1, wanted an array, t.list(t.float64)"),
        ("t.list(t.float64)", '[1, "2"]', 'item 1: found string "2", wanted a number'),
        ("t.list(t.int64)", "[1n, null]", "item 1: found null, wanted a bigint"),
        ("t.vector(2)", "[1]", "found Array of 1, wanted a Float32Array or an array of 2 numbers"),
        ("t.vector(2)", "[1, 1e39]", "item 1: found 1e+39, which does not fit into 32 bits"),
        ("t.utf8", "Symbol()", "found symbol Symbol(), wanted a string"),
    ],
)
def test_value_that_does_not_fit_fails_its_row(new: JavaScript, type_: str, value: str, message: str) -> None:
    code = HEAD + f"export default fn({{ inputs: {{ x: t.float64 }}, outputs: {{ y: {type_} }} }}, () => ({{ y: {value} }}));"
    _, errors = called(new, code, [1.0, 2.0])
    assert sorted(errors) == [0, 1]
    assert errors[0].startswith("field `y`: ") and message in errors[0]


@pytest.mark.parametrize(
    ("type_", "good", "bad", "message"),
    [
        ("t.binary", "Uint8Array.of(7)", "detached()", "TypeError: "),
        ("t.list(t.float64)", "[7]", "Object.defineProperty([1], 0, { get: function get() { throw new Error('no'); } })", "code_of_test.js, line 3, in get: Error: no"),
        ("t.list(t.float64)", "[7]", "new Proxy([1], { get() { throw new Error('no'); } })", "code_of_test.js, line 3, in get: Error: no"),
        ("t.list(t.float64)", "[7]", "revoked()", "TypeError: "),
        ("t.vector(1)", "[7]", "revoked()", "TypeError: "),
        ("t.binary", "Uint8Array.of(7)", "revoked()", "TypeError: "),
        ("t.utf8", "'7'", "revoked()", "found object, wanted a string"),
        ("t.dateTime", "new Date(7)", "Object.create(Date.prototype)", "TypeError: "),
        ("t.date", "new Date(0)", "new Proxy(new Date(0), {})", "TypeError: "),
    ],
)
def test_value_that_cannot_be_read_fails_its_row(new: JavaScript, type_: str, good: str, bad: str, message: str) -> None:
    code = HEAD + (
        f"export default fn({{ inputs: {{ x: t.float64 }}, outputs: {{ y: {type_} }} }}, ({{ x }}) => ({{ y:\n"
        f"  x === 2 ? {bad} : {good} }}));\n"
        "function revoked() { const { proxy, revoke } = Proxy.revocable([], {}); revoke(); return proxy; }\n"
        "function detached() { const bytes = Uint8Array.of(1); bytes.buffer.transfer(); return bytes; }\n"
    )
    rows, errors = called(new, code, [1.0, 2.0, 3.0])
    assert rows[0] == rows[2] and rows[0][0] is not None
    assert list(errors) == [1]
    assert errors[1].startswith(f"field `y`: {message}"), errors[1]


@pytest.mark.parametrize("type_", ["t.dateTime", "t.date"])
def test_methods_of_a_date_are_not_asked(new: JavaScript, type_: str) -> None:
    code = HEAD + (
        f"export default fn({{ inputs: {{ x: t.float64 }}, outputs: {{ y: {type_} }} }},\n"
        "  () => ({ y: Object.assign(new Date(0), { getTime() { throw new Error('no'); } }) }));"
    )
    rows, errors = called(new, code, [1.0])
    assert errors == {}
    assert rows[0][0] in (date(1970, 1, 1), datetime(1970, 1, 1, tzinfo=UTC))


def test_integers_of_lists_that_no_number_has_fail_their_rows(new: JavaScript) -> None:
    values = [[2**53], [], [1, 2], [3, 2**60, 2**61], [], [4], [5, -(2**53)]]
    rows, errors = called(new, same("t.list(t.safeInt)"), values)
    assert sorted(errors) == [0, 3, 6]
    assert errors[3] == "column `x`: 1152921504606846976 is beyond 2^53, where numbers have gaps: use t.int64"
    assert [rows[row][0] for row in (1, 2, 4, 5)] == [[], [1, 2], [], [4]]


def test_many_bad_items_of_lists_fail_their_rows(new: JavaScript) -> None:
    values = [[2**53 + row, row] if row % 2 else [row] for row in range(8192)]
    rows, errors = called(new, same("t.list(t.safeInt)"), values)
    assert sorted(errors) == list(range(1, 8192, 2))
    assert [rows[row][0] for row in range(0, 8192, 2)] == [[row] for row in range(0, 8192, 2)]


def test_rows_beside_one_that_fails_are_right(new: JavaScript) -> None:
    code = HEAD + (
        "export default fn({ inputs: { x: t.float64 }, outputs: { a: t.nullable(t.utf8), b: t.int64 } },\n"
        '  ({ x }) => ({ a: x === 1 ? null : `${x}`, b: x === 2 ? "wrong" : BigInt(x) }));'
    )
    rows, errors = called(new, code, [1.0, 2.0, 3.0])
    assert list(errors) == [1]
    assert [rows[0], rows[2]] == [(None, 1), ("3", 3)]


def test_moment_that_no_date_has_fails_its_row(new: JavaScript) -> None:
    rows, errors = called(new, same("t.dateTime"), [MILLIS, MOMENT])
    assert rows[0][0] == MILLIS
    assert errors == {1: "column `x`: 1357043415123456 µs since 1970 is no whole millisecond, which a Date has: use t.timestamp"}


def test_integer_that_no_number_has_fails_its_row(new: JavaScript) -> None:
    rows, errors = called(new, same("t.nullable(t.safeInt)"), [2**53, 1, None, -(2**53)])
    assert [rows[1][0], rows[2][0]] == [1, None]
    assert errors[0] == "column `x`: 9007199254740992 is beyond 2^53, where numbers have gaps: use t.int64"
    assert sorted(errors) == [0, 3]


def test_values_of_a_row_are_its_own(new: JavaScript) -> None:
    code = HEAD + (
        "export default fn({ inputs: { x: t.list(t.float64), b: t.binary }, outputs: { x: t.list(t.float64), b: t.binary } },\n"
        "  ({ x, b }) => { x.push(9); b[0] = 9; return { x, b }; });"
    )
    rows, _ = called(new, code, [[1.0], [2.0]], [b"ab", b"cd"])
    assert rows == [([1.0, 9.0], b"\x09b"), ([2.0, 9.0], b"\x09d")]


def test_many_rows_are_right(new: JavaScript) -> None:
    numbers = [float(i) for i in range(8192)]
    code = HEAD + (
        "export default fn({ inputs: { x: t.float64, s: t.utf8, n: t.nullable(t.int64) },\n"
        "  outputs: { x: t.float64, s: t.utf8, n: t.nullable(t.int64) } }, ({ x, s, n }) => ({ x: x * 2, s: s + x, n }));"
    )
    texts = ["ä" * (i % 7) for i in range(8192)]
    integers = [None if i % 3 == 0 else i << 40 for i in range(8192)]
    rows, errors = called(new, code, numbers, texts, integers)
    assert errors == {}
    assert rows == [(x * 2, f"{s}{int(x)}", n) for x, s, n in zip(numbers, texts, integers, strict=True)]
