//! Applied definitions on disk: generations behind one pointer, of which one is live and one may be staged.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wafer_core::rules::Interval;
use wafer_store::{Error, Kind, MetadataStore, Result};

use crate::definitions::Definitions;

/// Kinds of definitions, as their objects are named.
pub(crate) const KINDS: [&str; 6] = ["source", "function", "group", "pipeline", "view", "model"];

/// Definitions as objects: name to JSON.
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

/// What was applied to a project.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// What is served.
    pub live: Arc<Definitions>,
    /// What will be, once its new group versions are filled.
    pub staged: Option<Arc<Definitions>>,
    /// Which generations these are.
    pub pointer: Pointer,
    /// Version of the pointer's object.
    pub version: u64,
}

/// Which generations of definitions count: one small object that is written at
/// once, so that nobody reads half of two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// Number of the live generation, from 1; 0: nothing was applied yet.
    pub live: u64,
    /// Number of the staged one.
    pub staged: Option<u64>,
    /// For each table that the staged one fills, the event times that the version
    /// before it had when it was staged: what came since went to both.
    #[serde(default)]
    pub spans: BTreeMap<String, Interval>,
}

pub(crate) fn pointer_name(project: &str) -> String {
    format!("{project}/applied")
}

async fn read_pointer(store: &dyn MetadataStore, project: &str) -> Result<(Pointer, u64)> {
    let name = pointer_name(project);
    let Some(stored) = store.get(&name).await? else {
        return Ok((Pointer::default(), 0));
    };
    let pointer = serde_json::from_slice(&stored.value).map_err(|e| {
        let message = format!("stored object `{name}` cannot be read; apply the project again");
        Error::caused(Kind::Internal, message, e)
    })?;
    Ok((pointer, stored.version))
}

/// Whether these definitions are still what was applied.
pub(crate) async fn is_current(
    store: &dyn MetadataStore,
    project: &str,
    applied: &Applied,
) -> Result<bool> {
    let stored = store.get(&pointer_name(project)).await?;
    Ok(stored.map_or(0, |stored| stored.version) == applied.version)
}

/// Reads what was applied to a project.
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
        // Old generations are removed; one that was read while it was, counts not.
        if is_current(store, project, &applied).await? {
            return Ok(applied);
        }
    }
}

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
                Error::caused(Kind::Internal, message, e)
            })?;
            Ok((name[prefix.len()..].to_owned(), definition))
        })
        .collect()
}
