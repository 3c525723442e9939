//! `wafer new`.

mod from_file;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use self::from_file::FromFileOptions;
use super::CommandContext;
use crate::output::{line, path_text, say};
use crate::sdk;

/// Make a project with one function, some rows, and definitions that serve a feature
/// of them; or a project without a function, whose features are the columns of a file.
///
/// Examples:
///   wafer new rides && cd rides && wafer apply && wafer run last_ride
///   wafer new rides --lang python
///   wafer new rides --lang javascript
///   wafer new --from orders.csv --key customer_id --time ordered_at --zone Europe/Berlin
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct New {
    /// Folder to make; the project gets its name. With --from, the default is the name of the file
    #[arg(required_unless_present = "from")]
    folder: Option<PathBuf>,

    /// Language of the function; for Python and JavaScript, nothing has to be installed
    #[arg(
        long,
        value_enum,
        default_value = "rust",
        value_name = "LANGUAGE",
        conflicts_with = "from"
    )]
    lang: Language,

    #[command(flatten)]
    file: FromFileOptions,
}

/// A language that functions are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    /// A crate, which is compiled.
    Rust,
    /// A file, which the interpreter in this program runs.
    Python,
    /// A file, which another interpreter in this program runs.
    #[value(name = "javascript")]
    JavaScript,
}

const MANIFEST: &str = include_str!("../../templates/project/Cargo.toml.in");
/// The versions with which this repository is tested, so that a new project builds the same, and
/// needs no look at the registry.
const LOCK: &str = include_str!("../../templates/project/Cargo.lock.in");
const PROJECT: &str = include_str!("../../templates/project/wafer.toml.in");
const FUNCTION_MANIFEST: &str = include_str!("../../templates/project/ride-features/Cargo.toml.in");
const FUNCTION: &str = include_str!("../../templates/project/ride-features/src/lib.rs.in");
const ROWS: &str = include_str!("../../templates/project/data/rides.csv");
const IGNORE: &str = "/target\n.wafer/\n";
const PYTHON_FUNCTION: &str = include_str!("../../templates/python/ride_features.py.in");
const PYTHON_TEST: &str = include_str!("../../templates/python/tests/test_ride_features.py.in");
const PYTHON_SETTINGS: &str = include_str!("../../templates/python/pyproject.toml.in");
const PYTHON_README: &str = include_str!("../../templates/python/README.md.in");
const PYTHON_IGNORE: &str = "__pycache__/\n.pytest_cache/\n.venv/\n.wafer/\n";
const JAVASCRIPT_FUNCTION: &str = include_str!("../../templates/javascript/ride_features.js.in");
const JAVASCRIPT_TEST: &str =
    include_str!("../../templates/javascript/tests/ride_features.test.js.in");
const JAVASCRIPT_SETTINGS: &str = include_str!("../../templates/javascript/jsconfig.json.in");
const JAVASCRIPT_PACKAGE: &str = include_str!("../../templates/javascript/package.json.in");
const JAVASCRIPT_SDK: &str = include_str!("../../templates/javascript/sdk/package.json.in");
const JAVASCRIPT_README: &str = include_str!("../../templates/javascript/README.md.in");
const JAVASCRIPT_IGNORE: &str = "node_modules/\n.wafer/\n";

impl New {
    pub(crate) fn run(self, _context: &CommandContext) -> Result<ExitCode> {
        let named = match (&self.folder, &self.file.from) {
            (Some(folder), _) => folder.clone(),
            (None, from) => PathBuf::from(name_of_file(from.as_deref().unwrap_or(Path::new("")))),
        };
        let folder = &named;
        let given = folder
            .file_name()
            .context("the folder has no name")?
            .to_string_lossy();
        let name = given.replace('-', "_");
        let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        ensure!(
            fits,
            "`{given}` cannot name a project; use lowercase letters, digits and dashes, starting with a letter"
        );
        ensure!(
            !folder.exists(),
            "{} is there already; name another folder for the project",
            path_text(folder)
        );
        if let Some(from) = &self.file.from {
            return self.make_from(from, &name, folder);
        }

        match self.lang {
            Language::Rust => make_rust(folder, &name)?,
            Language::Python => make_python(folder, &name)?,
            Language::JavaScript => make_javascript(folder, &name)?,
        }
        line(format!(
            "made project `{name}` in {folder}. Next:\n  \
             cd {folder}\n  \
             wafer apply                      # build the function, make everything live\n  \
             wafer run last_ride              # data/rides.csv through the function into the stores\n  \
             wafer get driver driver_id=7     # the feature vector of a driver",
            folder = path_text(folder)
        ));
        Ok(ExitCode::SUCCESS)
    }

