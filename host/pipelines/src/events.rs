//! Events: rows that are pushed in, and readable online as soon as the push is
//! answered.

pub(crate) mod draft;
pub(crate) mod event;
pub(crate) mod route;
pub(crate) mod routes;

use std::sync::PoisonError;

use wafer_catalog::{FIVE_MINUTES, SEVEN_DAYS, SourceDef, SourceKind, TableDef, get};
use wafer_core::{DataType, Field, Schema, Timestamp};
use wafer_store::{Error, EventCommit, EventOutcome, Kind, Result, for_work};

use crate::events::draft::{Draft, IngestTerms};
use crate::events::event::{Arrival, EventResult, IncomingEvent, IngestReport};
use crate::events::route::{Route, Transform};
use crate::group_rows::Target;
use crate::service::Pipelines;

impl Pipelines {
    /// Takes in events of a stream source: each goes through every pipeline of
    /// the source, and all it writes is committed at once. Returns when accepted
    /// events are durable and readable.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown source,
    /// [`Kind::Invalid`] for one that takes no events,
    /// [`Kind::Function`] when a function fails on the
    /// whole batch. Nothing was accepted then.
    pub async fn ingest(
        &self,
        source: &str,
        events: Vec<IncomingEvent>,
        arrival: Arrival,
    ) -> Result<IngestReport> {
        let definitions = self.context.definitions();
        let definition = get(&definitions.sources, source, "source")?;
        let SourceKind::Stream { id, remember, .. } = &definition.kind else {
            let message = format!(
                "source `{source}` reads files and takes no events; its `type` would be stream"
            );
            return Err(Error::invalid(message));
        };
        let routes = self.routes(source).await?;
        if routes.is_empty() {
            let message =
                format!("no pipeline reads source `{source}`: its events would go nowhere");
            return Err(Error::invalid(message));
        }
        let now = self.context.now();
        let terms = IngestTerms {
            now,
            arrival,
            skew: definition.skew,
            delay: definition.delay,
            lateness: (arrival == Arrival::Now)
                .then_some(definition.lateness)
                .flatten(),
        };
        let watermark = self.watermark(source);
        let archive = archived(source, definition, &routes);
        let (name, id, until) = (source.to_owned(), id.clone(), now.plus_micros(*remember));
        let drafts = self.context.components().event_guests.run(move || {
            let mut drafts = drafted(&events, &name, id.as_deref(), until, &routes, terms)?;
            let mut watermark = watermark;
            for (draft, event) in drafts.iter_mut().zip(&events) {
                draft.forget();
                draft.archive(event, archive.as_ref(), terms);
                watermark = draft.mark(watermark);
            }
            Ok::<_, Error>((drafts, watermark))
        });
        let (drafts, watermark) = drafts.await??;
        self.raise_watermark(source, watermark);
        self.commit(source, drafts, now, until).await
    }

    /// Writes rows to a group as they are, past its pipeline: with join keys, event time and
    /// columns as fields.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown group,
    /// [`Kind::Invalid`] for one of windows, whose features are made
    /// of events.
    pub async fn write_group(
        &self,
        group: &str,
        events: Vec<IncomingEvent>,
    ) -> Result<IngestReport> {
        let definitions = self.context.definitions();
        let definition = get(&definitions.groups, group, "feature group")?;
        if !definition.aggregates.is_empty() {
            let message = format!(
                "the features of group `{group}` are made of windows of events: push these to its source"
            );
            return Err(Error::invalid(message));
        }
        let now = self.context.now();
        let terms = IngestTerms {
            now,
            arrival: Arrival::Now,
            skew: FIVE_MINUTES,
            delay: 0,
            lateness: None,
        };
        let time = Field::new(&definition.event_time, DataType::Timestamp, false);
        let keys = definition.keys.iter().cloned();
        let columns = keys.chain([time]).chain(definition.columns.iter().cloned());
        let columns = Schema::new(columns.collect())
            .map_err(|e| Error::caused(Kind::Internal, format!("columns of `{group}`"), e))?;
        let deletions = self.tables.deletions().await?;
        let routes = [Route {
            transform: Transform::Columns(columns),
            targets: vec![Target::new(definition.clone(), &deletions)],
        }];
        // No source has such a name.
        let name = format!("group/{group}");
        let until = now.plus_micros(SEVEN_DAYS);
        let drafts = drafted(&events, &name, None, until, &routes, terms)?;
        self.commit(&name, drafts, now, until).await
    }

