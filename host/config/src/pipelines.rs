//! `[pipelines]`: what fills each group, and when.

use serde::Deserialize;
use wafer_catalog::{Overlap, VersionName};
use wafer_core::{Duration, Field};

use crate::error::BrokenRule;
use crate::values::{duration, nullable_field};

/// The table `[pipelines.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    /// The name of the source that rows are read from.
    pub source: String,
    /// The name of the function that computes features from the rows. Without it and `model`, the
    /// columns of the source are passed on.
    pub function: Option<String>,
    /// The version of a model that predicts for each row, with the features of its view as of the
    /// row's time: `late`, `late@3` or `late@champion`.
    pub model: Option<VersionName>,
    /// For a pipeline without a function or a model, the columns that are passed on, by their new
    /// names. The default is all columns of the source.
    pub columns: Option<toml::Table>,
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

/// A column in `columns` of a pipeline. The file has its name in the source, or a table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnConfig {
    /// The name of the column in the source. The default is its new name.
    pub from: Option<String>,
    /// The type that the column is read as, such as `float64`, or `float64?` if it may be null. The
    /// default is its type in the source.
    #[serde(rename = "type")]
    pub data_type: Option<String>,
}

impl ColumnConfig {
    /// Parses the value of a column.
    pub(crate) fn of(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(from) => Ok(Self {
                from: Some(from.clone()),
                data_type: None,
            }),
            toml::Value::Table(_) => value.clone().try_into().map_err(|e: toml::de::Error| {
                let message = e.message().to_owned();
                format!("{message}; write {{ from = \"NAME\", type = \"float64\" }}")
            }),
            _ => Err(
                "is the name of a column in the source, or a table such as { from = \"NAME\", \
                      type = \"float64\" }"
                    .to_owned(),
            ),
        }
    }

    /// Returns the column with its type, if it sets one.
    pub(crate) fn field(&self, name: &str) -> Result<Option<Field>, String> {
        let data_type = self.data_type.as_deref();
        data_type.map(|text| nullable_field(name, text)).transpose()
    }
}

/// Returns whether a pipeline sets the types of all columns that it passes on.
pub(crate) fn has_types(pipeline: &PipelineConfig) -> bool {
    let is_typed = |value: &toml::Value| {
        ColumnConfig::of(value).is_ok_and(|column| column.data_type.is_some())
    };
    let columns = pipeline.columns.as_ref();
    columns.is_some_and(|columns| columns.values().all(is_typed))
}

/// Checks `columns` of a pipeline. The key of a returned error is relative to the pipeline.
pub(crate) fn check_columns(pipeline: &PipelineConfig) -> Result<(), BrokenRule> {
    let Some(columns) = &pipeline.columns else {
        return Ok(());
    };
    if pipeline.function.is_some() || pipeline.model.is_some() {
        let message = "is for pipelines that have neither `function` nor `model`";
        return Err(BrokenRule::new("columns", message));
    }
    for (name, value) in columns {
        let column = ColumnConfig::of(value).and_then(|column| column.field(name));
        column.map_err(|message| BrokenRule::new(format!("columns.{name}"), message))?;
    }
    Ok(())
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
    /// The maximum duration of a run. By default there is no limit.
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

/// Refuses settings with which a schedule would do nothing. The key of a returned error is relative
/// to the schedule.
pub(crate) fn check_schedule(schedule: &ScheduleConfig) -> Result<(), BrokenRule> {
    if schedule.catch_up == Some(0) {
        let message = "is 0: at least the interval that is due has to be run, so write 1 or more";
        return Err(BrokenRule::new("catch_up", message));
    }
    if schedule.time_limit == Some(Duration::ZERO) {
        let message = "no run ends within 0s, so that each would fail; leave it out for no limit";
        return Err(BrokenRule::new("time_limit", message));
    }
    Ok(())
}
