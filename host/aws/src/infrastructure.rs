//! The infrastructure that a project needs on AWS, as variables of the Terraform modules in
//! `infra/`.

use std::collections::BTreeMap;

use serde::Serialize;
use wafer_catalog::{ScheduleDef, Ticks};
use wafer_core::Duration;
use wafer_store::{Error, Result};

/// The longest name of a role, in characters:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>
const MAX_ROLE_NAME: usize = 64;
/// The longest name of a queue, in characters:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-quotas.html>
const MAX_QUEUE_NAME: usize = 80;
/// The size of all environment variables of a function, in bytes:
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const MAX_ENVIRONMENT: usize = 4096;
/// The queue of each project that a stream could have the name of. Names of streams have no dashes,
/// as those of its queues of dead letters do.
const OUTBOX: &str = "outbox";

/// The infrastructure that Terraform creates for a project, as variables of the modules in
/// `infra/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Infrastructure {
    /// The name of the project.
    pub project: String,
    /// The sources of type `stream`. Each gets a queue.
    pub streams: Vec<String>,
    /// For each pipeline with a schedule, the times at which it is looked at. A regular look every
    /// few minutes finds retries, and times that the expressions cannot say.
    pub schedules: BTreeMap<String, ScheduleExpressions>,
}

/// A schedule in the language of EventBridge Scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScheduleExpressions {
    /// `cron(…)` expressions. The schedule is due at the times of any of them.
    pub expressions: Vec<String>,
    /// The IANA name of their time zone.
    pub timezone: String,
}

impl Infrastructure {
    /// Describes what a project needs: a queue for each of its `streams`, and expressions for
    /// each of its `schedules`, by pipeline.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) for a schedule that is wrong, and for
    /// names that AWS does not take: of a role or queue that is longer than AWS allows, of a queue
    /// that the project has already, or of more streams than a function can be told.
    pub fn new<'a>(
        project: &str,
        streams: impl IntoIterator<Item = &'a str>,
        schedules: impl IntoIterator<Item = (&'a str, ScheduleDef)>,
    ) -> Result<Self> {
        check_project(project)?;
        let expressions = |(pipeline, schedule): (&str, ScheduleDef)| {
            let ticks = Ticks::new(&schedule).map_err(|message| {
                Error::invalid(format!("[pipelines.{pipeline}] schedule: {message}"))
            })?;
            // A run that starts some time after its interval is found by the regular look.
            let expressions = match schedule.start_after {
                Duration::ZERO => eventbridge(&ticks),
                _ => Vec::new(),
            };
            let schedule = ScheduleExpressions {
                expressions,
                timezone: schedule.timezone,
            };
            Ok((pipeline.to_owned(), schedule))
        };
        let schedules = schedules.into_iter().map(expressions);
        let stream = |stream: &str| check_stream(project, stream).map(|()| stream.to_owned());
        let streams = streams
            .into_iter()
            .map(stream)
            .collect::<Result<Vec<_>>>()?;
        check_environment(project, &streams)?;
        Ok(Self {
            project: project.to_owned(),
            streams,
            schedules: schedules.collect::<Result<_>>()?,
        })
    }
}

/// Checks that the longest name of a role that is made of the project's is not too long. The
/// modules in `infra/` check the same.
fn check_project(project: &str) -> Result<()> {
    let role = format!("wafer-{project}-batch-scheduler");
    let Some(excess) = excess(&role, MAX_ROLE_NAME) else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "project.name: `{project}` has {} characters, and on AWS it may have {}: the longest name that is \
         made of it is that of the role {role}, and names of roles have at most {MAX_ROLE_NAME}",
        project.len(),
        project.len() - excess
    )))
}

/// Checks that the queue of a stream has a name that is not too long, and that no other queue of
/// the project has.
fn check_stream(project: &str, stream: &str) -> Result<()> {
    let queue = format!("wafer-{project}-{stream}");
    if stream == OUTBOX {
        return Err(Error::invalid(format!(
            "[sources.{stream}]: on AWS no stream can have this name, as each project has another queue \
             {queue}; rename the source"
        )));
    }
    let Some(excess) = excess(&queue, MAX_QUEUE_NAME) else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "[sources.{stream}]: on AWS its name has to be {excess} characters shorter: its queue {queue} has \
         {} characters, and names of queues have at most {MAX_QUEUE_NAME}",
        queue.len()
    )))
}

/// The beginnings and the ends of names of buckets that S3 keeps for itself.
const RESERVED_STARTS: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_ENDS: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// Checks that a bucket that is to be made can have a name. The modules in `infra/` check the same.
/// Buckets of before 2018 may have others.
pub(crate) fn check_bucket(name: &str) -> Result<()> {
    let Some(fault) = fault_of_bucket(name) else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "store.objects (WAFER_STORE_OBJECTS): no bucket on S3 can be called `{name}`: {fault}. All of \
         AWS shares the names of buckets, so choose one that nobody else has"
    )))
}