    /// Makes a project whose features are the columns of a file.
    fn make_from(&self, from: &Path, name: &str, folder: &Path) -> Result<ExitCode> {
        let made = self.file.definitions(from, name, folder)?;
        sdk::write(&folder.join("wafer.toml"), &made.text)?;
        sdk::write(&folder.join(".gitignore"), IGNORE)?;
        say(&made.chosen);
        line(format!(
            "made project `{name}` in {folder}. Next:\n  \
             cd {folder}\n  \
             wafer apply                      # make the definitions live\n  \
             wafer run {pipeline}             # the rows of the file into the stores\n  \
             wafer get {pipeline} {example}   # the feature vector of a key",
            folder = path_text(folder),
            pipeline = made.name,
            example = made.example
        ));
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes a project whose function is a crate.
fn make_rust(folder: &Path, name: &str) -> Result<()> {
    sdk::unpack(&folder.join("sdk"))?;
    let files = [
        ("Cargo.toml", MANIFEST),
        ("Cargo.lock", LOCK),
        ("wafer.toml", PROJECT),
        ("ride-features/Cargo.toml", FUNCTION_MANIFEST),
        ("ride-features/src/lib.rs", FUNCTION),
        ("data/rides.csv", ROWS),
        (".gitignore", IGNORE),
    ];
    write(folder, name, "crate = \"ride-features\"", &files)?;
    if let Err(reason) = wafer_build::fetch(folder) {
        say(format!(
            "the first build of this project needs the network: {reason}"
        ));
    }
    Ok(())
}

/// Makes a project whose function is a Python file.
fn make_python(folder: &Path, name: &str) -> Result<()> {
    sdk::unpack_python(&folder.join("sdk"))?;
    let files = [
        ("wafer.toml", PROJECT),
        ("ride_features.py", PYTHON_FUNCTION),
        ("tests/test_ride_features.py", PYTHON_TEST),
        ("pyproject.toml", PYTHON_SETTINGS),
        ("README.md", PYTHON_README),
        ("data/rides.csv", ROWS),
        (".gitignore", PYTHON_IGNORE),
    ];
    write(folder, name, "python = \"ride_features.py\"", &files)
}

/// Makes a project whose function is a JavaScript file.
fn make_javascript(folder: &Path, name: &str) -> Result<()> {
    sdk::unpack_javascript(&folder.join("sdk"))?;
    let files = [
        ("wafer.toml", PROJECT),
        ("ride_features.js", JAVASCRIPT_FUNCTION),
        ("tests/ride_features.test.js", JAVASCRIPT_TEST),
        ("jsconfig.json", JAVASCRIPT_SETTINGS),
        ("package.json", JAVASCRIPT_PACKAGE),
        ("sdk/package.json", JAVASCRIPT_SDK),
        ("README.md", JAVASCRIPT_README),
        ("data/rides.csv", ROWS),
        (".gitignore", JAVASCRIPT_IGNORE),
    ];
    write(folder, name, "javascript = \"ride_features.js\"", &files)
}

/// Writes the files of a project. `function` is the key that says where its function is.
fn write(folder: &Path, name: &str, function: &str, files: &[(&str, &str)]) -> Result<()> {
    for (path, text) in files {
        let text = text.replace("{{name}}", name);
        let text = text.replace("{{function}}", function);
        sdk::write(&folder.join(path), &text)?;
    }
    Ok(())
}

/// Returns the name of a project for a file: the start of its name, or of the folder's that a
/// pattern begins with.
fn name_of_file(from: &Path) -> String {
    let mut parts = from.iter().rev().map(|part| part.to_string_lossy());
    let part = parts.find(|part| !part.contains('*')).unwrap_or_default();
    let stem = part.split('.').next().unwrap_or_default().to_lowercase();
    let name: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    match name.starts_with(|c: char| c.is_ascii_lowercase()) {
        true => name,
        false => format!("data_{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_project_has_the_versions_of_this_repository() {
        let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("run by `cargo test`");
        let lock = PathBuf::from(here).join("../../Cargo.lock");
        let tested: toml::Table = std::fs::read_to_string(lock).unwrap().parse().unwrap();
        let new: toml::Table = LOCK.parse().unwrap();
        let version = |package: &toml::Value| {
            let checksum = package.get("checksum")?.clone();
            Some((
                package["name"].clone(),
                package["version"].clone(),
                checksum,
            ))
        };
        let packages = |lock: &toml::Table| -> Vec<_> {
            let packages = lock["package"].as_array().unwrap().iter();
            packages.filter_map(version).collect()
        };
        let tested = packages(&tested);
        let unknown: Vec<_> = packages(&new)
            .into_iter()
            .filter(|package| !tested.contains(package))
            .collect();
        assert!(
            unknown.is_empty(),
            "not in Cargo.lock of the repository: {unknown:?}"
        );
    }
}
