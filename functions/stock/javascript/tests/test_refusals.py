"""What is not a function is refused when it is registered, with a sentence and a way out."""

from __future__ import annotations

import io
import zipfile

import pytest
from conftest import HEAD, LINE, JavaScript, called, error_of, of_body
from test_functions import MODULES, ONE, archive

FUNCTION = f"export default fn({{ {ONE} }}, ({{ x }}) => ({{ y: x }}));\n"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("fn(1, () => 1);", "the first argument of fn(…) is number 1, and has to be an object that declares columns"),
        ("fn({ input: {} }, () => 1);", "fn(…) does not know `input`; it knows `doc`, `inputs`"),
        ("fn({ outputs: { y: t.bool } }, () => 1);", "`inputs` is undefined, and has to be an object of columns"),
        ("fn({ inputs: {}, outputs: { y: t.bool } }, () => 1);", "`inputs` has no columns"),
        ("fn({ inputs: { x: Number }, outputs: {} }, () => 1);", "column `x` of `inputs` is function Number, and has to be a type: t.bool, t.int64"),
        ("fn({ inputs: { 'a-b': t.bool }, outputs: {} }, () => 1);", '`inputs` has the column string "a-b": a name has letters, digits and `_`'),
        ("fn({ inputs: { ['__proto__']: t.bool }, outputs: {} }, () => 1);", '`inputs` has the column string "__proto__": a name has letters'),
        (f"fn({{ {ONE} }});", "the second argument of fn(…) is undefined, and has to be a function of a row"),
        (f"fn({{ {ONE} }}, async (row) => row);", "a function cannot be `async`: there is nothing to wait for"),
        (f"fn({{ {ONE} }}, (row, state) => row);", "the function has 2 parameters, and is given a row; a second one needs `init`"),
        (f"fn({{ {ONE}, filter: true, many: true }}, (row) => row);", "a function cannot be `filter` and `many` at once"),
        (f"fn({{ {ONE}, filter: 1 }}, (row) => row);", "`filter` is number 1, and has to be true or false"),
        (f"fn({{ {ONE}, init: 1 }}, (row) => row);", "`init` is number 1, and has to be a function of assets and parameters"),
        (f"fn({{ {ONE}, doc: 1 }}, (row) => row);", "`doc` is number 1, and has to be a text"),
        ("t.vector(0);", "a vector cannot have the dimension number 0: it is at least 1"),
        ("t.list(t.bool);", "t.list(t.bool) is no type of columns: there are t.list(t.int64)"),
        ("t.list(t.nullable(t.int64));", "t.list(t.nullable(t.int64)) is no type of columns"),
        ("t.nullable(1);", "t.nullable(…) takes a type, such as t.float64, and not number 1"),
        ("trainer({ rows: { x: t.bool } }, class { feed() {} });", "the second argument of trainer(…) has to be a class with the methods `feed(rows, role)` and `finish()`"),
    ],
)
def test_function_without_a_signature(new: JavaScript, code: str, message: str) -> None:
    error = new.function(HEAD + "\n" + code)
    assert error is not None and error.startswith(f"code_of_test.js, line 3: {message}"), error


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "`code_of_test.js` has no function: write `export default fn({ … }, (row) => …)`"),
        ("export const f = 1;", "`code_of_test.js` has no function"),
        ("export default (row) => row;", "`code_of_test.js` has no function: write `export default fn("),
        (f"export const a = fn({{ {ONE} }}, () => 1), b = fn({{ {ONE} }}, () => 1);", '`code_of_test.js` has the functions `a`, `b`, and none of them is its default export: say which, as in `javascript = "code_of_test.js:a"`'),
    ],
)
def test_module_without_a_function(new: JavaScript, code: str, message: str) -> None:
    error = new.function(HEAD + code)
    assert error is not None and error.startswith(message), error


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("Date.now()", "`Date.now()`: a function has no clock: a time is a column of its rows"),
        ("new Date()", "`new Date()`: a function has no clock"),
        ("Date()", "`Date()`: a function has no clock"),
        ("class D extends Date {}; new D()", "`new Date()`: a function has no clock"),
        ("new (new Date(0).constructor)()", "`new Date()`: a function has no clock"),
        ("performance.now()", "`performance.now()`: a function has no clock"),
        ("Math.random()", "`Math.random()`: a function has no randomness: compute numbers from a seed that is made of the row"),
        ("crypto.randomUUID()", "`crypto.randomUUID()`: a function has no randomness"),
        ("crypto.getRandomValues(new Uint8Array(1))", "`crypto.getRandomValues()`: a function has no randomness"),
        ("setTimeout(() => 1, 0)", "`setTimeout()`: a function cannot wait: there is no time and nothing to wait for"),
        ("setInterval(() => 1, 0)", "`setInterval()`: a function cannot wait"),
        ("queueMicrotask(() => 1)", "`queueMicrotask()`: a function cannot wait: there is no time and nothing to wait for"),
        ('fetch("http://127.0.0.1/")', "`fetch()`: a function has no network: what it needs are its inputs, assets and parameters"),
        ("new WeakRef({})", "ReferenceError: WeakRef is not defined; what it shows depends on when memory is freed"),
        ("new FinalizationRegistry(() => 1)", "ReferenceError: FinalizationRegistry is not defined; what it shows"),
    ],
)
def test_what_differs_from_call_to_call_is_refused(new: JavaScript, body: str, error: str) -> None:
    assert f": {error}" in error_of(new, body)
    assert error_of(new, body).startswith(f"code_of_test.js, line {LINE}, in ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('import fs from "node:fs";', "code_of_test.js: cannot import `node:fs`: a function has its own modules (`./FILE.js`) and `wafer`; put packages into its file by a bundler"),
        ('import _ from "lodash";', "code_of_test.js: cannot import `lodash`"),
        ('import "wafer:native";', "code_of_test.js: cannot import `wafer:native`"),
        ('import "./absent.js";', "code_of_test.js: cannot import `./absent.js`: the code has no file `absent.js`"),
        ('import "../../x.js";', "code_of_test.js: cannot import `../../x.js`: the code has no file `../../x.js`"),
        ("await new Promise(() => 1);", "`code_of_test.js` waits for something that never comes"),
    ],
)
def test_import_of_what_is_not_there(new: JavaScript, line: str, message: str) -> None:
    error = new.function(HEAD + line + "\n" + FUNCTION)
    assert error is not None and error.startswith(message), error


