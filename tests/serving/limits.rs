//! Limits of requests: sizes, counts, memory, and compressed bodies.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::harness::ledger::{ledger, three_entries};
use crate::harness::{Project, Server, are_embedded, guest, misbehaving, wait_for};

const MIB: usize = 1 << 20;
const NDJSON: &str = "application/x-ndjson";
const JSON: &str = "application/json";
const ARROW: &str = "application/vnd.apache.arrow.stream";
const PARQUET: &str = "application/vnd.apache.parquet";

/// A request that is sent to a server, whatever its answer.
struct Request {
    path: &'static str,
    media_type: &'static str,
    encoding: &'static str,
    body: Vec<u8>,
    /// The statuses that it may have.
    statuses: &'static [u16],
}

impl Request {
    fn new(
        path: &'static str,
        media_type: &'static str,
        body: impl Into<Vec<u8>>,
        statuses: &'static [u16],
    ) -> Self {
        Self {
            path,
            media_type,
            encoding: "identity",
            body: body.into(),
            statuses,
        }
    }

    /// Sends the request, and checks its status and how much memory the server took for it.
    fn check(&self, server: &Server) {
        let headers = [
            ("content-type", self.media_type),
            ("content-encoding", self.encoding),
        ];
        let mut status = 0;
        let mut error = Json::Null;
        let memory = server.memory_for(|| {
            let (found, answer) = server.post_with(self.path, &headers, &self.body);
            status = found;
            error = answer["error"].clone();
        });
        let name = format!(
            "{} {} {} of {} bytes, {}",
            self.path,
            self.media_type,
            self.encoding,
            self.body.len(),
            String::from_utf8_lossy(&self.body[..self.body.len().min(40)])
        );
        assert!(self.statuses.contains(&status), "{name}: {status} {error}");
        let allowed = 64 * MIB + 8 * self.body.len();
        assert!(
            memory <= allowed as u64,
            "{name}: {} MiB, and {} MiB are allowed; {status} {error}",
            memory >> 20,
            allowed >> 20
        );
    }
}

/// Returns a list in which an item is repeated, of so many bytes.
fn list(item: &str, bytes: usize) -> String {
    let count = bytes / (item.len() + 1);
    let items = format!("{item},").repeat(count);
    format!("[{}]", items.trim_end_matches(','))
}

