//! `[pipelines]`: what fills each group, and when.

use serde::Deserialize;
use wafer_catalog::{Overlap, VersionName};
use wafer_core::Duration;

use crate::error::BrokenRule;
use crate::values::duration;

/// The table `[pipelines.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    /// The name of the source that rows are read from.
    pub source: String,
    /// The name of the function that computes features from the rows. A pipeline has either this
    /// or `model`.
    pub function: Option<String>,
    /// The version of a model that predicts for each row, with the features of its view as of the
    /// row's time: `late`, `late@3` or `late@champion`.
    pub model: Option<VersionName>,
    /// The name of the group that the features are written to.
    pub group: String,
    /// When the pipeline runs by itself. The default is only by hand or on events.
    pub schedule: Option<ScheduleConfig>,
    /// The greatest fraction of the rows of a run that may be rejected, from 0 to 1. The default
    /// is 0.5.
    pub max_rejects: Option<f64>,
    /// The description of the pipeline.
    #[serde(default)]
    pub doc: String,
}

/// The table `schedule` of a pipeline.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The five fields of a cron expression, such as `0 * * * *`. Each of its times ends a data
    /// interval.
    pub cron: String,
    /// The IANA name of the time zone of `cron`. The default is UTC.
    pub timezone: Option<String>,
    /// The time from the end of an interval until requests see its rows. It
    /// leaves time for the interval's data to arrive and for the run. The default is 0.
    #[serde(default, deserialize_with = "duration")]
    pub delay: Option<Duration>,
    /// The time from the end of an interval until its run starts; at most
    /// `delay`. The default is 0.
    #[serde(default, deserialize_with = "duration")]
    pub start_after: Option<Duration>,
    /// The maximum number of missed intervals that are run after a pause. The default is 10.
    pub catch_up: Option<u32>,
    /// What happens when an interval is due during another run: `wait` (the default) or `skip`.
    pub overlap: Option<Overlap>,
    /// How often a failed run is repeated. The default is 3.
    pub retries: Option<u32>,
    /// The time until the first repetition. It doubles with each further one. The
    /// default is 10 seconds.
    #[serde(default, deserialize_with = "duration")]
    pub backoff: Option<Duration>,
    /// The maximum duration of a run. The default is no limit.
    #[serde(default, deserialize_with = "duration")]
    pub time_limit: Option<Duration>,
}

/// Checks that the limit of rejected rows is a fraction. The key of a returned error is relative
/// to the pipeline.
pub(crate) fn check_max_rejects(pipeline: &PipelineConfig) -> Result<(), BrokenRule> {
    match pipeline.max_rejects {
        Some(most) if !(0.0..=1.0).contains(&most) => {
            let message = format!(
                "a fraction is from 0 to 1, not {most}: 0.01 allows one rejected row of a hundred"
            );
            Err(BrokenRule::new("max_rejects", message))
        }
        _ => Ok(()),
    }
}

/// Checks the settings of a schedule that would be no use. The key of a returned error is relative to
/// the schedule.
pub(crate) fn check_schedule(schedule: &ScheduleConfig) -> Result<(), BrokenRule> {
    if schedule.catch_up == Some(0) {
        let message = "is 0: at least the interval that is due has to be run, so write 1 or more";
        return Err(BrokenRule::new("catch_up", message));
    }
    if schedule.time_limit == Some(Duration::ZERO) {
        let message = "is 0: no run ends in no time; leave it out if there is no limit";
        return Err(BrokenRule::new("time_limit", message));
    }
    Ok(())
}
