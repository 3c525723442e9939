//! Tests with answers of S3 that the local servers do not give.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use url::Url;
use wafer_store::{Kind, Result};

use super::{BucketClient, Content, Existing, PART_BYTES};
use crate::account::Account;

/// An answer of the server.
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// Sends half of the body, and then nothing, without closing the connection.
    stalls: bool,
}

fn answer(status: u16, headers: &str, body: impl Into<Vec<u8>>) -> Answer {
    Answer {
        status,
        headers: headers.to_owned(),
        body: body.into(),
        stalls: false,
    }
}

fn refusal(status: u16, code: &str) -> Answer {
    let body = format!("<Error><Code>{code}</Code><Message>by the test</Message></Error>");
    answer(status, "content-type: application/xml\r\n", body)
}

/// Starts a server that answers the call of each number, from 0, by a function of its number and
/// of its head. Returns a client of it, and the number of calls so far.
fn server(
    answers: impl Fn(usize, &str) -> Answer + Send + Sync + 'static,
) -> (BucketClient, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let account = Account::local(&format!("http://{}", listener.local_addr().unwrap()));
    let (calls, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(answers));
    let counted = Arc::clone(&calls);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (answers, counted) = (Arc::clone(&answers), Arc::clone(&counted));
            // Ignore I/O errors, such as a client that closed its connection.
            std::thread::spawn(move || {
                let mut stream = stream?;
                let head = read(&stream)?;
                send(
                    &mut stream,
                    answers(counted.fetch_add(1, Ordering::Relaxed), &head),
                )
            });
        }
    });
    let mut client = BucketClient::open(&account, &Url::parse("s3://bucket").unwrap()).unwrap();
    client.part_timeout = Duration::from_millis(300);
    (client, calls)
}

/// Reads a request, and returns its head.
fn read(stream: &TcpStream) -> std::io::Result<String> {
    let (mut reader, mut head, mut length) = (BufReader::new(stream), String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line.to_lowercase());
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    Ok(head)
}

fn send(stream: &mut TcpStream, answer: Answer) -> std::io::Result<()> {
    let Answer {
        status,
        headers,
        body,
        stalls,
    } = answer;
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} -\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    match stalls {
        true => {
            stream.write_all(&body[..length / 2])?;
            std::thread::sleep(Duration::from_secs(5));
        }
        false => stream.write_all(&body)?,
    }
    stream.flush()
}

fn key() -> Path {
    Path::from("folder/key")
}

async fn read_all(client: &BucketClient, version: Option<&str>) -> Result<Option<Bytes>> {
    let key = key();
    let about = "read s3://bucket/folder/key";
    match client.open_object(&key, version, about).await? {
        Some(found) => found.content().await.map(Some),
        None => Ok(None),
    }
}

async fn write(client: &BucketClient, existing: Existing) -> Result<()> {
    let content = Content::Memory(Bytes::from_static(b"content"));
    let about = "write s3://bucket/folder/key";
    client.write(&key(), &content, existing, about).await
}

