//! The registry: versions of models, what they are made of and what is said of them.
//!
//! Each is an object by itself: `model_version/NAME/N` is written once; `model_alias/NAME/A`
//! and `model_note/NAME/N` are changed under their versions, so that of two who write at
//! once neither is lost.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wafer_catalog::{
    Definitions, ModelNote, ModelVersion, VersionName, Which, get, is_alias, nearest,
};
use wafer_store::{Error, Kind, Result, blob_name};

use crate::service::Registry;

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
pub(crate) struct Alias {
    pub version: u64,
}

impl Registry {
    /// All models, those that are no longer defined included.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn models(&self) -> Result<Vec<ModelSummary>> {
        let definitions = self.context.definitions();
        let mut models: BTreeMap<String, ModelSummary> = definitions
            .models
            .keys()
            .map(|name| (name.clone(), summary(&definitions, name)))
            .collect();
        for (name, _) in self
            .context
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
        for (name, alias) in self.context.objects::<Alias>("model_alias").await? {
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
            .context
            .objects::<ModelVersion>(&format!("model_version/{model}"))
            .await?;
        if versions.is_empty() && !self.context.definitions().models.contains_key(model) {
            return Err(self.no_model(model).await?);
        }
        let notes = self
            .context
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
        match self
            .context
            .object(&version_object(&name.model, number))
            .await?
        {
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
        let path = self.context.components().artifacts.file(&blob).await?;
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
        if self.context.definitions().models.contains_key(model) {
            let message = format!(
                "model `{model}` has no version yet; make one with `wafer train {model}` or `wafer models push {model}`"
            );
            return Err(Error::new(Kind::NotFound, message));
        }
        Err(self.no_model(model).await?)
    }

    /// The number of the newest version; 0 when there is none.
    pub(crate) async fn newest(&self, model: &str) -> Result<u64> {
        let below = format!("model_version/{model}");
        let versions = self
            .context
            .objects::<serde::de::IgnoredAny>(&below)
            .await?;
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
        if let Some((found, _)) = self
            .context
            .object::<Alias>(&alias_object(model, alias))
            .await?
        {
            return Ok(found.version);
        }
        // Says first when there is not even the model.
        self.latest(model).await?;
        let known = self
            .context
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
        self.context.compile_for_known(bound.functions()).await?;
        let version = bound.model.version;
        let set = |_: Option<Alias>| Ok(Alias { version });
        self.context
            .change_object(&alias_object(&name.model, alias), set)
            .await?;
        Ok(version)
    }

    /// Takes an alias away.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none of that name.
    pub async fn remove_alias(&self, model: &str, alias: &str) -> Result<()> {
        let name = alias_object(model, alias);
        match self.context.object::<Alias>(&name).await? {
            Some((_, version)) => self.context.delete_object(&name, version).await,
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
        self.context.change_object(&name, change).await
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

pub(crate) fn version_object(model: &str, version: u64) -> String {
    format!("model_version/{}", numbered(model, version))
}

fn alias_object(model: &str, alias: &str) -> String {
    format!("model_alias/{model}/{alias}")
}
