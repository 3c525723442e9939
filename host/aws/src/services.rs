//! Calls of Lambda and SQS, by which a deployment is checked.
//!
//! Both have SDKs, which would take minutes to compile for four calls whose answers are JSON. So
//! they are made and signed by what `object_store` has for S3, which the tables need anyway.

use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody, HttpResponse};
use object_store::{CredentialProvider as _, HeaderValue};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use url::form_urlencoded;
use wafer_store::{Error, Kind, Result};

use crate::account::{Account, bucket_endpoint, domain};
use crate::call::statement;
use crate::connections::{self, Encryption};
use crate::page::{page, redirect};
use crate::queue::QueueArn;

/// How long a call may take. The limit of a check is shorter, and says which service is silent.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The greatest size of an answer.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// The greatest number of pages of a list, of 100 entries each.
const MAX_PAGES: usize = 10;

/// The limits of an account, in its region.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AccountLimit {
    concurrent_executions: u64,
    unreserved_concurrent_executions: Option<u64>,
}

impl AccountLimit {
    /// Returns how many invocations of functions that have reserved none there can be at a time.
    pub(crate) fn concurrency(&self) -> u64 {
        let unreserved = self.unreserved_concurrent_executions;
        unreserved.unwrap_or(self.concurrent_executions)
    }
}

/// The mapping of a queue or a stream to a function.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Mapping {
    #[serde(default)]
    pub(crate) event_source_arn: String,
    #[serde(default)]
    pub(crate) state: String,
    pub(crate) state_transition_reason: Option<String>,
    pub(crate) last_processing_result: Option<String>,
    pub(crate) function_response_types: Option<Vec<String>>,
    pub(crate) maximum_record_age_in_seconds: Option<i64>,
    pub(crate) parallelization_factor: Option<u64>,
    scaling_config: Option<ScalingConfig>,
    destination_config: Option<DestinationConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ScalingConfig {
    maximum_concurrency: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DestinationConfig {
    on_failure: Option<OnFailure>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OnFailure {
    destination: Option<String>,
}

impl Mapping {
    /// Returns how many invocations the messages of a queue may take at a time, if that is limited.
    pub(crate) fn maximum_concurrency(&self) -> Option<u64> {
        self.scaling_config.as_ref()?.maximum_concurrency
    }

    /// Returns the ARN of what gets the records of a stream that were given up.
    pub(crate) fn destination(&self) -> Option<&str> {
        let destination = self.destination_config.as_ref()?;
        destination.on_failure.as_ref()?.destination.as_deref()
    }
}

/// The settings of a queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueSettings {
    /// How long a message that was received is not delivered again, in seconds.
    pub(crate) visibility_timeout: u64,
    /// After how many times that it was received a message goes to the dead-letter queue; `None`
    /// if there is none.
    pub(crate) max_receive_count: Option<u64>,
}

/// The mappings of a function.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    pub(crate) found: Vec<Mapping>,
    /// Whether there are more of them, which were not asked for.
    pub(crate) is_cut: bool,
}

/// Lambda and SQS, in the region of an account.
#[derive(Debug)]
pub(crate) struct Services {
    account: Account,
    client: HttpClient,
}

impl Services {
    /// Makes a client of both services. This makes no request.
    pub(crate) fn open(account: &Account) -> Result<Self> {
        let endpoints = ["LAMBDA", "SQS", "S3"].map(|service| account.endpoint(service));
        let mut endpoints = endpoints.iter().flatten();
        let encryption = match endpoints.any(|endpoint| endpoint.starts_with("http://")) {
            true => Encryption::Optional,
            false => Encryption::Required,
        };
        let client = connections::client(encryption, TIMEOUT);
        let client = client.map_err(|e| {
            Error::caused(Kind::Internal, "cannot make a client of Lambda and SQS", e)
        })?;
        Ok(Self {
            account: account.clone(),
            client,
        })
    }

    /// Returns the limits of the account:
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_GetAccountSettings.html>
    pub(crate) async fn account_limit(&self) -> Result<AccountLimit> {
        let action = Action::of("lambda:GetAccountSettings", "*");
        let answer = self.lambda(&action, "/2016-08-19/account-settings").await?;
        action.read(answer, "AccountLimit")
    }

