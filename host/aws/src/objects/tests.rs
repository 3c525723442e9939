//! Tests with answers of S3, and connections to it, that the local servers do not give.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{
    Error, MultipartUpload, ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload, PutResult,
    Result, UploadPart,
};
use tokio::sync::Semaphore;
use url::Url;
use wafer_core::{Clock, SettableClock, Timestamp};

use super::Deadline;
use super::multipart::{ResilientUpload, UPLOADED_MEBIBYTES};
use super::resilient::ResilientStore;
use crate::s3::{BucketClient, PART_BYTES};
use crate::test_server::{Answer, Fault, answer, object, range, refusal, serve};

#[test]
fn a_folder_on_s3_is_a_bucket_and_a_path_alone() {
    for (text, is_folder) in [
        ("s3://bucket", true),
        ("s3://bucket/", true),
        ("s3://bucket/some/folder/", true),
        ("s3://bucket/folder?", false),
        ("s3://bucket/folder?region=eu-west-1", false),
        ("s3://bucket/folder#1", false),
        ("s3://bucket:1/folder", false),
        ("s3://me@bucket/folder", false),
        ("s3://:secret@bucket/folder", false),
    ] {
        let checked = super::check_folder(&Url::parse(text).unwrap());
        let said = checked.err().map(|error| error.to_string());
        assert_eq!(said.is_none(), is_folder, "{text}: {said:?}");
        assert!(said.is_none_or(|said| !said.contains("secret")), "{text}");
    }
}

/// A timeout that no answer of the server takes that does not stall.
const LONG: Duration = Duration::from_secs(10);
const CONTENT: &[u8] = b"content";
const TAG: &str = "etag: \"1\"\r\n";

#[test]
fn page_in_an_error_of_the_library_is_told_as_one() {
    let source = "Error performing PUT http://h/b in 1s - Server returned non-2xx status code: \
                  403 Forbidden: <html>\n<title>Sign in</title>";
    let error = Error::Generic {
        store: "S3",
        source: source.into(),
    };
    let said = super::failed("write to s3://b", error).chain();
    let wanted = "cannot write to s3://b: the answer is a page of HTML and not one of the service \
                  (status 403, which begins with `<html>`)";
    assert!(said.starts_with(wanted), "{said}");
    assert!(!said.contains("Sign in"), "{said}");
}

/// Returns the store of a server with a timeout of its requests, and the number of requests so far.
fn store_with(
    timeout: Duration,
    answers: impl Fn(usize, &str) -> Answer + Send + Sync + 'static,
) -> (ResilientStore, Arc<AtomicUsize>) {
    let (account, requests) = serve(answers);
    let client = BucketClient::open(&account, &Url::parse("s3://bucket").unwrap()).unwrap();
    let client = client.with_part_timeout(timeout);
    let mut store = ResilientStore::open(&account, client, timeout).unwrap();
    store.creates_in_parts = true;
    (store, requests)
}

fn store(
    answers: impl Fn(usize, &str) -> Answer + Send + Sync + 'static,
) -> (ResilientStore, Arc<AtomicUsize>) {
    store_with(LONG, answers)
}

fn key() -> Path {
    Path::from("folder/key")
}

async fn create(store: &ResilientStore, location: &Path) -> Result<PutResult> {
    let content = PutPayload::from_static(CONTENT);
    store
        .put_opts(location, content, PutMode::Create.into())
        .await
}

/// Returns the content of an object of two parts and a half, of which no two parts are equal.
fn large_content() -> Vec<u8> {
    let byte = |at: usize| (at / 1_000) as u8 ^ (at >> 20) as u8;
    (0..PART_BYTES as usize * 5 / 2).map(byte).collect()
}

type Ranges = Arc<Mutex<Vec<Option<(usize, usize)>>>>;

