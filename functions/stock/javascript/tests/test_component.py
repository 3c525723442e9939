"""The memory of a function, which the host keeps and gives to new instances, and the limits."""

from __future__ import annotations

import component as harness
import pytest
import wasmtime
from component import PAGE, runs_between
from conftest import HEAD, LINE, JavaScript, called, error_of, of_body

MOST_RUNS = 16_384
STACK = range(1024, 1 << 20)

FUNCTION = HEAD + """
let calls = 0;
const words = new Map([["a", 1], ["b", 2]]);
export default fn({ inputs: { text: t.utf8 }, outputs: { calls: t.safeInt, word: t.nullable(t.safeInt) }, init: () => ({ seen: [] }) },
  ({ text }, state) => {
    state.seen.push(text);
    calls++;
    return { calls: calls + state.seen.length, word: words.get(text) ?? null };
  });
"""
ANSWER = ([(2, 1), (4, None)], {})


def test_reading_a_new_memory_does_not_change_it(new: JavaScript) -> None:
    before = new.memory()
    assert new.read() == before
    assert new.memory() == before


def test_instances_of_a_function_are_the_same(component: harness.Component) -> None:
    memories = []
    for _ in range(2):
        interpreter = JavaScript(component)
        assert interpreter.function(FUNCTION) is None
        memories.append(interpreter.read())
    assert memories[0] == memories[1]


def test_calls_of_the_same_rows_are_the_same(component: harness.Component) -> None:
    memories = []
    for _ in range(2):
        interpreter = JavaScript(component)
        assert called(interpreter, FUNCTION, ["a", "c"]) == ANSWER
        memories.append(interpreter.memory())
    assert memories[0] == memories[1]


