//! Plans: what applying a project would change.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use wafer_store::{Error, Result};

use crate::definitions::{Definitions, FunctionDef, GroupDef};
use crate::generations::{KINDS, objects};

/// What would happen to a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The definition is new and would be created.
    Create,
    /// The definition differs from the applied one and would be updated.
    Update,
    /// The definition is no longer in the project and would be removed. Its data is kept.
    Remove,
}

/// A difference between a project and the applied definitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What would happen to the definition.
    pub kind: ChangeKind,
    /// The kind and the name of the definition, such as `group plane_outcome`.
    pub object: String,
    /// What differs, for people to read.
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

/// All changes that applying a project would make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The changes, in the order of their objects. There are none when everything is applied.
    pub changes: Vec<Change>,
    /// The tables of new group versions that must be filled before the definitions become live.
    pub staged: Vec<String>,
    /// Whether the definitions are applied already, and become live when these tables are filled.
    pub is_staged: bool,
    /// Warnings about what else would be affected, for people to read.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Compares wanted definitions with the live ones.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) when a group's columns or aggregates
    /// differ from those that are live under the same version.
    pub fn new(live: &Definitions, wanted: &Definitions) -> Result<Self> {
        for (name, group) in &wanted.groups {
            if let Some(stored) = live.groups.get(name) {
                check_version(stored, group)?;
            }
        }
        let (old, new) = (objects(live), objects(wanted));
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
                    let detail = match KINDS[*kind] {
                        "function" => changed(&live.functions[name], &wanted.functions[name]),
                        _ => differences(stored, json).join(", "),
                    };
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
        Ok(Self {
            changes,
            staged: Vec::new(),
            is_staged: false,
            warnings: Vec::new(),
        })
    }
}

/// Checks that the columns of a group version stay the same, except that nullable columns may be
/// added.
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

/// Returns what a plan says about a new definition.
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

/// Returns what a plan says about a function that changed: what differs of it, and its digests.
fn changed(old: &FunctionDef, new: &FunctionDef) -> String {
    let names: BTreeSet<&String> = old.assets.keys().chain(new.assets.keys()).collect();
    let assets = names.into_iter();
    let assets = assets.filter(|name| old.assets.get(*name) != new.assets.get(*name));
    let assets = assets.map(|name| format!("assets.{name}"));
    let (before, after) = (&old.registered, &new.registered);
    let others = [
        ("component", before.component != after.component),
        ("parameters", old.parameters != new.parameters),
        ("strict_nan", before.strict_nan != after.strict_nan),
        ("limits", old.limits != new.limits),
    ];
    let others = others.into_iter().filter(|(_, differs)| *differs);
    let parts: Vec<String> = assets
        .chain(others.map(|(name, _)| name.to_owned()))
        .collect();
    let parts = parts.join(", ");
    match (before.digest == after.digest, parts.is_empty()) {
        (true, true) => "snapshot".to_owned(),
        (true, false) => parts,
        (false, _) => {
            let digests = format!("{} → {}", before.digest.short(), after.digest.short());
            format!("{parts}: {digests}")
        }
    }
}

/// Returns the names of the top-level keys that differ.
fn differences(old: &serde_json::Value, new: &serde_json::Value) -> Vec<String> {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return Vec::new();
    };
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use wafer_core::{DataType, Digest, Field, Mapping, Schema, Signature};
    use wafer_runtime::{Limits, Registered};

    use super::*;

    #[test]
    fn plan_says_what_of_a_function_changed() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let schema = || Schema::new(vec![Field::new("x", DataType::Int64, false)]).unwrap();
        let function = |code: &str, component: &str, factor: &str, memory: u64| {
            let limits = Limits {
                memory,
                ..Limits::default()
            };
            FunctionDef {
                registered: Registered {
                    digest: digest(&[code, component, factor].concat()),
                    component: digest(component),
                    snapshot: digest("snapshot"),
                    delta: None,
                    signature: Signature {
                        doc: String::new(),
                        inputs: schema(),
                        outputs: schema(),
                        mapping: Mapping::OneToOne,
                    },
                    strict_nan: false,
                },
                limits,
                assets: [("python".to_owned(), digest(code))].into(),
                parameters: [("factor".to_owned(), factor.to_owned())].into(),
            }
        };
        let old = function("a", "b", "1", 1);
        for (new, wanted) in [
            (function("c", "b", "1", 1), "assets.python: "),
            (function("a", "c", "2", 1), "component, parameters: "),
            (function("a", "b", "1", 2), "limits"),
        ] {
            let found = changed(&old, &new);
            let digests = format!(
                "{} → {}",
                old.registered.digest.short(),
                new.registered.digest.short()
            );
            match wanted.ends_with(": ") {
                true => assert_eq!(found, format!("{wanted}{digests}")),
                false => assert_eq!(found, wanted),
            }
        }
    }
}
