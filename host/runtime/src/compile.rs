//! Compiling components to native code, in a child process.
//!
//! A component is untrusted input, and a compiler is large: the child process bounds the time and
//! memory of a compilation, and isolates crashes of the compiler. What it writes is not trusted
//! either, and is read up to a limit.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
#[cfg(feature = "compiler")]
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::engine::Target;
#[cfg(feature = "compiler")]
use crate::function_code::FunctionCode;

/// Maximum processor time of a compilation, of all threads together.
const PROCESSOR_SECONDS: u64 = 600;
/// Maximum time to compile one component, on a machine that has other things to do.
const TIME: Duration = Duration::from_secs(1_800);
/// Maximum memory of a compilation. Generous, because it limits address space.
const MEMORY_BYTES: u64 = 8 << 30;
/// Maximum size of the native code of one component. It is collected in memory, in a buffer that
/// doubles as it grows.
pub(crate) const CODE_BYTES: u64 = 512 << 20;
/// Maximum size of the message of a compiler that fails; the rest is not read.
const MESSAGE_BYTES: u64 = 64 << 10;

/// How components are compiled.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In this process, without limits; for tests and benches, which trust their components.
    InProcess,
    /// In a child process, by a program that calls [`compile_worker`].
    Child {
        /// Path of the program.
        program: PathBuf,
        /// First arguments of the program. Those of [`compile_worker`] are appended.
        arguments: Vec<String>,
    },
    /// Not at all: only code that was compiled before can be loaded.
    Absent,
}

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are not a valid component. Holds the message of the compiler.
    #[error("{0}")]
    Invalid(String),
    /// The compilation took too much time or memory, or made too much code.
    #[error(
        "compiling it takes more than {} s of processor time, {} s in all or {} GiB of memory, or makes more than \
         {} MiB of native code; is it generated code?",
        PROCESSOR_SECONDS,
        TIME.as_secs(),
        MEMORY_BYTES >> 30,
        CODE_BYTES >> 20
    )]
    TooExpensive,
    /// There is no compiler, and no native code that this engine can load.
    #[error(
        "there is no compiled code of it for this version of Wafer and kind of processor, and this program \
         has no compiler: run `wafer deploy` with the version that is deployed, which compiles what is missing"
    )]
    Absent,
    /// The compiler could not be run.
    #[error("the compiler could not be run: {0}")]
    Host(String),
}

impl Compiler {
    /// Compiles a component to native code. A child process takes the code of single functions
    /// from a file, and keeps what it adds there.
    pub(crate) fn compile(
        &self,
        target: Target,
        strict_nan: bool,
        component: &[u8],
        function_code: Option<&Path>,
    ) -> Result<Vec<u8>, CompileError> {
        match self {
            Self::InProcess => in_process(target, strict_nan, component, None),
            Self::Child { program, arguments } => {
                let mut command = Command::new(program);
                command
                    .args(arguments)
                    .arg(if strict_nan { "strict-nan" } else { "default" })
                    .arg(target.name())
                    .args(function_code);
                in_child(command, component, CODE_BYTES)
            }
            Self::Absent => Err(CompileError::Absent),
        }
    }
}

#[cfg(feature = "compiler")]
fn in_process(
    target: Target,
    strict_nan: bool,
    component: &[u8],
    function_code: Option<&Path>,
) -> Result<Vec<u8>, CompileError> {
    let failed = |e: wasmtime::Error| CompileError::Host(format!("{e:#}"));
    let mut config = crate::engine::engine_config(strict_nan, target).map_err(failed)?;
    let function_code = function_code.map(|path| Arc::new(FunctionCode::read(path)));
    if let Some(code) = &function_code {
        let store = Arc::<FunctionCode>::clone(code);
        config
            .enable_incremental_compilation(store)
            .map_err(failed)?;
    }
    let engine = wasmtime::Engine::new(&config).map_err(failed)?;
    let code = engine
        .precompile_component(component)
        .map_err(|e| CompileError::Invalid(format!("{e:#}")))?;
    if let Some(function_code) = function_code {
        function_code.write();
    }
    Ok(code)
}

#[cfg(not(feature = "compiler"))]
fn in_process(_: Target, _: bool, _: &[u8], _: Option<&Path>) -> Result<Vec<u8>, CompileError> {
    Err(CompileError::Absent)
}