def test_new_instances_are_given_the_memory_of_a_function(component: harness.Component) -> None:
    initialised = JavaScript(component)
    assert initialised.function(FUNCTION) is None
    wanted = initialised.read()
    assert initialised.read() == wanted
    assert not any(wanted[STACK.start : STACK.stop])
    runs = runs_between(JavaScript(component).memory(), wanted)
    size = sum(len(content) for _, content in runs)
    print(f"{size} bytes in {len(runs)} runs, {len(wanted) // PAGE} pages")
    assert len(runs) <= MOST_RUNS and size <= 64 << 10
    for _ in range(2):
        restored = JavaScript(component)
        restored.restore(len(wanted) // PAGE, runs)
        assert restored.memory() == wanted
        assert restored.read() == wanted
        # Nothing is left of the call of another instance.
        assert restored.call(initialised.inputs, initialised.outputs, ["a", "c"]) == ANSWER


def test_memory_that_grew_is_restored(component: harness.Component) -> None:
    code = FUNCTION + "const numbers = Array.from({ length: 1e5 }, (_, i) => i + 0.5); const bytes = new Uint8Array(1 << 20).fill(7);"
    initialised = JavaScript(component)
    assert initialised.function(code) is None
    wanted = initialised.read()
    before = JavaScript(component).memory()
    assert len(wanted) > len(before)
    runs = runs_between(before, wanted)
    restored = JavaScript(component)
    restored.restore(len(wanted) // PAGE, runs)
    assert restored.memory() == wanted
    assert restored.call(initialised.inputs, initialised.outputs, ["a", "c"]) == ANSWER


def test_too_many_runs_are_refused(component: harness.Component, new: JavaScript) -> None:
    memory = new.memory()
    runs = [(i, memory[i : i + 1]) for i in range(STACK.start, STACK.start + 2 * MOST_RUNS + 2, 2)]
    with pytest.raises(wasmtime.Trap):
        JavaScript(component).restore(len(memory) // PAGE, runs)


def test_memory_of_a_trainer_is_used_again(new: JavaScript) -> None:
    code = HEAD + "export default trainer({ rows: { x: t.float64, s: t.utf8 } }, class { feed(rows) {} finish() {} });"
    assert new.trainer(code, "x") is None
    columns = [float(i) for i in range(8192)], [str(i) for i in range(8192)]
    sizes = []
    for _ in range(12):
        assert new.feed(0, *columns) is None
        sizes.append(len(new.memory()))
    assert sizes[3] == sizes[-1]


@pytest.mark.parametrize(
    "body",
    [
        "return f(row);",
        "return [1].map(() => f(row))[0];",
        "return [2, 1].sort(() => f(row))[0];",
        'return "a".replace(/a/, () => f(row));',
        "return { y: JSON.stringify({ toJSON: () => f(row) }) };",
        "const o = { get x() { return this.x; } }; return { y: o.x };",
        "return eval('f(row)');",
        "class A { constructor() { new A(); } } return { y: new A() };",
    ],
)
def test_recursion_is_an_error_of_the_row(new: JavaScript, body: str) -> None:
    assert "RangeError: Maximum call stack size exceeded" in error_of(new, body)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("const deep = (n) => (n === 0 ? 0 : 1 + deep(n - 1)); return { y: deep(700) };", 700.0),
        ("return { y: JSON.stringify(JSON.parse('['.repeat(2000) + ']'.repeat(2000))).length };", 4000.0),
        ("let list = null; for (let i = 0; i < 200000; i++) list = { list }; list = null; return { y: 1 };", 1.0),
        ("let text = ''; for (let i = 0; i < 100000; i++) text += 'ab'; return { y: text.length };", 200000.0),
    ],
)
def test_what_is_nested_as_usual_is_within_the_stack(new: JavaScript, body: str, answer: float) -> None:
    assert called(new, of_body(body), [1.0]) == ([(answer,)], {})


DEEP_TEXTS = ["'['.repeat({0}) + ']'.repeat({0})", "'{{\"a\":'.repeat({0}) + '1' + '}}'.repeat({0})", "'['.repeat({0})"]


@pytest.mark.parametrize("text", [*DEEP_TEXTS, "'[\"]]]]]\\\\\"\",'.repeat({0}) + '1' + ']'.repeat({0})"])
@pytest.mark.parametrize("depth", [2001, 7000, 1_000_000])
def test_json_that_is_nested_too_deep_is_an_error_that_can_be_caught(new: JavaScript, text: str, depth: int) -> None:
    body = f"const text = {text.format(depth)};\nif (row.x === 1) JSON.parse(text);\ntry {{ JSON.parse(text); }} catch (e) {{ return {{ y: e instanceof RangeError ? 1 : 2 }}; }}"
    rows, errors = called(new, of_body(body), [0.0, 1.0])
    assert rows[0] == (1.0,)
    assert errors == {1: f"code_of_test.js, line {LINE + 1}, in f: RangeError: JSON.parse: the text is nested more than 2000 deep"}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ("const deep = JSON.parse('['.repeat(2000) + ']'.repeat(2000)); return { y: JSON.stringify(deep).length };", 4000.0),
        ("let n = 0; JSON.parse('['.repeat(200) + '1' + ']'.repeat(200), (k, v) => { n++; return v; }); return { y: n };", 201.0),
        ("return { y: JSON.parse('{\"a\":2}', (k, v) => (k === 'a' ? v * 21 : v)).a };", 42.0),
        ("return { y: JSON.parse(JSON.stringify('[{\"\\\\'.repeat(5000))).length };", 20000.0),
        ("return { y: JSON.parse('[' + '[],'.repeat(5000) + '1]').length };", 5001.0),
        ("return { y: JSON.parse(7) + JSON.parse({ toString: () => '3' }) };", 10.0),
        ("return { y: JSON.parse.name === 'parse' && !('prototype' in JSON.parse) ? JSON.parse.length : 0 };", 2.0),
    ],
)
def test_json_is_parsed_as_usual(new: JavaScript, body: str, answer: float) -> None:
    assert called(new, of_body(body), [1.0]) == ([(answer,)], {})


