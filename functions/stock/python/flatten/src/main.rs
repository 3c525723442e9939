//! Makes one core module of the shared libraries that an interpreter consists of.
//!
//! `flatten link` places the libraries in one memory and one table, and resolves their imports
//! against each other. What a dynamic linker would look up when the program starts, such as the
//! addresses of data and functions, becomes constants.
//!
//! `flatten freeze` makes the state of a running instance the initial state of its module.

mod freeze;
mod library;
mod link;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "usage: flatten link OUT.wasm STACK_BYTES DROPPED LIBRARY.so...
       flatten freeze MODULE.wasm MEMORY GLOBALS OUT.wasm EXPORT...";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["link", out, stack, dropped, libraries @ ..] => {
            let libraries = libraries
                .iter()
                .map(|path| Ok((name(path), read(path)?)))
                .collect::<Result<Vec<_>>>()?;
            let stack = stack.parse().context("STACK_BYTES is not a number")?;
            let dropped = String::from_utf8(read(dropped)?)?;
            let dropped: Vec<&str> = dropped.lines().filter(|line| !line.is_empty()).collect();
            write(out, &link::link(&libraries, stack, &dropped)?)
        }
        ["freeze", module, memory, globals, out, exports @ ..] => {
            let globals = String::from_utf8(read(globals)?)?;
            let globals = globals
                .split_whitespace()
                .map(|global| global.parse().context("GLOBALS are not numbers"))
                .collect::<Result<Vec<i64>>>()?;
            let frozen = freeze::freeze(&read(module)?, &read(memory)?, &globals, exports)?;
            write(out, &frozen)
        }
        _ => bail!("{USAGE}"),
    }
}

fn name(path: &str) -> String {
    let path = PathBuf::from(path);
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &str, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {path}"))
}