/// Returns what is wrong with the name of a bucket:
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
fn fault_of_bucket(name: &str) -> Option<String> {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut others = name.chars();
    if let Some(other) = others.find(|c| !is_alphanumeric(*c) && !matches!(c, '.' | '-')) {
        return Some(format!(
            "it has `{other}`, and may have lower-case letters, digits, dots and dashes"
        ));
    }
    if !(3..=63).contains(&name.len()) {
        let length = name.len();
        return Some(format!("it has {length} characters, and may have 3 to 63"));
    }
    if !name.starts_with(is_alphanumeric) || !name.ends_with(is_alphanumeric) {
        return Some("it has to begin and to end with a letter or a digit".to_owned());
    }
    if name.contains("..") {
        return Some("it has two dots side by side".to_owned());
    }
    let mut parts = name.split('.');
    if parts.clone().count() == 4 && parts.all(|part| part.bytes().all(|b| b.is_ascii_digit())) {
        return Some("it looks like an IP address".to_owned());
    }
    let start = RESERVED_STARTS
        .iter()
        .find(|start| name.starts_with(**start));
    let end = RESERVED_ENDS.iter().find(|end| name.ends_with(**end));
    let reserved = start.or(end)?;
    Some(format!("S3 keeps names with `{reserved}` for itself"))
}

/// Checks that a table can have a name. The modules in `infra/` check the same:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.NamingRulesDataTypes.html>
pub(crate) fn check_table(name: &str) -> Result<()> {
    let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match (3..=255).contains(&name.len()) && name.bytes().all(is_taken) {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "store.online (WAFER_STORE_ONLINE): no table on DynamoDB can be called `{name}`: it may have \
             3 to 255 letters, digits, and _ . -"
        ))),
    }
}

/// Checks that the function that takes the events can be told of all queues, which is told by their
/// ARNs in an environment variable. How long these are in all is known where the region is, and the
/// other variables: the modules in `infra/` check it. Here, the region has one of the shortest
/// names, and there are no other variables.
fn check_environment(project: &str, streams: &[String]) -> Result<()> {
    let pair = |stream: &String| {
        format!("arn:aws:sqs:us-east-1:123456789012:wafer-{project}-{stream}={stream}")
    };
    let value = streams.iter().map(pair).collect::<Vec<_>>().join(";");
    let size = format!(r#"{{"WAFER_EVENT_SOURCES":"{value}"}}"#).len();
    if size <= MAX_ENVIRONMENT {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "[sources]: on AWS the {} streams have names that are too long together: a function is told of \
         their queues by an environment variable with {size} bytes or more, and AWS Lambda takes \
         {MAX_ENVIRONMENT}; give sources shorter names, or divide the project",
        streams.len()
    )))
}

/// Returns how many characters a name is longer than `most`, or `None` if it is not longer.
fn excess(name: &str, most: usize) -> Option<usize> {
    name.len().checked_sub(most).filter(|excess| *excess > 0)
}

/// The points in time of a schedule as expressions of EventBridge Scheduler. It numbers weekdays
/// from 1, and one of day and weekday is `?`. Empty when it has no expression for them (last
/// days, nearest weekdays, both day and weekday).
///
/// Format: <https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html>
fn eventbridge(ticks: &Ticks) -> Vec<String> {
    let pattern = &ticks.cron().pattern;
    if pattern.days.has_modifiers()
        || pattern.days_of_week.has_modifiers()
        || pattern.matches_dom_and_dow()
    {
        return Vec::new();
    }
    let minutes = field(pattern.minutes.values(), 60);
    let time = format!("{minutes} {}", field(pattern.hours.values(), 24));
    let days = field(pattern.days.values(), 31);
    let months = field(pattern.months.values(), 12);
    // Sunday is 0 or 7 in cron, and 1 in EventBridge.
    let weekdays = pattern.days_of_week.values();
    let mut weekdays: Vec<u16> = weekdays.iter().map(|day| day % 7 + 1).collect();
    weekdays.sort_unstable();
    weekdays.dedup();
    let weekdays = field(weekdays, 7);
    let by_day = format!("cron({time} {days} {months} ? *)");
    let by_weekday = format!("cron({time} ? {months} {weekdays} *)");
    match (pattern.is_dom_wildcard(), pattern.is_dow_wildcard()) {
        (_, true) => vec![by_day],
        (true, false) => vec![by_weekday],
        // Cron means days that match either.
        (false, false) => vec![by_day, by_weekday],
    }
}

