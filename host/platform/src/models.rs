//! The registry: versions of models, what they are made of and what is said of them.
//!
//! Each is an object by itself: `model_version/NAME/N` is written once; `model_alias/NAME/A`
//! and `model_note/NAME/N` are changed under their versions, so that of two who write at
//! once neither is lost.

mod evaluate;
mod lineage;
mod register;
mod train;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use wafer_core::{Digest, Field, Task, Timestamp};
use wafer_store::blob_name;

use crate::definition::{Definitions, FunctionDef};
use crate::error::{Error, Kind, Result};
use crate::platform::{Platform, get};
use crate::project::nearest;

pub use lineage::{Lineage, Origin};
pub use register::NewVersion;
pub(crate) use register::prediction;
pub use train::{TrainReport, TrainRequest};

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

fn is_alias(text: &str) -> bool {
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

/// Bytes that a version holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Of its content, by which it is kept.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// A version of a model: never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// The model.
    pub model: String,
    /// From 1.
    pub version: u64,
    /// When it was registered, machine time.
    pub created: Timestamp,
    /// What it is made of, by name.
    pub artifacts: BTreeMap<String, Artifact>,
    /// What was measured, by name.
    pub metrics: BTreeMap<String, f64>,
    /// What it was trained with, by name.
    pub parameters: BTreeMap<String, String>,
    /// View that it reads.
    pub view: String,
    /// Which version of it.
    pub view_version: String,
    /// Training set that it was made of, if that is known.
    pub training_set: Option<String>,
    /// Name and digest of the training function; absent: it was trained elsewhere.
    pub trainer: Option<(String, Digest)>,
    /// Name of the function that predicts.
    pub function_name: String,
    /// That function, loaded with the artifacts.
    pub function: FunctionDef,
    /// Column of training sets that it predicts.
    pub label: Option<String>,
    /// What it predicts.
    pub task: Option<Task>,
    /// Output of the function that is the prediction.
    pub prediction: Option<String>,
    /// What it came from.
    pub lineage: Lineage,
}

impl ModelVersion {
    /// `NAME@N`
    pub fn name(&self) -> String {
        format!("{}@{}", self.model, self.version)
    }

    /// What it predicts, row by row.
    pub fn outputs(&self) -> &[Field] {
        self.function.registered.signature.outputs.fields()
    }
}

/// What people say of a version; may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelNote {
    /// Description.
    pub doc: String,
    /// Whatever else there is to say.
    pub tags: BTreeMap<String, String>,
}

/// A model, with what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSummary {
    /// Its name.
    pub name: String,
    /// Description.
    pub doc: String,
    /// Who answers for it.
    pub owner: String,
    /// Whatever else there is to say.
    pub tags: BTreeMap<String, String>,
    /// Number of its newest version; 0 when there is none.
    pub latest: u64,
    /// Aliases, with the numbers of their versions.
    pub aliases: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
struct Alias {
    version: u64,
}

