//! Checks of a deployment on AWS: what Terraform cannot see, and what only the account decides.
//!
//! - The account's concurrency, which all of its functions share in a region. A backlog of events,
//!   and a divided run beside it, must leave some of it to requests.
//! - The mappings of queues and streams, and the settings of queues that others made. Terraform's
//!   provider reads no more of these than their names.
//! - The bucket, by writing to it.

use std::collections::BTreeSet;
use std::time::Duration;

use url::Url;
use wafer_core::Clock;
use wafer_store::{Kind, Result};

use crate::account::Account;
use crate::arn::Arn;
use crate::event_sources::EventSources;
use crate::objects::Bucket;
use crate::queue::QueueArn;
use crate::services::{AccountLimit, Mapping, Mappings, QueueSettings, Services};
use crate::state_machine::StateMachine;

/// How many invocations the messages of one queue take at a time, unless `maximum_concurrency` of
/// the Terraform modules says otherwise.
const CONCURRENCY: u64 = 2;
/// The least `maximum_concurrency` that AWS takes.
const LEAST_CONCURRENCY: u64 = 2;
/// How many flushes there are at a time.
const FLUSHES: u64 = 2;
/// How many schedules are at least to be run beside them.
const SCHEDULES: u64 = 1;
/// How many invocations the messages of a queue take at a time if nothing limits them:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html>
const UNLIMITED: u64 = 1_000;
/// How many times as long as the function may take a message must not be delivered again, and how
/// often it must be delivered before it is a dead letter:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html>
const VISIBILITY_FACTOR: u64 = 6;
const LEAST_RECEIVE_COUNT: u64 = 5;

/// A deployment of a project.
#[derive(Clone, Copy, Debug)]
pub struct Deployment<'a> {
    /// The name of the project.
    pub project: &'a str,
    /// Its sources of events. Terraform makes a queue for each of them unless it is told otherwise.
    pub streams: &'a [&'a str],
    /// The queues and streams that Terraform was told to take events from, those that it makes
    /// included. `None` if that is not known.
    pub event_sources: Option<&'a EventSources>,
    /// The ARN of the state machine that divides runs. `None` if that is not known.
    pub state_machine: Option<&'a str>,
    /// The folder of its objects, such as `s3://BUCKET/FOLDER`.
    pub objects: &'a Url,
    /// How long a check may take.
    pub limit: Duration,
}

/// The result of one check of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreflightCheck {
    /// What was checked.
    pub what: String,
    /// What was found, or what is wrong and what to do about it.
    pub result: Result<String, String>,
}

impl PreflightCheck {
    fn new(what: &str, result: Result<String, String>) -> Self {
        Self {
            what: what.to_owned(),
            result,
        }
    }
}

/// A step of the checks of a deployment.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// The check of something began.
    Began(&'a str),
    /// A check ended.
    Ended(&'a PreflightCheck),
}

/// What is told of each step as it is taken.
pub type Listener<'a> = dyn FnMut(Step<'_>) + Send + 'a;

/// The checks that were made.
struct Report<'a> {
    checks: Vec<PreflightCheck>,
    tell: &'a mut Listener<'a>,
    /// How long a check may take.
    limit: Duration,
    /// The services that gave no answer in this time. They are not asked again.
    silent: BTreeSet<&'static str>,
}

impl Report<'_> {
    /// Makes a check that asks a service.
    async fn check(
        &mut self,
        what: &str,
        service: &'static str,
        check: impl Future<Output = Result<String, String>>,
    ) {
        let result = self.begin(what, service, check).await;
        self.end(what, result);
    }

    /// Begins a check with a question to a service, and returns the answer.
    async fn begin<T>(
        &mut self,
        what: &str,
        service: &'static str,
        question: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        (self.tell)(Step::Began(what));
        if self.silent.contains(service) {
            return Err(format!(
                "was not looked at, because {service} gave no answer before"
            ));
        }
        let answer = tokio::time::timeout(self.limit, question).await;
        answer.unwrap_or_else(|_| {
            self.silent.insert(service);
            Err(format!(
                "{service} gave no answer within {} seconds: look at the network, at HTTPS_PROXY and \
                 at AWS_ENDPOINT_URL_{}",
                self.limit.as_secs(),
                service.to_uppercase()
            ))
        })
    }

    fn end(&mut self, what: &str, result: Result<String, String>) {
        let check = PreflightCheck::new(what, result);
        (self.tell)(Step::Ended(&check));
        self.checks.push(check);
    }
}

