//! The contract of the store traits, as a test suite that every backend runs.
//!
//! Each public function needs a fresh, empty store, and panics when the store violates the
//! contract.
#![allow(clippy::unwrap_used, reason = "a test suite")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{ArrayRef, StringArray};
use bytes::Bytes;
use futures::future::join_all;
use wafer_core::aggregate::{self, Aggregate, AggregateValue, Cell, Function, Item, ItemLayout};
use wafer_core::rules::{Arrival, RowVersion};
use wafer_core::window::Window;
use wafer_core::{Duration, EntityKey, Timestamp, entity_key};

use wafer_store::{
    ArtifactStore, ArtifactStoreExt, EarlyWrite, Error, EventCommit, EventOutcome, Expect,
    GroupContent, Kind, Lease, Leased, MetadataStore, OnlineKey, OnlineRow, OnlineStore,
    OnlineWrite, Outbox, OutboxRow, PutCounts, Upkeep, blob_name,
};

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn entity(name: &str) -> EntityKey {
    let column: ArrayRef = Arc::new(StringArray::from(vec![name]));
    entity_key(&[column], 0).unwrap()
}

fn key(group: &str, name: &str) -> OnlineKey {
    OnlineKey {
        group: group.to_owned(),
        entity: entity(name),
    }
}

fn row(event: i64, created: i64, values: &str) -> OnlineRow {
    OnlineRow {
        version: RowVersion {
            event: at(event),
            created: at(created),
            order: 0,
        },
        fingerprint: u64::MAX - 1,
        values: Bytes::copy_from_slice(values.as_bytes()),
    }
}

fn write(name: &str, event: i64, created: i64, values: &str) -> OnlineWrite {
    OnlineWrite {
        key: key("g@1", name),
        row: row(event, created, values),
        keep_until: None,
    }
}

fn event(id: &str, writes: Vec<OnlineWrite>, outbox: Vec<OutboxRow>) -> EventCommit {
    EventCommit {
        source: "s".to_owned(),
        id: id.to_owned(),
        remember_until: at(1_000),
        writes,
        early: Vec::new(),
        outbox,
    }
}

fn outbox(table: &str, id: &str) -> OutboxRow {
    OutboxRow {
        table: table.to_owned(),
        event: at(-1),
        available: at(2),
        created: at(3),
        event_id: id.to_owned(),
        values: Bytes::copy_from_slice(id.as_bytes()),
        order: Some(id.len() as u64),
    }
}

fn waiting(due: i64, write: OnlineWrite) -> EarlyWrite {
    EarlyWrite {
        due: at(due),
        write,
    }
}

async fn values_of(store: &dyn EventStore, name: &str) -> Option<String> {
    values_at(store, name, i64::MIN).await
}

async fn values_at(store: &dyn EventStore, name: &str, now: i64) -> Option<String> {
    let rows = store.get_many(&[key("g@1", name)], at(now)).await.unwrap();
    rows[0]
        .as_ref()
        .map(|row| String::from_utf8(row.values.to_vec()).unwrap())
}

/// A backend that commits events.
pub trait EventStore: OnlineStore + Outbox + Upkeep {}

impl<S: OnlineStore + Outbox + Upkeep> EventStore for S {}

/// Tests the contract of [`OnlineStore`], [`Outbox`] and [`Upkeep`].
pub async fn online(store: &dyn EventStore) {
    the_outbox_waits_since_its_oldest_row(store).await;
    get_many_returns_rows_in_order_of_keys(store).await;
    a_counted_read_ends_with_the_error_of_its_count(store).await;
    newest_row_wins(store).await;
    events_commit_once(store).await;
    early_rows_appear_when_due(store).await;
    event_identities_expire(store).await;
    outbox_keeps_its_order(store).await;
    concurrent_commits_all_succeed(store).await;
    summaries_are_merged(store).await;
    replace_group_replaces_content_atomically(store).await;
    deleted_entities_stay_deleted(store).await;
}

