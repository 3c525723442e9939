//! Applied definitions.
//!
//! Every apply writes all definitions of the project as one artifact, a generation, which is never
//! changed and never removed ([`artifact`]). One small object of the metadata store,
//! `PROJECT/applied`, is the pointer: it says which generation is live and which one is staged.
//! Whoever holds a pointer, also an old one, finds its generations, so no two generations are ever
//! mixed. `applied.rs` writes what this module reads.
//!
//! Processes look at the pointer again and again. It also counts the changes of endpoints, so that
//! one look at one small object tells whether anything was changed.
//!
//! Earlier versions of Wafer wrote an object for each definition ([`earlier`]). They are read until
//! the next apply, which writes an artifact and removes them.

pub(crate) mod artifact;
pub(crate) mod earlier;
mod lost;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use wafer_core::rules::Interval;
use wafer_core::{Digest, cut};
use wafer_store::{Error, Kind, MetadataStore, Result, Stores, Versioned, blob_name};

use crate::definitions::Definitions;
use crate::stored;

pub(crate) use lost::lost_pointer;

/// The kinds of definitions, as people read them.
pub(crate) const KINDS: [&str; 6] = ["source", "function", "group", "pipeline", "view", "model"];

/// The span of a staged table until it is known: all of time. It is never covered, so that whoever
/// does not know what it stands for does not take the table for filled.
pub const UNKNOWN_SPAN: Interval = Interval::ALL;

/// The name of the pointer's object, below that of the project.
pub(crate) const POINTER: &str = "applied";

/// The name of the object that numbers generations, below that of the project. Its content says
/// nothing: the numbers are its versions.
pub(crate) const NUMBERS: &str = "generation";

/// What the pointer's object looks like, as errors show it.
const POINTER_FORM: &str = r#"{"live":{"number":7,"artifact":"sha256:…"},"staged":null}"#;

/// Returns definitions as JSON objects, by the position of their kind in [`KINDS`] and their name.
pub(crate) fn objects(definitions: &Definitions) -> BTreeMap<(usize, String), serde_json::Value> {
    fn add<T: Serialize>(
        objects: &mut BTreeMap<(usize, String), serde_json::Value>,
        kind: usize,
        things: &BTreeMap<String, T>,
    ) {
        for (name, thing) in things {
            let json = serde_json::to_value(thing).expect("definitions are plain data");
            objects.insert((kind, name.clone()), json);
        }
    }
    let mut all = BTreeMap::new();
    add(&mut all, 0, &definitions.sources);
    add(&mut all, 1, &definitions.functions);
    add(&mut all, 2, &definitions.groups);
    add(&mut all, 3, &definitions.pipelines);
    add(&mut all, 4, &definitions.views);
    add(&mut all, 5, &definitions.models);
    all
}

/// A generation of definitions, as the pointer names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Json", into = "StoredGeneration")]
pub struct Generation {
    /// The number of the generation, from 1; 0 if nothing has been applied yet.
    pub number: u64,
    /// The digest of the artifact that holds the definitions. `None` if nothing has been applied
    /// yet, or if an earlier version of Wafer wrote them as objects.
    pub artifact: Option<Digest>,
}

impl Generation {
    /// Returns whether an earlier version of Wafer wrote the definitions, as objects.
    pub(crate) fn is_in_objects(self) -> bool {
        self.number > 0 && self.artifact.is_none()
    }
}

/// What is stored of a generation. An earlier version of Wafer, which would look for objects,
/// expects a number: it refuses a pointer to an artifact, and does not take the project for an
/// empty one.
#[derive(Serialize)]
#[serde(untagged)]
enum StoredGeneration {
    InObjects(u64),
    InArtifact { number: u64, artifact: Digest },
}

/// The stored form of a generation in an artifact.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InArtifact {
    number: u64,
    artifact: Digest,
}

impl TryFrom<Json> for Generation {
    type Error = String;

