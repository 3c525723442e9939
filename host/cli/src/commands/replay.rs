//! `wafer replay`: replays history against a server, in the order of time.
//!
//! All events and requests of the interval are gathered first, by the moment at which they happen.
//! Then, for each moment, the server's clock is set, the events are pushed, and the requests are
//! sent. Each answer is checked: no feature may have an event time after the request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::{Value as Json, json};
use wafer_core::rules::Interval;
use wafer_core::{DataType, Field, Schema, Timestamp, cell_to_json};
use wafer_platform::{IngestReport, PastEvents, Reject, SourceDef, SourceReader};

use super::CommandContext;
use crate::app;
use crate::http;
use crate::output::{say, table, thousands};

/// Replay history against a server that was started with --clock.
///
/// Events of every stream source with files are pushed at the time when they could
/// have been pushed, and each row of --requests becomes a request for features at the
/// time in its column --time. The clock of the server is set accordingly. The command
/// fails if an answer has a value from after its request, or if a request has no
/// time. Rows of a source that cannot be read, at whatever time they happened, or are
/// refused, are left out and counted.
///
/// Example:
///   wafer serve --clock 2013-01-01T05:00:00Z,0     # in another terminal
///   wafer replay arrival_delay --requests data/departures.csv --time scheduled_departure \
///       --from 2013-01-01T05:00:00Z --to 2013-01-03T05:00:00Z
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, after_help = super::TIMES)]
pub(crate) struct Replay {
    /// The feature view to get features of
    view: String,

    /// File with a row for each request: the join keys and request fields of the view
    #[arg(long, value_name = "FILE")]
    requests: PathBuf,

    /// Column with the time of the request
    #[arg(long, value_name = "COLUMN")]
    time: String,

    /// Start of the time to replay
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_argument)]
    from: Timestamp,

    /// End of the time to replay, not included
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse_argument)]
    to: Timestamp,

    /// Also ask this endpoint for predictions, with the same rows
    #[arg(long, value_name = "NAME")]
    endpoint: Option<String>,

    /// The server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,
}

/// The endpoint that is asked for predictions.
struct InferenceTarget {
    /// URL for inferences.
    url: String,
    /// Metadata of its inputs.
    inputs: Vec<Json>,
}

/// The events and requests of one moment. Events are pushed first, since a request sees what was
/// known by its time.
#[derive(Default)]
struct Moment {
    /// Events by the name of their source.
    events: BTreeMap<String, Vec<Json>>,
    requests: Vec<Json>,
}

/// All moments of the time to replay.
#[derive(Default)]
struct History {
    moments: BTreeMap<Timestamp, Moment>,
    /// The rows of the files of each source that no event is made of.
    left_out: BTreeMap<String, LeftOut>,
}

/// The rows of a source that no event is made of, at least for one of the functions over it.
#[derive(Default)]
struct LeftOut {
    /// Where they are. Functions over one source read the same rows.
    places: BTreeSet<String>,
    first: Option<Reject>,
}

/// What was replayed, and what was answered.
#[derive(Default, Serialize)]
struct Summary {
    from: Timestamp,
    to: Timestamp,
    events: BTreeMap<String, IngestReport>,
    /// The number of rows of the files of each source that no event was made of.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    left_out: BTreeMap<String, u64>,
    requests: usize,
    /// Number of rows that the endpoint answered, by release.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    predictions: BTreeMap<String, usize>,
    /// How often each status was answered, by feature.
    status: BTreeMap<String, BTreeMap<String, usize>>,
    /// Number of answered rows with a value from after the request. It must be 0.
    from_the_future: usize,
    seconds: f64,
}

impl Replay {
    pub(crate) fn run(self, context: &CommandContext) -> Result<ExitCode> {
        ensure!(self.from < self.to, "--from is not before --to");
        let History { moments, left_out } = self.history(context)?;
        let left_out = left_out.into_iter();
        let left_out = left_out.map(|(source, rows)| (source, rows.places.len() as u64));
        let mut summary = Summary {
            from: self.from,
            to: self.to,
            left_out: left_out.collect(),
            ..Summary::default()
        };
        let endpoint = self.endpoint.as_ref();
        let endpoint = endpoint
            .map(|name| self.inference_target(name))
            .transpose()?;
        let started = Instant::now();
        for (time, moment) in moments {
            self.play(time, moment, endpoint.as_ref(), &mut summary)?;
        }
        summary.seconds = started.elapsed().as_secs_f64();
        context.format.print(&summary, || text(&summary));
        ensure!(
            summary.from_the_future == 0,
            "{} answers have values from after their request",
            summary.from_the_future
        );
        Ok(ExitCode::SUCCESS)
    }

