//! What applying a project would change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wafer_core::DataType;
use wafer_core::rules::Interval;
use wafer_store::{AsOf, Expect, Kind as StoreKind, MetadataStore};

use crate::definition::{Definitions, FunctionDef, GroupDef, TableDef};
use crate::error::{Error, Kind, Result};
use crate::platform::Platform;
use crate::record::RunState;

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

/// Kinds of definitions, as their objects are named.
const KINDS: [&str; 6] = ["source", "function", "group", "pipeline", "view", "model"];

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
    add(&mut all, 5, &definitions.models);
    all
}

/// What was applied to a project.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied {
    /// What is served.
    pub(crate) live: Arc<Definitions>,
    /// What will be, once its new group versions are filled.
    pub(crate) staged: Option<Arc<Definitions>>,
    pointer: Pointer,
    /// Version of the pointer's object.
    version: u64,
}

/// Which generations of definitions count: one small object that is written at
/// once, so that nobody reads half of two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pointer {
    live: u64,
    staged: Option<u64>,
    /// For each table that the staged one fills, the event times that the version
    /// before it had when it was staged: what came since went to both.
    #[serde(default)]
    spans: BTreeMap<String, Interval>,
}

fn pointer_name(project: &str) -> String {
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

fn generation_prefix(project: &str, generation: u64) -> String {
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

impl Platform {
    /// What applying these definitions would change.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when a group's columns differ from those that were
    /// applied under the same version; those of the metadata store.
    pub async fn plan(&self, wanted: &Definitions) -> Result<Plan> {
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
            warnings: self.outdated_endpoints(wanted).await?,
        })
    }

    /// Applies definitions: makes the tables of new groups, writes the definitions
    /// as a new generation, and makes that live at once. A group that has another
    /// version with rows is live as it is until the new version is filled: then the
    /// whole generation is staged, unless `at_once`.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), those of the stores, and [`Kind::Conflict`] when
    /// somebody else applies at the same time.
    pub async fn apply(&self, wanted: Definitions, at_once: bool) -> Result<Plan> {
        let mut plan = self.plan(&wanted).await?;
        for (table, _) in tables(&wanted) {
            self.check_table(&table).await?;
        }
        for (table, ensure) in tables(&wanted) {
            if ensure {
                let schema = table.schema().to_arrow();
                self.components()
                    .offline
                    .ensure(&table.name, &schema)
                    .await?;
            }
            self.keep_table(&table).await?;
        }
        let to_fill = if at_once {
            Vec::new()
        } else {
            self.to_fill(&wanted).await?
        };
        let applied = self.applied();
        let is_same = *applied.live == wanted && applied.pointer.live > 0;
        if is_same && applied.staged.is_none() {
            return Ok(plan);
        }
        if !to_fill.is_empty() && applied.staged.as_deref() == Some(&wanted) {
            plan.staged = to_fill;
            return Ok(plan);
        }
        let generation = self.next_generation().await?;
        self.write_generation(generation, &wanted).await?;
        let pointer = if to_fill.is_empty() {
            Pointer {
                live: generation,
                ..Pointer::default()
            }
        } else {
            Pointer {
                live: applied.pointer.live,
                staged: Some(generation),
                spans: self.spans(&wanted).await?,
            }
        };
        self.point(pointer, applied.version).await?;
        plan.staged = to_fill;
        Ok(plan)
    }

    /// What a table was once applied with holds for good: rows and summaries of it may
    /// be there.
    async fn check_table(&self, wanted: &TableDef) -> Result<()> {
        let stored = match self.table_definition(&wanted.name).await {
            Err(e) if e.kind() == Kind::NotFound => return Ok(()),
            other => other?,
        };
        let kept = stored.keys.len() + stored.columns.len();
        let columns = |table: &TableDef| -> Vec<(String, DataType)> {
            let fields = table.keys.iter().chain(&table.columns).take(kept);
            fields
                .map(|field| (field.name.clone(), field.data_type.clone()))
                .collect()
        };
        if stored.aggregates == wanted.aggregates && columns(&stored) == columns(wanted) {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "table `{}` was applied with other columns or aggregates before, and may have rows; \
             give the group a version that was not used yet",
            wanted.name
        )))
    }

    /// Tables of new group versions that would take the place of versions with
    /// rows, and are not filled yet.
    async fn to_fill(&self, wanted: &Definitions) -> Result<Vec<String>> {
        let live = self.definitions();
        let mut tables = Vec::new();
        for (name, group) in &wanted.groups {
            let Some(stored) = live.groups.get(name) else {
                continue;
            };
            if stored.version != group.version
                && self.components().offline.info(&stored.table()).await?.rows > 0
                && !self.is_filled(&group.table()).await?
            {
                tables.push(group.table());
            }
        }
        Ok(tables)
    }

    /// Event times in the live tables of groups that get other versions.
    async fn spans(&self, wanted: &Definitions) -> Result<BTreeMap<String, Interval>> {
        self.flush_all().await?;
        let live = self.definitions();
        let mut spans = BTreeMap::new();
        for (name, group) in &wanted.groups {
            let other = live
                .groups
                .get(name)
                .filter(|live| live.version != group.version);
            let Some(live) = other else {
                continue;
            };
            let offline = &self.components().offline;
            let snapshot = offline.snapshot(&live.table(), AsOf::Latest).await?;
            let times = snapshot.files().iter().filter_map(|file| file.events);
            if let Some((from, last)) = times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) {
                let to = last.plus_micros(1);
                spans.insert(group.table(), Interval { from, to });
            }
        }
        Ok(spans)
    }

    /// The first event times that a staged table has yet to be filled for.
    pub(crate) async fn missing(&self, table: &str) -> Result<Option<Interval>> {
        let Some(span) = self.applied().pointer.spans.get(table).copied() else {
            return Ok(None);
        };
        let mut done: Vec<Interval> = self
            .claims(table)
            .await?
            .into_iter()
            .filter(|run| run.state == RunState::Succeeded)
            .map(|run| run.interval)
            .collect();
        done.sort_by_key(|interval| interval.from);
        Ok(first_gap(span, &done))
    }

    async fn is_filled(&self, table: &str) -> Result<bool> {
        let name = format!("{}/filled/{table}", self.project());
        Ok(self.components().metadata.get(&name).await?.is_some())
    }

    /// Notes that a staged group version is filled; makes the staged definitions
    /// live when all are. Says whether they are live now.
    pub(crate) async fn filled(&self, table: &str) -> Result<bool> {
        let name = format!("{}/filled/{table}", self.project());
        let store = &self.components().metadata;
        store
            .put(&name, Bytes::from_static(b"{}"), Expect::Anything)
            .await?;
        self.refresh().await?;
        let applied = self.applied();
        let (Some(staged), Some(generation)) = (&applied.staged, applied.pointer.staged) else {
            return Ok(false);
        };
        if !self.to_fill(staged).await?.is_empty() {
            return Ok(false);
        }
        let pointer = Pointer {
            live: generation,
            ..Pointer::default()
        };
        self.point(pointer, applied.version).await?;
        Ok(true)
    }

    /// A number that no other apply has: the versions of one small object.
    async fn next_generation(&self) -> Result<u64> {
        let name = format!("{}/generation", self.project());
        let value = Bytes::from_static(b"{}");
        let store = &self.components().metadata;
        Ok(store.put(&name, value, Expect::Anything).await?)
    }

    async fn write_generation(&self, generation: u64, definitions: &Definitions) -> Result<()> {
        let store = &self.components().metadata;
        let prefix = generation_prefix(self.project(), generation);
        for ((kind, object), json) in &objects(definitions) {
            let bytes = Bytes::from(serde_json::to_vec(json).expect("definitions are plain data"));
            let name = format!("{prefix}{}/{object}", KINDS[*kind]);
            store.put(&name, bytes, Expect::Anything).await?;
        }
        Ok(())
    }

    /// Makes generations count, and removes those that no longer do.
    async fn point(&self, pointer: Pointer, version: u64) -> Result<()> {
        let store = &self.components().metadata;
        let json = serde_json::to_vec(&pointer).expect("numbers are plain data");
        let expect = match version {
            0 => Expect::Absent,
            version => Expect::Version(version),
        };
        let put = store
            .put(&pointer_name(self.project()), json.into(), expect)
            .await;
        put.map_err(|e| match e.kind() {
            StoreKind::Conflict => {
                let message = "the project was applied by somebody else meanwhile; run it again";
                Error::caused(Kind::Conflict, message, e)
            }
            _ => e.into(),
        })?;
        let prefix = format!("{}/definitions/", self.project());
        let kept = |name: &str| {
            let generations = [Some(pointer.live), pointer.staged];
            generations
                .into_iter()
                .flatten()
                .any(|g| name.starts_with(&generation_prefix(self.project(), g)))
        };
        for (name, _) in store.list(&prefix).await? {
            if !kept(&name) {
                store.delete(&name, Expect::Anything).await?;
            }
        }
        self.replace_applied(read(store.as_ref(), self.project()).await?);
        Ok(())
    }
}