#[cfg(target_os = "linux")]
#[test]
fn no_request_takes_more_memory_than_its_size_allows() {
    let project = misbehaving::project("well", "").applied();
    let server = project.serve(&[]);
    let small = r#"{"id":1,"at":"2013-01-01T00:00:00Z","x":0.5}"#;
    let (features, events) = ("/v1/views/thing/features", "/v1/sources/things/events");
    let labels = "/v1/views/last/training-set?time=at";
    let cloud_events = "application/cloudevents-batch+json";
    let cloud_event = "application/cloudevents+json";
    let (infer, online) = ("/v2/models/none/infer", "/get-online-features");
    let (write, push) = ("/write-to-online-store", "/push");
    // What is loaded by the first requests does not count.
    assert_eq!(misbehaving::request(&server, 1).0, 200);
    assert_eq!(server.events("things", small).0, 200);
    let frame = |name: &str, value: &str, bytes: usize| {
        format!(
            r#"{{"{name}":"things","feature_view_name":"thing","df":{{"id":{}}}}}"#,
            list(value, bytes)
        )
    };
    let tensor = |data: &str, count: usize| {
        format!(
            r#"{{"inputs":[{{"name":"x","datatype":"FP64","shape":[{count}],"data":{data}}}]}}"#
        )
    };
    let many: String = (0..60_000)
        .map(|id| format!("{{\"id\":{id},\"at\":\"2013-01-01T00:00:00Z\",\"x\":0.5}}\n"))
        .collect();
    let rows: Vec<String> = (0..10_000)
        .map(|id| small.replace("\"id\":1", &format!("\"id\":{id}")))
        .collect();
    let labels_csv =
        |rows: usize| "id,at,x\n".to_owned() + &"1,2013-01-01T00:00:00Z,0.5\n".repeat(rows);
    for request in [
        Request::new(events, NDJSON, "1\n".repeat(4 * MIB), &[413]),
        Request::new(events, NDJSON, "1\n".repeat(100_000), &[422]),
        Request::new(events, NDJSON, "{}\n".repeat(100_000), &[422]),
        Request::new(events, NDJSON, many, &[200]),
        Request::new(events, NDJSON, list("1", 8 * MIB), &[413]),
        Request::new(events, JSON, list("{\"a\":1}", 4 * MIB), &[413]),
        Request::new(events, cloud_events, list("1", 8 * MIB), &[413]),
        Request::new(events, cloud_events, list("{}", 300_000), &[422, 413]),
        Request::new(events, cloud_event, list("{\"a\":1}", 4 * MIB), &[413]),
        Request::new(
            features,
            JSON,
            format!("{{\"rows\":{}}}", list("{}", 4 * MIB)),
            &[413],
        ),
        Request::new(
            features,
            JSON,
            format!("{{\"rows\":{}}}", list("1", 16 * MIB)),
            &[413],
        ),
        Request::new(
            features,
            JSON,
            format!("{{\"rows\":{}}}", list("{}", 29_990)),
            &[400],
        ),
        Request::new(
            features,
            JSON,
            format!("{{\"rows\":[{}]}}", rows.join(",")),
            &[200],
        ),
        Request::new(features, JSON, "[".repeat(16 * MIB), &[400, 413]),
        Request::new(
            features,
            JSON,
            format!("\"{}\"", "x".repeat(16 * MIB)),
            &[400],
        ),
        Request::new(infer, JSON, tensor(&list("1", 16 * MIB), 8 * MIB), &[400]),
        Request::new(infer, JSON, tensor(&list("[1]", 4 * MIB), MIB), &[400]),
        Request::new(infer, JSON, tensor(&list("\"\"", 4 * MIB), 10_000), &[400]),
        Request::new(
            online,
            JSON,
            format!(
                "{{\"features\":[\"thing:x\"],\"entities\":{{\"id\":{}}}}}",
                list("1", 16 * MIB)
            ),
            &[413],
        ),
        Request::new(
            online,
            JSON,
            format!(
                "{{\"features\":[\"thing:x\"],\"entities\":{{\"id\":{}}}}}",
                list("1", 40_000)
            ),
            &[400],
        ),
        Request::new(write, JSON, frame("x", "1", 4 * MIB), &[413]),
        Request::new(write, JSON, frame("x", "1", 200_000), &[400]),
        Request::new(push, JSON, frame("push_source_name", "1", 4 * MIB), &[413]),
        Request::new(push, JSON, frame("push_source_name", "1", 200_000), &[400]),
        Request::new(labels, "text/csv", labels_csv(200_000), &[200]),
        Request::new(
            labels,
            "text/csv",
            "id,at,x\n".to_owned() + &"\n".repeat(8 * MIB),
            &[200, 400],
        ),
        Request::new(labels, NDJSON, "1\n".repeat(4 * MIB), &[400]),
        Request::new(labels, NDJSON, "{}\n".repeat(MIB), &[400]),
        Request::new(labels, "text/csv", wide_csv(300_000), &[400]),
        Request::new(labels, "text/csv", wide_csv(1_000), &[200]),
        Request::new(labels, NDJSON, wide_object(300_000), &[400]),
        Request::new(labels, NDJSON, many_names(300_000), &[400]),
        Request::new(labels, ARROW, vec![b'x'; 8 * MIB], &[400]),
        Request::new(labels, PARQUET, vec![b'x'; 8 * MIB], &[400]),
        Request::new(labels, PARQUET, parquet_labels(100_000, 10), &[200]),
        // Texts that the file has once, and every row of it, or that are compressed.
        Request::new(labels, PARQUET, parquet_labels(400, MIB / 4), &[400]),
        Request::new(labels, PARQUET, parquet_labels(1, 60 * MIB), &[400]),
        Request::new(labels, PARQUET, parquet_labels(3, 20 * MIB), &[400]),
        Request::new(labels, ARROW, arrow_labels(2_000, MIB), &[400]),
        Request::new(labels, ARROW, arrow_labels(4, MIB), &[200]),
        // A few bytes of such a text, once they are compressed.
        Request::new(labels, ARROW, compressed_labels(1, 30 * MIB), &[400]),
        Request::new(labels, ARROW, compressed_labels(5_000, 30 * MIB), &[400]),
        Request::new(labels, ARROW, compressed_labels(5_000, 4 * MIB), &[400]),
        Request::new("/nowhere", JSON, vec![b'x'; 8 * MIB], &[404]),
        Request::new("/v1/clock", JSON, list("1", 8 * MIB), &[400, 413]),
    ] {
        request.check(&server);
    }
    // The server still answers, and has given the memory of all of them back.
    assert_eq!(misbehaving::request(&server, 1).0, 200);
}

/// A CSV file of labels with so many other columns, and one row.
fn wide_csv(columns: usize) -> String {
    let names: Vec<String> = (0..columns).map(|column| format!("c{column}")).collect();
    let commas = ",".repeat(columns);
    format!(
        "id,at,{}\n1,2013-01-01T00:00:00Z{commas}\n",
        names.join(",")
    )
}

/// An object with so many names beside those of labels.
fn wide_object(columns: usize) -> String {
    let fields: String = (0..columns)
        .map(|column| format!(",\"c{column}\":1"))
        .collect();
    format!("{{\"id\":1,\"at\":\"2013-01-01T00:00:00Z\"{fields}}}\n")
}

/// Objects each of which has another name.
fn many_names(rows: usize) -> String {
    (0..rows).map(|row| format!("{{\"c{row}\":1}}\n")).collect()
}

/// Labels in so many rows, each with a text.
fn labels_with(text: ArrayRef) -> RecordBatch {
    let rows = text.len();
    let times = TimestampMicrosecondArray::from(vec![0; rows]).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from(vec![1; rows]))),
        ("at", Arc::new(times)),
        ("x", Arc::new(Float64Array::from(vec![0.5; rows]))),
        ("text", text),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// A compressed Parquet file of labels with a text of so many bytes, which is the same in all rows.
fn parquet_labels(rows: usize, bytes: usize) -> Vec<u8> {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(bytes); rows]));
    let batch = labels_with(text);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
    let mut body = Vec::new();
    let writer = ArrowWriter::try_new(&mut body, batch.schema(), Some(properties.build()));
    let mut writer = writer.unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    assert!(body.len() < 4 * MIB, "{}", body.len());
    body
}

/// An Arrow stream of labels with a text of so many bytes, to which all rows refer.
fn arrow_labels(rows: usize, bytes: usize) -> Vec<u8> {
    arrow_stream(&dictionary_labels(rows, bytes), None)
}