    /// Returns how long an invocation of a function may take, in seconds:
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionConfiguration.html>
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no such function.
    pub(crate) async fn function_timeout(&self, function: &str) -> Result<u64> {
        let action = Action::of("lambda:GetFunctionConfiguration", function);
        let path = format!("/2015-03-31/functions/{function}/configuration");
        let answer = self.lambda(&action, &path).await?;
        action.read(answer, "Timeout")
    }

    /// Returns the mappings of a function, or the first ones of very many:
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_ListEventSourceMappings.html>
    pub(crate) async fn mappings(&self, function: &str) -> Result<Mappings> {
        let action = Action::of("lambda:ListEventSourceMappings", "*");
        let (mut mappings, mut marker) = (Mappings::default(), String::new());
        for _ in 0..MAX_PAGES {
            let path = format!("/2015-03-31/event-source-mappings?FunctionName={function}{marker}");
            let answer = self.lambda(&action, &path).await?;
            let next = answer["NextMarker"].as_str().map(encoded);
            let page: Vec<Mapping> = action.read(answer, "EventSourceMappings")?;
            mappings.found.extend(page);
            mappings.is_cut = next.is_some();
            let Some(next) = next else {
                break;
            };
            marker = format!("&Marker={next}");
        }
        Ok(mappings)
    }

    /// Returns the settings of a queue:
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>
    pub(crate) async fn queue_settings(&self, queue: QueueArn<'_>) -> Result<QueueSettings> {
        let action = Action::of("sqs:GetQueueAttributes", queue.name);
        let endpoint = self.endpoint("sqs");
        let body = json!({
            "QueueUrl": format!("{endpoint}/{}/{}", queue.account, queue.name),
            "AttributeNames": ["VisibilityTimeout", "RedrivePolicy"],
        });
        let mut request = request(&format!("{endpoint}/"), body.to_string().into())?;
        *request.method_mut() = "POST".parse().expect("it is a method");
        let headers = request.headers_mut();
        let target = HeaderValue::from_static("AmazonSQS.GetQueueAttributes");
        headers.insert("x-amz-target", target);
        let content_type = HeaderValue::from_static("application/x-amz-json-1.0");
        headers.insert("content-type", content_type);
        let answer = self.call("sqs", &action, request).await?;
        action.settings(&answer["Attributes"])
    }

    /// Asks for a bucket, without a signature, and returns the error that says so if a web page is
    /// the answer. S3 itself answers in XML, also when it refuses.
    pub(crate) async fn page_of_bucket(&self, bucket: &str) -> Option<Error> {
        let action = Action::of("s3:ListBucket", bucket);
        let address = match self.account.endpoint("S3") {
            Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
            None => bucket_endpoint(&self.account.region, bucket).into_url(),
        };
        let request = request(&address, HttpRequestBody::empty()).ok()?;
        let answer = self.client.execute(request).await.ok()?;
        let status = answer.status().as_u16();
        let content_type = header(&answer, "content-type");
        let content = action.content(answer).await.ok()?;
        let (kind, said) = page(status, Some(&content_type), &content)?;
        Some(action.answered_by_page(kind, &said))
    }

    /// Returns the address of a service, without a slash at the end.
    fn endpoint(&self, service: &str) -> String {
        let region = &self.account.region;
        let domain = domain(region);
        let other = self.account.endpoint(&service.to_uppercase());
        let endpoint = other.unwrap_or_else(|| format!("https://{service}.{region}.{domain}"));
        endpoint.trim_end_matches('/').to_owned()
    }

    async fn lambda(&self, action: &Action<'_>, path: &str) -> Result<Json> {
        let url = format!("{}{path}", self.endpoint("lambda"));
        let request = request(&url, HttpRequestBody::empty())?;
        self.call("lambda", action, request).await
    }

    /// Signs a request, and returns its answer.
    async fn call(
        &self,
        service: &str,
        action: &Action<'_>,
        mut request: HttpRequest,
    ) -> Result<Json> {
        let credential = self.account.credentials.get_credential().await;
        let credential = credential.map_err(|e| action.unreachable(e))?;
        AwsAuthorizer::new(&credential, service, &self.account.region)
            .authorize(&mut request, None);
        let answer = self.client.execute(request).await;
        let answer = answer.map_err(|e| action.unreachable(e))?;
        let status = answer.status().as_u16();
        let error_type = header(&answer, "x-amzn-errortype");
        let content_type = header(&answer, "content-type");
        let content = action.content(answer).await?;
        let by_others = page(status, Some(&content_type), &content);
        if let Some((kind, said)) = by_others.or_else(|| redirect(status)) {
            return Err(action.answered_by_page(kind, &said));
        }
        let answer = serde_json::from_slice::<Json>(&content);
        match status {
            200..=299 => answer.map_err(|e| action.misunderstood(e)),
            _ => Err(action.refused(status, &error_type, &answer.unwrap_or_default())),
        }
    }
}

