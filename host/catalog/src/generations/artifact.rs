//! A generation of definitions as one artifact: their JSON, compressed by Zstandard and named by
//! its digest.
//!
//! The JSON has all kinds in a fixed order, and the definitions of each by name, so that the same
//! definitions are the same artifact. It is read by its local file, which the artifact stores of
//! the cloud keep as a copy.
//!
//! What is read has no part that this version of Wafer does not know ([`unread`]): it would go
//! unnoticed that a definition means something else, or is not there at all. Kinds and fields that
//! are missing have their defaults, since earlier versions did not write them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;
use serde_json::value::RawValue;
use wafer_core::{Digest, cut};
use wafer_store::{
    ArtifactStore, Error, Kind, Result, blob_name, damaged_artifact, open_stored_file,
};

use crate::definitions::Definitions;
use crate::task::blocking;

/// The form of the JSON that this version of Wafer writes, and the last one that it reads. It rises
/// when an earlier version would misread what it knows all fields of. The first form has no number,
/// so that the same definitions stay the same artifact.
const FORMAT: u64 = 1;

/// The most bytes of a project's definitions.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// As JSON. A process takes a few times as much when it reads them.
    json: usize,
    /// As an artifact, which is a third of the JSON if most of it are digests.
    packed: usize,
}

/// What definitions may take: 670 bytes of JSON for each of 100,000 functions.
const LIMITS: Limits = Limits {
    json: 64 << 20,
    packed: 32 << 20,
};

/// Writes definitions as an artifact, and returns its digest. An artifact of that name is replaced,
/// because it may be damaged.
pub(crate) async fn write(
    artifacts: &dyn ArtifactStore,
    definitions: Arc<Definitions>,
) -> Result<Digest> {
    let (digest, packed) = packed(definitions).await?;
    artifacts.put(&blob_name(digest), packed).await?;
    Ok(digest)
}

/// Returns what definitions are as an artifact, and its digest.
pub(crate) async fn packed(definitions: Arc<Definitions>) -> Result<(Digest, Bytes)> {
    let packed = blocking(move || pack(&definitions, LIMITS)).await??;
    Ok((Digest::of(&packed), packed))
}

/// Reads definitions from the artifact with this digest.
///
/// # Errors
/// Returns [`Kind::NotFound`] when there is no such artifact, [`Kind::Corrupt`] when it is damaged,
/// and [`Kind::Invalid`] when a later version of Wafer wrote it.
pub(super) async fn read(artifacts: &dyn ArtifactStore, digest: Digest) -> Result<Definitions> {
    let packed = stored(artifacts, digest).await?;
    let read = blocking(move || unpack(&packed, LIMITS)).await?;
    read.map_err(|e| {
        let name = blob_name(digest);
        let message =
            format!("artifact {name} in {artifacts}, {digest}, cannot be read as definitions");
        Error::caused(e.kind(), message, e)
    })
}

/// Returns the bytes of the artifact with this digest.
async fn stored(artifacts: &dyn ArtifactStore, digest: Digest) -> Result<Bytes> {
    let name = blob_name(digest);
    if let Some(path) = artifacts.file(&name).await? {
        let bytes = blocking(move || read_file(&path, LIMITS.packed)).await??;
        if let Some(bytes) = bytes.filter(|bytes| Digest::of(bytes) == digest) {
            return Ok(bytes);
        }
    }
    // The file may be a copy that is damaged. The artifact itself is read then, and the error says
    // so if that is damaged or missing.
    let bytes = artifacts.get_at_most(&name, LIMITS.packed as u64).await?;
    let bytes = bytes.ok_or_else(|| {
        let message = format!("{artifacts} has no artifact {name}, whose digest is {digest}");
        Error::new(Kind::NotFound, message)
    })?;
    match Digest::of(&bytes) {
        found if found == digest => Ok(bytes),
        found => Err(damaged_artifact(artifacts, digest, found)),
    }
}

