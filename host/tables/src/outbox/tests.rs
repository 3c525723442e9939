use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::{Int64Array, StringArray};
use async_trait::async_trait;
use futures::TryStreamExt as _;
use serde_json::json;
use wafer_core::encode_row;
use wafer_store::{
    AsOf, EventCommit, EventOutcome, Expect, MemoryStore, OnlineStore as _, Outbox as _,
    OutboxContents, Overridden, OverriddenCalls,
};

use super::*;
use crate::tests::{Project, planes};
use crate::{Deletion, StoredRows};

const TABLE: &str = "plane_v1";

/// Commits an event, whose row waits in the outbox of a table. The row describes the plane that has
/// the name of the event.
async fn commit(store: &MemoryStore, table: &str, event: &str) {
    let time = Timestamp::from_micros(1_000);
    let columns: [ArrayRef; 2] = [
        Arc::new(StringArray::from(vec![event])),
        Arc::new(Int64Array::from(vec![7])),
    ];
    let mut values = Vec::new();
    encode_row(&columns, 0, &mut values);
    let row = OutboxRow {
        table: table.to_owned(),
        event: time,
        available: time,
        created: time,
        event_id: event.to_owned(),
        values: values.into(),
        order: Some(1),
    };
    commit_row(store, row).await;
}

async fn commit_row(store: &MemoryStore, row: OutboxRow) {
    let event = EventCommit {
        source: "flights".to_owned(),
        id: row.event_id.clone(),
        remember_until: row.event.plus(Duration::from_days(1)),
        writes: Vec::new(),
        early: Vec::new(),
        outbox: vec![row],
    };
    let now = Timestamp::from_micros(0);
    let outcomes = store.commit_events(vec![event], now).await.unwrap();
    assert_eq!(outcomes, [EventOutcome::Committed { older: 0 }]);
}

/// Returns the events whose rows a table has, in the order of their names.
async fn events_in(tables: &Tables, table: &str) -> Vec<String> {
    let offline = &tables.context.components().stores.offline;
    let snapshot = offline.snapshot(table, AsOf::Latest).await.unwrap();
    let batches: Vec<RecordBatch> = snapshot.rows().try_collect().await.unwrap();
    let mut events = Vec::new();
    for batch in &batches {
        let rows = StoredRows::new(&planes(table), batch).unwrap();
        events.extend(rows.ids.iter().flatten().map(str::to_owned));
    }
    events.sort();
    events
}

/// Returns the events whose rows wait in the outbox of a table.
async fn waiting_events(store: &MemoryStore, table: &str) -> Vec<String> {
    let entries = store.read(table, MAX_ROWS).await.unwrap();
    let events = entries.into_iter().map(|entry| entry.row.event_id);
    events.collect()
}

/// The outbox as a process sees it that is killed after its commit, before it removes the rows.
#[derive(Debug)]
struct Killed(Arc<MemoryStore>);

#[async_trait]
impl OverriddenCalls for Killed {
    fn store(&self) -> &MemoryStore {
        &self.0
    }

    async fn trim(&self, _table: &str, _through: u64) -> Result<()> {
        Err(Error::new(Kind::Unavailable, "the process was killed"))
    }
}

/// The outbox as a process sees it that is overtaken by another one.
#[derive(Debug)]
struct Overtaken {
    store: Arc<MemoryStore>,
    /// A process that flushes the table when this one is about to read it.
    by: Mutex<Option<Tables>>,
}

#[async_trait]
impl OverriddenCalls for Overtaken {
    fn store(&self) -> &MemoryStore {
        &self.store
    }

    async fn read(&self, table: &str, limit: usize) -> Result<Vec<OutboxEntry>> {
        let other = self.by.lock().unwrap().take();
        if let Some(other) = other {
            // Two processes flush only if the first was so slow that it lost its lease.
            let Leased::Mine(lease) = other.context.lease("other", LEASE_DURATION).await? else {
                panic!("nobody else holds it")
            };
            let mut flush = Flush::new(lease, false);
            let killed = other.flush_table(table, u64::MAX, &mut flush).await;
            assert_eq!(killed.unwrap_err().kind(), Kind::Unavailable);
            commit(&self.store, table, "later").await;
        }
        self.store.read(table, limit).await
    }
}

/// The outbox of a store in which one commit is not finished at the first look, and another one
/// never.
#[derive(Debug)]
struct Finishing {
    store: Arc<MemoryStore>,
    looks: AtomicUsize,
}

#[async_trait]
impl OverriddenCalls for Finishing {
    fn store(&self) -> &MemoryStore {
        &self.store
    }

    async fn has_rows(&self) -> Result<bool> {
        Ok(true)
    }

