use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{BooleanArray, FixedSizeListArray, Int64Array, RecordBatch, StringArray};
use wafer_core::{DataType, Field as CoreField, Schema as CoreSchema};

use futures::TryStreamExt as _;
use wafer_core::rules::Interval;

use super::*;

fn schema() -> SchemaRef {
    CoreSchema::new(vec![
        CoreField::new("n", DataType::Int64, false),
        CoreField::new("text", DataType::Utf8, true),
        CoreField::new("vector", DataType::Vector(2), true),
    ])
    .unwrap()
    .to_arrow()
}

fn rows(numbers: &[i64]) -> RecordBatch {
    let texts: StringArray = numbers
        .iter()
        .map(|n| (n % 2 == 0).then(|| n.to_string()))
        .collect();
    let vectors = numbers
        .iter()
        .map(|n| Some(vec![Some(*n as f32), Some(0.5)]));
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 2);
    let (_, length, values, nulls) = vectors.into_parts();
    let ArrowType::FixedSizeList(item, _) = schema().field(2).data_type().clone() else {
        unreachable!()
    };
    let vectors = FixedSizeListArray::new(item, length, values, nulls);
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(Int64Array::from(numbers.to_vec())),
            Arc::new(texts),
            Arc::new(vectors),
        ],
    )
    .unwrap()
}

fn txn(app_id: &str, version: i64) -> Txn {
    Txn {
        app_id: app_id.to_owned(),
        version,
        follows: Follows::Anything,
    }
}

async fn tables(folder: &std::path::Path) -> OfflineTables {
    let tables = OfflineTables::open(Url::from_directory_path(folder).unwrap()).unwrap();
    tables.ensure("t@1", &schema()).await.unwrap();
    tables
}

async fn numbers(tables: &OfflineTables) -> Vec<i64> {
    let batches: Vec<_> = tables
        .snapshot("t@1", AsOf::Latest)
        .await
        .unwrap()
        .rows()
        .try_collect()
        .await
        .unwrap();
    let mut numbers: Vec<i64> = batches
        .iter()
        .flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    numbers.sort_unstable();
    numbers
}

async fn commit(
    tables: &OfflineTables,
    folder: &str,
    n: &[i64],
    txn: &Txn,
    replaces: Option<&str>,
) -> Commit {
    let mut writer = tables.writer("t@1", folder).await.unwrap();
    writer.write(&rows(n)).await.unwrap();
    writer.commit(txn, replaces).await.unwrap()
}

#[tokio::test]
async fn repeated_commit_of_same_txn_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path()).await;
    assert_eq!(
        commit(&tables, "a", &[1, 2], &txn("a", 1), None).await,
        Commit::Committed
    );
    assert_eq!(
        commit(&tables, "a", &[1, 2], &txn("a", 1), None).await,
        Commit::Already
    );
    assert_eq!(
        commit(&tables, "b", &[3], &txn("b", 1), None).await,
        Commit::Committed
    );
    assert_eq!(numbers(&tables).await, [1, 2, 3]);
    assert_eq!(tables.txn_version("t@1", "a").await.unwrap(), Some(1));
    assert_eq!(tables.txn_version("t@1", "none").await.unwrap(), None);
    let info = tables.info("t@1").await.unwrap();
    assert_eq!((info.version, info.files, info.rows), (2, 2, 3));
}

#[tokio::test]
async fn commit_that_follows_outdated_version_is_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path()).await;
    let after = |version, follows| Txn {
        follows,
        ..txn("o", version)
    };
    let first = after(50, Follows::Exactly(None));
    assert_eq!(
        commit(&tables, "a", &[1], &first, None).await,
        Commit::Committed
    );
    // Another writer that also started from no earlier version, and was slower.
    let mut slow = tables.writer("t@1", "b").await.unwrap();
    slow.write(&rows(&[1, 2])).await.unwrap();
    let error = slow
        .commit(&after(80, Follows::Exactly(None)), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    let next = after(80, Follows::Exactly(Some(50)));
    assert_eq!(
        commit(&tables, "c", &[2], &next, None).await,
        Commit::Committed
    );
    assert_eq!(numbers(&tables).await, [1, 2]);
}

