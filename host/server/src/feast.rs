//! The wire format of Feast's feature server, as the remote online store of Feast 0.67
//! speaks it (<https://docs.feast.dev/reference/online-stores/remote>): a client is pointed
//! here by its `online_store: {type: remote, path: URL}`.
//!
//! What Feast calls a feature view is a feature group here, or a feature view with its
//! request fields and functions; a feature service is a feature view, whose lookups are what
//! Feast has its feature views for; a push source is a stream. Times are whole seconds as
//! values, and RFC 3339 as event timestamps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json as Body;
use axum::Router;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::routing::{get, post};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use wafer_core::{DataType, Field, Timestamp, cell_to_json};
use wafer_platform::{
    Arrival, EventResult, GroupDef, IncomingEvent, IngestReport, Platform, Status, Vectors,
};

use crate::MAX_ROWS;
use crate::error::Failure;

/// Event timestamp of what has none.
const NEVER: &str = "1970-01-01T00:00:00Z";

/// Columns that every data frame of Feast's may have.
const EVENT_TIME: &str = "event_timestamp";
const CREATED_TIME: &str = "created";

pub(crate) fn router() -> Router<Arc<Platform>> {
    Router::new()
        .route("/get-online-features", post(online_features))
        .route("/write-to-online-store", post(write))
        .route("/push", post(push))
        .route("/health", get(|| async { StatusCode::OK }))
}

#[derive(Deserialize)]
struct Asked {
    entities: Map<String, Json>,
    #[serde(default)]
    features: Vec<String>,
    feature_service: Option<String>,
    #[serde(default)]
    full_feature_names: bool,
    #[serde(default)]
    include_feature_view_version_metadata: bool,
}

#[derive(Serialize)]
struct Answer {
    metadata: Metadata,
    results: Vec<Column>,
    status: bool,
}

#[derive(Serialize)]
struct Metadata {
    feature_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    feature_view_metadata: Vec<Json>,
}

/// One feature, or join key, of all entities.
#[derive(Serialize)]
struct Column {
    values: Vec<Json>,
    statuses: Vec<&'static str>,
    event_timestamps: Vec<String>,
}

/// A feature that is asked for.
struct Wanted {
    set: SetName,
    /// Its name in the set.
    feature: String,
    /// Its name in the answer.
    answered: String,
}

/// What features are taken from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SetName {
    /// A group, or a view where there is no group of that name.
    Any(String),
    /// A view.
    View(String),
}

impl SetName {
    fn as_str(&self) -> &str {
        match self {
            Self::Any(name) | Self::View(name) => name,
        }
    }
}

/// A group or a view with what was looked up in it.
struct Set {
    vectors: Vectors,
    /// What the vectors' names have before those of the features.
    prefix: String,
    /// Join keys and request fields.
    inputs: Vec<String>,
    version: u32,
}

