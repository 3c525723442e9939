//! The archive of a stream as the source of a run: raw events that came in before their pipeline
//! wrote to a table.

use arrow_array::cast::AsArray as _;
use arrow_array::{BooleanArray, RecordBatch};
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use wafer_catalog::{Context, Reject, TableDef};
use wafer_core::rules::{Interval, identity};
use wafer_core::{ColumnBuilder, Digest, Field, Hasher, Timestamp};
use wafer_files::{ReadColumn, append_object};
use wafer_store::{AsOf, Kind, Result, TableSnapshot};
use wafer_tables::StoredRows;

use super::stored::stored_chunks;
use super::{Selection, Source};
use crate::source::chunk::{Chunk, StoredRowOrigins};

/// The raw events of a stream that were not written to a table when they came in.
#[derive(Debug)]
pub(super) struct ArchiveSource {
    snapshot: TableSnapshot,
    /// The table that the run writes to.
    table: String,
    columns: Vec<ReadColumn>,
    /// The digest of the identities of these events.
    digest: Digest,
}

impl ArchiveSource {
    /// Opens the archive of a source, or returns `None` when no event has come in yet.
    pub(super) async fn open(
        context: &Context,
        source: &str,
        table: String,
        columns: Vec<ReadColumn>,
    ) -> Result<Option<Self>> {
        let archive = TableDef::archive(source).name;
        let offline = &context.components().stores.offline;
        let snapshot = match offline.snapshot(&archive, AsOf::Latest).await {
            Err(e) if e.kind() == Kind::NotFound => return Ok(None),
            other => other?,
        };
        Ok(Some(Self {
            digest: digest_unwritten(&snapshot, &table).await?,
            snapshot,
            table,
            columns,
        }))
    }
}

impl Source for ArchiveSource {
    fn identify(&self, hasher: &mut Hasher) {
        hasher.part(self.digest.as_bytes());
    }

    fn total_rows(&self, _selection: &Selection) -> Option<u64> {
        self.snapshot.files().iter().map(|file| file.rows).sum()
    }

    fn chunks(&self, _selection: &Selection) -> BoxStream<'static, Result<Chunk>> {
        let (table, columns) = (self.table.clone(), self.columns.clone());
        let files = self.snapshot.files().to_vec();
        let archive = TableDef::archive("");
        stored_chunks(
            &self.snapshot,
            &archive,
            files,
            move |batch, file, numbers| archived_chunk(batch, file, &numbers, &table, &columns),
        )
    }
}

/// Digests the identities of the raw events that were not written to a table when they came in.
/// The digest does not depend on the order of the events or on the files that hold them.
async fn digest_unwritten(snapshot: &TableSnapshot, table: &str) -> Result<Digest> {
    let columns = ["event_id", "tables"].map(str::to_owned).to_vec();
    let mut batches = snapshot.read_all(snapshot.files().to_vec(), columns, Interval::ALL);
    let (mut count, mut sum) = (0u64, 0u64);
    while let Some(batch) = batches.try_next().await? {
        let (ids, tables) = (batch.column(0), batch.column(1));
        let (ids, tables) = (ids.as_string::<i32>(), tables.as_string::<i32>());
        let rows = (0..batch.num_rows()).filter(|row| !is_written(tables.value(*row), table));
        for row in rows {
            count += 1;
            sum = sum.wrapping_add(identity(ids.value(row)));
        }
    }
    let mut hasher = Hasher::new();
    hasher.part(&count.to_le_bytes()).part(&sum.to_le_bytes());
    Ok(hasher.finish())
}

/// Returns whether a raw event was written to `table`; `tables` is the event's list of the
/// tables that it was written to, separated by commas.
fn is_written(tables: &str, table: &str) -> bool {
    tables.split(',').any(|name| name == table)
}

/// Makes a chunk of the events of a batch that were not written to a table.
fn archived_chunk(
    batch: &RecordBatch,
    file: &str,
    file_numbers: &[u64],
    table: &str,
    columns: &[ReadColumn],
) -> Result<Chunk> {
    let rows = StoredRows::new(&TableDef::archive(""), batch)?;
    let payloads = rows.columns[0].as_string::<i32>();
    let tables = rows.columns[1].as_string::<i32>();
    let builder = |ReadColumn { field, reading }: &ReadColumn| {
        ColumnBuilder::new(&field.data_type, rows.len()).with_reading(reading.clone())
    };
    let mut builders: Vec<ColumnBuilder> = columns.iter().map(builder).collect();
    let fields: Vec<Field> = columns.iter().map(|column| column.field.clone()).collect();
    let (mut numbers, mut rejects, mut is_good) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ids, mut available) = (Vec::new(), Vec::new());
    for row in (0..rows.len()).filter(|row| !is_written(tables.value(*row), table)) {
        let number = file_numbers[row];
        let read = match serde_json::from_str(payloads.value(row)) {
            Ok(payload) => append_object(&payload, &fields, &mut builders),
            Err(e) => {
                builders.iter_mut().for_each(ColumnBuilder::append_null);
                Err(format!("is not JSON: {e}"))
            }
        };
        is_good.push(read.is_ok());
        match read {
            Ok(()) => {
                numbers.push(number);
                ids.push(rows.ids.value(row).to_owned());
                available.push(Timestamp::from_micros(rows.available.value(row)));
            }
            Err(message) => rejects.push(Reject::new(format!("{file}:{number}"), message)),
        }
    }
    let is_good = BooleanArray::from(is_good);
    let columns = builders.iter_mut().map(|builder| {
        let column = builder.finish();
        arrow_select::filter::filter(&column, &is_good).expect("as many bits as rows")
    });
    Ok(Chunk {
        columns: columns.collect(),
        file_id: Digest::of(file.as_bytes()).short(),
        file_number: 0,
        file: file.to_owned(),
        numbers,
        stored: Some(StoredRowOrigins {
            ids,
            available,
            as_events: true,
        }),
        rejects,
        seen: rows.len() as u64,
    })
}