#[tokio::test]
async fn commit_replaces_all_files_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path()).await;
    commit(&tables, "jan/1", &[1, 2], &txn("jan", 1), Some("jan")).await;
    commit(&tables, "feb/1", &[3], &txn("feb", 1), Some("feb")).await;
    commit(&tables, "jan/2", &[10, 20, 30], &txn("jan", 2), Some("jan")).await;
    assert_eq!(numbers(&tables).await, [3, 10, 20, 30]);
    // A late commit of an older generation changes nothing.
    assert_eq!(
        commit(&tables, "jan/1", &[1], &txn("jan", 1), Some("jan")).await,
        Commit::Already
    );
    let snapshot = tables.snapshot("t@1", AsOf::Latest).await.unwrap();
    let files = snapshot.files_below("jan/2");
    let of_january: Vec<RecordBatch> = snapshot
        .read_all(files, snapshot.columns(), Interval::ALL)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(
        of_january.iter().map(RecordBatch::num_rows).sum::<usize>(),
        3
    );
}

#[tokio::test]
async fn column_of_nulls_of_any_storable_type_is_written() {
    for data_type in DataType::storable(3) {
        let folder = tempfile::tempdir().unwrap();
        let tables = OfflineTables::open(Url::from_directory_path(folder.path()).unwrap()).unwrap();
        let fields = vec![
            CoreField::new("n", DataType::Int64, false),
            CoreField::new("x", data_type.clone(), true),
        ];
        let schema = CoreSchema::new(fields).unwrap().to_arrow();
        tables.ensure("t@1", &schema).await.unwrap();
        // A file that lacks the column, or has it without a type, is read as such nulls.
        let numbers: arrow_array::ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let nulls = new_null_array(&data_type.to_arrow(), 2);
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![numbers, nulls]).unwrap();
        let mut writer = tables.writer("t@1", "x").await.unwrap();
        writer.write(&rows).await.unwrap();
        writer.commit(&txn("a", 1), None).await.unwrap();
        let snapshot = tables.snapshot("t@1", AsOf::Latest).await.unwrap();
        let read: Vec<RecordBatch> = snapshot.rows().try_collect().await.unwrap();
        let column = |batch: &RecordBatch| (batch.num_rows(), batch.column(1).null_count());
        let found: Vec<_> = read.iter().map(column).collect();
        assert_eq!(found, [(2, 2)], "{data_type}");
    }
}

#[test]
fn vector_with_a_null_item_is_refused() {
    let vectors = [Some(vec![Some(1.0), None]), None];
    let vectors = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 2);
    let vectors: arrow_array::ArrayRef = Arc::new(vectors);
    let wanted = table_schema(&schema()).field(2).data_type().clone();
    assert!(as_table_column(&vectors, &wanted).is_err());
    let whole = rows(&[1, 2]);
    let lists = as_table_column(whole.column(2), &wanted).unwrap();
    assert_eq!(lists.as_list::<i32>().value_length(1), 2);
}

#[tokio::test]
async fn rows_are_not_visible_before_commit() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path()).await;
    let mut writer = tables.writer("t@1", "x").await.unwrap();
    writer.write(&rows(&[1])).await.unwrap();
    assert!(numbers(&tables).await.is_empty());
    writer.abort().await.unwrap();
    assert!(numbers(&tables).await.is_empty());
}

#[tokio::test]
async fn concurrent_writers_all_commit() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path()).await;
    let commits = (0..8).map(|n| {
        let tables = tables.clone();
        async move {
            commit(
                &tables,
                &format!("w{n}"),
                &[n],
                &txn(&format!("w{n}"), 1),
                None,
            )
            .await
        }
    });
    for outcome in futures::future::join_all(commits).await {
        assert_eq!(outcome, Commit::Committed);
    }
    assert_eq!(numbers(&tables).await, (0..8).collect::<Vec<_>>());
}

#[tokio::test]
async fn concurrent_commits_of_same_txn_commit_once() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path()).await;
    let mut writers = Vec::new();
    for n in 0..4 {
        let mut writer = tables.writer("t@1", &format!("r{n}")).await.unwrap();
        writer.write(&rows(&[7])).await.unwrap();
        writers.push(writer);
    }
    let identity = txn("race", 1);
    let outcomes =
        futures::future::join_all(writers.into_iter().map(|w| w.commit(&identity, None))).await;
    let won = outcomes
        .iter()
        .filter(|o| matches!(o, Ok(Commit::Committed)))
        .count();
    let lost = outcomes.iter().filter(|o| match o {
        Ok(commit) => *commit == Commit::Already,
        Err(e) => e.kind() == Kind::Conflict,
    });
    assert_eq!((won, lost.count()), (1, 3), "{outcomes:?}");
    assert_eq!(numbers(&tables).await, [7]);
}