/// The values of a field of a cron expression; `*` when it has all of the `most` possible ones.
fn field(values: Vec<u16>, most: usize) -> String {
    if values.len() == most {
        return "*".to_owned();
    }
    let texts = values.iter().map(ToString::to_string);
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use wafer_catalog::Overlap;

    use super::*;

    fn expressions(cron: &str) -> Vec<String> {
        let schedule = ScheduleDef {
            cron: cron.to_owned(),
            timezone: "America/New_York".to_owned(),
            delay: Duration::ZERO,
            start_after: Duration::ZERO,
            catch_up: 10,
            overlap: Overlap::Wait,
            retries: 3,
            backoff: Duration::ZERO,
            time_limit: None,
        };
        let infrastructure = Infrastructure::new("p", [], [("p", schedule)]).unwrap();
        let schedule = &infrastructure.schedules["p"];
        assert_eq!(schedule.timezone, "America/New_York");
        schedule.expressions.clone()
    }

    #[test]
    fn cron_expressions_are_translated() {
        for (cron, wanted) in [
            ("0 6 * * *", &["cron(0 6 * * ? *)"][..]),
            ("*/15 * * * *", &["cron(0,15,30,45 * * * ? *)"]),
            ("5 0-6/3 1 */6 *", &["cron(5 0,3,6 1 1,7 ? *)"]),
            ("0 0 * * MON-FRI", &["cron(0 0 ? * 2,3,4,5,6 *)"]),
            ("0 0 * * 0", &["cron(0 0 ? * 1 *)"]),
            ("0 0 * * 7", &["cron(0 0 ? * 1 *)"]),
            ("0 0 * * 5-7", &["cron(0 0 ? * 1,6,7 *)"]),
            ("0 0 * * 0-6", &["cron(0 0 ? * * *)"]),
            (
                "30 4 1,15 * 5",
                &["cron(30 4 1,15 * ? *)", "cron(30 4 ? * 6 *)"],
            ),
            // Only by the regular look.
            ("0 0 L * *", &[]),
            ("0 0 * * FRI#2", &[]),
        ] {
            assert_eq!(expressions(cron), wanted, "{cron}");
        }
    }

    #[test]
    fn names_that_aws_does_not_take_are_refused_with_the_limit() {
        let make = |project: &str, stream: &str| {
            let made = Infrastructure::new(project, [stream], []);
            made.err().map(|e| e.to_string())
        };
        assert_eq!(make(&"p".repeat(42), "s"), None);
        let message = make(&"p".repeat(43), "s").unwrap();
        let wanted = "has 43 characters, and on AWS it may have 42: the longest name that is made of it \
                      is that of the role wafer-ppp";
        assert!(message.contains(wanted), "{message}");
        assert_eq!(make(&"p".repeat(25), &"s".repeat(48)), None);
        let message = make(&"p".repeat(28), &"s".repeat(48)).unwrap();
        let wanted = "its name has to be 3 characters shorter: its queue wafer-ppp";
        assert!(message.contains(wanted), "{message}");
        let message = make("p", OUTBOX).unwrap();
        let wanted = "another queue wafer-p-outbox; rename the source";
        assert!(message.contains(wanted), "{message}");
    }

    #[test]
    fn names_of_buckets_and_tables_follow_the_rules_of_aws() {
        let longest = "b".repeat(63);
        for name in [
            "abc",
            "flights.example.org",
            "my-bucket-1",
            "1a2",
            longest.as_str(),
        ] {
            assert_eq!(fault_of_bucket(name), None, "{name}");
        }
        let longer = "b".repeat(64);
        for (name, wanted) in [
            ("MY-BUCKET", "it has `M`"),
            ("my_bucket", "it has `_`"),
            ("my%20bucket", "it has `%`"),
            ("", "has 0 characters"),
            ("ab", "has 2 characters"),
            (longer.as_str(), "has 64 characters"),
            ("-bucket", "has to begin and to end with a letter"),
            ("bucket.", "has to begin and to end with a letter"),
            ("my..bucket", "two dots"),
            ("192.168.5.4", "an IP address"),
            ("xn--bucket", "names with `xn--`"),
            ("amzn-s3-demo-bucket", "names with `amzn-s3-demo-`"),
            ("bucket-s3alias", "names with `-s3alias`"),
        ] {
            let error = check_bucket(name).unwrap_err().to_string();
            assert!(error.contains(wanted), "{name}: {error}");
        }
        let longest = "t".repeat(255);
        for name in ["abc", "My_table.1-a", longest.as_str()] {
            assert!(check_table(name).is_ok(), "{name}");
        }
        let longer = "t".repeat(256);
        for name in ["", "ab", "a table", "t%20", longer.as_str()] {
            let error = check_table(name).unwrap_err().to_string();
            assert!(error.contains("may have 3 to 255"), "{name}: {error}");
        }
    }

    #[test]
    fn streams_that_a_function_cannot_be_told_of_are_refused() {
        // With its source and what is between, each takes 49 + 20 + 1 + 20 + 1 bytes.
        let made = |count: usize| {
            let streams: Vec<String> = (0..count).map(|n| format!("s{n:019}")).collect();
            let streams = streams.iter().map(String::as_str);
            let made = Infrastructure::new("flights", streams, []);
            made.err().map(|e| e.to_string())
        };
        assert_eq!(made(44), None);
        let message = made(45).unwrap();
        let wanted =
            "by an environment variable with 4120 bytes or more, and AWS Lambda takes 4096";
        assert!(message.contains(wanted), "{message}");
    }
}
