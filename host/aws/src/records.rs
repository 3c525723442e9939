//! Records of queues and streams, in the form in which Lambda passes them to a function in batches,
//! and in which it keeps those of streams that it gave up.
//!
//! Formats: <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Number, Value as Json};
use wafer_core::{Digest, IncomingEvent, check_json_text, joined_identity};

use crate::queue::QueueArn;
use crate::s3::form_decoded;

/// A batch of records.
#[derive(Debug, Deserialize)]
pub struct LambdaRecords {
    /// The records, in the order of their queue or stream.
    #[serde(rename = "Records")]
    pub records: Vec<Record>,
}

/// A record. Each service fills only its own fields.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    event_source: String,
    #[serde(default, rename = "eventSourceARN")]
    event_source_arn: String,
    // Fields of SQS.
    message_id: Option<String>,
    body: Option<String>,
    attributes: Option<Attributes>,
    // Fields of Kinesis.
    kinesis: Option<Kinesis>,
    // Fields of DynamoDB Streams; Kinesis has the last one as well.
    event_name: Option<String>,
    dynamodb: Option<Change>,
    #[serde(rename = "eventID")]
    event_id: Option<String>,
    // Fields of S3.
    s3: Option<WrittenObject>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes {
    message_group_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kinesis {
    sequence_number: String,
    data: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    // The answer names a record by it. The removal of a row is not an event, and need not be
    // named.
    sequence_number: Option<String>,
    new_image: Option<Map<String, Json>>,
}

/// An object that was written to S3.
#[derive(Clone, Debug, Deserialize)]
pub struct WrittenObject {
    bucket: Bucket,
    object: Object,
}

#[derive(Clone, Debug, Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Object {
    key: String,
}

impl WrittenObject {
    /// Returns the name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket.name
    }

    /// Returns the key of the object. Notifications have it in the encoding of HTML forms.
    pub fn key(&self) -> String {
        form_decoded(&self.object.key)
    }
}

impl Record {
    /// Returns the ARN of the queue or stream that the record comes from.
    pub fn arn(&self) -> &str {
        &self.event_source_arn
    }

    /// Returns whether the record is a notification that S3 itself sent, and not one in a message
    /// of a queue.
    pub fn is_from_s3(&self) -> bool {
        self.s3.is_some()
    }

    /// Returns the identifier by which the answer names a failed record.
    pub fn identifier(&self) -> String {
        let found = match self.event_source.as_str() {
            "aws:kinesis" => self.kinesis.as_ref().map(|k| k.sequence_number.clone()),
            "aws:dynamodb" => self
                .dynamodb
                .as_ref()
                .and_then(|d| d.sequence_number.clone()),
            _ => self.message_id.clone(),
        };
        found.unwrap_or_default()
    }

    /// Returns the group of a message of a FIFO queue, within which messages keep their order.
    /// Returns `None` for any other record: messages of other queues may be of a group, too, but
    /// have no order.
    pub fn fifo_group(&self) -> Option<&str> {
        let is_fifo = QueueArn::of(&self.event_source_arn)?.is_fifo();
        let attributes = self.attributes.as_ref();
        let group = attributes.and_then(|attributes| attributes.message_group_id.as_deref());
        // SQS takes no message without a group.
        is_fifo.then(|| group.unwrap_or_default())
    }

    /// Returns the objects of a notification of S3, which comes directly or through a queue. The
    /// list is empty for the test event that S3 sends when a notification is set up. Returns `None`
    /// for any other record.
    pub fn notification(&self) -> Option<Vec<WrittenObject>> {
        if let Some(stored) = &self.s3 {
            return Some(vec![stored.clone()]);
        }
        let body = self
            .body
            .as_ref()
            .filter(|_| self.event_source == "aws:sqs")?;
        let json: Json = serde_json::from_str(body).ok()?;
        if json["Event"] == "s3:TestEvent" {
            return Some(Vec::new());
        }
        let batch: LambdaRecords = serde_json::from_value(json).ok()?;
        let stored: Option<Vec<WrittenObject>> = batch.records.into_iter().map(|r| r.s3).collect();
        stored.filter(|stored| !stored.is_empty())
    }

