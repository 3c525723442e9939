//! Messages of cargo: one JSON object in each line.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

/// The greatest number of errors that are kept.
const MOST_ERRORS: usize = 100;

/// What is kept of cargo's messages.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// The errors of the compiler, without the places where they are.
    pub(super) errors: Vec<String>,
    /// The module that the crate was compiled to.
    pub(super) module: Option<PathBuf>,
}

impl Messages {
    /// Reads the messages of cargo on the crate with this manifest, and passes on to standard error
    /// what the compiler says.
    ///
    /// # Errors
    /// Returns an error when the messages cannot be read.
    pub(super) fn read(&mut self, from: impl Read, manifest: &Path) -> io::Result<()> {
        let manifest = manifest.canonicalize().ok();
        for line in BufReader::new(from).split(b'\n') {
            let Ok(message) = serde_json::from_slice::<Json>(&line?) else {
                continue;
            };
            match message["reason"].as_str() {
                Some("compiler-message") => self.add_diagnostic(&message["message"]),
                Some("compiler-artifact") => self.add_artifact(&message, manifest.as_deref()),
                _ => {}
            }
        }
        Ok(())
    }

    fn add_diagnostic(&mut self, message: &Json) {
        if let Some(rendered) = message["rendered"].as_str() {
            // Errors are ignored, because a build need not fail when nobody reads what it says.
            let _ = io::stderr().lock().write_all(rendered.as_bytes());
        }
        let is_error = message["level"] == "error";
        if let Some(text) = message["message"].as_str()
            && is_error
            && self.errors.len() < MOST_ERRORS
        {
            self.errors.push(text.to_owned());
        }
    }

    fn add_artifact(&mut self, message: &Json, manifest: Option<&Path>) {
        let of = message["manifest_path"].as_str().map(Path::new);
        let of = of.and_then(|path| path.canonicalize().ok());
        if of.is_none() || of.as_deref() != manifest {
            return;
        }
        let files = message["filenames"].as_array().into_iter().flatten();
        let mut files = files.filter_map(Json::as_str).map(PathBuf::from);
        let module = files.find(|file| file.extension().is_some_and(|e| e == "wasm"));
        self.module = module.or(self.module.take());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn module_and_errors_of_the_crate_are_kept() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let lines = [
            json!({"reason": "compiler-artifact", "manifest_path": "/other/Cargo.toml", "filenames": ["/other.wasm"]}),
            json!({"reason": "compiler-artifact", "manifest_path": here, "filenames": ["/f.rlib", "/f.wasm"]}),
            json!({"reason": "compiler-message", "message": {"level": "warning", "message": "unused"}}),
            json!({"reason": "compiler-message", "message": {"level": "error", "message": "mismatched types"}}),
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut messages = Messages::default();
        let text = format!("not JSON\n{text}");
        messages.read(text.as_bytes(), &here).unwrap();
        assert_eq!(messages.module, Some(PathBuf::from("/f.wasm")));
        assert_eq!(messages.errors, ["mismatched types"]);
    }
}
