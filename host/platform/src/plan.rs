//! What applying a project would change.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wafer_store::{Expect, MetadataStore};

use crate::definition::{Definitions, FunctionDef, GroupDef};
use crate::error::{Error, Kind, Result};
use crate::platform::Platform;

/// What would happen to one definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Create,
    /// It differs from what was applied.
    Update,
    /// It is no longer in the project. Data is kept.
    Remove,
}

/// A difference between a project and what was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What would happen.
    pub kind: ChangeKind,
    /// Kind and name, such as `group plane_outcome`.
    pub object: String,
    /// What differs, for people.
    pub detail: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            ChangeKind::Create => '+',
            ChangeKind::Update => '~',
            ChangeKind::Remove => '-',
        };
        write!(f, "{sign} {}", self.object)?;
        if self.detail.is_empty() {
            Ok(())
        } else {
            write!(f, "  ({})", self.detail)
        }
    }
}

/// All differences, in the order of their objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The differences; none when everything is applied.
    pub changes: Vec<Change>,
}

/// Kinds of definitions, as their objects are named.
const KINDS: [&str; 5] = ["source", "function", "group", "pipeline", "view"];

/// Definitions as objects: name to JSON.
fn objects(definitions: &Definitions) -> BTreeMap<(usize, String), serde_json::Value> {
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
    all
}

/// Reads what was applied to a project.
pub(crate) async fn read(store: &dyn MetadataStore, project: &str) -> Result<Definitions> {
    Ok(Definitions {
        sources: read_kind(store, project, "source").await?,
        functions: read_kind(store, project, "function").await?,
        groups: read_kind(store, project, "group").await?,
        pipelines: read_kind(store, project, "pipeline").await?,
        views: read_kind(store, project, "view").await?,
    })
}

async fn read_kind<T: DeserializeOwned>(
    store: &dyn MetadataStore,
    project: &str,
    kind: &str,
) -> Result<BTreeMap<String, T>> {
    let prefix = format!("{project}/{kind}/");
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

impl Platform {
    /// What applying these definitions would change.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when a group's columns differ from those that were
    /// applied under the same version.
    pub fn plan(&self, wanted: &Definitions) -> Result<Plan> {
        let applied = self.definitions();
        for (name, group) in &wanted.groups {
            if let Some(stored) = applied.groups.get(name) {
                check_version(stored, group)?;
            }
        }
        let (old, new) = (objects(&applied), objects(wanted));
        let mut changes = Vec::new();
        for ((kind, name), json) in &new {
            let object = format!("{} {name}", KINDS[*kind]);
            match old.get(&(*kind, name.clone())) {
                None => changes.push(Change {
                    kind: ChangeKind::Create,
                    object,
                    detail: detail(wanted, *kind, name),
                }),
                Some(stored) if stored != json => {
                    let detail = differences(stored, json).join(", ");
                    changes.push(Change {
                        kind: ChangeKind::Update,
                        object,
                        detail,
                    });
                }
                Some(_) => {}
            }
        }
        for (kind, name) in old.keys().filter(|key| !new.contains_key(key)) {
            let detail = if KINDS[*kind] == "group" {
                "its rows are kept".to_owned()
            } else {
                String::new()
            };
            changes.push(Change {
                kind: ChangeKind::Remove,
                object: format!("{} {name}", KINDS[*kind]),
                detail,
            });
        }
        Ok(Plan { changes })
    }

    /// Applies definitions: makes the tables of new groups, then writes each
    /// object by itself, groups before what refers to them.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), and those of the stores.
    pub async fn apply(&self, wanted: Definitions) -> Result<Plan> {
        let plan = self.plan(&wanted)?;
        for group in wanted.groups.values() {
            let schema = group.offline_schema().to_arrow();
            self.components()
                .offline
                .ensure(&group.table(), &schema)
                .await?;
        }
        let (old, new) = (objects(&self.definitions()), objects(&wanted));
        let store = &self.components().metadata;
        // Kept for ever: rows may still be on their way to a table when its group
        // gets another version.
        for group in wanted.groups.values() {
            let json = serde_json::to_vec(group).expect("definitions are plain data");
            let name = format!("{}/table/{}", self.project(), group.table());
            store.put(&name, json.into(), Expect::Anything).await?;
        }
        let name = |kind: usize, name: &str| format!("{}/{}/{name}", self.project(), KINDS[kind]);
        for ((kind, object), json) in &new {
            if old.get(&(*kind, object.clone())) != Some(json) {
                let bytes =
                    Bytes::from(serde_json::to_vec(json).expect("definitions are plain data"));
                store
                    .put(&name(*kind, object), bytes, Expect::Anything)
                    .await?;
            }
        }
        for (kind, object) in old.keys().rev().filter(|key| !new.contains_key(key)) {
            store.delete(&name(*kind, object), Expect::Anything).await?;
        }
        self.replace_definitions(wanted);
        Ok(plan)
    }
}

/// Columns of a version never change.
fn check_version(stored: &GroupDef, wanted: &GroupDef) -> Result<()> {
    let columns = |group: &GroupDef| -> Vec<String> {
        let fields = group.keys.iter().chain(&group.features);
        fields
            .map(|f| {
                format!(
                    "{} {}{}",
                    f.name,
                    f.data_type,
                    if f.nullable { "?" } else { "" }
                )
            })
            .collect()
    };
    if stored.version != wanted.version || columns(stored) == columns(wanted) {
        return Ok(());
    }
    let (old, new) = (columns(stored), columns(wanted));
    let gone: Vec<_> = old.iter().filter(|c| !new.contains(c)).cloned().collect();
    let added: Vec<_> = new.iter().filter(|c| !old.contains(c)).cloned().collect();
    let list = |columns: Vec<String>| {
        if columns.is_empty() {
            "nothing".to_owned()
        } else {
            columns.join(", ")
        }
    };
    Err(Error::invalid(format!(
        "groups.{}: its columns changed (gone: {}; new: {}), and version {} is in use; set `version = {}`",
        wanted.name,
        list(gone),
        list(added),
        wanted.version,
        wanted.version + 1
    )))
}

fn detail(definitions: &Definitions, kind: usize, name: &str) -> String {
    match KINDS[kind] {
        "function" => {
            let FunctionDef { registered, .. } = &definitions.functions[name];
            registered.digest.short()
        }
        "group" => definitions.groups[name].table(),
        "pipeline" => {
            let pipeline = &definitions.pipelines[name];
            format!(
                "{} → {} → {}",
                pipeline.source, pipeline.function, pipeline.group
            )
        }
        _ => String::new(),
    }
}

/// Names of the top-level keys that differ.
fn differences(old: &serde_json::Value, new: &serde_json::Value) -> Vec<String> {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return Vec::new();
    };
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .cloned()
        .collect()
}