/// What takes events, and by which mappings.
struct Deployed {
    /// How long an invocation may take, in seconds.
    timeout: u64,
    mappings: Mappings,
}

/// How many invocations are taken at a time beside requests, at most.
#[derive(Clone, Copy, Debug, Default)]
struct OtherInvocations {
    /// By events, of streams those of one shard.
    events: u64,
    /// By events if their settings are the lowest that AWS takes.
    least_events: u64,
    /// Whether there are streams, each further shard of which takes as many as its first.
    has_streams: bool,
    /// By a divided run, if that is known.
    run: Option<u64>,
}

impl Deployed {
    /// Returns what events may take.
    fn taken(&self) -> OtherInvocations {
        let mappings = self.mappings.found.iter();
        let mut arns = mappings.clone().map(|mapping| &mapping.event_source_arn);
        let least = mappings.clone().map(least_concurrency);
        OtherInvocations {
            events: mappings.map(concurrency).fold(0, u64::saturating_add),
            least_events: least.fold(0, u64::saturating_add),
            has_streams: arns.any(|arn| QueueArn::of(arn).is_none()),
            run: None,
        }
    }

    /// Says how many mappings there are, and whether all of them were looked at.
    fn describe(&self) -> Result<String, String> {
        let count = self.mappings.found.len();
        match self.mappings.is_cut {
            false => Ok(format!("takes events; mappings: {count}")),
            true => Err(format!(
                "has more mappings than the first {count}, which were looked at: of all others neither \
                 the settings nor the concurrency that they take are known. Look at them by `aws lambda \
                 list-event-source-mappings`"
            )),
        }
    }

    /// Says among which mappings one was looked for, if there are more.
    fn among(&self) -> String {
        match self.mappings.is_cut {
            false => String::new(),
            true => format!(
                " among the first {}, which were looked at,",
                self.mappings.found.len()
            ),
        }
    }

    /// Returns whether a mapping was found that takes the events of a queue or stream.
    fn has_mapping(&self, is_source: impl Fn(&str) -> bool) -> bool {
        let mut mappings = self.mappings.found.iter();
        mappings.any(|mapping| is_source(&mapping.event_source_arn))
    }
}