/// Returns a header of an answer, or an empty text if there is none.
fn header(answer: &HttpResponse, name: &str) -> String {
    let value = answer.headers().get(name);
    let text = value.and_then(|value| value.to_str().ok());
    text.unwrap_or_default().to_owned()
}

/// Makes a request to an address.
fn request(url: &str, body: HttpRequestBody) -> Result<HttpRequest> {
    let mut request = HttpRequest::new(body);
    *request.uri_mut() = url
        .parse()
        .map_err(|_| Error::invalid(format!("`{url}` is not an address of a service of AWS")))?;
    Ok(request)
}

/// Encodes a text as a value in the query of an address.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// An action of IAM on a resource, for error messages.
struct Action<'a> {
    name: &'static str,
    resource: &'a str,
}

impl<'a> Action<'a> {
    fn of(name: &'static str, resource: &'a str) -> Self {
        Self { name, resource }
    }

    /// Collects an answer.
    async fn content(&self, answer: HttpResponse) -> Result<Vec<u8>> {
        let mut pieces = answer.into_body().bytes_stream();
        let mut content = Vec::new();
        while let Some(piece) = pieces.try_next().await.map_err(|e| self.unreachable(e))? {
            content.extend_from_slice(&piece);
            if content.len() > MAX_ANSWER_BYTES {
                let message = format!("the answer to {} is too large", self.name);
                return Err(Error::new(Kind::Internal, message));
            }
        }
        Ok(content)
    }

    /// Reads a field of an answer.
    fn read<T: DeserializeOwned>(&self, mut answer: Json, field: &str) -> Result<T> {
        let field = answer.get_mut(field).map(Json::take);
        serde_json::from_value(field.unwrap_or_default()).map_err(|e| self.misunderstood(e))
    }

    /// Reads the attributes of a queue, all of which are texts.
    fn settings(&self, attributes: &Json) -> Result<QueueSettings> {
        let text = |name: &str| attributes[name].as_str().unwrap_or_default();
        let policy: Json = serde_json::from_str(text("RedrivePolicy")).unwrap_or_default();
        let count = &policy["maxReceiveCount"];
        let count = count.as_u64().or_else(|| count.as_str()?.parse().ok());
        let timeout = text("VisibilityTimeout").parse::<u64>();
        Ok(QueueSettings {
            visibility_timeout: timeout.map_err(|e| self.misunderstood(e))?,
            max_receive_count: count,
        })
    }

    fn misunderstood(&self, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
        let message = format!("the answer to {} is not understood", self.name);
        Error::caused(Kind::Internal, message, cause)
    }

    fn unreachable(&self, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
        let message = format!("{} of {} could not be called", self.name, self.resource);
        Error::caused(Kind::Unavailable, message, cause)
    }

    /// Returns the error for a web page in the place of an answer.
    fn answered_by_page(&self, kind: Kind, said: &str) -> Error {
        Error::new(kind, format!("{} of {}: {said}", self.name, self.resource))
    }