/// The same, compressed.
fn compressed_labels(rows: usize, bytes: usize) -> Vec<u8> {
    let labels = dictionary_labels(rows, bytes);
    let body = arrow_stream(&labels, Some(CompressionType::ZSTD));
    assert!(body.len() < MIB / 4, "{}", body.len());
    body
}

/// Labels whose rows all refer to one text of so many bytes.
fn dictionary_labels(rows: usize, bytes: usize) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(bytes)]));
    let keys = Int32Array::from(vec![0; rows]);
    let text = DictionaryArray::<Int32Type>::try_new(keys, texts).unwrap();
    labels_with(Arc::new(text))
}

fn arrow_stream(batch: &RecordBatch, compression: Option<CompressionType>) -> Vec<u8> {
    let options = IpcWriteOptions::default();
    let options = options.try_with_compression(compression).unwrap();
    let writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options);
    let mut writer = writer.unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn labels_that_cannot_be_read_or_written_are_refused_with_the_reason() {
    let project = misbehaving::project("well", "").applied();
    let server = project.serve(&[]);
    let times = TimestampMillisecondArray::from(vec![0, i64::MAX]);
    let batch = labels_with(Arc::new(times));
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    let out_of_range = writer.into_inner().unwrap();
    for (media_type, labels, wanted) in [
        (
            ARROW,
            out_of_range,
            "the training set: row 1, column `text`: 9223372036854775807 of type",
        ),
        (PARQUET, vec![b'x'; 1_000], "the labels"),
    ] {
        let headers = [("content-type", media_type), ("accept", "text/csv")];
        let path = "/v1/views/last/training-set?time=at";
        let (status, answer) = server.post_with(path, &headers, labels);
        assert_eq!(status, 400, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(wanted), "{message}");
        assert!(!message.contains("wafer-work"), "{message}");
    }
}

#[test]
fn labels_that_expand_beyond_their_size_are_refused_with_the_limit() {
    let project = misbehaving::project("well", "").applied();
    let server = project.serve(&[]);
    let path = "/v1/views/last/training-set?time=at";
    for (labels, wanted) in [
        (
            parquet_labels(400, MIB / 4),
            "once they are read, which is the most for a file of this size",
        ),
        (parquet_labels(1, 60 * MIB), "row 0: its values take 60"),
        (
            compressed_labels(200, 30 * MIB),
            "row 0: its values take 30",
        ),
        (
            compressed_labels(1_000, 4 * MIB),
            "once they are read, which is the most for a file of this size",
        ),
        (parquet_labels(3, 20 * MIB), "row 0: its values take 20"),
    ] {
        let media_type = match labels.starts_with(b"PAR1") {
            true => PARQUET,
            false => ARROW,
        };
        let (status, answer) = server.post(path, media_type, labels);
        assert_eq!(status, 400, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(wanted), "{message}");
    }
    let (status, answer) = server.post(path, "text/csv", wide_csv(5_000));
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer.to_string().contains("more than 4096 columns"),
        "{answer}"
    );
}

/// Makes a project whose entities have notes: the newest one, and the last hundred. `server` has
/// settings of the server.
fn notes(server: &str) -> Project {
    let project = Project::new(&format!(
        r#"
[project]
name = "notes"
[server]
{server}
[entities.thing]
keys = {{ id = "int64" }}
[sources.notes]
type = "stream"
columns = {{ id = "int64", at = "timestamp", note = "utf8" }}
[groups.newest]
entity = "thing"
event_time = "at"
[groups.recent]
entity = "thing"
event_time = "at"
aggregates = [{{ function = "last_k", k = 100, column = "note", windows = ["lifetime"] }}]
[pipelines.newest]
source = "notes"
group = "newest"
[pipelines.recent]
source = "notes"
group = "recent"
[views.newest]
lookups = [{{ group = "newest" }}]
[views.recent]
lookups = [{{ group = "recent" }}]
"#
    ));
    project.applied()
}

/// Pushes notes of entity 1, each of so many bytes.
fn push_notes(server: &Server, count: usize, bytes: usize) {
    let (status, answer) = server.events("notes", &notes_of(count, bytes));
    assert_eq!(status, 200, "{answer}");
}

/// So many notes of entity 1, with texts of so many bytes.
fn notes_of(count: usize, bytes: usize) -> String {
    let text = "x".repeat(bytes);
    let note = |number: usize| {
        let second = number % 60;
        let minute = number / 60;
        let at = format!("2020-01-01T00:{minute:02}:{second:02}Z");
        format!("{}\n", json!({"id": 1, "at": at, "note": text}))
    };
    (0..count).map(note).collect()
}

/// Pushes notes as history, which labels of a later time see.
fn fill_with_notes(project: &Project, count: usize, bytes: usize) {
    project.write("notes.ndjson", notes_of(count, bytes));
    let file = project.at("notes.ndjson");
    project.ok(&["push", "notes", &file, "--backfill"]);
}

