//! The content of objects that are written: bytes in memory, or a file, which is read part by part.

use std::io::SeekFrom;
use std::ops::Range;
use std::path::Path as FilePath;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use wafer_store::{Error, Kind, Result};

use super::PART_BYTES;

/// The content of an object that is to be written.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// Bytes in memory.
    Memory(Bytes),
    /// A local file and its size.
    File(&'a FilePath, u64),
}

impl<'a> Content<'a> {
    /// Takes the content from a local file, which must not change until it is written.
    pub(crate) async fn of_file(path: &'a FilePath) -> Result<Self> {
        let metadata = tokio::fs::metadata(path).await;
        Ok(Self::File(path, metadata.map_err(unreadable(path))?.len()))
    }

    /// Size of the content in bytes.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, bytes) => *bytes,
        }
    }

    /// Returns whether the content is written in parts.
    pub(crate) fn is_large(&self) -> bool {
        self.bytes() > PART_BYTES
    }

    /// Returns a part of the content.
    pub(super) async fn slice(&self, range: Range<u64>) -> Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Self::File(path, _) => read(path, range).await.map_err(unreadable(path)),
        }
    }
}

fn unreadable(path: &FilePath) -> impl FnOnce(std::io::Error) -> Error {
    move |e| Error::caused(Kind::Internal, format!("cannot read {}", path.display()), e)
}

async fn read(path: &FilePath, range: Range<u64>) -> std::io::Result<Bytes> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(SeekFrom::Start(range.start)).await?;
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}
