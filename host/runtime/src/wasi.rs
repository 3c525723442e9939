//! WASI 0.2 that grants nothing.
//!
//! The standard libraries of most languages import WASI whether they need it or not. A component
//! that does is linked to the answers in this module, which are the same in every call and on every
//! machine (decision 0022):
//!
//! - The clocks stand still, at [`CLOCK_SECONDS`] and [`MONOTONIC_NANOSECONDS`]. What lies in their
//!   future never comes, and waiting for it traps.
//! - Random bytes are made from the digest of the component (`seeded.rs`). Every instance begins
//!   with the same ones.
//! - There are no arguments, no environment, no terminal and no folders. Standard input is at its
//!   end.
//! - Standard output and standard error are the log, line by line (`printed.rs`).
//! - `exit` traps.
//!
//! Every other function of WASI 0.2 traps and says its name: those of files, which nobody can open,
//! of sockets and HTTP, and those that later versions add. So the functions are defined for each
//! component by what it imports, with the versions that it names, and none is missing.
//!
//! A component without WASI is linked as if this module did not exist.

use wafer_core::Digest;
use wasmtime::StoreContextMut;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentType, Linker, LinkerInstance, Lower, Resource, ResourceType,
};

use crate::bindings::log::Level;
use crate::handles::{Handle, Handles};
use crate::printed::Printed;
use crate::seeded::Seeded;
use crate::state::{Log, State};

/// The time of the wall clock, in seconds since 1970: the begin of the year 2000. It is so far from
/// the present that nobody takes it for that.
const CLOCK_SECONDS: u64 = 946_684_800;
/// The time of the monotonic clock.
const MONOTONIC_NANOSECONDS: u64 = 1_000_000_000;
/// How many bytes may be written to a stream at once. `check-write` says so.
const WRITE_BYTES: usize = 64 << 10;
/// How many random bytes there are at once.
const RANDOM_BYTES: u64 = 1 << 20;
/// How many handles an instance may hold. Those that it passes to a function count twice meanwhile.
pub(crate) const MAX_HANDLES: usize = 4_096;

/// The packages of WASI 0.2.
const PACKAGES: [&str; 7] = [
    "cli",
    "clocks",
    "filesystem",
    "http",
    "io",
    "random",
    "sockets",
];

/// What an instance has of WASI.
pub(crate) struct Wasi {
    pub(crate) handles: Handles,
    random: Seeded,
    printed: Printed,
}

impl Wasi {
    /// Creates the state of an instance of a component.
    pub(crate) fn new(component: Digest) -> Self {
        Self {
            handles: Handles::default(),
            random: Seeded::by(component),
            printed: Printed::default(),
        }
    }

    /// Takes what the function writes to a stream, and logs the lines that it ends.
    pub(crate) fn print(&mut self, stream: Handle, bytes: &[u8], log: &mut Log) {
        match stream {
            Handle::Stderr => {
                self.printed
                    .push_errors(bytes, |line| log.write(Level::Warn, line));
            }
            _ => {
                self.printed
                    .push(bytes, |line| log.write(Level::Info, line));
            }
        }
    }

    /// Logs the lines that have no end, at the end of a call.
    pub(crate) fn finish_lines(&mut self, log: &mut Log) {
        let (output, errors) = std::mem::take(&mut self.printed).finish();
        if let Some(line) = output {
            log.write(Level::Info, line);
        }
        if let Some(line) = errors {
            log.write(Level::Warn, line);
        }
    }

    /// Returns the last lines of standard error.
    pub(crate) fn last_errors(&self) -> Option<String> {
        self.printed.last_errors()
    }
}

/// What a function asked of WASI that it is not given. It traps.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(String);

/// Returns the interface that an import of WASI 0.2 names, such as `cli/stdin`.
pub(crate) fn interface(import: &str) -> Option<&str> {
    let (name, version) = import.strip_prefix("wasi:")?.split_once('@')?;
    let (package, _) = name.split_once('/')?;
    let is_released = version.starts_with("0.2.") && !version.contains('-');
    (is_released && PACKAGES.contains(&package)).then_some(name)
}

/// Returns whether an import is one of WASI 0.2.
pub(crate) fn is_wasi(import: &str) -> bool {
    interface(import).is_some()
}

