//! Reads rows of this project's tables in the order in which they came in.
//!
//! Of the rows that a run makes of one time, the one that is read last counts, so the order must
//! not depend on how a table keeps its rows. Files come in the order of their first rows. Files
//! that runs and flushes write have their rows in the order of arrival. Compaction sorts rows by
//! their keys, so the rows of a merged file are put back by what each is stored with: the time of
//! its creation, and its order of arrival.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave_record_batch;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use wafer_catalog::TableDef;
use wafer_core::rules::Interval;
use wafer_core::{DataType, Field};
use wafer_runtime::CHUNK_ROWS;
use wafer_store::{ARRIVAL_ORDER, DataFile, Error, Kind, Result, TableSnapshot};
use wafer_tables::{arrival_orders, order_of, stored_column};

use crate::source::chunk::Chunk;

/// The column with the time when a row was claimed for writing.
const CREATED_TIME: &str = "created_timestamp";

/// When a row came in: the time of its creation, and its order of arrival if it is stored with one.
/// Rows without one came before those that have one.
type Arrived = (i64, Option<u64>);

/// A batch of stored rows, with the number of each row in its file.
type Numbered = (RecordBatch, Vec<u64>);

/// Reads files of a table in the order in which their rows came in. Where the times of creation of
/// two files overlap, one is read after the other. `chunk` is called with each batch, the path of
/// its file and the number of each row in the file.
pub(super) fn stored_chunks(
    snapshot: &TableSnapshot,
    table: &TableDef,
    files: Vec<DataFile>,
    chunk: impl Fn(&RecordBatch, &str, Vec<u64>) -> Result<Chunk> + Clone + Send + 'static,
) -> BoxStream<'static, Result<Chunk>> {
    let (snapshot, table) = (snapshot.clone(), table.clone());
    let ordered = {
        let snapshot = snapshot.clone();
        async move { snapshot.in_order_of_creation(files).await }
    };
    let ordered = stream::once(ordered).map_ok(|files| {
        let numbered = files.into_iter().zip(0..);
        stream::iter(numbered.map(Ok::<_, Error>))
    });
    ordered
        .try_flatten()
        .and_then(move |(file, number): (DataFile, u64)| {
            let (snapshot, table, chunk) = (snapshot.clone(), table.clone(), chunk.clone());
            async move {
                let rows = rows_of_file(&snapshot, &table, &file).await?;
                let chunks = rows.map(move |rows| {
                    let (batch, numbers) = rows?;
                    let chunk = chunk(&batch, &file.path, numbers)?;
                    Ok::<_, Error>(Chunk {
                        file_number: number,
                        ..chunk
                    })
                });
                Ok::<_, Error>(chunks)
            }
        })
        .try_flatten()
        .boxed()
}

/// Reads the rows of a file in the order in which they came in. Only a file whose rows have another
/// order is held in memory; merging made it, which held its rows in memory as well.
async fn rows_of_file(
    snapshot: &TableSnapshot,
    table: &TableDef,
    file: &DataFile,
) -> Result<BoxStream<'static, Result<Numbered>>> {
    let is_in_order = is_in_order(snapshot, table, file).await?;
    let columns = snapshot.columns();
    let batches = snapshot.read(file, &columns, Interval::ALL).await?;
    if is_in_order {
        return Ok(numbered(batches).boxed());
    }
    let batches: Vec<RecordBatch> = batches.try_collect().await?;
    let places = places_in_order(table, &batches)?;
    let table = snapshot.table().to_owned();
    let batches = places.into_iter().map(move |places| {
        taken(&batches, &places).map_err(|e| {
            let message = format!("rows of table `{table}` cannot be put in order");
            Error::caused(Kind::Internal, message, e)
        })
    });
    Ok(stream::iter(batches).boxed())
}

/// Numbers the rows of batches that follow each other.
fn numbered(
    batches: BoxStream<'static, Result<RecordBatch>>,
) -> impl Stream<Item = Result<Numbered>> {
    let mut next: u64 = 0;
    batches.map_ok(move |batch| {
        let first = next;
        next += batch.num_rows() as u64;
        (batch, (first..next).collect())
    })
}

/// Returns whether the rows of a file have the order in which they came in.
async fn is_in_order(snapshot: &TableSnapshot, table: &TableDef, file: &DataFile) -> Result<bool> {
    let mut columns = vec![CREATED_TIME.to_owned()];
    columns.extend(table.is_ordered().then(|| ARRIVAL_ORDER.to_owned()));
    let mut batches = snapshot.read(file, &columns, Interval::ALL).await?;
    let mut last = None;
    while let Some(batch) = batches.try_next().await? {
        for arrived in arrived(table, &batch)? {
            if last > Some(arrived) {
                return Ok(false);
            }
            last = Some(arrived);
        }
    }
    Ok(true)
}

