//! What applying a project would change.

use std::fmt;

use serde::Serialize;
use wafer_store::{Error, Result};

use crate::context::Context;
use crate::definitions::{Definitions, FunctionDef, GroupDef};
use crate::generations::{KINDS, objects};

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
    /// Tables of new group versions that are to be filled before all of it is live.
    pub staged: Vec<String>,
    /// What would suffer from it, for people.
    pub warnings: Vec<String>,
}

impl Context {
    /// What applying these definitions would change.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when a group's columns differ from those that were
    /// applied under the same version; those of the metadata store.
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
        Ok(Plan {
            changes,
            staged: Vec::new(),
            warnings: Vec::new(),
        })
    }
}

/// Columns of a version never change, except that nullable ones may be added.
fn check_version(stored: &GroupDef, wanted: &GroupDef) -> Result<()> {
    let columns = |group: &GroupDef| -> Vec<String> {
        let fields = group.keys.iter().chain(&group.columns);
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
    if stored.version != wanted.version {
        return Ok(());
    }
    if stored.aggregates != wanted.aggregates {
        return Err(Error::invalid(format!(
            "groups.{}: its aggregates changed, and version {} is in use; set `version = {}`",
            wanted.name,
            wanted.version,
            wanted.version + 1
        )));
    }
    let kept = stored.keys.len() + stored.columns.len();
    let is_extended = columns(wanted).starts_with(&columns(stored));
    let mut added = wanted.keys.iter().chain(&wanted.columns).skip(kept);
    if is_extended && added.all(|field| field.nullable) {
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
                pipeline.source, pipeline.made_by, pipeline.group
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