/// Writes a summary of events at some times to an entity. Its aggregate is the number of events.
fn summary(name: &str, times: &[i64]) -> OnlineWrite {
    let layout = layout();
    let mut item = Item::new(&layout);
    for time in times {
        item.add(&layout, at(*time), Arrival::unknown(*time as u64), |_| None);
    }
    OnlineWrite {
        key: key("sums", name),
        row: OnlineRow {
            version: RowVersion {
                event: item.newest(),
                created: at(0),
                order: 0,
            },
            fingerprint: 1,
            values: item.encode(&layout).into(),
        },
        keep_until: None,
    }
}

fn layout() -> ItemLayout {
    let count = Aggregate {
        function: Function::Count,
        column: None,
        window: Window::LIFETIME,
    };
    ItemLayout::new(&[count], &[])
}

/// Reads the number of events from the summary of an entity.
async fn counted(store: &dyn EventStore, name: &str, now: i64) -> Option<AggregateValue> {
    let rows = store.get_many(&[key("sums", name)], at(now)).await.unwrap();
    let row = rows[0].as_ref()?;
    let mut answers = aggregate::read(&layout(), &row.values, at(1_000)).unwrap();
    answers.pop()
}

fn number(value: i64) -> Option<AggregateValue> {
    Some(AggregateValue::One(Cell::Int(value)))
}

async fn summaries_are_merged(store: &dyn EventStore) {
    let commit =
        |id: &'static str, writes| store.commit_events(vec![event(id, writes, vec![])], at(0));
    let done = EventOutcome::Committed { older: 0 };
    assert_eq!(
        commit("sum1", vec![summary("a", &[5, 9])]).await.unwrap(),
        [done]
    );
    // An older event counts as well, but only once.
    assert_eq!(
        commit("sum2", vec![summary("a", &[2])]).await.unwrap(),
        [done]
    );
    let again = commit("sum2", vec![summary("a", &[2])]).await.unwrap();
    assert_eq!(again, [EventOutcome::Duplicate]);
    assert_eq!(counted(store, "a", 0).await, number(3));
    assert_eq!(counted(store, "b", 0).await, None);
}

/// Converts an outbox row of the group `sums` into a summary of one event of entity `a`, due at
/// its event time.
fn from_outbox(row: &OutboxRow) -> wafer_store::Result<EarlyWrite> {
    Ok(EarlyWrite {
        due: row.event,
        write: summary("a", &[row.event.as_micros()]),
    })
}