    fn try_from(stored: Json) -> Result<Self, Self::Error> {
        if let Some(number) = stored.as_u64() {
            return Ok(Self {
                number,
                artifact: None,
            });
        }
        let text = stored.to_string();
        match serde_json::from_value(stored) {
            Ok(InArtifact { number: 0, .. }) => Err(format!(
                "{} is not a generation: they are numbered from 1",
                cut(text)
            )),
            Ok(InArtifact { number, artifact }) => Ok(Self {
                number,
                artifact: Some(artifact),
            }),
            Err(reason) => Err(format!(
                "{} is not a generation ({reason}): one is written as {{\"number\":7,\"artifact\":\"sha256:…\"}}, \
                 with 64 hexadecimal digits",
                cut(text)
            )),
        }
    }
}

impl From<Generation> for StoredGeneration {
    fn from(Generation { number, artifact }: Generation) -> Self {
        match artifact {
            None => Self::InObjects(number),
            Some(artifact) => Self::InArtifact { number, artifact },
        }
    }
}

/// Which generations of definitions count. It is one small object that is written at once, so that
/// all definitions of a project change together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredPointer")]
pub struct Pointer {
    /// The live generation.
    pub live: Generation,
    /// The staged generation.
    pub staged: Option<Generation>,
    /// For each table that the staged generation fills, the event times that the previous version
    /// had when all processes wrote events to both, or [`UNKNOWN_SPAN`] before that.
    pub spans: BTreeMap<String, Interval>,
    /// The number of changes of endpoints since the first version of Wafer that counted them.
    pub endpoints: u64,
}

/// What is stored of a pointer. What is not known would be lost when the pointer is written again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPointer {
    live: Generation,
    staged: Option<Generation>,
    #[serde(default)]
    spans: BTreeMap<String, Interval>,
    #[serde(default)]
    endpoints: u64,
}

/// The fields of a [`StoredPointer`], and those of a generation in it.
const KNOWN_FIELDS: ([&str; 4], [&str; 2]) = (
    ["live", "staged", "spans", "endpoints"],
    ["number", "artifact"],
);

impl TryFrom<StoredPointer> for Pointer {
    type Error = String;

    fn try_from(stored: StoredPointer) -> Result<Self, Self::Error> {
        let StoredPointer {
            live,
            staged,
            spans,
            endpoints,
        } = stored;
        match staged {
            Some(Generation { number: 0, .. }) => {
                Err("generation 0 is staged, and they are numbered from 1".to_owned())
            }
            Some(staged) if staged == live => {
                let number = live.number;
                Err(format!("generation {number} is both live and staged"))
            }
            _ => Ok(Self {
                live,
                staged,
                spans,
                endpoints,
            }),
        }
    }
}

impl Pointer {
    /// Returns whether some process may still write events to the previous versions alone, so that
    /// it is not known yet what the staged tables must be filled for.
    pub fn has_unknown_spans(&self) -> bool {
        self.spans.values().any(|span| *span == UNKNOWN_SPAN)
    }

    /// Returns whether the same definitions are live and staged by another pointer.
    pub(crate) fn has_definitions_of(&self, other: &Self) -> bool {
        (self.live, self.staged, &self.spans) == (other.live, other.staged, &other.spans)
    }

    /// Returns whether an earlier version of Wafer wrote some of its definitions, as objects.
    fn is_in_objects(&self) -> bool {
        self.live.is_in_objects() || self.staged.is_some_and(Generation::is_in_objects)
    }
}

/// The definitions that are applied to a project.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The definitions that are served.
    pub live: Arc<Definitions>,
    /// The definitions that become live once their new group versions are filled.
    pub staged: Option<Arc<Definitions>>,
    /// The pointer that these definitions were read by. Endpoints may have been changed since.
    pub pointer: Pointer,
    /// The version of the pointer's object then; 0 if nothing has been applied yet.
    pub version: u64,
    /// The generations of the pointer that cannot be read. Their definitions are not among these.
    /// It is empty unless the project was opened to apply definitions.
    pub damaged: Vec<Damaged>,
}

/// A generation whose artifact is damaged or missing. Number 0 stands for the one that a pointer
/// named before it was lost or damaged.
#[derive(Clone, Debug)]
pub struct Damaged {
    /// The generation, as the pointer names it.
    pub generation: Generation,
    /// Why it cannot be read, and what to do.
    pub reason: String,
}

impl Applied {
    /// Returns whether applying definitions would change nothing: they are live, no others are
    /// staged, and they are stored as the present version of Wafer stores them.
    pub fn is_only(&self, wanted: &Definitions) -> bool {
        let is_live = self.pointer.live.number > 0 && *self.live == *wanted;
        let is_whole = self.damaged.is_empty() && !self.is_in_objects();
        is_live && self.staged.is_none() && is_whole
    }

