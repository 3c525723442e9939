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

use std::borrow::Cow;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use url::Url;
use wafer_core::{FailedBatch, FailedEvent, Timestamp};

use crate::event_sources::EventSources;
use crate::records::Record;

/// The folder of the bucket that Lambda writes to.
const FOLDER: &str = "/aws/lambda/";

/// The greatest number of records of a batch, which is a limit of Lambda:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html>
const MAX_RECORDS: usize = 10_000;

/// The greatest size of what a function is invoked with, as text, in bytes. Lambda's limit is 6 MB
/// (<https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>); the rest is for
/// other spaces and escapes. It bounds the memory of the values that are made of the text, each of
/// which takes many times as much as the shortest text of a value.
const MAX_PAYLOAD_BYTES: usize = 8 << 20;

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
struct InvocationRecord<'a> {
    #[serde(rename = "KinesisBatchInfo")]
    kinesis: Option<BatchInfo>,
    #[serde(rename = "DDBStreamBatchInfo")]
    dynamodb: Option<BatchInfo>,
    /// The text of the payload, which may be large.
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchInfo {
    stream_arn: String,
    approximate_arrival_of_first_record: String,
    /// The number of the records of the batch.
    batch_size: u64,
}

/// A batch whose records are still text, of which nothing is made before it was checked.
#[derive(Deserialize)]
struct RawBatch<'a> {
    #[serde(rename = "Records", borrow)]
    records: RawRecords<'a>,
}

/// The first [`MAX_RECORDS`] records of a batch, and how many it has.
struct RawRecords<'a> {
    first: Vec<&'a RawValue>,
    count: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for RawRecords<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RawRecordsVisitor)
    }
}

struct RawRecordsVisitor;

impl<'de> Visitor<'de> for RawRecordsVisitor {
    type Value = RawRecords<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut first, mut count) = (Vec::new(), 0);
        while let Some(record) = list.next_element::<&RawValue>()? {
            count += 1;
            if count <= MAX_RECORDS {
                first.push(record);
            }
        }
        Ok(RawRecords { first, count })
    }
}

/// Where a record comes from.
#[derive(Deserialize)]
struct Origin {
    #[serde(default, rename = "eventSourceARN")]
    arn: String,
}

/// Decodes the content of an object with a batch. Its records are decoded as the function decodes
/// them, so that they have the identities that they have there. Removals of rows are not events,
/// and are left out.
///
/// No value is made of a record before it is known that the batch is whole, is not too large, and
/// is of one stream.
///
/// # Errors
/// Returns what is wrong, as the rest of a sentence about the object: that it is not such a batch,
/// that records are missing or are of another stream, or that no source takes them.
pub fn failed_batch(content: &[u8], sources: &EventSources) -> Result<FailedBatch, String> {
    let record: InvocationRecord<'_> =
        serde_json::from_slice(content).map_err(|e| format!("is not a failed batch: {e}"))?;
    let info = record.kinesis.or(record.dynamodb);
    let info = info.ok_or("is not a failed batch of a stream of Kinesis or of DynamoDB")?;
    let payload = payload_of(record.payload)?;
    let records = records_of(&payload, info.batch_size)?;
    let stream = one_stream(&records, &info.stream_arn)?;
    let source = sources.source(&stream);
    let source = source.or_else(|| sources.source(&info.stream_arn));
    let source = source.ok_or_else(|| {
        let stream = &info.stream_arn;
        format!("is of {stream}, whose events no source takes: name it in WAFER_EVENT_SOURCES")
    })?;
    let arrived = &info.approximate_arrival_of_first_record;
    let arrived: Timestamp = arrived
        .parse()
        .map_err(|e| format!("does not say when its first record arrived: {e}"))?;
    let mut events = Vec::with_capacity(records.len());
    for record in records {
        let record: Record = serde_json::from_str(record.get()).map_err(|e| no_batch(&e))?;
        let Some(event) = record.event() else {
            continue;
        };
        let name = record.identifier();
        if name.is_empty() {
            return Err("has a record without a sequence number".to_owned());
        }
        events.push(FailedEvent { name, event });
    }
    Ok(FailedBatch {
        source: source.to_owned(),
        arrived,
        events,
    })
}

/// Returns the text of what the function was invoked with.
fn payload_of(payload: Option<&RawValue>) -> Result<Cow<'_, str>, String> {
    let Some(payload) = payload else {
        let missing = "has no records: that is what Lambda sends to a queue or a topic, and the \
                       mapping of the stream needs a bucket as its destination";
        return Err(missing.to_owned());
    };
    let json = payload.get();
    let text = match json.starts_with('"') {
        true => Cow::Owned(serde_json::from_str(json).map_err(|e| no_batch(&e))?),
        false => Cow::Borrowed(json),
    };
    match text.len() {
        ..=MAX_PAYLOAD_BYTES => Ok(text),
        more => Err(format!(
            "has records of {more} bytes, and Lambda invokes no function with more than \
             {MAX_PAYLOAD_BYTES}"
        )),
    }
}

