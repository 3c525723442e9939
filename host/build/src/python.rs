//! Python modules: the component is the interpreter that comes with Wafer, the same for all
//! functions, and the modules with the packages that they import are its asset.
//!
//! Nothing of the machine is used but the network, when packages are downloaded: no Python, no pip.

mod archive;
mod folder;
mod index;
mod modules;
mod packages;
mod requirements;
#[cfg(test)]
mod server;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;

use self::archive::Files;
use self::index::Index;
use self::packages::Packages;
use self::requirements::Requirement;
use crate::toolchain::{BuildError, BuildOptions, Code, Toolchain, ToolchainError};

/// The interpreter, which `functions/stock/python/recipe` builds, compressed.
const COMPRESSED: &[u8] = include_bytes!("../../../functions/stock/python/python.wasm.zst");
/// The SHA-256 digest of the interpreter.
const DIGEST: &str = include_str!("../../../functions/stock/python/recipe/digest");
/// What the interpreter is.
const INTERPRETER: &str = "CPython 3.14";
/// The most bytes of the interpreter.
const MOST_INTERPRETER: u64 = 128 << 20;

/// The asset that has the modules: a file, or an archive of files.
const ASSET: &str = "python";
/// The parameters that tell the interpreter which module has the function; which of its functions
/// is wanted; and which one if none is named and there are several.
const FILE: &str = "python_file";
const FUNCTION: &str = "python_function";
const DEFAULT: &str = "python_default";

/// The most bytes of a file of requirements.
const MOST_REQUIREMENTS: u64 = 1 << 20;

/// The toolchain for Python modules. It needs no programs on the machine.
#[derive(Debug, Default)]
pub(crate) struct PythonModules {
    /// The interpreter, once it was unpacked. All functions share its bytes.
    interpreter: OnceLock<Bytes>,
}

impl Toolchain for PythonModules {
    fn name(&self) -> &'static str {
        "Python"
    }

    fn find(&self) -> Result<Option<String>, ToolchainError> {
        let digest = DIGEST.get(..12).unwrap_or(DIGEST);
        Ok(Some(format!(
            "{INTERPRETER} in this program (component {digest}); nothing has to be installed"
        )))
    }

    fn find_or_install(
        &self,
        _say: &mut dyn FnMut(&str),
    ) -> Result<Option<String>, ToolchainError> {
        self.find()
    }

    fn version(&self) -> Result<String, ToolchainError> {
        Ok(DIGEST.trim().to_owned())
    }

    fn needs_build(&self) -> bool {
        false
    }

    fn fetch(&self, options: &BuildOptions, say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
        let Some(path) = &options.requirements else {
            return Ok(());
        };
        let fetched = pinned(path).and_then(|pinned| match pinned {
            Some(pinned) => fetch(&pinned, &options.target_dir, say),
            None => Ok(()),
        });
        fetched.map_err(|reason| wrong("requirements", path, reason))
    }

    fn build(&self, _options: &BuildOptions) -> Result<Bytes, BuildError> {
        if let Some(interpreter) = self.interpreter.get() {
            return Ok(interpreter.clone());
        }
        let unpacked = unpacked().map_err(BuildError::Interpreter)?;
        Ok(self.interpreter.get_or_init(|| unpacked.into()).clone())
    }

    fn code(&self, options: &BuildOptions) -> Result<Code, BuildError> {
        let BuildOptions { name, source, .. } = options;
        let modules = modules::read(source, name);
        let modules = modules.map_err(|reason| wrong("python", source, reason))?;
        let packages = match &options.requirements {
            None => Files::new(),
            Some(path) => packages(path, &options.target_dir)
                .map_err(|reason| wrong("requirements", path, reason))?,
        };
        let asset = asset(&modules.main, modules.files, packages);
        let asset = asset.map_err(|reason| wrong("python", source, reason))?;
        let wanted = match &options.function {
            Some(function) => (FUNCTION, function.clone()),
            None => (DEFAULT, name.clone()),
        };
        let parameters = [(FILE, modules.main), wanted];
        Ok(Code {
            assets: BTreeMap::from([(ASSET.to_owned(), asset.into())]),
            parameters: parameters
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        })
    }
}

