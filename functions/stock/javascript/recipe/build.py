"""Builds the component of JavaScript functions in a folder. `build.sh` calls it.

Everything that it is made of is in packages of registries, whose digests are in `requirements.txt`,
`sources/Cargo.lock` and `../../python/flatten/Cargo.lock`, in this folder and in `interpreters`.
The same sources make the same bytes: nothing of the machine, the folder or the time is part of
them. `README.md` says what the steps are for.
"""

from __future__ import annotations

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE.parent / "interpreters"))

import recipe

STACK = 1 << 20
"""Bytes of the stack inside of the memory. QuickJS throws long before its end (`glue/wafer.c`)."""
ENGINE = ("libregexp", "libunicode", "dtoa")
"""The files of QuickJS besides `quickjs.c`, which is a part of `glue/engine.c`."""
LIBRARY = ("wafer", "errors", "system", "kinds", "rows", "archive", "modules", "training",
           "rehearsal", "guest")
"""Each after what it imports; the last one answers the host."""


def main() -> None:
    folder = pathlib.Path(sys.argv[1]).resolve()
    engine = folder / "vendor" / "rquickjs-sys" / "quickjs"
    linked = link(folder, engine)
    memory, variables = prepared(linked)
    component = recipe.component_of(folder, HERE, linked, memory, variables)
    recipe.tell(HERE, component, {"LICENSE-QuickJS.txt": (engine / "LICENSE").read_bytes()})


def link(folder: pathlib.Path, engine: pathlib.Path) -> pathlib.Path:
    """Compiles QuickJS and the glue to one core module."""
    glue = HERE / "glue"
    own = [glue / "wafer.c", recipe.HERE / "memory.c", glue / "heap.c", glue / "system.c"]
    strict = ("-fno-builtin", "-Wall", "-Wextra", "-Werror", "-isystem", engine)
    objects = [recipe.compiled(folder, source, *strict) for source in own]
    others = [glue / "engine.c", *(engine / f"{name}.c" for name in ENGINE)]
    lenient = ("-w", "-DNDEBUG", "-D_GNU_SOURCE", "-isystem", engine)
    objects += [recipe.compiled(folder, source, *lenient) for source in others]
    linked = folder / "linked.wasm"
    recipe.zig(folder, "cc", "-target", "wasm32-wasi", f"-mcpu={recipe.FEATURES}", "-O2",
               "-mexec-model=reactor", "-Wl,--export=__stack_pointer", "-Wl,--strip-all",
               f"-Wl,-z,stack-size={STACK}", *objects, "-o", linked)
    return linked


def prepared(linked: pathlib.Path) -> tuple[bytes, list[int]]:
    """Returns the memory and the variables of an interpreter with the library."""
    running = recipe.Preparing(linked)
    running.begin()
    running.call("allocate", 0)
    running.call("begin")
    for name in LIBRARY:
        source = (HERE / "library" / f"{name}.js").read_bytes()
        module = "wafer" if name == "wafer" else f"wafer:{name}"
        running.call("module", running.put(module.encode()), running.put(source))
    running.call("end")
    return running.state()


main()
