//! Records of queues and streams: batches in the form in which Lambda passes them on, and those
//! that it gave up. The first byte of an input chooses one of the two.
#![no_main]

use serde_json::{Value as Json, json};
use wafer_aws::records::{LambdaRecords, Record};
use wafer_aws::{EventSources, failed_batch};
use wafer_core::IncomingEvent;

/// The streams of the batches that were given up, each with the source that takes its events.
const SOURCES: &str = "arn:aws:kinesis:us-east-1:1:stream/clicks=clicks;\
                       arn:aws:dynamodb:us-east-1:1:table/t/stream/2024-01-01T00:00:00.000=rows";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, content)) = bytes.split_first() else {
        return;
    };
    match first % 2 {
        0 => passed_on(content),
        _ => given_up(content),
    }
});

/// Decodes a batch as the function does, and once more as if it had been given up.
fn passed_on(content: &[u8]) {
    let Ok(batch) = serde_json::from_slice::<LambdaRecords>(content) else {
        return;
    };
    for record in &batch.records {
        let _ = (record.identifier(), record.fifo_group());
        for stored in record.notification().unwrap_or_default() {
            let _ = (stored.bucket(), stored.key());
        }
    }
    let events: Vec<IncomingEvent> = batch.records.iter().filter_map(Record::event).collect();
    events.iter().for_each(check_kept);
    let (Some(first), Ok(text)) = (batch.records.first(), str::from_utf8(content)) else {
        return;
    };
    let stream = first.arn();
    let Ok(sources) = EventSources::parse(&format!("{stream}=s")) else {
        return;
    };
    let object = json!({
        "KinesisBatchInfo": {
            "streamArn": stream,
            "approximateArrivalOfFirstRecord": "2024-01-01T00:00:00Z",
            "batchSize": batch.records.len(),
        },
        "payload": text,
    });
    if let Ok(batch) = failed_batch(object.to_string().as_bytes(), &sources) {
        let again = batch.events.into_iter().map(|failed| failed.event);
        assert_eq!(again.collect::<Vec<_>>(), events);
    }
}

/// Decodes the content of an object with a batch that was given up.
fn given_up(content: &[u8]) {
    let sources = EventSources::parse(SOURCES).expect("the entries are valid");
    let Ok(batch) = failed_batch(content, &sources) else {
        return;
    };
    assert!(["clicks", "rows"].contains(&batch.source.as_str()));
    for failed in &batch.events {
        assert!(!failed.name.is_empty(), "an event has no name");
        check_kept(&failed.event);
    }
}

/// Checks that an event has an identity, if it has one of its own, and that its fields are the same
/// once they were written as text and read again, as archives and quarantines do.
fn check_kept(event: &IncomingEvent) {
    assert_ne!(event.id.as_deref(), Some(""), "an identity is empty");
    if let Ok(fields) = &event.payload {
        let read: Result<Json, _> = serde_json::from_str(&fields.to_string());
        assert_eq!(read.ok().as_ref(), Some(fields));
    }
}