/// The columns of a table of Wafer with some features, and with an order of arrival or without.
fn system_schema(has_order: bool, features: &[&str]) -> Schema {
    let field = |name: &str| CoreField::new(name, DataType::Int64, true);
    let order = has_order.then(|| field(ARRIVAL_ORDER));
    let columns = ["n", snapshot::AVAILABLE_TIME, EVENT_ID];
    let columns = columns.into_iter().map(field).chain(order);
    let columns = columns.chain(features.iter().map(|name| field(name)));
    let schema = CoreSchema::new(columns.collect()).unwrap();
    schema.to_arrow().as_ref().clone()
}

/// Writes a row whose values are the positions of its columns.
async fn write_row(tables: &OfflineTables, table: &str, version: i64, schema: Schema) {
    let columns: Vec<arrow_array::ArrayRef> = (0..schema.fields().len() as i64)
        .map(|value| Arc::new(Int64Array::from(vec![value])) as _)
        .collect();
    let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    let mut writer = tables
        .writer(table, &format!("events/{version}"))
        .await
        .unwrap();
    writer.write(&batch).await.unwrap();
    writer.commit(&txn("o", version), None).await.unwrap();
}

#[tokio::test]
async fn table_from_before_the_order_of_arrival_gets_the_column_at_its_end() {
    for is_applied_first in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let root = Url::from_directory_path(folder.path()).unwrap();
        let tables = OfflineTables::open(root).unwrap();
        // The columns are not those that a writer adds the order of arrival to.
        let before = CoreSchema::new(vec![CoreField::new("n", DataType::Int64, true)]);
        tables
            .ensure("u", &before.unwrap().to_arrow())
            .await
            .unwrap();
        let plain = tables.writer("u", "a").await.unwrap();
        assert_eq!(plain.schema.fields().len(), 1);

        // A table as it was made before.
        tables
            .create("t", &system_schema(false, &["x"]))
            .await
            .unwrap();
        let old = tables.snapshot("t", AsOf::Latest).await.unwrap();
        assert_eq!(
            old.columns(),
            ["n", snapshot::AVAILABLE_TIME, EVENT_ID, "x"]
        );
        if is_applied_first {
            // A feature is added at the same time.
            let wanted = system_schema(true, &["x", "y"]);
            tables.ensure("t", &wanted).await.unwrap();
            tables.ensure("t", &wanted).await.unwrap();
            write_row(&tables, "t", 1, wanted).await;
        } else {
            write_row(&tables, "t", 1, system_schema(true, &["x"])).await;
        }
        // Rows without an order of arrival, such as those of an earlier definition, have a null.
        let without = match is_applied_first {
            true => system_schema(false, &["x", "y"]),
            false => system_schema(false, &["x"]),
        };
        write_row(&tables, "t", 2, without).await;
        let wrong = tables.ensure("t", &system_schema(true, &["z"])).await;
        assert_eq!(wrong.unwrap_err().kind(), Kind::Invalid);

        let found = tables.snapshot("t", AsOf::Latest).await.unwrap();
        let columns = ["x", ARRIVAL_ORDER, "n"].map(str::to_owned).to_vec();
        let files = found
            .in_order_of_creation(found.files().to_vec())
            .await
            .unwrap();
        let batches: Vec<RecordBatch> = found
            .read_all(files, columns.clone(), Interval::ALL)
            .try_collect()
            .await
            .unwrap();
        let values = |column: usize| -> Vec<Option<i64>> {
            let columns = batches.iter().map(|batch| batch.column(column));
            columns
                .flat_map(|column| column.as_primitive::<Int64Type>().iter())
                .collect()
        };
        assert_eq!(values(0), [Some(4), Some(3)], "{is_applied_first}");
        assert_eq!(values(1), [Some(3), None]);
        assert_eq!(values(2), [Some(0), Some(0)]);
        // The version before has no such column, and it can be asked for.
        let batches: Vec<RecordBatch> = old
            .read_all(found.files().to_vec(), columns, Interval::ALL)
            .try_collect()
            .await
            .unwrap();
        assert!(batches.iter().all(|batch| batch.num_columns() == 3));
    }
}