impl Platform {
    /// All models, those that are no longer defined included.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn models(&self) -> Result<Vec<ModelSummary>> {
        let definitions = self.definitions();
        let mut models: BTreeMap<String, ModelSummary> = definitions
            .models
            .keys()
            .map(|name| (name.clone(), summary(&definitions, name)))
            .collect();
        for (name, _) in self
            .objects::<serde::de::IgnoredAny>("model_version")
            .await?
        {
            let Some((model, number)) = name.split_once('/') else {
                continue;
            };
            let entry = models.entry(model.to_owned());
            let entry = entry.or_insert_with(|| summary(&definitions, model));
            entry.latest = entry.latest.max(number.parse().unwrap_or(0));
        }
        for (name, alias) in self.objects::<Alias>("model_alias").await? {
            if let Some((model, alias_name)) = name.split_once('/')
                && let Some(entry) = models.get_mut(model)
            {
                entry.aliases.insert(alias_name.to_owned(), alias.version);
            }
        }
        Ok(models.into_values().collect())
    }

    /// All versions of a model with their notes, oldest first.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is neither such a model nor a version of it.
    pub async fn model_versions(&self, model: &str) -> Result<Vec<(ModelVersion, ModelNote)>> {
        let versions = self
            .objects::<ModelVersion>(&format!("model_version/{model}"))
            .await?;
        if versions.is_empty() && !self.definitions().models.contains_key(model) {
            return Err(self.no_model(model).await?);
        }
        let notes = self
            .objects::<ModelNote>(&format!("model_note/{model}"))
            .await?;
        let mut notes: BTreeMap<String, ModelNote> = notes.into_iter().collect();
        let with_note = |(number, version)| (version, notes.remove(&number).unwrap_or_default());
        Ok(versions.into_iter().map(with_note).collect())
    }

    /// A version of a model.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a model, a number or an alias that there is not.
    pub async fn model_version(&self, name: &VersionName) -> Result<ModelVersion> {
        let number = match &name.which {
            Which::Number(number) => *number,
            Which::Latest => self.latest(&name.model).await?,
            Which::Alias(alias) => self.alias(&name.model, alias).await?,
        };
        match self.object(&version_object(&name.model, number)).await? {
            Some((version, _)) => Ok(version),
            None => {
                let latest = self.latest(&name.model).await?;
                let message = format!(
                    "model `{}` has no version {number}; its newest is {latest}",
                    name.model
                );
                Err(Error::new(Kind::NotFound, message))
            }
        }
    }

    /// A file of this machine that holds an artifact of a version.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a version or an artifact that there is not.
    pub async fn artifact(&self, name: &VersionName, artifact: &str) -> Result<PathBuf> {
        let version = self.model_version(name).await?;
        let found = get(&version.artifacts, artifact, "artifact")?;
        let blob = blob_name(found.digest);
        let path = self.components().artifacts.file(&blob).await?;
        path.ok_or_else(|| {
            let message = format!("artifact `{artifact}` of {} is gone", version.name());
            Error::new(Kind::Internal, message)
        })
    }

    async fn latest(&self, model: &str) -> Result<u64> {
        let newest = self.newest(model).await?;
        if newest > 0 {
            return Ok(newest);
        }
        if self.definitions().models.contains_key(model) {
            let message = format!(
                "model `{model}` has no version yet; make one with `wafer train {model}` or `wafer models push {model}`"
            );
            return Err(Error::new(Kind::NotFound, message));
        }
        Err(self.no_model(model).await?)
    }

    /// The number of the newest version; 0 when there is none.
    async fn newest(&self, model: &str) -> Result<u64> {
        let below = format!("model_version/{model}");
        let versions = self.objects::<serde::de::IgnoredAny>(&below).await?;
        Ok(versions
            .last()
            .and_then(|(name, _)| name.parse().ok())
            .unwrap_or(0))
    }

    async fn no_model(&self, model: &str) -> Result<Error> {
        let models = self.models().await?;
        let hint = match nearest(model, models.iter().map(|m| m.name.as_str())) {
            Some(nearest) => format!("; did you mean `{nearest}`?"),
            None => String::new(),
        };
        let message = format!("there is no model `{model}`{hint}");
        Ok(Error::new(Kind::NotFound, message))
    }

    async fn alias(&self, model: &str, alias: &str) -> Result<u64> {
        if let Some((found, _)) = self.object::<Alias>(&alias_object(model, alias)).await? {
            return Ok(found.version);
        }
        // Says first when there is not even the model.
        self.latest(model).await?;
        let known = self
            .objects::<Alias>(&format!("model_alias/{model}"))
            .await?;
        let known: Vec<String> = known.into_iter().map(|(name, _)| name).collect();
        let known = match known.is_empty() {
            true => "none".to_owned(),
            false => known.join(", "),
        };
        let message = format!(
            "model `{model}` has no alias `{alias}` (it has: {known}); set it with \
             `wafer models alias {model}@VERSION {alias}`"
        );
        Err(Error::new(Kind::NotFound, message))
    }

    /// Has an alias stand for a version, whatever it stood for; which version it is.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for what cannot be an alias, [`Kind::NotFound`] for a version that
    /// there is not.
    pub async fn set_alias(&self, name: &VersionName, alias: &str) -> Result<u64> {
        if !is_alias(alias) {
            return Err(Error::invalid(format!(
                "`{alias}` is not an alias; use lowercase letters, digits, `-` and `_`, starting with a \
                 letter, at most 48"
            )));
        }
        let bound = self.bound_version(self.model_version(name).await?).await?;
        // A pipeline may ask it from now on.
        self.compile_for_known(bound.functions()).await?;
        let version = bound.model.version;
        let set = |_: Option<Alias>| Ok(Alias { version });
        self.change_object(&alias_object(&name.model, alias), set)
            .await?;
        Ok(version)
    }

    /// Takes an alias away.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none of that name.
    pub async fn remove_alias(&self, model: &str, alias: &str) -> Result<()> {
        let name = alias_object(model, alias);
        match self.object::<Alias>(&name).await? {
            Some((_, version)) => self.delete_object(&name, version).await,
            // Says what there is instead.
            None => self.alias(model, alias).await.map(drop),
        }
    }

    /// Says something of a version: sets its description, and tags; an empty tag is taken
    /// away.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a version that there is not.
    pub async fn note(
        &self,
        name: &VersionName,
        doc: Option<&str>,
        tags: &BTreeMap<String, String>,
    ) -> Result<ModelNote> {
        let version = self.model_version(name).await?.version;
        let change = |note: Option<ModelNote>| {
            let mut note = note.unwrap_or_default();
            if let Some(doc) = doc {
                doc.clone_into(&mut note.doc);
            }
            note.tags.extend(tags.clone());
            note.tags.retain(|_, value| !value.is_empty());
            Ok(note)
        };
        let name = format!("model_note/{}", numbered(&name.model, version));
        self.change_object(&name, change).await
    }
}

fn summary(definitions: &Definitions, name: &str) -> ModelSummary {
    let model = definitions.models.get(name);
    ModelSummary {
        name: name.to_owned(),
        doc: model.map(|m| m.doc.clone()).unwrap_or_default(),
        owner: model.map(|m| m.owner.clone()).unwrap_or_default(),
        tags: model.map(|m| m.tags.clone()).unwrap_or_default(),
        latest: 0,
        aliases: BTreeMap::new(),
    }
}

/// Numbers sort as names do.
fn numbered(model: &str, version: u64) -> String {
    format!("{model}/{version:06}")
}

fn version_object(model: &str, version: u64) -> String {
    format!("model_version/{}", numbered(model, version))
}

fn alias_object(model: &str, alias: &str) -> String {
    format!("model_alias/{model}/{alias}")
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