/// The body of a request that asks for entity 1 so many times.
fn asking(rows: usize) -> String {
    format!("{{\"rows\":{}}}", list("{\"id\":1}", rows * 9))
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_request_looks_up_counts_as_often_as_it_asks_for_it() {
    let project = notes("");
    let server = project.serve(&[]);
    push_notes(&server, 100, 10 << 10);
    let (newest, recent) = ("/v1/views/newest/features", "/v1/views/recent/features");
    let feast = |group: &str, rows: usize| {
        let ids = list("1", rows * 2);
        format!("{{\"features\":[\"{group}:note\"],\"entities\":{{\"id\":{ids}}}}}")
    };
    assert_eq!(server.post(recent, JSON, asking(1)).0, 200);
    for request in [
        Request::new(recent, JSON, asking(20), &[200]),
        Request::new(recent, JSON, asking(7_000), &[400]),
        Request::new(newest, JSON, asking(1_000), &[200]),
        Request::new(newest, JSON, asking(7_000), &[400]),
        Request::new("/get-online-features", JSON, feast("newest", 7_000), &[400]),
    ] {
        request.check(&server);
    }
    let (status, answer) = server.post(recent, JSON, asking(40));
    assert_eq!(status, 400, "{answer}");
    let message = "take more than 32 MiB; ask for fewer rows at once";
    assert!(answer.to_string().contains(message), "{answer}");
}

/// Each text is held by every state of every window, which together are many times the push.
#[cfg(target_os = "linux")]
#[test]
fn a_push_into_many_windows_takes_no_more_memory_than_its_size_allows() {
    const EVENTS: usize = 64;
    let project = Project::new(
        r#"
[project]
name = "windows"
[entities.thing]
keys = { id = "int64" }
[sources.notes]
type = "stream"
columns = { id = "int64", at = "timestamp", note = "utf8" }
[groups.recent]
entity = "thing"
event_time = "at"
aggregates = [
  { function = ["first", "last"], column = "note", windows = ["20m", "2h", "1d", "lifetime"] },
  { function = ["first_k", "last_k", "top_k"], k = 3, column = "note", windows = ["20m", "2h", "1d", "lifetime"] },
]
[pipelines.recent]
source = "notes"
group = "recent"
[views.recent]
lookups = [{ group = "recent" }]
"#,
    );
    let project = project.applied();
    let server = project.serve(&["--clock", "2020-01-01T00:05:00Z,0"]);
    let text = "x".repeat(MIB / 8);
    let note = |id: usize| {
        let note = json!({"id": id, "at": "2020-01-01T00:00:00Z", "note": text});
        format!("{note}\n")
    };
    // What the first push loads does not count.
    assert_eq!(server.events("notes", &note(EVENTS)).0, 200);
    let notes: String = (0..EVENTS).map(note).collect();
    Request::new("/v1/sources/notes/events", NDJSON, notes, &[200]).check(&server);
    let row = server.features("recent", &json!([{ "id": EVENTS - 1 }]));
    assert_eq!(row[0]["features"]["recent_note_last_20m"], text.as_str());
}

/// Stored rows are counted before they are read, and not when all of them are in memory.
#[cfg(target_os = "linux")]
#[test]
fn stored_rows_are_counted_before_they_are_read() {
    // An item of DynamoDB has at most 400 KB.
    if !are_embedded() {
        return;
    }
    let project = notes("");
    let server = project.serve(&[]);
    let text = "x".repeat(8 * MIB);
    for id in 1..=14 {
        let note = json!({"id": id, "at": "2020-01-01T00:00:00Z", "note": text});
        assert_eq!(server.events("notes", &note.to_string()).0, 200);
    }
    let ask = |ids: std::ops::RangeInclusive<u32>| {
        let rows: Vec<Json> = ids.map(|id| json!({ "id": id })).collect();
        json!({ "rows": rows }).to_string()
    };
    server.wait_for_flush();
    // What the first lookup loads does not count.
    let first = "/v1/views/newest/features";
    assert_eq!(server.post(first, JSON, ask(1..=1)).0, 200);
    for path in [first, "/v1/views/recent/features"] {
        Request::new(path, JSON, ask(1..=14), &[400]).check(&server);
        let (status, answer) = server.post(path, JSON, ask(1..=14));
        assert_eq!(status, 400, "{answer}");
        let wanted = "the stored values for the 14 rows of the request take more than 32 MiB";
        assert!(answer.to_string().contains(wanted), "{answer}");
        assert_eq!(server.post(path, JSON, ask(1..=3)).0, 200);
    }
}

/// A value is in memory as it is stored and unpacked, and then as it is unpacked and sent.
#[cfg(target_os = "linux")]
#[test]
fn a_large_row_is_in_memory_twice_at_most() {
    // An item of DynamoDB has at most 400 KB.
    if !are_embedded() {
        return;
    }
    let project = notes("");
    let server = project.serve(&[]);
    for (id, bytes) in [(1, 26 * MIB), (2, 1)] {
        let note = "x".repeat(bytes);
        let event = json!({"id": id, "at": "2020-01-01T00:00:00Z", "note": note});
        assert_eq!(server.events("notes", &event.to_string()).0, 200);
    }
    let (view, feast) = ("/v1/views/newest/features", "/get-online-features");
    let ask = |id: u32| json!({ "rows": [{ "id": id }] }).to_string();
    let ask_feast =
        |id: u32| json!({"features": ["newest:note"], "entities": {"id": [id]}}).to_string();
    server.wait_for_flush();
    // What the first lookups load does not count.
    assert_eq!(server.post(view, JSON, ask(2)).0, 200);
    assert_eq!(server.post(feast, JSON, ask_feast(2)).0, 200);
    for request in [
        Request::new(view, JSON, ask(1), &[200]),
        Request::new(feast, JSON, ask_feast(1), &[200]),
    ] {
        request.check(&server);
    }
    let (_, answer) = server.post(view, JSON, ask(1));
    let note = answer["rows"][0]["features"]["newest_note"].as_str();
    assert_eq!(note.unwrap().len(), 26 * MIB);
}

/// Each row of an event has its identity, and a quarantine table has the whole event.
#[cfg(target_os = "linux")]
#[test]
fn large_identities_and_refused_events_take_no_more_memory_than_their_size_allows() {
    // An item of DynamoDB has at most 400 KB.
    if !are_embedded() {
        return;
    }
    let project = Project::new(
        r#"
[project]
name = "notes"
[entities.thing]
keys = { id = "int64" }
[sources.notes]
type = "stream"
id = "note"
columns = { id = "int64", at = "timestamp", note = "utf8" }
[sources.others]
type = "stream"
columns = { id = "int64", at = "timestamp", note = "utf8" }
[groups.newest]
entity = "thing"
event_time = "at"
[groups.others]
entity = "thing"
event_time = "at"
[pipelines.newest]
source = "notes"
group = "newest"
[pipelines.others]
source = "others"
group = "others"
"#,
    );
    let project = project.applied();
    let server = project.serve(&[]);
    let (notes, others) = ("/v1/sources/notes/events", "/v1/sources/others/events");
    let cloud_event = "application/cloudevents+json";
    let event =
        |id: Json, note: &str| json!({"id": id, "at": "2020-01-01T00:00:00Z", "note": note});
    let of_cloud = |id: &str| {
        let data = event(json!(1), "a");
        json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t", "data": data})
    };
    // What the first pushes load does not count, one that is refused included.
    for (path, body) in [
        (notes, event(json!(1), &"n".repeat(1_024))),
        (others, event(json!(1), "a")),
    ] {
        assert_eq!(server.post(path, NDJSON, body.to_string()).0, 200);
        let refused = event(json!("x"), "b").to_string();
        assert_eq!(server.post(path, NDJSON, refused).0, 422);
    }
    let large = "x".repeat(26 * MIB);
    for (path, media_type, body, wanted) in [
        (
            notes,
            NDJSON,
            event(json!(1), &large),
            "field `note`, its identity, is 27262976 bytes long, and an identity takes at most 1024",
        ),
        (
            others,
            cloud_event,
            of_cloud(&large),
            "its sender and its id together, its identity, is 27262979 bytes long",
        ),
        (others, NDJSON, event(json!(large), "a"), "is not int64"),
    ] {
        let body = body.to_string();
        server.wait_for_flush();
        Request::new(path, media_type, body.as_str(), &[422]).check(&server);
        let (status, answer) = server.post(path, media_type, body);
        let said = answer["events"][0].to_string();
        assert_eq!(status, 422, "{said}");
        assert!(said.contains(wanted) && said.len() < 1_000, "{said}");
    }
    assert_eq!(
        server
            .post(others, cloud_event, of_cloud("7").to_string())
            .0,
        200
    );
}

#[test]
fn an_event_that_could_never_be_looked_up_is_refused_by_name() {
    let project = notes("");
    let server = project.serve(&[]);
    let ask = || server.post("/v1/views/newest/features", JSON, asking(1));
    let wanted = match are_embedded() {
        true => "takes 33554440 bytes, and a request may look up at most 32 MiB",
        false => "takes 33554440 bytes, and the online store keeps at most 4 MiB of a row",
    };
    let note = "x".repeat(32 * MIB);
    let frame = json!({"id": [1], "at": ["2020-01-02T00:00:00Z"], "note": [note]});
    let event = |bytes: usize| {
        let note = "x".repeat(bytes);
        json!({"id": 1, "at": "2020-01-01T00:00:00Z", "note": note}).to_string()
    };
    let (status, answer) = server.events("notes", &event(32 * MIB));
    assert_eq!(status, 422, "{}", answer["events"][0]);
    assert!(answer["events"][0].to_string().contains(wanted), "{answer}");
    for (path, body) in [
        ("/push", json!({"push_source_name": "notes", "df": frame})),
        (
            "/write-to-online-store",
            json!({"feature_view_name": "newest", "df": frame}),
        ),
    ] {
        let body = body.to_string();
        let (status, answer) = server.post(path, JSON, body);
        assert_eq!(status, 400, "{path}: {answer}");
        assert!(answer.to_string().contains(wanted), "{path}: {answer}");
    }
    assert_eq!(ask().1["rows"][0]["status"]["newest_note"], "not_found");
    // An item of DynamoDB has at most 400 KB.
    if !are_embedded() {
        return;
    }
    // The largest row is found.
    let most = 32 * MIB - 8;
    assert_eq!(server.events("notes", &event(most)).0, 200);
    let (status, answer) = ask();
    assert_eq!(status, 200, "{}", answer["error"]);
    let note = answer["rows"][0]["features"]["newest_note"].as_str();
    assert_eq!(note.unwrap().len(), most);
}

#[cfg(target_os = "linux")]
#[test]
fn a_column_of_feast_is_encoded_piece_by_piece() {
    const ROWS: usize = 30;
    let project = notes("");
    let server = project.serve(&[]);
    // Each character is six in JSON.
    let text = "\u{1}".repeat(MIB / 2);
    let note = json!({"id": 1, "at": "2020-01-01T00:00:00Z", "note": text});
    let (status, answer) = server.events("notes", &format!("{note}\n"));
    assert_eq!(status, 200, "{answer}");
    let ask = |rows: usize| {
        let online = json!({"features": ["newest:note"], "entities": {"id": vec![1; rows]}});
        server.post("/get-online-features", JSON, online.to_string())
    };
    assert_eq!(ask(1).0, 200);
    let mut answer = Json::Null;
    let memory = server.memory_for(|| {
        let (status, found) = ask(ROWS);
        assert_eq!(status, 200, "{found}");
        answer = found;
    });
    let column = &answer["results"][1];
    let notes = column["values"].as_array().unwrap();
    assert!(notes.len() == ROWS && notes.iter().all(|note| *note == text.as_str()));
    assert_eq!(column["statuses"], json!(vec!["PRESENT"; ROWS]));
    let times = json!(vec!["2020-01-01T00:00:00Z"; ROWS]);
    assert_eq!(column["event_timestamps"], times);
    let allowed = 64 * MIB;
    assert!(memory <= allowed as u64, "{} MiB", memory >> 20);
}

#[cfg(target_os = "linux")]
#[test]
fn a_training_set_of_large_features_takes_no_more_memory_than_its_labels_allow() {
    let project = notes("");
    fill_with_notes(&project, 100, 20 << 10);
    let server = project.serve(&[]);
    for (view, rows) in [("newest", 6_000), ("recent", 60)] {
        let labels = "id,at\n".to_owned() + &"1,2020-01-02T00:00:00Z\n".repeat(rows);
        let path = format!("/v1/views/{view}/training-set?time=at");
        for accept in [PARQUET, ARROW, "text/csv"] {
            let headers = [("content-type", "text/csv"), ("accept", accept)];
            let memory = server.memory_for(|| {
                let (status, answer) = server.post_with(&path, &headers, &labels);
                assert_eq!(status, 200, "{view} {accept}: {}", answer["error"]);
                if let Some(text) = answer.as_str().filter(|_| accept == "text/csv") {
                    assert!(text.len() > rows * (20 << 10), "{view}: {}", text.len());
                }
            });
            let allowed = 64 * MIB + 8 * labels.len();
            assert!(
                memory <= allowed as u64,
                "{view} {accept}: {} MiB, and {} MiB are allowed",
                memory >> 20,
                allowed >> 20
            );
        }
    }
}

/// Labels of entity 1, after its notes.
fn labels_of_notes(rows: usize) -> String {
    "id,at\n".to_owned() + &"1,2020-01-02T00:00:00Z\n".repeat(rows)
}

#[test]
fn the_disk_of_a_training_set_is_bounded_and_nothing_of_it_is_left() {
    let project = notes("disk_per_set = \"1 MiB\"");
    let temporary = tempfile::tempdir().unwrap();
    fill_with_notes(&project, 1, 10 << 10);
    let server = project.serve_with_temporary_files_in(temporary.path());
    let path = "/v1/views/newest/training-set?time=at";
    let post = |encoding: &str, accept: &str, labels: &[u8]| {
        let headers = [
            ("content-type", "text/csv"),
            ("content-encoding", encoding),
            ("accept", accept),
        ];
        server.post_with(path, &headers, labels)
    };
    let (many, some) = (labels_of_notes(60_000), labels_of_notes(400));
    for (encoding, labels) in [
        ("identity", many.clone().into_bytes()),
        ("gzip", gzip(many.as_bytes())),
        // The training set is larger than its labels.
        ("identity", some.clone().into_bytes()),
        ("zstd", zstd(some.as_bytes())),
    ] {
        for accept in ["text/csv", ARROW] {
            let (status, answer) = post(encoding, accept, &labels);
            assert_eq!(status, 413, "{encoding} {accept}: {answer}");
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(message.contains("server.disk_per_set"), "{message}");
        }
    }
    assert_eq!(
        post("identity", ARROW, labels_of_notes(1).as_bytes()).0,
        200
    );
    let is_work = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.unwrap().file_name();
        name.to_string_lossy().starts_with("wafer-")
    };
    wait_for("the end of temporary files", || {
        !std::fs::read_dir(temporary.path()).unwrap().any(is_work)
    });
}

