//! A generation of definitions as one artifact: their JSON, compressed by Zstandard and named by
//! its digest.
//!
//! The JSON has all kinds in a fixed order, and the definitions of each by name, so that the same
//! definitions are the same artifact. It is read by its local file, which the artifact stores of
//! the cloud keep as a copy.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use wafer_core::Digest;
use wafer_store::{ArtifactStore, ArtifactStoreExt as _, Error, Kind, Result, blob_name};

use crate::definitions::Definitions;
use crate::task::blocking;

/// The largest size of the JSON of a project's definitions in bytes, which their artifact does not
/// exceed either: 2.6 KB for each of 100,000 functions.
const MAX_BYTES: usize = 256 << 20;

/// Writes definitions as an artifact, and returns its digest.
pub(crate) async fn write(
    artifacts: &dyn ArtifactStore,
    definitions: Arc<Definitions>,
) -> Result<Digest> {
    let packed = blocking(move || pack(&definitions, MAX_BYTES)).await??;
    artifacts.put_blob(packed).await
}

/// Reads definitions from the artifact with this digest.
pub(super) async fn read(artifacts: &dyn ArtifactStore, digest: Digest) -> Result<Definitions> {
    let packed = packed(artifacts, digest).await?;
    blocking(move || unpack(&packed, MAX_BYTES))
        .await?
        .map_err(|e| {
            let message = format!(
                "artifact {digest} in {artifacts} is not one of definitions, or a later version of Wafer \
                 wrote it"
            );
            Error::caused(e.kind(), message, e)
        })
}

/// Returns the bytes of the artifact with this digest.
async fn packed(artifacts: &dyn ArtifactStore, digest: Digest) -> Result<Bytes> {
    if let Some(path) = artifacts.file(&blob_name(digest)).await? {
        let bytes = blocking(move || read_file(&path, MAX_BYTES)).await??;
        if Digest::of(&bytes) == digest {
            return Ok(bytes);
        }
    }
    // The file may be a copy that is damaged. The artifact itself is read then, and the error says
    // so if that is damaged or missing.
    artifacts.get_blob(digest).await
}

fn read_file(path: &Path, most: usize) -> Result<Bytes> {
    let read = || -> std::io::Result<Option<Vec<u8>>> {
        match std::fs::metadata(path)?.len() > most as u64 {
            true => Ok(None),
            false => std::fs::read(path).map(Some),
        }
    };
    let bytes = read().map_err(|e| {
        let message = format!("cannot read {}", path.display());
        Error::caused(Kind::Internal, message, e)
    })?;
    bytes.map(Bytes::from).ok_or_else(|| {
        let message = format!(
            "{} has more than {most} bytes, which no definitions have",
            path.display()
        );
        Error::new(Kind::Corrupt, message)
    })
}

/// Compresses the JSON of definitions, which must have at most so many bytes.
fn pack(definitions: &Definitions, most: usize) -> Result<Bytes> {
    let json = serde_json::to_vec(definitions).expect("definitions are plain data");
    if json.len() > most {
        return Err(Error::invalid(format!(
            "the definitions of the project have {} bytes as JSON, and may have {most} together; divide the \
             project",
            json.len()
        )));
    }
    let packed = zstd::bulk::compress(&json, zstd::DEFAULT_COMPRESSION_LEVEL);
    let failed = |e| Error::caused(Kind::Internal, "the definitions cannot be compressed", e);
    packed.map(Bytes::from).map_err(failed)
}