/// Returns whether a component imports WASI 0.2.
pub(crate) fn is_imported_by(component: &Component) -> bool {
    let ty = component.component_type();
    let mut imports = ty.imports(component.engine());
    imports.any(|(name, _)| is_wasi(name))
}

/// Returns a linker that has what a component imports of WASI, beside what is in `others`.
///
/// # Errors
/// Fails when an interface is defined twice.
pub(crate) fn linker(
    others: &Linker<State>,
    component: &Component,
) -> wasmtime::Result<Linker<State>> {
    let mut linker = others.clone();
    let engine = component.engine();
    let ty = component.component_type();
    for (import, item) in ty.imports(engine) {
        let (Some(interface), ComponentItem::ComponentInstance(instance)) =
            (interface(import), item.ty)
        else {
            continue;
        };
        let mut linked = linker.instance(import)?;
        for (name, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) => define(&mut linked, import, interface, name)?,
                // All of them are handles, behind which there is nothing. Which one belongs to
                // which interface is checked by the types of the component.
                ComponentItem::Resource(_) => {
                    linked.resource(name, ResourceType::host::<Handle>(), close)?;
                }
                _ => {}
            }
        }
    }
    Ok(linker)
}

/// Defines a function: by its answer if it has one.
fn define(
    linked: &mut LinkerInstance<'_, State>,
    import: &str,
    interface: &str,
    name: &str,
) -> wasmtime::Result<()> {
    let (package, _) = interface.split_once('/').unwrap_or_default();
    match package {
        "cli" => define_cli(linked, import, interface, name),
        "clocks" => define_clocks(linked, import, interface, name),
        "io" => define_io(linked, import, interface, name),
        "random" => define_random(linked, import, interface, name),
        _ if (interface, name) == ("filesystem/preopens", "get-directories") => {
            always(linked, name, Vec::<(Resource<Handle>, String)>::new)
        }
        _ => refuse(linked, import, interface, name),
    }
}

fn define_cli(
    linked: &mut LinkerInstance<'_, State>,
    import: &str,
    interface: &str,
    name: &str,
) -> wasmtime::Result<()> {
    match (interface, name) {
        ("cli/environment", "get-environment") => {
            always(linked, name, Vec::<(String, String)>::new)
        }
        ("cli/environment", "get-arguments") => always(linked, name, Vec::<String>::new),
        ("cli/environment", "initial-cwd") => always(linked, name, || None::<String>),
        ("cli/exit", "exit") => linked.func_wrap(name, |_, (status,): (Result<(), ()>,)| {
            exit(match status {
                Ok(()) => "success",
                Err(()) => "failure",
            })
        }),
        ("cli/exit", "exit-with-code") => {
            linked.func_wrap(name, |_, (status,): (u8,)| exit(&status.to_string()))
        }
        ("cli/stdin", "get-stdin") => opens(linked, name, Handle::Stdin),
        ("cli/stdout", "get-stdout") => opens(linked, name, Handle::Stdout),
        ("cli/stderr", "get-stderr") => opens(linked, name, Handle::Stderr),
        ("cli/terminal-stdin", "get-terminal-stdin")
        | ("cli/terminal-stdout", "get-terminal-stdout")
        | ("cli/terminal-stderr", "get-terminal-stderr") => {
            always(linked, name, || None::<Resource<Handle>>)
        }
        _ => refuse(linked, import, interface, name),
    }
}

/// A time of the wall clock.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

fn define_clocks(
    linked: &mut LinkerInstance<'_, State>,
    import: &str,
    interface: &str,
    name: &str,
) -> wasmtime::Result<()> {
    match (interface, name) {
        ("clocks/wall-clock", "now") => always(linked, name, || Datetime {
            seconds: CLOCK_SECONDS,
            nanoseconds: 0,
        }),
        ("clocks/wall-clock", "resolution") => always(linked, name, || Datetime {
            seconds: 0,
            nanoseconds: 1,
        }),
        ("clocks/monotonic-clock", "now") => always(linked, name, || MONOTONIC_NANOSECONDS),
        ("clocks/monotonic-clock", "resolution") => always(linked, name, || 1_u64),
        ("clocks/monotonic-clock", "subscribe-instant") => {
            linked.func_wrap(name, |mut store, (instant,): (u64,)| {
                let handle = waiting_for(instant <= MONOTONIC_NANOSECONDS);
                Ok((open(&mut store, handle)?,))
            })
        }
        ("clocks/monotonic-clock", "subscribe-duration") => linked
            .func_wrap(name, |mut store, (duration,): (u64,)| {
                Ok((open(&mut store, waiting_for(duration == 0))?,))
            }),
        _ => refuse(linked, import, interface, name),
    }
}