async fn replace_group_replaces_content_atomically(store: &dyn EventStore) {
    let outbox = |event: i64| OutboxRow {
        event: at(event),
        ..outbox("sums", "o")
    };
    let mut committed = event("sum3", vec![summary("b", &[1])], vec![outbox(3), outbox(4)]);
    committed.early = vec![waiting(500, summary("a", &[500]))];
    committed.outbox.push(outbox(600));
    store.commit_events(vec![committed], at(0)).await.unwrap();
    let waiting_rows = store.read("sums", 10).await.unwrap();
    let numbers: Vec<u64> = waiting_rows.iter().map(|entry| entry.sequence).collect();
    assert_eq!(numbers.len(), 3);
    let content = GroupContent {
        rows: vec![summary("a", &[1]), summary("c", &[7])],
        early: vec![waiting(550, summary("c", &[550]))],
        // `rows` includes the first of the three outbox rows.
        outbox_after: numbers[0],
        from_outbox: Arc::new(from_outbox),
        now: at(10),
    };
    store.replace_group("sums", content.clone()).await.unwrap();
    assert_eq!(counted(store, "a", 499).await, number(2));
    assert_eq!(
        counted(store, "b", 0).await,
        None,
        "it is not in the new content"
    );
    assert_eq!(counted(store, "c", 0).await, number(1));
    // Earlier early rows are gone; those of the new content and of the outbox appear when due.
    assert_eq!(counted(store, "a", 560).await, number(2));
    assert_eq!(counted(store, "c", 560).await, number(2));
    assert_eq!(counted(store, "a", 600).await, number(3));
    // Other groups are not affected.
    assert!(store.count("g@1").await.unwrap() > 0);
    // Rows that left the outbox after the content was made would be missing from it.
    store.trim("sums", numbers[1]).await.unwrap();
    let error = store
        .replace_group("sums", content.clone())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(counted(store, "a", 600).await, number(3));
    let later = |outbox_after| GroupContent {
        outbox_after,
        ..content.clone()
    };
    store
        .replace_group("sums", later(numbers[1]))
        .await
        .unwrap();
    store.trim("sums", u64::MAX).await.unwrap();
    let error = store
        .replace_group("sums", later(numbers[1]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    store
        .replace_group("sums", later(numbers[2]))
        .await
        .unwrap();
}

async fn deleted_entities_stay_deleted(store: &dyn EventStore) {
    store
        .put_many(vec![write("gone", 10, 1, "x")])
        .await
        .unwrap();
    let mut early = event("gone", Vec::new(), Vec::new());
    early.early = vec![
        waiting(700, write("gone", 640, 1, "early")),
        waiting(800, write("gone", 800, 1, "of after")),
    ];
    store.commit_events(vec![early], at(600)).await.unwrap();
    store
        .delete(vec![key("g@1", "gone")], at(650))
        .await
        .unwrap();
    assert_eq!(values_of(store, "gone").await, None);
    store
        .put_many(vec![write("gone", 650, 1, "late")])
        .await
        .unwrap();
    assert_eq!(values_at(store, "gone", 700).await, None);
    let content = GroupContent {
        rows: vec![summary("a", &[1])],
        early: Vec::new(),
        outbox_after: u64::MAX,
        from_outbox: Arc::new(from_outbox),
        now: at(700),
    };
    store.delete(vec![key("sums", "a")], at(650)).await.unwrap();
    store.replace_group("sums", content).await.unwrap();
    assert_eq!(
        counted(store, "a", 700).await,
        None,
        "replacing the group does not bring back a deleted entity"
    );
    // A newer row brings the entity back.
    store
        .put_many(vec![write("gone", 651, 1, "new")])
        .await
        .unwrap();
    assert_eq!(values_at(store, "gone", 700).await.as_deref(), Some("new"));
    // So does an early row from after the deletion. A row from after a deletion stays.
    let of_after = || values_at(store, "gone", 800);
    assert_eq!(of_after().await.as_deref(), Some("of after"));
    store
        .delete(vec![key("g@1", "gone")], at(750))
        .await
        .unwrap();
    assert_eq!(of_after().await.as_deref(), Some("of after"));
}

async fn get_many_returns_rows_in_order_of_keys(store: &dyn EventStore) {
    assert!(store.get_many(&[], at(0)).await.unwrap().is_empty());
    let writes = vec![write("b", -5, 0, "B"), write("a", 1, 1, "A")];
    assert_eq!(
        store.put_many(writes).await.unwrap(),
        PutCounts {
            applied: 2,
            older: 0
        }
    );
    let keys = [
        key("g@1", "a"),
        key("g@1", "none"),
        key("g@1", "b"),
        key("g@2", "a"),
        key("g@1", "a"),
    ];
    let rows = store.get_many(&keys, at(0)).await.unwrap();
    let wanted = [
        Some(row(1, 1, "A")),
        None,
        Some(row(-5, 0, "B")),
        None,
        Some(row(1, 1, "A")),
    ];
    assert_eq!(rows, wanted);
    assert_eq!(store.count("g@1").await.unwrap(), 2);
    assert_eq!(
        store.count("g").await.unwrap(),
        0,
        "a group is not a prefix of another"
    );
}

async fn a_counted_read_ends_with_the_error_of_its_count(store: &dyn EventStore) {
    let large = "x".repeat(1_000);
    let writes = ["c1", "c2", "c3"].map(|name| write(name, 1, 1, &large));
    store.put_many(writes.to_vec()).await.unwrap();
    let mut early = event("counted", Vec::new(), Vec::new());
    early.early = vec![waiting(50, write("c1", 50, 1, &large))];
    store.commit_events(vec![early], at(10)).await.unwrap();
    let keys = ["c1", "none", "c2", "c3"].map(|name| key("g@1", name));
    let read = async |most: u64| {
        let last = AtomicU64::new(0);
        let count = |bytes: u64| {
            let before = last.swap(bytes, Ordering::Relaxed);
            assert!(before <= bytes, "{before}, then {bytes}");
            match bytes <= most {
                true => Ok(()),
                false => Err(Error::invalid("more than there is room for")),
            }
        };
        let rows = store.get_many_counted(&keys, at(60), &count).await;
        (rows, last.into_inner())
    };
    let (rows, bytes) = read(u64::MAX).await;
    let rows = rows.unwrap();
    assert_eq!(rows, store.get_many(&keys, at(60)).await.unwrap());
    assert_eq!(rows.iter().flatten().count(), 3);
    // Bytes beside the values, and those of the early row, may count as well.
    assert!((3_000..20_000).contains(&bytes), "{bytes}");
    for most in [0, 1_500] {
        let error = read(most).await.0.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert_eq!(error.to_string(), "more than there is room for");
    }
    assert!(read(2 * bytes).await.0.is_ok());
}

async fn newest_row_wins(store: &dyn EventStore) {
    for (event, created, values, wanted) in [
        (10, 10, "first", "first"),
        (9, 99, "older event", "first"),
        (10, 10, "the same version", "first"),
        (10, 11, "rewritten", "rewritten"),
        (11, 1, "newer event", "newer event"),
        (-1, 999, "long ago", "newer event"),
    ] {
        store
            .put_many(vec![write("n", event, created, values)])
            .await
            .unwrap();
        assert_eq!(
            values_of(store, "n").await.as_deref(),
            Some(wanted),
            "after {values}"
        );
    }
    let both = vec![write("m", 2, 0, "two"), write("m", 1, 0, "one")];
    assert_eq!(
        store.put_many(both).await.unwrap(),
        PutCounts {
            applied: 1,
            older: 1
        }
    );
    assert_eq!(values_of(store, "m").await.as_deref(), Some("two"));
}

async fn events_commit_once(store: &dyn EventStore) {
    let first = event(
        "1",
        vec![write("e", 1, 1, "one")],
        vec![outbox("once", "1")],
    );
    let second = event(
        "2",
        vec![write("e", 2, 2, "two")],
        vec![outbox("once", "2")],
    );
    let repeated = event(
        "1",
        vec![write("e", 9, 9, "again")],
        vec![outbox("once", "9")],
    );
    let mut elsewhere = repeated.clone();
    elsewhere.source = "other".to_owned();
    elsewhere.writes.clear();
    let batch = vec![first.clone(), second, repeated.clone(), elsewhere];
    let outcomes = store.commit_events(batch, at(0)).await.unwrap();
    use EventOutcome::{Committed, Duplicate};
    let done = |older| Committed { older };
    assert_eq!(outcomes, [done(0), done(0), Duplicate, done(0)]);
    assert_eq!(values_of(store, "e").await.as_deref(), Some("two"));
    assert_eq!(
        store.commit_events(vec![repeated], at(0)).await.unwrap(),
        [Duplicate]
    );
    assert_eq!(store.read("once", 10).await.unwrap().len(), 3);
}

async fn early_rows_appear_when_due(store: &dyn EventStore) {
    let mut early = event("early", Vec::new(), Vec::new());
    early.early = vec![
        waiting(100, write("f", 100, 1, "future")),
        waiting(50, write("f", 50, 1, "soon")),
    ];
    store.commit_events(vec![early], at(10)).await.unwrap();
    let value = |now| values_at(store, "f", now);
    assert_eq!(value(49).await, None);
    assert_eq!(value(50).await.as_deref(), Some("soon"));
    // Reading at a later time changes nothing for those who read at an earlier one.
    assert_eq!(value(1_000).await.as_deref(), Some("future"));
    assert_eq!(value(50).await.as_deref(), Some("soon"));
    assert_eq!(value(49).await, None);
    // Committing another event applies early rows that are due, too.
    let other = event("late", vec![write("f", 70, 1, "now")], Vec::new());
    store.commit_events(vec![other], at(100)).await.unwrap();
    store.apply_due(at(100)).await.unwrap();
    assert_eq!(value(100).await.as_deref(), Some("future"));
    store.apply_due(at(1_000)).await.unwrap();
    assert_eq!(value(1_000).await.as_deref(), Some("future"));
}

async fn event_identities_expire(store: &dyn EventStore) {
    let brief = event("brief", Vec::new(), Vec::new());
    let commit = |now| store.commit_events(vec![brief.clone()], at(now));
    assert_eq!(
        commit(900).await.unwrap(),
        [EventOutcome::Committed { older: 0 }]
    );
    assert_eq!(commit(1_000).await.unwrap(), [EventOutcome::Duplicate]);
    assert_eq!(
        commit(1_001).await.unwrap(),
        [EventOutcome::Committed { older: 0 }]
    );
}

/// The store is empty before this. It tells the times of rows or those of its machine's clock, so
/// that only their order is known.
async fn the_outbox_waits_since_its_oldest_row(store: &dyn EventStore) {
    let since = async || store.waiting_since().await.unwrap();
    assert_eq!(since().await, None);
    let commit = async |table: &str, id: &str, created: i64| {
        let row = OutboxRow {
            created: at(created),
            ..outbox(table, id)
        };
        let commit = event(id, Vec::new(), vec![row]);
        store.commit_events(vec![commit], at(0)).await.unwrap();
    };
    // The tables are not in the order of their rows.
    commit("since_b", "since1", 3).await;
    let first = since().await;
    assert!(first.is_some());
    commit("since_a", "since2", 4).await;
    commit("since_b", "since3", 5).await;
    assert_eq!(since().await, first);
    let trim_one = async |table: &str| {
        let entries = store.read(table, 1).await.unwrap();
        store.trim(table, entries[0].sequence).await.unwrap();
    };
    trim_one("since_b").await;
    let second = since().await;
    assert!(second > first, "{second:?} is not after {first:?}");
    trim_one("since_a").await;
    let third = since().await;
    assert!(third > second, "{third:?} is not after {second:?}");
    trim_one("since_b").await;
    assert_eq!(since().await, None);
}

async fn outbox_keeps_its_order(store: &dyn EventStore) {
    let rows: Vec<_> = (0..5).map(|n| outbox("order", &format!("o{n}"))).collect();
    let commit = event("order", Vec::new(), rows.clone());
    store.commit_events(vec![commit], at(0)).await.unwrap();
    let all = store.read("order", 10).await.unwrap();
    let waiting = store.waiting().await.unwrap();
    let last = ("order".to_owned(), all[4].sequence);
    assert!(waiting.tables.contains(&last), "{waiting:?}");
    let first = store.read("order", 3).await.unwrap();
    assert_eq!(
        first.iter().map(|e| e.row.clone()).collect::<Vec<_>>(),
        rows[..3]
    );
    assert!(first.is_sorted_by(|a, b| a.sequence < b.sequence));
    store.trim("order", first[2].sequence).await.unwrap();
    let rest = store.read("order", 10).await.unwrap();
    assert_eq!(
        rest.iter().map(|e| e.row.clone()).collect::<Vec<_>>(),
        rows[3..]
    );
    store.trim("order", rest[1].sequence).await.unwrap();
    assert!(store.read("order", 10).await.unwrap().is_empty());
    // Sequence numbers continue after the outbox was emptied.
    let commit = event("order2", Vec::new(), vec![outbox("order", "o5")]);
    store.commit_events(vec![commit], at(0)).await.unwrap();
    let again = store.read("order", 10).await.unwrap();
    assert!(again[0].sequence > rest[1].sequence);
}

async fn concurrent_commits_all_succeed(store: &dyn EventStore) {
    let commits = (0..200).map(|n| {
        let name = format!("c{}", n % 20);
        let id = format!("concurrent {n}");
        let commit = event(
            &id,
            vec![write(&name, n, n, &n.to_string())],
            vec![outbox("many", &id)],
        );
        store.commit_events(vec![commit], at(0))
    });
    for outcome in join_all(commits).await {
        // The order of the commits is not defined, so `older` can be anything.
        let outcome = outcome.unwrap();
        assert!(matches!(outcome[..], [EventOutcome::Committed { .. }]));
    }
    for n in 0..20 {
        let newest = (180 + n).to_string();
        assert_eq!(values_of(store, &format!("c{n}")).await, Some(newest));
    }
    assert_eq!(store.read("many", 1_000).await.unwrap().len(), 200);
}

/// Tests the contract of [`MetadataStore`], and leases on it.
pub async fn metadata(store: &dyn MetadataStore) {
    objects_are_versioned(store).await;
    eventual_reads_return_what_was_written(store).await;
    list_returns_objects_of_prefix_sorted(store).await;
    one_of_many_concurrent_writers_wins(store).await;
    limits_on_names_and_objects_are_enforced(store).await;
    leases_expire_and_change_hands(store).await;
}

async fn objects_are_versioned(store: &dyn MetadataStore) {
    let put =
        |value: &'static str, expect| store.put("a", Bytes::from_static(value.as_bytes()), expect);
    assert_eq!(store.get("a").await.unwrap(), None);
    assert_eq!(
        put("x", Expect::Version(1)).await.unwrap_err().kind(),
        Kind::Conflict
    );
    assert_eq!(put("1", Expect::Absent).await.unwrap(), 1);
    assert_eq!(
        put("x", Expect::Absent).await.unwrap_err().kind(),
        Kind::Conflict
    );
    assert_eq!(put("2", Expect::Version(1)).await.unwrap(), 2);
    assert_eq!(
        put("x", Expect::Version(1)).await.unwrap_err().kind(),
        Kind::Conflict
    );
    assert_eq!(put("3", Expect::Anything).await.unwrap(), 3);
    let stored = store.get("a").await.unwrap().unwrap();
    assert_eq!((stored.version, &stored.value[..]), (3, &b"3"[..]));
    assert_eq!(
        store
            .delete("a", Expect::Version(1))
            .await
            .unwrap_err()
            .kind(),
        Kind::Conflict
    );
    store.delete("a", Expect::Version(3)).await.unwrap();
    store.delete("a", Expect::Anything).await.unwrap();
    assert_eq!(store.get("a").await.unwrap(), None);
}

async fn eventual_reads_return_what_was_written(store: &dyn MetadataStore) {
    let read = async || store.get_eventual("eventual").await.unwrap();
    assert_eq!(read().await, None);
    for version in 1_u64..=2 {
        let value = Bytes::from(version.to_string());
        let put = store.put("eventual", value.clone(), Expect::Anything).await;
        assert_eq!(put.unwrap(), version);
        // The write may be missing at first, but not for ever.
        let stored = loop {
            if let Some(stored) = read().await
                && stored.version == version
            {
                break stored;
            }
        };
        assert_eq!(stored.value, value);
    }
}

async fn list_returns_objects_of_prefix_sorted(store: &dyn MetadataStore) {
    for name in ["run/b", "run/a", "runs", "run/c/d", "ru"] {
        store.put(name, Bytes::new(), Expect::Absent).await.unwrap();
    }
    let names: Vec<_> = store
        .list("run/")
        .await
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["run/a", "run/b", "run/c/d"]);
    assert!(store.list("none").await.unwrap().is_empty());
}

async fn one_of_many_concurrent_writers_wins(store: &dyn MetadataStore) {
    let writers = (0..20).map(|n| store.put("race", Bytes::from(n.to_string()), Expect::Absent));
    let won = join_all(writers)
        .await
        .into_iter()
        .filter(Result::is_ok)
        .count();
    assert_eq!(won, 1);
}

async fn limits_on_names_and_objects_are_enforced(store: &dyn MetadataStore) {
    let error = store
        .put(&"n".repeat(500), Bytes::new(), Expect::Anything)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let large = Bytes::from(vec![0; 300 * 1_024]);
    let error = store
        .put("large", large, Expect::Anything)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("`large`"), "{error}");
}