/// Returns the records of a batch, of which there must be `batch_size` at least.
fn records_of(payload: &str, batch_size: u64) -> Result<Vec<&RawValue>, String> {
    let batch: RawBatch<'_> = serde_json::from_str(payload).map_err(|e| no_batch(&e))?;
    let RawRecords { first, count } = batch.records;
    if count > MAX_RECORDS {
        return Err(format!(
            "has {count} records, and a batch has {MAX_RECORDS} at most"
        ));
    }
    // The object is removed when all that it has was taken in.
    if batch_size > count as u64 {
        return Err(format!(
            "has {count} records, and its batchSize is {batch_size}: what is missing would be lost \
             with it. Bring back the object as Lambda wrote it; if that is not possible, correct its \
             batchSize to take in what it has"
        ));
    }
    Ok(first)
}

/// Returns the stream that all records of a batch of `stream` come from, as they name it.
fn one_stream(records: &[&RawValue], stream: &str) -> Result<String, String> {
    let mut first: Option<String> = None;
    for record in records {
        let Origin { arn } = serde_json::from_str(record.get()).map_err(|e| no_batch(&e))?;
        let is_one = first.as_ref().is_none_or(|first| *first == arn);
        if !is_one || without_consumer(&arn) != without_consumer(stream) {
            return Err(format!(
                "is a batch of {stream} and has a record whose eventSourceARN is `{arn}`: Lambda \
                 writes no such batch, so none of it is taken in. Look at who writes to the folder"
            ));
        }
        first = first.or(Some(arn));
    }
    Ok(first.unwrap_or_else(|| stream.to_owned()))
}

/// Returns the ARN of a stream, also for one of its consumers, which is named below it.
fn without_consumer(arn: &str) -> &str {
    arn.split_once("/consumer/")
        .map_or(arn, |(stream, _)| stream)
}

