//! `[models]`: what versions of a model have in common, and how they are trained.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use wafer_catalog::{Split, SplitBy};
use wafer_core::{DataType, Task, Zone};

use crate::error::BrokenRule;
use crate::values::{parameter_texts, typed_fields};

/// The table `[models.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The name of the view that the model reads.
    pub view: String,
    /// The column of training sets that the model predicts.
    pub label: Option<String>,
    /// The kind of prediction, `binary` or `regression`, by which versions are evaluated.
    pub task: Option<Task>,
    /// The output of the function that is the prediction. The default is the first numeric output.
    pub prediction: Option<String>,
    /// The name of the function that predicts.
    pub function: String,
    /// The name of the function that trains. Without it, versions are trained elsewhere and
    /// pushed.
    pub trainer: Option<String>,
    /// The parameters of the trainer, which come before those of the function: strings, numbers or
    /// booleans.
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, toml::Value>,
    /// The defaults of `wafer train`.
    #[serde(default)]
    pub training: TrainingConfig,
    /// Who is responsible for the model.
    #[serde(default)]
    pub owner: String,
    /// Free-form tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The description of the model.
    #[serde(default)]
    pub doc: String,
}

impl ModelConfig {
    /// Returns the parameters as text: strings as they are, other values as TOML writes them.
    pub(crate) fn parameters(&self) -> BTreeMap<String, String> {
        parameter_texts(&self.parameters)
    }
}

/// The table `[models.NAME.training]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// The file of labels.
    pub labels: Option<PathBuf>,
    /// The column of the labels' time. The default is `event_timestamp`.
    pub time: Option<String>,
    /// The types of columns of labels in CSV or NDJSON that the view does not read. The default is
    /// to guess them so that their values are written as the same texts.
    #[serde(default)]
    pub(crate) types: toml::Table,
    /// The time zone of times of the labels that the view reads and that name none. By default,
    /// such times are refused.
    pub zone: Option<Zone>,
    /// The parts that rows are divided into, such as `train=0.7,validation=0.1,test=0.2`, or
    /// `train<2013-09-01T00:00:00Z,validation<2013-10-01T00:00:00Z,test`.
    pub split: Option<String>,
    /// How rows are divided: `row` (the default), `time`, or the name of a column of the labels.
    pub split_by: Option<String>,
    /// The seed of the random assignment. The default is 0.
    pub seed: Option<u64>,
}

impl TrainingConfig {
    /// Returns the types of columns.
    ///
    /// # Errors
    /// Returns the key of this table that is wrong.
    pub(crate) fn types(&self) -> Result<BTreeMap<String, DataType>, BrokenRule> {
        Ok(typed_fields(&self.types, "types")?.into_iter().collect())
    }

    /// Returns the split, or `None` if there is none.
    ///
    /// # Errors
    /// Returns the key of this table that is wrong.
    pub(crate) fn split(&self) -> Result<Option<Split>, BrokenRule> {
        match (&self.split, &self.split_by) {
            (None, Some(_)) => Err(BrokenRule::new("split_by", "needs `split` beside it")),
            (None, None) => Ok(None),
            (Some(split), by) => {
                let by = SplitBy::parse(by.as_deref().unwrap_or("row"));
                let split = Split::parse(split, by, self.seed.unwrap_or(0));
                split
                    .map(Some)
                    .map_err(|message| BrokenRule::new("split", message))
            }
        }
    }
}
