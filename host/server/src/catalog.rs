//! `GET /v1/sources`, `/v1/groups`, `/v1/tables` and what is below them: what is defined, and some
//! rows of it.
//!
//! | route | what it returns |
//! | --- | --- |
//! | `/v1/sources`, `/v1/groups` | the live sources and groups |
//! | `/v1/sources/{source}`, `/v1/groups/{group}` | one, with its columns and what uses it |
//! | `/v1/tables` | the offline tables with their sizes |
//! | `/v1/sources/{source}/rows`, and the same of `groups`, `views` and `tables` | some rows |
//!
//! The parameters of the last are those of `wafer show`: `limit`, `columns` and `where`, which may
//! be repeated. The answer is JSON, or what `Accept` names of the formats of training sets. In
//! JSON, `left_out` names the columns that are not shown, with the reasons: those of a view that
//! only a request knows, and those of files that Wafer cannot read.
//!
//! Few requests show rows at a time, and each of them reads a limited number of rows. One whose
//! client has left is given up; what a thread still reads for it then holds its place and what it
//! takes.

use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json as JsonBody;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Extension, Router};
use serde_json::{Value as Json, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use wafer_core::Condition;
use wafer_platform::{
    CopyRoom, Format, GroupSummary, MAX_SEARCHED_ROWS, MAX_SHOWN_BYTES, Platform, ShowBounds,
    ShowRequest, ShowTarget, ShownRows, SourceSummary, temporary_folder,
};

use crate::error::Failure;
use crate::extract::{Path, Query};
use crate::intake::{Intake, charged, temporary_file_error};
use crate::limits::Charge;
use crate::media_type::answer_format;

/// The number of rows that are returned when no `limit` is given.
const DEFAULT_ROWS: usize = 20;

/// The memory that a request may take, in bytes: for the rows, and for the answer that is made of
/// them.
const MEMORY: u64 = 2 * MAX_SHOWN_BYTES as u64;

/// Limits how many requests show rows at the same time, because each reads files and holds its
/// rows in memory.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Returns the routes of this file.
pub(crate) fn router() -> Router<Arc<Platform>> {
    Router::new()
        .route("/v1/sources", get(sources))
        .route("/v1/sources/{source}", get(source))
        .route("/v1/sources/{source}/rows", rows_of(ShowTarget::Source))
        .route("/v1/groups", get(groups))
        .route("/v1/groups/{group}", get(group))
        .route("/v1/groups/{group}/rows", rows_of(ShowTarget::Group))
        .route("/v1/views/{view}/rows", rows_of(ShowTarget::View))
        .route("/v1/tables", get(tables))
        .route("/v1/tables/{table}/rows", rows_of(ShowTarget::Table))
}

async fn sources(State(platform): State<Arc<Platform>>) -> JsonBody<Json> {
    JsonBody(json!({ "sources": platform.sources() }))
}

async fn source(
    State(platform): State<Arc<Platform>>,
    Path(name): Path<String>,
) -> Result<JsonBody<SourceSummary>, Failure> {
    Ok(JsonBody(platform.source(&name)?))
}

async fn groups(State(platform): State<Arc<Platform>>) -> JsonBody<Json> {
    JsonBody(json!({ "groups": platform.groups() }))
}

async fn group(
    State(platform): State<Arc<Platform>>,
    Path(name): Path<String>,
) -> Result<JsonBody<GroupSummary>, Failure> {
    Ok(JsonBody(platform.group(&name)?))
}

async fn tables(State(platform): State<Arc<Platform>>) -> Result<JsonBody<Json>, Failure> {
    let tables = platform.pipelines().upkeep().tables().await?;
    Ok(JsonBody(json!({ "tables": tables })))
}

/// The parameters of a query, in their order.
type Parameters = Vec<(String, String)>;

/// Returns the route to the rows of what `at` makes of a name.
fn rows_of(at: fn(String) -> ShowTarget) -> MethodRouter<Arc<Platform>> {
    get(
        async move |State(platform): State<Arc<Platform>>,
                    Path(name): Path<String>,
                    Query(parameters): Query<Parameters>,
                    Extension(intake): Extension<Arc<Intake>>,
                    headers: HeaderMap| {
            rows(platform, &intake, at(name), parameters, &headers).await
        },
    )
}

/// What the work for a request that shows rows takes.
#[derive(Debug)]
struct ShowResources {
    _place: SemaphorePermit<'static>,
    _memory: Arc<Charge>,
    /// The disk of the copy of a remote file that is read.
    disk: Mutex<Charge>,
}

impl CopyRoom for ShowResources {
    fn copy(&self, bytes: u64) -> wafer_platform::Result<()> {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.raise(bytes).map_err(Into::into)
    }
}

/// Returns some rows, as JSON or in the format that `Accept` names.
async fn rows(
    platform: Arc<Platform>,
    intake: &Intake,
    at: ShowTarget,
    parameters: Parameters,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let mut request = show_request(parameters)?;
    let format = row_format(headers)?;
    let place = AT_ONCE
        .try_acquire()
        .map_err(|_| Failure::busy("too many requests show rows already; try again later"))?;
    let mut charge = intake.charge();
    charge.raise(MEMORY)?;
    let charge = Arc::new(charge);
    let resources: Arc<dyn CopyRoom> = Arc::new(ShowResources {
        _place: place,
        _memory: Arc::clone(&charge),
        disk: Mutex::new(intake.charge_of_disk()),
    });
    request.bounds.copies = Some(Arc::clone(&resources));
    let media_type = format.map_or("application/json", Format::media_type);
    let shown = platform.show(at, &request).await?;
    let encoding = tokio::task::spawn_blocking(move || {
        let _resources = resources;
        match format {
            None => Ok(serde_json::to_vec(&shown).expect("rows always serialise")),
            Some(format) => written(&shown, format),
        }
    });
    let bytes = encoding.await.map_err(|_| Failure::panicked())??;
    let response = ([(CONTENT_TYPE, media_type)], bytes).into_response();
    Ok(charged(response, charge))
}

/// Reads the parameters of a query.
fn show_request(parameters: Vec<(String, String)>) -> Result<ShowRequest, Failure> {
    let mut request = ShowRequest {
        conditions: Vec::new(),
        columns: None,
        limit: DEFAULT_ROWS,
        bounds: ShowBounds {
            rows: Some(MAX_SEARCHED_ROWS),
            copies: None,
        },
    };
    for (name, value) in parameters {
        match name.as_str() {
            "limit" => {
                let wrong =
                    |_| Failure::invalid(format!("limit: `{value}` is not a number of rows"));
                request.limit = value.parse().map_err(wrong)?;
            }
            "columns" => {
                let columns = value.split(',').map(|name| name.trim().to_owned());
                request.columns.get_or_insert_default().extend(columns);
            }
            "where" => {
                let condition = value.parse::<Condition>();
                let wrong = |message: String| Failure::invalid(format!("where: {message}"));
                request.conditions.push(condition.map_err(wrong)?);
            }
            other => {
                return Err(Failure::invalid(format!(
                    "there is no parameter `{other}`; rows are chosen by limit, columns and where"
                )));
            }
        }
    }
    Ok(request)
}

/// Returns the format that `Accept` names, or `None` for JSON.
fn row_format(headers: &HeaderMap) -> Result<Option<Format>, Failure> {
    let wanted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let is_json = wanted.is_none_or(|wanted| {
        let mut media = wanted
            .split(',')
            .map(|media| media.split(';').next().unwrap_or_default());
        media.any(|media| ["application/json", "application/*", "*/*"].contains(&media.trim()))
    });
    match is_json {
        true => Ok(None),
        false => answer_format(headers).map(Some),
    }
}

/// Writes rows to a temporary file, and reads its bytes.
fn written(shown: &ShownRows, format: Format) -> Result<Vec<u8>, Failure> {
    let folder = temporary_folder()?;
    let path = folder.path().join("rows");
    let file = File::create(&path).map_err(temporary_file_error)?;
    shown.write(file, "the answer", format)?;
    std::fs::read(&path).map_err(temporary_file_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &[(&str, &str)]) -> Vec<(String, String)> {
        let query = query.iter();
        query
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn parameters_choose_rows_and_columns() {
        let none = show_request(Vec::new()).unwrap();
        assert_eq!(
            (none.limit, none.columns, none.conditions.len()),
            (20, None, 0)
        );
        let all = parameters(&[
            ("limit", "5"),
            ("columns", "a, b"),
            ("columns", "c"),
            ("where", "a = 1"),
            ("where", "b is null"),
        ]);
        let all = show_request(all).unwrap();
        assert_eq!(all.limit, 5);
        assert_eq!(all.columns.unwrap(), ["a", "b", "c"]);
        assert_eq!(all.conditions.len(), 2);
        for (name, value, wanted) in [
            ("limit", "-1", "limit: `-1` is not a number of rows"),
            ("limit", "", "limit: `` is not a number of rows"),
            ("where", "a", "where: `a` is not a condition"),
            ("order", "a", "there is no parameter `order`"),
        ] {
            let refused = show_request(parameters(&[(name, value)])).unwrap_err();
            let message = refused.into_message();
            assert!(message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn rows_are_json_unless_another_format_is_accepted() {
        for (accept, wanted) in [
            (None, Some(None)),
            (Some("*/*"), Some(None)),
            (Some("text/html, application/json;q=0.9"), Some(None)),
            (Some("text/csv"), Some(Some(Format::Csv))),
            (
                Some("application/vnd.apache.arrow.stream"),
                Some(Some(Format::ArrowStream)),
            ),
            (Some("image/png"), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(accept.map(|accept| (ACCEPT, accept.parse().unwrap())));
            assert_eq!(row_format(&headers).ok(), wanted, "{accept:?}");
        }
    }
}
