//! Two processes over one store, of which one learns late of what the other one stages.

use tempfile::TempDir;
use wafer_catalog::{
    Components, FIVE_MINUTES, HALF_OF_THE_ROWS, Location, MadeBy, PassedColumn, PipelineDef,
    SEVEN_DAYS, SourceDef, SourceKind, UNKNOWN_SPAN, VersionName,
};
use wafer_core::{Clock as _, Field, IncomingEvent, SettableClock, Timestamp};
use wafer_store::{Expect, MemoryStore, MetadataStore as _, Stores};

use super::*;
use crate::Pipelines;
use crate::backfill::{BackfillReport, BackfillRequest};
use crate::events::event::Delivery;
use crate::producer::{Predictors, Producer};

/// There are no models.
#[derive(Debug)]
struct NoPredictors;

#[async_trait::async_trait]
impl Predictors for NoPredictors {
    async fn open(&self, model: &VersionName, _group: &GroupDef) -> Result<Arc<dyn Producer>> {
        Err(Error::new(Kind::NotFound, format!("there is no `{model}`")))
    }
}

/// The stores and the clock that all processes of a project share. The clock stands still.
struct Project {
    store: Arc<MemoryStore>,
    clock: Arc<SettableClock>,
    folder: TempDir,
}

/// A process that has opened the project.
struct Process {
    context: Arc<Context>,
    tables: Arc<Tables>,
    pipelines: Pipelines,
}

impl Process {
    fn staging(&self) -> &Staging {
        self.pipelines.staging()
    }
}