    async fn waiting(&self) -> Result<OutboxContents> {
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        if look == 1 {
            commit(&self.store, TABLE, "a").await;
        }
        let name = if look == 0 { "a" } else { "later" };
        Ok(OutboxContents {
            unfinished: vec![name.to_owned()],
            ..self.store.waiting().await?
        })
    }
}

/// An outbox into which further events come as fast as their rows leave it, as long as there are
/// some.
#[derive(Debug)]
struct Trickling {
    store: Arc<MemoryStore>,
    left: AtomicUsize,
}

#[async_trait]
impl OverriddenCalls for Trickling {
    fn store(&self) -> &MemoryStore {
        &self.store
    }

    async fn trim(&self, table: &str, through: u64) -> Result<()> {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            for table in ["a_v1", TABLE] {
                commit(&self.store, table, &format!("{table} {left}")).await;
            }
        }
        self.store.trim(table, through).await
    }
}

/// An outbox with two tables, of which the second has no room at the first look.
#[derive(Debug)]
struct Full {
    store: Arc<MemoryStore>,
    looks: AtomicUsize,
}

#[async_trait]
impl OverriddenCalls for Full {
    fn store(&self) -> &MemoryStore {
        &self.store
    }

    async fn waiting(&self) -> Result<OutboxContents> {
        let mut waiting = self.store.waiting().await?;
        let look = self.looks.fetch_add(1, Ordering::Relaxed);
        if look == 0 {
            waiting.tables.retain(|(table, _)| table != TABLE);
            waiting.left_out.push("first".to_owned());
        }
        // There are always others.
        waiting.left_out.push(format!("other {look}"));
        Ok(waiting)
    }
}

/// An outbox whose rows are read one by one, so that each is a commit. Somebody begins to wait for
/// the lease of a flush when the first one has left it.
#[derive(Debug)]
struct Awaited {
    store: Arc<MemoryStore>,
    waiting: Mutex<Option<Tables>>,
}

#[async_trait]
impl OverriddenCalls for Awaited {
    fn store(&self) -> &MemoryStore {
        &self.store
    }

    async fn read(&self, table: &str, _limit: usize) -> Result<Vec<OutboxEntry>> {
        self.store.read(table, 1).await
    }

