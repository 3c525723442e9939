//! `[pipelines]` and their schedules.

use serde::Deserialize;
use wafer_catalog::{Overlap, VersionName};

use crate::values::duration;

/// `[pipelines.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    /// Where rows come from.
    pub source: String,
    /// What makes features of them: this, or `model`.
    pub function: Option<String>,
    /// A version of a model that predicts for each of them, with the features of its view
    /// as of the row's time: `late`, `late@3`, `late@champion`.
    pub model: Option<VersionName>,
    /// Where features go.
    pub group: String,
    /// When it runs by itself; default: by hand, or on events.
    pub schedule: Option<ScheduleConfig>,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

/// `schedule` of a pipeline.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Five fields of cron, such as `0 * * * *`; each time ends a data interval.
    pub cron: String,
    /// IANA name of the time zone of `cron`; default UTC.
    pub timezone: Option<String>,
    /// From the end of an interval until requests see its rows: the time that is left
    /// for the interval's data to come in and for the run. Default none.
    #[serde(default, deserialize_with = "duration")]
    pub delay: Option<i64>,
    /// From the end of an interval to its run, at most `delay`; default none.
    #[serde(default, deserialize_with = "duration")]
    pub start_after: Option<i64>,
    /// Most intervals that are made up for after a pause; default 10.
    pub catch_up: Option<u32>,
    /// `wait` (the default) or `skip`.
    pub overlap: Option<Overlap>,
    /// How often a failed run is repeated; default 3.
    pub retries: Option<u32>,
    /// Until the first repetition, doubled for each further one; default 10s.
    #[serde(default, deserialize_with = "duration")]
    pub backoff: Option<i64>,
    /// How long a run may take; default: as long as it takes.
    #[serde(default, deserialize_with = "duration")]
    pub time_limit: Option<i64>,
}
