//! Requests of one process over stores in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use arrow_array::{ArrayRef, Int64Array};
use serde_json::json;
use tempfile::TempDir;
use wafer_catalog::{Components, Context, GroupDef, LookupDef, Pointer, ViewDef};
use wafer_core::rules::RowVersion;
use wafer_core::{DataType, Duration, Field, SettableClock, encode_row, entity_key};
use wafer_registry::Registry;
use wafer_store::{
    Error, Kind, MemoryStore, OnlineKey, OnlineRow, OnlineStore as _, OnlineWrite, Stores,
};
use wafer_tables::Tables;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1_000)
}

/// Returns definitions of the group `g`, whose entities have the feature `x` for some seconds, and
/// of the view `v` of it.
fn definitions(ttl: i64) -> Definitions {
    let id = Field::new("id", DataType::Int64, false);
    let group = GroupDef {
        keys: vec![id.clone()],
        columns: vec![Field::new("x", DataType::Int64, true)],
        ttl: Some(Duration::from_secs(ttl)),
        ..GroupDef::new("g", "e", "at")
    };
    let view = ViewDef {
        inputs: vec![Field {
            nullable: true,
            ..id
        }],
        lookups: vec![LookupDef {
            group: "g".to_owned(),
            alias: "last".to_owned(),
            keys: vec!["id".to_owned()],
            features: vec![0],
        }],
        functions: Vec::new(),
        doc: String::new(),
    };
    Definitions {
        groups: BTreeMap::from([("g".to_owned(), group)]),
        views: BTreeMap::from([("v".to_owned(), view)]),
        ..Definitions::default()
    }
}

/// A project with three entities. Its clock shows 100 seconds.
struct Project {
    store: Arc<MemoryStore>,
    serving: Serving,
    _folder: TempDir,
}

impl Project {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<MemoryStore> = Arc::default();
        let stores = Stores::with_folder(Arc::clone(&store), folder.path()).unwrap();
        let clock = Arc::new(SettableClock::stopped_at(at(100)));
        let components = Components::for_tests(stores, clock, "test").unwrap();
        let context = Arc::new(Context::open("p", components).await.unwrap());
        let tables = Arc::new(Tables::new(Arc::clone(&context)));
        let registry = Arc::new(Registry::new(Arc::clone(&context)));
        let project = Self {
            store,
            serving: Serving::new(context, tables, registry),
            _folder: folder,
        };
        project.apply(&definitions(10)).await;
        project.put(1, 95, Some(7)).await;
        project.put(2, 99, None).await;
        project.put(3, 80, Some(5)).await;
        project
    }

    async fn apply(&self, definitions: &Definitions) {
        let context = &self.serving.context;
        let applied = context.applied();
        let pointer = Pointer {
            live: context.write_generation(definitions).await.unwrap(),
            ..Pointer::default()
        };
        context.point(pointer, &applied).await.unwrap();
    }

    /// Writes the row of an entity, with its event time.
    async fn put(&self, id: i64, second: i64, x: Option<i64>) {
        let group = &definitions(10).groups["g"];
        let key: ArrayRef = Arc::new(Int64Array::from(vec![id]));
        let write = OnlineWrite {
            key: OnlineKey {
                group: group.table(),
                entity: entity_key(&[key], 0).unwrap(),
            },
            row: OnlineRow {
                version: RowVersion::new(at(second), at(second), Some(0), ""),
                fingerprint: group.fingerprint(),
                values: stored(x).into(),
            },
            keep_until: None,
        };
        self.store.put_many(vec![write]).await.unwrap();
    }
}

/// Returns a row as the online store has it.
fn stored(x: Option<i64>) -> Vec<u8> {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![x]));
    let mut values = Vec::new();
    encode_row(&[column], 0, &mut values);
    values
}

