//! Assets that functions are loaded with: bytes in memory, or files, which are streamed.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use wafer_core::Digest;
use wafer_store::digest_file;

/// Maximum number of bytes of an asset in one call of `load`.
const CHUNK: usize = 1 << 20;

/// An asset that a function is loaded with, such as a model or a vocabulary.
#[derive(Clone, Debug)]
pub struct Asset {
    digest: Digest,
    size: u64,
    content: AssetContent,
}

/// Where the bytes of an asset are.
#[derive(Clone, Debug)]
pub enum AssetContent {
    /// In memory.
    Bytes(Bytes),
    /// In a local file.
    File(PathBuf),
}

impl Asset {
    /// Creates an asset from bytes in memory.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            content: AssetContent::Bytes(bytes),
        }
    }

    /// Creates an asset from a file that may still change: copies `path` to `copy`, and uses only
    /// the copy, so that the loaded bytes match the digest.
    ///
    /// # Errors
    /// Fails when the file cannot be read or copied.
    pub fn copied(path: &Path, copy: &Path) -> io::Result<Self> {
        io::copy(&mut File::open(path)?, &mut File::create(copy)?)?;
        Self::file(copy)
    }

    /// Creates an asset from a file. The file is read now to compute its digest, and again when the
    /// asset is loaded. It must not change in between.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub fn file(path: &Path) -> io::Result<Self> {
        Ok(Self {
            digest: digest_file(path)?,
            size: path.metadata()?.len(),
            content: AssetContent::File(path.to_owned()),
        })
    }

    /// Digest of the content.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Size of the content in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the content is.
    pub fn content(&self) -> &AssetContent {
        &self.content
    }

    /// Passes the content to `take` in chunks of at most [`CHUNK`] bytes, each with whether it is
    /// the last. Empty content is one empty chunk.
    pub(crate) fn chunks<E: Into<T>, T>(
        &self,
        unreadable: impl Fn(io::Error) -> E,
        mut take: impl FnMut(&[u8], bool) -> Result<(), T>,
    ) -> Result<(), T> {
        let unreadable = |e| unreadable(e).into();
        let mut file;
        let mut bytes;
        let reader: &mut dyn io::Read = match &self.content {
            AssetContent::Bytes(content) => {
                bytes = &content[..];
                &mut bytes
            }
            AssetContent::File(path) => {
                file = File::open(path).map_err(unreadable)?;
                &mut file
            }
        };
        let count = self.size.div_ceil(CHUNK as u64).max(1);
        let mut chunk = Vec::new();
        for number in 1..=count {
            chunk.clear();
            let mut part = reader.take(CHUNK as u64);
            part.read_to_end(&mut chunk).map_err(unreadable)?;
            let length = (self.size - (number - 1) * CHUNK as u64).min(CHUNK as u64);
            if chunk.len() as u64 != length {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut meanwhile");
                return Err(unreadable(cut));
            }
            take(&chunk, number == count)?;
        }
        Ok(())
    }
}

impl<T: Into<Bytes>> From<T> for Asset {
    fn from(bytes: T) -> Self {
        Self::of(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_bytes_and_files_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("asset");
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            let file = Asset::file(&path).unwrap();
            let held = Asset::of(bytes.clone());
            assert_eq!((file.digest(), file.size()), (held.digest(), held.size()));
            for asset in [file, held] {
                let (mut read, mut lasts) = (Vec::new(), Vec::new());
                let take = |chunk: &[u8], last| {
                    read.extend_from_slice(chunk);
                    lasts.push(last);
                    Ok::<_, io::Error>(())
                };
                asset.chunks(|e| e, take).unwrap();
                assert_eq!(read, bytes);
                assert_eq!(lasts.len(), size.div_ceil(CHUNK).max(1));
                assert_eq!(lasts.iter().position(|last| *last), Some(lasts.len() - 1));
            }
        }
    }
}
