//! Tests with answers of S3 that the local servers do not give.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use url::Url;
use wafer_store::{Kind, Result};

use super::{BucketClient, Content, Existing, PART_BYTES, parts_of};
use crate::test_server::{Answer, Fault, answer, object, range, refusal, serve};

/// A timeout that no answer of the server takes that does not stall.
const LONG: Duration = Duration::from_secs(10);

/// Returns a client of a server, and the number of requests so far.
fn server(
    answers: impl Fn(usize, &str) -> Answer + Send + Sync + 'static,
) -> (BucketClient, Arc<AtomicUsize>) {
    let (account, calls) = serve(answers);
    let client = BucketClient::open(&account, &Url::parse("s3://bucket").unwrap()).unwrap();
    (client.with_part_timeout(Duration::from_millis(300)), calls)
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
async fn rest_of_a_part_that_stalls_or_breaks_off_is_read_again() {
    for fault in [Fault::Stall, Fault::Break, Fault::Close, Fault::Reset] {
        let (client, calls) = server(move |number, head| {
            object(head, b"content", "1").with_fault((number == 0).then_some(fault))
        });
        let found = read_all(&client, None).await.unwrap().unwrap();
        assert_eq!(&found[..], b"content", "{fault:?}");
        assert!(calls.load(Ordering::Relaxed) > 1, "{fault:?}");
    }
}

/// Each attempt brings less than a part, as on a slow line, and there are more of them than may
/// fail.
#[tokio::test]
async fn slow_part_is_read_as_long_as_something_arrives() {
    let content = Arc::new(large_content());
    let sent = Arc::clone(&content);
    let (client, calls) = server(move |_, head| {
        let (start, end) = range(head).unwrap();
        // Half of the rest is sent.
        let is_long = end.min(sent.len()) - start > 256 << 10;
        object(head, &sent, "1").with_fault(is_long.then_some(Fault::Break))
    });
    let found = read_all(&client.with_part_timeout(LONG), None).await;
    assert!(found.unwrap().unwrap() == content[..]);
    // From 8 MiB to less than 256 KiB by halves, for two parts, and for half of one.
    assert!(calls.load(Ordering::Relaxed) > 15);
}

#[tokio::test]
async fn part_of_which_nothing_arrives_fails_after_some_attempts() {
    let (client, calls) = server(|_, head| object(head, b"content", "1").with_fault(Fault::Break));
    let error = read_all(&client, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert_eq!(calls.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn part_of_another_version_is_not_joined_with_the_rest() {
    let (client, _) = server(|number, head| match number {
        0 => object(head, b"content", "1").with_fault(Fault::Break),
        _ => object(head, b"CONTENT", "2"),
    });
    let error = read_all(&client, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(error.to_string().contains("replaced"), "{error}");
}

#[tokio::test]
async fn object_that_is_shorter_when_the_rest_is_read_is_a_conflict() {
    let (client, _) = server(|number, head| match number {
        0 => object(head, b"content", "1").with_fault(Fault::Break),
        _ => object(head, b"c", "2"),
    });
    let error = read_all(&client, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error}");
    assert!(error.to_string().contains("replaced"), "{error}");
}

/// All of the content arrives, and is not what the checksum of the answer is of.
#[tokio::test]
async fn part_that_was_damaged_on_its_way_is_read_again() {
    let damaged = |head: &str| {
        let checksum = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        object(head, b"c0ntent", "1").with_header("x-amz-checksum-sha256", checksum)
    };
    let (client, calls) = server(move |number, head| match number {
        0 => damaged(head),
        _ => object(head, b"content", "1"),
    });
    let found = read_all(&client, None).await.unwrap().unwrap();
    assert_eq!(&found[..], b"content");
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let (client, calls) = server(move |_, head| damaged(head));
    let error = read_all(&client, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert_eq!(calls.load(Ordering::Relaxed), 5);
}

#[test]
fn parts_cover_a_range() {
    let parts = |range, part| parts_of(range, part).collect::<Vec<_>>();
    assert_eq!(parts(3..10, 3), [3..6, 6..9, 9..10]);
    assert_eq!(parts(3..9, 3), [3..6, 6..9]);
    assert_eq!(parts(3..4, 3), std::slice::from_ref(&(3..4)));
    assert!(parts(3..3, 3).is_empty());
}

/// Returns the content of an object of two parts and a half. Each byte is the number of its part.
fn large_content() -> Vec<u8> {
    let part = PART_BYTES as usize;
    [vec![0; part], vec![1; part], vec![2; part / 2]].concat()
}

#[tokio::test]
async fn parts_are_joined_in_order() {
    let content = Arc::new(large_content());
    let sent = Arc::clone(&content);
    let (client, calls) = server(move |number, head| {
        // Later parts come earlier.
        std::thread::sleep(Duration::from_millis(100 / (number as u64 + 1)));
        object(head, &sent, "1")
    });
    let found = read_all(&client.with_part_timeout(LONG), None).await;
    assert!(found.unwrap().unwrap() == content[..]);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn object_replaced_between_parts_is_a_conflict() {
    let content = large_content();
    let (client, _) =
        server(move |number, head| object(head, &content, if number == 0 { "1" } else { "2" }));
    let read = read_all(&client.with_part_timeout(LONG), None).await;
    let error = read.unwrap_err();
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
async fn multipart_upload_without_an_id_is_not_gone_on_with() {
    for begun in ["", "<UploadId></UploadId>"] {
        let body =
            format!("<InitiateMultipartUploadResult>{begun}</InitiateMultipartUploadResult>");
        let (client, calls) = server(move |_, _| answer(200, "", body.clone()));
        let content = Content::Memory(large_content().into());
        let about = "write s3://bucket/folder/key";
        let written = client.write(&key(), &content, Existing::Keep, about).await;
        let error = written.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal, "{error}");
        assert!(error.to_string().contains("no id of the upload"), "{error}");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
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

/// A page of a list in the encoding of URLs, with objects of these keys and sizes.
fn page(objects: &[(&str, u64)], encoding: &str) -> Answer {
    let contents = objects.iter().map(|(key, size)| {
        format!("<Contents><Key>{key}</Key><Size>{size}</Size><ETag>\"1\"</ETag></Contents>")
    });
    let contents: String = contents.collect();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult \
         xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{encoding}\
         <IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    );
    answer(200, "content-type: application/xml\r\n", body)
}

#[tokio::test]
async fn keys_of_a_list_are_decoded_and_those_that_are_no_paths_are_apart() {
    let encoded = [
        ("f/a+b%2Bc", 1),
        ("f/%C3%A9%26%25", 1),
        ("f/line%0Aand%01", 1),
        ("f//twice", 1),
        ("f/../up", 1),
        ("f/end/", 1),
        ("f/marker/", 0),
    ];
    let (client, _) = server(move |_, head| {
        assert!(head.contains("encoding-type=url"), "{head}");
        page(&encoded, "<EncodingType>url</EncodingType>")
    });
    let listing = client.list(&Path::from("f"), "list s3://bucket/f").await;
    let listing = listing.unwrap();
    let keys: Vec<&str> = listing.objects.iter().map(|o| o.key.as_ref()).collect();
    assert_eq!(keys, ["f/a b+c", "f/é&%"]);
    let odd = ["f/line\nand\u{1}", "f//twice", "f/../up", "f/end/"];
    assert_eq!(listing.odd, odd);

    // A server that does not know the encoding.
    let (client, _) = server(|_, _| page(&[("f/a+b%2Bc", 1)], ""));
    let listing = client.list(&Path::from("f"), "list s3://bucket/f").await;
    assert_eq!(listing.unwrap().objects[0].key.as_ref(), "f/a+b%2Bc");
}

#[tokio::test]
async fn page_in_the_place_of_an_answer_is_told_as_one() {
    let page = "<!DOCTYPE html>\n<title>Sign in</title>";
    for status in [200, 302, 403, 404] {
        let (client, _) = server(move |_, _| answer(status, "content-type: text/html\r\n", page));
        let about = "list s3://bucket/folder";
        let error = client.list(&Path::from("folder"), about).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Internal, "{error}");
        let wanted = format!(
            "cannot list s3://bucket/folder: the answer is a page of HTML and not one of the service \
             (status {status}, content type `text/html`, which begins with `<!DOCTYPE html>`)"
        );
        let said = error.chain();
        assert!(said.contains(&wanted), "{said}");
        assert!(!said.contains("Sign in"), "{said}");
    }
    // Somebody else cannot tell that an object is not there.
    let (client, _) = server(move |_, _| answer(404, "content-type: text/html\r\n", page));
    let error = client
        .head(&key(), "look at s3://bucket")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("a page of HTML"), "{error}");
}