async fn online_features(
    State(platform): State<Arc<Platform>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Body<Answer>, Failure> {
    let asked: Asked = read(&body?)?;
    let rows = read_rows(&asked.entities)?;
    let wanted = wanted(&platform, &asked)?;
    let mut sets: BTreeMap<&SetName, Set> = BTreeMap::new();
    for Wanted { set, .. } in &wanted {
        if !sets.contains_key(set) {
            sets.insert(set, Set::look_up(&platform, set, rows.clone()).await?);
        }
    }
    let mut answer = Answer {
        metadata: Metadata {
            feature_names: Vec::new(),
            feature_view_metadata: Vec::new(),
        },
        results: Vec::new(),
        status: true,
    };
    let read: BTreeSet<&String> = sets.values().flat_map(|set| &set.inputs).collect();
    for (name, values) in asked
        .entities
        .iter()
        .filter(|(name, _)| read.contains(name))
    {
        let values = values.as_array().cloned().unwrap_or_default();
        answer.add(
            name.clone(),
            Column {
                statuses: vec!["PRESENT"; values.len()],
                event_timestamps: vec![NEVER.to_owned(); values.len()],
                values,
            },
        )?;
    }
    for wanted in &wanted {
        let column = sets[&wanted.set].column(&wanted.feature).ok_or_else(|| {
            let (set, feature) = (wanted.set.as_str(), &wanted.feature);
            let message = format!("`{set}` has no feature `{feature}`");
            Failure::new(StatusCode::NOT_FOUND, "not_found", message)
        })?;
        answer.add(wanted.answered.clone(), column)?;
    }
    if asked.include_feature_view_version_metadata {
        let versions = sets.iter();
        answer.metadata.feature_view_metadata = versions
            .map(|(name, set)| json!({ "name": name.as_str(), "version": set.version }))
            .collect();
    }
    Ok(Body(answer))
}

/// The features that are asked for.
fn wanted(platform: &Platform, asked: &Asked) -> Result<Vec<Wanted>, Failure> {
    let answered = |set: &str, feature: &str| match asked.full_feature_names {
        true => format!("{set}__{feature}"),
        false => feature.to_owned(),
    };
    match (&asked.feature_service, asked.features.as_slice()) {
        (Some(view), []) => {
            let recipe = platform.context().view(view)?;
            let features = recipe.outputs().into_iter().zip(recipe.aliases());
            let features = features.map(|(field, alias)| {
                let set = alias.unwrap_or(view);
                let own = alias.and_then(|alias| field.name.strip_prefix(alias)?.strip_prefix('_'));
                Wanted {
                    answered: answered(set, own.unwrap_or(&field.name)),
                    set: SetName::View(view.clone()),
                    feature: field.name,
                }
            });
            Ok(features.collect())
        }
        (None, []) => Err(Failure::invalid(
            "neither `features` nor a `feature_service` is asked for",
        )),
        (None, features) => features
            .iter()
            .map(|feature| match feature.split_once(':') {
                Some((set, feature)) => Ok(Wanted {
                    set: SetName::Any(set.to_owned()),
                    feature: feature.to_owned(),
                    answered: answered(set, feature),
                }),
                None => {
                    let message = format!("feature `{feature}` is not GROUP:FEATURE");
                    Err(Failure::invalid(message))
                }
            })
            .collect(),
        (Some(_), _) => Err(Failure::invalid(
            "both `features` and a `feature_service` are asked for",
        )),
    }
}

impl Set {
    async fn look_up(
        platform: &Platform,
        set: &SetName,
        mut rows: Vec<Json>,
    ) -> Result<Self, Failure> {
        let definitions = platform.context().definitions();
        let names = |fields: &[Field]| fields.iter().map(|f| f.name.clone()).collect();
        let name = set.as_str();
        let group = definitions.groups.get(name);
        if let (SetName::Any(_), Some(group)) = (set, group) {
            with_zones(&mut rows, &timestamps(&group.keys));
            return Ok(Self {
                vectors: platform.serving().group_features(name, &rows).await?,
                prefix: format!("{name}_"),
                inputs: names(&group.keys),
                version: group.version,
            });
        }
        if matches!(set, SetName::Any(_)) && !definitions.views.contains_key(name) {
            // Says which groups there are.
            platform.serving().group_features(name, &rows).await?;
        }
        let recipe = platform.context().view(name)?;
        with_zones(&mut rows, &timestamps(&recipe.view.inputs));
        Ok(Self {
            vectors: platform.serving().features(name, &rows).await?,
            prefix: String::new(),
            inputs: names(&recipe.view.inputs),
            version: 0,
        })
    }

    fn column(&self, feature: &str) -> Option<Column> {
        let name = format!("{}{feature}", self.prefix);
        let values = self.vectors.column(&name)?;
        let statuses = self.vectors.status(&name)?;
        let is_time = DataType::Timestamp.to_arrow() == *values.data_type();
        let value = |row: usize| match cell_to_json(values, row) {
            Json::String(time) if is_time => seconds(&time),
            value => value,
        };
        let time = |row: usize| {
            let time = self.vectors.event_time(&name, row);
            time.map_or_else(|| NEVER.to_owned(), |time| time.to_string())
        };
        Some(Column {
            values: (0..statuses.len()).map(value).collect(),
            statuses: statuses.iter().map(|status| status_text(*status)).collect(),
            event_timestamps: (0..statuses.len()).map(time).collect(),
        })
    }
}

impl Answer {
    fn add(&mut self, name: String, column: Column) -> Result<(), Failure> {
        if self.metadata.feature_names.contains(&name) {
            return Err(Failure::invalid(format!(
                "two features are called `{name}`; ask with full_feature_names"
            )));
        }
        self.metadata.feature_names.push(name);
        self.results.push(column);
        Ok(())
    }
}

fn status_text(status: Status) -> &'static str {
    match status {
        Status::Present => "PRESENT",
        Status::Null => "NULL_VALUE",
        Status::NotFound => "NOT_FOUND",
        Status::Expired => "OUTSIDE_MAX_AGE",
        Status::Error => "INVALID",
    }
}

