//! Functions in Python: modules and the packages that they import.
//!
//! Nothing of the machine is used but the network, when packages are downloaded: no Python, no pip.

mod index;
mod modules;
mod packages;
mod requirements;
#[cfg(test)]
mod server;

use std::path::Path;

use self::index::Index;
use self::packages::Packages;
use self::requirements::Requirement;
use crate::interpreter::Language;
use crate::interpreter::archive::Files;
use crate::interpreter::folder;
use crate::toolchain::{BuildError, BuildOptions, Code};

/// Python, whose interpreter `functions/stock/python/recipe` builds.
pub(crate) static PYTHON: Language = Language {
    name: "Python",
    interpreter: "CPython 3.14",
    compressed: include_bytes!("../../../functions/stock/python/python.wasm.zst"),
    digest: include_str!("../../../functions/stock/python/recipe/digest"),
    fetch,
    code,
};

/// The key of the project file that names modules.
const KEY: &str = "python";

/// The parameters that tell the interpreter which of several functions is wanted, and which one if
/// none is named.
const FUNCTION: &str = "function";
const DEFAULT: &str = "default";

/// The most bytes of a file of requirements.
const MOST_REQUIREMENTS: u64 = 1 << 20;

/// Downloads the packages of a function that are pinned.
fn fetch(options: &BuildOptions, say: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let Some(path) = &options.requirements else {
        return Ok(());
    };
    let fetched = pinned(path).and_then(|pinned| match pinned {
        Some(pinned) => download(&pinned, &options.target_dir, say),
        None => Ok(()),
    });
    fetched.map_err(|reason| BuildError::code("requirements", path, reason))
}

/// Returns the modules of a function with the packages that they import.
fn code(options: &BuildOptions) -> Result<Code, BuildError> {
    let BuildOptions { name, source, .. } = options;
    let wrong = |reason| BuildError::code(KEY, source, reason);
    let mut modules = modules::read(source, name).map_err(wrong)?;
    if let Some(path) = &options.requirements {
        let packages = packages(path, &options.target_dir)
            .map_err(|reason| BuildError::code("requirements", path, reason))?;
        let packages = packages.into_iter();
        let packages = packages.map(|(path, file)| (format!("{}{path}", modules::PACKAGES), file));
        modules.files.extend(packages);
    }
    let wanted = match &options.function {
        Some(function) => (FUNCTION, function.clone()),
        None => (DEFAULT, name.clone()),
    };
    modules.into_code(KEY, Some(wanted)).map_err(wrong)
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
    let text = folder::file(path, MOST_REQUIREMENTS)?;
    let text = String::from_utf8(text).map_err(|_| "it is not text in UTF-8".to_owned())?;
    requirements::parse(&text).map(Some)
}

/// Downloads pinned packages to a folder, unless they are there.
fn download(
    pinned: &[Requirement],
    folder: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<(), String> {
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
        None => folder::modules(path, packages::LIMITS, modules::taken),
        Some(pinned) if pinned.is_empty() => Ok(Files::new()),
        Some(pinned) => Packages::new(Index::of_environment()?, downloaded).unpacked(&pinned),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::interpreter::archive::Archive;
    use crate::interpreter::check_interpreter;

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
            code(&self.options).map_err(|error| error.to_string())
        }

        /// Returns the message of an error without the path of the folder.
        fn refused(&self) -> String {
            let folder = format!("{}/", self.folder.path().display());
            self.code().unwrap_err().replace(&folder, "")
        }
    }

    #[test]
    fn interpreter_is_the_one_that_the_recipe_builds() {
        check_interpreter(&PYTHON, "CPython 3.14");
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
        let fetched = fetch(&project.options, &mut |_| panic!());
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