async fn leases_expire_and_change_hands(store: &dyn MetadataStore) {
    let time = Duration::from_micros(100);
    let acquire = |holder: &'static str, now| Lease::acquire(store, "work", holder, at(now), time);
    let mine = async |holder, now| match acquire(holder, now).await.unwrap() {
        Leased::Mine(lease) => lease,
        Leased::HeldBy(other) => panic!("{holder} at {now}: held by {other}"),
    };
    let held_by = async |holder, now| match acquire(holder, now).await.unwrap() {
        Leased::Mine(_) => panic!("{holder} at {now}: nobody has it"),
        Leased::HeldBy(other) => other,
    };
    let mut first = mine("one", 0).await;
    assert_eq!(held_by("two", 99).await, "one");
    first.renew(store, at(50), time).await.unwrap();
    assert_eq!(held_by("two", 149).await, "one");
    let second = mine("two", 150).await;
    assert_eq!(
        first.renew(store, at(151), time).await.unwrap_err().kind(),
        Kind::Conflict
    );
    first.release(store).await.unwrap();
    assert_eq!(held_by("three", 152).await, "two");
    second.release(store).await.unwrap();
    let third = mine("three", 153).await;
    third.release(store).await.unwrap();
}

/// Tests the contract of [`ArtifactStore`].
pub async fn artifacts(store: &dyn ArtifactStore) {
    assert_eq!(store.get("a/b").await.unwrap(), None);
    assert!(!store.contains("a/b").await.unwrap());
    store.put("a/b", Bytes::from_static(b"one")).await.unwrap();
    assert_eq!(
        store.get("a/b").await.unwrap().as_deref(),
        Some(&b"one"[..])
    );
    store.put("a/b", Bytes::from_static(b"two")).await.unwrap();
    assert_eq!(
        store.get("a/b").await.unwrap().as_deref(),
        Some(&b"two"[..])
    );
    let path = store.file("a/b").await.unwrap().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"two");
    store
        .put("a/b", Bytes::from_static(b"three"))
        .await
        .unwrap();
    let path = store.file("a/b").await.unwrap().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"three");
    assert_eq!(store.file("a/c").await.unwrap(), None);

    let digest = store.put_blob(Bytes::from_static(b"blob")).await.unwrap();
    assert_eq!(
        store.put_blob(Bytes::from_static(b"blob")).await.unwrap(),
        digest
    );
    assert_eq!(&store.get_blob(digest).await.unwrap()[..], b"blob");
    store
        .put(&blob_name(digest), Bytes::from_static(b"blub"))
        .await
        .unwrap();
    assert_eq!(
        store.get_blob(digest).await.unwrap_err().kind(),
        Kind::Corrupt
    );
    let copy = store.file(&blob_name(digest)).await;
    let is_damaged = match &copy {
        Err(error) => error.kind() == Kind::Corrupt,
        // A backend may return the damaged file; the code that maps it must check it.
        Ok(path) => std::fs::read(path.as_ref().unwrap()).unwrap() == b"blub",
    };
    assert!(is_damaged, "{copy:?}");
    // What is damaged is replaced by what belongs there, for all ways to read it.
    store
        .put(&blob_name(digest), Bytes::from_static(b"blob"))
        .await
        .unwrap();
    assert_eq!(&store.get_blob(digest).await.unwrap()[..], b"blob");
    let path = store.file(&blob_name(digest)).await.unwrap().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"blob");

    let name = blob_name(digest);
    let whole = store.get_at_most(&name, 4).await.unwrap();
    assert_eq!(whole.as_deref(), Some(&b"blob"[..]));
    let large = store.get_at_most(&name, 3).await.unwrap_err();
    assert_eq!(large.kind(), Kind::Corrupt);
    let said = large.to_string();
    assert!(
        said.contains(&name) && said.contains("has 4 bytes, and may have 3"),
        "{said}"
    );
    assert_eq!(store.get_at_most("a/c", 3).await.unwrap(), None);
    let whole = store.get_blob_at_most(digest, 4).await.unwrap();
    assert_eq!(&whole[..], b"blob");
    let large = store.get_blob_at_most(digest, 3).await.unwrap_err();
    assert_eq!(large.kind(), Kind::Corrupt);

    let missing = wafer_core::Digest::of(b"missing");
    assert_eq!(
        store.get_blob(missing).await.unwrap_err().kind(),
        Kind::NotFound
    );
}