#[test]
fn all_training_sets_share_a_budget_of_disk() {
    let project = notes("disk = \"1 MiB\"\nbody_timeout = \"5m\"");
    let server = project.serve(&[]);
    push_notes(&server, 1, 10);
    let path = "/v1/views/newest/training-set?time=at";
    let post = |rows: usize| server.post(path, "text/csv", labels_of_notes(rows));
    let (status, answer) = post(60_000);
    assert_eq!(status, 413, "{answer}");
    assert!(answer.to_string().contains("server.disk"), "{answer}");
    assert_eq!(post(6_000).0, 200);
    // Most of the disk has labels that are still coming in.
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/csv\r\n\
         content-length: 1000000\r\n\r\n"
    );
    let send = || {
        let mut other = server.connect();
        other.write_all(head.as_bytes()).unwrap();
        other.write_all(&[b'\n'; 980_000]).unwrap();
        other
    };
    let mut other = send();
    let mut answer = Json::Null;
    wait_for("a full disk", || {
        let (status, found) = post(6_000);
        answer = found;
        if status == 200 {
            // They were refused themselves, since what was answered before still took some disk.
            other = send();
        }
        status == 429
    });
    assert_eq!(answer["error"]["code"], "too_many_requests");
    assert!(answer.to_string().contains("`server.disk`"), "{answer}");
    assert_eq!(post(1).0, 200);
    drop(other);
    wait_for("a free disk", || post(6_000).0 == 200);
}