impl Project {
    fn new() -> Self {
        Self {
            store: Arc::default(),
            clock: Arc::new(SettableClock::stopped_at(at("2020-02-01"))),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Damages the stored definition of a table.
    async fn damage(&self, table: &str) {
        let name = format!("p/table/{table}");
        let damaged = "{".to_owned().into();
        let put = self.store.put(&name, damaged, Expect::Anything);
        put.await.unwrap();
    }

    /// Opens the project as a process of this name does.
    async fn open(&self, process: &str) -> Process {
        let stores = Stores::with_folder(Arc::clone(&self.store), self.folder.path()).unwrap();
        let clock = Arc::clone(&self.clock);
        let components = Components::for_tests(stores, clock, process).unwrap();
        let context = Arc::new(Context::open("p", components).await.unwrap());
        let tables = Arc::new(Tables::new(Arc::clone(&context)));
        let predictors = Arc::new(NoPredictors);
        let pipelines = Pipelines::new(Arc::clone(&context), Arc::clone(&tables), predictors);
        Process {
            context,
            tables,
            pipelines,
        }
    }

    /// Advances the clock until what a process knows of the definitions is too old.
    fn wait(&self) {
        let later = self.clock.now().plus(DEFINITIONS_AGE);
        assert_eq!(self.clock.set(later), Some(later));
    }
}

fn at(time: &str) -> Timestamp {
    Timestamp::parse_argument(time).unwrap()
}

/// Returns definitions of a stream `s` whose columns are those of a version of the group `g`.
fn definitions(version: u32) -> Definitions {
    let key = Field::new("k", DataType::Utf8, false);
    let time = Field::new("t", DataType::Timestamp, false);
    let value = Field::new("x", DataType::Int64, true);
    let columns = [&key, &time, &value].map(PassedColumn::same);
    let source = SourceDef {
        kind: SourceKind::Stream {
            id: None,
            remember: SEVEN_DAYS,
            archive: true,
        },
        files: None,
        skew: FIVE_MINUTES,
        ..SourceDef::of_files(Location::Remote(String::new()))
    };
    let group = GroupDef {
        version,
        keys: vec![key],
        columns: vec![value],
        ..GroupDef::new("g", "e", "t")
    };
    let pipeline = PipelineDef {
        source: "s".to_owned(),
        made_by: MadeBy::Columns(columns.to_vec()),
        group: "g".to_owned(),
        schedule: None,
        max_rejects: HALF_OF_THE_ROWS,
        doc: String::new(),
    };
    Definitions {
        sources: BTreeMap::from([("s".to_owned(), source)]),
        groups: BTreeMap::from([("g".to_owned(), group)]),
        pipelines: BTreeMap::from([("p".to_owned(), pipeline)]),
        ..Definitions::default()
    }
}

/// Writes a version of the group as a generation, and creates its tables.
async fn written(process: &Process, version: u32) -> Generation {
    let definitions = definitions(version);
    for WrittenTable { table, .. } in written_tables(&definitions) {
        process.tables.keep_table(&table).await.unwrap();
        let offline = &process.context.components().stores.offline;
        let schema = table.schema().to_arrow();
        offline.ensure(&table.name, &schema).await.unwrap();
    }
    let written = process.context.write_generation(&definitions).await;
    written.unwrap()
}

/// Makes a version of the group live at once.
async fn make_live(process: &Process, version: u32) {
    let pointer = Pointer {
        live: written(process, version).await,
        ..Pointer::default()
    };
    let applied = process.context.applied();
    process.context.point(pointer, &applied).await.unwrap();
}

/// Stages a version of the group.
async fn stage(process: &Process, version: u32) {
    let applied = process.context.applied();
    let pointer = Pointer {
        live: applied.pointer.live,
        staged: Some(written(process, version).await),
        spans: BTreeMap::from([(format!("g_v{version}"), UNKNOWN_SPAN)]),
        ..Pointer::default()
    };
    process.context.point(pointer, &applied).await.unwrap();
}

/// Finds out what the staged tables must be filled for, as if it had been waited for long enough.
async fn record_spans(process: &Process) {
    process.tables.flush_finished().await.unwrap();
    let (applied, staged) = process.staging().unsettled().unwrap();
    process
        .staging()
        .record_spans(&applied, &staged)
        .await
        .unwrap();
    assert!(process.staging().unsettled().is_none());
}

/// Takes in an event of a time.
async fn ingest(process: &Process, time: &str) {
    let event = format!(r#"{{"k": "a", "t": "{}", "x": 1}}"#, at(time));
    let events = vec![IncomingEvent::from_json(event.as_bytes())];
    let report = process
        .pipelines
        .events()
        .ingest("s", events, Delivery::Now)
        .await
        .unwrap();
    assert_eq!(report.accepted, 1, "{report:?}");
}

async fn backfill(process: &Process, from: &str, to: &str) -> BackfillReport {
    let request = BackfillRequest {
        pipeline: "p".to_owned(),
        from: at(from),
        to: at(to),
        interval: None,
        workers: 1,
    };
    let report = process
        .pipelines
        .backfills()
        .backfill(&request, Arc::new(()))
        .await;
    report.unwrap()
}

/// Returns the number of rows in the offline table of a version of the group.
async fn rows(process: &Process, version: u32) -> u64 {
    process.tables.flush_finished().await.unwrap();
    let offline = &process.context.components().stores.offline;
    let info = offline.info(&format!("g_v{version}")).await;
    info.unwrap().rows
}

/// Returns the span of a table from its first event time to its last one. The statistics of a Delta
/// table have milliseconds, the greatest of a file rounded up.
fn span(from: &str, last: &str) -> Interval {
    Interval {
        from: at(from),
        to: at(last).plus(Duration::from_micros(1_000)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn event_of_a_process_that_learns_late_of_a_staged_version_is_filled_in() {
    let project = Project::new();
    let first = project.open("first").await;
    make_live(&first, 1).await;
    let late = project.open("late").await;
    ingest(&first, "2020-01-01").await;
    stage(&first, 2).await;
    assert!(first.context.applied().pointer.has_unknown_spans());

    // Its time is after all that the old version had when the new one was staged.
    ingest(&late, "2020-01-03").await;
    assert_eq!((rows(&first, 1).await, rows(&first, 2).await), (2, 0));
    project.wait();
    ingest(&late, "2020-01-05").await;
    assert_eq!((rows(&first, 1).await, rows(&first, 2).await), (3, 1));

    record_spans(&first).await;
    let wanted = span("2020-01-01", "2020-01-05");
    assert_eq!(first.context.applied().pointer.spans["g_v2"], wanted);
    // Later events are in both versions, and do not have to be filled in.
    ingest(&late, "2020-01-20").await;
    let report = backfill(&first, "2020-01-01", "2020-01-03").await;
    let missing = Interval {
        from: at("2020-01-03"),
        ..wanted
    };
    assert_eq!((report.missing, report.became_live), (Some(missing), false));
    let report = backfill(&first, "2020-01-03", "2020-01-06").await;
    assert_eq!((report.missing, report.became_live), (None, true));
    assert_eq!((rows(&first, 1).await, rows(&first, 2).await), (4, 4));
}

/// The moments around an apply at which an event may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    BeforeItIsStaged,
    BeforeOthersKnow,
    WhenOthersKnow,
    BeforeItIsLive,
    WhenItIsLive,
}

const MOMENTS: [Moment; 5] = [
    Moment::BeforeItIsStaged,
    Moment::BeforeOthersKnow,
    Moment::WhenOthersKnow,
    Moment::BeforeItIsLive,
    Moment::WhenItIsLive,
];

/// Applies version 2 while version 1 is empty, as `wafer apply` does after its look at the rows,
/// and takes in an event at each of these moments by a process that learns late of it. Returns
/// whether version 2 became live without a backfill.
async fn apply_with_events_at(moments: &[Moment]) -> bool {
    let project = Project::new();
    let first = project.open("first").await;
    make_live(&first, 1).await;
    let late = project.open("late").await;
    let reach = async |moment: Moment| {
        if let Some(place) = moments.iter().position(|at| *at == moment) {
            ingest(&late, &format!("2020-01-0{}", place + 1)).await;
        }
    };
    reach(Moment::BeforeItIsStaged).await;
    stage(&first, 2).await;
    let staged = first.context.applied().pointer.staged.unwrap();
    reach(Moment::BeforeOthersKnow).await;
    project.wait();
    reach(Moment::WhenOthersKnow).await;
    record_spans(&first).await;
    reach(Moment::BeforeItIsLive).await;
    let to_fill = first.staging().live_unless_to_fill(staged).await.unwrap();
    reach(Moment::WhenItIsLive).await;
    let live = first.context.applied().live.groups["g"].version;
    assert_eq!(live, if to_fill.is_empty() { 2 } else { 1 }, "{moments:?}");
    let events = moments.len() as u64;
    if !to_fill.is_empty() {
        assert_eq!(rows(&first, 1).await, events, "{moments:?}");
        let report = backfill(&first, "2020-01-01", "2020-01-10").await;
        assert!(report.became_live, "{moments:?}: {report:?}");
    }
    assert_eq!(rows(&first, 2).await, events, "{moments:?}");
    to_fill.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_is_missing_in_a_version_that_replaces_an_empty_one() {
    assert!(apply_with_events_at(&[]).await);
    for (place, first) in MOMENTS.iter().enumerate() {
        for second in &MOMENTS[place..] {
            let moments = match first == second {
                true => vec![*first],
                false => vec![*first, *second],
            };
            let is_live = apply_with_events_at(&moments).await;
            // Until its spans are recorded, it is not known what is in the old version alone.
            let wanted = *first >= Moment::BeforeItIsLive;
            assert_eq!(is_live, wanted, "{moments:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn version_is_not_live_at_once_while_a_run_may_write_the_one_that_it_replaces() {
    let project = Project::new();
    let (first, other) = (project.open("first").await, project.open("other").await);
    make_live(&first, 1).await;
    other.context.refresh().await.unwrap();
    stage(&first, 2).await;
    let staged = first.context.applied().pointer.staged.unwrap();
    let run = run_lease(&other.context, "p").await.unwrap();
    let to_fill = first.staging().complete_staged(staged, &()).await.unwrap();
    assert_eq!(to_fill, ["g_v2"]);
    run.end().await;
    record_spans(&first).await;
    let to_fill = first.staging().complete_staged(staged, &()).await.unwrap();
    assert!(to_fill.is_empty(), "{to_fill:?}");
    assert_eq!(first.context.definitions().groups["g"].version, 2);
    // Nothing is left to do for whoever applies the same at the same time.
    assert!(
        first
            .staging()
            .live_unless_to_fill(staged)
            .await
            .unwrap()
            .is_empty()
    );
    let run = run_lease(&first.context, "p").await;
    run.unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn version_that_was_left_out_for_a_while_is_filled_again() {
    let project = Project::new();
    let process = project.open("one").await;
    make_live(&process, 1).await;
    ingest(&process, "2020-01-01").await;
    ingest(&process, "2020-01-03").await;
    stage(&process, 2).await;
    record_spans(&process).await;
    let report = backfill(&process, "2020-01-01", "2020-01-04").await;
    assert!(report.became_live, "{report:?}");
    assert_eq!(rows(&process, 2).await, 2);

    // The old version is live again, and an event comes in.
    make_live(&process, 1).await;
    ingest(&process, "2020-01-02").await;
    assert_eq!((rows(&process, 1).await, rows(&process, 2).await), (3, 2));
    let to_fill = process.staging().to_fill(&definitions(2)).await.unwrap();
    assert_eq!(to_fill, ["g_v2"]);
    stage(&process, 2).await;
    record_spans(&process).await;
    // What was filled before was filled without the event.
    let report = backfill(&process, "2020-01-03", "2020-01-04").await;
    let missing = Interval {
        from: at("2020-01-01"),
        to: at("2020-01-03"),
    };
    assert_eq!((report.missing, report.became_live), (Some(missing), false));
    let report = backfill(&process, "2020-01-01", "2020-01-04").await;
    assert!(report.became_live, "{report:?}");
    assert_eq!(rows(&process, 2).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn table_is_filled_only_for_the_generation_that_is_staged() {
    let project = Project::new();
    let (first, other) = (project.open("first").await, project.open("other").await);
    make_live(&first, 1).await;
    ingest(&first, "2020-01-01").await;
    assert_eq!(rows(&first, 1).await, 1);
    stage(&first, 2).await;
    let staged = first.context.applied().pointer.staged.unwrap();
    // Another process stages the same version again, while this one fills it.
    other.context.refresh().await.unwrap();
    stage(&other, 2).await;
    assert!(!first.staging().record_filled("g_v2", staged).await.unwrap());
    let staged = first.context.applied().pointer.staged.unwrap();
    assert!(first.staging().record_filled("g_v2", staged).await.unwrap());
}

/// If it is lost which versions are live, what is recorded as filled tells, as far as it can.
#[tokio::test(flavor = "multi_thread")]
async fn version_counts_as_live_if_it_was_filled_or_made_live_after_all_others() {
    let project = Project::new();
    let process = project.open("one").await;
    let may_be_live = async |wanted: u32| {
        let wanted = definitions(wanted);
        process.staging().may_be_live(&wanted).await.unwrap()
    };
    make_live(&process, 1).await;
    ingest(&process, "2020-01-01").await;
    assert_eq!(rows(&process, 1).await, 1);
    stage(&process, 2).await;
    assert_eq!(may_be_live(2).await, ["g_v1"]);
    record_spans(&process).await;
    let report = backfill(&process, "2020-01-01", "2020-01-02").await;
    assert!(report.became_live, "{report:?}");
    assert_eq!(may_be_live(1).await, ["g_v2"]);
    assert!(may_be_live(2).await.is_empty());

    // The old version is made live again, without being filled.
    make_live(&process, 1).await;
    let live = process.context.applied().pointer.live;
    process
        .staging()
        .record_live(&definitions(1), live)
        .await
        .unwrap();
    assert_eq!(may_be_live(2).await, ["g_v1"]);
    assert!(may_be_live(1).await.is_empty());

    // The new one is filled again, and dropped before it is live.
    stage(&process, 2).await;
    let staged = process.context.applied().pointer.staged.unwrap();
    process
        .staging()
        .filled
        .put_filled("g_v2", staged)
        .await
        .unwrap();
    assert!(may_be_live(2).await.is_empty());
    process
        .staging()
        .forget_filled(&definitions(2))
        .await
        .unwrap();
    assert_eq!(may_be_live(2).await, ["g_v1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_by_definitions_that_were_replaced_is_not_committed() {
    let project = Project::new();
    let first = project.open("first").await;
    make_live(&first, 1).await;
    let late = project.open("late").await;
    let before = late.context.lately_applied().await.unwrap();
    project.wait();
    let same = late.context.still_applied(before).await.unwrap();
    stage(&first, 2).await;
    // The last look was a moment ago.
    let same = late.context.still_applied(same).await.unwrap();
    project.wait();
    let error = late.context.still_applied(same).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let present = late.context.lately_applied().await.unwrap();
    assert!(present.applied.staged.is_some());
}

#[test]
fn first_gap_is_the_first_uncovered_part() {
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

#[tokio::test]
async fn a_damaged_definition_of_a_table_is_compared_as_it_was_applied_and_written_again() {
    let project = Project::new();
    let process = project.open("one").await;
    make_live(&process, 1).await;
    stage(&process, 2).await;
    for version in [1, 2] {
        let table = definitions(version).groups["g"].rows_table();
        assert!(process.staging().check_table(&table).await.unwrap());
        project.damage(&table.name).await;
        // It is not stored as it is.
        assert!(!process.staging().check_table(&table).await.unwrap());
        let other = TableDef {
            columns: vec![Field::new("y", DataType::Int64, true)],
            ..table
        };
        let error = process.staging().check_table(&other).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains("other columns"), "{error}");
    }
    let unknown = definitions(3).groups["g"].rows_table();
    project.damage(&unknown.name).await;
    let error = process.staging().check_table(&unknown).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.to_string().contains("`p/table/g_v3`"), "{error}");

    // The version that is live is written again, although another one is wanted.
    let error = process.staging().mend_tables(&definitions(3)).await;
    assert_eq!(error.unwrap_err().kind(), Kind::Corrupt);
    for version in [1, 2] {
        let table = definitions(version).groups["g"].rows_table();
        assert!(process.staging().check_table(&table).await.unwrap());
    }
    process
        .staging()
        .mend_tables(&definitions(2))
        .await
        .unwrap();
    let damaged = process.tables.damaged_tables().await.unwrap();
    assert_eq!(damaged.into_iter().collect::<Vec<_>>(), ["g_v3"]);
}

/// Their names tell which versions there are.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_definitions_of_tables_do_not_hide_which_versions_may_be_live() {
    let project = Project::new();
    let process = project.open("one").await;
    make_live(&process, 1).await;
    ingest(&process, "2020-01-01").await;
    assert_eq!(rows(&process, 1).await, 1);
    project.damage("g_v1").await;
    project.damage("dropped_v1").await;
    let (staging, wanted) = (process.staging(), definitions(2));
    assert_eq!(staging.may_be_live(&wanted).await.unwrap(), ["g_v1"]);
    let live = process.context.applied().pointer.live;
    staging.record_live(&wanted, live).await.unwrap();
    assert!(staging.may_be_live(&wanted).await.unwrap().is_empty());
}
