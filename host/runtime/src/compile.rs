//! Compiling components to native code, in a process of its own.
//!
//! A component is somebody else's input, and compilers are large: a child
//! process bounds what compiling one can cost in time and memory, whatever
//! happens inside.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::engine::Target;

/// Longest compilation of one component.
const TIME: Duration = Duration::from_secs(300);
/// Most memory a compilation may use. Address space, so a generous number.
const MEMORY_BYTES: u64 = 8 << 30;

/// How components are compiled.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// In this process; for tests and benches, which trust their components.
    InProcess,
    /// By running this program with these arguments; it must call
    /// [`compile_worker`].
    Child {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// Not at all: what is run was compiled before.
    Absent,
}

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is not a valid component; the compiler's message.
    #[error("{0}")]
    Invalid(String),
    /// It took too long or too much memory.
    #[error("compiling it takes more than {} s or {} GiB of memory; is it generated code?", TIME.as_secs(), MEMORY_BYTES >> 30)]
    TooExpensive,
    /// There is no compiler, and no code for this engine.
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
    /// Native code for a component.
    pub(crate) fn compile(
        &self,
        target: Target,
        strict_nan: bool,
        component: &[u8],
    ) -> Result<Vec<u8>, CompileError> {
        match self {
            Self::InProcess => in_process(target, strict_nan, component),
            Self::Child { program, arguments } => {
                let mut command = Command::new(program);
                command
                    .args(arguments)
                    .arg(if strict_nan { "strict-nan" } else { "default" })
                    .arg(target.name());
                in_child(command, component)
            }
            Self::Absent => Err(CompileError::Absent),
        }
    }
}

#[cfg(feature = "compiler")]
fn in_process(target: Target, strict_nan: bool, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let engine = crate::engine::engine_config(strict_nan, target)
        .and_then(|config| wasmtime::Engine::new(&config))
        .map_err(|e| CompileError::Host(format!("{e:#}")))?;
    engine
        .precompile_component(component)
        .map_err(|e| CompileError::Invalid(format!("{e:#}")))
}

#[cfg(not(feature = "compiler"))]
fn in_process(_: Target, _: bool, _: &[u8]) -> Result<Vec<u8>, CompileError> {
    Err(CompileError::Absent)
}

fn in_child(mut command: Command, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let host = |e: std::io::Error| CompileError::Host(e.to_string());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(host)?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");

    thread::scope(|scope| {
        // A child that dies early closes its input: what matters is how it ended.
        scope.spawn(move || {
            let _ = stdin.write_all(component);
        });
        let errors = scope.spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let (done, finished) = mpsc::channel();
        scope.spawn(move || {
            let mut code = Vec::new();
            let _ = done.send(stdout.read_to_end(&mut code).map(|_| code));
        });
        let code = finished.recv_timeout(TIME);
        if code.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(host)?;
        let errors = errors.join().unwrap_or_default();
        match (code, status.code()) {
            (Ok(code), Some(0)) => code.map_err(host),
            (Ok(_), Some(INVALID)) => Err(CompileError::Invalid(errors.trim().to_owned())),
            // Killed by us, by its memory limit (which aborts), or by the system.
            (Err(_), _) | (Ok(_), None) => Err(CompileError::TooExpensive),
            (Ok(_), Some(_)) => Err(CompileError::Host(errors.trim().to_owned())),
        }
    })
}

/// Exit code of a worker whose component is invalid.
const INVALID: i32 = 65;
/// Exit code of a worker that could not do its work.
const FAILED: i32 = 70;

/// The child's side: reads a component from standard input, writes native code
/// to standard output. `mode` and `target` are the arguments that [`Compiler::Child`]
/// appends. Returns the exit code.
pub fn compile_worker(mode: &str, target: &str) -> i32 {
    let limit = rustix::process::Rlimit {
        current: Some(MEMORY_BYTES),
        maximum: Some(MEMORY_BYTES),
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::As, limit);
    let result = (|| {
        let unknown = || CompileError::Host(format!("there is no target `{target}`"));
        let target = Target::parse(target).ok_or_else(unknown)?;
        let failed = |e: std::io::Error| CompileError::Host(e.to_string());
        let mut component = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut component)
            .map_err(failed)?;
        let code = in_process(target, mode == "strict-nan", &component)?;
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