#[test]
fn answers_share_the_budget_until_they_were_read() {
    let project = notes("memory = \"16 MiB\"");
    let server = project.serve(&[]);
    push_notes(&server, 1, 10 << 10);
    // Two answers of 9 MiB are too much together. Their requests are small.
    let (path, body) = ("/v1/views/newest/features", asking(900));
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut unread = server.connect();
    unread.write_all(head.as_bytes()).unwrap();
    unread.write_all(body.as_bytes()).unwrap();
    let mut start = [0; 12];
    unread.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    let (status, answer) = server.post(path, JSON, &body);
    assert_eq!(status, 429, "{answer}");
    assert!(answer.to_string().contains("server.memory"), "{answer}");
    assert_eq!(server.post(path, JSON, asking(1)).0, 200);
    drop(unread);
    wait_for("a free budget", || server.post(path, JSON, &body).0 == 200);
}

/// The answer has none of what the function returns but what the model makes of it.
#[test]
fn what_functions_return_takes_the_memory_of_all_requests() {
    let model = format!(
        r#"
request_time = "10s"
[functions.linear]
component = "{}"
[models.line]
view = "thing"
label = "label"
task = "regression"
function = "linear"
"#,
        guest("linear").display()
    );
    let project = misbehaving::project("texts-as-asked", &model);
    project.replace(
        "[entities.thing]",
        "[server]\nmemory = \"16 MiB\"\n[entities.thing]",
    );
    let project = project.applied();
    let line = json!({"intercept": 1, "coefficients": {"y": 0}});
    project.push_model("line", "line.json", line.to_string());
    project.ok(&["release", "create", "--model", "line@1"]);
    project.ok(&["endpoints", "set", "line", "r1"]);
    let server = project.serve(&[]);
    let ask = |rows: usize| {
        let tensor = |name: &str, datatype: &str, value: Json| {
            let data = vec![value; rows];
            json!({"name": name, "datatype": datatype, "shape": [rows], "data": data})
        };
        let inputs = [
            tensor("id", "INT64", json!(1)),
            tensor("at", "BYTES", json!("2013-01-01T00:00:00Z")),
            tensor("x", "FP64", json!(1_000_000.0)),
        ];
        let body = json!({ "inputs": inputs }).to_string();
        server.post("/v2/models/line/infer", JSON, body)
    };
    let (status, answer) = ask(10);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["outputs"][0]["data"], json!(vec![1.0; 10]));
    let (status, answer) = ask(20);
    assert_eq!(status, 400, "{answer}");
    assert!(answer.to_string().contains("server.memory"), "{answer}");
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 3).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn compressed_bodies_are_bounded_by_what_was_sent() {
    let project = misbehaving::project("well", "").applied();
    let server = project.serve(&[]);
    assert_eq!(misbehaving::request(&server, 1).0, 200);
    for (encoding, compress) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd)] {
        for (path, media_type, text) in [
            ("/v1/sources/things/events", NDJSON, b"1\n".repeat(32 * MIB)),
            ("/v1/sources/things/events", NDJSON, b" ".repeat(60 * MIB)),
            ("/v1/views/thing/features", JSON, b" ".repeat(60 * MIB)),
            (
                "/v1/views/thing/features",
                JSON,
                list("{}", 16 * MIB).into(),
            ),
            ("/get-online-features", JSON, b" ".repeat(60 * MIB)),
            ("/write-to-online-store", JSON, b" ".repeat(60 * MIB)),
            ("/push", JSON, b" ".repeat(60 * MIB)),
            ("/v2/models/none/infer", JSON, b" ".repeat(60 * MIB)),
            ("/v1/clock", JSON, b" ".repeat(60 * MIB)),
            (
                "/v1/views/last/training-set",
                "text/csv",
                b"\n".repeat(257 * MIB),
            ),
        ] {
            let request = Request {
                path,
                media_type,
                encoding,
                body: compress(&text),
                statuses: if path.starts_with("/v2") {
                    &[400]
                } else {
                    &[413]
                },
            };
            request.check(&server);
        }
    }
}