def test_import_without_its_ending(new: JavaScript) -> None:
    code = archive({"ride.js": HEAD + 'import "./two";\n' + FUNCTION, "two.js": ""})
    assert new.function(code, file="ride.js") == (
        "ride.js: cannot import `./two`: the code has no file `two`; write `./two.js`"
    )


def test_syntax_error_names_the_line(new: JavaScript) -> None:
    error = new.function(HEAD + "\nlet = = 1;\n" + FUNCTION)
    assert error is not None and error.startswith("SyntaxError: ") and "at code_of_test.js, line 3" in error, error


def test_error_of_a_module_names_the_line(new: JavaScript) -> None:
    error = new.function(HEAD + "const x = null;\nx.y;\n" + FUNCTION)
    assert error is not None
    assert error.startswith("TypeError: cannot read property 'y' of null\n    at code_of_test.js, line 3")
    assert error.endswith("\n        x.y;")


def test_error_of_init(new: JavaScript) -> None:
    code = HEAD + f"export default fn({{ {ONE}, init(assets) {{\n  return assets.table.length;\n}} }}, (row, n) => row);"
    error = new.function(code)
    assert error is not None and "at code_of_test.js, line 3, in init\n        return assets.table.length;" in error


def test_source_that_is_no_text(new: JavaScript) -> None:
    assert new.function(b"'\xff'") == "code_of_test.js is not text in UTF-8"


def test_parameters_without_init(new: JavaScript) -> None:
    assert new.function(HEAD + FUNCTION, speed="3") == "the function has no `init`, which would take the parameters `speed`"


def test_init_that_waits(new: JavaScript) -> None:
    error = new.function(HEAD + f"export default fn({{ {ONE}, init: async () => 1 }}, (row, n) => row);")
    assert error == "`init` returned a promise, which nothing waits for"


def test_function_that_is_not_there(new: JavaScript) -> None:
    code = HEAD + f"export const f = fn({{ {ONE} }}, (row) => row);"
    assert new.function(code, javascript_function="g") == "`code_of_test.js` has no function `g` (it has `f`)"