/// Returns when each row of a batch came in.
fn arrived(table: &TableDef, batch: &RecordBatch) -> Result<Vec<Arrived>> {
    let field = Field::new(CREATED_TIME, DataType::Timestamp, false);
    let created = stored_column(table, batch, &field)?;
    let orders = arrival_orders(table, batch)?;
    let created = created.as_primitive::<TimestampMicrosecondType>().values();
    let rows = created.iter().enumerate();
    let arrived = rows.map(|(row, created)| (*created, order_of(orders.as_ref(), row)));
    Ok(arrived.collect())
}

/// The place of a row: its batch, its row in the batch, and its number in the file.
type Place = (usize, usize, u64);

/// Returns the places of the rows of a file in the order in which they came in, in pieces of the
/// size of a chunk. Rows that came in at the same time stay in the order of the file.
fn places_in_order(table: &TableDef, batches: &[RecordBatch]) -> Result<Vec<Vec<Place>>> {
    let mut rows: Vec<(Arrived, Place)> = Vec::new();
    for (index, batch) in batches.iter().enumerate() {
        let first = rows.len() as u64;
        let arrived = arrived(table, batch)?.into_iter().enumerate();
        rows.extend(arrived.map(|(row, arrived)| (arrived, (index, row, first + row as u64))));
    }
    // The places rise, so that the order is that of a stable sort.
    rows.sort_unstable();
    let pieces = rows.chunks(CHUNK_ROWS);
    let places = pieces.map(|piece| piece.iter().map(|(_, place)| *place).collect());
    Ok(places.collect())
}

/// Returns the rows at some places, with their numbers.
fn taken(batches: &[RecordBatch], places: &[Place]) -> Result<Numbered, ArrowError> {
    let all: Vec<&RecordBatch> = batches.iter().collect();
    let indices: Vec<(usize, usize)> = places
        .iter()
        .map(|(batch, row, _)| (*batch, *row))
        .collect();
    let numbers = places.iter().map(|(_, _, number)| *number);
    Ok((interleave_record_batch(&all, &indices)?, numbers.collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, StringArray};
    use wafer_core::Timestamp;
    use wafer_tables::{SystemValues, table_batch};

    use super::*;

    /// Makes a batch of raw events, whose identities are their numbers, of when each was created
    /// and its order of arrival.
    fn batch(table: &TableDef, first: usize, rows: &[Arrived]) -> RecordBatch {
        let times = |time: fn(&Arrived) -> i64| -> Vec<Timestamp> {
            rows.iter()
                .map(|row| Timestamp::from_micros(time(row)))
                .collect()
        };
        let texts = || -> ArrayRef { Arc::new(StringArray::from(vec![""; rows.len()])) };
        let system = SystemValues {
            events: times(|_| 0),
            available: times(|_| 0),
            created: times(|(created, _)| *created),
            ids: (first..first + rows.len())
                .map(|row| row.to_string())
                .collect(),
            orders: rows.iter().map(|(_, order)| *order).collect(),
        };
        table_batch(table, Vec::new(), system, vec![texts(), texts()]).unwrap()
    }

    #[test]
    fn rows_of_a_merged_file_are_put_back_into_the_order_in_which_they_came_in() {
        let table = TableDef::archive("s");
        let first = [(7, Some(2)), (5, Some(9)), (5, None)];
        let second = [(7, Some(1)), (5, None), (6, Some(0))];
        let batches = [batch(&table, 0, &first), batch(&table, 3, &second)];
        let places = places_in_order(&table, &batches).unwrap();
        assert_eq!(places.len(), 1);
        let (rows, numbers) = taken(&batches, &places[0]).unwrap();
        assert_eq!(numbers, [2, 4, 1, 5, 3, 0]);
        let ids = rows.column_by_name("event_id").unwrap().as_string::<i32>();
        let ids: Vec<&str> = ids.iter().flatten().collect();
        assert_eq!(ids, ["2", "4", "1", "5", "3", "0"]);
    }

    #[test]
    fn rows_are_taken_in_pieces_of_the_size_of_a_chunk() {
        let table = TableDef::archive("s");
        let rows: Vec<Arrived> = (0..CHUNK_ROWS as u64 + 1)
            .rev()
            .map(|n| (1, Some(n)))
            .collect();
        let places = places_in_order(&table, &[batch(&table, 0, &rows)]).unwrap();
        let sizes: Vec<usize> = places.iter().map(Vec::len).collect();
        assert_eq!(sizes, [CHUNK_ROWS, 1]);
        assert_eq!(places[1], [(0, 0, 0)]);
    }
}
