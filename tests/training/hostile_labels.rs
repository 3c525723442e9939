//! Labels that are made to do harm: whatever their bytes are, the server answers and goes on.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Int64Array, NullArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};

use crate::harness::ledger::{ledger, three_entries};
use crate::harness::{Project, Random, Server, write_arrow, write_batch};

const ARROW: &str = "application/vnd.apache.arrow.stream";
const ARROW_FILE: &str = "application/vnd.apache.arrow.file";
const PARQUET: &str = "application/vnd.apache.parquet";

/// Sends labels, and returns the status and the answer.
fn send(server: &Server, content_type: &str, labels: &[u8]) -> (u16, String) {
    let headers = [
        ("content-type", content_type),
        ("accept", "application/x-ndjson"),
    ];
    let path = "/v1/views/account/training-set";
    let (status, answer) = server.post_with(path, &headers, labels);
    (status, answer.to_string())
}

fn project() -> Project {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    project
}

#[test]
fn labels_with_lying_lengths_are_refused_and_the_server_goes_on() {
    let project = project();
    let server = project.serve(&[]);
    // The metadata of a Parquet file (Thrift, compact) that has a list of two billion elements.
    let mut thrift = vec![0x15, 0x02, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00];
    let length = u32::try_from(thrift.len()).unwrap();
    let mut list = b"PAR1".to_vec();
    list.append(&mut thrift);
    list.extend(length.to_le_bytes());
    list.extend(b"PAR1");
    let labels: [(&str, &[u8]); 8] = [
        (ARROW, b""),
        (ARROW, b"\xff\xff\xff\xff\xff\xff\xff\x7f"),
        (ARROW, b"\xff\xff\xff\x7f\0\0\0\0"),
        (ARROW_FILE, b"ARROW1\0\0\xff\xff\xff\x7fARROW1"),
        (ARROW_FILE, b"ARROW1\0\0"),
        (PARQUET, b"PAR1\0\0\0\0\xff\xff\xff\x7fPAR1"),
        (PARQUET, b"PAR1"),
        (PARQUET, &list),
    ];
    for (content_type, labels) in labels {
        let (status, answer) = send(&server, content_type, labels);
        assert_eq!(status, 400, "{content_type} {labels:?}: {answer}");
        assert!(answer.contains("cannot be read"), "{answer}");
    }
    assert_eq!(server.get("/v1/views").0, 200);
    server.stop();
}

#[test]
fn labels_whose_rows_take_no_bytes_are_refused() {
    let project = project();
    let nulls: ArrayRef = Arc::new(NullArray::new(1 << 40));
    let columns = ["key_a", "key_b", "event_timestamp"];
    let columns = columns.map(|name| (name, Arc::clone(&nulls), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let path = project.path().join("labels.arrow");
    write_arrow(&path, &batch);
    let labels = std::fs::read(path).unwrap();
    assert!(labels.len() < 2_000);
    let server = project.serve(&[]);
    let (status, answer) = send(&server, ARROW_FILE, &labels);
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("has 1099511627776 rows"), "{answer}");
    server.stop();
}

#[test]
fn labels_that_were_changed_at_random_get_an_answer() {
    let project = project();
    let columns: [(&str, ArrayRef); 4] = [
        ("key_a", Arc::new(StringArray::from(vec!["a", "b", "a"]))),
        ("key_b", Arc::new(Int64Array::from(vec![1, 1, 2]))),
        (
            "event_timestamp",
            Arc::new(
                TimestampMicrosecondArray::from(vec![1_600_000_000_000_000; 3])
                    .with_timezone("UTC"),
            ),
        ),
        ("label", Arc::new(Int64Array::from(vec![0, 1, 0]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let path = project.path().join("labels.parquet");
    write_batch(&path, &batch);
    let valid = std::fs::read(path).unwrap();
    let server = project.serve(&[]);
    let (status, answer) = send(&server, PARQUET, &valid);
    assert_eq!(status, 200, "{answer}");
    let mut random = Random::new();
    for _ in 0..100 {
        let mut labels = valid.clone();
        for _ in 0..=random.below(3) {
            let place = random.below(labels.len() as u64) as usize;
            labels[place] = random.below(256) as u8;
        }
        let (status, answer) = send(&server, PARQUET, &labels);
        assert!([200, 400].contains(&status), "{status}: {answer}");
    }
    server.stop();
}

/// A damaged source file ends the run, not the program.
#[test]
fn source_files_with_lying_lengths_fail_the_run_with_their_name() {
    let project = project();
    project.replace("entries.ndjson", "entries.arrow");
    for content in [
        b"ARROW1\0\0\xff\xff\xff\x7fARROW1".as_slice(),
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    ] {
        project.write("entries.arrow", content);
        project.ok(&["apply"]);
        let said = project.fails(&["run", "last_entry"]);
        assert!(
            said.contains("entries.arrow cannot be read: it is damaged"),
            "{said}"
        );
    }
}
