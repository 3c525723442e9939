//! Replays history: turns the rows of a source's files into the events that would have been
//! pushed.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};
use wafer_catalog::{Reject, get};
use wafer_core::rules::{Interval, available_from_file};
use wafer_core::{Duration, Timestamp, cell_to_json};
use wafer_files::ReadColumn;
use wafer_store::{Error, Result};

use crate::group_rows::{Gate, GroupRows, Target};
use crate::source::chunk::Chunk;
use crate::source::{SourceReader, Sources, read_columns};
use crate::transform::Transform;

/// An event of the past, as it would have been pushed.
#[derive(Clone, Debug, PartialEq)]
pub struct PastEvent {
    /// When the event could first have been pushed: the latest event time of the rows that it
    /// produces, plus the source's delay.
    pub time: Timestamp,
    /// The fields of the event that the pipeline reads, as a JSON object.
    pub payload: Json,
}

/// The events of the past, and the rows that none is made of.
#[derive(Clone, Debug, Default)]
pub struct PastEvents {
    /// The events, in the order of their times.
    pub events: Vec<PastEvent>,
    /// The places of the rows that no event is made of: those that are refused within the interval,
    /// and those that cannot be read or have no time, of all files, as nothing says when they would
    /// have been pushed.
    pub rejected: BTreeSet<String>,
    /// The first of these rows.
    pub reject: Option<Reject>,
}

impl PastEvents {
    /// Adds the rows of a chunk that no event is made of.
    fn add_rejects(&mut self, chunk: &Chunk, made: &GroupRows) {
        let unread = chunk.rejects.iter().cloned();
        // An event with a refused row and others is pushed for those, and the server refuses it.
        let refused = made.rejects.iter();
        let refused = refused.filter(|refused| made.sources.binary_search(&refused.row).is_err());
        let refused =
            refused.map(|refused| Reject::new(chunk.place(refused.row), refused.reason.clone()));
        for reject in unread.chain(refused) {
            self.rejected.insert(reject.place.clone());
            self.reject.get_or_insert(reject);
        }
    }
}

impl Sources {
    /// Returns the events of a pipeline's source that produce rows within an interval, in the
    /// order of their times. Blocks the thread, and calls the pipeline's function.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) for an unknown pipeline and
    /// [`Kind::Invalid`](wafer_store::Kind::Invalid) when a model makes the rows, when the
    /// source has no files, or when its rows hold columns that JSON cannot express.
    pub fn past_events(&self, pipeline: &str, interval: Interval) -> Result<PastEvents> {
        let definitions = self.context.definitions();
        let pipeline = get(&definitions.pipelines, pipeline, "pipeline")?;
        let source = &definitions.sources[&pipeline.source];
        let group = &definitions.groups[&pipeline.group];
        let transform = Transform::of(&self.context, &definitions, &pipeline.made_by)?;
        let transform = transform.ok_or_else(|| {
            Error::invalid(format!(
                "a model makes the rows of group `{}`, and no events",
                pipeline.group
            ))
        })?;
        let fields = pipeline.made_by.source_fields(transform.inputs());
        if let Some(field) = fields.iter().find(|f| !f.data_type.is_storable()) {
            let message = format!(
                "column `{}` is {}, which an event cannot have",
                field.name, field.data_type
            );
            return Err(Error::invalid(message));
        }
        let remote = &self.context.components().remote;
        let reader = SourceReader::open(source, &pipeline.source, &fields, remote)?;
        let gate = Gate {
            interval,
            now: Timestamp::MAX,
            skew: Duration::ZERO,
        };
        let target = Target::of(&self.context, group.clone(), &self.tables.known_deletions());
        let columns = read_columns(source, &fields);
        let mut chunks = reader.chunks();
        let mut past = PastEvents::default();
        while let Some(chunk) = chunks.next()? {
            let output = transform.invoke_rows(&chunk.columns);
            let output = output.map_err(|failure| chunk.failure(failure.into()))?;
            let made = target.rows_of(transform.outputs(), &output, gate);
            past.add_rejects(&chunk, &made);
            // The rows that one source row produced are next to each other.
            let mut latest: Vec<(usize, Timestamp)> = Vec::new();
            for (row, source) in made.sources.iter().enumerate() {
                match latest.last_mut() {
                    Some((last, time)) if last == source => *time = (*time).max(made.events[row]),
                    _ => latest.push((*source, made.events[row])),
                }
            }
            for (row, time) in latest {
                let cells = columns.iter().zip(&chunk.columns);
                let payload: Map<String, Json> = cells
                    .map(|(ReadColumn { field, reading }, column)| {
                        // An event writes times as the source declares them.
                        let time = reading.written(column, row).map(Json::from);
                        let cell = time.unwrap_or_else(|| cell_to_json(column, row));
                        (field.name.clone(), cell)
                    })
                    .collect();
                past.events.push(PastEvent {
                    time: available_from_file(time, source.delay),
                    payload: payload.into(),
                });
            }
        }
        past.events.sort_by_key(|event| event.time);
        Ok(past)
    }
}
