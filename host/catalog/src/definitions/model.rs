//! Models, and the names of their versions and artifacts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wafer_core::{DataType, Task, Zone};

use crate::definitions::ComponentDef;
use crate::records::Split;

/// A model: what its versions have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDef {
    /// The name of the view that the model reads.
    pub view: String,
    /// The column of training sets that the model predicts.
    pub label: Option<String>,
    /// The kind of prediction, which decides how versions are evaluated. Without it they are not
    /// evaluated.
    pub task: Option<Task>,
    /// The output of the function that is the prediction. `None` means the first numeric output.
    pub prediction: Option<String>,
    /// The function that predicts, once it is loaded with the artifacts of a version.
    pub function: ComponentDef,
    /// The function that trains. Without it, versions are trained elsewhere and pushed.
    pub trainer: Option<ComponentDef>,
    /// The parameters of trainings, in addition to the trainer's own.
    pub parameters: BTreeMap<String, String>,
    /// The defaults of trainings.
    pub training: TrainingDef,
    /// Who is responsible for the model.
    pub owner: String,
    /// Free-form tags.
    pub tags: BTreeMap<String, String>,
    /// The description of the model.
    pub doc: String,
}

/// The defaults of `wafer train` for a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingDef {
    /// The file of labels.
    pub labels: Option<PathBuf>,
    /// The column of the labels' time.
    pub time: Option<String>,
    /// The types of columns of labels in CSV or NDJSON that the view does not read, where they are
    /// not guessed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, DataType>,
    /// The time zone of times of the labels that the view reads and that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// How rows are divided into parts.
    pub split: Option<Split>,
}

impl TrainingDef {
    /// Returns the column of the labels' time: the one that is set, or else `event_timestamp`.
    pub fn label_time(&self) -> &str {
        self.time.as_deref().unwrap_or("event_timestamp")
    }
}

/// The name of a version of a model, by number, by alias, or without either: `late`, `late@3`,
/// `late@champion`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct VersionName {
    /// The name of the model.
    pub model: String,
    /// Which version it is.
    pub which: Which,
}

/// Which version of a model is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// The newest version.
    Latest,
    /// The version with this number.
    Number(u64),
    /// The version that this alias stands for.
    Alias(String),
}

/// The error of a text that is not the name of a version of a model.
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

/// Returns whether a text can be an alias of a version, such as `champion`: at most 48 lowercase
/// ASCII letters, digits, underscores and hyphens, the first of them a letter.
pub fn is_alias(text: &str) -> bool {
    text.len() <= 48
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
}

/// The name of an artifact of a version: `late@3/model`, or `late@3` if the version has only one
/// artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactName {
    /// The version that the artifact belongs to.
    pub version: VersionName,
    /// The name of the artifact. `None` means the only artifact of the version.
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
    fn version_names_parse_and_print() {
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
