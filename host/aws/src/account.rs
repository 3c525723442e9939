//! Credentials and region, from where every AWS tool has them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_smithy_async::time::SharedTimeSource;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;
use wafer_store::{Error, Kind, Result};

/// One attempt of a call may take so long.
const ATTEMPT: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(1);
/// Credentials are asked for again so long before they run out.
const RENEWED_BEFORE: Duration = Duration::from_secs(300);

/// How to reach AWS: the environment, the profile or the role of this process.
#[derive(Clone, Debug)]
pub struct Account {
    pub(crate) config: SdkConfig,
    pub(crate) region: String,
    /// Where all services are.
    endpoint: Option<String>,
    pub(crate) credentials: Credentials,
}

impl Account {
    /// Reads credentials and region as every AWS tool does: environment variables,
    /// the profile, the role of a container or machine. `region` comes before those.
    ///
    /// # Errors
    /// When there is no region or there are no credentials; says where they are
    /// looked for.
    pub async fn from_environment(region: Option<String>) -> Result<Self> {
        let client = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(ATTEMPT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(client)
            .timeout_config(timeouts)
            // Attempts are counted and spread where calls are made.
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
        let provider = config.credentials_provider().ok_or_else(no_credentials)?;
        let time = config.time_source().unwrap_or_default();
        let credentials = Credentials::new(provider, time);
        credentials.provide().await?;
        Ok(Self {
            config,
            region,
            endpoint: None,
            credentials,
        })
    }

    /// As it is, with all services at one address.
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

    /// A client of DynamoDB.
    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let mut config = aws_sdk_dynamodb::config::Builder::from(&self.config);
        config.set_endpoint_url(self.endpoint("DYNAMODB"));
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// A client of Step Functions.
    pub(crate) fn step_functions(&self) -> aws_sdk_sfn::Client {
        let mut config = aws_sdk_sfn::config::Builder::from(&self.config);
        config.set_endpoint_url(self.endpoint("SFN"));
        // Nothing here is worth counting attempts.
        config.set_retry_config(Some(aws_sdk_sfn::config::retry::RetryConfig::standard()));
        aws_sdk_sfn::Client::from_conf(config.build())
    }

    /// Where a service is, if it is not where it always is: the variables
    /// `AWS_ENDPOINT_URL_…` and `AWS_ENDPOINT_URL`.
    pub(crate) fn endpoint(&self, service: &str) -> Option<String> {
        let name = format!("AWS_ENDPOINT_URL_{service}");
        let found = self.endpoint.clone().or_else(|| std::env::var(name).ok());
        found.or_else(|| self.config.endpoint_url().map(ToOwned::to_owned))
    }
}

fn no_credentials() -> Error {
    let message = "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
                   give this process a role; `aws sts get-caller-identity` shows whom AWS takes it for";
    Error::new(Kind::Invalid, message)
}

/// The same credentials for S3, which asks for them with each request: they are kept
/// until they run out.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    provider: SharedCredentialsProvider,
    time: SharedTimeSource,
    kept: Arc<Mutex<Option<Kept>>>,
}

#[derive(Debug)]
struct Kept {
    credential: Arc<AwsCredential>,
    /// When others are asked for; `None`: never.
    until: Option<SystemTime>,
}

impl Credentials {
    fn new(provider: SharedCredentialsProvider, time: SharedTimeSource) -> Self {
        Self {
            provider,
            time,
            kept: Arc::default(),
        }
    }

    async fn provide(&self) -> Result<Arc<AwsCredential>> {
        let mut kept = self.kept.lock().await;
        let now = self.time.now();
        if let Some(kept) = kept
            .as_ref()
            .filter(|k| k.until.is_none_or(|until| now < until))
        {
            return Ok(Arc::clone(&kept.credential));
        }
        let found = self
            .provider
            .provide_credentials()
            .await
            .map_err(|e| Error::caused(Kind::Invalid, no_credentials().to_string(), e))?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(ToOwned::to_owned),
        });
        *kept = Some(Kept {
            credential: Arc::clone(&credential),
            until: found.expiry().map(|expiry| expiry - RENEWED_BEFORE),
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
