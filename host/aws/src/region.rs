//! The regions of buckets with source files, which may be others than that of the project.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use wafer_store::Result;

use crate::account::Account;
use crate::page::REGION_HEADER;
use crate::s3::failed;

/// Returns the account in the region of a bucket. If S3 does not say which it is, this is the
/// account as it is, and the first request for an object says why.
///
/// Makes one request to S3, unless its endpoint is a server that is not AWS's and has no regions.
///
/// # Errors
/// Returns the error when S3 does not answer.
pub(crate) async fn account_of_bucket(account: &Account, bucket: &str) -> Result<Account> {
    if account.endpoint("S3").is_some() {
        return Ok(account.clone());
    }
    let region = region_of(account, bucket).await?;
    Ok(region.map_or_else(|| account.clone(), |region| account.in_region(region)))
}

/// Asks S3 for the region of a bucket.
///
/// It names the region in refusals as well: in those of another region (301), and in those of a
/// role that may read the bucket's objects but not list all of them (403). The SDKs of other
/// languages find regions in the same way. Permissions and answers:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html>
async fn region_of(account: &Account, bucket: &str) -> Result<Option<String>> {
    let error = match account.s3().head_bucket().bucket(bucket).send().await {
        Ok(found) => return Ok(found.bucket_region),
        Err(error) => error,
    };
    let region = error.raw_response().map(named_region);
    region.ok_or_else(|| failed(&format!("find the region of s3://{bucket}"), error))
}

fn named_region(response: &HttpResponse) -> Option<String> {
    let region = response.headers().get(REGION_HEADER)?;
    (!region.is_empty()).then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Returns the region that is found when a server answers with this head.
    async fn found(head: &'static str) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let account = Account::local(&format!("http://{}", listener.local_addr().unwrap()));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines: Vec<_> = lines
                .map_while(std::result::Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            write!(stream, "HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").unwrap();
            lines[0].clone()
        });
        let region = region_of(&account, "b").await.unwrap();
        let asked = server.join().unwrap();
        assert!(asked.starts_with("HEAD /b"), "{asked}");
        region
    }

    #[tokio::test]
    async fn region_of_a_bucket_is_found_in_answers_and_in_refusals() {
        for (head, wanted) in [
            (
                "200 OK\r\nx-amz-bucket-region: eu-west-1",
                Some("eu-west-1"),
            ),
            (
                "301 Moved\r\nx-amz-bucket-region: eu-central-2",
                Some("eu-central-2"),
            ),
            (
                "403 Forbidden\r\nx-amz-bucket-region: cn-north-1",
                Some("cn-north-1"),
            ),
            ("403 Forbidden", None),
            ("404 Not Found", None),
        ] {
            assert_eq!(found(head).await.as_deref(), wanted, "{head}");
        }
    }

    #[tokio::test]
    async fn server_that_is_not_aws_is_not_asked_for_a_region() {
        let account = Account::local("http://127.0.0.1:1");
        let found = account_of_bucket(&account, "b").await.unwrap();
        assert_eq!(found.region(), "us-east-1");
        let client = account.in_region("eu-west-1".to_owned()).s3();
        let region = client.config().region().map(ToString::to_string);
        assert_eq!(region.as_deref(), Some("eu-west-1"));
    }
}