/// The first part of a span that no interval covers; these are sorted by their start.
fn first_gap(span: Interval, done: &[Interval]) -> Option<Interval> {
    let mut from = span.from;
    for interval in done {
        if interval.from > from {
            let to = interval.from.min(span.to);
            return (from < span.to).then_some(Interval { from, to });
        }
        from = from.max(interval.to);
    }
    (from < span.to).then_some(Interval { from, to: span.to })
}

/// Tables that definitions write to, and whether they are made in advance.
fn tables(definitions: &Definitions) -> Vec<(TableDef, bool)> {
    let groups = definitions.groups.values();
    let mut tables: Vec<_> = groups
        .flat_map(|group| {
            [
                (group.rows_table(), true),
                (group.late_table(), false),
                (group.quarantine_table(), false),
            ]
        })
        .collect();
    let kept = definitions
        .sources
        .iter()
        .filter(|(_, source)| source.keeps_events());
    tables.extend(kept.map(|(name, _)| (TableDef::archive(name), false)));
    tables
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

#[cfg(test)]
mod tests {
    use wafer_core::Timestamp;

    use super::*;

    #[test]
    fn gaps_are_found() {
        let interval = |from, to| Interval {
            from: Timestamp::from_micros(from),
            to: Timestamp::from_micros(to),
        };
        for (done, wanted) in [
            (&[][..], Some((10, 20))),
            (&[(0, 30)], None),
            (&[(10, 20)], None),
            (&[(0, 12), (12, 20)], None),
            (&[(0, 12), (13, 20)], Some((12, 13))),
            (&[(11, 20)], Some((10, 11))),
            (&[(0, 19)], Some((19, 20))),
            (&[(0, 5), (30, 40)], Some((10, 20))),
            (&[(5, 15), (6, 8), (15, 25)], None),
        ] {
            let done: Vec<Interval> = done.iter().map(|(a, b)| interval(*a, *b)).collect();
            let wanted = wanted.map(|(from, to)| interval(from, to));
            assert_eq!(first_gap(interval(10, 20), &done), wanted, "{done:?}");
        }
    }
}