/// Reads a file that has at most so many bytes. Returns `None` if it has more.
fn read_file(path: &Path, most: usize) -> Result<Option<Bytes>> {
    let read = || -> std::io::Result<Option<Vec<u8>>> {
        let file = open_stored_file(path)?;
        let length = file.metadata()?.len();
        if length > most as u64 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    let bytes = read().map_err(|e| {
        let message = format!("cannot read {}", path.display());
        Error::caused(Kind::Internal, message, e)
    })?;
    Ok(bytes.map(Bytes::from))
}

/// Compresses the JSON of definitions, which must be within the limits and refer to each other
/// alone: others could not be read.
fn pack(definitions: &Definitions, limits: Limits) -> Result<Bytes> {
    let references = definitions.check_references();
    references.map_err(|reason| Error::new(Kind::Internal, reason))?;
    let within = |bytes: usize, most: usize, form: &str| match bytes <= most {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "the definitions of the project have {bytes} bytes as {form}, and may have {most} together; \
             divide the project"
        ))),
    };
    let json = serde_json::to_vec(definitions).expect("definitions are plain data");
    within(json.len(), limits.json, "JSON")?;
    let packed = zstd::bulk::compress(&json, zstd::DEFAULT_COMPRESSION_LEVEL);
    let failed = |e| Error::caused(Kind::Internal, "the definitions cannot be compressed", e);
    let packed = packed.map_err(failed)?;
    within(packed.len(), limits.packed, "compressed JSON")?;
    Ok(packed.into())
}

/// Decompresses and parses definitions whose JSON is within the limits. The size is known before
/// memory is taken for it, and what decompresses to more than it says is refused.
fn unpack(packed: &[u8], limits: Limits) -> Result<Definitions> {
    let most = limits.json;
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
    let read = parse(&zstd::bulk::decompress(packed, size).map_err(damaged)?)?;
    match read.check_references() {
        Err(reason) => Err(Error::new(Kind::Corrupt, reason)),
        Ok(()) => Ok(read),
    }
}

/// The parts of a JSON object by their names, each of which is there once: of two parts, it would
/// be left to the reader which of them counts.
struct Parts<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> Deserialize<'de> for Parts<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PartsVisitor)
    }
}

struct PartsVisitor;

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Parts<'de>, M::Error> {
        let mut parts = BTreeMap::new();
        while let Some((name, part)) = map.next_entry::<String, &'de RawValue>()? {
            match parts.entry(name) {
                Entry::Vacant(place) => {
                    place.insert(part);
                }
                Entry::Occupied(twice) => {
                    let message = format!("`{}` is there twice", cut(twice.key()));
                    return Err(M::Error::custom(message));
                }
            }
        }
        Ok(Parts(parts))
    }
}

/// Parses the JSON of definitions: an object with a field for each kind.
fn parse(json: &[u8]) -> Result<Definitions> {
    let Parts(kinds) = serde_json::from_slice(json).map_err(unreadable)?;
    let format = kinds.get("format").map(|stored| stored.get());
    let format = format.map_or(Ok(FORMAT), serde_json::from_str);
    let format: u64 = format.map_err(unreadable)?;
    if format > FORMAT {
        let last = format!("it has format {format}, and this version reads {FORMAT} at most");
        return Err(later(&last));
    }
    let mut read = Definitions::default();
    for (kind, stored) in kinds {
        match kind.as_str() {
            "format" => {}
            "sources" => read.sources = definitions("source", stored)?,
            "functions" => read.functions = definitions("function", stored)?,
            "groups" => read.groups = definitions("group", stored)?,
            "pipelines" => read.pipelines = definitions("pipeline", stored)?,
            "views" => read.views = definitions("view", stored)?,
            "models" => read.models = definitions("model", stored)?,
            unknown => return Err(later(&format!("its kind `{unknown}` is not known"))),
        }
    }
    Ok(read)
}

/// Parses the definitions of a kind, by name.
fn definitions<T>(kind: &str, stored: &RawValue) -> Result<BTreeMap<String, T>>
where
    T: DeserializeOwned + Serialize,
{
    let Parts(stored) = serde_json::from_str(stored.get()).map_err(unreadable)?;
    let mut read = BTreeMap::new();
    for (name, stored) in stored {
        let place = format!("{kind} `{name}`");
        read.insert(name, definition(&place, stored)?);
    }
    Ok(read)
}