    /// Gathers the events and requests of the interval.
    fn history(&self, context: &CommandContext) -> Result<History> {
        let interval = Interval {
            from: self.from,
            to: self.to,
        };
        let project = context.project()?;
        let platform = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(app::open_to_read(&project, None))
        })?;
        let definitions = platform.context().definitions();
        let mut history = History::default();
        // Pipelines of a source that share a function, or have none, read the same events, which
        // are pushed once.
        let mut played = BTreeSet::new();
        for (name, pipeline) in &definitions.pipelines {
            let source = &definitions.sources[&pipeline.source];
            if !source.kind.takes_events() || source.files.is_none() {
                continue;
            }
            if !played.insert((&pipeline.source, pipeline.made_by.function())) {
                continue;
            }
            let past = platform.pipelines().sources().past_events(name, interval)?;
            history.add(&pipeline.source, past);
        }
        history.say_left_out();
        let view = definitions
            .views
            .get(&self.view)
            .with_context(|| format!("there is no feature view `{}`", self.view))?;
        for (time, request) in self.requests(&view.inputs)? {
            if interval.contains(time) {
                let moment = history.moments.entry(time).or_default();
                moment.requests.push(request);
            }
        }
        Ok(history)
    }

    /// Reads the file of requests, and returns each row with its time.
    fn requests(&self, inputs: &[Field]) -> Result<Vec<(Timestamp, Json)>> {
        let mut fields = inputs.to_vec();
        match fields.iter_mut().find(|f| f.name == self.time) {
            Some(field) => {
                ensure!(
                    field.data_type == DataType::Timestamp,
                    "--time: field `{}` of the view is {}",
                    self.time,
                    field.data_type
                );
                // A request without it would have no moment.
                field.nullable = false;
            }
            None => fields.push(Field::new(&self.time, DataType::Timestamp, false)),
        }
        let schema = Schema::new(fields)?;
        let file = SourceDef::of_files(self.requests.clone().into());
        let mut requests = Vec::new();
        SourceReader::open(&file, "requests", schema.fields(), &app::remote_files())?
            .for_each_row(|columns, row| {
                let cells = schema.fields().iter().zip(columns);
                let mut object: serde_json::Map<String, Json> = cells
                    .map(|(field, column)| (field.name.clone(), cell_to_json(column, row)))
                    .collect();
                let time = object.get(&self.time).and_then(Json::as_str);
                let time = time.and_then(|text| text.parse().ok());
                let time = time.expect("a row without a time is refused, and times are written so");
                if !inputs.iter().any(|f| f.name == self.time) {
                    object.remove(&self.time);
                }
                requests.push((time, Json::Object(object)));
            })?;
        Ok(requests)
    }

    fn server(&self) -> &str {
        self.server.trim_end_matches('/')
    }

    /// Gets the metadata of an endpoint.
    fn inference_target(&self, endpoint: &str) -> Result<InferenceTarget> {
        let url = format!("{}/v2/models/{endpoint}", self.server());
        let metadata: Json = http::get(&url)?;
        let inputs = metadata["inputs"].as_array().cloned();
        Ok(InferenceTarget {
            inputs: inputs.with_context(|| format!("the answer of {url} has no inputs"))?,
            url: format!("{url}/infer"),
        })
    }

    /// Replays one moment.
    fn play(
        &self,
        time: Timestamp,
        moment: Moment,
        endpoint: Option<&InferenceTarget>,
        summary: &mut Summary,
    ) -> Result<()> {
        let server = self.server();
        let _: Json = http::post(
            &format!("{server}/v1/clock"),
            "application/json",
            &serde_json::to_vec(&json!({ "now": time }))?,
        )?;
        for (source, events) in moment.events {
            let body: Vec<u8> = events
                .iter()
                .flat_map(|e| format!("{e}\n").into_bytes())
                .collect();
            let report: IngestReport = http::post(
                &format!("{server}/v1/sources/{source}/events"),
                "application/x-ndjson",
                &body,
            )?;
            let total = summary.events.entry(source).or_default();
            total.extend(report);
        }
        if moment.requests.is_empty() {
            return Ok(());
        }
        summary.requests += moment.requests.len();
        if let Some(endpoint) = endpoint {
            endpoint.ask(&moment.requests, summary)?;
        }
        let body = serde_json::to_vec(&json!({ "rows": moment.requests }))?;
        let answer: Json = http::post(
            &format!("{server}/v1/views/{}/features", self.view),
            "application/json",
            &body,
        )?;
        for row in answer["rows"]
            .as_array()
            .context("the answer of the server has no rows")?
        {
            for (feature, status) in row["status"].as_object().into_iter().flatten() {
                let status = status.as_str().unwrap_or_default().to_owned();
                *summary
                    .status
                    .entry(feature.clone())
                    .or_default()
                    .entry(status)
                    .or_default() += 1;
            }
            let times = row["event_timestamp"].as_object().into_iter().flatten();
            let late = times
                .filter_map(|(_, t)| t.as_str()?.parse::<Timestamp>().ok())
                .any(|t| t > time);
            summary.from_the_future += usize::from(late);
        }
        Ok(())
    }
}