    /// Returns whether an earlier version of Wafer wrote some of these definitions, as objects.
    pub(crate) fn is_in_objects(&self) -> bool {
        self.pointer.is_in_objects()
    }

    /// Returns the definitions of a generation, if it is one of these.
    pub(crate) fn definitions_of(&self, generation: Generation) -> Option<Arc<Definitions>> {
        let mut damaged = self.damaged.iter();
        if damaged.any(|damaged| damaged.generation == generation) {
            None
        } else if generation == self.pointer.live {
            Some(Arc::clone(&self.live))
        } else if Some(generation) == self.pointer.staged {
            self.staged.clone()
        } else {
            None
        }
    }
}

/// Reads the pointer and the version of its object. Without one, nothing has been applied yet.
pub(crate) async fn read_pointer(
    metadata: &dyn MetadataStore,
    project: &str,
) -> Result<(Pointer, u64)> {
    let name = format!("{project}/{POINTER}");
    let stored = metadata.get(&name).await?;
    found_pointer(metadata, &name, stored.as_ref())
}

/// Decodes the object of this name as a pointer, and returns it with the version of the object.
fn found_pointer(
    metadata: &dyn MetadataStore,
    name: &str,
    stored: Option<&Versioned>,
) -> Result<(Pointer, u64)> {
    match stored {
        None => Ok((Pointer::default(), 0)),
        Some(stored) => Ok((parse_pointer(metadata, name, stored)?, stored.version)),
    }
}

/// Decodes the object of this name as a pointer.
///
/// # Errors
/// Returns [`Kind::Corrupt`] when it is not a pointer, and [`Kind::Invalid`] when a later version
/// of Wafer wrote it.
pub(crate) fn parse_pointer(
    metadata: &dyn MetadataStore,
    name: &str,
    stored: &Versioned,
) -> Result<Pointer> {
    if let Some(error) = lost::damaged_pointer(metadata, name, stored) {
        return Err(error);
    }
    if let Some(unknown) = unknown_field(&stored.value) {
        return Err(artifact::later(&format!(
            "the pointer to the applied definitions, object `{name}` in {metadata}, has `{unknown}`, which \
             is not known"
        )));
    }
    stored::read(name, &stored.value).map_err(|e| {
        let message = format!(
            "the pointer to the applied definitions is object `{name}` in {metadata}, and looks like \
             {POINTER_FORM}: restore it from a backup"
        );
        Error::caused(e.kind(), message, e)
    })
}

/// Returns the first field of a stored pointer that is not known.
fn unknown_field(stored: &[u8]) -> Option<String> {
    let stored: Json = serde_json::from_slice(stored).ok()?;
    let (known, of_generations) = KNOWN_FIELDS;
    let pointer = stored.as_object()?;
    if let Some(unknown) = pointer.keys().find(|name| !known.contains(&name.as_str())) {
        return Some(cut(unknown));
    }
    ["live", "staged"].into_iter().find_map(|place| {
        let mut fields = pointer.get(place)?.as_object()?.keys();
        let unknown = fields.find(|name| !of_generations.contains(&name.as_str()))?;
        Some(cut(format_args!("{place}.{unknown}")))
    })
}

/// What becomes of a generation that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDamage {
    /// Reading fails.
    Fail,
    /// It is noted, and the others are read.
    Note,
}

impl OnDamage {
    /// Returns what was read of a generation, or `None` if it is noted as damaged.
    fn readable(
        self,
        generation: Generation,
        read: Result<Arc<Definitions>>,
        damaged: &mut Vec<Damaged>,
    ) -> Result<Option<Arc<Definitions>>> {
        match read {
            Err(e) if self == Self::Note && e.kind() == Kind::Corrupt => {
                damaged.push(Damaged {
                    generation,
                    reason: e.chain(),
                });
                Ok(None)
            }
            read => read.map(Some),
        }
    }
}

