//! `POST /v1/views/{view}/training-set`: labels in (Arrow, Parquet or CSV by their
//! content type), the training set out (Arrow stream, or Parquet or CSV by `Accept`).
//! Its record is named in the header `wafer-training-set`.

use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Semaphore;
use wafer_core::Timestamp;
use wafer_platform::{Platform, Progress, Split, SplitBy, TrainingSetRequest};

use crate::error::Failure;

/// Largest body of labels.
pub(crate) const MAX_LABEL_BYTES: usize = 256 << 20;
/// Bytes of memory that a join may use.
const MEMORY: u64 = 512 << 20;
/// Training sets that are made at the same time; each holds its labels and its result.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

const FORMATS: [(&str, &str); 4] = [
    ("application/vnd.apache.arrow.stream", "arrows"),
    ("application/vnd.apache.arrow.file", "arrow"),
    ("application/vnd.apache.parquet", "parquet"),
    ("text/csv", "csv"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// Column of the labels' time.
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

pub(crate) async fn post(
    State(platform): State<Arc<Platform>>,
    Path(view): Path<String>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let _place = AT_ONCE.try_acquire().map_err(|_| {
        let message = "two training sets are being made; try again when they are done";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    })?;
    let (_, labels) = format_of(&headers, CONTENT_TYPE)?;
    let (media, out) = format_of(&headers, ACCEPT)?;
    let folder = tempfile::tempdir().map_err(|e| failed(&e))?;
    let (labels, out) = (
        folder.path().join(format!("labels.{labels}")),
        folder.path().join(format!("out.{out}")),
    );
    tokio::fs::write(&labels, body?)
        .await
        .map_err(|e| failed(&e))?;
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
    let bytes = tokio::fs::read(&out).await.map_err(|e| failed(&e))?;
    let headers = [
        (CONTENT_TYPE.as_str(), media.to_owned()),
        ("wafer-training-set", set.id),
    ];
    Ok((headers, bytes).into_response())
}

/// Media type and extension that a header asks for; without one, an Arrow stream.
fn format_of(
    headers: &HeaderMap,
    name: axum::http::HeaderName,
) -> Result<(&'static str, &'static str), Failure> {
    let Some(value) = headers.get(&name) else {
        return Ok(FORMATS[0]);
    };
    let wanted = value.to_str().unwrap_or_default();
    let media = wanted.split([';', ',']).next().unwrap_or_default().trim();
    if media == "*/*" {
        return Ok(FORMATS[0]);
    }
    let found = FORMATS.iter().find(|(known, _)| *known == media);
    found.copied().ok_or_else(|| {
        let known: Vec<&str> = FORMATS.iter().map(|(media, _)| *media).collect();
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

fn failed(error: &std::io::Error) -> Failure {
    let message = format!("a temporary file cannot be used: {error}");
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
}
