//! AWS credentials and region, from the standard sources of the AWS tools.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;
use wafer_core::without_userinfo;
use wafer_store::{Error, Kind, Result};

use crate::environment::{self, Form};
use crate::sdk_connections;

/// Timeout of one attempt of a call.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection may be idle. After that it is not used again.
///
/// Lambda freezes a process as soon as it waits for its next invocation, and thaws it after seconds
/// or hours. Connections that are idle are purged meanwhile
/// (<https://docs.aws.amazon.com/lambda/latest/dg/best-practices.html>); after which time, neither
/// Lambda nor S3 nor DynamoDB document. They cannot be closed before, as the HTTP clients have no
/// call for that. But when a client is asked for a connection, it drops those that were idle for
/// longer than this, and opens another one.
///
/// It measures that by [`Instant`](std::time::Instant), which is `CLOCK_MONOTONIC` on Linux. This
/// clock goes on while a process is stopped. It stands still while its machine is suspended, and
/// what it does while a virtual machine is frozen is up to the hypervisor. So a request may find a
/// connection that is gone all the same. It is then attempted again, on another one: see `call.rs`
/// for DynamoDB, and `objects/create.rs` for what `object_store` does not attempt again.
/// Connections that are gone without a word are found by timeouts: see `connections.rs` and
/// `sdk_connections.rs`.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of a connection to S3.
pub(crate) const S3_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of one attempt of a call of S3, in which a part of an object is sent. It allows for a
/// line with 5 Mbit/s that all concurrent parts share.
pub(crate) const S3_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a call of S3 is attempted. The waits between the attempts begin with the first and
/// double up to the longest, with jitter: 16 seconds together at most.
const S3_ATTEMPTS: u32 = 9;
const S3_FIRST_WAIT: Duration = Duration::from_millis(100);
const S3_LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long before they expire credentials are renewed.
const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(300);

/// The credentials, region and endpoints for calls to AWS.
#[derive(Clone, Debug)]
pub struct Account {
    pub(crate) config: SdkConfig,
    pub(crate) region: String,
    /// Endpoint of all services, which overrides the environment.
    endpoint: Option<String>,
    pub(crate) credentials: Credentials,
    /// The connections to S3, whose answers may take longer than those of the others.
    s3_connections: SharedHttpClient,
    /// The connections to Step Functions.
    step_functions_connections: SharedHttpClient,
}

impl Account {
    /// Reads credentials and region from the standard sources: environment variables, the AWS
    /// profile, the role of the container or machine. `region` overrides the configured region.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when there is no region or there are no credentials, and the
    /// message says where they are looked for; and when a setting is malformed, with its name.
    pub async fn from_environment(region: Option<String>) -> Result<Self> {
        environment::check_all()?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(sdk_connections::client(ATTEMPT_TIMEOUT))
            .timeout_config(timeouts)
            // `call::call` retries, because it has to count the attempts.
            .retry_config(RetryConfig::disabled());
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        let config = loader.load().await;
        let region = config.region().map(ToString::to_string);
        let region = region.filter(|region| !region.is_empty()).ok_or_else(|| {
            let message = "no AWS region: set AWS_REGION, `region` in the AWS profile, or `?region=` in \
                           `store.online`";
            Error::new(Kind::Invalid, message)
        })?;
        // They may come from a file or a URL as well.
        Form::Region.check(&format!("AWS region {region:?}"), &region)?;
        let endpoint = config.endpoint_url().unwrap_or_default();
        Form::Endpoint.check("`endpoint_url` in the AWS profile", endpoint)?;
        let provider = config.credentials_provider().ok_or_else(no_credentials)?;
        let time = config.time_source().unwrap_or_default();
        let credentials = Credentials::new(provider, time);
        credentials.provide().await?;
        Ok(Self {
            config,
            region,
            endpoint: None,
            credentials,
            s3_connections: sdk_connections::client(S3_ATTEMPT_TIMEOUT),
            step_functions_connections: sdk_connections::client(ATTEMPT_TIMEOUT),
        })
    }

    /// Returns the same account with all services at one endpoint.
    #[must_use]
    pub fn with_endpoint(self, endpoint: &str) -> Self {
        Self {
            endpoint: Some(endpoint.to_owned()),
            ..self
        }
    }

    /// The region.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Returns the same account in another region, for what is there.
    pub(crate) fn in_region(&self, region: String) -> Self {
        Self {
            region,
            ..self.clone()
        }
    }

