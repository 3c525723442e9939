//! The table of another group as the source of a run.

use arrow_array::RecordBatch;
use futures::stream::BoxStream;
use wafer_catalog::{Context, GroupDef, TableDef};
use wafer_core::{Digest, Field, Hasher, Timestamp};
use wafer_store::{AsOf, Result, TableSnapshot};
use wafer_tables::{StoredRows, stored_column};

use super::stored::stored_chunks;
use super::{Selection, Source};
use crate::source::chunk::{Chunk, StoredRowOrigins};

/// The rows of another group's table, at one version of it.
#[derive(Debug)]
pub(super) struct TableSource {
    snapshot: TableSnapshot,
    table: TableDef,
    /// The name that the other group's function gives the event time.
    event_time: String,
    fields: Vec<Field>,
}

impl TableSource {
    /// Opens the table of another group.
    pub(super) async fn open(
        context: &Context,
        group: &GroupDef,
        fields: Vec<Field>,
    ) -> Result<Self> {
        let table = group.rows_table();
        let offline = &context.components().stores.offline;
        Ok(Self {
            snapshot: offline.snapshot(&table.name, AsOf::Latest).await?,
            table,
            event_time: group.event_time.clone(),
            fields,
        })
    }
}

impl Source for TableSource {
    /// Adds only the name of the table; the changes in the table are found in its log.
    fn identify(&self, hasher: &mut Hasher) {
        hasher.part(self.table.name.as_bytes());
    }

    fn total_rows(&self, selection: &Selection) -> Option<u64> {
        selection.files.iter().map(|file| file.rows).sum()
    }

    fn chunks(&self, selection: &Selection) -> BoxStream<'static, Result<Chunk>> {
        let (table, fields) = (self.table.clone(), self.fields.clone());
        let (event_time, arrivals) = (self.event_time.clone(), selection.arrivals);
        let files = selection.files.clone();
        stored_chunks(
            &self.snapshot,
            &self.table,
            files,
            move |batch, file, numbers| {
                let chunk = table_chunk(batch, (file, numbers), &table, &event_time, &fields)?;
                Ok(chunk.available_in(arrivals))
            },
        )
    }

    fn table(&self) -> Option<&TableSnapshot> {
        Some(&self.snapshot)
    }
}

/// Makes a chunk of rows of another group. A function reads the keys, columns and times by name,
/// and the event time also by the name that the other group's function gives it.
fn table_chunk(
    batch: &RecordBatch,
    (file, numbers): (&str, Vec<u64>),
    table: &TableDef,
    event_time: &str,
    fields: &[Field],
) -> Result<Chunk> {
    let rows = StoredRows::new(table, batch)?;
    let column = |field: &Field| {
        let name = match field.name == event_time {
            true => "event_timestamp",
            false => &field.name,
        };
        let stored = Field {
            name: name.to_owned(),
            ..field.clone()
        };
        stored_column(table, batch, &stored)
    };
    let columns = fields.iter().map(column);
    let available = rows.available.values().iter();
    Ok(Chunk {
        columns: columns.collect::<Result<_>>()?,
        file_id: Digest::of(file.as_bytes()).short(),
        file_number: 0,
        file: file.to_owned(),
        numbers,
        stored: Some(StoredRowOrigins {
            ids: rows.ids.iter().flatten().map(str::to_owned).collect(),
            available: available.map(|t| Timestamp::from_micros(*t)).collect(),
            as_events: false,
        }),
        rejects: Vec::new(),
        seen: rows.len() as u64,
    })
}