def test_reviver_of_json_as_deep_as_may_be_does_not_end_the_call(new: JavaScript) -> None:
    body = "return { y: JSON.parse('['.repeat(2000) + '1' + ']'.repeat(2000), (k, v) => (Array.isArray(v) ? v[0] : v)) };"
    rows, errors = called(new, of_body(body), [1.0])
    assert rows == [(1.0,)] and errors == {} or "RangeError: Maximum call stack size exceeded" in errors[0]


def test_what_is_nested_very_deep_ends_the_call(new: JavaScript) -> None:
    body = "let list = []; for (let i = 0; i < 100000; i++) list = [list]; return { y: JSON.stringify(list).length };"
    with pytest.raises(wasmtime.Trap, match="call stack exhausted"):
        called(new, of_body(body), [1.0])


def limited(component: harness.Component, megabytes: int) -> JavaScript:
    """Returns an instance whose memory cannot grow beyond a limit."""
    interpreter = JavaScript(component)
    interpreter.store.set_limits(memory_size=megabytes << 20)
    return interpreter


@pytest.mark.parametrize(
    "body",
    [
        "const all = []; for (;;) all.push(new Uint8Array(1 << 16));",
        "const all = []; for (;;) all.push({ row });",
        "let text = 'a'; for (;;) text += text + 'b';",
        "return { y: new Float64Array(1 << 24).length };",
        "const all = new Map(); for (let i = 0; ; i++) all.set(i, `${i}`);",
        "return { y: 'ab'.repeat(1 << 26).length };",
    ],
)
def test_memory_that_is_not_there_is_an_error_of_the_row(component: harness.Component, body: str) -> None:
    error = error_of(limited(component, 16), body)
    no_memory = "; the setting `memory` of the function says how much there is"
    if error.startswith("null was thrown, as it is when there is no memory left"):
        assert error.endswith(no_memory)
        return
    assert error.startswith(f"code_of_test.js, line {LINE}, in f: "), error
    assert error.endswith(no_memory) or "string too long" in error or "string length" in error, error


def test_row_after_one_without_memory_is_right(component: harness.Component) -> None:
    body = "if (row.x === 1) { const all = []; for (;;) all.push(new Uint8Array(1 << 16)); } return { y: row.x };"
    rows, errors = called(limited(component, 16), of_body(body), [0.0, 1.0, 2.0])
    assert [rows[0], rows[2]] == [(0.0,), (2.0,)]
    assert list(errors) == [1]


def test_answer_that_does_not_fit_into_memory_ends_the_call(component: harness.Component) -> None:
    code = HEAD + (
        "const text = 'ab'.repeat(1 << 19);\n"
        "export default fn({ inputs: { x: t.float64 }, outputs: { y: t.utf8 } }, () => ({ y: text }));"
    )
    interpreter = limited(component, 16)
    assert interpreter.function(code) is None
    try:
        answer = interpreter.call(interpreter.inputs, interpreter.outputs, [1.0] * 64)
    except wasmtime.Trap:
        return
    assert isinstance(answer, str) and "out of memory" in answer


def test_cycles_of_garbage_are_freed(component: harness.Component) -> None:
    body = "for (let i = 0; i < 2000; i++) { const a = { bytes: new Uint8Array(1 << 16) }; a.self = a; } return { y: 1 };"
    assert called(limited(component, 128), of_body(body), [1.0]) == ([(1.0,)], {})


def test_order_of_hash_tables_and_sorts_is_fixed(component: harness.Component) -> None:
    body = (
        "const keys = Object.keys(Object.fromEntries(Array.from({ length: 99 }, (_, i) => [`k${(i * 37) % 99}`, i]))).join();\n"
        "const sorted = Array.from({ length: 999 }, (_, i) => [i % 7, i]).sort((a, b) => a[0] - b[0]).join();\n"
        "let sum = 0; for (const c of keys + sorted) sum = (sum * 31 + c.charCodeAt(0)) % 1e9; return { y: sum };"
    )
    answers = [called(JavaScript(component), of_body(body), [1.0]) for _ in range(2)]
    assert answers[0] == answers[1] and answers[0][1] == {}