fn no_batch(error: &serde_json::Error) -> String {
    format!("has a payload that is not a batch of records: {error}")
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value as Json, json};

    use super::*;

    const KINESIS: &str = "arn:aws:kinesis:us-east-1:1:stream/clicks";
    const DYNAMODB: &str = "arn:aws:dynamodb:us-east-1:1:table/t/stream/2024-01-01T00:00:00.000";

    fn sources() -> EventSources {
        EventSources::parse(&format!("{KINESIS}=clicks;{DYNAMODB}=rows")).unwrap()
    }

    fn info(stream: &str, records: usize) -> Json {
        json!({
            "shardId": "shardId-000000000001", "startSequenceNumber": "1", "endSequenceNumber": "2",
            "approximateArrivalOfFirstRecord": "2019-11-14T00:38:04.835Z",
            "approximateArrivalOfLastRecord": "2019-11-14T00:38:05Z", "batchSize": records, "streamArn": stream,
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
                "KinesisBatchInfo": info(KINESIS, 2), "payload": payload,
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
        let unnamed = |name: &str| {
            let mut record = record(3, name);
            let change = record["dynamodb"].as_object_mut().unwrap();
            change.remove("SequenceNumber");
            record
        };
        let batch_of = |records: [Json; 3]| {
            let object = json!({
                "DDBStreamBatchInfo": info(DYNAMODB, 3), "payload": {"Records": records},
            });
            failed_batch(object.to_string().as_bytes(), &sources())
        };
        // Nothing is said of a removal, so that it need not have a number.
        let batch = batch_of([record(1, "REMOVE"), record(2, "INSERT"), unnamed("REMOVE")]);
        let batch = batch.unwrap();
        assert_eq!(batch.source, "rows");
        let id = format!("{DYNAMODB} e2");
        let wanted = [("2", Some(id.as_str()), Some(r#"{"a":7}"#.to_owned()))];
        assert_eq!(events(&batch), wanted);
        let refused = batch_of([record(1, "REMOVE"), record(2, "INSERT"), unnamed("INSERT")]);
        assert_eq!(
            refused.unwrap_err(),
            "has a record without a sequence number"
        );
    }

    #[test]
    fn objects_that_are_no_batch_say_why() {
        let batch = |payload: Json| {
            json!({"KinesisBatchInfo": info(KINESIS, 0), "payload": payload}).to_string()
        };
        let many = json!({"Records": vec![of_kinesis(1, "!"); MAX_RECORDS + 1]});
        let other = info("arn:aws:kinesis:us-east-1:1:stream/other", 0);
        let mut timeless = info(KINESIS, 0);
        timeless["approximateArrivalOfFirstRecord"] = json!("yesterday");
        let mut sizeless = info(KINESIS, 0);
        sizeless.as_object_mut().unwrap().remove("batchSize");
        let empty = json!({"Records": []});
        for (object, wanted) in [
            ("{oops".to_owned(), "is not a failed batch: "),
            ("[]".to_owned(), "is not a failed batch: "),
            (
                json!({"payload": empty}).to_string(),
                "is not a failed batch of a stream",
            ),
            (
                json!({"KinesisBatchInfo": info(KINESIS, 0)}).to_string(),
                "needs a bucket as its destination",
            ),
            (batch(json!("{oops")), "not a batch of records"),
            (
                batch(json!({"Messages": []})),
                "not a batch of records: missing field `Records`",
            ),
            (batch(json!(7)), "not a batch of records"),
            (batch(json!({"Records": {}})), "expected a list of records"),
            (batch(many), "has 10001 records"),
            (
                json!({"KinesisBatchInfo": sizeless, "payload": empty}).to_string(),
                "is not a failed batch: missing field `batchSize`",
            ),
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

    /// Returns a batch of this size, with these records.
    fn of_size(size: usize, records: &[Json]) -> String {
        let payload = json!({"Records": records});
        json!({"KinesisBatchInfo": info(KINESIS, size), "payload": payload}).to_string()
    }

    #[test]
    fn batch_with_fewer_records_than_its_size_is_refused_with_both_numbers() {
        let records = [1, 2].map(|number| of_kinesis(number, "e30="));
        for (size, wanted) in [
            (3, Some("has 2 records, and its batchSize is 3")),
            (2, None),
            (1, None),
        ] {
            let found = failed_batch(of_size(size, &records).as_bytes(), &sources());
            match (found, wanted) {
                (Ok(batch), None) => assert_eq!(batch.events.len(), 2),
                (Err(said), Some(wanted)) => assert!(said.contains(wanted), "{said}"),
                (found, wanted) => panic!("{found:?}, wanted {wanted:?}"),
            }
        }
    }

    #[test]
    fn batch_of_several_streams_is_refused() {
        let of_stream = |number: u32, arn: &str| {
            let mut record = of_kinesis(number, "e30=");
            record["eventSourceARN"] = json!(arn);
            record
        };
        let consumer = format!("{KINESIS}/consumer/c:1");
        for (arns, wanted) in [
            ([KINESIS, KINESIS], None),
            ([KINESIS, DYNAMODB], Some(DYNAMODB)),
            ([DYNAMODB, KINESIS], Some(DYNAMODB)),
            ([DYNAMODB, DYNAMODB], Some(DYNAMODB)),
            ([KINESIS, ""], Some("")),
            // Records of one batch are named in one way.
            ([KINESIS, &consumer], Some(consumer.as_str())),
        ] {
            let records = [of_stream(1, arns[0]), of_stream(2, arns[1])];
            let found = failed_batch(of_size(2, &records).as_bytes(), &sources());
            match (found, wanted) {
                (Ok(batch), None) => assert_eq!(batch.source, "clicks"),
                (Err(said), Some(arn)) => {
                    let wanted = format!("a record whose eventSourceARN is `{arn}`");
                    assert!(said.contains(&wanted), "{said}");
                }
                (found, wanted) => panic!("{found:?}, wanted {wanted:?}"),
            }
        }
        // A mapping of a consumer of the stream.
        let object = json!({
            "KinesisBatchInfo": info(&consumer, 1), "payload": {"Records": [of_stream(1, KINESIS)]},
        });
        let batch = failed_batch(object.to_string().as_bytes(), &sources()).unwrap();
        assert_eq!(batch.source, "clicks");
    }

    #[test]
    fn payload_that_no_function_gets_is_refused_before_values_are_made() {
        let records = "{},".repeat(MAX_PAYLOAD_BYTES / 3);
        let payload = format!(r#"{{"Records":[{records}{{}}]}}"#);
        let quoted = json!(payload).to_string();
        for payload in [payload, quoted] {
            let info = info(KINESIS, 0);
            let object = format!(r#"{{"KinesisBatchInfo":{info},"payload":{payload}}}"#);
            let said = failed_batch(object.as_bytes(), &sources()).unwrap_err();
            assert!(
                said.contains("and Lambda invokes no function with more"),
                "{said}"
            );
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