def test_file_that_is_not_in_the_archive(new: JavaScript) -> None:
    assert new.function(archive(MODULES), file="other.js") == (
        "there is no module `other.js` in the code, which has `ride.js`, `lib/twice.js`, `two.js`"
    )


@pytest.mark.parametrize("name", ["wafer", "wafer:native", "wafer:one-0.js"])
def test_file_with_the_name_of_a_module_of_wafer(new: JavaScript, name: str) -> None:
    assert new.function(HEAD + FUNCTION, file=name) == f"`{name}` is a module of Wafer: give the file another name"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archive_that_is_damaged(new: JavaScript, compression: int) -> None:
    content = bytearray(archive(MODULES, compression=compression))
    content[content.index(b"ride.js") + 60] ^= 1
    error = new.function(bytes(content), file="ride.js")
    assert error is not None and error.startswith("the archive of the code cannot be read: "), error


def test_archive_that_is_cut(new: JavaScript) -> None:
    assert new.function(archive(MODULES)[:-30], file="ride.js") == "the archive of the code cannot be read: its end is missing"


def test_archive_of_another_method(new: JavaScript) -> None:
    content = archive(MODULES, compression=zipfile.ZIP_BZIP2)
    assert new.function(content, file="ride.js") == (
        "the archive of the code cannot be read: `ride.js` is compressed by method 12, and has to be stored or deflated"
    )


def test_archive_of_too_many_files(new: JavaScript) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        for number in range(20_001):
            zipped.writestr(f"{number}.js", "")
    assert new.function(content.getvalue(), file="0.js") == "the code has 20001 files; at most 20000"


@pytest.mark.parametrize(
    "line",
    [
        "Array.prototype.push = function () { return 0; };",
        "Array.prototype[Symbol.iterator] = function* () {};",
        "Object.defineProperty(Array.prototype, 0, { set() {}, configurable: true });",
        "Object.defineProperty(Array.prototype, 'map', { value: () => [] });",
        "Array.prototype[0] = 1;",
        "Object.defineProperty(Object.prototype, 0, { set() {}, configurable: true });",
        "Object.setPrototypeOf(Array.prototype, {});",
        "[][Symbol.iterator]().__proto__.next = () => ({ done: true });",
        "new Map().entries().__proto__.next = () => ({ done: true });",
        "Map.prototype.has = () => true;",
        "delete Map.prototype.set;",
        "Float64Array.prototype.__proto__.slice = () => [];",
        "Array.isArray = () => false;",
        "Array.from = () => [];",
        "Number.isSafeInteger = () => true;",
        "globalThis.Map = class {};",
    ],
)
def test_what_the_library_relies_on_cannot_be_changed(new: JavaScript, line: str) -> None:
    error = new.function(HEAD + line + "\n" + FUNCTION)
    assert error is not None and error.startswith("TypeError: ") and "at code_of_test.js, line 2" in error, error


def test_what_libraries_do_to_prototypes_may_stay(new: JavaScript) -> None:
    code = HEAD + (
        "if (!Array.prototype.at) Array.prototype.at = () => 0;\n"
        "Array.total = (list) => list.reduce((a, b) => a + b, 0);\n"
        "Map.prototype.sized = function () { return this.size; };\n"
        "String.prototype.twice = function () { return this + this; };\n"
        "class Stack extends Array { push(x) { return super.push(x, x); } }\n"
        "class Table extends Map { has(key) { return super.has(key.trim()); } }\n"
        "const plain = {}; plain.toString = () => 'plain'; plain.constructor = null;\n"
        f"export default fn({{ {ONE} }}, ({{ x }}) => {{\n"
        "  const stack = new Stack(); stack.push(x);\n"
        "  const table = new Table([['a', 1]]);\n"
        "  return { y: Array.total(stack) + table.sized() + 'ab'.twice().length + (table.has(' a ') ? 10 : 0) + `${plain}`.length };\n"
        "});"
    )
    assert called(new, code, [1.0, 2.0]) == ([(22.0,), (24.0,)], {})


def test_eval_may_stay(new: JavaScript) -> None:
    assert called(new, of_body("return { y: eval('1 + 1') + new Function('return 1')() };"), [1.0]) == ([(3.0,)], {})