    /// Decodes the record as an event. The payload is an error if that is not possible. Returns
    /// `None` for the removal of a row, which is not an event.
    pub fn event(&self) -> Option<IncomingEvent> {
        match self.event_source.as_str() {
            "aws:sqs" => {
                let body = self.body.as_deref().unwrap_or_default();
                Some(
                    self.with_identity(IncomingEvent::from_json(body.as_bytes()), &self.message_id),
                )
            }
            "aws:kinesis" => {
                let data = self.kinesis.as_ref().map_or("", |k| k.data.as_str());
                let event = match STANDARD.decode(data) {
                    Ok(data) => IncomingEvent::from_json(&data),
                    Err(e) => unreadable(data, &format!("is not Base64: {e}")),
                };
                Some(self.with_identity(event, &self.event_id))
            }
            "aws:dynamodb" => {
                if self.event_name.as_deref() == Some("REMOVE") {
                    return None;
                }
                let image = self.dynamodb.as_ref().and_then(|d| d.new_image.as_ref());
                let event = match image.map(plain_object) {
                    Some(Ok(object)) => {
                        IncomingEvent::from_json(Json::Object(object).to_string().as_bytes())
                    }
                    Some(Err(message)) => unreadable(&self.identifier(), &message),
                    None => unreadable(
                        &self.identifier(),
                        "has no new image: set the stream's view type to NEW_IMAGE or \
                         NEW_AND_OLD_IMAGES",
                    ),
                };
                Some(self.with_identity(event, &self.event_id))
            }
            other => Some(unreadable(
                other,
                &format!("has the unknown event source `{other}`"),
            )),
        }
    }

    /// Gives an event without an identity the one that its service uses for the record. It stays
    /// the same however often the record is delivered.
    fn with_identity(&self, event: IncomingEvent, id: &Option<String>) -> IncomingEvent {
        let Some(id) = id.as_ref().filter(|_| event.id.is_none()) else {
            return event;
        };
        match joined_identity(&self.event_source_arn, id) {
            Ok(id) => IncomingEvent {
                id: Some(id),
                ..event
            },
            Err(reason) => IncomingEvent {
                payload: Err(reason),
                ..event
            },
        }
    }
}

/// Returns an event that is rejected with a message.
fn unreadable(content: &str, message: &str) -> IncomingEvent {
    IncomingEvent {
        payload: Err(message.to_owned()),
        id: None,
        content: Digest::of(content.as_bytes()),
    }
}

/// Converts a row of DynamoDB to a plain JSON object.
fn plain_object(image: &Map<String, Json>) -> Result<Map<String, Json>, String> {
    let cell = |(name, value): (&String, &Json)| {
        let value = plain(value).map_err(|e| format!("attribute `{name}`: {e}"))?;
        Ok((name.clone(), value))
    };
    image.iter().map(cell).collect()
}

/// Converts a typed value of DynamoDB to plain JSON. Numbers have up to 38 digits there; one that
/// JSON would not keep is an error. Byte strings become hexadecimal digits, as everywhere.
fn plain(value: &Json) -> Result<Json, String> {
    let typed = value.as_object().filter(|typed| typed.len() == 1);
    let (kind, value) = typed
        .and_then(|typed| typed.iter().next())
        .ok_or("is not a typed value")?;
    let number = |value: &Json| -> Result<Json, String> {
        let text = value.as_str().ok_or("is not a number")?;
        check_json_text(text.as_bytes())?;
        let number: Result<Number, _> = serde_json::from_str(text);
        let number = number.map_err(|_| format!("`{text}` is not a number"))?;
        Ok(Json::Number(number))
    };
    let text = |value: &Json| -> Result<Json, String> {
        Ok(Json::from(value.as_str().ok_or("is not a text")?))
    };
    let flag = |value: &Json| -> Result<Json, String> {
        Ok(Json::from(value.as_bool().ok_or("is not a boolean")?))
    };
    let list = |value: &Json, plain: &dyn Fn(&Json) -> Result<Json, String>| {
        let values = value.as_array().ok_or("is not a list")?;
        values.iter().map(plain).collect::<Result<Vec<_>, String>>()
    };
    match kind.as_str() {
        "S" => text(value),
        "B" => hexadecimal(value),
        "BOOL" => flag(value),
        "N" => number(value),
        "NULL" => Ok(Json::Null),
        "L" => list(value, &plain).map(Json::Array),
        "SS" => list(value, &text).map(Json::Array),
        "BS" => list(value, &hexadecimal).map(Json::Array),
        "NS" => list(value, &number).map(Json::Array),
        "M" => {
            let object = value.as_object().ok_or("is not a map")?;
            plain_object(object).map(Json::Object)
        }
        other => Err(format!("is of type `{other}`, which is unknown")),
    }
}