/// Returns the store of a server that has a large object, with the ranges that were requested.
/// `change` changes the answer to the request of each number.
fn large_store(
    content: &Arc<Vec<u8>>,
    change: impl Fn(usize, Answer) -> Answer + Send + Sync + 'static,
) -> (ResilientStore, Ranges) {
    let (content, ranges) = (Arc::clone(content), Ranges::default());
    let requested = Arc::clone(&ranges);
    let (store, _) = store(move |number, head| {
        requested.lock().unwrap().push(range(head));
        change(number, object(head, &content, "1"))
    });
    (store, ranges)
}

/// Returns the ranges that were requested since this was last called, in order.
fn sorted(ranges: &Ranges) -> Vec<Option<(usize, usize)>> {
    let mut ranges = std::mem::take(&mut *ranges.lock().unwrap());
    ranges.sort_unstable();
    ranges
}

#[tokio::test]
async fn large_object_is_read_in_parts() {
    let content = Arc::new(large_content());
    let (store, ranges) = large_store(&content, |_, answer| answer);
    let (part, total) = (PART_BYTES as usize, content.len());
    let all = store.get(&key()).await.unwrap();
    assert_eq!((all.meta.size, all.range.end), (total as u64, total as u64));
    assert!(all.bytes().await.unwrap() == content[..]);
    let parts = [
        None,
        Some((0, part - 1)),
        Some((part, 2 * part - 1)),
        Some((2 * part, total - 1)),
    ];
    assert_eq!(sorted(&ranges), parts);
    // A range of known size is begun by its first part.
    let some = store.get_range(&key(), 5..total as u64 + 9).await.unwrap();
    assert!(some == content[5..]);
    let parts = [
        Some((5, part + 4)),
        Some((part + 5, 2 * part + 4)),
        Some((2 * part + 5, total - 1)),
    ];
    assert_eq!(sorted(&ranges), parts);
    let small = store.get_range(&key(), 3..3 + PART_BYTES).await.unwrap();
    assert!(small == content[3..3 + part]);
    assert_eq!(sorted(&ranges), [Some((3, part + 2))]);
    let wanted = [0..9, PART_BYTES..2 * PART_BYTES + 9];
    let found = store.get_ranges(&key(), &wanted).await.unwrap();
    assert!(found[0] == content[..9] && found[1] == content[part..2 * part + 9]);
    assert_eq!(sorted(&ranges).len(), 3);
}

#[tokio::test]
async fn part_of_a_large_object_that_breaks_off_is_read_again() {
    let content = Arc::new(large_content());
    for fault in [Fault::Break, Fault::Close, Fault::Reset] {
        let (store, _) = large_store(&content, move |number, answer| {
            answer.with_fault((1..=3).contains(&number).then_some(fault))
        });
        let found = store.get(&key()).await.unwrap().bytes().await;
        assert!(found.unwrap() == content[..], "{fault:?}");
    }
}

#[tokio::test]
async fn large_object_that_is_replaced_while_it_is_read_is_a_conflict() {
    let content = large_content();
    let (store, _) =
        store(move |number, head| object(head, &content, if number < 2 { "1" } else { "2" }));
    let error = store.get(&key()).await.unwrap().bytes().await.unwrap_err();
    assert!(matches!(error, Error::Precondition { .. }), "{error}");
}

#[tokio::test]
async fn small_object_that_stalls_is_read_again() {
    let (store, requests) = store_with(Duration::from_millis(300), |number, head| {
        object(head, CONTENT, "1").with_fault((number == 0).then_some(Fault::Stall))
    });
    let found = store.get(&key()).await.unwrap().bytes().await.unwrap();
    assert_eq!(found, CONTENT);
    assert!(requests.load(Ordering::Relaxed) > 1);
}