fn wrong(key: &'static str, path: &Path, reason: String) -> BuildError {
    BuildError::Python {
        key,
        path: path.to_owned(),
        reason,
    }
}

/// Returns the bytes of the interpreter.
fn unpacked() -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(COMPRESSED)?;
    decoder.take(MOST_INTERPRETER).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

/// Returns the asset of some modules and packages: a single module as it is, else an archive.
fn asset(main: &str, mut modules: Files, packages: Files) -> Result<Vec<u8>, String> {
    if packages.is_empty()
        && modules.len() == 1
        && let Some(module) = modules.remove(main)
    {
        return Ok(module);
    }
    let packages = packages.into_iter();
    modules
        .extend(packages.map(|(path, content)| (format!("{}{path}", modules::PACKAGES), content)));
    archive::write(&modules)
}

/// Reads the pinned packages of a file, or returns `None` for a folder of packages.
fn pinned(path: &Path) -> Result<Option<Vec<Requirement>>, String> {
    let kind = folder::kind(path)?;
    if kind.is_dir() {
        return Ok(None);
    }
    if !kind.is_file() {
        return Err("it is neither a file nor a folder".to_owned());
    }
    let text = folder::read(path, MOST_REQUIREMENTS).map_err(folder::unreadable)?;
    let text = text.ok_or_else(|| format!("it is larger than {} MiB", MOST_REQUIREMENTS >> 20))?;
    let text = String::from_utf8(text).map_err(|_| "it is not text in UTF-8".to_owned())?;
    requirements::parse(&text).map(Some)
}

/// Downloads pinned packages to a folder, unless they are there.
fn fetch(pinned: &[Requirement], folder: &Path, say: &mut dyn FnMut(&str)) -> Result<(), String> {
    if pinned.is_empty() {
        return Ok(());
    }
    let packages = Packages::new(Index::of_environment()?, folder);
    pinned
        .iter()
        .try_for_each(|package| packages.fetch(package, say))
}

