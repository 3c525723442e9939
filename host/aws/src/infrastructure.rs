//! The infrastructure that a project needs on AWS, as variables of the Terraform modules in
//! `infra/`.

use std::collections::BTreeMap;

use serde::Serialize;
use wafer_catalog::{ScheduleDef, Ticks};
use wafer_core::Duration;
use wafer_store::{Error, Result};

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
    /// Returns [`Kind::Invalid`](wafer_store::Kind::Invalid) for a schedule that is wrong.
    pub fn new<'a>(
        project: &str,
        streams: impl IntoIterator<Item = &'a str>,
        schedules: impl IntoIterator<Item = (&'a str, ScheduleDef)>,
    ) -> Result<Self> {
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
        Ok(Self {
            project: project.to_owned(),
            streams: streams.into_iter().map(str::to_owned).collect(),
            schedules: schedules.collect::<Result<_>>()?,
        })
    }
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
}
