//! Components of stock functions, which are built once for all projects of a user.
//!
//! A stock function is the same in every project, and takes up to minutes to compile. Its component
//! is kept in a folder of the user, under a digest of everything that it is made of: the sources in
//! this program, the options, and the version of the compiler. Its file is named by the digest of
//! its content, which is compared whenever it is read.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use wafer_build::{BuildOptions, Toolchain};
use wafer_core::{Digest, Hasher};

use crate::sdk;

/// The variable that names the folder for what is kept for all projects.
const CACHE: &str = "WAFER_CACHE";

/// Where stock functions are built, and where their components are kept.
#[derive(Clone, Debug)]
pub(crate) struct StockFolder(PathBuf);

impl StockFolder {
    /// Returns the folder of this user, or, on a machine without one, a folder of the project.
    pub(crate) fn of(project: &Path) -> Self {
        Self(kept_folder(project, "stock"))
    }

    /// Returns a folder for a test.
    #[cfg(test)]
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Returns the folder that the sources are unpacked to. Programs with other sources have
    /// another one.
    pub(crate) fn sources(&self) -> PathBuf {
        self.0
            .join(format!("sources-{}", sdk::stock_digest().short()))
    }

    /// Returns the folder for what cargo keeps between two builds.
    pub(crate) fn target_dir(&self) -> PathBuf {
        self.0.join("target")
    }

    /// Returns the component of a stock function, and builds it if this was not done yet. `say` is
    /// called before it is built.
    ///
    /// # Errors
    /// Returns an error when the function cannot be built, or its files cannot be written.
    pub(crate) fn component(
        &self,
        toolchain: &dyn Toolchain,
        options: &BuildOptions,
        say: impl FnOnce(),
    ) -> Result<Bytes> {
        let kept = self.0.join(key(toolchain, options)?);
        if let Some(component) = read(&kept) {
            return Ok(component);
        }
        // Another process may build it at the same time.
        let _lock = self.lock()?;
        if let Some(component) = read(&kept) {
            return Ok(component);
        }
        say();
        sdk::unpack_stock(&self.sources())?;
        let component = toolchain.build(options)?;
        write(&kept, &component)?;
        Ok(component)
    }

    /// Waits until no other process builds stock functions of this folder.
    fn lock(&self) -> Result<File> {
        let path = self.0.join("lock");
        let locked = std::fs::create_dir_all(&self.0)
            .and_then(|()| File::create(&path))
            .and_then(|file| file.lock().map(|()| file));
        locked.with_context(|| {
            format!(
                "cannot use the folder for stock functions {}; the environment variable {CACHE} \
                 names another one",
                self.0.display()
            )
        })
    }
}

/// Returns a folder of this user, in which something is kept for all projects, or, on a machine
/// without one, a folder of the project.
pub(crate) fn kept_folder(project: &Path, name: &str) -> PathBuf {
    user_folder(name).unwrap_or_else(|| project.join(".wafer").join(name))
}

/// Returns a folder of this user, in which something is kept for all projects, or `None` on a
/// machine without one.
pub(crate) fn user_folder(name: &str) -> Option<PathBuf> {
    Some(user_cache(wafer_config::path_variable)?.join(name))
}

