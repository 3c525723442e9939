//! Connections to S3, Lambda and SQS for `object_store`, and for what is signed by it.
//!
//! They follow no redirect. No service of AWS needs that: S3 redirects for a bucket of another
//! region alone, where a request is not valid that was signed for this one. What else redirects is
//! not AWS, and could lead a process to addresses that only its machine reaches, whose answers
//! would then be shown. The clients of the AWS SDK follow none by themselves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use object_store::client::HttpClient;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;

use crate::account::{IDLE_TIMEOUT, S3_CONNECT_TIMEOUT};

/// Maximum number of connections that are kept while they are idle, each of which may be gone when
/// a process is thawed, and then costs an attempt.
const IDLE_CONNECTIONS: usize = 8;

/// How long what was sent may stay without the acknowledgement of the other machine until its
/// connection is taken for gone. What is between may have forgotten the connection, and then drops
/// what is sent without a word, for as long as the timeout of the request is. A slow line
/// acknowledges what it has carried, so this does not limit how long a request may take. A machine
/// that acknowledges, but makes no room for more in this time (its window stays closed), loses its
/// connection as well; the request is then attempted again.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// Whether the requests of a client are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// All requests are encrypted. Others fail.
    Required,
    /// Requests to an address that begins with `http://` are not.
    Optional,
}

/// Makes a client. `timeout` is that of a request.
pub(crate) fn client(encryption: Encryption, timeout: Duration) -> reqwest::Result<HttpClient> {
    let client = reqwest::Client::builder()
        .user_agent(concat!("wafer/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .dns_resolver(Arc::new(InTurn::default()))
        .timeout(timeout)
        .connect_timeout(S3_CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        // The size of an object is the length of its content as it is sent.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .https_only(encryption == Encryption::Required);
    #[cfg(target_os = "linux")]
    let client = client.tcp_user_timeout(UNACKNOWLEDGED);
    Ok(HttpClient::new(client.build()?))
}

/// Begins with another address of a host for each connection. S3 has several, and takes more of a
/// process over all of them than over one.
#[derive(Debug, Default)]
struct InTurn(AtomicUsize);

impl Resolve for InTurn {
    fn resolve(&self, name: Name) -> Resolving {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let mut addresses: Vec<SocketAddr> = found.collect();
            let first = turn.checked_rem(addresses.len()).unwrap_or(0);
            addresses.rotate_left(first);
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use url::Url;
    use wafer_core::SystemClock;
    use wafer_store::Kind;

    use super::*;
    use crate::services::Services;
    use crate::test_server::{answer, serve};
    use crate::{Bucket, Dynamo, DynamoConfig};

    #[tokio::test]
    async fn redirects_are_told_and_not_followed() {
        let (other, asked) = serve(|_, _| answer(200, "", "{}"));
        let address = other.endpoint("S3").unwrap();
        let location = format!("location: {address}/latest/meta-data\r\n");
        for status in [301, 302, 303, 307, 308] {
            let location = location.clone();
            let (account, _) = serve(move |_, _| answer(status, &location, ""));
            let bucket = Bucket::open(&account, &Url::parse("s3://b/f").unwrap()).unwrap();
            let probed = bucket.probe(&SystemClock::new()).await;
            let looked = bucket
                .client()
                .head(&Path::from("k"), "read s3://b/k")
                .await;
            let limit = Services::open(&account).unwrap().account_limit().await;
            let config = DynamoConfig::new("t", "p", 1);
            let objects = Arc::new(InMemory::new());
            let clock = Arc::new(SystemClock::new());
            let opened = Dynamo::open(&account, config, objects, clock).await;
            for error in [
                probed.unwrap_err(),
                looked.unwrap_err(),
                limit.unwrap_err(),
                opened.unwrap_err(),
            ] {
                let said = error.to_string();
                let redirect = format!("the answer is a redirect (status {status})");
                for part in [&*redirect, "AWS_ENDPOINT_URL"] {
                    assert!(said.contains(part), "{said}");
                }
                assert!(!said.contains("not allowed"), "{said}");
            }
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }

    /// S3 redirects nowhere, but says that the bucket is in another region.
    #[tokio::test]
    async fn bucket_of_another_region_is_told_as_one() {
        let region = "x-amz-bucket-region: eu-west-1\r\n";
        let (account, _) = serve(move |_, _| answer(301, region, ""));
        let bucket = Bucket::open(&account, &Url::parse("s3://b/f").unwrap()).unwrap();
        let probed = bucket.probe(&SystemClock::new()).await.unwrap_err();
        let looked = bucket
            .client()
            .head(&Path::from("k"), "read s3://b/k")
            .await;
        for error in [probed, looked.unwrap_err()] {
            assert_eq!(error.kind(), Kind::Invalid);
            let said = error.to_string();
            assert!(said.contains("the bucket is in another region"), "{said}");
        }
    }
}
