//! `POST /v1/views/{view}/training-set`: makes a training set of the labels in the body.
//!
//! The labels are Arrow, Parquet, CSV or NDJSON, as `Content-Type` says. The training set is returned in
//! the format that `Accept` names, by default as an Arrow stream. The header `wafer-training-set`
//! of the answer has the id of its record, and `wafer-coincident-labels` counts the labels that have the
//! time of an event that they are joined with, if there are any. Labels and result pass through temporary files, because
//! the join reads and writes files.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Semaphore;
use wafer_core::Timestamp;
use wafer_platform::{Format, Platform, Progress, Split, SplitBy, TrainingSetRequest};

use crate::error::Failure;

/// The greatest size of a body with labels, in bytes.
pub(crate) const MAX_LABEL_BYTES: usize = 256 << 20;
/// The memory that a join may use, in bytes.
const MEMORY: u64 = 512 << 20;
/// Limits how many training sets are made at the same time, because each holds its labels and its
/// result in memory.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// The query parameters, which have the meaning of the options of `wafer training-set`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// The column of the labels that holds their time.
    #[serde(default = "event_timestamp")]
    time: String,
    as_of: Option<Timestamp>,
    split: Option<String>,
    split_by: Option<String>,
    #[serde(default)]
    seed: u64,
}

fn event_timestamp() -> String {
    "event_timestamp".to_owned()
}

/// Answers a request for a training set.
pub(crate) async fn post(
    State(platform): State<Arc<Platform>>,
    Path(view): Path<String>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let _place = AT_ONCE.try_acquire().map_err(|_| {
        let message = "two training sets are being made already; try again later";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    })?;
    let labels = format_of(&headers, CONTENT_TYPE)?.extension();
    let format = format_of(&headers, ACCEPT)?;
    let folder = tempfile::tempdir().map_err(|e| temporary_file_error(&e))?;
    let (labels, out) = (
        folder.path().join(format!("labels.{labels}")),
        folder.path().join(format!("out.{}", format.extension())),
    );
    tokio::fs::write(&labels, body?)
        .await
        .map_err(|e| temporary_file_error(&e))?;
    let by = SplitBy::parse(options.split_by.as_deref().unwrap_or("row"));
    let split = options.split.as_deref();
    let split = split.map(|text| Split::parse(text, by, options.seed));
    let request = TrainingSetRequest {
        view,
        labels,
        time: options.time,
        out: out.clone(),
        as_of: options.as_of,
        memory: MEMORY,
        split: split.transpose().map_err(Failure::invalid)?,
    };
    let progress: Arc<dyn Progress> = Arc::new(());
    let set = platform
        .training()
        .training_set(&request, &progress)
        .await?;
    let bytes = tokio::fs::read(&out)
        .await
        .map_err(|e| temporary_file_error(&e))?;
    let headers = [
        (CONTENT_TYPE.as_str(), format.media_type().to_owned()),
        ("wafer-training-set", set.id.clone()),
    ];
    let mut response = (headers, bytes).into_response();
    if let Some(counts) = coincident_labels(&set.coincident) {
        response.headers_mut().insert(COINCIDENT, counts);
    }
    Ok(response)
}

/// The header with the number of labels that have the time of an event that they are joined with, for
/// each lookup that has such labels: `weather=12, rides=3`.
const COINCIDENT: &str = "wafer-coincident-labels";

fn coincident_labels(counts: &BTreeMap<String, u64>) -> Option<HeaderValue> {
    let counts = counts
        .iter()
        .map(|(lookup, labels)| format!("{lookup}={labels}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(counts)
        .ok()
        .filter(|counts| !counts.is_empty())
}

/// Returns the format that a header names by its media type. Without the header this is an Arrow
/// stream.
pub(crate) fn format_of(
    headers: &HeaderMap,
    name: axum::http::HeaderName,
) -> Result<Format, Failure> {
    let Some(value) = headers.get(&name) else {
        return Ok(Format::ALL[0]);
    };
    let wanted = value.to_str().unwrap_or_default();
    let media = wanted.split([';', ',']).next().unwrap_or_default().trim();
    if media == "*/*" {
        return Ok(Format::ALL[0]);
    }
    let mut formats = Format::ALL.into_iter();
    let found = formats.find(|format| format.media_type() == media);
    found.ok_or_else(|| {
        let known = Format::ALL.map(Format::media_type);
        let message = format!(
            "{name} `{wanted}`; labels and training sets are {}",
            known.join(", ")
        );
        Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            message,
        )
    })
}

fn temporary_file_error(error: &std::io::Error) -> Failure {
    let message = format!("a temporary file cannot be used: {error}");
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coincident_labels_are_counted_by_lookup_and_left_out_if_there_are_none() {
        assert_eq!(coincident_labels(&BTreeMap::new()), None);
        let counts = BTreeMap::from([("rides".to_owned(), 3), ("weather".to_owned(), 12)]);
        assert_eq!(coincident_labels(&counts).unwrap(), "rides=3, weather=12");
    }
}
