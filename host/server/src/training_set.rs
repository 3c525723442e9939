//! `POST /v1/views/{view}/training-set`: makes a training set of the labels in the body.
//!
//! The labels are Arrow, Parquet, CSV or NDJSON, as `Content-Type` says. The training set is
//! returned in the format that `Accept` names, by default as an Arrow stream. The header
//! `wafer-training-set` of the answer has the id of its record, and `wafer-coincident-labels`
//! counts the labels that have the time of an event that they are joined with, if there are any.
//! Labels and result pass through temporary files, because the join reads and writes files, and
//! neither is held in memory. What these files take is charged to the budget of disk before they
//! are written. Slow clients keep nobody from making one: a request takes one of the two places of
//! joins only between its labels and its answer. Making one can take long, so that it is given up
//! as soon as its client closes its side of the connection, which is all that can be seen of a
//! client that leaves.

use std::collections::BTreeMap;
use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::stream;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use wafer_core::{Timestamp, Zone};
use wafer_platform::{
    DiskRoom, Format, Platform, Progress, Split, SplitBy, TemporaryFolder, TrainingSet,
    TrainingSetRequest, column_types, temporary_folder,
};

use crate::connections::Client;
use crate::error::Failure;
use crate::extract::{Path, Query};
use crate::intake::{Intake, temporary_file_error};
use crate::limits::{Charge, Disk, allowance};
use crate::media_type::{answer_format, labels_format};

/// The greatest size of a body with labels, in bytes.
const MAX_LABEL_BYTES: usize = 256 << 20;
/// The most memory that a join may use, in bytes.
const MEMORY: u64 = 512 << 20;
/// The size of the pieces in which a training set is sent, in bytes.
const PIECE: usize = 64 << 10;
/// The number of requests whose labels come in, or whose training sets are made or sent, at the
/// same time. Each may have a file of labels and one with the result.
const OPEN_REQUESTS: usize = 32;
/// The places of these requests. Clients may be slow, and take only these.
static OPEN: Semaphore = Semaphore::const_new(OPEN_REQUESTS);
/// Limits how many training sets are made at the same time, because each keeps a processor and the
/// disk busy. A request has its place once its labels are there.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// The query parameters, which have the meaning of the options of `wafer training-set`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// The column of the labels that holds their time.
    #[serde(default = "event_timestamp")]
    time: String,
    as_of: Option<Timestamp>,
    types: Option<String>,
    zone: Option<Zone>,
    split: Option<String>,
    split_by: Option<String>,
    seed: Option<u64>,
}

impl Options {
    /// Returns how the rows are divided into parts.
    ///
    /// # Errors
    /// Returns status 400 for a text that is not a split, and for parameters of a split without
    /// one.
    fn split(&self) -> Result<Option<Split>, Failure> {
        let Some(text) = &self.split else {
            return match self.split_by.is_some() || self.seed.is_some() {
                true => Err(Failure::invalid(
                    "`split_by` and `seed` say how to divide rows, and nothing says into which parts; send \
                     `split` as well, such as train=0.8,test=0.2",
                )),
                false => Ok(None),
            };
        };
        let by = SplitBy::parse(self.split_by.as_deref().unwrap_or("row"));
        let split = Split::parse(text, by, self.seed.unwrap_or_default());
        split.map(Some).map_err(Failure::invalid)
    }
}

fn event_timestamp() -> String {
    "event_timestamp".to_owned()
}