/// A time as Feast has it among values.
fn seconds(time: &str) -> Json {
    let time: Result<Timestamp, _> = time.parse();
    time.map_or(Json::Null, |time| {
        time.as_micros().div_euclid(1_000_000).into()
    })
}

#[derive(Deserialize)]
struct Write {
    feature_view_name: String,
    df: Map<String, Json>,
}

/// Rows of a group, by its join keys, its features, and `event_timestamp`.
async fn write(
    State(platform): State<Arc<Platform>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Body<Json>, Failure> {
    let Write {
        feature_view_name: group,
        df,
    } = read(&body?)?;
    let mut rows = rows(&df, "df")?;
    if let Some(definition) = platform.context().definitions().groups.get(&group) {
        check_columns(definition, &df)?;
        let fields = definition.columns.iter().chain(&definition.keys);
        let mut times = timestamps(fields);
        times.insert(definition.event_time.clone());
        for row in rows.iter_mut().filter_map(Json::as_object_mut) {
            if let Some(time) = row.remove(EVENT_TIME) {
                row.insert(definition.event_time.clone(), time);
            }
        }
        with_zones(&mut rows, &times);
    }
    let report = platform
        .pipelines()
        .write_group(&group, events(&rows))
        .await?;
    written(&report)
}

/// Refuses columns that a group has not: they would be lost.
fn check_columns(group: &GroupDef, df: &Map<String, Json>) -> Result<(), Failure> {
    let fields = group.keys.iter().chain(&group.columns);
    let mut known: Vec<&str> = fields.map(|field| field.name.as_str()).collect();
    known.extend([group.event_time.as_str(), EVENT_TIME, CREATED_TIME]);
    let Some(column) = df.keys().find(|name| !known.contains(&name.as_str())) else {
        return Ok(());
    };
    let message = format!(
        "group `{}` has no column `{column}`; it has {}",
        group.name,
        known.join(", ")
    );
    Err(Failure::invalid(message))
}

#[derive(Deserialize)]
struct Push {
    push_source_name: String,
    df: Map<String, Json>,
    to: Option<String>,
}

/// Events of a stream.
async fn push(
    State(platform): State<Arc<Platform>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Body<Json>, Failure> {
    let Push {
        push_source_name: source,
        df,
        to,
    } = read(&body?)?;
    // What is pushed is in both stores; there is nothing that is in one of them alone.
    let known = ["online", "offline", "online_and_offline"];
    if let Some(to) = to.filter(|to| !known.contains(&to.as_str())) {
        let message = format!("`to` is `{to}`; it is one of {}", known.join(", "));
        return Err(Failure::invalid(message));
    }
    let mut rows = rows(&df, "df")?;
    let definitions = platform.context().definitions();
    let pipelines = definitions.pipelines.values();
    let read = pipelines
        .filter(|pipeline| pipeline.source == source)
        .filter_map(|pipeline| definitions.functions.get(pipeline.made_by.function()?))
        .flat_map(|function| function.registered.signature.inputs.fields());
    let times = timestamps(read);
    with_zones(&mut rows, &times);
    let report = platform
        .pipelines()
        .ingest(&source, events(&rows), Arrival::Now)
        .await?;
    written(&report)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|e| Failure::invalid(format!("the body is no such request: {e}")))
}

/// The rows that are asked for.
fn read_rows(columns: &Map<String, Json>) -> Result<Vec<Json>, Failure> {
    let rows = rows(columns, "entities")?;
    if rows.len() > MAX_ROWS {
        let message = format!("{} rows; a request has at most {MAX_ROWS}", rows.len());
        return Err(Failure::invalid(message));
    }
    Ok(rows)
}

/// Columns as objects, one for each row.
fn rows(columns: &Map<String, Json>, what: &str) -> Result<Vec<Json>, Failure> {
    let mut count = None;
    let mut lists = Vec::new();
    for (name, values) in columns {
        let values = values.as_array().ok_or_else(|| {
            Failure::invalid(format!(
                "`{what}.{name}` is not a list with a value for each row"
            ))
        })?;
        let (first, rows) = *count.get_or_insert((name, values.len()));
        if rows != values.len() {
            return Err(Failure::invalid(format!(
                "`{what}.{name}` has {} values, and `{what}.{first}` has {rows}",
                values.len()
            )));
        }
        lists.push((name, values));
    }
    let rows = count.map_or(0, |(_, rows)| rows);
    let row = |row: usize| {
        let cells = lists.iter();
        let cells: Map<String, Json> = cells
            .map(|(name, values)| ((*name).clone(), values[row].clone()))
            .collect();
        Json::Object(cells)
    };
    Ok((0..rows).map(row).collect())
}

fn timestamps<'a>(fields: impl IntoIterator<Item = &'a Field>) -> BTreeSet<String> {
    let fields = fields.into_iter();
    let times = fields.filter(|field| field.data_type == DataType::Timestamp);
    times.map(|field| field.name.clone()).collect()
}

