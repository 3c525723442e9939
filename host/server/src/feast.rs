//! The wire format of Feast's feature server, as the remote online store of Feast 0.67 speaks it:
//! <https://docs.feast.dev/reference/online-stores/remote>. A client of Feast uses this server when
//! its configuration has `online_store: {type: remote, path: URL}`.
//!
//! Feast's terms map to Wafer's as follows. A feature view of Feast is a feature group, or a
//! feature view with its request fields and functions. A feature service is a feature view; its
//! lookups take the place of the feature views of a service. A push source is a stream source.
//! Among values, times are whole seconds since 1970; event timestamps are written as in RFC 3339.
//!
//! Rows that are written to a group bypass its pipeline: they are stored in the same way as events,
//! but no function is called.

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

/// The event timestamp of a value that has none, such as a join key.
const NEVER: &str = "1970-01-01T00:00:00Z";

/// Columns that a data frame of Feast may have beside those of the group.
const EVENT_TIME: &str = "event_timestamp";
const CREATED_TIME: &str = "created";

/// Returns the routes of Feast's feature server.
pub(crate) fn router() -> Router<Arc<Platform>> {
    Router::new()
        .route("/get-online-features", post(online_features))
        .route("/write-to-online-store", post(write))
        .route("/push", post(push))
        .route("/health", get(|| async { StatusCode::OK }))
}

/// The body of a request for features.
#[derive(Deserialize)]
struct OnlineFeaturesRequest {
    entities: Map<String, Json>,
    #[serde(default)]
    features: Vec<String>,
    feature_service: Option<String>,
    #[serde(default)]
    full_feature_names: bool,
    #[serde(default)]
    include_feature_view_version_metadata: bool,
}

/// The answer to a request for features: a column for each name in the metadata.
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

/// The values of one feature or join key, for all entities of the request.
#[derive(Serialize)]
struct Column {
    values: Vec<Json>,
    statuses: Vec<&'static str>,
    event_timestamps: Vec<String>,
}

/// A feature that the request names.
struct Wanted {
    /// The group or view that the feature is taken from.
    set: SetName,
    /// Name of the feature in its group or view.
    feature: String,
    /// Name of the feature in the answer.
    answered: String,
}

/// The name of a group or view that features are taken from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SetName {
    /// The name of a group, or of a view if no group has the name.
    Any(String),
    /// The name of a view.
    View(String),
}

impl SetName {
    fn as_str(&self) -> &str {
        match self {
            Self::Any(name) | Self::View(name) => name,
        }
    }
}

/// The vectors of a group or view for all entities of the request.
struct Set {
    vectors: Vectors,
    /// The prefix of the features' names in the vectors.
    prefix: String,
    /// Names of the join keys and request fields that were read.
    inputs: Vec<String>,
    /// Version of the group; 0 for a view.
    version: u32,
}

/// Answers `POST /get-online-features`.
async fn online_features(
    State(platform): State<Arc<Platform>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Body<Answer>, Failure> {
    let request: OnlineFeaturesRequest = read(&body?)?;
    let rows = read_rows(&request.entities)?;
    let wanted = wanted(&platform, &request)?;
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
    for (name, values) in request
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
    if request.include_feature_view_version_metadata {
        let versions = sets.iter();
        answer.metadata.feature_view_metadata = versions
            .map(|(name, set)| json!({ "name": name.as_str(), "version": set.version }))
            .collect();
    }
    Ok(Body(answer))
}

/// Returns the features that the request names, by themselves or by a feature service.
fn wanted(platform: &Platform, request: &OnlineFeaturesRequest) -> Result<Vec<Wanted>, Failure> {
    let answered = |set: &str, feature: &str| match request.full_feature_names {
        true => format!("{set}__{feature}"),
        false => feature.to_owned(),
    };
    match (&request.feature_service, request.features.as_slice()) {
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
            "the request names neither `features` nor a `feature_service`",
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
            "the request names both `features` and a `feature_service`",
        )),
    }
}