/// Decompresses and parses definitions whose JSON has at most so many bytes. The size is known
/// before memory is taken for it, and what decompresses to more than it says is refused.
fn unpack(packed: &[u8], most: usize) -> Result<Definitions> {
    let said = zstd::zstd_safe::get_frame_content_size(packed);
    let Some(size) = said.ok().flatten() else {
        let message = "it does not say how many bytes of JSON it has";
        return Err(Error::new(Kind::Corrupt, message));
    };
    let within = usize::try_from(size).ok().filter(|size| *size <= most);
    let size = within.ok_or_else(|| {
        let message = format!("it has {size} bytes of JSON; definitions have at most {most}");
        Error::new(Kind::Corrupt, message)
    })?;
    let damaged = |e| Error::caused(Kind::Corrupt, "it cannot be decompressed", e);
    let json = zstd::bulk::decompress(packed, size).map_err(damaged)?;
    let unknown = |e| Error::caused(Kind::Corrupt, "its JSON cannot be read", e);
    serde_json::from_slice(&json).map_err(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::ViewDef;

    fn views(count: usize) -> Definitions {
        let view = |number| {
            let view = ViewDef {
                inputs: Vec::new(),
                lookups: Vec::new(),
                functions: Vec::new(),
                doc: "what a model reads ".repeat(20),
            };
            (format!("view_{number:06}"), view)
        };
        Definitions {
            views: (0..count).map(view).collect(),
            ..Definitions::default()
        }
    }

    #[test]
    fn definitions_come_back_as_they_were_packed_in_the_same_bytes_each_time() {
        for definitions in [Definitions::default(), views(1), views(1_000)] {
            let packed = pack(&definitions, MAX_BYTES).unwrap();
            assert_eq!(pack(&definitions.clone(), MAX_BYTES).unwrap(), packed);
            assert_eq!(unpack(&packed, MAX_BYTES).unwrap(), definitions);
        }
    }

    /// A field of a kind of definitions that is added later is empty in what was packed before.
    #[test]
    fn kinds_that_are_missing_are_empty() {
        let packed = zstd::bulk::compress(br#"{"views":{}}"#, 1).unwrap();
        let definitions = unpack(&packed, MAX_BYTES).unwrap();
        assert_eq!(definitions, Definitions::default());
    }

    #[test]
    fn definitions_of_100_000_functions_fit() {
        // With keys and punctuation, each has more than 400 bytes; a function has about 500.
        let definitions = views(100_000);
        let packed = pack(&definitions, MAX_BYTES).unwrap();
        assert_eq!(unpack(&packed, MAX_BYTES).unwrap().views.len(), 100_000);
    }

    #[test]
    fn too_many_definitions_are_refused_before_they_are_packed_or_unpacked() {
        let definitions = views(100);
        let size = serde_json::to_vec(&definitions).unwrap().len();
        let packed = pack(&definitions, size).unwrap();
        assert_eq!(unpack(&packed, size).unwrap(), definitions);
        let error = pack(&definitions, size - 1).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let wanted = format!("have {size} bytes as JSON, and may have {}", size - 1);
        assert!(error.to_string().contains(&wanted), "{error}");
        let error = unpack(&packed, size - 1).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        let wanted = format!(
            "{size} bytes of JSON; definitions have at most {}",
            size - 1
        );
        assert!(error.to_string().contains(&wanted), "{error}");
    }

    #[test]
    fn what_is_no_packed_definitions_is_refused() {
        let compressed = |text: &str| zstd::bulk::compress(text.as_bytes(), 1).unwrap();
        let packed = pack(&views(100), MAX_BYTES).unwrap().to_vec();
        let half = packed[..packed.len() / 2].to_vec();
        // Two frames decompress to more than the first of them says.
        let two = [&packed[..], &packed[..]].concat();
        for (bytes, wanted) in [
            (Vec::new(), "does not say how many bytes"),
            (b"{\"views\":{}}".to_vec(), "does not say how many bytes"),
            (half, "cannot be decompressed"),
            (two, "cannot be decompressed"),
            (compressed("{\"views\":7}"), "its JSON cannot be read"),
            (compressed("no JSON"), "its JSON cannot be read"),
        ] {
            let error = unpack(&bytes, MAX_BYTES).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }

    #[test]
    fn files_that_are_too_large_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("artifact");
        std::fs::write(&path, [0; 10]).unwrap();
        assert_eq!(read_file(&path, 10).unwrap().len(), 10);
        let error = read_file(&path, 9).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        let message = error.to_string();
        assert!(message.contains("artifact has more than 9"), "{message}");
    }
}