impl Deployment<'_> {
    /// Checks the deployment. Nothing of it needs to be there yet, except its bucket. An object is
    /// written to the bucket and removed again; `clock` gives it a name. `tell` is told of each
    /// check as it begins and ends.
    pub async fn check<'a>(
        &self,
        account: &Account,
        clock: &dyn Clock,
        tell: &'a mut Listener<'a>,
    ) -> Vec<PreflightCheck> {
        let mut report = Report {
            checks: Vec::new(),
            tell,
            limit: self.limit,
            silent: BTreeSet::new(),
        };
        report.end("credentials", Ok(format!("for {}", account.region())));
        let services = Services::open(account);
        let bucket = self.check_bucket(account, services.as_ref().ok(), clock);
        report.check("bucket", "S3", Box::pin(bucket)).await;
        match services {
            Ok(services) => self.check_functions(account, &services, &mut report).await,
            Err(e) => report.end("functions", Err(e.chain())),
        }
        report.checks
    }

    /// Checks that the bucket takes, lists and removes objects, which also uses its key.
    async fn check_bucket(
        &self,
        account: &Account,
        services: Option<&Services>,
        clock: &dyn Clock,
    ) -> Result<String, String> {
        // A web page cannot be read as a list of objects, but that error would not say what it is.
        if let Some(services) = services {
            let name = self.objects.host_str().unwrap_or_default();
            let page = services.page_of_bucket(name).await;
            page.map_or(Ok(()), |page| Err(page.chain()))?;
        }
        let bucket = Bucket::open(account, self.objects).map_err(|e| e.chain())?;
        bucket.probe(clock).await.map_err(|e| e.chain())?;
        Ok(format!("{} takes, lists and removes objects", self.objects))
    }

    async fn check_functions(
        &self,
        account: &Account,
        services: &Services,
        report: &mut Report<'_>,
    ) {
        let function = format!("wafer-{}-events", self.project);
        let question = async {
            let found = deployed(services, &function).await;
            found.map_err(|e| e.chain())
        };
        let deployed = report.begin(&function, "Lambda", Box::pin(question)).await;
        let found = match &deployed {
            Ok(Some(deployed)) => deployed.describe(),
            Ok(None) => Ok("is not there yet; `terraform apply` in infra/ makes it".to_owned()),
            Err(e) => Err(e.clone()),
        };
        report.end(&function, found);
        let deployed = deployed.ok().flatten();
        let streams = self.streams.len() as u64;
        let expected = OtherInvocations {
            events: CONCURRENCY.saturating_mul(streams),
            least_events: LEAST_CONCURRENCY.saturating_mul(streams),
            ..OtherInvocations::default()
        };
        let taken = OtherInvocations {
            run: self.check_runs(account, report).await,
            ..deployed.as_ref().map_or(expected, Deployed::taken)
        };
        let limit = async {
            let limit = services.account_limit().await.map_err(|e| e.chain())?;
            check_concurrency(&limit, taken, account.region())
        };
        report.check("concurrency", "Lambda", Box::pin(limit)).await;
        let Some(deployed) = deployed else { return };
        for mapping in &deployed.mappings.found {
            let what = name(&mapping.event_source_arn);
            match QueueArn::of(&mapping.event_source_arn) {
                Some(queue) => {
                    let check = check_queue(services, queue, mapping, deployed.timeout);
                    report.check(what, "SQS", Box::pin(check)).await;
                }
                None => report.end(what, check_stream(mapping)),
            }
        }
        for stream in self.streams {
            let result = self.check_source(stream, &deployed);
            report.end(&format!("source {stream}"), result);
        }
    }

    /// Checks the state machine, if there is one, and returns how many invocations a divided run
    /// takes at a time at most, if it says so.
    async fn check_runs(&self, account: &Account, report: &mut Report<'_>) -> Option<u64> {
        let arn = self.state_machine?;
        let question = async {
            let machine = StateMachine::of(account, arn).map_err(|e| e.chain())?;
            machine.concurrency().await.map_err(|e| e.chain())
        };
        let found = report.begin(name(arn), "SFN", Box::pin(question)).await;
        let run = found.as_ref().ok().copied();
        let found = found.map(|run| format!("a run takes {run} invocations at a time at most"));
        report.end(name(arn), found);
        run
    }

    /// Checks that the events of a source get to the function.
    fn check_source(&self, stream: &str, deployed: &Deployed) -> Result<String, String> {
        let Some(sources) = self.event_sources else {
            let queue = format!("wafer-{}-{stream}", self.project);
            let is_queue = |arn: &str| QueueArn::of(arn).is_some_and(|found| found.name == queue);
            return match deployed.has_mapping(is_queue) {
                true => Ok(format!("comes in by {queue}")),
                false => Err(format!(
                    "no mapping was found{} that takes its events from {queue}, which `terraform apply` \
                     in infra/ makes with it. If they come by a queue or stream of yours, or by HTTP \
                     alone, set WAFER_EVENT_SOURCES as `terraform output -raw environment` prints it",
                    deployed.among()
                )),
            };
        };
        let arns: Vec<&str> = sources.arns(stream).collect();
        let is_taken = |wanted: &str| deployed.has_mapping(|arn| stream_of(arn) == wanted);
        let missing = arns.iter().copied().filter(|&arn| !is_taken(arn));
        let missing: Vec<&str> = missing.collect();
        match (arns.is_empty(), missing.is_empty()) {
            (true, _) => {
                Ok("comes in by HTTP alone: WAFER_EVENT_SOURCES does not name it".to_owned())
            }
            (false, true) => Ok(format!("comes in by {}", arns.join(", "))),
            (false, false) => Err(format!(
                "no mapping was found{} that takes its events from {}: `terraform apply` in infra/ makes \
                 it",
                deployed.among(),
                missing.join(", ")
            )),
        }
    }
}