/// Writes a file below a folder, whose rows were all created at one time.
async fn write_arrivals(
    tables: &OfflineTables,
    folder: &str,
    version: i64,
    created: i64,
    orders: &[Option<i64>],
) {
    let column =
        |values: Vec<Option<i64>>| -> arrow_array::ArrayRef { Arc::new(Int64Array::from(values)) };
    let batch = RecordBatch::try_from_iter_with_nullable([
        (
            "created_timestamp",
            column(vec![Some(created); orders.len()]),
            true,
        ),
        (ARRIVAL_ORDER, column(orders.to_vec()), true),
    ]);
    let mut writer = tables.writer("t", folder).await.unwrap();
    writer.write(&batch.unwrap()).await.unwrap();
    writer.commit(&txn("o", version), None).await.unwrap();
}

/// Returns the folders of the files of a table, in the order in which the files came in.
async fn folders_in_order(tables: &OfflineTables) -> Vec<String> {
    let found = tables.snapshot("t", AsOf::Latest).await.unwrap();
    let files = found.in_order_of_creation(found.files().to_vec());
    let files = files.await.unwrap().into_iter();
    let folders = files.map(|file| file.path.split('/').next().unwrap().to_owned());
    folders.collect()
}

#[tokio::test]
async fn files_come_in_the_order_of_arrival_whatever_their_paths_are() {
    let folder = tempfile::tempdir().unwrap();
    let root = Url::from_directory_path(folder.path()).unwrap();
    let tables = OfflineTables::open(root).unwrap();
    let field = |name: &str| CoreField::new(name, DataType::Int64, true);
    let schema = CoreSchema::new(["created_timestamp", ARRIVAL_ORDER].map(field).to_vec());
    tables
        .ensure("t", &schema.unwrap().to_arrow())
        .await
        .unwrap();
    // The folders are not in the order of arrival, as those of files that several workers wrote.
    for (version, (name, created, orders)) in (1..).zip([
        ("e", 7, &[Some(0), Some(1)][..]),
        ("d", 5, &[Some(1 << 40), Some(9)]),
        ("c", 5, &[Some(10)]),
        ("b", 5, &[Some(11)]),
        ("a", 5, &[None]),
    ]) {
        write_arrivals(&tables, name, version, created, orders).await;
    }
    assert_eq!(folders_in_order(&tables).await, ["a", "d", "c", "b", "e"]);
    // A file that loses rows is written anew. The first rows decide that it still has.
    let keep = |batch: &RecordBatch| -> BooleanArray {
        let orders = batch.column(1).as_primitive::<Int64Type>().iter();
        orders
            .map(|order| Some(order != Some(9) && order != Some(0)))
            .collect()
    };
    assert_eq!(tables.delete_rows("t", keep).await.unwrap(), 2);
    assert_eq!(folders_in_order(&tables).await, ["a", "c", "b", "d", "e"]);
    // The last commit has written files that the log names before those of earlier ones.
    let found = tables.snapshot("t", AsOf::Latest).await.unwrap();
    let paths: Vec<&str> = found
        .files()
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    assert!(paths.len() == 5 && paths.is_sorted(), "{paths:?}");
}

#[tokio::test]
async fn schema_mismatch_is_invalid_and_names_the_column() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path()).await;
    tables.ensure("t@1", &schema()).await.unwrap();
    let other = CoreSchema::new(vec![
        CoreField::new("n", DataType::Int64, false),
        CoreField::new("text", DataType::Float64, true),
    ]);
    let error = tables
        .ensure("t@1", &other.unwrap().to_arrow())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let text = error.to_string();
    assert!(
        text.contains("`text` Utf8") && text.contains("`text` Float64"),
        "{text}"
    );
    assert_eq!(
        tables.info("none").await.unwrap_err().kind(),
        Kind::NotFound
    );
}

