//! `[models]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use wafer_catalog::{Split, SplitBy};
use wafer_core::Task;

use crate::values::texts;

/// `[models.NAME]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// View that it reads.
    pub view: String,
    /// Column of training sets that it predicts.
    pub label: Option<String>,
    /// `binary` or `regression`: versions are evaluated accordingly.
    pub task: Option<Task>,
    /// Output of the function that is the prediction; default: the first number.
    pub prediction: Option<String>,
    /// Function that predicts.
    pub function: String,
    /// Function that trains; none: it is trained elsewhere, and pushed.
    pub trainer: Option<String>,
    /// Texts, numbers or booleans given to the trainer, before its own.
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, toml::Value>,
    /// What `wafer train` takes its rows from.
    #[serde(default)]
    pub training: TrainingConfig,
    /// Who answers for it.
    #[serde(default)]
    pub owner: String,
    /// Whatever else there is to say.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Description.
    #[serde(default)]
    pub doc: String,
}

impl ModelConfig {
    /// Parameters as texts: strings as they are, others as in JSON.
    pub(crate) fn parameters(&self) -> BTreeMap<String, String> {
        texts(&self.parameters)
    }
}

/// `[models.NAME.training]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// File of labels.
    pub labels: Option<PathBuf>,
    /// Column of the labels' time; default `event_timestamp`.
    pub time: Option<String>,
    /// Parts, such as `train=0.7,validation=0.1,test=0.2`, or
    /// `train<2013-09-01T00:00:00Z,validation<2013-10-01T00:00:00Z,test`.
    pub split: Option<String>,
    /// `row` (the default), `time`, or a column of the labels.
    pub split_by: Option<String>,
    /// Decides what is random in it; default 0.
    pub seed: Option<u64>,
}

impl TrainingConfig {
    /// The split, if there is one; or the key that is wrong, and how.
    pub(crate) fn split(&self) -> Result<Option<Split>, (&'static str, String)> {
        match (&self.split, &self.split_by) {
            (None, Some(_)) => Err(("split_by", "needs `split` beside it".to_owned())),
            (None, None) => Ok(None),
            (Some(split), by) => {
                let by = SplitBy::parse(by.as_deref().unwrap_or("row"));
                let split = Split::parse(split, by, self.seed.unwrap_or(0));
                split.map(Some).map_err(|message| ("split", message))
            }
        }
    }
}
