//! The modules of a function: a file, or a folder that is a package or has modules in it.

use std::path::Path;

use crate::interpreter::archive::Files;
use crate::interpreter::folder::{self, Taken};
use crate::interpreter::{CODE, Modules};

/// The folder of an archive that has the packages, in which modules cannot be.
pub(super) const PACKAGES: &str = "site-packages/";

/// What makes a package of a folder.
const PACKAGE: &str = "__init__.py";

/// Returns what of a file is taken. `name` is its name, or its path.
pub(super) fn taken(name: &str) -> Taken {
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    if ends(&[".py"]) {
        Taken::Content
    } else if ends(&[".so", ".pyd", ".dylib"]) {
        Taken::Name
    } else {
        Taken::Nothing
    }
}

/// Reads the modules at a path: a file, or a folder, which is the package that has the function or
/// has modules in it. `function` is the name of the function in the project, by which one of
/// several modules in a folder is chosen.
///
/// # Errors
/// Returns a message that says why there is no module, what cannot be read, or which limit is
/// exceeded.
pub(super) fn read(path: &Path, function: &str) -> Result<Modules, String> {
    let kind = folder::kind(path)?;
    if kind.is_dir() {
        return in_folder(path, function);
    }
    let name = folder::name_of(path)?;
    if !kind.is_file() || taken(name) != Taken::Content {
        return Err(
            "it is not a Python module; name a file that ends in .py, or a folder of them"
                .to_owned(),
        );
    }
    Ok(Modules::of_file(name, folder::file(path, CODE.bytes)?))
}

/// Reads a folder: a package with the name of the folder, or modules beside each other.
fn in_folder(path: &Path, function: &str) -> Result<Modules, String> {
    let files = folder::modules(path, CODE, taken)?;
    if files.contains_key(PACKAGE) {
        let name = folder::name_of(path)?;
        let files = files.into_iter();
        return Ok(Modules {
            main: name.to_owned(),
            files: files
                .map(|(path, content)| (format!("{name}/{path}"), content))
                .collect(),
        });
    }
    if files.keys().any(|path| path.starts_with(PACKAGES)) {
        return Err(format!(
            "it has a folder `{PACKAGES}`, where the packages are that the modules import; name \
             such a folder by the key `requirements`"
        ));
    }
    let main = main_module(&files, function)?;
    Ok(Modules { main, files })
}

/// Chooses the module of a folder that has the function: the only one, or the one with its name.
fn main_module(files: &Files, function: &str) -> Result<String, String> {
    let modules = files.keys().filter(|path| !path.contains('/'));
    let modules: Vec<&String> = modules
        .filter(|path| taken(path) == Taken::Content)
        .collect();
    let named = format!("{function}.py");
    match modules[..] {
        [] => Err(
            "it has no Python modules; name a file, or a folder with files that end in .py"
                .to_owned(),
        ),
        [only] => Ok(only.clone()),
        _ if files.contains_key(&named) => Ok(named),
        _ => {
            let names: Vec<String> = modules.iter().map(|path| format!("`{path}`")).collect();
            Err(format!(
                "it has the modules {}, of which none is `{named}`; name the one that has the \
                 function so, or make a package of the folder by a file `{PACKAGE}` that imports it",
                names.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a folder `f` with some files, and reads the modules at a path below its parent.
    fn modules(files: &[&str], path: &str) -> Result<Modules, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("f")).unwrap();
        for file in files {
            let file = folder.path().join("f").join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "x = 1").unwrap();
        }
        read(&folder.path().join(path), "rides")
    }

    #[test]
    fn file_is_one_module_without_those_beside_it() {
        let found = modules(&["a.py", "b.py"], "f/a.py").unwrap();
        let files = Files::from([("a.py".to_owned(), b"x = 1".to_vec())]);
        let main = "a.py".to_owned();
        assert_eq!(found, Modules { main, files });
    }

    #[test]
    fn folder_is_a_package_or_has_modules() {
        let check = |files: &[&str], main: &str, wanted: &[&str]| {
            let found = modules(files, "f").unwrap();
            let paths: Vec<&str> = found.files.keys().map(String::as_str).collect();
            assert_eq!((found.main.as_str(), &paths[..]), (main, wanted));
        };
        check(
            &["__init__.py", "a/b.py"],
            "f",
            &["f/__init__.py", "f/a/b.py"],
        );
        check(&["a.py"], "a.py", &["a.py"]);
        check(&["a.py", "lib/b.py"], "a.py", &["a.py", "lib/b.py"]);
        check(&["a.py", "rides.py"], "rides.py", &["a.py", "rides.py"]);
    }

    #[test]
    fn paths_without_a_module_say_why() {
        let check = |files: &[&str], path: &str, wanted: &str| {
            let message = modules(files, path).unwrap_err();
            assert!(message.starts_with(wanted), "{message}");
        };
        check(&[], "f/a.py", "it cannot be read: ");
        check(
            &["a.txt"],
            "f/a.txt",
            "it is not a Python module; name a file",
        );
        check(&["a.txt"], "f", "it has no Python modules; name a file");
        check(
            &["a.py", "b.py"],
            "f",
            "it has the modules `a.py`, `b.py`, of which none is `rides.py`; name the one",
        );
        check(
            &["rides.py", "site-packages/six.py"],
            "f",
            "it has a folder `site-packages/`, where the packages are",
        );
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("a.py");
        std::os::unix::fs::symlink("/etc/hosts", &link).unwrap();
        let message = read(&link, "rides").unwrap_err();
        assert_eq!(
            message,
            "it is a symbolic link; name the file or the folder itself"
        );
        let large = folder.path().join("large.py");
        std::fs::write(&large, vec![b'#'; (4 << 20) + 1]).unwrap();
        let message = read(&large, "rides").unwrap_err();
        assert_eq!(message, "it is larger than 4 MiB");
    }
}