#[test]
fn bodies_may_be_compressed_on_every_route() {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    let server = project.serve(&["--clock", "2020-01-03T00:00:00Z,0"]);
    let key = json!({"rows": [{"key_a": "a", "key_b": 1}]}).to_string();
    let online =
        json!({"features": ["last_entry:small"], "entities": {"key_a": ["a"], "key_b": [1]}});
    let frame = json!({"key_a": ["c"], "key_b": [1], "happened_at": ["2020-01-01T00:00:00Z"]});
    let write = json!({"feature_view_name": "last_entry", "df": frame}).to_string();
    let labels = "key_a,key_b,event_timestamp\na,1,2020-01-02T00:00:00Z\n";
    let clock = json!({"now": "2020-01-03T00:00:00Z"}).to_string();
    for (path, media_type, body) in [
        ("/v1/sources/entries/events", NDJSON, three_entries()),
        ("/v1/views/account/features", JSON, key),
        ("/get-online-features", JSON, online.to_string()),
        ("/write-to-online-store", JSON, write),
        (
            "/v1/views/account/training-set",
            "text/csv",
            labels.to_owned(),
        ),
        ("/v1/clock", JSON, clock),
        ("/v2/models/none/infer", JSON, "{\"inputs\": []}".to_owned()),
    ] {
        let plain = server.post(path, media_type, &body);
        for (encoding, bytes) in [
            ("gzip", gzip(body.as_bytes())),
            ("zstd", zstd(body.as_bytes())),
            ("identity", body.clone().into_bytes()),
        ] {
            let headers = [("content-type", media_type), ("content-encoding", encoding)];
            let (status, answer) = server.post_with(path, &headers, &bytes);
            assert_eq!(status, plain.0, "{path} {encoding}: {answer}");
            let wrong = [("content-type", media_type), ("content-encoding", "gzip")];
            let (status, answer) = server.post_with(path, &wrong, "no gzip");
            assert_eq!(status, 400, "{path}: {answer}");
            let unknown = [("content-type", media_type), ("content-encoding", "br")];
            let (status, answer) = server.post_with(path, &unknown, &bytes);
            let wanted = if path.starts_with("/v2") { 400 } else { 415 };
            assert_eq!(status, wanted, "{path}: {answer}");
        }
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_with_the_limit_of_its_route() {
    let project = misbehaving::project("well", "").applied();
    let server = project.serve(&[]);
    for (path, media_type, length, wanted) in [
        ("/v1/views/thing/features", JSON, 64 * MIB + 1, "64 MiB"),
        (
            "/v1/views/last/training-set",
            "text/csv",
            256 * MIB + 1,
            "256 MiB",
        ),
        ("/v2/models/none/infer", JSON, 64 * MIB + 1, "64 MiB"),
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {media_type}\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        let (status, answer) = server.raw(head.as_bytes());
        let wanted_status = if path.starts_with("/v2") { 400 } else { 413 };
        assert_eq!(status, wanted_status, "{answer}");
        let message = answer["error"]["message"]
            .as_str()
            .or(answer["error"].as_str());
        let message = message.unwrap().to_owned();
        assert!(
            message.contains(&format!("larger than {wanted}")),
            "{message}"
        );
    }
}

#[test]
fn all_requests_share_a_budget_of_memory() {
    let project = misbehaving::project("well", "");
    project.replace(
        "[entities.thing]",
        "[server]\nmemory = \"16 MiB\"\n[entities.thing]",
    );
    let project = project.applied();
    let server = project.serve(&[]);
    let post = |bytes: usize| {
        let body = format!("{{\"rows\":[]{}}}", " ".repeat(bytes));
        server.post("/v1/views/thing/features", JSON, body)
    };
    assert_eq!(post(MIB).0, 200);
    let (status, answer) = post(3 * MIB);
    assert_eq!(status, 413, "{answer}");
    assert!(answer.to_string().contains("server.memory"), "{answer}");
    // Bodies that take most of the budget are still coming in.
    let head = format!(
        "POST /v1/views/thing/features HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        2 * MIB
    );
    let begin = || {
        let mut other = server.connect();
        other.write_all(head.as_bytes()).unwrap();
        // One that is refused is closed before it was read.
        let _ = other.write_all(&vec![b' '; 2 * MIB - 1_000]);
        other
    };
    let mut others: Vec<TcpStream> = (0..7).map(|_| begin()).collect();
    let mut answer = Json::Null;
    wait_for("a full budget", || {
        let (status, found) = post(MIB);
        answer = found;
        if status != 429 {
            // It may have taken the room of one of the others.
            others.push(begin());
        }
        status == 429
    });
    assert_eq!(answer["error"]["code"], "too_many_requests");
    assert_eq!(
        misbehaving::request(&server, 1).0,
        200,
        "small requests need no budget"
    );
    drop(others);
    wait_for("a free budget", || post(MIB).0 == 200);
}

/// Begins a request for a training set whose labels do not come.
fn begin_training_set(server: &Server) -> TcpStream {
    let head = "POST /v1/views/last/training-set?time=at HTTP/1.1\r\nhost: localhost\r\n\
        content-type: text/csv\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n";
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

const ONE_LABEL: &str = "id,at,x\n1,2013-01-01T00:00:00Z,0.5\n";

#[test]
fn slow_clients_do_not_keep_others_from_making_training_sets() {
    let project = misbehaving::project("well", "").applied();
    let server = project.serve(&[]);
    let _slow: Vec<_> = (0..8).map(|_| begin_training_set(&server)).collect();
    for _ in 0..8 {
        let path = "/v1/views/last/training-set?time=at";
        let (status, answer) = server.post(path, "text/csv", ONE_LABEL);
        assert_eq!(status, 200, "{answer}");
    }
}

#[test]
fn a_limited_number_of_requests_for_training_sets_are_open() {
    let project = misbehaving::project("well", "").applied();
    let server = project.serve(&[]);
    let mut slow: Vec<_> = (0..32).map(|_| begin_training_set(&server)).collect();
    let path = "/v1/views/last/training-set?time=at";
    let post = || server.post(path, "text/csv", ONE_LABEL);
    let mut refused = Json::Null;
    wait_for("a refusal", || {
        // The request below may have been faster than one of the slow ones, which is refused then.
        slow.push(begin_training_set(&server));
        let (status, answer) = post();
        refused = answer;
        status == 503
    });
    assert!(refused.to_string().contains("32 requests"), "{refused}");
    drop(slow);
    wait_for("a place", || post().0 == 200);
}

#[test]
fn large_answers_are_whole() {
    let project = misbehaving::project("well", "").applied();
    let server = project.serve(&[]);
    for count in [0, 1, 127, 128, 129, 256, 257, 10_000] {
        let (status, answer) = misbehaving::request(&server, count);
        assert_eq!(status, 200, "{count}: {answer}");
        assert_eq!(answer["rows"].as_array().unwrap().len(), count);
    }
    let (status, answer) = misbehaving::request(&server, 10_001);
    assert_eq!(status, 400, "{answer}");
}