/// The server has created the object, but its answer was lost.
#[tokio::test]
async fn creation_whose_answer_is_lost_succeeds_if_the_content_is_the_same() {
    let after_lost = |fault: Fault, stored: &'static [u8]| {
        store(move |number, head| match head.starts_with("put ") {
            true if number == 0 => answer(200, TAG, "").with_fault(fault),
            true => refusal(412, "PreconditionFailed"),
            false => object(head, stored, "1"),
        })
    };
    let log = Path::from("offline/t/_delta_log/00000000000000000001.json");
    for fault in [Fault::Close, Fault::Reset] {
        let (store, _) = after_lost(fault, CONTENT);
        let created = create(&store, &key()).await.unwrap();
        assert_eq!(created.e_tag.as_deref(), Some("\"1\""), "{fault:?}");
        for other in [&b"CONTENT"[..], b"longer content"] {
            let (store, _) = after_lost(fault, other);
            let error = create(&store, &key()).await.unwrap_err();
            assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        }
        // Somebody else may have written the same commit.
        let (store, requests) = after_lost(fault, CONTENT);
        let error = create(&store, &log).await.unwrap_err();
        assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        assert_eq!(requests.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn creation_of_an_object_that_exists_is_refused_although_it_is_the_same() {
    let (store, requests) = store(|_, head| match head.starts_with("put ") {
        true => refusal(412, "PreconditionFailed"),
        false => object(head, CONTENT, "1"),
    });
    let error = create(&store, &key()).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn creation_is_attempted_again_only_if_that_may_help() {
    for (status, code, may_help) in [
        (503, "SlowDown", true),
        (500, "InternalError", true),
        (429, "TooManyRequests", true),
        (408, "RequestTimeout", true),
        (409, "ConditionalRequestConflict", true),
        (400, "InvalidRequest", false),
        (403, "AccessDenied", false),
        (404, "NoSuchBucket", false),
    ] {
        let (store, requests) = store(move |number, head| {
            assert!(head.contains("if-none-match: *"), "{head}");
            match number {
                0 => refusal(status, code),
                _ => answer(200, TAG, ""),
            }
        });
        let created = create(&store, &key()).await;
        assert_eq!(created.is_ok(), may_help, "{code}");
        let wanted = if may_help { 2 } else { 1 };
        assert_eq!(requests.load(Ordering::Relaxed), wanted, "{code}");
    }
}

/// Like a connection that was idle while the process was frozen: the client finds out that it is
/// gone when it uses it.
#[tokio::test]
async fn requests_get_over_a_connection_that_is_gone() {
    for fault in [Fault::Close, Fault::Reset] {
        let (store, requests) = store(move |number, head| {
            let deleted = "<DeleteResult><Deleted><Key>folder/key</Key></Deleted></DeleteResult>";
            let answered = match head.split(' ').next() {
                Some("post") => answer(200, "", deleted),
                _ => answer(200, TAG, ""),
            };
            answered.with_fault((number % 2 == 1).then_some(fault))
        });
        let payload = || PutPayload::from_static(CONTENT);
        store.put(&key(), payload()).await.unwrap();
        create(&store, &key()).await.unwrap();
        assert_eq!(requests.load(Ordering::Relaxed), 3, "{fault:?}");
        store.delete(&key()).await.unwrap();
        assert_eq!(requests.load(Ordering::Relaxed), 5, "{fault:?}");
        store.put(&key(), payload()).await.unwrap();
        store.get(&key()).await.unwrap();
        assert_eq!(requests.load(Ordering::Relaxed), 9, "{fault:?}");
    }
}

#[tokio::test]
async fn creation_in_doubt_is_not_repeated_after_its_deadline() {
    let at = Timestamp::from_micros;
    let clock: Arc<dyn Clock> = Arc::new(SettableClock::stopped_at(at(0)));
    let passing = Arc::clone(&clock);
    let (store, requests) = store(move |number, _| {
        if number == 1 {
            passing.set(at(60_000_000));
        }
        answer(200, TAG, "").with_fault(Fault::Close)
    });
    let create = async || {
        let deadline = Deadline::new(Arc::clone(&clock), at(60_000_000));
        let content = PutPayload::from_static(CONTENT);
        store
            .put_opts(&key(), content, deadline.into_options())
            .await
    };
    let error = create().await.unwrap_err();
    assert!(error.to_string().contains("not written in time"), "{error}");
    assert_eq!(requests.load(Ordering::Relaxed), 2);
    // The first attempt cannot create the object for the second time.
    create().await.unwrap_err();
    assert_eq!(requests.load(Ordering::Relaxed), 3);
}

/// Answers the requests of an upload in parts. `complete` answers its completion.
fn upload(head: &str, complete: impl FnOnce() -> Answer) -> Answer {
    let first = head.lines().next().unwrap_or_default();
    let begun = "<InitiateMultipartUploadResult><UploadId>u</UploadId>\
                 </InitiateMultipartUploadResult>";
    match first.split(' ').next() {
        Some("post") if first.contains("uploads") => answer(200, "", begun),
        Some("post") => complete(),
        Some("delete") => answer(204, "", ""),
        _ => answer(200, TAG, ""),
    }
}

fn completed() -> Answer {
    let done = "<CompleteMultipartUploadResult><ETag>\"2\"</ETag></CompleteMultipartUploadResult>";
    answer(200, "", done)
}

#[tokio::test]
async fn large_object_is_created_in_parts_unless_it_exists() {
    let content = Bytes::from(large_content());
    for exists in [false, true] {
        let (mut store, requests) = store(move |_, head| {
            upload(head, || {
                assert!(head.contains("if-none-match: *"), "{head}");
                match exists {
                    true => refusal(412, "PreconditionFailed"),
                    false => completed(),
                }
            })
        });
        let put = async |store: &ResilientStore, mode: PutMode| {
            let content = content.clone().into();
            store.put_opts(&key(), content, mode.into()).await
        };
        match put(&store, PutMode::Create).await {
            Ok(_) => assert!(!exists),
            Err(Error::AlreadyExists { .. }) => assert!(exists),
            Err(e) => panic!("{e}"),
        }
        // What was uploaded in vain is removed.
        let wanted = if exists { 6 } else { 5 };
        assert_eq!(requests.swap(0, Ordering::Relaxed), wanted);
        store.creates_in_parts = false;
        put(&store, PutMode::Create).await.unwrap();
        assert_eq!(requests.load(Ordering::Relaxed), 1);
    }
}

/// On a slow line, the parts of a commit take longer than a repeated attempt may.
#[tokio::test]
async fn upload_may_take_longer_than_its_deadline_and_is_not_begun_again_after_it() {
    let at = Timestamp::from_micros;
    let content = Bytes::from(large_content());
    // The time when the first part was sent, whether S3 wants the upload to be begun again, how
    // many completions it is asked for, and whether the object is created.
    for (sent, is_interrupted, completions, is_created) in [
        (0, false, 1, true),
        (0, true, 2, true),
        (90_000_000, false, 1, true),
        (90_000_000, true, 1, false),
    ] {
        let clock: Arc<dyn Clock> = Arc::new(SettableClock::stopped_at(at(0)));
        let (passing, asked) = (Arc::clone(&clock), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        let (store, _) = store(move |_, head| {
            if head.starts_with("put ") {
                passing.set(at(sent));
            }
            upload(head, || match count.fetch_add(1, Ordering::Relaxed) {
                0 if is_interrupted => refusal(409, "ConditionalRequestConflict"),
                _ => completed(),
            })
        });
        let options = Deadline::new(clock, at(60_000_000)).into_options();
        let location = key();
        let created = store.put_opts(&location, content.clone().into(), options);
        let created = created.await.is_ok();
        assert_eq!(created, is_created, "{sent}, {is_interrupted}");
        assert_eq!(asked.load(Ordering::Relaxed), completions);
    }
}

/// Whoever looks for objects would not find one that is created so late, and whoever waits for
/// those of events waits no longer than until their deadline.
#[tokio::test]
async fn creation_is_not_begun_after_the_deadline_of_first_attempts() {
    let at = Timestamp::from_micros;
    for content in [Bytes::from_static(CONTENT), large_content().into()] {
        // The time, the deadline of the first attempt unless it is the usual one, and whether the
        // object is created.
        for (now, first, wanted) in [
            (3_600_000_000, None, false),
            (60_000_000, None, true),
            (60_000_000, Some(0), false),
            (0, Some(0), true),
            (120_000_000, Some(120_000_000), false),
            (60_000_000, Some(120_000_000), true),
        ] {
            let (store, requests) = store(|_, head| upload(head, completed));
            let clock = SettableClock::stopped_at(at(now));
            let deadline = Deadline::new(Arc::new(clock), at(60_000_000));
            let deadline = match first {
                Some(first) => deadline.with_first(at(first)),
                None => deadline,
            };
            let payload = content.clone().into();
            let key = key();
            let created = store.put_opts(&key, payload, deadline.into_options());
            match created.await {
                Ok(_) => assert!(wanted, "{now}, {first:?}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("not written in time"), "{error}");
                    let asked = requests.load(Ordering::Relaxed);
                    assert_eq!((wanted, asked), (false, 0), "{now}, {first:?}");
                }
            }
        }
    }
}

/// The server has completed the upload, but its answer was lost, and the object exists.
#[tokio::test]
async fn creation_in_parts_whose_answer_is_lost_succeeds_if_the_content_is_the_same() {
    let content = Bytes::from(large_content());
    let log = Path::from("offline/t/_delta_log/00000000000000000001.json");
    for (location, is_same, is_created) in [
        (key(), true, true),
        (key(), false, false),
        // Somebody else may have written the same commit.
        (log, true, false),
    ] {
        let (mut stored, completions) = (content.to_vec(), AtomicUsize::new(0));
        stored[9] ^= u8::from(!is_same);
        let (store, _) = store(move |_, head| match head.starts_with("get ") {
            true => object(head, &stored, "1"),
            false => upload(head, || match completions.fetch_add(1, Ordering::Relaxed) {
                0 => refusal(404, "NoSuchUpload"),
                _ => refusal(412, "PreconditionFailed"),
            }),
        });
        let payload = content.clone().into();
        let created = store.put_opts(&location, payload, PutMode::Create.into());
        match created.await {
            Ok(_) => assert!(is_created, "{location}"),
            Err(Error::AlreadyExists { .. }) => assert!(!is_created, "{location}"),
            Err(e) => panic!("{e}"),
        }
    }
}

#[tokio::test]
async fn upload_that_is_gone_was_completed_if_the_object_is_there() {
    for size in [CONTENT.len(), 1] {
        let (store, _) = store(move |_, head| match head.starts_with("head ") {
            true => answer(200, TAG, vec![0; size]),
            false => upload(head, || refusal(404, "NoSuchUpload")),
        });
        let mut upload = store.put_multipart(&key()).await.unwrap();
        upload
            .put_part(PutPayload::from_static(CONTENT))
            .await
            .unwrap();
        match upload.complete().await {
            Ok(done) => assert_eq!((done.e_tag.as_deref(), size), (Some("\"1\""), 7)),
            Err(e) => assert!(matches!(e, Error::NotFound { .. }) && size == 1, "{e}"),
        }
    }
}

/// An upload that counts how many of its parts are on their way.
#[derive(Clone, Debug, Default)]
struct Counting {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl MultipartUpload for Counting {
    fn put_part(&mut self, _data: PutPayload) -> UploadPart {
        let Self { now, most } = self.clone();
        Box::pin(async move {
            most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        unreachable!("the test does not complete it")
    }

    async fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn parts_of_all_uploads_share_the_line() {
    let (store, _) = store(|_, _| answer(200, TAG, ""));
    let line = Arc::new(Semaphore::new(UPLOADED_MEBIBYTES as usize));
    let count = Counting::default();
    for (mebibytes, most) in [(10, 3), (8, 4), (100, 1)] {
        let content = Bytes::from(vec![0; mebibytes << 20]);
        let mut parts = Vec::new();
        for _ in 0..2 {
            let (inner, line) = (Box::new(count.clone()), Arc::clone(&line));
            let store = Arc::clone(&store.retrying);
            let mut upload = ResilientUpload::new(inner, store, key(), line);
            parts.extend((0..4).map(|_| upload.put_part(content.clone().into())));
        }
        let sent: Result<Vec<()>> = join_all(parts).await.into_iter().collect();
        sent.unwrap();
        assert_eq!(count.most.swap(0, Ordering::Relaxed), most);
    }
}