/// Answers a request for a training set.
pub(crate) async fn post(
    State(platform): State<Arc<Platform>>,
    Extension(intake): Extension<Arc<Intake>>,
    client: Option<Extension<Client>>,
    Path(view): Path<String>,
    Query(options): Query<Options>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let open = OPEN.try_acquire().map_err(|_| {
        Failure::busy(format!(
            "{OPEN_REQUESTS} requests for training sets are open already; try again later"
        ))
    })?;
    if AT_ONCE.available_permits() == 0 {
        // Nobody sends labels for nothing, if that can be told before.
        return Err(two_are_made());
    }
    let (labels_format, format) = (labels_format(&headers)?, answer_format(&headers)?);
    let split = options.split()?;
    // It is dropped after the folder, so that no disk is given back that is still taken.
    let disk = intake.disk();
    let folder = temporary_folder()?;
    let file =
        |name: &str, format: Format| folder.path().join(format!("{name}.{}", format.extension()));
    let (labels, out) = (file("labels", labels_format), file("out", format));
    let sent = intake
        .receive_file(&headers, body, MAX_LABEL_BYTES, &labels, &disk)
        .await?;
    let place = intake.place_of_route(&AT_ONCE).await;
    let place = place.ok_or_else(two_are_made)?;
    let allowed = allowance(sent);
    // The other half is for what is not counted: batches that are read, made and encoded, and what
    // the allocator keeps for its threads.
    let memory = (allowed / 2).min(MEMORY);
    let mut charge = intake.charge();
    charge.raise(allowed.min(MEMORY))?;
    let types = column_types(options.types.as_deref().unwrap_or_default());
    let request = TrainingSetRequest {
        view,
        labels,
        labels_name: Some(format!("request body ({})", labels_format.extension())),
        time: options.time,
        types: types.map_err(Failure::invalid)?,
        zone: options.zone,
        out,
        as_of: options.as_of,
        memory,
        most_label_bytes: Some(allowed),
        room: Some(Arc::clone(&disk) as Arc<dyn DiskRoom>),
        split,
    };
    let progress: Arc<dyn Progress> = Arc::new(Making {
        _place: place,
        _charge: charge,
    });
    let set = make(&platform, &request, progress, client, &disk).await?;
    tokio::fs::remove_file(&request.labels)
        .await
        .map_err(temporary_file_error)?;
    answer(&set, &request.out, format, (folder, open, disk)).await
}

/// Makes a training set, unless its client leaves. An error names the files as the client knows
/// them.
async fn make(
    platform: &Platform,
    request: &TrainingSetRequest,
    progress: Arc<dyn Progress>,
    client: Option<Extension<Client>>,
    disk: &Disk,
) -> Result<TrainingSet, Failure> {
    let made = tokio::select! {
        made = platform.training().training_set(request, &progress) => made,
        () = closed_its_side(client) => return Err(Failure::given_up(
            "the client closed its side of the connection while its training set was made",
        )),
    };
    made.map_err(|error| {
        disk.take_refused().unwrap_or_else(|| {
            let failure = Failure::from(error).calling(&request.labels, "the labels");
            failure.calling(&request.out, "the training set")
        })
    })
}

/// Answers with a training set that was made, whose file is sent piece by piece.
async fn answer(
    set: &TrainingSet,
    out: &FilePath,
    format: Format,
    held: Held,
) -> Result<Response, Failure> {
    let disk = Arc::clone(&held.2);
    let (length, body) = file_body(out, held).await.map_err(temporary_file_error)?;
    disk.lower_to(length);
    let headers = [
        (CONTENT_TYPE, format.media_type().to_owned()),
        (CONTENT_LENGTH, length.to_string()),
        (
            HeaderName::from_static("wafer-training-set"),
            set.id.clone(),
        ),
    ];
    let mut response = (headers, body).into_response();
    if let Some(counts) = coincident_labels(&set.coincident) {
        response.headers_mut().insert(COINCIDENT, counts);
    }
    Ok(response)
}

/// Waits until a client has closed its side of the connection. One that is not connected to this
/// server never does.
async fn closed_its_side(client: Option<Extension<Client>>) {
    match client {
        Some(Extension(client)) => drop(client.closed_its_side().await),
        None => std::future::pending().await,
    }
}

/// What the making of a training set takes. The work that goes on for a while after its client has
/// left holds the progress that it reports to, and so this.
struct Making {
    _place: SemaphorePermit<'static>,
    _charge: Charge,
}

impl Progress for Making {
    fn read(&self, _rows: u64, _total: Option<u64>) {}

    fn stage(&self, _stage: &str) {}
}

fn two_are_made() -> Failure {
    Failure::busy("two training sets are being made already; try again later")
}

/// The header with the number of labels that have the time of an event that they are joined with,
/// for each lookup that has such labels: `weather=12, rides=3`.
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

/// What the sending of a training set takes: the folder with its file, which is removed before the
/// place of the request and the disk are given back.
type Held = (TemporaryFolder, SemaphorePermit<'static>, Arc<Disk>);

/// Returns the length of a file in a temporary folder, and a body that reads it piece by piece.
async fn file_body(path: &FilePath, held: Held) -> io::Result<(u64, Body)> {
    let file = File::open(path).await?;
    let length = file.metadata().await?.len();
    let pieces = stream::try_unfold((file, held), |(mut file, held)| async move {
        let mut piece = BytesMut::with_capacity(PIECE);
        file.read_buf(&mut piece).await?;
        let piece = (!piece.is_empty()).then(|| piece.freeze());
        io::Result::Ok(piece.map(|piece: Bytes| (piece, (file, held))))
    });
    Ok((length, Body::from_stream(pieces)))
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
