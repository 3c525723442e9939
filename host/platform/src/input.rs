//! What a pipeline reads in batch runs: files, raw events that were kept, or
//! another group's table.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray as _;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use wafer_core::rules::{Interval, identity};
use wafer_core::{ColumnBuilder, Digest, Field, Hasher, Schema, Timestamp};
use wafer_store::{AsOf, DataFile, Kind as StoreKind, TableSnapshot};

use crate::definition::{Definitions, PipelineDef, SourceKind, TableDef};
use crate::error::{Error, Result};
use crate::group_rows::{StoredRows, stored_column};
use crate::platform::Platform;
use crate::record::Reject;
use crate::run::blocking;
use crate::source::{Chunk, Chunks, Known, SourceFile, SourceReader, json_row};

/// Everything that a run reads, one part after the other.
pub(crate) struct Input {
    parts: Vec<Part>,
}

enum Part {
    Files(SourceReader),
    /// Raw events of a stream that were not written to a table when they came in.
    Archive {
        snapshot: TableSnapshot,
        table: String,
        inputs: Schema,
        /// Says which events these are.
        digest: Digest,
    },
    /// Rows of a group.
    Table {
        snapshot: TableSnapshot,
        definition: TableDef,
        /// Name under which the group's function knows the event time.
        event_time: String,
        inputs: Schema,
    },
}

impl Platform {
    /// What a pipeline reads.
    pub(crate) async fn input(
        &self,
        definitions: &Arc<Definitions>,
        pipeline: &PipelineDef,
        inputs: Schema,
        archive: bool,
    ) -> Result<Input> {
        let source = definitions.sources[&pipeline.source].clone();
        let offline = &self.components().offline;
        let mut parts = Vec::new();
        if let SourceKind::Table { group } = &source.kind {
            // What came in a moment ago counts as well.
            self.flush_all().await?;
            let group = &definitions.groups[group];
            let definition = group.rows_table();
            let snapshot = offline.snapshot(&definition.name, AsOf::Latest).await?;
            parts.push(Part::Table {
                snapshot,
                definition,
                event_time: group.event_time.clone(),
                inputs,
            });
            return Ok(Input { parts });
        }
        if source.files.is_some() || !archive {
            let (name, inputs) = (pipeline.source.clone(), inputs.clone());
            let remote = self.components().remote.clone();
            let open = move || SourceReader::open(&source, &name, &inputs, remote.as_ref());
            let reader = blocking(open).await??;
            parts.push(Part::Files(reader));
        }
        if archive {
            self.flush_all().await?;
            let table = TableDef::archive(&pipeline.source).name;
            match offline.snapshot(&table, AsOf::Latest).await {
                Ok(snapshot) => {
                    let table = definitions.groups[&pipeline.group].table();
                    parts.push(Part::Archive {
                        digest: digest_unwritten(&snapshot, &table).await?,
                        snapshot,
                        table,
                        inputs,
                    });
                }
                Err(e) if e.kind() == StoreKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(Input { parts })
    }
}

impl Platform {
    /// Some files of a pipeline's source, as they were when it was looked at.
    pub(crate) fn input_of(&self, files: Vec<SourceFile>, inputs: Schema) -> Input {
        let remote = self.components().remote.clone();
        Input {
            parts: vec![Part::Files(SourceReader::of(files, inputs, remote))],
        }
    }
}

impl Input {
    /// The files that are read, if it is nothing else.
    pub(crate) fn files(&self) -> Option<&[SourceFile]> {
        match &self.parts[..] {
            [Part::Files(reader)] => Some(reader.files()),
            _ => None,
        }
    }

    /// Says what there is to read: other content has another digest. Of a group's
    /// table it is only which: what changes in it is looked up in its log.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        for part in &self.parts {
            match part {
                Part::Files(reader) => hasher.part(reader.digest().as_bytes()),
                Part::Archive { digest, .. } => hasher.part(digest.as_bytes()),
                Part::Table { definition, .. } => hasher.part(definition.name.as_bytes()),
            };
        }
        hasher.finish()
    }

    /// The group's table that is read, if it is one.
    pub(crate) fn table(&self) -> Option<&TableSnapshot> {
        self.parts.iter().find_map(|part| match part {
            Part::Table { snapshot, .. } => Some(snapshot),
            _ => None,
        })
    }

    /// Number of rows, when it is known.
    pub(crate) fn total_rows(&self, only: &Only) -> Option<u64> {
        let rows = |part: &Part| match part {
            Part::Files(reader) => reader.total_rows(),
            Part::Archive { snapshot, .. } => snapshot.files().iter().map(|file| file.rows).sum(),
            Part::Table { .. } => only.files.iter().map(|file| file.rows).sum(),
        };
        self.parts.iter().map(rows).sum()
    }

    /// The rows, in order; of a group's table only some.
    pub(crate) fn chunks(&self, only: &Only) -> BoxStream<'static, Result<Chunk>> {
        let parts: Vec<_> = self.parts.iter().map(|part| part.chunks(only)).collect();
        stream::iter(parts).flatten().boxed()
    }
}

/// What of a group's table is read.
#[derive(Debug)]
pub(crate) struct Only {
    /// Files.
    pub(crate) files: Vec<DataFile>,
    /// When rows became visible.
    pub(crate) arrivals: Interval,
}

/// Says which raw events were not written to a table when they came in, in whichever
/// files and order they are.
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

/// Whether a raw event was written to a table, by the list of those it was.
fn is_written(tables: &str, table: &str) -> bool {
    tables.split(',').any(|name| name == table)
}

