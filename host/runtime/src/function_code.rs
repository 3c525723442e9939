//! The native code of the single functions of a component, in a file.
//!
//! The compiler asks for each function whether it compiled the same one before, by a digest of
//! everything that the code depends on, and decides itself whether it can use what it finds
//! (cranelift's `incremental_cache`). The file has a digest of its content, and then an entry for
//! each function: the lengths of key and code as 32 bits each, little-endian, the key, and the
//! code. A file that is damaged counts as none.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::{Buf as _, Bytes};
use wafer_store::{ArtifactFolder, Error, Result};
use wasmtime::CacheStore;

use crate::code_cache::{read_kept, write_kept};

/// The largest size in bytes of the entries of a file. One that would be larger is not written.
const FILE_BYTES: u64 = 256 << 20;
/// The size in bytes of the lengths of an entry.
const LENGTHS_BYTES: usize = 8;

/// The code of functions: what was in the file, and what was compiled since.
#[derive(Debug)]
pub(crate) struct FunctionCode {
    path: PathBuf,
    found: HashMap<Bytes, Bytes>,
    added: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
}

impl FunctionCode {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            found: read_kept(path, FILE_BYTES)
                .and_then(entries)
                .unwrap_or_default(),
            added: Mutex::default(),
        }
    }

    /// Writes the file anew, if anything was added. What goes wrong costs time only, later.
    pub(crate) fn write(&self) {
        let added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        if added.is_empty() {
            return;
        }
        let found = self.found.iter().map(|(key, code)| (&key[..], &code[..]));
        let added = added.iter().map(|(key, code)| (&key[..], &code[..]));
        if let Some(content) = encoded(found.chain(added)) {
            let _ = self.replace(&content);
        }
    }

    /// Puts a file with this content in the place of the one that may be there.
    fn replace(&self, content: &[u8]) -> Result<()> {
        let name = self.path.file_name().and_then(|name| name.to_str());
        let (Some(folder), Some(name)) = (self.path.parent(), name) else {
            let invalid = std::io::ErrorKind::InvalidInput;
            return Err(Error::io("write", &self.path, invalid.into()));
        };
        write_kept(&ArtifactFolder::of(folder.to_owned()), name, content)
    }
}

impl CacheStore for FunctionCode {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.found.get(key).map(|code| Cow::Borrowed(&code[..]))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        added.insert(key.to_vec(), value);
        true
    }
}

/// Returns the entries of a file's content.
fn entries(mut content: Bytes) -> Option<HashMap<Bytes, Bytes>> {
    let mut entries = HashMap::new();
    while !content.is_empty() {
        if content.len() < LENGTHS_BYTES {
            return None;
        }
        let (key, code) = (content.get_u32_le() as usize, content.get_u32_le() as usize);
        if key.checked_add(code)? > content.len() {
            return None;
        }
        let key = content.split_to(key);
        entries.insert(key, content.split_to(code));
    }
    Some(entries)
}

/// Returns the content of a file with these entries, or `None` if it would be too large.
fn encoded<'a>(entries: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    for (key, code) in entries {
        for length in [key.len(), code.len()] {
            content.extend_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
        }
        content.extend_from_slice(key);
        content.extend_from_slice(code);
        if content.len() as u64 > FILE_BYTES {
            return None;
        }
    }
    Some(content)
}

#[cfg(test)]
mod tests {
    use wafer_core::Digest;

    use super::*;

    fn code(key: &[u8], path: &Path) -> Option<Vec<u8>> {
        let read = FunctionCode::read(path);
        read.get(key).map(Cow::into_owned)
    }

    fn add(path: &Path, entries: &[(&[u8], &[u8])]) {
        let code = FunctionCode::read(path);
        for (key, value) in entries {
            assert!(code.insert(key, value.to_vec()));
        }
        code.write();
    }

    #[test]
    fn code_that_was_added_is_found_beside_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("code.functions");
        assert_eq!(code(b"a", &path), None);
        add(&path, &[]);
        assert!(!path.exists(), "nothing was added");
        add(&path, &[(b"a", b"first"), (b"b", b"")]);
        add(&path, &[(b"c", b"third")]);
        assert_eq!(code(b"a", &path).as_deref(), Some(&b"first"[..]));
        assert_eq!(code(b"b", &path).as_deref(), Some(&b""[..]));
        assert_eq!(code(b"c", &path).as_deref(), Some(&b"third"[..]));
        assert_eq!(code(b"d", &path), None);
    }

    #[test]
    fn a_damaged_file_counts_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("code.functions");
        add(&path, &[(b"a", b"first")]);
        let whole = std::fs::read(&path).unwrap();
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(code(b"a", &path), None, "byte {position}");
            std::fs::write(&path, &whole[..position]).unwrap();
            assert_eq!(code(b"a", &path), None, "{position} bytes");
        }
        // A digest that fits makes lengths no better.
        for content in [&[1, 0, 0][..], &[255; 8], &[2, 0, 0, 0, 1, 0, 0, 0, b'a']] {
            let file = [&Digest::of(content).as_bytes()[..], content].concat();
            std::fs::write(&path, file).unwrap();
            assert_eq!(code(b"a", &path), None, "{content:?}");
        }
    }
}