impl History {
    /// Adds the events of a source for one of the functions over it.
    fn add(&mut self, source: &str, past: PastEvents) {
        for event in past.events {
            let moment = self.moments.entry(event.time).or_default();
            let events = moment.events.entry(source.to_owned()).or_default();
            events.push(event.payload);
        }
        if let Some(first) = past.reject {
            let left_out = self.left_out.entry(source.to_owned()).or_default();
            left_out.places.extend(past.rejected);
            left_out.first.get_or_insert(first);
        }
    }

    /// Says which rows of the sources are not events.
    fn say_left_out(&self) {
        for (source, LeftOut { places, first }) in &self.left_out {
            if let Some(Reject { place, message }) = first {
                say(format!(
                    "source `{source}`: rows that cannot be read or are refused are left out: {}; \
                     the first: {place}: {message}",
                    thousands(places.len() as u64)
                ));
            }
        }
    }
}

impl InferenceTarget {
    /// Asks the endpoint for predictions, and counts which release answered.
    fn ask(&self, rows: &[Json], summary: &mut Summary) -> Result<()> {
        let input = |input: &Json| {
            let name = input["name"].as_str().unwrap_or_default();
            let data: Vec<&Json> = rows.iter().map(|row| &row[name]).collect();
            json!({ "name": name, "datatype": input["datatype"], "shape": [rows.len()], "data": data })
        };
        let inputs: Vec<Json> = self.inputs.iter().map(input).collect();
        let body = serde_json::to_vec(&json!({ "inputs": inputs }))?;
        let answer: Json = http::post(&self.url, "application/json", &body)?;
        let mut count = |release: &str, rows: usize| {
            *summary.predictions.entry(release.to_owned()).or_default() += rows;
        };
        // `versions` is given only if several releases answered: then it has one for each row.
        match answer["parameters"]["versions"].as_str() {
            Some(releases) => releases.split(',').for_each(|release| count(release, 1)),
            None => count(
                answer["model_version"].as_str().unwrap_or_default(),
                rows.len(),
            ),
        }
        Ok(())
    }
}

fn text(summary: &Summary) -> String {
    let mut text = format!(
        "lived through {} to {} in {:.1} s\n",
        summary.from, summary.to, summary.seconds
    );
    for (source, report) in &summary.events {
        text += &format!(
            "events of `{source}`: {} accepted, {} already known, {} rejected\n",
            thousands(report.accepted as u64),
            thousands(report.duplicate as u64),
            thousands(report.rejected as u64)
        );
    }
    for (source, rows) in &summary.left_out {
        text += &format!("rows of `{source}` left out: {}\n", thousands(*rows));
    }
    text += &format!(
        "requests: {}, {} with anything from after their time\n",
        thousands(summary.requests as u64),
        summary.from_the_future
    );
    for (release, rows) in &summary.predictions {
        text += &format!("predictions of `{release}`: {}\n", thousands(*rows as u64));
    }
    let statuses = ["present", "null", "not_found", "expired", "error"];
    let rows: Vec<_> = summary
        .status
        .iter()
        .map(|(feature, counts)| {
            let count = |status: &&str| counts.get(*status).copied().unwrap_or(0).to_string();
            std::iter::once(feature.clone())
                .chain(statuses.iter().map(count))
                .collect()
        })
        .collect();
    let header: Vec<&str> = std::iter::once("feature").chain(statuses).collect();
    text + &table(&header, &rows)
}