/// Reads the definitions that are applied to a project. Those that are `known` already are not read
/// again. A pointer that no version of Wafer wrote names no generation, and is noted as one that is
/// damaged.
///
/// # Errors
/// Returns [`Kind::Corrupt`] when the pointer is damaged, or a generation is and reading fails
/// then, [`Kind::Invalid`] when a later version of Wafer wrote a generation, and the errors of the
/// stores.
pub(crate) async fn read(
    stores: &Stores,
    project: &str,
    known: &Applied,
    on_damage: OnDamage,
) -> Result<Applied> {
    let metadata = stores.metadata.as_ref();
    let name = format!("{project}/{POINTER}");
    let stored = metadata.get(&name).await?;
    if on_damage == OnDamage::Note
        && let Some(stored) = &stored
        && let Some(error) = lost::damaged_pointer(metadata, &name, stored)
    {
        let damaged = Damaged {
            generation: Generation::default(),
            reason: error.chain(),
        };
        return Ok(Applied {
            version: stored.version,
            damaged: vec![damaged],
            ..Applied::default()
        });
    }
    let found = found_pointer(metadata, &name, stored.as_ref())?;
    read_named(stores, project, found, known, on_damage).await
}

/// Reads the definitions that a pointer names, which was `found` with the version of its object.
///
/// Artifacts stay. Objects are removed when the pointer moves: what was read of them while it moved
/// may be incomplete, so it is read again.
///
/// # Errors
/// Returns the errors of [`read`].
pub(crate) async fn read_named(
    stores: &Stores,
    project: &str,
    mut found: (Pointer, u64),
    known: &Applied,
    on_damage: OnDamage,
) -> Result<Applied> {
    loop {
        let (is_in_objects, version) = (found.0.is_in_objects(), found.1);
        let read = read_once(stores, project, found, known, on_damage).await;
        if !is_in_objects {
            return read;
        }
        found = read_pointer(stores.metadata.as_ref(), project).await?;
        if found.1 == version {
            return read;
        }
    }
}

async fn read_once(
    stores: &Stores,
    project: &str,
    (pointer, version): (Pointer, u64),
    known: &Applied,
    on_damage: OnDamage,
) -> Result<Applied> {
    let mut damaged = Vec::new();
    let live = match pointer.live.number {
        0 => lost::nothing(stores, project).await,
        _ => read_generation(stores, project, pointer.live, known).await,
    };
    let live = on_damage.readable(pointer.live, live, &mut damaged)?;
    let staged = match pointer.staged {
        None => None,
        Some(staged) => {
            let read = read_generation(stores, project, staged, known).await;
            on_damage.readable(staged, read, &mut damaged)?
        }
    };
    Ok(Applied {
        live: live.unwrap_or_default(),
        staged,
        pointer,
        version,
        damaged,
    })
}

async fn read_generation(
    stores: &Stores,
    project: &str,
    generation: Generation,
    known: &Applied,
) -> Result<Arc<Definitions>> {
    if let Some(definitions) = known.definitions_of(generation) {
        return Ok(definitions);
    }
    let Generation { number, artifact } = generation;
    let read = match artifact {
        Some(digest) => artifact::read(stores.artifacts.as_ref(), digest).await,
        None => earlier::read(stores.metadata.as_ref(), project, number).await,
    };
    read.map(Arc::new)
        .map_err(|e| unreadable(stores, project, generation, e))
}

/// Makes the error for a generation that cannot be read.
fn unreadable(stores: &Stores, project: &str, generation: Generation, cause: Error) -> Error {
    let kind = match cause.kind() {
        // It is not what the caller asked for that is missing.
        Kind::NotFound => Kind::Corrupt,
        kind => kind,
    };
    let Generation { number, artifact } = generation;
    let mut message = format!("generation {number} of the definitions of `{project}`");
    let advice = match artifact {
        Some(digest) => format!(
            "restore its artifact {} in {} from a backup, on S3 from the versions of the object; or run \
             `wafer apply`, which writes it again if the project is as it was when it was applied",
            blob_name(digest),
            stores.artifacts
        ),
        None => format!(
            "restore its objects below `{}` in {} from a backup; or run `wafer apply`, which puts the \
             definitions of the project in its place, unless rows could be lost to requests by that",
            earlier::prefix(project, number),
            stores.metadata
        ),
    };
    if kind == Kind::Corrupt {
        message = format!("{message} cannot be read: {advice}");
    }
    Error::caused(kind, message, cause)
}

#[cfg(test)]
mod tests;