#[tokio::test]
async fn stalled_part_is_read_again() {
    let (client, calls) = server(|number, head| {
        assert!(head.contains("range: bytes=0-"), "{head}");
        let headers = "etag: \"1\"\r\ncontent-range: bytes 0-6/7\r\n";
        Answer {
            stalls: number == 0,
            ..answer(206, headers, "content")
        }
    });
    let found = read_all(&client, None).await.unwrap().unwrap();
    assert_eq!(&found[..], b"content");
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

/// Answers a request of a range of an object of two parts and a half.
fn large(head: &str, tag: &str) -> Answer {
    let (_, range) = head.split_once("range: bytes=").unwrap();
    let (start, end) = range.lines().next().unwrap().split_once('-').unwrap();
    let total = PART_BYTES * 5 / 2;
    let (start, end) = (start.parse::<u64>().unwrap(), end.parse::<u64>().unwrap());
    let end = end.min(total - 1);
    let headers = format!("etag: \"{tag}\"\r\ncontent-range: bytes {start}-{end}/{total}\r\n");
    let number = u8::try_from(start / PART_BYTES).unwrap();
    answer(206, &headers, vec![number; (end - start + 1) as usize])
}

#[tokio::test]
async fn parts_are_joined_in_order() {
    let (mut client, calls) = server(|number, head| {
        // Later parts come earlier.
        std::thread::sleep(Duration::from_millis(100 / (number as u64 + 1)));
        large(head, "1")
    });
    client.part_timeout = Duration::from_secs(10);
    let found = read_all(&client, None).await.unwrap().unwrap();
    assert_eq!(found.len() as u64, PART_BYTES * 5 / 2);
    let changes = found.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!((found[0], found[found.len() - 1], changes), (0, 2, 2));
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn object_replaced_between_parts_is_a_conflict() {
    let (mut client, _) = server(|number, head| large(head, if number == 0 { "1" } else { "2" }));
    client.part_timeout = Duration::from_secs(10);
    let error = read_all(&client, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(error.to_string().contains("replaced"), "{error}");
}

#[tokio::test]
async fn another_version_than_the_wanted_one_is_a_conflict() {
    let (client, _) = server(|_, head| {
        assert!(head.contains("if-match: \"1\""), "{head}");
        refusal(412, "PreconditionFailed")
    });
    let error = read_all(&client, Some("\"1\"")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
}

#[tokio::test]
async fn empty_object_is_read_although_it_has_no_range() {
    let (client, _) = server(|_, head| match head.contains("range: ") {
        true => refusal(416, "InvalidRange"),
        false => answer(200, "etag: \"1\"\r\n", ""),
    });
    let key = key();
    let found = client.open_object(&key, None, "read").await.unwrap();
    let found = found.unwrap();
    assert_eq!(found.content().await.unwrap(), Bytes::new());
    let pieces: Vec<Bytes> = found.pieces().try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"");
}

#[tokio::test]
async fn existing_object_is_a_conflict_if_it_is_to_be_kept() {
    let (client, calls) = server(|_, head| {
        assert!(head.contains("x-amz-checksum-sha256: "), "{head}");
        match head.contains("if-none-match: *") {
            true => refusal(412, "PreconditionFailed"),
            false => answer(200, "", ""),
        }
    });
    let error = write(&client, Existing::Keep).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    write(&client, Existing::Replace).await.unwrap();
}

#[tokio::test]
async fn write_is_begun_again_while_another_one_is_in_progress() {
    let (client, calls) = server(|number, _| match number {
        0 | 1 => refusal(409, "ConditionalRequestConflict"),
        _ => answer(200, "", ""),
    });
    write(&client, Existing::Keep).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    let (client, _) = server(|_, _| refusal(409, "ConditionalRequestConflict"));
    let error = write(&client, Existing::Keep).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
}

#[tokio::test]
async fn busy_server_is_asked_again() {
    let (client, calls) = server(|number, _| match number {
        0 | 1 => refusal(503, "SlowDown"),
        _ => answer(200, "", ""),
    });
    write(&client, Existing::Replace).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn missing_object_and_missing_bucket_are_told_apart() {
    let (client, _) = server(|_, _| refusal(404, "NoSuchKey"));
    assert_eq!(read_all(&client, None).await.unwrap(), None);
    assert!(client.head(&key(), "look for").await.unwrap().is_none());
    let (client, _) = server(|_, _| refusal(404, "NoSuchBucket"));
    let error = read_all(&client, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert!(error.to_string().contains("no such bucket"), "{error}");
}

#[tokio::test]
async fn refusals_have_advice() {
    let cases = [
        (
            403,
            "AccessDenied",
            Kind::Internal,
            r#""s3:PutObject", "Resource": "arn:aws:s3:::bucket/"#,
        ),
        (
            403,
            "InvalidAccessKeyId",
            Kind::Internal,
            "AWS_ACCESS_KEY_ID",
        ),
        (
            403,
            "RequestTimeTooSkewed",
            Kind::Internal,
            "this machine's clock",
        ),
        (
            400,
            "ExpiredToken",
            Kind::Internal,
            "does not accept the credentials",
        ),
        (
            301,
            "PermanentRedirect",
            Kind::Invalid,
            "Correct AWS_REGION",
        ),
        (
            400,
            "InvalidRequest",
            Kind::Internal,
            "cannot write s3://bucket/folder/key",
        ),
    ];
    for (status, code, kind, text) in cases {
        let (client, _) = server(move |_, _| refusal(status, code));
        let error = write(&client, Existing::Replace).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{code}: {error}");
        assert!(error.to_string().contains(text), "{code}: {error}");
        assert!(error.chain().contains(code), "{}", error.chain());
    }
}
