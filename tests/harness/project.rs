//! Projects in temporary folders, and commands of the real binary on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;

use super::cloud::{Cloud, is_cloud};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_wafer");

/// The folder for what `wafer` keeps for all projects. All tests share it, and it stays from one
/// run of the tests to the next, because stock functions take minutes to compile. Nothing of the
/// user is read or written.
pub(crate) const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/wafer-cache");

/// Returns the `wafer` command.
pub(crate) fn wafer() -> Command {
    let mut command = Command::new(BINARY);
    command
        .env("WAFER_CACHE", CACHE)
        .env_remove("WAFER_STORE_PATH")
        .env_remove("RUST_LOG");
    command
}

/// Runs `wafer` in a folder that need not be a project, and returns whether it succeeded, and
/// what it said. Projects that it builds share their target folder with all tests, so that their
/// dependencies are compiled once.
pub(crate) fn run_in(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = wafer();
    command.current_dir(folder).args(arguments);
    if std::env::var_os("CARGO_TARGET_DIR").is_none() {
        command.env("CARGO_TARGET_DIR", repository().join("target"));
    }
    let output = command.output().unwrap();
    (output.status.success(), text(&output))
}

pub(crate) fn repository() -> PathBuf {
    // It is found at run time, because checkouts may share a target folder.
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").expect("run by `cargo test`"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// A project in a temporary folder, which is removed when this is dropped.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    /// The table and the bucket of the project, with `WAFER_TEST_STORES=aws`.
    pub(super) cloud: Option<Cloud>,
}

impl Project {
    /// Makes a project with this project file.
    pub(crate) fn new(wafer_toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("wafer.toml"), wafer_toml).unwrap();
        Self {
            folder,
            cloud: is_cloud().then(Cloud::new),
        }
    }

    pub(crate) fn applied(self) -> Self {
        self.ok(&["apply"]);
        self
    }

    /// Writes a file and applies the project.
    pub(crate) fn applied_with(self, name: &str, content: &str) -> Self {
        self.write(name, content);
        self.applied()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns a path below the project as text, for arguments.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn replace(&self, from: &str, to: &str) {
        let path = self.path().join("wafer.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = wafer();
        command.arg("-C").arg(self.path()).args(arguments);
        if let Some(Cloud { online, objects }) = &self.cloud {
            command
                .env("WAFER_STORE_ONLINE", online)
                .env("WAFER_STORE_OBJECTS", objects);
        }
        command
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must succeed, and returns its JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Json {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--output", "json"]);
        serde_json::from_str(&self.ok(&arguments)).unwrap()
    }

    /// Runs a command that must fail, and returns what it printed.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(
            !output.status.success(),
            "{arguments:?} should fail: {}",
            text(&output)
        );
        let said = text(&output);
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    /// Makes a training set from labels below the project, and returns its record.
    pub(crate) fn training_set(&self, view: &str, labels: &str, out: &str) -> Json {
        self.json(&[
            "training-set",
            view,
            "--labels",
            &self.at(labels),
            "--out",
            &self.at(out),
        ])
    }

    /// Writes a file, and pushes it as a version of a model.
    pub(crate) fn push_model(&self, model: &str, file: &str, content: impl AsRef<[u8]>) {
        let file = self.write(file, content).display().to_string();
        self.ok(&["models", "push", model, "--artifact", &file]);
    }
}

/// Returns what a command printed to standard output and standard error.
pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
