//! Models, and the names of their versions and artifacts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wafer_core::Task;

use crate::definitions::ComponentDef;
use crate::records::Split;

/// A model: what its versions have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDef {
    /// View that it reads.
    pub view: String,
    /// Column of training sets that it predicts.
    pub label: Option<String>,
    /// What it predicts.
    pub task: Option<Task>,
    /// Output of its function that is the prediction; absent: the first number.
    pub prediction: Option<String>,
    /// Function that predicts, once it is loaded with a version's artifacts.
    pub function: ComponentDef,
    /// Function that trains.
    pub trainer: Option<ComponentDef>,
    /// Parameters of trainings, in addition to the trainer's.
    pub parameters: BTreeMap<String, String>,
    /// Where trainings take their rows from.
    pub training: TrainingDef,
    /// Who answers for it.
    pub owner: String,
    /// Whatever else there is to say.
    pub tags: BTreeMap<String, String>,
    /// Description.
    pub doc: String,
}

/// What a training is made of unless it is said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingDef {
    /// File of labels.
    pub labels: Option<PathBuf>,
    /// Column of the labels' time.
    pub time: Option<String>,
    /// Parts that rows are shared out to.
    pub split: Option<Split>,
}

/// A version of a model, by number, alias or none: `late`, `late@3`, `late@champion`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct VersionName {
    /// The model.
    pub model: String,
    /// Which version.
    pub which: Which,
}

/// Which version of a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// The newest.
    Latest,
    /// That of this number.
    Number(u64),
    /// That which this alias stands for.
    Alias(String),
}

/// A text that names no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no version of a model; write NAME, NAME@3 or NAME@champion")]
pub struct VersionNameError(String);

impl FromStr for VersionName {
    type Err = VersionNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || VersionNameError(text.to_owned());
        let (model, which) = match text.split_once('@') {
            None => (text, Which::Latest),
            Some((model, which)) if which.starts_with(|c: char| c.is_ascii_digit()) => {
                (model, Which::Number(which.parse().map_err(|_| error())?))
            }
            Some((model, alias)) if is_alias(alias) => (model, Which::Alias(alias.to_owned())),
            Some(_) => return Err(error()),
        };
        match model.is_empty() {
            true => Err(error()),
            false => Ok(Self {
                model: model.to_owned(),
                which,
            }),
        }
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Latest => f.write_str(&self.model),
            Which::Number(number) => write!(f, "{}@{number}", self.model),
            Which::Alias(alias) => write!(f, "{}@{alias}", self.model),
        }
    }
}

impl From<VersionName> for String {
    fn from(name: VersionName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for VersionName {
    type Error = VersionNameError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Whether a text may be an alias of a version, such as `champion`.
pub fn is_alias(text: &str) -> bool {
    text.len() <= 48
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
}

/// An artifact of a version: `late@3/model`, or `late@3` for its only one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactName {
    /// The version.
    pub version: VersionName,
    /// Name of the artifact; absent: the only one.
    pub artifact: Option<String>,
}

impl FromStr for ArtifactName {
    type Err = VersionNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (version, artifact) = match text.split_once('/') {
            Some((version, artifact)) => (version, Some(artifact.to_owned())),
            None => (text, None),
        };
        Ok(Self {
            version: version.parse()?,
            artifact,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named() {
        for (text, which) in [
            ("late", Which::Latest),
            ("late@3", Which::Number(3)),
            ("late@champion", Which::Alias("champion".to_owned())),
        ] {
            let name: VersionName = text.parse().unwrap();
            assert_eq!((name.model.as_str(), &name.which), ("late", &which));
            assert_eq!(name.to_string(), text);
        }
        for text in [
            "",
            "@3",
            "late@",
            "late@3x",
            "late@-1",
            "late@Champion",
            "late@a@b",
        ] {
            let error = text.parse::<VersionName>().unwrap_err().to_string();
            assert!(error.contains("NAME@champion"), "{error}");
        }
    }
}