/// Feast sends times without a zone, which are in UTC, and as whole seconds.
fn with_zones(rows: &mut [Json], times: &BTreeSet<String>) {
    let rows = rows.iter_mut().filter_map(Json::as_object_mut);
    let cells = rows.flat_map(|row| row.iter_mut());
    for (_, value) in cells.filter(|(name, _)| times.contains(*name)) {
        let time = match &*value {
            Json::String(text) if text.parse::<Timestamp>().is_err() => {
                format!("{}Z", text.replacen(' ', "T", 1)).parse().ok()
            }
            Json::Number(number) => number
                .as_i64()
                .and_then(|seconds| seconds.checked_mul(1_000_000))
                .map(Timestamp::from_micros),
            _ => None,
        };
        if let Some(time) = time {
            *value = Json::String(time.to_string());
        }
    }
}

fn events(rows: &[Json]) -> Vec<IncomingEvent> {
    let events = rows.iter();
    events
        .map(|row| IncomingEvent::from_json(row.to_string().as_bytes()))
        .collect()
}

/// An error if any row was refused: others are stored.
fn written(report: &IngestReport) -> Result<Body<Json>, Failure> {
    let refused = report.events.iter().enumerate();
    let refused: Vec<String> = refused
        .filter_map(|(row, event)| match event {
            EventResult::Rejected { error } => Some(format!("row {row}: {error}")),
            _ => None,
        })
        .collect();
    match refused.first() {
        None => Ok(Body(Json::Null)),
        Some(first) => Err(Failure::invalid(format!(
            "{} of {} rows were refused, the others are stored; {first}",
            refused.len(),
            report.events.len()
        ))),
    }
}