/// Returns what takes the events, or `None` if the function is not there.
async fn deployed(services: &Services, function: &str) -> Result<Option<Deployed>> {
    let timeout = match services.function_timeout(function).await {
        Err(e) if e.kind() == Kind::NotFound => return Ok(None),
        timeout => timeout?,
    };
    let mappings = services.mappings(function).await?;
    Ok(Some(Deployed { timeout, mappings }))
}

/// Returns the ARN of the stream that a consumer with a line of its own reads, which the records
/// have that it hands on, and other ARNs as they are.
fn stream_of(arn: &str) -> &str {
    arn.split_once("/consumer/")
        .map_or(arn, |(stream, _)| stream)
}

/// Returns the last part of an ARN, which names a thing within its service.
fn name(arn: &str) -> &str {
    Arn::of(arn).map_or(arn, |arn| arn.resource)
}

/// Returns how many invocations a mapping may take at a time. Of a stream that is for each shard.
fn concurrency(mapping: &Mapping) -> u64 {
    match QueueArn::of(&mapping.event_source_arn) {
        Some(_) => mapping.maximum_concurrency().unwrap_or(UNLIMITED),
        None => mapping.parallelization_factor.unwrap_or(1),
    }
}

/// Returns how many invocations a mapping takes at a time if its setting is the lowest that AWS
/// takes, which of streams is not a setting of the Terraform modules.
fn least_concurrency(mapping: &Mapping) -> u64 {
    match QueueArn::of(&mapping.event_source_arn) {
        Some(_) => concurrency(mapping).min(LEAST_CONCURRENCY),
        None => concurrency(mapping),
    }
}

/// Checks that the account has concurrency for requests when all else takes as much as it may.
fn check_concurrency(
    limit: &AccountLimit,
    taken: OtherInvocations,
    region: &str,
) -> Result<String, String> {
    let available = limit.concurrency();
    let others = taken.events.saturating_add(FLUSHES + SCHEDULES);
    let shards = match taken.has_streams {
        true => ", with one shard of each stream",
        false => "",
    };
    let (left, run) = (available.saturating_sub(others), taken.run.unwrap_or(0));
    if left > run {
        let whose = match taken.run {
            Some(run) => format!("requests, of which a divided run takes {run} at most"),
            None => "requests and divided runs".to_owned(),
        };
        return Ok(format!(
            "{available} invocations at a time, of which events, flushes and schedules take {others} \
             at most{shards}: {left} are left to {whose}"
        ));
    }
    let cause = match left {
        0 => "a backlog".to_owned(),
        _ => format!("a divided run, which takes {run} of them,"),
    };
    let least = taken.least_events.saturating_add(FLUSHES + SCHEDULES);
    let advice = if left > 1 {
        format!("set `concurrency` of the module `batch` below {left}")
    } else if available.saturating_sub(least) > left {
        format!("set maximum_concurrency to {LEAST_CONCURRENCY}")
    } else {
        "have fewer queues and streams: no maximum_concurrency is low enough".to_owned()
    };
    Err(format!(
        "the account has {available} invocations at a time in {region}, and events, flushes and \
         schedules may take {others}{shards}: {cause} leaves none to requests. Ask for more in Service \
         Quotas (AWS Lambda, \"Concurrent executions\"): `aws service-quotas \
         request-service-quota-increase --region {region} --service-code lambda --quota-code \
         L-B99A9384 --desired-value 1000`. Until then {advice}"
    ))
}

