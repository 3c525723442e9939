//! Interpreters that come with Wafer: the component of a function is the interpreter of its
//! language, the same for all functions, and the modules that the function is in are its asset.
//!
//! Nothing of the machine is used, except that a language may download packages: what a function
//! needs is in this program and in the author's files.

pub(crate) mod archive;
pub(crate) mod folder;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::sync::OnceLock;

use bytes::Bytes;

use self::archive::Files;
use self::folder::Limits;
use crate::toolchain::{BuildError, BuildOptions, Code, Toolchain, ToolchainError};

/// The most bytes of an interpreter.
const MOST_INTERPRETER: u64 = 128 << 20;

/// How much code an author may write for a function.
pub(crate) const CODE: Limits = Limits {
    files: 2_000,
    bytes: 4 << 20,
    what: "the modules",
};

/// Downloads what a source depends on, and says what it downloads.
type Fetch = fn(&BuildOptions, &mut dyn FnMut(&str)) -> Result<(), BuildError>;

/// A language whose interpreter is a part of this program.
pub(crate) struct Language {
    /// Its name, by which `wafer doctor` lists it.
    pub(crate) name: &'static str,
    /// What the interpreter is, with its version.
    pub(crate) interpreter: &'static str,
    /// The component of the interpreter, compressed by Zstandard.
    pub(crate) compressed: &'static [u8],
    /// The SHA-256 digest of the component in hexadecimal, as its recipe writes it.
    pub(crate) digest: &'static str,
    /// Downloads what a source depends on, as [`Toolchain::fetch`] does.
    pub(crate) fetch: Fetch,
    /// Reads the modules of a source, as [`Toolchain::code`] does.
    pub(crate) code: fn(&BuildOptions) -> Result<Code, BuildError>,
}

impl fmt::Debug for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Language")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The toolchain for the modules of a language. It needs no programs on the machine.
#[derive(Debug)]
pub(crate) struct Interpreter {
    language: &'static Language,
    /// The component, once it was unpacked. All functions share its bytes.
    component: OnceLock<Bytes>,
}

impl Interpreter {
    pub(crate) fn of(language: &'static Language) -> Self {
        Self {
            language,
            component: OnceLock::new(),
        }
    }
}

impl Toolchain for Interpreter {
    fn name(&self) -> &'static str {
        self.language.name
    }

    fn find(&self) -> Result<Option<String>, ToolchainError> {
        let Language {
            interpreter,
            digest,
            ..
        } = self.language;
        let digest = digest.get(..12).unwrap_or(digest);
        Ok(Some(format!(
            "{interpreter} in this program (component {digest}); nothing has to be installed"
        )))
    }

    fn find_or_install(
        &self,
        _say: &mut dyn FnMut(&str),
    ) -> Result<Option<String>, ToolchainError> {
        self.find()
    }

    fn version(&self) -> Result<String, ToolchainError> {
        Ok(self.language.digest.trim().to_owned())
    }

    fn needs_build(&self) -> bool {
        false
    }

    fn fetch(&self, options: &BuildOptions, say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
        (self.language.fetch)(options, say)
    }

    fn build(&self, _options: &BuildOptions) -> Result<Bytes, BuildError> {
        if let Some(component) = self.component.get() {
            return Ok(component.clone());
        }
        let unpacked = unpacked(self.language.compressed);
        let unpacked = unpacked.map_err(|source| BuildError::Interpreter {
            language: self.language.name,
            source,
        })?;
        Ok(self.component.get_or_init(|| unpacked.into()).clone())
    }

    fn code(&self, options: &BuildOptions) -> Result<Code, BuildError> {
        (self.language.code)(options)
    }
}

/// Returns the bytes of an interpreter.
fn unpacked(compressed: &[u8]) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(compressed)?;
    let read = decoder
        .take(MOST_INTERPRETER + 1)
        .read_to_end(&mut unpacked)?;
    match read as u64 > MOST_INTERPRETER {
        true => Err(io::Error::other(format!(
            "it has more than {} MiB",
            MOST_INTERPRETER >> 20
        ))),
        false => Ok(unpacked),
    }
}

/// The modules of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Modules {
    /// The path of what has the function.
    pub(crate) main: String,
    /// All modules, by path.
    pub(crate) files: Files,
}

impl Modules {
    /// Returns the modules of a function that is in one file.
    pub(crate) fn of_file(name: &str, content: Vec<u8>) -> Self {
        Self {
            main: name.to_owned(),
            files: Files::from([(name.to_owned(), content)]),
        }
    }

    /// Returns the code that the interpreter of a language is loaded with. Its names begin with the
    /// key of the project file that names the modules: the asset `KEY`, the parameter `KEY_file`,
    /// which is the path of what has the function, and perhaps a further parameter.
    ///
    /// # Errors
    /// Returns a message when the modules are too much for an archive.
    pub(crate) fn into_code(
        self,
        key: &str,
        further: Option<(&str, String)>,
    ) -> Result<Code, String> {
        let main = self.main.clone();
        let asset = self.into_asset()?;
        let parameters = [Some(("file", main)), further].into_iter().flatten();
        let parameters = parameters.map(|(name, value)| (format!("{key}_{name}"), value));
        Ok(Code {
            assets: BTreeMap::from([(key.to_owned(), asset.into())]),
            parameters: parameters.collect(),
        })
    }

    /// Returns the asset: a single module as it is, or else an archive.
    fn into_asset(mut self) -> Result<Vec<u8>, String> {
        if self.files.len() == 1
            && let Some(module) = self.files.remove(&self.main)
        {
            return Ok(module);
        }
        archive::write(&self.files)
    }
}

/// Checks that an interpreter in this program is the one that its recipe builds, and that its bytes
/// are shared.
#[cfg(test)]
pub(crate) fn check_interpreter(language: &'static Language, interpreter: &str) {
    use sha2::{Digest as _, Sha256};

    let toolchain = Interpreter::of(language);
    let component = toolchain.build(&BuildOptions::default()).unwrap();
    let digest = Sha256::digest(&component);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        digest,
        toolchain.version().unwrap(),
        "the component of {} in functions/stock is not what its recipe builds",
        language.name
    );
    let again = toolchain.build(&BuildOptions::default()).unwrap();
    assert_eq!(again.as_ptr(), component.as_ptr(), "its bytes are shared");
    let found = toolchain.find().unwrap().unwrap();
    let wanted = format!("{interpreter} in this program (component {}", &digest[..12]);
    assert!(found.starts_with(&wanted), "{found}");
}
