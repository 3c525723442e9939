//! Batches of Kinesis and DynamoDB Streams that Lambda gave up, as it keeps them in a bucket.
//!
//! A mapping of a stream sends what it gave up to a destination. A queue or a topic gets metadata
//! only, by which the records are to be read from the stream again before they expire there. A
//! bucket gets the records as well: one object for each batch, whose field `payload` is what the
//! function was invoked with. The pages below say that it is the text of this JSON; what Lambda
//! wrote when somebody tried it was the JSON itself
//! (<https://github.com/localstack/localstack/blob/master/tests/aws/services/lambda_/event_source_mapping/test_lambda_integration_kinesis.snapshot.json>).
//! Both are read.
//!
//! Lambda chooses the keys: `aws/lambda/MAPPING/SHARD/YYYY/MM/DD/TIME-RANDOM`, from the start of
//! the bucket and not from a folder of it.
//!
//! Formats: <https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html>

use serde::Deserialize;
use serde_json::Value as Json;
use url::Url;
use wafer_core::{FailedBatch, FailedEvent, Timestamp};

use crate::event_sources::EventSources;
use crate::records::Batch;

/// The folder of the bucket that Lambda writes to.
const FOLDER: &str = "/aws/lambda/";

/// The greatest number of records of a batch, which is a limit of Lambda:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html>
const MAX_RECORDS: usize = 10_000;

/// Returns the folder in which Lambda keeps the batches that it gave up, in the bucket of a
/// project's `objects`.
pub fn failed_folder(objects: &Url) -> Url {
    let mut folder = objects.clone();
    folder.set_query(None);
    folder.set_path(FOLDER);
    folder
}