fn waiting_for(is_past: bool) -> Handle {
    match is_past {
        true => Handle::Ready,
        false => Handle::Never,
    }
}

/// Why nothing can be read from or written to a stream.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum StreamError {
    #[allow(dead_code, reason = "nothing that a stream does here can fail")]
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<Handle>),
    #[component(name = "closed")]
    Closed,
}

fn define_io(
    linked: &mut LinkerInstance<'_, State>,
    import: &str,
    interface: &str,
    name: &str,
) -> wasmtime::Result<()> {
    match (interface, name) {
        ("io/poll", "[method]pollable.ready") => linked
            .func_wrap(name, |_, (handle,): (Resource<Handle>,)| {
                Ok((is_ready(&handle),))
            }),
        ("io/poll", "[method]pollable.block") => {
            linked.func_wrap(name, |_, (handle,): (Resource<Handle>,)| {
                match is_ready(&handle) {
                    true => Ok(()),
                    false => Err(endless()),
                }
            })
        }
        ("io/poll", "poll") => linked.func_wrap(name, |_, (handles,): (Vec<Resource<Handle>>,)| {
            let ready: Vec<u32> = (0..)
                .zip(&handles)
                .filter(|(_, handle)| is_ready(handle))
                .map(|(index, _)| index)
                .collect();
            match ready.is_empty() {
                true => Err(endless()),
                false => Ok((ready,)),
            }
        }),
        ("io/streams", "[method]input-stream.read" | "[method]input-stream.blocking-read") => {
            linked.func_wrap(name, |_, (_, _): (Resource<Handle>, u64)| {
                Ok((Err::<Vec<u8>, _>(StreamError::Closed),))
            })
        }
        ("io/streams", "[method]input-stream.skip" | "[method]input-stream.blocking-skip") => {
            linked.func_wrap(name, |_, (_, _): (Resource<Handle>, u64)| {
                Ok((Err::<u64, _>(StreamError::Closed),))
            })
        }
        ("io/streams", "[method]input-stream.subscribe" | "[method]output-stream.subscribe") => {
            linked.func_wrap(name, |mut store, (_,): (Resource<Handle>,)| {
                Ok((open(&mut store, Handle::Ready)?,))
            })
        }
        ("io/streams", "[method]output-stream.check-write") => linked
            .func_wrap(name, |_, (_,): (Resource<Handle>,)| {
                Ok((Ok::<_, StreamError>(WRITE_BYTES as u64),))
            }),
        (
            "io/streams",
            "[method]output-stream.write" | "[method]output-stream.blocking-write-and-flush",
        ) => linked.func_wrap(
            name,
            |mut store, (stream, bytes): (Resource<Handle>, Vec<u8>)| {
                write(&mut store, &stream, &bytes)?;
                Ok((Ok::<(), StreamError>(()),))
            },
        ),
        ("io/streams", "[method]output-stream.flush" | "[method]output-stream.blocking-flush") => {
            linked.func_wrap(name, |_, (_,): (Resource<Handle>,)| {
                Ok((Ok::<(), StreamError>(()),))
            })
        }
        _ => refuse(linked, import, interface, name),
    }
}

fn define_random(
    linked: &mut LinkerInstance<'_, State>,
    import: &str,
    interface: &str,
    name: &str,
) -> wasmtime::Result<()> {
    match (interface, name) {
        ("random/random", "get-random-bytes")
        | ("random/insecure", "get-insecure-random-bytes") => linked
            .func_wrap(name, |mut store, (count,): (u64,)| {
                Ok((random_bytes(&mut store, count)?,))
            }),
        ("random/random", "get-random-u64") | ("random/insecure", "get-insecure-random-u64") => {
            linked.func_wrap(name, |mut store: StoreContextMut<'_, State>, (): ()| {
                Ok((store.data_mut().wasi().random.number(),))
            })
        }
        ("random/insecure-seed", "insecure-seed") => {
            linked.func_wrap(name, |mut store: StoreContextMut<'_, State>, (): ()| {
                Ok((store.data_mut().wasi().random.seed(),))
            })
        }
        _ => refuse(linked, import, interface, name),
    }
}