/// Compiles a component in a child process, which may make so many bytes of native code.
fn in_child(
    mut command: Command,
    component: &[u8],
    code_bytes: u64,
) -> Result<Vec<u8>, CompileError> {
    let host = |e: std::io::Error| CompileError::Host(e.to_string());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(host)?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");

    thread::scope(|scope| {
        // A write error means that the child ended early; its exit status says why.
        scope.spawn(move || {
            let _ = stdin.write_all(component);
        });
        let errors = scope.spawn(move || {
            // The pipe is closed then, so that the child does not wait for a reader of the rest.
            let mut text = Vec::new();
            let _ = stderr.take(MESSAGE_BYTES).read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let (done, finished) = mpsc::channel();
        scope.spawn(move || {
            let mut code = Vec::new();
            let read = stdout.take(code_bytes + 1).read_to_end(&mut code);
            let _ = done.send(read.map(|_| code));
        });
        let code = finished.recv_timeout(TIME);
        let is_too_large = matches!(&code, Ok(Ok(code)) if code.len() as u64 > code_bytes);
        if code.is_err() || is_too_large {
            let _ = child.kill();
        }
        let status = child.wait().map_err(host)?;
        let errors = errors.join().unwrap_or_default();
        match (code, status.code()) {
            _ if is_too_large => Err(CompileError::TooExpensive),
            (Ok(code), Some(0)) => code.map_err(host),
            (Ok(_), Some(INVALID)) => Err(CompileError::Invalid(errors.trim().to_owned())),
            // The child was killed after the timeout, was aborted by its memory limit, or was
            // killed by the system.
            (Err(_), _) | (Ok(_), None) => Err(CompileError::TooExpensive),
            (Ok(_), Some(_)) => Err(CompileError::Host(errors.trim().to_owned())),
        }
    })
}

/// Exit code of a worker whose component is invalid.
const INVALID: i32 = 65;
/// Exit code of a worker that failed for another reason.
const FAILED: i32 = 70;

/// Runs the compiler in the child process of [`Compiler::Child`], and returns the exit code for
/// the process.
///
/// Reads a component from standard input, and writes native code to standard output, or an error
/// message to standard error. `mode` (`strict-nan` or `default`), `target` (the
/// [name](Target::name) of a target) and perhaps `function_code` (a file with the code of single
/// functions) are the arguments that [`Compiler::Child`] appends. Limits the memory and the
/// processor time of the process.
pub fn compile_worker(mode: &str, target: &str, function_code: Option<&Path>) -> i32 {
    limit(Resource::As, MEMORY_BYTES);
    limit(Resource::Cpu, PROCESSOR_SECONDS);
    let result = (|| {
        let unknown = || CompileError::Host(format!("there is no target `{target}`"));
        let target = Target::parse(target).ok_or_else(unknown)?;
        let failed = |e: std::io::Error| CompileError::Host(e.to_string());
        let mut component = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut component)
            .map_err(failed)?;
        let code = in_process(target, mode == "strict-nan", &component, function_code)?;
        std::io::stdout().lock().write_all(&code).map_err(failed)
    })();
    let error = match result {
        Ok(()) => return 0,
        Err(error) => error,
    };
    let _ = writeln!(std::io::stderr(), "{error}");
    match error {
        CompileError::Invalid(_) => INVALID,
        _ => FAILED,
    }
}

/// Limits a resource of this process. The kernel ends a process that exceeds it.
fn limit(resource: Resource, most: u64) {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    let _ = setrlimit(resource, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script in the place of the compiler, which may write a thousand bytes of code.
    fn compile(script: &str) -> Result<Vec<u8>, CompileError> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        in_child(command, b"component", 1_000)
    }

    #[test]
    fn what_a_compiler_writes_is_read_up_to_a_limit() {
        let code = compile("cat; head -c 991 /dev/zero").unwrap();
        assert_eq!((code.len(), &code[..9]), (1_000, &b"component"[..]));
        for endless in ["cat /dev/zero", "cat /dev/zero; exit 65"] {
            let found = compile(endless);
            assert!(
                matches!(found, Err(CompileError::TooExpensive)),
                "{endless}: {found:?}"
            );
        }
        let found = compile("head -c 1001 /dev/zero");
        assert!(
            matches!(found, Err(CompileError::TooExpensive)),
            "{found:?}"
        );
        let found = compile("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 65");
        match found {
            Err(CompileError::Invalid(message)) => {
                assert_eq!(message, "x".repeat(64 << 10));
            }
            found => panic!("{found:?}"),
        }
    }
}