/// What is kept of a batch. Further fields say how often the function was invoked and what it
/// answered.
#[derive(Deserialize)]
struct InvocationRecord {
    #[serde(rename = "KinesisBatchInfo")]
    kinesis: Option<BatchInfo>,
    #[serde(rename = "DDBStreamBatchInfo")]
    dynamodb: Option<BatchInfo>,
    #[serde(default)]
    payload: Json,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchInfo {
    stream_arn: String,
    approximate_arrival_of_first_record: String,
}

/// Decodes the content of an object with a batch. Its records are decoded as the function decodes
/// them, so that they have the identities that they have there. Removals of rows, which are no
/// events, are left out.
///
/// # Errors
/// Returns what is wrong, to be said of the object: that it is not such a batch, that the records
/// are missing, or that no source takes them.
pub fn failed_batch(content: &[u8], sources: &EventSources) -> Result<FailedBatch, String> {
    let record: InvocationRecord =
        serde_json::from_slice(content).map_err(|e| format!("is no failed batch: {e}"))?;
    let info = record.kinesis.or(record.dynamodb);
    let info = info.ok_or("is no failed batch of a stream of Kinesis or of DynamoDB")?;
    let batch = batch_of(record.payload)?;
    let stream = batch.records.first().map_or("", |record| record.arn());
    let source = sources.source(stream);
    let source = source.or_else(|| sources.source(&info.stream_arn));
    let source = source.ok_or_else(|| {
        let stream = &info.stream_arn;
        format!("is of {stream}, whose events no source takes: name it in WAFER_EVENT_SOURCES")
    })?;
    let arrived = &info.approximate_arrival_of_first_record;
    let arrived: Timestamp = arrived
        .parse()
        .map_err(|e| format!("does not say when its first record arrived: {e}"))?;
    let events = batch.records.iter().filter_map(|record| {
        let name = record.identifier();
        record.event().map(|event| FailedEvent { name, event })
    });
    Ok(FailedBatch {
        source: source.to_owned(),
        arrived,
        events: events.collect(),
    })
}

/// Returns the records that the function was invoked with.
fn batch_of(payload: Json) -> Result<Batch, String> {
    let batch: Batch = match payload {
        Json::Null => {
            let missing = "has no records: that is what Lambda sends to a queue or a topic, and the \
                           mapping of the stream needs a bucket as its destination";
            return Err(missing.to_owned());
        }
        Json::String(text) => serde_json::from_str(&text),
        json => serde_json::from_value(json),
    }
    .map_err(|e| format!("has a payload that is no batch of records: {e}"))?;
    match batch.records.len() {
        ..=MAX_RECORDS => Ok(batch),
        more => Err(format!(
            "has {more} records, and a batch has {MAX_RECORDS} at most"
        )),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    const KINESIS: &str = "arn:aws:kinesis:us-east-1:1:stream/clicks";
    const DYNAMODB: &str = "arn:aws:dynamodb:us-east-1:1:table/t/stream/2024-01-01T00:00:00.000";

    fn sources() -> EventSources {
        EventSources::parse(&format!("{KINESIS}=clicks;{DYNAMODB}=rows")).unwrap()
    }

    fn info(stream: &str) -> Json {
        json!({
            "shardId": "shardId-000000000001", "startSequenceNumber": "1", "endSequenceNumber": "2",
            "approximateArrivalOfFirstRecord": "2019-11-14T00:38:04.835Z",
            "approximateArrivalOfLastRecord": "2019-11-14T00:38:05Z", "batchSize": 2, "streamArn": stream,
        })
    }

    fn of_kinesis(number: u32, data: &str) -> Json {
        json!({
            "eventSource": "aws:kinesis", "eventSourceARN": KINESIS, "eventID": format!("shard-1:{number}"),
            "kinesis": {"sequenceNumber": number.to_string(), "data": data},
        })
    }

    /// Returns the names, the identities and the payloads of the events of a batch. One that cannot
    /// be read has no payload.
    fn events(batch: &FailedBatch) -> Vec<(&str, Option<&str>, Option<String>)> {
        let events = batch.events.iter().map(|FailedEvent { name, event }| {
            let payload = event.payload.as_ref().ok().map(ToString::to_string);
            (name.as_str(), event.id.as_deref(), payload)
        });
        events.collect()
    }

    #[test]
    fn batch_is_read_whether_its_payload_is_text_or_json() {
        let payload = json!({"Records": [of_kinesis(1, &STANDARD.encode(r#"{"a": 1}"#)), of_kinesis(2, "!")]});
        for payload in [json!(payload.to_string()), payload] {
            let object = json!({
                "requestContext": {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 1},
                "version": "1.0", "timestamp": "2019-11-14T00:38:06.021Z",
                "KinesisBatchInfo": info(KINESIS), "payload": payload,
            });
            let batch = failed_batch(object.to_string().as_bytes(), &sources()).unwrap();
            assert_eq!(batch.source, "clicks");
            assert_eq!(batch.arrived.to_string(), "2019-11-14T00:38:04.835Z");
            let ids = [1, 2].map(|number| format!("{KINESIS} shard-1:{number}"));
            let wanted = [
                ("1", Some(ids[0].as_str()), Some(r#"{"a":1}"#.to_owned())),
                ("2", Some(ids[1].as_str()), None),
            ];
            assert_eq!(events(&batch), wanted);
        }
    }

    #[test]
    fn removed_rows_of_a_batch_are_left_out() {
        let record = |number: u32, name: &str| {
            json!({
                "eventSource": "aws:dynamodb", "eventSourceARN": DYNAMODB, "eventID": format!("e{number}"),
                "eventName": name,
                "dynamodb": {"SequenceNumber": number.to_string(), "NewImage": {"a": {"N": "7"}}},
            })
        };
        let object = json!({
            "DDBStreamBatchInfo": info(DYNAMODB),
            "payload": {"Records": [record(1, "REMOVE"), record(2, "INSERT")]},
        });
        let batch = failed_batch(object.to_string().as_bytes(), &sources()).unwrap();
        assert_eq!(batch.source, "rows");
        let id = format!("{DYNAMODB} e2");
        let wanted = [("2", Some(id.as_str()), Some(r#"{"a":7}"#.to_owned()))];
        assert_eq!(events(&batch), wanted);
    }

    #[test]
    fn objects_that_are_no_batch_say_why() {
        let batch = |payload: Json| {
            json!({"KinesisBatchInfo": info(KINESIS), "payload": payload}).to_string()
        };
        let many = json!({"Records": vec![of_kinesis(1, "!"); MAX_RECORDS + 1]});
        let other = info("arn:aws:kinesis:us-east-1:1:stream/other");
        let mut timeless = info(KINESIS);
        timeless["approximateArrivalOfFirstRecord"] = json!("yesterday");
        let empty = json!({"Records": []});
        for (object, wanted) in [
            ("{oops".to_owned(), "is no failed batch: "),
            ("[]".to_owned(), "is no failed batch: "),
            (
                json!({"payload": empty}).to_string(),
                "is no failed batch of a stream",
            ),
            (
                json!({"KinesisBatchInfo": info(KINESIS)}).to_string(),
                "needs a bucket as its destination",
            ),
            (batch(json!("{oops")), "no batch of records"),
            (
                batch(json!({"Messages": []})),
                "no batch of records: missing field `Records`",
            ),
            (batch(json!(7)), "no batch of records"),
            (batch(many), "has 10001 records"),
            (
                json!({"KinesisBatchInfo": other, "payload": empty}).to_string(),
                "is of arn:aws:kinesis:us-east-1:1:stream/other, whose events no source takes",
            ),
            (
                json!({"KinesisBatchInfo": timeless, "payload": empty}).to_string(),
                "`yesterday` is not a time",
            ),
        ] {
            let message = failed_batch(object.as_bytes(), &sources()).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn failed_batches_are_at_the_start_of_the_bucket() {
        for objects in ["s3://bucket", "s3://bucket/some/folder/"] {
            let folder = failed_folder(&Url::parse(objects).unwrap());
            assert_eq!(folder.as_str(), "s3://bucket/aws/lambda/");
        }
    }
}
