//! Applied definitions in the metadata store.
//!
//! Every apply writes a whole generation of definitions under `PROJECT/definitions/N/…`, one
//! object for each definition. One small object, `PROJECT/applied`, is the pointer: it says which
//! generation is live and which one is staged. A process that reads definitions compares the
//! version of the pointer before and after, so that it never mixes two generations. `applied.rs`
//! writes what this module reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wafer_core::rules::Interval;
use wafer_store::{Error, Kind, MetadataStore, Result};

use crate::definitions::Definitions;

/// The kinds of definitions, as they appear in the names of their objects.
pub(crate) const KINDS: [&str; 6] = ["source", "function", "group", "pipeline", "view", "model"];

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

/// The definitions that are applied to a project.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The definitions that are served.
    pub live: Arc<Definitions>,
    /// The definitions that become live once their new group versions are filled.
    pub staged: Option<Arc<Definitions>>,
    /// The numbers of these generations.
    pub pointer: Pointer,
    /// The version of the pointer's object; 0 if nothing has been applied yet.
    pub version: u64,
}

/// Which generations of definitions count. It is one small object that is written at once, so that
/// all definitions of a project change together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The number of the live generation, from 1; 0 if nothing has been applied yet.
    pub live: u64,
    /// The number of the staged generation.
    pub staged: Option<u64>,
    /// For each table that the staged generation fills, the event times that the previous version
    /// had when the new one was staged. Later events are written to both versions.
    #[serde(default)]
    pub spans: BTreeMap<String, Interval>,
}

/// Returns the name of the pointer's object.
pub(crate) fn pointer_name(project: &str) -> String {
    format!("{project}/applied")
}

/// Reads the pointer and the version of its object. Without one, nothing has been applied yet.
async fn read_pointer(store: &dyn MetadataStore, project: &str) -> Result<(Pointer, u64)> {
    let name = pointer_name(project);
    let Some(stored) = store.get(&name).await? else {
        return Ok((Pointer::default(), 0));
    };
    let pointer = serde_json::from_slice(&stored.value).map_err(|e| {
        let message = format!("stored object `{name}` cannot be read; apply the project again");
        Error::caused(Kind::Corrupt, message, e)
    })?;
    Ok((pointer, stored.version))
}

/// Returns whether the pointer has not moved since these definitions were read.
pub(crate) async fn is_current(
    store: &dyn MetadataStore,
    project: &str,
    applied: &Applied,
) -> Result<bool> {
    let stored = store.get(&pointer_name(project)).await?;
    Ok(stored.map_or(0, |stored| stored.version) == applied.version)
}

/// Reads the definitions that are applied to a project.
pub(crate) async fn read(store: &dyn MetadataStore, project: &str) -> Result<Applied> {
    loop {
        let (pointer, version) = read_pointer(store, project).await?;
        let live = read_generation(store, project, pointer.live).await?;
        let staged = match pointer.staged {
            None => None,
            Some(staged) => Some(Arc::new(read_generation(store, project, staged).await?)),
        };
        let applied = Applied {
            live: Arc::new(live),
            staged,
            pointer,
            version,
        };
        // Old generations are removed when the pointer moves. What was read while it moved may be
        // incomplete, so it is read again.
        if is_current(store, project, &applied).await? {
            return Ok(applied);
        }
    }
}

/// Returns the prefix of the names of a generation's objects.
pub(crate) fn generation_prefix(project: &str, generation: u64) -> String {
    format!("{project}/definitions/{generation:08}/")
}

async fn read_generation(
    store: &dyn MetadataStore,
    project: &str,
    generation: u64,
) -> Result<Definitions> {
    let prefix = generation_prefix(project, generation);
    Ok(Definitions {
        sources: read_kind(store, &prefix, "source").await?,
        functions: read_kind(store, &prefix, "function").await?,
        groups: read_kind(store, &prefix, "group").await?,
        pipelines: read_kind(store, &prefix, "pipeline").await?,
        views: read_kind(store, &prefix, "view").await?,
        models: read_kind(store, &prefix, "model").await?,
    })
}

async fn read_kind<T: DeserializeOwned>(
    store: &dyn MetadataStore,
    generation: &str,
    kind: &str,
) -> Result<BTreeMap<String, T>> {
    let prefix = format!("{generation}{kind}/");
    let stored = store.list(&prefix).await?;
    stored
        .into_iter()
        .map(|(name, object)| {
            let definition = serde_json::from_slice(&object.value).map_err(|e| {
                let message =
                    format!("stored definition `{name}` cannot be read; apply the project again");
                Error::caused(Kind::Corrupt, message, e)
            })?;
            Ok((name[prefix.len()..].to_owned(), definition))
        })
        .collect()
}