/// Defines a function that takes nothing and always returns the same.
fn always<R: Lower + 'static>(
    linked: &mut LinkerInstance<'_, State>,
    name: &str,
    answer: impl Fn() -> R + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    linked.func_wrap(name, move |_, (): ()| Ok((answer(),)))
}

/// Defines a function that takes nothing and opens a handle.
fn opens(
    linked: &mut LinkerInstance<'_, State>,
    name: &str,
    handle: Handle,
) -> wasmtime::Result<()> {
    linked.func_wrap(name, move |mut store, (): ()| {
        Ok((open(&mut store, handle)?,))
    })
}

/// Defines a function that traps.
fn refuse(
    linked: &mut LinkerInstance<'_, State>,
    import: &str,
    interface: &str,
    name: &str,
) -> wasmtime::Result<()> {
    let advice = match interface.split_once('/') {
        Some(("filesystem", _)) => "a function has no files: give it assets",
        Some(("http" | "sockets", _)) => {
            "a function has no network: give it what it needs as columns or assets"
        }
        _ => "a function is granted nothing of WASI but its log, and clocks that stand still",
    };
    let message = format!("it called `{name}` of `{import}`; {advice}");
    linked.func_new(name, move |_, _, _, _| Err(Refused(message.clone()).into()))
}

fn open(
    store: &mut StoreContextMut<'_, State>,
    handle: Handle,
) -> wasmtime::Result<Resource<Handle>> {
    let opened = store.data_mut().wasi().handles.open(handle);
    let opened = opened.ok_or_else(|| Refused("it opened too many handles of WASI".to_owned()))?;
    Ok(Resource::new_own(opened))
}

fn close(mut store: StoreContextMut<'_, State>, representation: u32) -> wasmtime::Result<()> {
    store.data_mut().wasi().handles.close(representation);
    Ok(())
}

fn write(
    store: &mut StoreContextMut<'_, State>,
    stream: &Resource<Handle>,
    bytes: &[u8],
) -> wasmtime::Result<()> {
    if bytes.len() > WRITE_BYTES {
        let count = bytes.len();
        let message =
            format!("it wrote {count} bytes at once; `check-write` permits {WRITE_BYTES}");
        return Err(Refused(message).into());
    }
    store.data_mut().print(Handle::of(stream.rep()), bytes);
    Ok(())
}

fn random_bytes(store: &mut StoreContextMut<'_, State>, count: u64) -> wasmtime::Result<Vec<u8>> {
    if count > RANDOM_BYTES {
        let message =
            format!("it asked for {count} random bytes; there are {RANDOM_BYTES} at once");
        return Err(Refused(message).into());
    }
    Ok(store.data_mut().wasi().random.bytes(count as usize))
}

fn is_ready(handle: &Resource<Handle>) -> bool {
    Handle::of(handle.rep()) == Handle::Ready
}

/// The error of a function that waits for what never happens.
fn endless() -> wasmtime::Error {
    let message = "it waits for time to pass, and the clocks of a function stand still; take the \
                   time as a field of its row";
    Refused(message.to_owned()).into()
}

/// The error of a function that ends its instance.
fn exit(status: &str) -> wasmtime::Result<()> {
    Err(Refused(format!("it called `exit` with status {status}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_of_released_versions_are_wasi() {
        for (import, wanted) in [
            ("wasi:cli/stdin@0.2.0", Some("cli/stdin")),
            ("wasi:io/streams@0.2.12", Some("io/streams")),
            ("wasi:http/types@0.2.3", Some("http/types")),
            ("wasi:cli/stdin@0.2.0-rc-2023-11-10", None),
            ("wasi:cli/stdin@0.3.0", None),
            ("wasi:cli/stdin@0.20.0", None),
            ("wasi:cli/stdin", None),
            ("wasi:keyvalue/store@0.2.0", None),
            ("other:cli/stdin@0.2.0", None),
            ("wafer:function/log@0.1.0", None),
        ] {
            assert_eq!(interface(import), wanted, "{import}");
        }
    }

    #[test]
    fn the_wall_clock_stands_at_the_begin_of_a_year() {
        // 30 years with seven leap days.
        assert_eq!(CLOCK_SECONDS, (30 * 365 + 7) * 86_400);
    }
}