#[tokio::test]
async fn changes_leave_out_files_moved_by_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path()).await;
    commit(&tables, "events/1", &[1], &txn("o", 1), None).await;
    commit(&tables, "events/2", &[2], &txn("o", 2), None).await;
    let compaction = tables.compact("t@1", &["n".to_owned()]).await.unwrap();
    assert_eq!((compaction.merged, compaction.written), (2, 1));
    commit(&tables, "jan/1", &[5], &txn("jan", 1), Some("jan")).await;
    commit(&tables, "jan/2", &[6], &txn("jan", 2), Some("jan")).await;
    let changes = tables.changes("t@1", 0, 5).await.unwrap();
    let told: Vec<(u64, String, bool)> = changes
        .iter()
        .map(|c| {
            let (folder, _) = c.file.path.rsplit_once('/').unwrap();
            (c.version, folder.to_owned(), c.is_removal)
        })
        .collect();
    let wanted = [
        (1, "events/1", false),
        (2, "events/2", false),
        (4, "jan/1", false),
        (5, "jan/2", false),
        (5, "jan/1", true),
    ];
    let wanted = wanted.map(|(version, folder, gone)| (version, folder.to_owned(), gone));
    assert_eq!(told, wanted);
    assert_eq!(tables.changes("t@1", 2, 3).await.unwrap(), []);
    assert_eq!(numbers(&tables).await, [1, 2, 6]);
}

#[tokio::test]
async fn compaction_merges_all_generations_but_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let tables = tables(folder.path()).await;
    for generation in [1, 2, 10] {
        let folder = format!("runs/jan/{generation}");
        let identity = txn("jan", generation);
        commit(&tables, &folder, &[generation], &identity, None).await;
    }
    commit(&tables, "runs/feb/1", &[4], &txn("feb", 1), None).await;
    let compaction = tables.compact("t@1", &["n".to_owned()]).await.unwrap();
    assert_eq!((compaction.merged, compaction.written), (2, 1));
    assert_eq!(numbers(&tables).await, [1, 2, 4, 10]);
    let snapshot = tables.snapshot("t@1", AsOf::Latest).await.unwrap();
    assert_eq!(snapshot.files_below("runs/jan/10").len(), 1);
    // Replacing the interval removes merged generations as well.
    commit(
        &tables,
        "runs/jan/11",
        &[7],
        &txn("jan", 11),
        Some("runs/jan"),
    )
    .await;
    assert_eq!(numbers(&tables).await, [4, 7]);
}

/// When compaction, replacement and deletion conflict, the slower one gives up or retries; no row
/// is lost or duplicated.
#[tokio::test]
async fn concurrent_compaction_replacement_and_deletion_lose_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let all = tables(folder.path()).await;
    for round in 1..=8i64 {
        for part in 0..4 {
            let folder = format!("events/{round}-{part}");
            let identity = txn("o", round * 10 + part);
            commit(&all, &folder, &[round * 10 + part], &identity, None).await;
        }
        // Separate handles, as separate processes would have.
        let open = || OfflineTables::open(Url::from_directory_path(folder.path()).unwrap());
        let (a, b, c, d) = (
            open().unwrap(),
            open().unwrap(),
            open().unwrap(),
            open().unwrap(),
        );
        let sort = ["n".to_owned()];
        let gone = round * 10;
        let keep = |batch: &RecordBatch| -> arrow_array::BooleanArray {
            let numbers = batch.column(0).as_primitive::<Int64Type>();
            numbers.iter().map(|n| Some(n != Some(gone))).collect()
        };
        let delete = async {
            loop {
                match c.delete_rows("t@1", keep).await {
                    Err(e) if e.kind() == Kind::Conflict => tokio::task::yield_now().await,
                    other => return other.unwrap(),
                }
            }
        };
        let folder = format!("jan/{round}");
        let (identity, number) = (txn("jan", round), [1000 + round]);
        let (merged, again, deleted, _) = tokio::join!(
            a.compact("t@1", &sort),
            b.compact("t@1", &sort),
            delete,
            commit(&d, &folder, &number, &identity, Some("jan")),
        );
        merged.unwrap();
        again.unwrap();
        assert_eq!(deleted, 1, "round {round}");
        let mut wanted: Vec<i64> = (1..=round)
            .flat_map(|round| (1..4).map(move |part| round * 10 + part))
            .collect();
        wanted.push(1000 + round);
        assert_eq!(numbers(&all).await, wanted);
    }
}