/// Checks the mapping and the settings of a queue.
async fn check_queue(
    services: &Services,
    queue: QueueArn<'_>,
    mapping: &Mapping,
    timeout: u64,
) -> Result<String, String> {
    let mut faults = faults_of_mapping(mapping);
    match services.queue_settings(queue).await {
        Ok(settings) => faults.extend(faults_of_queue(&settings, timeout)),
        Err(e) => faults.push(e.chain()),
    }
    without_faults(&faults)
}

/// Checks the mapping of a stream.
fn check_stream(mapping: &Mapping) -> Result<String, String> {
    without_faults(&[faults_of_mapping(mapping), faults_of_stream(mapping)].concat())
}

fn without_faults(faults: &[String]) -> Result<String, String> {
    match faults.is_empty() {
        true => Ok("is taken in".to_owned()),
        false => Err(faults.join("; ")),
    }
}

/// Returns what is wrong with the mapping of a queue or a stream.
fn faults_of_mapping(mapping: &Mapping) -> Vec<String> {
    let mut faults = Vec::new();
    if matches!(
        mapping.state.as_str(),
        "Disabled" | "Disabling" | "Deleting"
    ) {
        let why = mapping.state_transition_reason.as_deref();
        faults.push(format!(
            "its mapping is {} ({}): nothing is taken in",
            mapping.state,
            why.unwrap_or("no reason is given")
        ));
    }
    let last = mapping.last_processing_result.as_deref();
    if let Some(problem) = last.filter(|last| last.starts_with("PROBLEM")) {
        faults.push(format!("Lambda says {problem}"));
    }
    let types = mapping
        .function_response_types
        .as_deref()
        .unwrap_or_default();
    if !types.iter().any(|kind| kind == "ReportBatchItemFailures") {
        faults.push(
            "its mapping lacks ReportBatchItemFailures: one record that cannot be read brings back \
             its whole batch"
                .to_owned(),
        );
    }
    faults
}

/// Returns what is wrong with a queue whose messages a function takes that has this time-out.
fn faults_of_queue(settings: &QueueSettings, timeout: u64) -> Vec<String> {
    let mut faults = Vec::new();
    let least = VISIBILITY_FACTOR.saturating_mul(timeout);
    if settings.visibility_timeout < least {
        faults.push(format!(
            "set its visibility timeout to {least} seconds or more (it is {}): that is six times what \
             the function may take, and messages that wait for their turn come again meanwhile",
            settings.visibility_timeout
        ));
    }
    match settings.max_receive_count {
        None => faults.push(
            "give it a dead-letter queue by a redrive policy: messages that cannot be read come again \
             until they expire, and are lost then"
                .to_owned(),
        ),
        Some(count) if count < LEAST_RECEIVE_COUNT => faults.push(format!(
            "set maxReceiveCount in its redrive policy to {LEAST_RECEIVE_COUNT} or more (it is \
             {count}): messages are dead letters after the first times that the function is busy"
        )),
        Some(_) => {}
    }
    faults
}

/// Returns what is wrong with the mapping of a stream.
fn faults_of_stream(mapping: &Mapping) -> Vec<String> {
    let mut faults = Vec::new();
    let destination = mapping.destination().unwrap_or("nothing");
    if Arn::of(destination).is_none_or(|arn| arn.service != "s3") {
        faults.push(format!(
            "make a bucket its destination on failure (it is {destination}): only a bucket gets the \
             records that could not be taken in"
        ));
    }
    // -1 is for ever.
    if mapping
        .maximum_record_age_in_seconds
        .is_none_or(|age| age < 0)
    {
        faults.push(
            "set its maximum record age: a record that cannot be taken in holds up its shard until \
             the stream forgets it"
                .to_owned(),
        );
    }
    faults
}

#[cfg(test)]
mod tests;
