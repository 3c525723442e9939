"""Functions in the component, without a host: its core module, in the canonical ABI.

https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md
"""

from __future__ import annotations

import pathlib
import struct
from typing import Any

import wasmtime
from guest import lifted, lowered
from wafer import _kinds

TRANSFORM = "wafer:function/transform@0.1.0#"
TRAINING = "wafer:function/training@0.1.0#"
MEMORY = "wafer:interpreter/memory@0.1.0#"
CHUNK = 1 << 20
PAGE = 64 << 10
GAP = 64
"""Runs of a delta with fewer equal bytes between them are one."""

Run = tuple[int, bytes]
SIZES = {
    _kinds.BOOLEAN: (1,),
    _kinds.INT64: (8,),
    _kinds.FLOAT64: (8,),
    _kinds.FLOAT32: (4,),
    _kinds.UTF8: (4, 1),
    _kinds.BINARY: (4, 1),
    _kinds.TIMESTAMP: (8,),
    _kinds.DATE: (4,),
    _kinds.VECTOR: (4,),
    _kinds.LIST_INT64: (4, 8),
    _kinds.LIST_FLOAT64: (4, 8),
    _kinds.LIST_UTF8: (4, 4, 1),
}
"""How large the items of the lists of a column are, by the case of its type."""


class Component:
    """A component whose core module was compiled."""

    def __init__(self, path: pathlib.Path) -> None:
        config = wasmtime.Config()
        config.cranelift_opt_level = "none"
        config.max_wasm_stack = 1 << 20
        self.engine = wasmtime.Engine(config)
        self.module = wasmtime.Module(self.engine, core_module(path.read_bytes()))


def core_module(component: bytes) -> bytes:
    """Returns the largest module of a component."""
    found = b""
    at = 8
    while at < len(component):
        section, size, shift = component[at], 0, 0
        while True:
            at += 1
            size |= (component[at] & 127) << shift
            shift += 7
            if component[at] < 128:
                break
        start = at + 1
        at = start + size
        if section == 1:
            found = max(found, component[start:at], key=len)
    return found


