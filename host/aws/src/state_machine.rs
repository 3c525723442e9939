//! The Step Functions state machine that executes divided runs: starting an execution, and waiting
//! for its end.

use std::time::Duration;

use aws_sdk_sfn::Client;
use aws_sdk_sfn::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_sfn::types::ExecutionStatus;
use serde_json::Value as Json;
use wafer_store::{Error, Kind, Result};

use crate::account::Account;
use crate::arn::Arn;
use crate::call::statement;
use crate::page::page_of;

/// Interval at which the status of an execution is polled.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How many items a map works on at a time if its definition does not limit them:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html>
const UNLIMITED: u64 = 10_000;

/// A state machine of Step Functions.
#[derive(Clone, Debug)]
pub struct StateMachine {
    client: Client,
    arn: String,
}

impl StateMachine {
    /// Opens a state machine by its ARN, in the region that the ARN names. This makes no request
    /// to Step Functions.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when `arn` is not the ARN of a state machine, and the errors of
    /// [`Account::from_environment`].
    pub async fn open(arn: &str) -> Result<Self> {
        let region = region_of(arn)?;
        let account = Account::from_environment(Some(region.to_owned())).await?;
        Self::of(&account, arn)
    }

    /// Opens a state machine like [`open`](Self::open), with the credentials of an account.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when `arn` is not the ARN of a state machine.
    pub(crate) fn of(account: &Account, arn: &str) -> Result<Self> {
        let account = account.in_region(region_of(arn)?.to_owned());
        Ok(Self {
            client: account.step_functions(),
            arn: arn.to_owned(),
        })
    }

    /// Returns how many partitions of a run are worked on at the same time at most.
    ///
    /// # Errors
    /// Returns the errors of Step Functions, with advice on how to fix them.
    pub(crate) async fn concurrency(&self) -> Result<u64> {
        let found = self
            .client
            .describe_state_machine()
            .state_machine_arn(&self.arn)
            .send()
            .await;
        let found = found.map_err(|e| self.failed("states:DescribeStateMachine", e))?;
        let definition: Json = serde_json::from_str(&found.definition).unwrap_or_default();
        let most = definition["States"]["Partitions"]["MaxConcurrency"].as_u64();
        Ok(most.filter(|most| *most > 0).unwrap_or(UNLIMITED))
    }

    /// Starts an execution with a JSON input, and returns the ARN of the execution.
    ///
    /// # Errors
    /// Returns the errors of Step Functions, with advice on how to fix them.
    pub async fn start(&self, input: &Json) -> Result<String> {
        let started = self
            .client
            .start_execution()
            .state_machine_arn(&self.arn)
            .input(input.to_string())
            .send()
            .await;
        let started = started.map_err(|e| self.failed("states:StartExecution", e))?;
        Ok(started.execution_arn)
    }

    /// Waits until an execution has ended, and returns its JSON output.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] with the cause when the execution did not succeed, and the
    /// errors of Step Functions.
    pub async fn wait(&self, execution: &str) -> Result<Json> {
        loop {
            let found = self
                .client
                .describe_execution()
                .execution_arn(execution)
                .send()
                .await;
            let found = found.map_err(|e| self.failed("states:DescribeExecution", e))?;
            match found.status {
                ExecutionStatus::Running | ExecutionStatus::PendingRedrive => {}
                ExecutionStatus::Succeeded => {
                    let output = found.output.unwrap_or_default();
                    return Ok(serde_json::from_str(&output).unwrap_or(Json::Null));
                }
                status => {
                    let cause = found.cause.unwrap_or_default();
                    let message = format!(
                        "execution {execution} ended as {}: {}",
                        status.as_str(),
                        error_message(&cause)
                    );
                    return Err(Error::new(Kind::Unavailable, message));
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn failed<E>(&self, action: &str, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        if let Some((kind, said)) = page_of(&error) {
            return Error::new(kind, format!("{action} of {}: {said}", self.arn));
        }
        let code = error.code().unwrap_or_default();
        let resource = match action {
            "states:DescribeStateMachine" | "states:StartExecution" => self.arn.clone(),
            _ => format!("{}:*", self.arn.replace(":stateMachine:", ":execution:")),
        };
        let (kind, advice) = match code {
            "StateMachineDoesNotExist" => (
                Kind::NotFound,
                ": the state machine does not exist. Create it with `terraform apply`, or correct \
                 WAFER_STATE_MACHINE"
                    .to_owned(),
            ),
            "AccessDeniedException" => (
                Kind::Internal,
                format!(
                    ": access was denied. The policy of the caller needs {}",
                    statement(action, &resource)
                ),
            ),
            _ => (Kind::Unavailable, String::new()),
        };
        let message = format!(
            "{action} of {}{advice}: {}",
            self.arn,
            DisplayErrorContext(&error)
        );
        Error::new(kind, message)
    }
}

/// Returns the region of a state machine's ARN.
fn region_of(arn: &str) -> Result<&str> {
    let found = Arn::of(arn).filter(|arn| arn.service == "states" && !arn.region.is_empty());
    let found = found.filter(|arn| {
        let name = arn.resource.strip_prefix("stateMachine:");
        name.is_some_and(|name| !name.contains(':'))
    });
    found.map(|arn| arn.region).ok_or_else(|| {
        let message = format!(
            "`{arn}` is not a state machine; write arn:aws:states:REGION:ACCOUNT:stateMachine:NAME, which \
             `terraform output -raw environment` prints"
        );
        Error::new(Kind::Invalid, message)
    })
}

/// Extracts the error message of a Lambda function, which is JSON in the cause of a failed
/// execution.
fn error_message(cause: &str) -> String {
    let answered: Option<Json> = serde_json::from_str(cause).ok();
    let message = answered.and_then(|answered| Some(answered["errorMessage"].as_str()?.to_owned()));
    message.unwrap_or_else(|| cause.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_is_parsed_from_state_machine_arn() {
        for (partition, region) in [
            ("aws", "eu-west-1"),
            ("aws-cn", "cn-north-1"),
            ("aws-us-gov", "us-gov-west-1"),
        ] {
            let arn = format!("arn:{partition}:states:{region}:123456789012:stateMachine:f-batch");
            assert_eq!(region_of(&arn).unwrap(), region);
        }
        for arn in ["wafer-flights-batch", "arn:aws:lambda:r:1:function:f", ""] {
            let error = region_of(arn).unwrap_err();
            assert!(
                error.to_string().contains("is not a state machine"),
                "{error}"
            );
        }
    }

    #[test]
    fn error_message_is_extracted_from_execution_cause() {
        assert_eq!(
            error_message(r#"{"errorType": "t", "errorMessage": "a.csv:3"}"#),
            "a.csv:3"
        );
        assert_eq!(error_message("no room"), "no room");
    }
}
