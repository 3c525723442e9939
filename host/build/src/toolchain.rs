//! The trait that every toolchain implements, with its options and its errors.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// A way to make components of functions that have one kind of source.
///
/// A toolchain works on the machine of the author, before a function is registered. The bytes that
/// it makes name the function, so they depend on the source, the options and the version of the
/// toolchain, and on nothing else: no time and no path of the machine. A package manager may
/// download dependencies, whose content a lock file names by digests.
pub trait Toolchain: fmt::Debug + Send + Sync {
    /// Returns the name by which `wafer doctor` lists the toolchain.
    fn name(&self) -> &'static str;

    /// Finds what the toolchain needs on this machine, and describes it in one line. `None` means
    /// that it needs nothing; `wafer doctor` does not list it then. What was found is kept.
    ///
    /// # Errors
    /// Returns a [`ToolchainError`] that says what was looked for and how to install it.
    fn find(&self) -> Result<Option<String>, ToolchainError>;

    /// Finds what the toolchain needs like [`find`](Self::find), or else installs it, for
    /// `wafer doctor --fix`. `say` is called with a line for each step of the installation. No
    /// other method installs anything.
    ///
    /// # Errors
    /// Returns a [`ToolchainError`] that says what was tried and why it did not work.
    fn find_or_install(&self, say: &mut dyn FnMut(&str)) -> Result<Option<String>, ToolchainError>;

    /// Returns what decides the bytes of a component beside its source and the options, such as the
    /// version of the compiler. Components are kept by it.
    ///
    /// # Errors
    /// Returns a [`ToolchainError`] like [`find`](Self::find).
    fn version(&self) -> Result<String, ToolchainError>;

    /// Returns whether `wafer build` writes the component to a file, which is read when the
    /// function is registered. Otherwise there is no such file, and the component is made whenever
    /// the function is registered; [`build`](Self::build) must be quick then.
    fn needs_build(&self) -> bool;

    /// Downloads the packages that the source depends on, unless they are on this machine, for
    /// `wafer build`. `say` is called with a line for each download. Only this and
    /// [`build`](Self::build) may use the network.
    ///
    /// # Errors
    /// Returns a [`BuildError`] that names what cannot be downloaded, and says what to do.
    fn fetch(&self, _options: &BuildOptions, _say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
        Ok(())
    }

    /// Makes the component of a function, and returns its bytes, which are shared where functions
    /// have one component. Output of programs that are run goes to standard error.
    ///
    /// # Errors
    /// Returns a [`BuildError`] when the toolchain is missing, and when no component can be made of
    /// the source.
    fn build(&self, options: &BuildOptions) -> Result<Bytes, BuildError>;

    /// Returns what the author of a source should know of code in it that builds and does not work
    /// in the sandbox: one line for each place, which begins with the place. It is asked about
    /// sources of users that were built, and not about stock functions, whose authors know.
    fn hints(&self, _source: &Path) -> Vec<String> {
        Vec::new()
    }

    /// Returns the code that a component is loaded with. There is none unless the component is an
    /// interpreter, which is the same for all functions. This is called whenever the function is
    /// registered, and must be quick.
    ///
    /// # Errors
    /// Returns a [`BuildError`] when the source cannot be read or used.
    fn code(&self, _options: &BuildOptions) -> Result<Code, BuildError> {
        Ok(Code::default())
    }
}

/// The code of a function whose component is an interpreter, beside the assets and parameters that
/// the project file has. It is a part of the function's identity, so its bytes depend on the
/// contents of the source alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// Assets by name.
    pub assets: BTreeMap<String, Bytes>,
    /// Parameters by name, which tell the interpreter what to call.
    pub parameters: BTreeMap<String, String>,
}

/// How the component of a function is built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildOptions {
    /// The name of the function in the project.
    pub name: String,
    /// The source: the folder of a crate, which has its `Cargo.toml`, a prebuilt file, or a file or
    /// a folder of modules for an interpreter.
    pub source: PathBuf,
    /// Folder for what is kept from one build to the next, such as the target folder of cargo.
    pub target_dir: PathBuf,
    /// Size of the stack inside the linear memory, in bytes. A small stack makes fresh instances
    /// cheaper. A prebuilt file and an interpreter keep their own.
    pub stack: u64,
    /// The name in the source of the function that is wanted, if it is given: an interpreter's
    /// source may have several.
    pub function: Option<String>,
    /// What the source depends on, if that is a file or a folder of its own.
    pub requirements: Option<PathBuf>,
}

/// The error for a machine without what a toolchain needs. Its text says how to install it, and
/// what was tried.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ToolchainError(pub(crate) String);

/// The error for a source that could not be made a component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The toolchain is not on this machine.
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    /// Cargo could not be run.
    #[error("cargo could not be run: {0}")]
    Cargo(std::io::Error),
    /// The crate does not compile. The compiler has printed the reason.
    #[error("{path} does not compile{hint}")]
    Compile {
        /// Folder of the crate.
        path: PathBuf,
        /// What to do about it, after a colon, if that is known; else empty.
        hint: String,
    },
    /// The crate compiled, but has no function.
    #[error(
        "{0} has no function: write `#[wafer::function]` above the function that it is made for, or \
         `#[wafer::trainer]` above an `impl wafer::Trainer for …`"
    )]
    NoFunction(PathBuf),
    /// The crate compiled, but cargo reported no module.
    #[error("{0} made no WebAssembly module; has the crate a library (src/lib.rs)?")]
    NoModule(PathBuf),
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The module of a crate cannot be wrapped into a component.
    #[error("{path} cannot be made a component: {message}; does it have a `#[wafer::function]`?")]
    Component {
        /// The module.
        path: PathBuf,
        /// The reason.
        message: String,
    },
    /// A prebuilt file is neither a component nor a module that can be wrapped into one.
    #[error("{path}: {reason}")]
    Prebuilt {
        /// The file.
        path: PathBuf,
        /// What the file is instead, as a sentence that begins with "it is".
        reason: String,
    },
    /// The modules of a function in an interpreter, or what they depend on, cannot be used.
    #[error("{key}: {path}: {reason}")]
    Code {
        /// The key of the project file that names the path.
        key: &'static str,
        /// The file or the folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// An interpreter that is a part of this program cannot be used.
    #[error("the interpreter of {language} in this program is damaged: {source}")]
    Interpreter {
        /// The language.
        language: &'static str,
        /// What is wrong with it.
        source: std::io::Error,
    },
}

impl BuildError {
    /// Returns the error for modules, or what they depend on, at the path that a key of the project
    /// file names.
    pub(crate) fn code(key: &'static str, path: &Path, reason: String) -> Self {
        Self::Code {
            key,
            path: path.to_owned(),
            reason,
        }
    }
}