/// Converts a byte string, which streams have in Base64, to hexadecimal digits.
fn hexadecimal(value: &Json) -> Result<Json, String> {
    let text = value.as_str().ok_or("is not Base64")?;
    let bytes = STANDARD.decode(text);
    let bytes = bytes.map_err(|e| format!("is not Base64: {e}"))?;
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    Ok(Json::String(digits.collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(record: Json) -> Record {
        serde_json::from_value(record).unwrap()
    }

    fn of_dynamodb(image: Json) -> Record {
        record(json!({
            "eventID": "e", "eventName": "INSERT", "eventSource": "aws:dynamodb", "eventSourceARN": "arn:d",
            "dynamodb": {"SequenceNumber": "7", "NewImage": image},
        }))
    }

    #[test]
    fn rows_of_dynamodb_become_plain_objects() {
        let event = of_dynamodb(json!({
            "id": {"N": "9007199254740993"}, "name": {"S": "x"}, "ok": {"BOOL": true}, "none": {"NULL": true},
            "list": {"L": [{"N": "1.5"}, {"S": "y"}]}, "map": {"M": {"a": {"N": "-3"}}}, "set": {"NS": ["1", "2"]},
            // The digits of Base64 are hexadecimal ones here, and mean other bytes.
            "bytes": {"B": "DEADBEEF"}, "byte_set": {"BS": ["AP8=", ""]}, "nested": {"L": [{"B": "AA=="}]},
            "text": {"S": "DEADBEEF"}, "texts": {"SS": ["AP8="]},
        }))
        .event()
        .unwrap();
        let wanted = json!({
            "id": 9_007_199_254_740_993_i64, "name": "x", "ok": true, "none": null,
            "list": [1.5, "y"], "map": {"a": -3}, "set": [1, 2],
            "bytes": "0c4003044105", "byte_set": ["00ff", ""], "nested": ["00"],
            "text": "DEADBEEF", "texts": ["AP8="],
        });
        assert_eq!(event.payload, Ok(wanted));
        assert_eq!(event.id.as_deref(), Some("arn:d e"));
        for (image, wanted) in [
            (
                json!({"a": {"N": "x"}}),
                "attribute `a`: `x` is not a number",
            ),
            (
                json!({"a": {"N": "12345678901234567890123456789012345678"}}),
                "attribute `a`: has the number 12345678901234567890123456789012345678, which is not kept exactly",
            ),
            (
                json!({"a": {"NS": ["1", "1.0000000000000000001"]}}),
                "attribute `a`: has the number 1.0000000000000000001, which is not kept exactly",
            ),
            (json!({"a": {"N": "null"}}), "`null` is not a number"),
            (
                json!({"a": {"B": "DEADBEE"}}),
                "attribute `a`: is not Base64",
            ),
            (
                json!({"a": {"BS": ["00ff!"]}}),
                "attribute `a`: is not Base64",
            ),
            (json!({"a": {"B": 7}}), "attribute `a`: is not Base64"),
            (json!({"a": {"S": 7}}), "attribute `a`: is not a text"),
            (json!({"a": {"SS": [7]}}), "attribute `a`: is not a text"),
            (
                json!({"a": {"BOOL": "true"}}),
                "attribute `a`: is not a boolean",
            ),
            (json!({"a": {"Q": 1}}), "is of type `Q`"),
            (json!({"a": 1}), "is not a typed value"),
        ] {
            let message = of_dynamodb(image).event().unwrap().payload.unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn removed_rows_are_no_events() {
        let removed = record(json!({
            "eventName": "REMOVE", "eventSource": "aws:dynamodb", "eventSourceARN": "arn:d",
            "dynamodb": {"SequenceNumber": "7"},
        }));
        assert!(removed.event().is_none());
        let unnamed = record(json!({
            "eventName": "REMOVE", "eventSource": "aws:dynamodb", "eventSourceARN": "arn:d",
            "dynamodb": {"Keys": {}},
        }));
        assert!(unnamed.event().is_none());
    }

    #[test]
    fn records_have_the_identifiers_of_their_service() {
        let kinesis = record(json!({
            "eventSource": "aws:kinesis", "eventSourceARN": "arn:k", "eventID": "shard-0:49",
            "kinesis": {"sequenceNumber": "49", "data": STANDARD.encode(r#"{"a":1}"#)},
        }));
        assert_eq!(kinesis.identifier(), "49");
        let event = kinesis.event().unwrap();
        assert_eq!(
            (event.payload, event.id.as_deref()),
            (Ok(json!({"a": 1})), Some("arn:k shard-0:49"))
        );
        let sqs = record(json!({
            "eventSource": "aws:sqs", "eventSourceARN": "arn:q", "messageId": "m", "body": "{oops",
        }));
        assert_eq!(sqs.identifier(), "m");
        assert!(sqs.event().unwrap().payload.is_err());
        let long = record(json!({
            "eventSource": "aws:sqs", "eventSourceARN": "arn:q", "messageId": "m".repeat(2_000),
            "body": "{}",
        }));
        let refused = long.event().unwrap().payload.unwrap_err();
        assert!(refused.contains("is 2006 bytes long"), "{refused}");
        assert!(sqs.notification().is_none());
    }

    #[test]
    fn only_messages_of_fifo_queues_have_groups_with_an_order() {
        for (arn, attributes, wanted) in [
            (
                "arn:aws:sqs:r:1:q.fifo",
                json!({"MessageGroupId": "g"}),
                Some("g"),
            ),
            ("arn:aws:sqs:r:1:q.fifo", json!({}), Some("")),
            ("arn:aws:sqs:r:1:q.fifo", Json::Null, Some("")),
            ("arn:aws:sqs:r:1:q", json!({"MessageGroupId": "g"}), None),
            ("arn:aws:kinesis:r:1:stream/q.fifo", Json::Null, None),
        ] {
            let record = record(json!({
                "eventSource": "aws:sqs", "eventSourceARN": arn, "attributes": attributes,
            }));
            assert_eq!(record.fifo_group(), wanted, "{arn}");
        }
    }

    #[test]
    fn notifications_are_read_from_queues() {
        let body = json!({"Records": [{"eventSource": "aws:s3", "s3": {
            "bucket": {"name": "b"}, "object": {"key": "a+b/%C3%A9%2B.csv"}}}]});
        let sqs = record(json!({
            "eventSource": "aws:sqs", "eventSourceARN": "arn:q", "messageId": "m", "body": body.to_string(),
        }));
        let stored = sqs.notification().unwrap().remove(0);
        assert_eq!(
            (stored.bucket(), stored.key().as_str()),
            ("b", "a b/é+.csv")
        );
        let of_body = |body: Json| {
            let sqs = json!({"eventSource": "aws:sqs", "eventSourceARN": "arn:q", "messageId": "m", "body": body.to_string()});
            record(sqs).notification().map(|stored| stored.len())
        };
        // S3 sends this when the notifications of a bucket are set up.
        assert_eq!(
            of_body(json!({"Service": "Amazon S3", "Event": "s3:TestEvent"})),
            Some(0)
        );
        assert_eq!(of_body(json!({"Records": []})), None);
        assert_eq!(of_body(json!({"Records": [{"eventSource": "x"}]})), None);
    }
}