    async fn trim(&self, table: &str, through: u64) -> Result<()> {
        self.store.trim(table, through).await?;
        let waiting = self.waiting.lock().unwrap().take();
        if let Some(waiting) = waiting {
            let turn = waiting.next_turn(None).await?;
            assert!(turn.is_some(), "nobody else waits");
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_flush_ends_after_a_commit_when_somebody_waits_for_another_one() {
    for is_awaited in [false, true] {
        let project = Project::new();
        let other = project.open("other").await;
        let outbox = Arc::new(Overridden(Awaited {
            store: Arc::clone(&project.store),
            waiting: Mutex::new(Some(project.open("waiting").await)),
        }));
        let tables = project.open_with("one", outbox).await;
        for table in ["a_v1", TABLE] {
            tables.keep_table(&planes(table)).await.unwrap();
            for event in ["1", "2"] {
                commit(&project.store, table, &format!("{table} {event}")).await;
            }
        }
        // Who waits for a flush itself has all of it.
        let left = match is_awaited {
            true => {
                tables.flush_all().await.unwrap();
                [0, 0]
            }
            false => {
                let report = tables.flush().await.unwrap();
                assert!(report.busy && report.rows == 1, "{report:?}");
                [1, 2]
            }
        };
        for (table, left) in ["a_v1", TABLE].into_iter().zip(left) {
            let waiting = waiting_events(&project.store, table).await;
            assert_eq!(waiting.len(), left, "{is_awaited} {table}");
        }
        // The lease is free for whoever waits, who appends the rest.
        other.flush_all().await.unwrap();
        for table in ["a_v1", TABLE] {
            let wanted = ["1", "2"].map(|event| format!("{table} {event}"));
            assert_eq!(events_in(&other, table).await, wanted);
        }
    }
}

#[tokio::test]
async fn a_flush_ends_while_events_trickle_in_and_every_table_gets_its_turn() {
    let project = Project::new();
    let outbox = Arc::new(Overridden(Trickling {
        store: Arc::clone(&project.store),
        left: AtomicUsize::new(20),
    }));
    let tables = project.open_with("one", outbox).await;
    for table in ["a_v1", TABLE] {
        tables.keep_table(&planes(table)).await.unwrap();
        commit(&project.store, table, table).await;
    }
    // What came in while the first table was flushed is in the one commit of the second one.
    assert_eq!(tables.flush().await.unwrap().rows, 1 + 2);
    assert_eq!(events_in(&tables, "a_v1").await, ["a_v1"]);
    assert_eq!(events_in(&tables, TABLE).await, [TABLE, "plane_v1 20"]);
    tables.flush_finished().await.unwrap();
    assert!(!waiting_events(&project.store, TABLE).await.is_empty());
}

#[tokio::test]
async fn a_flush_appends_what_had_no_room_at_its_first_look_and_not_all_that_had_none_later() {
    let project = Project::new();
    let outbox = Arc::new(Overridden(Full {
        store: Arc::clone(&project.store),
        looks: AtomicUsize::new(0),
    }));
    let tables = project.open_with("one", Arc::clone(&outbox) as _).await;
    for table in ["a_v1", TABLE] {
        tables.keep_table(&planes(table)).await.unwrap();
        commit(&project.store, table, table).await;
    }
    let report = tables.flush().await.unwrap();
    assert_eq!((report.rows, report.unfinished.len()), (2, 1), "{report:?}");
    assert_eq!(events_in(&tables, TABLE).await, [TABLE]);
    assert_eq!(outbox.0.looks.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn no_other_flush_begins_while_somebody_waits_for_one() {
    let project = Project::new();
    let (server, other) = (project.open("server").await, project.open("other").await);
    server.keep_table(&planes(TABLE)).await.unwrap();
    commit(&project.store, TABLE, "a").await;
    let lease = server.outbox_lease().await.unwrap();
    let is_awaited = async || server.context.is_leased(NEXT_LEASE).await.unwrap();
    assert!(!is_awaited().await);
    let release = async {
        while !is_awaited().await {
            tokio::task::yield_now().await;
        }
        lease.release(&*project.store).await.unwrap();
        // The lease of the flush is free, and left to who waits for it.
        if is_awaited().await {
            assert!(server.flush().await.unwrap().busy);
        }
    };
    let (flushed, ()) = tokio::join!(other.flush_all(), release);
    flushed.unwrap();
    assert_eq!(events_in(&other, TABLE).await, ["a"]);
    assert!(!is_awaited().await);
    commit(&project.store, TABLE, "b").await;
    assert_eq!(server.flush().await.unwrap().rows, 1);
}

#[tokio::test]
async fn commits_that_are_being_finished_are_waited_for_and_later_ones_are_not() {
    let project = Project::new();
    let outbox = Arc::new(Overridden(Finishing {
        store: Arc::clone(&project.store),
        looks: AtomicUsize::new(0),
    }));
    let tables = project.open_with("one", outbox).await;
    tables.keep_table(&planes(TABLE)).await.unwrap();
    tables.flush_finished().await.unwrap();
    assert_eq!(events_in(&tables, TABLE).await, ["a"]);
}

#[tokio::test]
async fn rows_leave_the_outbox_once_they_are_in_their_table() {
    let project = Project::new();
    let tables = project.open("one").await;
    tables.keep_table(&planes(TABLE)).await.unwrap();
    assert_eq!(tables.flush().await.unwrap(), FlushReport::default());
    for (event, wanted) in [("a", &["a"][..]), ("b", &["a", "b"][..])] {
        commit(&project.store, TABLE, event).await;
        assert_eq!(tables.flush().await.unwrap().rows, 1);
        assert_eq!(events_in(&tables, TABLE).await, wanted);
        assert!(waiting_events(&project.store, TABLE).await.is_empty());
    }
}

#[tokio::test]
async fn the_outbox_is_as_old_as_its_oldest_row_until_a_flush() {
    let project = Project::new();
    let outbox = Arc::new(Overridden(Killed(Arc::clone(&project.store))));
    let killed = project.open_with("killed", outbox).await;
    killed.keep_table(&planes(TABLE)).await.unwrap();
    assert_eq!(killed.outbox_age().await.unwrap(), Duration::ZERO);
    // Its rows are of a millisecond after the start of the clock.
    commit(&project.store, TABLE, "a").await;
    assert_eq!(killed.outbox_age().await.unwrap(), Duration::ZERO);
    project.advance_clock(Duration::from_mins(20));
    killed.flush().await.unwrap_err();
    let age = Duration::from_micros(20 * 60_000_000 - 1_000);
    assert_eq!(killed.outbox_age().await.unwrap(), age);
    let next = project.open("next").await;
    next.flush().await.unwrap();
    assert_eq!(next.outbox_age().await.unwrap(), Duration::ZERO);
}

#[tokio::test]
async fn rows_of_a_flush_that_was_killed_after_its_commit_are_not_appended_again() {
    let project = Project::new();
    let outbox = Arc::new(Overridden(Killed(Arc::clone(&project.store))));
    let killed = project.open_with("killed", outbox).await;
    killed.keep_table(&planes(TABLE)).await.unwrap();
    commit(&project.store, TABLE, "a").await;
    commit(&project.store, TABLE, "b").await;
    let error = killed.flush().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(events_in(&killed, TABLE).await, ["a", "b"]);
    assert_eq!(waiting_events(&project.store, TABLE).await, ["a", "b"]);
    commit(&project.store, TABLE, "c").await;
    let next = project.open("next").await;
    assert_eq!(next.flush().await.unwrap().rows, 1);
    assert_eq!(events_in(&next, TABLE).await, ["a", "b", "c"]);
    assert!(waiting_events(&project.store, TABLE).await.is_empty());
}

#[tokio::test]
async fn a_flush_that_was_overtaken_appends_no_row_a_second_time() {
    let project = Project::new();
    let outbox = Arc::new(Overridden(Killed(Arc::clone(&project.store))));
    let other = project.open_with("other", outbox).await;
    let outbox = Arc::new(Overridden(Overtaken {
        store: Arc::clone(&project.store),
        by: Mutex::new(Some(other)),
    }));
    let slow = project.open_with("slow", outbox).await;
    slow.keep_table(&planes(TABLE)).await.unwrap();
    commit(&project.store, TABLE, "a").await;
    commit(&project.store, TABLE, "b").await;
    // It reads the rows `a`, `b` and `later`, while the table has `a` and `b` already.
    assert_eq!(slow.flush().await.unwrap().rows, 0);
    assert_eq!(events_in(&slow, TABLE).await, ["a", "b"]);
    assert_eq!(slow.flush().await.unwrap().rows, 1);
    assert_eq!(events_in(&slow, TABLE).await, ["a", "b", "later"]);
    assert!(waiting_events(&project.store, TABLE).await.is_empty());
}

#[tokio::test]
async fn rows_of_a_new_online_store_are_not_taken_for_those_of_a_lost_one() {
    let lost = Project::new();
    let new = lost.with_lost_store();
    for (project, process, event) in [(&lost, "first", "a"), (&new, "second", "b")] {
        let tables = project.open(process).await;
        tables.keep_table(&planes(TABLE)).await.unwrap();
        commit(&project.store, TABLE, event).await;
        assert_eq!(tables.flush().await.unwrap().rows, 1);
    }
    let tables = new.open("third").await;
    assert_eq!(events_in(&tables, TABLE).await, ["a", "b"]);
}

#[tokio::test]
async fn rows_of_deleted_entities_leave_the_outbox_and_do_not_reach_the_table() {
    let project = Project::new();
    let tables = project.open("one").await;
    tables.keep_table(&planes(TABLE)).await.unwrap();
    commit(&project.store, TABLE, "kept").await;
    commit(&project.store, TABLE, "deleted").await;
    let deletion = Deletion {
        entity: "plane".to_owned(),
        keys: BTreeMap::from([("tailnum".to_owned(), json!("deleted"))]),
        time: Timestamp::from_micros(1_000),
        rows: BTreeMap::new(),
    };
    let context = &tables.context;
    let stored = context.put_object("deletion/1", &deletion, Expect::Absent);
    stored.await.unwrap();
    let counted = context.put_object("deletions", &1, Expect::Absent);
    counted.await.unwrap();
    assert_eq!(tables.flush().await.unwrap().rows, 2);
    assert_eq!(events_in(&tables, TABLE).await, ["kept"]);
    assert!(waiting_events(&project.store, TABLE).await.is_empty());
}

#[tokio::test]
async fn a_damaged_row_fails_the_flush_of_its_table_and_no_other() {
    let project = Project::new();
    let tables = project.open("one").await;
    // Tables are flushed in the order of their names.
    let damaged = "a_v1";
    for table in [damaged, TABLE] {
        tables.keep_table(&planes(table)).await.unwrap();
    }
    let time = Timestamp::from_micros(1_000);
    let row = OutboxRow {
        table: damaged.to_owned(),
        event: time,
        available: time,
        created: time,
        event_id: "damaged".to_owned(),
        values: vec![1, 2].into(),
        order: None,
    };
    commit_row(&project.store, row).await;
    commit(&project.store, TABLE, "a").await;
    let error = tables.flush().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains("outbox of `a_v1`"), "{error}");
    assert_eq!(events_in(&tables, TABLE).await, ["a"]);
    assert_eq!(waiting_events(&project.store, damaged).await, ["damaged"]);
}

#[tokio::test]
async fn a_flush_does_nothing_while_another_process_flushes() {
    let project = Project::new();
    let (tables, other) = (project.open("one").await, project.open("other").await);
    tables.keep_table(&planes(TABLE)).await.unwrap();
    commit(&project.store, TABLE, "a").await;
    let lease = other.outbox_lease().await.unwrap();
    let report = tables.flush().await.unwrap();
    assert!(report.busy && report.rows == 0, "{report:?}");
    assert_eq!(waiting_events(&project.store, TABLE).await, ["a"]);
    lease.release(&*project.store).await.unwrap();
    assert_eq!(tables.flush().await.unwrap().rows, 1);
}
