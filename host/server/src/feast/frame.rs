//! Data frames as Feast sends them: JSON objects of columns, with times in several forms.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};
use wafer_core::{DataType, Digest, Field, Timestamp};
use wafer_platform::IncomingEvent;

use crate::error::Failure;
use crate::json_size::parsed_size;

/// The column of event times, which a data frame may have beside those of the group.
pub(super) const EVENT_TIME: &str = "event_timestamp";

/// Parses the body of a request.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|e| Failure::invalid(format!("the body is not a valid request: {e}")))
}

/// Returns the number of rows in columns.
///
/// # Errors
/// Returns an error when a column is not a list, or when the lists differ in length.
pub(super) fn count_rows(columns: &Map<String, Json>, what: &str) -> Result<usize, Failure> {
    let mut count = None;
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
    }
    Ok(count.map_or(0, |(_, rows)| rows))
}

/// Returns a row of columns that [`count_rows`] has counted.
pub(super) fn row(columns: &Map<String, Json>, row: usize) -> Map<String, Json> {
    let cells = columns.iter();
    cells
        .map(|(name, values)| (name.clone(), values[row].clone()))
        .collect()
}

/// Returns rows with the given fields of columns, as far as there are such columns.
pub(super) fn rows_of(columns: &Map<String, Json>, fields: &[Field], count: usize) -> Vec<Json> {
    let times = timestamps(fields);
    let columns = fields
        .iter()
        .filter_map(|field| columns.get_key_value(&field.name));
    let columns: Vec<(&String, &Json)> = columns.collect();
    let row = |row: usize| {
        let cells = columns.iter();
        let cells = cells.map(|(name, values)| ((*name).clone(), values[row].clone()));
        let mut cells: Map<String, Json> = cells.collect();
        normalize_times(&mut cells, &times);
        Json::Object(cells)
    };
    (0..count).map(row).collect()
}

/// Returns the names of the fields that hold times.
pub(super) fn timestamps<'a>(fields: impl IntoIterator<Item = &'a Field>) -> BTreeSet<String> {
    let fields = fields.into_iter();
    let times = fields.filter(|field| field.data_type == DataType::Timestamp);
    times.map(|field| field.name.clone()).collect()
}

/// Converts the times in a row to RFC 3339. Feast sends times without a zone, which are in UTC, or
/// as whole seconds. A value that is not a time stays as it is, and is refused as in other events.
fn normalize_times(row: &mut Map<String, Json>, times: &BTreeSet<String>) {
    for (_, value) in row.iter_mut().filter(|(name, _)| times.contains(*name)) {
        let is_converted =
            matches!(&*value, Json::String(text) if text.parse::<Timestamp>().is_ok());
        if !is_converted && let Some(time) = feast_time(value) {
            *value = Json::String(time.to_string());
        }
    }
}

/// Returns the time that a value stands for, or `None` if it is not a time, or lies outside of the
/// years 1 to 9999, as milliseconds do that are read as seconds.
pub(super) fn feast_time(value: &Json) -> Option<Timestamp> {
    let time: Option<Timestamp> = match value {
        Json::String(text) => {
            let time = text.parse().ok();
            // A column of midnights is written as dates.
            let time = time.or_else(|| format!("{text}T00:00:00Z").parse().ok());
            time.or_else(|| format!("{}Z", text.replacen(' ', "T", 1)).parse().ok())
        }
        Json::Number(seconds) => {
            let micros = seconds.as_i64()?.checked_mul(1_000_000)?;
            Some(Timestamp::from_micros(micros))
        }
        _ => None,
    };
    time.filter(|time| time.is_storable())
}

/// Returns the event of a row, whose times are converted, with the memory that it takes in bytes.
pub(super) fn event(mut row: Map<String, Json>, times: &BTreeSet<String>) -> (u64, IncomingEvent) {
    normalize_times(&mut row, times);
    let row = Json::Object(row);
    let text = row.to_string();
    let event = IncomingEvent {
        payload: Ok(row),
        id: None,
        content: Digest::of(text.as_bytes()),
    };
    (parsed_size(text.as_bytes(), 0), event)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_converted_and_what_is_no_time_stays_as_it_was_sent() {
        for (sent, wanted) in [
            (json!(1_700_000_000), json!("2023-11-14T22:13:20Z")),
            (json!("2023-11-14 22:13:20"), json!("2023-11-14T22:13:20Z")),
            (json!(1_700_000_000_000_i64), json!(1_700_000_000_000_i64)),
            (json!(i64::MAX), json!(i64::MAX)),
            (json!("soon"), json!("soon")),
        ] {
            let mut row = Map::from_iter([(EVENT_TIME.to_owned(), sent)]);
            normalize_times(&mut row, &BTreeSet::from([EVENT_TIME.to_owned()]));
            assert_eq!(row[EVENT_TIME], wanted);
        }
    }
}