/// Returns the files of packages: those that were downloaded to a folder, or those of a folder of
/// packages.
fn packages(path: &Path, downloaded: &Path) -> Result<Files, String> {
    match pinned(path)? {
        None => folder::modules(path, packages::LIMITS),
        Some(pinned) if pinned.is_empty() => Ok(Files::new()),
        Some(pinned) => Packages::new(Index::of_environment()?, downloaded).unpacked(&pinned),
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::archive::Archive;
    use super::*;

    /// A project with some files, and a function in it.
    struct Project {
        folder: tempfile::TempDir,
        options: BuildOptions,
    }

    impl Project {
        fn new(files: &[(&str, &str)], source: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (path, content) in files {
                let path = folder.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            let options = BuildOptions {
                name: "rides".to_owned(),
                source: folder.path().join(source),
                target_dir: folder.path().join("wheels"),
                ..BuildOptions::default()
            };
            Self { folder, options }
        }

        fn with_requirements(mut self, path: &str) -> Self {
            self.options.requirements = Some(self.folder.path().join(path));
            self
        }

        fn code(&self) -> Result<Code, String> {
            let code = PythonModules::default().code(&self.options);
            code.map_err(|error| error.to_string())
        }

        /// Returns the message of an error without the path of the folder.
        fn refused(&self) -> String {
            let folder = format!("{}/", self.folder.path().display());
            self.code().unwrap_err().replace(&folder, "")
        }
    }

    #[test]
    fn interpreter_is_the_one_that_the_recipe_builds() {
        let python = PythonModules::default();
        let component = python.build(&BuildOptions::default()).unwrap();
        let digest = Sha256::digest(&component);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            digest,
            python.version().unwrap(),
            "functions/stock/python/python.wasm.zst is not what its recipe builds"
        );
        let again = python.build(&BuildOptions::default()).unwrap();
        assert_eq!(again.as_ptr(), component.as_ptr(), "its bytes are shared");
        let found = python.find().unwrap().unwrap();
        assert!(
            found.starts_with(&format!(
                "CPython 3.14 in this program (component {}",
                &digest[..12]
            )),
            "{found}"
        );
    }

    #[test]
    fn file_is_the_asset_as_it_is() {
        let mut project = Project::new(
            &[("src/rides.py", "x = '\u{fc}'"), ("src/b.py", "")],
            "src/rides.py",
        );
        let code = project.code().unwrap();
        assert_eq!(code.assets["python"], "x = '\u{fc}'".as_bytes());
        let parameters = |wanted: [(&str, &str); 2]| {
            BTreeMap::from(wanted.map(|(name, value)| (name.to_owned(), value.to_owned())))
        };
        assert_eq!(
            code.parameters,
            parameters([("python_file", "rides.py"), ("python_default", "rides")])
        );
        project.options.function = Some("last".to_owned());
        assert_eq!(
            project.code().unwrap().parameters,
            parameters([("python_file", "rides.py"), ("python_function", "last")])
        );
    }

    /// Returns the paths in an archive.
    fn paths(archive: &[u8]) -> Vec<String> {
        let archive = Archive::open(archive).unwrap();
        let entries = archive.entries.into_iter();
        entries.map(|entry| entry.path).collect()
    }

    #[test]
    fn folder_and_packages_are_an_archive_that_depends_on_contents_alone() {
        let files = [
            ("f/__init__.py", "from .a import rides"),
            ("f/a.py", "import six"),
            ("vendored/six.py", "x = 1"),
            ("vendored/six-1.17.0.dist-info/METADATA", ""),
            ("vendored/bin/six", ""),
        ];
        let project = Project::new(&files, "f").with_requirements("vendored");
        let code = project.code().unwrap();
        let archive = &code.assets["python"];
        assert_eq!(
            paths(archive),
            ["f/__init__.py", "f/a.py", "site-packages/six.py"]
        );
        assert_eq!(code.parameters["python_file"], "f");
        let again = Project::new(&files, "f").with_requirements("vendored");
        assert_eq!(again.code().unwrap(), code);
    }

    #[test]
    fn file_without_requirements_needs_no_index() {
        let files = [("rides.py", "x = 1"), ("requirements.txt", "# none yet\n")];
        let project = Project::new(&files, "rides.py").with_requirements("requirements.txt");
        assert_eq!(project.code().unwrap().assets["python"], "x = 1");
        let fetched = PythonModules::default().fetch(&project.options, &mut |_| panic!());
        assert!(fetched.is_ok());
        assert!(!project.options.target_dir.exists());
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_key_and_path() {
        let check = |project: Project, wanted: &str| {
            let message = project.refused();
            assert!(message.starts_with(wanted), "{message}");
        };
        let rides = [
            ("rides.py", "x = 1"),
            ("r.txt", "six>1\n"),
            ("p.txt", "six==1\n"),
        ];
        check(
            Project::new(&rides, "ride.py"),
            "python: ride.py: it cannot be read: ",
        );
        let project =
            |requirements: &str| Project::new(&rides, "rides.py").with_requirements(requirements);
        check(
            project("r.txt"),
            "requirements: r.txt: line 1: `six>1` is not pinned to one version",
        );
        check(
            project("nowhere.txt"),
            "requirements: nowhere.txt: it cannot be read: ",
        );
        check(
            project("p.txt"),
            "requirements: p.txt: `six==1` was not downloaded from the index ",
        );
        let project = project("binary.txt");
        std::fs::write(project.folder.path().join("binary.txt"), b"\xff").unwrap();
        check(project, "requirements: binary.txt: it is not text in UTF-8");
    }
}