/// Returns the value and the status of a feature for each row.
fn answers(vectors: &Vectors, feature: &str) -> Vec<(Json, Json)> {
    let answer = |row| {
        let answer = serde_json::to_value(row).unwrap();
        let of = |part: &str| answer[part][feature].clone();
        (of("features"), of("status"))
    };
    vectors.rows().map(answer).collect()
}

fn rows(ids: &[Json]) -> Vec<Json> {
    ids.iter().map(|id| json!({ "id": id })).collect()
}

#[tokio::test]
async fn vectors_are_in_the_order_of_the_request_with_a_status_for_each_value() {
    let project = Project::new().await;
    let asked = rows(&[
        json!(2),
        json!(1),
        json!(null),
        json!(3),
        json!(4),
        json!(1),
    ]);
    let wanted = [
        (json!(null), json!("null")),
        (json!(7), json!("present")),
        (json!(null), json!("not_found")),
        (json!(null), json!("expired")),
        (json!(null), json!("not_found")),
        (json!(7), json!("present")),
    ];
    let vectors = project.serving.features("v", &asked).await.unwrap();
    assert_eq!(answers(&vectors, "last_x"), wanted);
    let memory = RequestMemory::default();
    let serving = &project.serving;
    let vectors = serving.group_features("g", &asked, memory).await.unwrap();
    assert_eq!(answers(&vectors, "g_x"), wanted);
}

#[tokio::test]
async fn views_are_resolved_again_when_other_definitions_are_live() {
    let project = Project::new().await;
    let asked = rows(&[json!(3)]);
    for (ttl, value, status) in [
        (10, json!(null), "expired"),
        (20, json!(5), "present"),
        (19, json!(null), "expired"),
    ] {
        project.apply(&definitions(ttl)).await;
        let vectors = project.serving.features("v", &asked).await.unwrap();
        let wanted = [(value, json!(status))];
        assert_eq!(answers(&vectors, "last_x"), wanted, "{ttl}");
    }
}

/// Returns memory of which a request may take so many bytes, and what is charged to it.
fn memory_of(most: u64) -> (RequestMemory, Arc<Mutex<Vec<u64>>>) {
    let charged = Arc::new(Mutex::new(Vec::new()));
    let charges = Arc::clone(&charged);
    let memory = RequestMemory::charged_by(move |bytes| {
        charges.lock().unwrap().push(bytes);
        match bytes <= most {
            true => Ok(()),
            false => Err(Error::new(Kind::Unavailable, "there is no memory")),
        }
    });
    (memory, charged)
}

#[tokio::test]
async fn rows_are_charged_before_they_are_read() {
    let project = Project::new().await;
    let serving = &project.serving;
    // Nothing is read for an unknown entity, and the null that is answered takes eight bytes.
    let (memory, charged) = memory_of(8);
    let unknown = rows(&[json!(4)]);
    let vectors = serving.features_within("v", &unknown, memory).await;
    assert_eq!(vectors.unwrap().len(), 1);
    assert_eq!(charged.lock().unwrap().iter().max(), Some(&8));
    // A row is charged with what is stored of it, and is not read if there is no memory for that.
    let (memory, charged) = memory_of(0);
    let known = rows(&[json!(4), json!(1)]);
    let error = serving.features_within("v", &known, memory).await;
    assert_eq!(error.unwrap_err().to_string(), "there is no memory");
    let charged = charged.lock().unwrap();
    let first = charged.iter().find(|bytes| **bytes > 0);
    assert_eq!(first, Some(&(stored(Some(7)).len() as u64)), "{charged:?}");
}

#[tokio::test]
async fn unknown_views_and_groups_are_not_found() {
    let project = Project::new().await;
    let serving = &project.serving;
    let view = serving.features("w", &[]).await;
    let memory = RequestMemory::default();
    let group = serving.group_features("w", &[], memory).await;
    for (asked, wanted) in [(view, "view `w`"), (group, "feature group `w`")] {
        let error = asked.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains(wanted), "{error}");
    }
}