impl Part {
    fn chunks(&self, only: &Only) -> BoxStream<'static, Result<Chunk>> {
        match self {
            Self::Files(reader) => file_chunks(reader.chunks()).boxed(),
            Self::Archive {
                snapshot,
                table,
                inputs,
                ..
            } => {
                let (table, inputs) = (table.clone(), inputs.clone());
                let files = snapshot.files().to_vec();
                stored(snapshot, files, move |batch, file, first| {
                    archived_chunk(&batch, &file, first, &table, &inputs)
                })
            }
            Self::Table {
                snapshot,
                definition,
                event_time,
                inputs,
            } => {
                let (definition, inputs) = (definition.clone(), inputs.clone());
                let (event_time, arrivals) = (event_time.clone(), only.arrivals);
                stored(snapshot, only.files.clone(), move |batch, file, first| {
                    let rows =
                        table_chunk(&batch, (&file, first), &definition, &event_time, &inputs)?;
                    Ok(rows.arrived_in(arrivals))
                })
            }
        }
    }
}

/// The chunks of a source, read on a thread that may block.
fn file_chunks(chunks: Chunks) -> impl futures::Stream<Item = Result<Chunk>> {
    stream::try_unfold(chunks, |mut chunks| async move {
        let (chunk, chunks) = blocking(move || (chunks.next(), chunks)).await?;
        Ok(chunk?.map(|chunk| (chunk, chunks)))
    })
}

/// Chunks of some files of a table; each batch is given with its file and the number
/// of its first row.
fn stored(
    snapshot: &TableSnapshot,
    mut files: Vec<DataFile>,
    chunk: impl Fn(RecordBatch, String, u64) -> Result<Chunk> + Clone + Send + 'static,
) -> BoxStream<'static, Result<Chunk>> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let snapshot = snapshot.clone();
    stream::iter(files)
        .then(move |file: DataFile| {
            let (snapshot, chunk) = (snapshot.clone(), chunk.clone());
            async move {
                let batches = snapshot
                    .read(&file, &snapshot.columns(), Interval::ALL)
                    .await?;
                let mut next = 0;
                let chunks = batches.map_err(Error::from).map(move |batch| {
                    let batch = batch?;
                    let first = next;
                    next += batch.num_rows() as u64;
                    chunk(batch, file.path.clone(), first)
                });
                Ok::<_, Error>(chunks)
            }
        })
        .try_flatten()
        .boxed()
}

/// Raw events that came in before their pipeline wrote to a table.
fn archived_chunk(
    batch: &RecordBatch,
    file: &str,
    first: u64,
    table: &str,
    inputs: &Schema,
) -> Result<Chunk> {
    let definition = TableDef::archive("");
    let rows = StoredRows::new(&definition, batch)?;
    let (payloads, tables) = (
        rows.columns[0].as_string::<i32>(),
        rows.columns[1].as_string::<i32>(),
    );
    let fields: Vec<&Field> = inputs.fields().iter().collect();
    let mut chunk = Chunk {
        columns: Vec::new(),
        file_id: Digest::of(file.as_bytes()).short(),
        file: file.to_owned(),
        numbers: Vec::new(),
        known: None,
        rejects: Vec::new(),
        seen: rows.len() as u64,
    };
    let mut known = Known {
        ids: Vec::new(),
        available: Vec::new(),
        as_events: true,
    };
    let mut builders: Vec<ColumnBuilder> = fields
        .iter()
        .map(|f| ColumnBuilder::new(&f.data_type, rows.len()))
        .collect();
    let mut good = Vec::new();
    for row in 0..rows.len() {
        let written = is_written(tables.value(row), table);
        let number = first + row as u64;
        let read = match (written, serde_json::from_str(payloads.value(row))) {
            (true, _) => continue,
            (false, Ok(payload)) => json_row(&payload, &fields, &mut builders),
            (false, Err(e)) => {
                builders.iter_mut().for_each(ColumnBuilder::append_null);
                Err(format!("is not JSON: {e}"))
            }
        };
        good.push(read.is_ok());
        match read {
            Ok(()) => {
                chunk.numbers.push(number);
                known.ids.push(rows.ids.value(row).to_owned());
                let available = rows.available.value(row);
                known.available.push(Timestamp::from_micros(available));
            }
            Err(message) => {
                chunk
                    .rejects
                    .push(Reject::new(format!("{file}:{number}"), message));
            }
        }
    }
    let mask = arrow_array::BooleanArray::from(good);
    chunk.columns = builders
        .iter_mut()
        .map(|b| arrow_select::filter::filter(&b.finish(), &mask).expect("as many bits as rows"))
        .collect();
    chunk.known = Some(known);
    Ok(chunk)
}

/// Rows of another group; a function reads keys, columns and times by name, the
/// event time also by the name that the group's function gives it.
fn table_chunk(
    batch: &RecordBatch,
    (file, first): (&str, u64),
    definition: &TableDef,
    event_time: &str,
    inputs: &Schema,
) -> Result<Chunk> {
    let rows = StoredRows::new(definition, batch)?;
    let column = |field: &Field| {
        let name = if field.name == event_time {
            "event_timestamp"
        } else {
            &field.name
        };
        let stored = Field {
            name: name.to_owned(),
            ..field.clone()
        };
        stored_column(definition, batch, &stored)
    };
    let columns = inputs.fields().iter();
    let known = Known {
        ids: rows.ids.iter().flatten().map(str::to_owned).collect(),
        available: rows
            .available
            .values()
            .iter()
            .map(|micros| Timestamp::from_micros(*micros))
            .collect(),
        as_events: false,
    };
    Ok(Chunk {
        columns: columns.map(column).collect::<Result<_>>()?,
        file_id: Digest::of(file.as_bytes()).short(),
        file: file.to_owned(),
        numbers: (first..first + rows.len() as u64).collect(),
        known: Some(known),
        rejects: Vec::new(),
        seen: rows.len() as u64,
    })
}
