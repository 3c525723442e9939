"""The forms of functions: rows, filters, one to many, whole columns, `init`, modules, trainers."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, date, datetime
from typing import Any

import pytest
from conftest import HEAD, LINE, JavaScript, called, error_of, of_body

ONE = "inputs: { x: t.nullable(t.float64) }, outputs: { y: t.float64 }"
NUMBERS = [1.0, 2.0, 3.0]


def test_signature_is_what_was_declared(new: JavaScript) -> None:
    code = HEAD + (
        'export default fn({ doc: "How a ride was.", inputs: { km: t.float64, minutes: t.nullable(t.float64) },\n'
        '  outputs: { kmh: t.nullable(t.float64).doc("Speed, km/h."), v: t.vector(3), n: t.list(t.safeInt) } },\n'
        "  (ride) => ({}));"
    )
    assert new.function(code) is None
    assert new.inputs == [("km", 2, 0, False, ""), ("minutes", 2, 0, True, "")]
    assert new.outputs == [("kmh", 2, 0, True, "Speed, km/h."), ("v", 8, 3, False, ""), ("n", 9, 0, False, "")]
    assert (new.doc, new.mapping) == ("How a ride was.", 0)


def test_filter_leaves_rows_out(new: JavaScript) -> None:
    code = HEAD + f"export default fn({{ {ONE}, filter: true }}, ({{ x }}) => (x === 2 ? null : {{ y: x }}));"
    assert called(new, code, NUMBERS) == ([(1.0,), (3.0,)], {})
    assert (new.sources, new.mapping) == ([0, 2], 1)


@pytest.mark.parametrize(
    "answer", ["[{ y: x }, { y: -x }].slice(0, x - 1)", "(function* () { for (let i = 1; i < x; i++) yield { y: i === 1 ? x : -x }; })()"]
)
def test_many_rows_of_one(new: JavaScript, answer: str) -> None:
    code = HEAD + f"export default fn({{ {ONE}, many: true }}, ({{ x }}) => {answer});"
    assert called(new, code, NUMBERS) == ([(2.0,), (3.0,), (-3.0,)], {})
    assert new.sources == [1, 2, 2]


def test_generator_that_fails_leaves_no_rows(new: JavaScript) -> None:
    code = HEAD + (
        f"export default fn({{ {ONE}, many: true }}, function* f({{ x }}) {{\n"
        "  yield { y: x };\n"
        '  if (x === 2) throw new RangeError("two");\n'
        "});"
    )
    rows, errors = called(new, code, NUMBERS)
    assert rows == [(1.0,), (3.0,)]
    assert errors == {1: "code_of_test.js, line 4, in f: RangeError: two"}
    assert new.sources == [0, 2]


def test_row_of_many_that_does_not_fit_takes_the_others_along(new: JavaScript) -> None:
    code = HEAD + (
        "export default fn({ inputs: { x: t.float64 }, outputs: { y: t.nullable(t.float64), z: t.utf8 }, many: true },\n"
        '  ({ x }) => [{ y: null, z: "a" }, { y: x, z: x === 2 ? 2 : "b" }]);'
    )
    rows, errors = called(new, code, NUMBERS)
    assert rows == [(None, "a"), (1.0, "b"), (None, "a"), (3.0, "b")]
    assert errors == {1: "field `z`: found number 2, wanted a string"}
    assert new.sources == [0, 0, 2, 2]


@pytest.mark.parametrize(
    ("form", "answer", "error"),
    [
        ("", "null", "the function returned null, wanted an object with its columns (to leave rows out, declare `filter: true` and return null)"),
        ("", "1", "the function returned number 1, wanted an object"),
        ("", "Promise.resolve()", "field `y`: found undefined, wanted a number"),
        ("filter: true", "undefined", "the function returned undefined, wanted an object with its columns, or null to leave the row out"),
        ("many: true", "({ y: 1 })", 'the function returned object {"y":1}, wanted an array of objects'),
        ("many: true", "[1]", "the function returned number 1, wanted an array of objects"),
        ("many: true", "null", "the function returned null, wanted an array of objects"),
    ],
)
def test_wrong_answer_is_the_error_of_the_row(new: JavaScript, form: str, answer: str, error: str) -> None:
    _, errors = called(new, HEAD + f"export default fn({{ {ONE}, {form} }}, (row) => {answer});", [1.0])
    assert errors[0].startswith(error)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('throw new TypeError("no")', "TypeError: no"),
        ("null.x", "TypeError: cannot read property 'x' of null"),
        ("nowhere", "ReferenceError: nowhere is not defined"),
        ("process.env", "ReferenceError: process is not defined; a function has no environment: what it needs are parameters"),
        ('require("fs")', 'ReferenceError: require is not defined; files are ES modules: write `import … from "./FILE.js"`'),
        ("JSON.parse('{')", "SyntaxError: "),
        ("f(row)", "RangeError: Maximum call stack size exceeded"),
        ("new Array(1e9).fill(0).length", "out of memory; the setting `memory` of the function says how much there is"),
    ],
)
def test_error_of_a_row_has_its_line(new: JavaScript, body: str, error: str) -> None:
    found = error_of(new, body)
    assert found.startswith(f"code_of_test.js, line {LINE}, in f: ") and error in found


def test_thrown_value_that_is_no_error(new: JavaScript) -> None:
    assert error_of(new, 'throw "no"') == 'string "no" was thrown, which has no line: throw an Error'


@pytest.mark.parametrize("target", ["{}", "class {}", "() => 1"])
@pytest.mark.parametrize("throwing", ["throw proxy", "console.log(proxy); throw proxy"])
def test_thrown_value_that_cannot_be_read(new: JavaScript, target: str, throwing: str) -> None:
    body = f"if (row.x === 2) {{ const {{ proxy, revoke }} = Proxy.revocable({target}, {{}}); revoke(); {throwing}; }} return {{ y: row.x }};"
    rows, errors = called(new, of_body(body), NUMBERS)
    assert [rows[0], rows[2]] == [(1.0,), (3.0,)]
    assert list(errors) == [1] and errors[1]


def test_registering_what_throws_a_value_that_cannot_be_read(new: JavaScript) -> None:
    code = HEAD + "const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); throw proxy;"
    assert new.function(code) == "object was thrown, which has no line: throw an Error"


def test_stack_of_the_first_rows_is_logged(new: JavaScript) -> None:
    code = HEAD + (
        f"const fail = () => {{ throw new Error('no'); }};\n"
        f"export default fn({{ {ONE} }}, function f(row) {{\n  return fail();\n}});"
    )
    _, errors = called(new, code, [1.0] * 5)
    assert errors[4] == "code_of_test.js, line 2, in fail: Error: no"
    assert new.messages == [
        (3, "Error: no"),
        (3, "    at code_of_test.js, line 2, in fail"),
        (3, "        const fail = () => { throw new Error('no'); };"),
        (3, "    at code_of_test.js, line 4, in f"),
        (3, "        return fail();"),
    ] * 3


def test_console_is_the_log(new: JavaScript) -> None:
    called(new, of_body('console.log("a", 1, 2n, [1n], { b: "ä" }, null); console.warn("c\\nd"); console.debug(new Error("e")); return { y: 1 };'), [1.0])
    assert new.messages == [(2, 'a 1 2n ["1n"] {"b":"ä"} null'), (3, "c"), (3, "d"), (1, "Error: e")]


def test_init_is_given_assets_and_parameters(new: JavaScript) -> None:
    code = HEAD + (
        "const init = (assets, parameters) => JSON.parse(new TextDecoder().decode(assets.table)).factor * Number(parameters.scale);\n"
        f"export default fn({{ {ONE}, init }}, ({{ x }}, factor) => ({{ y: x * factor }}));"
    )
    table = b'{"factor": 2, "rest": "' + b"x" * (3 << 20) + b'"}'
    assert called(new, code, NUMBERS, assets={"table": table}, scale="10") == ([(20.0,), (40.0,), (60.0,)], {})


def test_one_of_several_functions(new: JavaScript) -> None:
    code = HEAD + f"export const a = fn({{ {ONE} }}, () => ({{ y: 1 }}));\nexport const b = fn({{ {ONE} }}, () => ({{ y: 2 }}));"
    assert called(new, code, [0.0], javascript_function="b") == ([(2.0,)], {})


def test_columns(new: JavaScript) -> None:
    code = HEAD + (
        "const columns = { f: t.float64, n: t.nullable(t.int64), g: t.float32, at: t.timestamp, day: t.date, s: t.nullable(t.utf8),\n"
        "  b: t.bool, v: t.vector(2), i: t.safeInt };\n"
        "export default fn({ inputs: columns, outputs: { ...columns, names: t.utf8 }, columns: true }, ({ rows, columns: c, valid }) => ({\n"
        "  ...c, n: { values: c.n, valid: valid.n }, f: c.f.map((x) => x * 2),\n"
        "  names: Array(rows).fill(Object.values(c).map((x) => x.constructor.name).join()) }));"
    )
    at, day = datetime(2013, 1, 1, 0, 0, 0, 1, tzinfo=UTC), date(2013, 1, 1)
    rows, errors = called(new, code, [1.0, 2.0], [None, 5], [0.5, 1.5], [at, at], [day, day], ["a", None], [True, False], [[1.0, 2.0], [3.0, 4.0]], [1, 2])
    names = "Float64Array,BigInt64Array,Float32Array,BigInt64Array,Int32Array,Array,Array,Float32Array,Float64Array"
    assert errors == {}
    assert rows == [
        (2.0, None, 0.5, at, day, "a", True, [1.0, 2.0], 1, names),
        (4.0, 5, 1.5, at, day, None, False, [3.0, 4.0], 2, names),
    ]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("new Float64Array(1)", "column `y` has 1 values, wanted 2, one for each row"),
        ("[1]", "column `y` has 1 values, wanted 2"),
        ("new Float32Array(2)", "column `y` is Float32Array of 2, wanted an array or a Float64Array (t.nullable(t.float64))"),
        ("undefined", "the function returned no column `y`"),
        ("{ values: new Float64Array(2), valid: new Uint8Array(3) }", "`valid` of column `y` has 3 values, wanted 2"),
        ("{ values: new Float64Array(2), valid: [1, 1] }", "`valid` of column `y` is Array of 2, wanted a Uint8Array of 0 and 1"),
        ("{ values: new Float64Array(2), valid: Uint8Array.of(2, 1) }", "`valid` of column `y` has another number than 0 and 1"),
        ("{ values: [1, 2], valid: new Uint8Array(2) }", "column `y`: `valid` is for typed arrays"),
    ],
)
def test_whole_column_that_does_not_fit_fails_the_batch(new: JavaScript, column: str, message: str) -> None:
    code = HEAD + f"export default fn({{ inputs: {{ x: t.float64 }}, outputs: {{ y: t.nullable(t.float64) }}, columns: true }}, () => ({{ y: {column} }}));"
    assert called(new, code, [1.0, 2.0]).startswith(message)


@pytest.mark.parametrize(
    ("column", "rows", "failed"),
    [
        ("{ values: Float64Array.of(1, NaN, 3), valid: Uint8Array.of(1, 0, 1) }", [1, None, 3], {}),
        ("{ values: Float64Array.of(1, NaN, 1.5), valid: Uint8Array.of(1, 0, 1) }", [1, None], {2: "number 1.5"}),
        ("{ values: Float64Array.of(1, NaN, 3), valid: null }", [1, 3], {1: "number NaN"}),
        ("Float64Array.of(2 ** 53, 2, 3)", [2, 3], {0: "number 9007199254740992"}),
        ("[1, null, 2.5]", [1, None], {2: "number 2.5"}),
    ],
)
def test_whole_column_of_safe_integers(new: JavaScript, column: str, rows: list[Any], failed: dict[int, str]) -> None:
    code = HEAD + f"export default fn({{ inputs: {{ x: t.float64 }}, outputs: {{ y: t.nullable(t.safeInt) }}, columns: true }}, () => ({{ y: {column} }}));"
    found, errors = called(new, code, NUMBERS)
    assert [row for index, (row,) in enumerate(found) if index not in failed] == rows
    assert errors == {row: f"field `y`: found {value}, wanted an integer below 2^53 (a number)" for row, value in failed.items()}


def test_value_of_a_whole_column_that_does_not_fit_fails_its_row(new: JavaScript) -> None:
    code = HEAD + f"export default fn({{ {ONE}, columns: true }}, ({{ columns }}) => ({{ y: Array.from(columns.x, (x) => (x === 2 ? '2' : x)) }}));"
    rows, errors = called(new, code, NUMBERS)
    assert errors == {1: 'field `y`: found string "2", wanted a number'}
    assert [rows[0], rows[2]] == [(1.0,), (3.0,)]


def test_error_of_whole_columns_fails_the_batch_with_its_line(new: JavaScript) -> None:
    code = HEAD + f"export default fn({{ {ONE}, columns: true }}, function f() {{\n  throw new Error('no');\n}});"
    assert called(new, code, [1.0]) == (
        "Error: no\n    at code_of_test.js, line 3, in f\n        throw new Error('no');"
    )


def archive(files: dict[str, str], **options: Any) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", **options) as zipped:
        for name, text in files.items():
            zipped.writestr(name, text)
    return content.getvalue()


MODULES = {
    "ride.js": HEAD + f'import {{ twice }} from "./lib/twice.js";\nexport default fn({{ {ONE} }}, ({{ x }}) => ({{ y: twice(x) }}));',
    "lib/twice.js": 'import { two } from "../two.js";\nexport const twice = (x) => {\n  if (x === 3) throw new Error("no");\n  return two * x;\n};',
    "two.js": "export const two = 2;\n" + "// filler\n" * 5000,
}


@pytest.mark.parametrize("options", [{}, {"compression": zipfile.ZIP_DEFLATED}, {"compression": zipfile.ZIP_DEFLATED, "compresslevel": 1}])
def test_modules_of_an_archive(new: JavaScript, options: dict[str, Any]) -> None:
    rows, errors = called(new, archive(MODULES, **options), NUMBERS, file="ride.js")
    assert rows[:2] == [(2.0,), (4.0,)]
    assert errors == {2: "lib/twice.js, line 3, in twice: Error: no"}


def test_top_level_await(new: JavaScript) -> None:
    code = HEAD + f"const two = await Promise.resolve(2);\nexport default fn({{ {ONE} }}, ({{ x }}) => ({{ y: two * x }}));"
    assert called(new, code, [1.0]) == ([(2.0,)], {})


def test_dates_are_in_utc(new: JavaScript) -> None:
    body = "const d = new Date(2013, 6, 1, 12); return { y: d.getTimezoneOffset() * 1e15 + d.getTime() - Date.UTC(2013, 6, 1, 12) + Date.parse('1970-01-01') };"
    assert called(new, of_body(body), [1.0]) == ([(0.0,)], {})


def test_dates_are_dates(new: JavaScript) -> None:
    body = (
        "class Day extends Date {}\nconst day = new Day('2013-01-02T03:04:05.678Z');\n"
        "return { y: [day instanceof Date, day.constructor === Day, new Date(day).getTime() === day.getTime(),\n"
        "  day.toISOString() === '2013-01-02T03:04:05.678Z', Date.length === 7, Date.name === 'Date',\n"
        "  new Date(0).constructor === Date].filter((is) => !is).length };"
    )
    assert called(new, of_body(body), [1.0]) == ([(0.0,)], {})


def test_texts_and_bytes(new: JavaScript) -> None:
    body = (
        "const encoded = new TextEncoder().encode('aä€😀\\ud800');\n"
        "let refused = 0;\ntry { new TextDecoder().decode(Uint8Array.of(255)); } catch (e) { refused = e instanceof TypeError ? 1 : 2; }\n"
        "return { y: new TextDecoder().decode(encoded) === 'aä€😀\\ufffd' && encoded.length === 13 && refused === 1 && atob(btoa('a')) === 'a' ? 1 : 0 };"
    )
    assert called(new, of_body(body), [1.0]) == ([(1.0,)], {})


TRAINER = HEAD + """
export default trainer({ rows: { km: t.float64, minutes: t.nullable(t.float64) } }, class {
  rows = [0, 0]; passes = 0; km = 0;
  constructor(assets, parameters) { this.scale = Number(parameters.scale ?? 1); }
  feed(rows, role) {
    this.rows[role === "validation" ? 1 : 0] += rows.length;
    for (const { km, minutes } of rows) if (minutes !== null) this.km += km * this.scale;
  }
  nextPass() { return ++this.passes < 2; }
  finish() { return { artifacts: { model: new Uint8Array(3 << 19).fill(7) }, metrics: { km: this.km, rows: this.rows[0], seen: this.rows[1] } }; }
});
"""


def test_trainer(new: JavaScript) -> None:
    assert new.trainer(TRAINER, "km", scale="10") is None
    assert [(name, tag) for name, tag, *_ in new.inputs] == [("km", 2), ("minutes", 2)]
    assert new.feed(0, [1.0, 2.0], [None, 1.0]) is None
    assert new.feed(1, [4.0], [1.0]) is None
    assert [new.next_pass(), new.next_pass()] == [True, False]
    assert new.finish() == ({"model": 3 << 19}, {"km": 60.0, "rows": 2.0, "seen": 1.0})
    assert new.read_artifact("model", 0) == b"\7" * (1 << 20)
    assert new.read_artifact("model", 1 << 20) == b"\7" * (1 << 19)


def test_trainer_of_whole_columns(new: JavaScript) -> None:
    code = HEAD + (
        "export default trainer({ rows: { km: t.float64 }, columns: true }, class {\n"
        "  feed({ rows, columns }) { this.sum = columns.km.reduce((a, b) => a + b, rows); }\n"
        "  finish() { return { artifacts: {}, metrics: { sum: this.sum } }; } });"
    )
    assert new.trainer(code, "km") is None
    assert new.feed(0, [1.0, 2.0]) is None
    assert new.finish() == ({}, {"sum": 5.0})


def test_trainer_that_does_not_ask_for_the_label(new: JavaScript) -> None:
    assert new.trainer(TRAINER, "price") == "the trainer does not ask for the label, `price`; its `rows` are `km`, `minutes`"


def test_trainer_that_fails(new: JavaScript) -> None:
    code = HEAD + (
        "export default trainer({ rows: { km: t.float64 } }, class {\n"
        "  feed(rows) { throw new Error('no'); }\n  finish() { return 1; } });"
    )
    assert new.trainer(code, "km") is None
    assert (new.feed(0, [1.0]) or "").startswith("Error: no\n    at code_of_test.js, line 3, in feed")
    assert (new.feed(0, [None]) or "") == "row 0 of a chunk: column `km` is null, and may not be"
