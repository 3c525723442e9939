//! `POST /write-to-online-store` and `POST /push`: rows of groups, and events of sources.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;
use arrow_array::types::TimestampMicrosecondType;
use axum::Json as Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use wafer_core::{ColumnBuilder, DataType, Field, Reading, Timestamp, cut_to};
use wafer_platform::{
    Definitions, Delivery, EventResult, GroupDef, IngestReport, MadeBy, Platform,
};

use super::frame::{EVENT_TIME, count_rows, event, feast_time, read, row, timestamps};
use crate::error::Failure;
use crate::events::{check_count, ingest_slices};
use crate::intake::Payload;
use crate::media_type::check_json;

/// A column that a data frame of Feast may have beside those of the group.
const CREATED_TIME: &str = "created";
/// The greatest size of a value in an error, in bytes.
const SHOWN: usize = 60;

/// The body of a request that writes rows.
#[derive(Deserialize)]
pub(super) struct Write {
    feature_view_name: String,
    pub(super) df: Map<String, Json>,
}

/// Answers `POST /write-to-online-store`: writes rows of a group, given as columns with its join
/// keys, its features and `event_timestamp`.
pub(super) async fn write(
    State(platform): State<Arc<Platform>>,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Body<Json>, Failure> {
    check_json(&headers)?;
    payload.check_json()?;
    let Write {
        feature_view_name: group,
        df,
    } = read(&payload.bytes)?;
    let count = count_rows(&df, "df")?;
    check_count(count)?;
    let mut times = BTreeSet::new();
    let mut event_time = None;
    if let Some(definition) = platform.context().definitions().groups.get(&group) {
        check_columns(definition, &df)?;
        let own = OwnTime {
            name: definition.event_time.clone(),
            declared: None,
        };
        own.check(&df)?;
        times = timestamps(definition.columns.iter().chain(&definition.keys));
        times.insert(definition.event_time.clone());
        event_time = Some(definition.event_time.clone());
    }
    let events = (0..count).map(|index| {
        let mut row = row(&df, index);
        if let Some(event_time) = &event_time
            && let Some(time) = row.remove(EVENT_TIME)
        {
            row.insert(event_time.clone(), time);
        }
        event(row, &times)
    });
    let service = platform.pipelines().events();
    let write = |events| service.write_group(&group, events);
    written(&ingest_slices(events, write).await?)
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
pub(super) struct Push {
    push_source_name: String,
    pub(super) df: Map<String, Json>,
    to: Option<String>,
}

/// Answers `POST /push`: accepts events of a stream source.
pub(super) async fn push(
    State(platform): State<Arc<Platform>>,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Body<Json>, Failure> {
    check_json(&headers)?;
    payload.check_json()?;
    let Push {
        push_source_name: source,
        df,
        to,
    } = read(&payload.bytes)?;
    // Events are always written to both stores, so all values of `to` have the same effect. Only
    // unknown ones are refused.
    let known = ["online", "offline", "online_and_offline"];
    if let Some(to) = to.filter(|to| !known.contains(&to.as_str())) {
        let message = format!("`to` is `{to}`; it is one of {}", known.join(", "));
        return Err(Failure::invalid(message));
    }
    let count = count_rows(&df, "df")?;
    check_count(count)?;
    let definitions = platform.context().definitions();
    let read = fields_of(&definitions, &source);
    for own in own_times(&definitions, &source, &read) {
        own.check(&df)?;
    }
    let is_declared = |field: &Field| declared(&definitions, &source, &field.name).is_some();
    let times = timestamps(read.iter().filter(|field| !is_declared(field)));
    let events = (0..count).map(|index| event(row(&df, index), &times));
    let service = platform.pipelines().events();
    let ingest = |events| service.ingest(&source, events, Delivery::Now);
    written(&ingest_slices(events, ingest).await?)
}

/// Returns the fields that the pipelines of a source read.
fn fields_of(definitions: &Definitions, source: &str) -> Vec<Field> {
    let pipelines = definitions.pipelines.values();
    let pipelines = pipelines.filter(|pipeline| pipeline.source == source);
    let fields = pipelines.filter_map(|pipeline| definitions.source_fields(&pipeline.made_by));
    fields.flatten().collect()
}

/// Returns what a source declares of the times in a column, which goes before the conventions of
/// Feast, or `None` if it declares nothing.
fn declared(definitions: &Definitions, source: &str, column: &str) -> Option<Reading> {
    let reading = definitions.sources.get(source)?.reading_of(column);
    let is_declared = reading.unit.is_some() || reading.format.is_some() || reading.zone.is_some();
    is_declared.then_some(reading)
}

/// Returns the columns of a source that its pipelines read as the event times of their groups.
/// There are none if a pipeline reads `event_timestamp`: that is a column of its own then.
fn own_times(definitions: &Definitions, source: &str, read: &[Field]) -> Vec<OwnTime> {
    let times = timestamps(read);
    if times.contains(EVENT_TIME) {
        return Vec::new();
    }
    let pipelines = definitions.pipelines.values();
    let pipelines = pipelines.filter(|pipeline| pipeline.source == source);
    let name = |group: &str, made_by: &MadeBy| -> Option<String> {
        let event_time = &definitions.groups.get(group)?.event_time;
        match made_by {
            MadeBy::Columns(columns) => {
                let passed = columns.iter().find(|c| c.field.name == *event_time);
                passed.map(|column| column.from.clone())
            }
            MadeBy::Function(_) | MadeBy::Model(_) => Some(event_time.clone()),
        }
    };
    let names = pipelines.filter_map(|pipeline| name(&pipeline.group, &pipeline.made_by));
    let names: BTreeSet<String> = names.filter(|name| times.contains(name)).collect();
    let own = |name: String| OwnTime {
        declared: declared(definitions, source, &name),
        name,
    };
    names.into_iter().map(own).collect()
}

/// A column with the event times of a group, which a data frame may have beside `event_timestamp`.
struct OwnTime {
    name: String,
    /// What the source declares of the column. Without it, times are read as Feast writes them.
    declared: Option<Reading>,
}

impl OwnTime {
    /// Checks that a data frame with this column and `event_timestamp` has the same times in both.
    /// Those of one column would be lost without notice.
    fn check(&self, df: &Map<String, Json>) -> Result<(), Failure> {
        let list = |name: &str| df.get(name).and_then(Json::as_array);
        let (Some(times), Some(own)) = (list(EVENT_TIME), list(&self.name)) else {
            return Ok(());
        };
        let mut rows = times.iter().zip(own).enumerate();
        let Some((row, (time, own))) = rows.find(|(_, (time, own))| !self.is_same(time, own))
        else {
            return Ok(());
        };
        Err(Failure::invalid(format!(
            "row {row}: `{EVENT_TIME}` is {}, and `{}` is {}, and a row has one event time; send one \
             of the two columns, or the same times in both",
            cut_to(time, SHOWN),
            self.name,
            cut_to(own, SHOWN)
        )))
    }

    /// Returns whether a value of `event_timestamp` is the same as one of this column.
    fn is_same(&self, time: &Json, own: &Json) -> bool {
        match (feast_time(time), self.time(own)) {
            (Some(time), Some(own)) => time == own,
            // A value that is not a time is refused with its row, as in other events.
            _ => time == own,
        }
    }

    /// Returns the time that a value of the column stands for, or `None` if it is not a time.
    fn time(&self, value: &Json) -> Option<Timestamp> {
        let Some(reading) = &self.declared else {
            return feast_time(value);
        };
        let mut column = ColumnBuilder::new(&DataType::Timestamp, 1).with_reading(reading.clone());
        column.append_json(value).ok()?;
        let column = column.finish();
        let times = column.as_primitive::<TimestampMicrosecondType>();
        times
            .is_valid(0)
            .then(|| Timestamp::from_micros(times.value(0)))
    }
}

/// Returns the answer to a write: `null`, or the number of its rows that were duplicates.
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
    match (refused.first(), report.duplicate) {
        (None, 0) => Ok(Body(Json::Null)),
        (None, duplicate) => Ok(Body(json!({ "duplicate": duplicate }))),
        (Some(first), duplicate) => {
            let known = match duplicate {
                0 => String::new(),
                count => format!(" (duplicates among them: {count})"),
            };
            Err(Failure::invalid(format!(
                "{} of {} rows were refused, the others are stored{known}; {first}",
                refused.len(),
                report.events.len()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use wafer_core::Zone;

    use super::*;

    #[test]
    fn a_data_frame_has_one_event_time_in_each_row() {
        const NOON: &str = "2020-06-01T12:00:00Z";
        let seconds = NOON.parse::<Timestamp>().unwrap().as_micros() / 1_000_000;
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        for (zone, general, own, is_same) in [
            (None, json!([NOON]), json!([NOON]), true),
            (None, json!([NOON]), json!(["2020-06-01 12:00:00"]), true),
            (None, json!([seconds]), json!([NOON]), true),
            (
                None,
                json!([NOON]),
                json!(["2020-06-01T14:00:00+02:00"]),
                true,
            ),
            (
                None,
                json!(["2020-06-01"]),
                json!(["2020-06-01T00:00:00Z"]),
                true,
            ),
            (
                None,
                json!([NOON]),
                json!(["2020-06-01T12:00:00.000001Z"]),
                false,
            ),
            (None, json!([NOON]), json!([null]), false),
            (None, json!([null]), json!([NOON]), false),
            (None, json!([null]), json!([null]), true),
            (None, json!(["soon"]), json!(["soon"]), true),
            (None, json!([NOON]), json!(["soon"]), false),
            (
                Some(berlin),
                json!([NOON]),
                json!(["2020-06-01T14:00:00"]),
                true,
            ),
            (
                Some(berlin),
                json!([NOON]),
                json!(["2020-06-01T12:00:00"]),
                false,
            ),
        ] {
            let own_time = OwnTime {
                name: "at".to_owned(),
                declared: zone.map(|zone| Reading {
                    zone: Some(zone),
                    ..Reading::default()
                }),
            };
            let frame = |columns: Json| columns.as_object().cloned().unwrap();
            for alone in [json!({"event_timestamp": general}), json!({"at": own})] {
                assert!(own_time.check(&frame(alone)).is_ok());
            }
            let both = json!({"event_timestamp": general, "at": own});
            let refused = own_time.check(&frame(both)).err();
            let message = refused.map(Failure::into_message);
            assert_eq!(message.is_none(), is_same, "{general} {own}");
            if let Some(message) = message {
                assert!(
                    message.starts_with("row 0: `event_timestamp` is "),
                    "{message}"
                );
                assert!(message.contains("and `at` is "), "{message}");
            }
        }
    }
}