    /// Converts an error of a service, which Lambda names in a header and SQS in the body.
    fn refused(&self, status: u16, error_type: &str, answer: &Json) -> Error {
        let Self { name, resource } = self;
        let in_body = answer["__type"].as_str().unwrap_or_default();
        let code = [error_type, in_body]
            .into_iter()
            .find(|code| !code.is_empty());
        // `com.amazonaws.sqs#QueueDoesNotExist`, and `ResourceNotFoundException:http://…`.
        let code = code.and_then(|code| code.split(':').next()?.rsplit('#').next());
        let code = code.unwrap_or_default();
        let said = [&answer["message"], &answer["Message"]];
        let said = said.into_iter().find_map(Json::as_str).unwrap_or_default();
        let (kind, advice) = match (status, code) {
            (404, _) | (_, "QueueDoesNotExist" | "ResourceNotFoundException") => {
                (Kind::NotFound, ": there is none".to_owned())
            }
            (403, _) | (_, "AccessDeniedException" | "AccessDenied") => (
                Kind::Internal,
                format!(
                    ": it is not allowed. The role needs {}",
                    statement(name, "*")
                ),
            ),
            (429 | 500.., _) => (Kind::Unavailable, String::new()),
            _ => (Kind::Internal, String::new()),
        };
        let message = format!("{name} of {resource}{advice}: {status} {code} {said}");
        Error::new(kind, message.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTION: Action<'static> = Action {
        name: "sqs:GetQueueAttributes",
        resource: "q",
    };

    #[test]
    fn settings_of_queues_are_read_from_texts_and_other_answers_refused() {
        let settings = |visibility_timeout, max_receive_count| QueueSettings {
            visibility_timeout,
            max_receive_count,
        };
        let policy = |count: Json| {
            json!({"deadLetterTargetArn": "arn:aws:sqs:r:1:d", "maxReceiveCount": count})
                .to_string()
        };
        for (attributes, wanted) in [
            (json!({"VisibilityTimeout": "30"}), settings(30, None)),
            (
                json!({"VisibilityTimeout": "360", "RedrivePolicy": policy(json!("5"))}),
                settings(360, Some(5)),
            ),
            (
                json!({"VisibilityTimeout": "360", "RedrivePolicy": policy(json!(10))}),
                settings(360, Some(10)),
            ),
        ] {
            assert_eq!(ACTION.settings(&attributes).unwrap(), wanted);
        }
        let error = ACTION.settings(&Json::Null).unwrap_err().to_string();
        assert!(error.contains("is not understood"), "{error}");
        for answer in [json!([1]), json!("text"), json!({"Timeout": "x"})] {
            let error = ACTION.read::<u64>(answer, "Timeout").unwrap_err();
            assert!(error.to_string().contains("is not understood"), "{error}");
        }
    }

    #[test]
    fn mappings_are_read_with_and_without_what_is_optional() {
        let read = |mapping: Json| -> Mapping {
            let answer = json!({"Mapping": mapping});
            ACTION.read(answer, "Mapping").unwrap()
        };
        let mapping = read(json!({
            "UUID": "u", "BatchSize": 100, "EventSourceArn": "arn:aws:sqs:r:1:q", "State": "Enabled",
            "StateTransitionReason": "USER_INITIATED", "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "ScalingConfig": {"MaximumConcurrency": 5}, "LastModified": 1.5,
        }));
        assert_eq!(mapping.maximum_concurrency(), Some(5));
        assert_eq!(mapping.destination(), None);
        let mapping = read(json!({
            "EventSourceArn": "arn:aws:kinesis:r:1:stream/s", "State": "Enabled",
            "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:s3:::b"}}, "ParallelizationFactor": 1,
            "MaximumRecordAgeInSeconds": -1, "FunctionResponseTypes": null,
        }));
        assert_eq!(mapping.destination(), Some("arn:aws:s3:::b"));
        assert_eq!(mapping.maximum_record_age_in_seconds, Some(-1));
        let mapping = read(json!({"DestinationConfig": {"OnFailure": {}}}));
        assert_eq!(
            (mapping.destination(), mapping.maximum_concurrency()),
            (None, None)
        );
    }

    #[test]
    fn errors_say_what_is_missing() {
        let refused = |status, header: &str, body: Json| ACTION.refused(status, header, &body);
        for (error, kind, wanted) in [
            (
                refused(
                    400,
                    "",
                    json!({"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no q"}),
                ),
                Kind::NotFound,
                "sqs:GetQueueAttributes of q: there is none: 400 QueueDoesNotExist no q",
            ),
            (
                refused(
                    404,
                    "ResourceNotFoundException:http://x",
                    json!({"Message": "no f"}),
                ),
                Kind::NotFound,
                "404 ResourceNotFoundException no f",
            ),
            (
                refused(403, "AccessDeniedException", Json::Null),
                Kind::Internal,
                r#"The role needs {"Effect": "Allow", "Action": "sqs:GetQueueAttributes", "Resource": "*"}"#,
            ),
            (refused(503, "", Json::Null), Kind::Unavailable, "of q: 503"),
        ] {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }
}