/// Parses a definition, all of which has to be known.
fn definition<T: DeserializeOwned + Serialize>(place: &str, stored: &RawValue) -> Result<T> {
    let failed = |e| {
        let message = format!("its JSON cannot be read: {place}");
        Error::caused(Kind::Corrupt, message, e)
    };
    let read: T = serde_json::from_str(stored.get()).map_err(failed)?;
    let stored: Json = serde_json::from_str(stored.get()).map_err(failed)?;
    let again = serde_json::to_value(&read).map_err(failed)?;
    match unread(&stored, &again) {
        None => Ok(read),
        Some(path) if path.is_empty() => Err(later(&format!("{place} has another form"))),
        Some(path) => {
            let path = path.join(".");
            Err(later(&format!("{place} has `{path}`, which is not known")))
        }
    }
}

/// Returns the path of the first part of stored JSON that was not read: that what was read does not
/// have when it is written again.
fn unread(stored: &Json, read: &Json) -> Option<Vec<String>> {
    let below = |name: String, stored: &Json, read: Option<&Json>| {
        let mut path = vec![name];
        path.extend(read.map_or(Some(Vec::new()), |read| unread(stored, read))?);
        Some(path)
    };
    match (stored, read) {
        (Json::Object(stored), Json::Object(read)) => stored
            .iter()
            .find_map(|(name, stored)| below(name.clone(), stored, read.get(name))),
        (Json::Array(stored), Json::Array(read)) => stored
            .iter()
            .enumerate()
            .find_map(|(place, stored)| below(place.to_string(), stored, read.get(place))),
        // A record that was read from a list, or the reverse.
        (Json::Object(_) | Json::Array(_), _) => Some(Vec::new()),
        _ => None,
    }
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::caused(Kind::Corrupt, "its JSON cannot be read", error)
}