    /// Creates a DynamoDB client.
    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let mut config = aws_sdk_dynamodb::config::Builder::from(&self.config);
        config.set_endpoint_url(self.endpoint("DYNAMODB"));
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// Creates an S3 client. It uses the credentials and region of the others.
    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        let mut config = aws_sdk_s3::config::Builder::from(&self.config);
        let endpoint = self.endpoint("S3");
        // Other servers than AWS have no host name for each bucket.
        config.set_force_path_style(Some(endpoint.is_some()));
        config.set_endpoint_url(endpoint);
        config.set_http_client(Some(self.s3_connections.clone()));
        config.set_region(Some(Region::new(self.region.clone())));
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(S3_CONNECT_TIMEOUT)
            .operation_attempt_timeout(S3_ATTEMPT_TIMEOUT);
        config.set_timeout_config(Some(timeouts.build()));
        // An answer of which nothing comes for 5 s is given up, and its rest is requested again. An
        // upload that the system takes nothing of for so long is only slow: its buffer holds some
        // MiB. One that stalls is found by the timeout.
        let protection = StalledStreamProtectionConfig::enabled().upload_enabled(false);
        config.set_stalled_stream_protection(Some(protection.build()));
        let retries = RetryConfig::standard()
            .with_max_attempts(S3_ATTEMPTS)
            .with_initial_backoff(S3_FIRST_WAIT)
            .with_max_backoff(S3_LONGEST_WAIT);
        config.set_retry_config(Some(retries));
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Creates a Step Functions client.
    pub(crate) fn step_functions(&self) -> aws_sdk_sfn::Client {
        let mut config = aws_sdk_sfn::config::Builder::from(&self.config);
        config.set_endpoint_url(self.endpoint("SFN"));
        config.set_http_client(Some(self.step_functions_connections.clone()));
        config.set_region(Some(Region::new(self.region.clone())));
        // Attempts need not be counted here, so the SDK can retry.
        config.set_retry_config(Some(aws_sdk_sfn::config::retry::RetryConfig::standard()));
        aws_sdk_sfn::Client::from_conf(config.build())
    }

    /// Returns the endpoint of a service if it is not the default one: that of
    /// [`with_endpoint`](Self::with_endpoint), else `AWS_ENDPOINT_URL_{service}` unless it is
    /// empty, else `AWS_ENDPOINT_URL`. [`from_environment`](Self::from_environment) has checked
    /// them. It has no user name and no password: requests are signed, and errors name the address.
    pub(crate) fn endpoint(&self, service: &str) -> Option<String> {
        let of_service = || environment::endpoint_of(service);
        let found = self.endpoint.clone().or_else(of_service);
        let found = found.or_else(|| self.config.endpoint_url().map(ToOwned::to_owned));
        found.map(|endpoint| without_userinfo(&endpoint).into_owned())
    }
}

/// Returns the partition of a region, with which its ARNs begin after `arn:`:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>
pub(crate) fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

/// Returns the domain of the services in a region.
pub(crate) fn domain(region: &str) -> &'static str {
    match partition(region) {
        "aws-cn" => "amazonaws.com.cn",
        _ => "amazonaws.com",
    }
}

/// The URL of S3 for a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BucketEndpoint {
    /// The name of the bucket is part of the host name.
    VirtualHosted(String),
    /// The name of the bucket is to be the first part of the path.
    PathStyle(String),
}

impl BucketEndpoint {
    /// Returns the URL.
    pub(crate) fn into_url(self) -> String {
        match self {
            Self::VirtualHosted(url) | Self::PathStyle(url) => url,
        }
    }
}

/// Returns the URL of S3 for a bucket in a region.
///
/// The certificates of S3 are for one name before its own, so a bucket whose name has dots is in
/// the path: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html>. The SDK
/// does the same by itself; `object_store` has to be told, and knows no other partition.
pub(crate) fn bucket_endpoint(region: &str, bucket: &str) -> BucketEndpoint {
    let domain = domain(region);
    match bucket.contains('.') {
        true => BucketEndpoint::PathStyle(format!("https://s3.{region}.{domain}")),
        false => BucketEndpoint::VirtualHosted(format!("https://{bucket}.s3.{region}.{domain}")),
    }
}

fn no_credentials() -> Error {
    let message = "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                   give this process a role; `aws sts get-caller-identity` shows whom AWS takes it for";
    Error::new(Kind::Invalid, message)
}

/// A cache of the credentials, for `object_store`, which asks for them with each request.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    provider: SharedCredentialsProvider,
    time: SharedTimeSource,
    cached: Arc<Mutex<Option<CachedCredential>>>,
}