impl Set {
    /// Looks up the features of all rows in a group or view.
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
            normalize_times(&mut rows, &timestamps(&group.keys));
            return Ok(Self {
                vectors: platform.serving().group_features(name, &rows).await?,
                prefix: format!("{name}_"),
                inputs: names(&group.keys),
                version: group.version,
            });
        }
        if matches!(set, SetName::Any(_)) && !definitions.views.contains_key(name) {
            // There is neither a group nor a view. This fails with a list of the groups.
            platform.serving().group_features(name, &rows).await?;
        }
        let recipe = platform.context().view(name)?;
        normalize_times(&mut rows, &timestamps(&recipe.view.inputs));
        Ok(Self {
            vectors: platform.serving().features(name, &rows).await?,
            prefix: String::new(),
            inputs: names(&recipe.view.inputs),
            version: 0,
        })
    }

    /// Returns a feature as a column of the answer, or `None` if there is no such feature.
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
    /// Adds a column.
    ///
    /// # Errors
    /// Returns an error when a column of this name exists already.
    fn add(&mut self, name: String, column: Column) -> Result<(), Failure> {
        if self.metadata.feature_names.contains(&name) {
            return Err(Failure::invalid(format!(
                "two features are called `{name}`; set full_feature_names"
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

/// Converts a time to the form that Feast uses for values: whole seconds since 1970.
fn seconds(time: &str) -> Json {
    let time: Result<Timestamp, _> = time.parse();
    time.map_or(Json::Null, |time| {
        time.as_micros().div_euclid(1_000_000).into()
    })
}

/// The body of a request that writes rows.
#[derive(Deserialize)]
struct Write {
    feature_view_name: String,
    df: Map<String, Json>,
}

/// Answers `POST /write-to-online-store`: writes rows of a group, given as columns with its join
/// keys, its features and `event_timestamp`.
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
        normalize_times(&mut rows, &times);
    }
    let report = platform
        .pipelines()
        .write_group(&group, events(&rows))
        .await?;
    written(&report)
}

/// Checks that the group has all columns of a data frame. Values of other columns would be lost
/// without notice.
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

/// The body of a request that pushes events.
#[derive(Deserialize)]
struct Push {
    push_source_name: String,
    df: Map<String, Json>,
    to: Option<String>,
}

/// Answers `POST /push`: accepts events of a stream source.
async fn push(
    State(platform): State<Arc<Platform>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Body<Json>, Failure> {
    let Push {
        push_source_name: source,
        df,
        to,
    } = read(&body?)?;
    // Events are always written to both stores, so all values of `to` have the same effect. Only
    // unknown ones are refused.
    let known = ["online", "offline", "online_and_offline"];
    if let Some(to) = to.filter(|to| !known.contains(&to.as_str())) {
        let message = format!("`to` is `{to}`; it is one of {}", known.join(", "));
        return Err(Failure::invalid(message));
    }
    let mut rows = rows(&df, "df")?;
    let definitions = platform.context().definitions();
    let pipelines = definitions.pipelines.values();
    let read: Vec<Field> = pipelines
        .filter(|pipeline| pipeline.source == source)
        .flat_map(|pipeline| {
            definitions
                .source_fields(&pipeline.made_by)
                .unwrap_or_default()
        })
        .collect();
    let times = timestamps(&read);
    normalize_times(&mut rows, &times);
    let report = platform
        .pipelines()
        .ingest(&source, events(&rows), Arrival::Now)
        .await?;
    written(&report)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|e| Failure::invalid(format!("the body is not a valid request: {e}")))
}

/// Returns the entities of a request as rows, and checks their number.
fn read_rows(columns: &Map<String, Json>) -> Result<Vec<Json>, Failure> {
    let rows = rows(columns, "entities")?;
    if rows.len() > MAX_ROWS {
        let message = format!(
            "{} rows are too many: a request has at most {MAX_ROWS}",
            rows.len()
        );
        return Err(Failure::invalid(message));
    }
    Ok(rows)
}

/// Converts columns to one JSON object for each row.
///
/// # Errors
/// Returns an error when a column is not a list, or when the lists differ in length.
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

/// Returns the names of the fields that hold times.
fn timestamps<'a>(fields: impl IntoIterator<Item = &'a Field>) -> BTreeSet<String> {
    let fields = fields.into_iter();
    let times = fields.filter(|field| field.data_type == DataType::Timestamp);
    times.map(|field| field.name.clone()).collect()
}

/// Converts the times in `rows` to RFC 3339. Feast sends times without a zone, which are in UTC, or
/// as whole seconds.
fn normalize_times(rows: &mut [Json], times: &BTreeSet<String>) {
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

/// Returns the answer to a write.
///
/// # Errors
/// Returns an error when a row was rejected. The other rows are stored nevertheless.
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