/// Makes the error for what this version of Wafer does not know. Nothing is damaged, so that nobody
/// may write over it.
pub(super) fn later(what: &str) -> Error {
    let message = format!("{what}: a newer version of Wafer wrote it; update this program");
    Error::new(Kind::Invalid, message)
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
            let packed = pack(&definitions, LIMITS).unwrap();
            assert_eq!(pack(&definitions.clone(), LIMITS).unwrap(), packed);
            assert_eq!(unpack(&packed, LIMITS).unwrap(), definitions);
        }
    }

    /// A field of a kind of definitions that is added later is empty in what was packed before.
    #[test]
    fn kinds_that_are_missing_are_empty() {
        let packed = zstd::bulk::compress(br#"{"views":{}}"#, 1).unwrap();
        let definitions = unpack(&packed, LIMITS).unwrap();
        assert_eq!(definitions, Definitions::default());
    }

    /// What an earlier version would leave out in silence says that a newer one wrote it.
    #[test]
    fn definitions_with_unknown_kinds_or_fields_were_written_by_a_newer_version() {
        let view = r#""inputs":[],"lookups":[],"functions":[],"doc":"""#;
        let lookup = r#"{"group":"g","alias":"g","keys":[],"features":[]"#;
        let pipeline = r#""source":"s","function":"f","group":"g","doc":"""#;
        for (json, wanted) in [
            (r#"{"nope":{}}"#.to_owned(), "its kind `nope` is not known"),
            (r#"{"format":2,"views":7}"#.to_owned(), "it has format 2"),
            (
                format!(r#"{{"views":{{"a":{{{view},"new":1}}}}}}"#),
                "view `a` has `new`, which is not known",
            ),
            (
                format!(
                    r#"{{"views":{{"a":{{{}}}}}}}"#,
                    view.replace(
                        r#""lookups":[]"#,
                        &format!(r#""lookups":[{lookup}}},{lookup},"new":null}}]"#),
                    )
                ),
                "view `a` has `lookups.1.new`, which is not known",
            ),
            (
                format!(r#"{{"pipelines":{{"p":{{{pipeline},"new":1}}}}}}"#),
                "pipeline `p` has `new`, which is not known",
            ),
            (
                r#"{"views":{"a":[[],[],[],""]}}"#.to_owned(),
                "view `a` has another form",
            ),
        ] {
            let packed = zstd::bulk::compress(json.as_bytes(), 1).unwrap();
            let error = unpack(&packed, LIMITS).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{json}");
            let said = error.to_string();
            for part in [
                wanted,
                "a newer version of Wafer wrote it; update this program",
            ] {
                assert!(said.contains(part), "{json}: {said}");
            }
        }
        let known = [
            r#"{"format":1}"#.to_owned(),
            format!(r#"{{"views":{{"a":{{{view}}}}}}}"#),
            format!(r#"{{"pipelines":{{"p":{{{pipeline}}}}}}}"#),
        ];
        for json in known {
            parse(json.as_bytes()).unwrap();
        }
    }

    #[test]
    fn definitions_of_100_000_functions_fit() {
        // With keys and punctuation, each has more than 400 bytes; a function has about 500.
        let definitions = views(100_000);
        let packed = pack(&definitions, LIMITS).unwrap();
        assert_eq!(unpack(&packed, LIMITS).unwrap().views.len(), 100_000);
    }

    #[test]
    fn too_many_definitions_are_refused_before_they_are_packed_or_unpacked() {
        let definitions = views(100);
        let size = serde_json::to_vec(&definitions).unwrap().len();
        let packed = pack(&definitions, LIMITS).unwrap();
        let limits = |json, packed| Limits { json, packed };
        let just = limits(size, packed.len());
        assert_eq!(pack(&definitions, just).unwrap(), packed);
        assert_eq!(unpack(&packed, just).unwrap(), definitions);
        for (limits, form, bytes) in [
            (limits(size - 1, packed.len()), "JSON", size),
            (
                limits(size, packed.len() - 1),
                "compressed JSON",
                packed.len(),
            ),
        ] {
            let error = pack(&definitions, limits).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            let wanted = format!("have {bytes} bytes as {form}, and may have {}", bytes - 1);
            assert!(error.to_string().contains(&wanted), "{error}");
        }
        let error = unpack(&packed, limits(size - 1, packed.len())).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        let wanted = format!(
            "{size} bytes of JSON; definitions have at most {}",
            size - 1
        );
        assert!(error.to_string().contains(&wanted), "{error}");
    }

    #[test]
    fn damaged_packed_definitions_are_refused() {
        let compressed = |text: &str| zstd::bulk::compress(text.as_bytes(), 1).unwrap();
        let packed = pack(&views(100), LIMITS).unwrap().to_vec();
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
            (compressed("[]"), "its JSON cannot be read"),
            (compressed("{\"views\":[]}"), "its JSON cannot be read"),
            (compressed("{\"views\":{\"a\":{}}}"), "view `a`"),
            (
                compressed("{\"views\":{},\"groups\":{},\"views\":{}}"),
                "`views` is there twice",
            ),
            (
                compressed("{\"views\":{\"a\":{},\"a\":{}}}"),
                "`a` is there twice",
            ),
        ] {
            let error = unpack(&bytes, LIMITS).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(error.chain().contains(wanted), "{}", error.chain());
        }
    }

    /// Whatever names them takes for granted that they are there.
    #[test]
    fn definitions_that_name_what_is_not_there_are_neither_read_nor_written() {
        let view = |lookups: &str, functions: &str| {
            format!(
                r#"{{"views":{{"a":{{"inputs":[],"lookups":[{lookups}],"functions":[{functions}],"doc":""}}}}}}"#
            )
        };
        let lookup = r#"{"group":"g","alias":"x","keys":[],"features":[]}"#;
        let pipeline = r#"{"source":"s","function":"f","group":"g","doc":""}"#;
        for (json, wanted) in [
            (
                view(lookup, ""),
                "view `a` names group `g`, which is not there",
            ),
            (
                view("", r#"{"function":"f"}"#),
                "view `a` names function `f`, which is not there",
            ),
            (
                format!(r#"{{"pipelines":{{"p":{pipeline}}}}}"#),
                "pipeline `p` names source `s`, which is not there",
            ),
        ] {
            let packed = zstd::bulk::compress(json.as_bytes(), 1).unwrap();
            let error = unpack(&packed, LIMITS).unwrap_err();
            assert_eq!((error.kind(), &*error.to_string()), (Kind::Corrupt, wanted));
            let read = parse(json.as_bytes()).unwrap();
            let error = pack(&read, LIMITS).unwrap_err();
            assert_eq!(error.to_string(), wanted);
        }
    }

    #[test]
    fn files_that_are_too_large_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("artifact");
        std::fs::write(&path, [0; 10]).unwrap();
        let read = |most| read_file(&path, most).unwrap().map(|bytes| bytes.len());
        assert_eq!((read(10), read(9)), (Some(10), None));
    }
}