#[derive(Debug)]
struct CachedCredential {
    credential: Arc<AwsCredential>,
    /// When the credentials are renewed; `None` means never.
    until: Option<SystemTime>,
}

impl Credentials {
    fn new(provider: SharedCredentialsProvider, time: SharedTimeSource) -> Self {
        Self {
            provider,
            time,
            cached: Arc::default(),
        }
    }

    async fn provide(&self) -> Result<Arc<AwsCredential>> {
        let mut cached = self.cached.lock().await;
        let now = self.time.now();
        if let Some(cached) = cached
            .as_ref()
            .filter(|c| c.until.is_none_or(|until| now < until))
        {
            return Ok(Arc::clone(&cached.credential));
        }
        let found = self
            .provider
            .provide_credentials()
            .await
            .map_err(|e| Error::caused(Kind::Invalid, no_credentials().to_string(), e))?;
        let (key_id, secret_key) = (found.access_key_id(), found.secret_access_key());
        let parts = [Some(key_id), Some(secret_key), found.session_token()];
        for part in parts.into_iter().flatten() {
            Form::Credential.check("credentials of the AWS profile or of the role", part)?;
        }
        let credential = Arc::new(AwsCredential {
            key_id: key_id.to_owned(),
            secret_key: secret_key.to_owned(),
            token: found.session_token().map(ToOwned::to_owned),
        });
        *cached = Some(CachedCredential {
            credential: Arc::clone(&credential),
            until: found.expiry().map(|expiry| expiry - RENEW_BEFORE_EXPIRY),
        });
        Ok(credential)
    }
}

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.provide()
            .await
            .map_err(|e| object_store::Error::Generic {
                store: "S3",
                source: Box::new(e),
            })
    }
}

#[cfg(test)]
impl Account {
    /// Returns an account whose services are all at a local endpoint, by plain HTTP.
    pub(crate) fn local(endpoint: &str) -> Self {
        let credentials = aws_credential_types::Credentials::new("a", "b", None, None, "test");
        let provider = SharedCredentialsProvider::new(credentials);
        let connections = aws_smithy_http_client::Builder::new().build_http();
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .credentials_provider(provider.clone())
            .region(Region::new("us-east-1"))
            .http_client(connections.clone())
            .build();
        Self {
            credentials: Credentials::new(provider, config.time_source().unwrap_or_default()),
            config,
            region: "us-east-1".to_owned(),
            endpoint: Some(endpoint.to_owned()),
            s3_connections: connections.clone(),
            step_functions_connections: connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_and_domain_follow_from_the_region() {
        for (region, wanted) in [
            ("us-east-1", ("aws", "amazonaws.com")),
            ("us-gov-east-1", ("aws-us-gov", "amazonaws.com")),
            ("cn-north-1", ("aws-cn", "amazonaws.com.cn")),
        ] {
            assert_eq!((partition(region), domain(region)), wanted, "{region}");
        }
    }

    #[test]
    fn endpoint_has_no_password() {
        let account = Account::local("http://user:secret@127.0.0.1:1");
        for service in ["DYNAMODB", "S3", "SFN", "LAMBDA"] {
            let endpoint = account.endpoint(service);
            assert_eq!(endpoint.as_deref(), Some("http://127.0.0.1:1"));
        }
    }

    #[test]
    fn bucket_with_dots_is_in_the_path_and_not_in_the_host_name() {
        for (region, bucket, wanted, is_in_host) in [
            (
                "eu-west-1",
                "b",
                "https://b.s3.eu-west-1.amazonaws.com",
                true,
            ),
            (
                "eu-west-1",
                "my.bucket.org",
                "https://s3.eu-west-1.amazonaws.com",
                false,
            ),
            (
                "us-gov-west-1",
                "b",
                "https://b.s3.us-gov-west-1.amazonaws.com",
                true,
            ),
            (
                "cn-north-1",
                "b",
                "https://b.s3.cn-north-1.amazonaws.com.cn",
                true,
            ),
            (
                "cn-northwest-1",
                "my.bucket",
                "https://s3.cn-northwest-1.amazonaws.com.cn",
                false,
            ),
        ] {
            let wanted = match is_in_host {
                true => BucketEndpoint::VirtualHosted(wanted.to_owned()),
                false => BucketEndpoint::PathStyle(wanted.to_owned()),
            };
            assert_eq!(bucket_endpoint(region, bucket), wanted);
        }
    }
}
