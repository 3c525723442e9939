//! Native code that was compiled before on this machine, for all projects of a user.
//!
//! To compile a component takes a part of a second, and an interpreter minutes. So what one project
//! or one command compiled, the next one finds here by the name of everything that it depends on:
//! the bytes of the component, the version and settings of the compiler, and the kind of processor.
//!
//! A component is compiled several times: to initialise it, and with the memory of each function
//! that is made of it. Those have the same functions, whose code is kept in a file by itself
//! (`function_code.rs`), so that the later compilations take a quarter of the time.
//!
//! Native code cannot be verified. A file is used only if it has the digest that stands before the
//! code, and only from a folder that nobody but the user who runs this process can write to.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use wafer_core::Digest;
use wafer_store::{ArtifactFolder, Error, Kind, Result, open_stored_file};

use crate::compile::CODE_BYTES;

/// The size in bytes of all files from which on those are removed that were not used for longest.
const CACHE_BYTES: u64 = 2 << 30;
/// The size in bytes of the digest before the code.
const DIGEST_BYTES: usize = 32;
/// The permissions of others to write.
const OTHERS_WRITE: u32 = 0o022;

/// A folder of native code. What goes wrong with it is logged, and costs a compilation.
#[derive(Clone, Debug)]
pub struct CodeCache {
    artifacts: Arc<ArtifactFolder>,
    folder: PathBuf,
    most_bytes: u64,
}

impl CodeCache {
    /// Opens a folder, creating it if it does not exist.
    ///
    /// # Errors
    /// Fails when the folder cannot be created, and with [`Kind::Invalid`] when it belongs to
    /// another user, or others can write to it and may have done so before.
    pub fn open(folder: &Path) -> Result<Self> {
        let look = |e| Error::io("look at", folder, e);
        match folder.metadata() {
            Ok(found) if !is_own(&found) => {
                let message = format!(
                    "compiled code is not kept in {}, because it belongs to another user, or others \
                     can write to it: remove it",
                    folder.display()
                );
                return Err(Error::new(Kind::Invalid, message));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(look(error)),
            _ => {}
        }
        Ok(Self {
            artifacts: Arc::new(ArtifactFolder::open(folder)?),
            folder: folder.to_owned(),
            most_bytes: CACHE_BYTES,
        })
    }

    /// Returns code that was put under this name.
    pub(crate) fn get(&self, name: &str) -> Option<Bytes> {
        let path = self.artifacts.path(name).ok()?;
        read_kept(&path, CODE_BYTES)
    }

    /// Returns the path of the file for the code of single functions of a component, which may not
    /// exist.
    pub(crate) fn function_code(&self, name: &str) -> Option<PathBuf> {
        self.artifacts.path(name).ok()
    }

    /// Keeps code under a name.
    pub(crate) fn put(&self, name: &str, code: &[u8]) {
        let kept = write_kept(&self.artifacts, name, code).and_then(|()| self.prune());
        if let Err(error) = kept {
            tracing::info!("compiled code is not kept: {error}");
        }
    }

    /// Removes the files that were not used for longest, until the others are small enough.
    fn prune(&self) -> Result<()> {
        let mut files = Vec::new();
        let listed = list(&self.folder, &mut files);
        listed.map_err(|e| Error::io("list", &self.folder, e))?;
        files.sort();
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        for file in files {
            if total <= self.most_bytes {
                break;
            }
            // A process that has mapped or opened it keeps it.
            let _ = std::fs::remove_file(&file.path);
            total -= file.bytes;
        }
        Ok(())
    }
}

/// A file, which is ordered by the time when it was last used.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct KeptFile {
    used: SystemTime,
    path: PathBuf,
    bytes: u64,
}

/// Lists the files in the folders for kinds of machines.
fn list(folder: &Path, files: &mut Vec<KeptFile>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let found = match entry.metadata() {
            Ok(found) => found,
            // Another process has removed it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        if found.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(KeptFile {
                used: found.modified()?,
                path: entry.path(),
                bytes: found.len(),
            });
        }
    }
    Ok(())
}

/// Returns whether nobody but the user of this process can write to a folder or a file.
fn is_own(found: &Metadata) -> bool {
    let user = rustix::process::geteuid().as_raw();
    found.uid() == user && found.permissions().mode() & OTHERS_WRITE == 0
}