class Interpreter:
    """A new instance."""

    language = "python"
    """The asset that has the code, and what parameters that tell of it begin with."""
    file = "code_of_test.py"

    def __init__(self, component: Component) -> None:
        self.store = wasmtime.Store(component.engine)
        self.messages: list[tuple[int, str]] = []
        log = wasmtime.FuncType([wasmtime.ValType.i32()] * 3, [])
        instance = wasmtime.Instance(
            self.store, component.module, [wasmtime.Func(self.store, log, self._log)]
        )
        self.exports = instance.exports(self.store)
        self._memory: Any = self.exports["memory"]

    # ---- The contract ----

    def function(
        self, code: str | bytes, file: str | None = None, assets: dict[str, bytes] | None = None, **parameters: str
    ) -> str | None:
        """Loads and initialises a function; returns why it is not one."""
        self._load(TRANSFORM, {**self._code(code), **(assets or {})})
        answer = self._call(f"{TRANSFORM}init", *self._parameters({**self._file(file), **parameters}))
        error = self._error(answer)
        if error is None:
            described = self._call(f"{TRANSFORM}describe")
            inputs, inputs_count, outputs, outputs_count = self._words(described, 4)
            self.inputs = self._fields(inputs, inputs_count)
            self.outputs = self._fields(outputs, outputs_count)
            self.mapping = self._bytes(described + 16, 1)[0]
            self.doc = self._text(*self._words(described + 20, 2))
        return error

    def call(self, inputs: Any, outputs: Any, *columns: list[Any]) -> Any:
        """Returns the rows and the errors of rows, or the error of the whole batch. What rows were
        made of is in `sources` then, if they do not map one to one."""
        answer = self._call(f"{TRANSFORM}call", *self._batch(inputs, columns))
        if self._bytes(answer, 1)[0]:
            return self._text(*self._words(answer + 8, 2))
        rows, at, _ = self._words(answer + 4, 3)
        made = [self._column(tag, at + 40 * i) for i, (_, tag, *_) in enumerate(outputs)]
        has_sources, sources_at, sources_count = self._words(answer + 16, 3)
        self.sources = list(self._words(sources_at, sources_count)) if has_sources & 1 else None
        errors_at, count = self._words(answer + 28, 2)
        errors = {}
        for i in range(count):
            row, start, length = self._words(errors_at + 12 * i, 3)
            errors[row] = self._text(start, length)
        return lifted(outputs, rows, made), errors

    def trainer(self, code: str, label: str, **parameters: str) -> str | None:
        """Loads a trainer and begins a training; returns why it cannot."""
        self._load(TRAINING, self._code(code))
        given = self._parameters({**self._file(None), **parameters})
        answer = self._call(f"{TRAINING}begin", *given, 0, 0, *self._lower(label.encode()))
        error = self._error(answer)
        if error is None:
            self.inputs = self._fields(*self._words(answer + 4, 2))
        return error

    def feed(self, role: int, *columns: list[Any]) -> str | None:
        return self._error(self._call(f"{TRAINING}feed", role, *self._batch(self.inputs, columns)))

    def next_pass(self) -> bool:
        answer = self._call(f"{TRAINING}next-pass")
        assert self._error(answer) is None
        return bool(self._bytes(answer + 4, 1)[0])

    def finish(self) -> tuple[dict[str, int], dict[str, float]]:
        """Returns the sizes of artifacts, and the metrics."""
        answer = self._call(f"{TRAINING}finish")
        assert self._error(answer) is None
        artifacts_at, artifacts_count, metrics_at, metrics_count = self._words(answer + 4, 4)
        artifacts, metrics = {}, {}
        for i in range(artifacts_count):
            at, length, size = struct.unpack("<IIQ", self._bytes(artifacts_at + 16 * i, 16))
            artifacts[self._text(at, length)] = size
        for i in range(metrics_count):
            at, length, value = struct.unpack("<IId", self._bytes(metrics_at + 16 * i, 16))
            metrics[self._text(at, length)] = value
        return artifacts, metrics

    def read_artifact(self, name: str, offset: int) -> bytes:
        answer = self.exports[f"{TRAINING}read"](self.store, *self._lower(name.encode()), offset)  # type: ignore[operator]
        return self._bytes(*self._words(answer, 2))

    # ---- The memory ----

    def memory(self) -> bytes:
        return bytes(self._memory.read(self.store, 0, self._memory.data_len(self.store)))

    def read(self) -> bytes:
        """Returns the memory as the host reads it."""
        at, length = self._words(self._call(f"{MEMORY}read"), 2)
        memory = self.memory()
        assert (at, length) == (0, len(memory))
        return memory

    def restore(self, pages: int, runs: list[Run]) -> None:
        """Gives the interpreter memory as the host does."""
        self._call(f"{MEMORY}expect", pages)
        addresses = self._lower(b"".join(struct.pack("<I", address) for address, _ in runs), 4)
        lists = self._call("cabi_realloc", 0, 0, 4, 8 * len(runs))
        for index, (address, content) in enumerate(runs):
            at, length = self._lower(content)
            assert at == address
            self._memory.write(self.store, struct.pack("<II", at, length), lists + 8 * index)
        self._call(f"{MEMORY}write", *addresses, lists, len(runs))

    def _code(self, code: str | bytes) -> dict[str, bytes]:
        return {self.language: code.encode() if isinstance(code, str) else code}

    def _file(self, file: str | None) -> dict[str, str]:
        return {f"{self.language}_file": file or self.file}

    # ---- The canonical ABI ----

    def _log(self, level: int, at: int, length: int) -> None:
        self.messages.append((level, self._text(at & 0xFFFFFFFF, length)))

    def _call(self, name: str, *arguments: int) -> int:
        signed = [value - 2**32 if value >= 2**31 else value for value in arguments]
        answer = self.exports[name](self.store, *signed)  # type: ignore[operator]
        return (answer or 0) & 0xFFFFFFFF

    def _bytes(self, at: int, length: int) -> bytes:
        return bytes(self._memory.read(self.store, at, at + length))

    def _text(self, at: int, length: int) -> str:
        return self._bytes(at, length).decode()

    def _words(self, at: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}I", self._bytes(at, 4 * count))

    def _error(self, answer: int) -> str | None:
        is_error = self._bytes(answer, 1)[0]
        return self._text(*self._words(answer + 4, 2)) if is_error else None

    def _lower(self, content: bytes, size: int = 1) -> tuple[int, int]:
        at = self._call("cabi_realloc", 0, 0, size, len(content))
        if content:
            self._memory.write(self.store, content, at)
        return at, len(content) // size

    def _load(self, interface: str, assets: dict[str, bytes]) -> None:
        for name, content in assets.items():
            for start in range(0, max(len(content), 1), CHUNK):
                chunk = content[start : start + CHUNK]
                last = start + CHUNK >= len(content)
                self._call(f"{interface}load", *self._lower(name.encode()), *self._lower(chunk), last)

    def _parameters(self, parameters: dict[str, str]) -> tuple[int, int]:
        texts = [text for pair in parameters.items() for text in pair]
        words = [word for text in texts for word in self._lower(text.encode())]
        return self._lower(struct.pack(f"<{len(words)}I", *words), 4)[0], len(parameters)

    def _fields(self, at: int, count: int) -> list[tuple[Any, ...]]:
        fields = []
        for start in range(at, at + 32 * count, 32):
            name, length, tag, dimension, _, nullable, doc, doc_length = self._words(start, 8)
            tag &= 255
            width = dimension if tag == _kinds.VECTOR else 0
            doc_text = self._text(doc, doc_length)
            fields.append((self._text(name, length), tag, width, bool(nullable & 1), doc_text))
        return fields

    def _batch(self, fields: Any, columns: Any) -> tuple[int, int, int]:
        records = []
        for (*_, dimension, _, _), (tag, validity, *buffers) in zip(fields, lowered(fields, columns), strict=True):
            lists = [self._lower(b, size) for b, size in zip(buffers, SIZES[tag], strict=True)]
            words = [word for pair in lists for word in pair]
            if tag == _kinds.VECTOR:
                words = [dimension, *words]
            valid = (0, 0) if validity is None else self._lower(validity)
            records.append(
                struct.pack("<Bxxx6IBxxx2I", tag, *words, *[0] * (6 - len(words)), validity is not None, *valid)
            )
        at, _ = self._lower(b"".join(records), 8)
        return len(columns[0]), at, len(records)

    def _column(self, tag: int, at: int) -> Any:
        buffers = []
        first = at + 8 if tag == _kinds.VECTOR else at + 4
        for index, size in enumerate(SIZES[tag]):
            start, length = self._words(first + 8 * index, 2)
            buffers.append(self._bytes(start, length * size))
        has_validity, start, length = self._words(at + 28, 3)
        return tag, self._bytes(start, length) if has_validity & 1 else None, *buffers


def runs_between(before: bytes, after: bytes) -> list[Run]:
    """Returns what a memory has different from what it was."""
    before = before.ljust(len(after), b"\0")
    found: list[list[int]] = []
    for start in range(0, len(after), PAGE):
        was, now = before[start : start + PAGE], after[start : start + PAGE]
        if was == now:
            continue
        for offset in range(PAGE):
            if was[offset] != now[offset]:
                address = start + offset
                if found and address - found[-1][1] < GAP:
                    found[-1][1] = address + 1
                else:
                    found.append([address, address + 1])
    return [(start, after[start:end]) for start, end in found]