/// Returns the folder of a user for what is kept for all projects, if it can be told.
fn user_cache(variable: impl Fn(&'static str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
    let own = set(CACHE);
    let caches = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let found = own.or_else(|| Some(caches()?.join("wafer")))?;
    // A relative path would be another folder for each project.
    found.is_absolute().then_some(found)
}

/// Returns the name under which the component of a stock function is kept.
fn key(toolchain: &dyn Toolchain, options: &BuildOptions) -> Result<String> {
    let name = options.source.file_name().unwrap_or_default();
    let mut hasher = Hasher::new();
    hasher
        .part(b"wafer stock component 1")
        .part(sdk::stock_digest().as_bytes())
        .part(name.as_encoded_bytes())
        .part(&options.stack.to_le_bytes())
        .part(toolchain.version()?.as_bytes());
    Ok(format!("component-{}", &hasher.finish().hex()[..32]))
}

/// Reads the component that is kept in a folder. One that is damaged counts as none.
fn read(folder: &Path) -> Option<Bytes> {
    let mut files = std::fs::read_dir(folder).ok()?.flatten();
    files.find_map(|file| {
        let component = std::fs::read(file.path()).ok()?;
        let name = file_name(&component);
        (file.file_name() == name.as_str()).then(|| component.into())
    })
}

/// Keeps a component in a folder, in the place of a damaged one.
fn write(folder: &Path, component: &[u8]) -> Result<()> {
    let written = match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    // A part of a file has not the name of its content.
    let written = written
        .and_then(|()| std::fs::create_dir_all(folder))
        .and_then(|()| std::fs::write(folder.join(file_name(component)), component));
    written.with_context(|| format!("cannot keep a component in {}", folder.display()))
}

fn file_name(component: &[u8]) -> String {
    format!("{}.wasm", Digest::of(component).hex())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use wafer_build::{BuildError, ToolchainError};

    use super::*;

    /// A toolchain that counts its builds.
    #[derive(Debug)]
    struct Counting {
        builds: std::sync::atomic::AtomicUsize,
        version: &'static str,
    }

    impl Toolchain for Counting {
        fn name(&self) -> &'static str {
            "counting"
        }

        fn find(&self) -> Result<Option<String>, ToolchainError> {
            Ok(None)
        }

        fn find_or_install(
            &self,
            _say: &mut dyn FnMut(&str),
        ) -> Result<Option<String>, ToolchainError> {
            Ok(None)
        }

        fn version(&self) -> Result<String, ToolchainError> {
            Ok(self.version.to_owned())
        }

        fn needs_build(&self) -> bool {
            true
        }

        fn build(&self, options: &BuildOptions) -> Result<Bytes, BuildError> {
            self.builds
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(format!("{:?} {}", options.source, self.version).into())
        }
    }

    #[test]
    fn component_is_built_once_for_its_name_options_and_compiler() {
        let folder = tempfile::tempdir().unwrap();
        let stock = StockFolder::at(&folder.path().join("stock"));
        let toolchain = |version| Counting {
            builds: 0.into(),
            version,
        };
        let (old, new) = (toolchain("1"), toolchain("2"));
        let options = |name: &str, stack| BuildOptions {
            source: stock.sources().join(name),
            target_dir: stock.target_dir(),
            stack,
            ..BuildOptions::default()
        };
        let said = Cell::new(0);
        let component = |toolchain: &Counting, name: &str, stack| {
            let say = || said.set(said.get() + 1);
            stock
                .component(toolchain, &options(name, stack), say)
                .unwrap()
        };
        for _ in 0..2 {
            component(&old, "linear", 1);
            component(&old, "linear", 2);
            component(&old, "onnx", 1);
            component(&new, "linear", 1);
        }
        assert_eq!(said.get(), 4);
        // A damaged component is built again.
        let kept = stock.0.join(key(&old, &options("onnx", 1)).unwrap());
        let file = std::fs::read_dir(&kept).unwrap().next().unwrap().unwrap();
        std::fs::write(file.path(), "damaged").unwrap();
        let whole = component(&old, "onnx", 1);
        assert_eq!(said.get(), 5);
        assert_eq!(read(&kept), Some(whole));
    }

    #[test]
    fn folder_of_the_user_is_told_by_the_environment() {
        for (variables, wanted) in [
            (vec![("HOME", "/h")], Some("/h/.cache/wafer")),
            (
                vec![("HOME", "/h"), ("XDG_CACHE_HOME", "/x")],
                Some("/x/wafer"),
            ),
            (vec![("HOME", "/h"), ("WAFER_CACHE", "/w")], Some("/w")),
            (
                vec![("HOME", "/h"), ("WAFER_CACHE", "")],
                Some("/h/.cache/wafer"),
            ),
            (vec![("HOME", "/h"), ("WAFER_CACHE", "here")], None),
            (vec![], None),
        ] {
            let variable = |name: &str| {
                let mut variables = variables.iter();
                let found = variables.find(|(key, _)| *key == name);
                found.map(|(_, value)| PathBuf::from(value))
            };
            let found = user_cache(variable);
            assert_eq!(found, wanted.map(PathBuf::from), "{variables:?}");
        }
    }
}