    async fn commit(
        &self,
        source: &str,
        drafts: Vec<Draft>,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<IngestReport> {
        let mut commits: Vec<EventCommit> = Vec::new();
        for draft in &drafts {
            match &draft.commit {
                Ok(commit) => commits.push(commit.clone()),
                // RefusedRow again and again, it is set aside once.
                Err(_) if !draft.quarantine.is_empty() => commits.push(EventCommit {
                    source: format!("quarantine/{source}"),
                    id: draft.id.clone(),
                    remember_until: until,
                    writes: Vec::new(),
                    early: Vec::new(),
                    outbox: draft.quarantine.clone(),
                }),
                Err(_) => {}
            }
        }
        let mut outcomes = match commits.is_empty() {
            true => Vec::new(),
            false => {
                let online = &self.context.components().online;
                let work = format!("source/{source}");
                for_work(work, online.commit_events(commits, now)).await?
            }
        }
        .into_iter();
        let mut report = IngestReport::default();
        for draft in drafts {
            let result = match draft.commit {
                Err(error) => {
                    if !draft.quarantine.is_empty() {
                        let _ = outcomes.next();
                    }
                    EventResult::Rejected { error }
                }
                Ok(commit) => match outcomes.next().expect("one outcome for each event") {
                    EventOutcome::Committed { older } => {
                        report.accepted += 1;
                        report.older += usize::from(older > 0);
                        report.early += usize::from(!commit.early.is_empty());
                        report.late += usize::from(draft.late);
                        report.too_late += usize::from(draft.too_late);
                        if draft.too_late {
                            EventResult::TooLate
                        } else {
                            EventResult::Accepted
                        }
                    }
                    EventOutcome::Duplicate => {
                        report.duplicate += 1;
                        EventResult::Duplicate
                    }
                },
            };
            report.rejected += usize::from(matches!(result, EventResult::Rejected { .. }));
            report.events.push(result);
        }
        self.counters.add(source, &report);
        Ok(report)
    }
}

/// What events write, as far as they are good.
fn drafted(
    events: &[IncomingEvent],
    source: &str,
    id_field: Option<&str>,
    until: Timestamp,
    routes: &[Route],
    terms: IngestTerms,
) -> Result<Vec<Draft>> {
    let drafts = events.iter();
    let mut drafts: Vec<Draft> = drafts
        .map(|event| Draft::new(event, source, id_field, until))
        .collect();
    for route in routes {
        route.apply(events, &mut drafts, terms)?;
    }
    Ok(drafts)
}

/// Where a source's raw events are kept, and which tables they are written to.
fn archived(source: &str, definition: &SourceDef, routes: &[Route]) -> Option<(String, String)> {
    if !definition.keeps_events() {
        return None;
    }
    let targets = routes.iter().flat_map(|route| &route.targets);
    let tables: Vec<&str> = targets.map(|target| target.table.name.as_str()).collect();
    Some((TableDef::archive(source).name, tables.join(",")))
}

impl Pipelines {
    /// Counts of the events that this process took in, in the text format of Prometheus
    /// (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    pub fn metrics(&self) -> String {
        self.counters.text()
    }

    /// The latest event time of a source that came in at this process.
    pub(crate) fn watermark(&self, source: &str) -> Timestamp {
        let watermarks = self
            .watermarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        watermarks.get(source).copied().unwrap_or(Timestamp::MIN)
    }

    pub(crate) fn raise_watermark(&self, source: &str, time: Timestamp) {
        let mut watermarks = self
            .watermarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let stored = watermarks.entry(source.to_owned()).or_insert(time);
        *stored = time.max(*stored);
    }
}
