//! The wire format of Feast's feature server, as the remote online store of Feast 0.67 speaks it:
//! <https://docs.feast.dev/reference/online-stores/remote>. A client of Feast uses this server when
//! its configuration has `online_store: {type: remote, path: URL}`.
//!
//! Feast's terms map to Wafer's as follows. A feature view of Feast is a feature group, or a
//! feature view with its request fields and functions. A feature service is a feature view; its
//! lookups take the place of the feature views of a service. A push source is a stream source.
//! Among values, times are whole seconds since 1970; event timestamps are written as in RFC 3339.
//! Times that come in are in UTC unless they name a zone, except in columns of which a source
//! declares something else.
//!
//! Rows of a group have their event times as `event_timestamp` or in the column that the group has
//! them in, and rows of a source in the source's own column. If a data frame has both columns and
//! they differ in a row, the request is refused.
//!
//! Rows that are written to a group bypass its pipeline: they are stored in the same way as events,
//! but no function is called.
//!
//! A row whose content was sent before is a duplicate and changes nothing, so that a request may be
//! repeated. The answer to a write is `null`, or `{"duplicate": 2}` if rows of it were duplicates:
//! a client that meant to correct a row back to an earlier value learns of it. Feast's clients look
//! at the status alone.

mod features;
mod frame;
mod write;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use wafer_core::{DataType, Field};
use wafer_platform::{IncomingEvent, Platform};

use self::features::OnlineFeaturesRequest;
use self::frame::{EVENT_TIME, count_rows, event, read, row, rows_of};
use self::write::{Push, Write};
use crate::error::Failure;

pub(crate) use self::features::online_features;

/// Returns the routes of Feast's feature server that write.
pub(crate) fn router() -> Router<Arc<Platform>> {
    Router::new()
        .route("/write-to-online-store", post(write::write))
        .route("/push", post(write::push))
}

/// Answers `GET /health`.
pub(crate) async fn health() -> StatusCode {
    StatusCode::OK
}

/// Parses a body as each request of the protocol. Returns the rows of a write as events.
pub(crate) fn parsed(body: &[u8]) -> Result<Vec<IncomingEvent>, Failure> {
    if let Ok(OnlineFeaturesRequest { entities, .. }) = read(body) {
        let count = count_rows(&entities, "entities")?;
        let times = [Field::new(EVENT_TIME, DataType::Timestamp, true)];
        assert_eq!(rows_of(&entities, &times, count).len(), count);
        return Ok(Vec::new());
    }
    let df = match read(body) {
        Ok(Write { df, .. }) => df,
        Err(_) => read::<Push>(body)?.df,
    };
    let count = count_rows(&df, "df")?;
    let times = BTreeSet::from([EVENT_TIME.to_owned()]);
    let events = (0..count).map(|index| event(row(&df, index), &times));
    Ok(events.map(|(_, event)| event).collect())
}