/// Reads a file of code of at most `most` bytes behind their digest, and notes that it was used.
/// One that is damaged, or that others could write to, counts as none.
pub(crate) fn read_kept(path: &Path, most: u64) -> Option<Bytes> {
    let file = open_stored_file(path).ok()?;
    if !is_own(&file.metadata().ok()?) {
        return None;
    }
    let most = most + DIGEST_BYTES as u64;
    let mut content = Vec::new();
    let read = (&file).take(most + 1).read_to_end(&mut content).ok()? as u64;
    let code = (read <= most).then(|| checked(&content.into()))??;
    touch(&file);
    Some(code)
}

/// Writes a file of code, with its digest before it.
pub(crate) fn write_kept(artifacts: &ArtifactFolder, name: &str, code: &[u8]) -> Result<()> {
    let partial = artifacts.start(name)?;
    let mut file = partial.file();
    let written = file
        .write_all(Digest::of(code).as_bytes())
        .and_then(|()| file.write_all(code));
    if let Err(error) = written {
        return Err(Error::io("write", &artifacts.path(name)?, error));
    }
    // It is not synced: after a crash, a file that is not whole has another digest.
    partial.complete().map(drop)
}

/// Notes that a file was used just now. Where that cannot be noted, it is removed earlier.
fn touch(file: &File) {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let now = Timestamps {
        last_access: now,
        last_modification: now,
    };
    let _ = futimens(file, &now);
}

/// Returns the code behind its digest, if it is the right one.
fn checked(content: &Bytes) -> Option<Bytes> {
    let digest = content.get(..DIGEST_BYTES)?;
    let code = content.slice(DIGEST_BYTES..);
    (Digest::of(&code).as_bytes() == digest).then_some(code)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    const NAME: &str = "machine/code.cwasm";

    #[test]
    fn code_is_found_under_its_name_as_it_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(&folder.path().join("code")).unwrap();
        assert_eq!(cache.get(NAME), None);
        cache.put(NAME, b"code");
        assert_eq!(cache.get(NAME).as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.get("machine/other.cwasm"), None);
        let again = CodeCache::open(&folder.path().join("code")).unwrap();
        assert_eq!(again.get(NAME).as_deref(), Some(&b"code"[..]));
    }

    #[test]
    fn damaged_code_is_not_used_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(folder.path()).unwrap();
        let path = folder.path().join(NAME);
        cache.put(NAME, b"code");
        let whole = std::fs::read(&path).unwrap();
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(cache.get(NAME), None, "byte {position}");
            std::fs::write(&path, &whole[..position]).unwrap();
            assert_eq!(cache.get(NAME), None, "{position} bytes");
        }
        cache.put(NAME, b"code");
        assert_eq!(cache.get(NAME).as_deref(), Some(&b"code"[..]));
    }

    #[test]
    fn what_was_not_used_for_longest_is_removed_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = CodeCache::open(folder.path()).unwrap();
        cache.most_bytes = 3 * (4 + DIGEST_BYTES as u64);
        let is_kept = |name: &str| folder.path().join(name).is_file();
        let age = |name: &str, seconds: i64| {
            let then = Timespec {
                tv_sec: seconds,
                tv_nsec: 0,
            };
            let then = Timestamps {
                last_access: then,
                last_modification: then,
            };
            futimens(File::open(folder.path().join(name)).unwrap(), &then).unwrap();
        };
        for (seconds, name) in [(1, "a/1"), (2, "a/2"), (3, "b/3")] {
            cache.put(name, b"code");
            age(name, seconds);
        }
        // The oldest one is used, so the second one is the next to go.
        assert!(cache.get("a/1").is_some());
        cache.put("b/4", b"code");
        assert_eq!(
            ["a/1", "a/2", "b/3", "b/4"].map(is_kept),
            [true, false, true, true]
        );
        // A file that is too large alone does not stay either.
        cache.put("b/5", &[0; 200]);
        assert!(!is_kept("b/5"));
    }

    #[test]
    fn what_others_can_write_to_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let allow = |path: &Path, mode| {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let cache = CodeCache::open(folder.path()).unwrap();
        cache.put(NAME, b"code");
        let path = folder.path().join(NAME);
        for mode in [0o620, 0o602, 0o666] {
            allow(&path, mode);
            assert_eq!(cache.get(NAME), None, "{mode:o}");
        }
        allow(&path, 0o600);
        assert!(cache.get(NAME).is_some());
        // To take their permissions away would keep what they wrote before.
        for mode in [0o720, 0o702, 0o777] {
            allow(folder.path(), mode);
            let refused = CodeCache::open(folder.path()).unwrap_err();
            assert_eq!(refused.kind(), Kind::Invalid, "{mode:o}: {refused}");
            assert!(refused.to_string().contains("others can write to it"));
        }
        allow(folder.path(), 0o755);
        CodeCache::open(folder.path()).unwrap();
    }
}
