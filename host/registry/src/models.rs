//! Versions of models, their aliases and their notes.
//!
//! Each is a metadata object of its own. `model_version/NAME/N` is written once and never changes.
//! `model_alias/NAME/ALIAS` and `model_note/NAME/N` can be changed. Such a change is conditional
//! on the version of the object that was read, so that no concurrent change is lost.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wafer_catalog::{
    Definitions, ModelNote, ModelVersion, VersionName, Which, get, is_alias, nearest,
};
use wafer_store::{Error, Kind, Result, blob_name};

use crate::service::Registry;

/// A model with its newest version and its aliases.
///
/// Description, owner and tags are empty if the model is no longer defined.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelSummary {
    /// Name of the model.
    pub name: String,
    /// Description of the model.
    pub doc: String,
    /// The person or team that is responsible for the model.
    pub owner: String,
    /// Tags of the model.
    pub tags: BTreeMap<String, String>,
    /// Number of the newest version; 0 if there is none.
    pub latest: u64,
    /// Number of the version that each alias stands for.
    pub aliases: BTreeMap<String, u64>,
}

/// The object of an alias.
#[derive(Serialize, Deserialize)]
pub(crate) struct Alias {
    /// Number of the version that the alias stands for.
    pub version: u64,
}

impl Registry {
    /// Returns all models, by name. Models that are no longer defined but have versions are
    /// included.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
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

    /// Returns all versions of a model with their notes, oldest first.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the model is not defined and has no version.
    pub async fn model_versions(&self, model: &str) -> Result<Vec<(ModelVersion, ModelNote)>> {
        let versions = self
            .context
            .objects::<ModelVersion>(&format!("model_version/{model}"))
            .await?;
        if versions.is_empty() && !self.context.definitions().models.contains_key(model) {
            return Err(self.unknown_model(model).await?);
        }
        let notes = self
            .context
            .objects::<ModelNote>(&format!("model_note/{model}"))
            .await?;
        let mut notes: BTreeMap<String, ModelNote> = notes.into_iter().collect();
        let with_note = |(number, version)| (version, notes.remove(&number).unwrap_or_default());
        Ok(versions.into_iter().map(with_note).collect())
    }

    /// Returns a version of a model.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown model, number or alias.
    pub async fn model_version(&self, name: &VersionName) -> Result<ModelVersion> {
        let number = match &name.which {
            Which::Number(number) => *number,
            Which::Latest => self.existing_newest(&name.model).await?,
            Which::Alias(alias) => self.alias(&name.model, alias).await?,
        };
        match self
            .context
            .object(&version_object(&name.model, number))
            .await?
        {
            Some((version, _)) => Ok(version),
            None => {
                let latest = self.existing_newest(&name.model).await?;
                let message = format!(
                    "model `{}` has no version {number}; its newest is {latest}",
                    name.model
                );
                Err(Error::new(Kind::NotFound, message))
            }
        }
    }

    /// Returns the path of a file on this machine that holds an artifact of a version.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown version or artifact, and [`Kind::Corrupt`] when
    /// the bytes are missing from the artifact store.
    pub async fn artifact(&self, name: &VersionName, artifact: &str) -> Result<PathBuf> {
        let version = self.model_version(name).await?;
        let found = get(&version.artifacts, artifact, "artifact")?;
        let blob = blob_name(found.digest);
        let path = self
            .context
            .components()
            .stores
            .artifacts
            .file(&blob)
            .await?;
        path.ok_or_else(|| {
            let message = format!("artifact `{artifact}` of {} is gone", version.name());
            Error::new(Kind::Corrupt, message)
        })
    }

    /// Returns the number of the newest version.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the model has no version.
    async fn existing_newest(&self, model: &str) -> Result<u64> {
        let newest = self.newest_number(model).await?;
        if newest > 0 {
            return Ok(newest);
        }
        if self.context.definitions().models.contains_key(model) {
            let message = format!(
                "model `{model}` has no version yet; make one with `wafer train {model}` or `wafer models push {model}`"
            );
            return Err(Error::new(Kind::NotFound, message));
        }
        Err(self.unknown_model(model).await?)
    }

    /// Returns the number of the newest version, or 0 if there is none.
    pub(crate) async fn newest_number(&self, model: &str) -> Result<u64> {
        let prefix = format!("model_version/{model}");
        let versions = self
            .context
            .objects::<serde::de::IgnoredAny>(&prefix)
            .await?;
        Ok(versions
            .last()
            .and_then(|(name, _)| name.parse().ok())
            .unwrap_or(0))
    }

    /// Returns the error for a model that does not exist.
    async fn unknown_model(&self, model: &str) -> Result<Error> {
        let models = self.models().await?;
        let hint = match nearest(model, models.iter().map(|m| m.name.as_str())) {
            Some(nearest) => format!("; did you mean `{nearest}`?"),
            None => String::new(),
        };
        let message = format!("there is no model `{model}`{hint}");
        Ok(Error::new(Kind::NotFound, message))
    }

    /// Returns the number of the version that an alias stands for.
    async fn alias(&self, model: &str, alias: &str) -> Result<u64> {
        if let Some((found, _)) = self
            .context
            .object::<Alias>(&alias_object(model, alias))
            .await?
        {
            return Ok(found.version);
        }
        // A missing model or version is the better explanation for a missing alias.
        self.existing_newest(model).await?;
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

    /// Makes an alias stand for a version, and creates or moves it for that. Returns the number
    /// of the version.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] for a name that cannot be an alias and [`Kind::NotFound`] for an
    /// unknown version.
    pub async fn set_alias(&self, name: &VersionName, alias: &str) -> Result<u64> {
        if !is_alias(alias) {
            return Err(Error::invalid(format!(
                "`{alias}` is not an alias; use lowercase letters, digits, `-` and `_`, starting with a \
                 letter, at most 48"
            )));
        }
        let bound = self.bound_version(self.model_version(name).await?).await?;
        // Pipelines may use the version through its alias from now on, on any of the machines.
        self.context.compile_for_known(bound.functions()).await?;
        let version = bound.model.version;
        let set = |_: Option<Alias>| Ok(Alias { version });
        self.context
            .change_object(&alias_object(&name.model, alias), set)
            .await?;
        Ok(version)
    }

    /// Removes an alias. The version stays.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the model has no such alias.
    pub async fn remove_alias(&self, model: &str, alias: &str) -> Result<()> {
        let name = alias_object(model, alias);
        match self.context.object::<Alias>(&name).await? {
            Some((_, version)) => self.context.delete_object(&name, version).await,
            // This returns an error that lists the aliases that exist.
            None => self.alias(model, alias).await.map(drop),
        }
    }

    /// Sets the description and tags of a version, and returns all that it has then.
    ///
    /// A `doc` of `None` leaves the description as it is. A tag with an empty value is removed;
    /// tags that are not named stay.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown version.
    pub async fn note(
        &self,
        name: &VersionName,
        doc: Option<&str>,
        tags: &BTreeMap<String, String>,
    ) -> Result<ModelNote> {
        let version = self.model_version(name).await?.version;
        let change = |note: Option<ModelNote>| Ok(changed(note.unwrap_or_default(), doc, tags));
        let name = format!("model_note/{}", version_key(&name.model, version));
        self.context.change_object(&name, change).await
    }
}

/// Returns a note with another description, if there is one, and with tags set; those with empty
/// values are removed.
fn changed(mut note: ModelNote, doc: Option<&str>, tags: &BTreeMap<String, String>) -> ModelNote {
    if let Some(doc) = doc {
        doc.clone_into(&mut note.doc);
    }
    note.tags.extend(tags.clone());
    note.tags.retain(|_, value| !value.is_empty());
    note
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

/// Returns model and number as part of an object's name. The number is padded with zeros, so that
/// the order of the names is the order of the numbers.
fn version_key(model: &str, version: u64) -> String {
    format!("{model}/{version:06}")
}

/// Returns the name of the object that holds a version.
pub(crate) fn version_object(model: &str, version: u64) -> String {
    format!("model_version/{}", version_key(model, version))
}

fn alias_object(model: &str, alias: &str) -> String {
    format!("model_alias/{model}/{alias}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        tags.iter().map(owned).collect()
    }

    #[test]
    fn notes_keep_what_is_not_named_and_lose_tags_with_empty_values() {
        let before = ModelNote {
            doc: "first".to_owned(),
            tags: tags(&[("team", "a"), ("stage", "test")]),
        };
        for (doc, set, wanted_doc, wanted_tags) in [
            (
                None,
                &[][..],
                "first",
                &[("team", "a"), ("stage", "test")][..],
            ),
            (
                Some("next"),
                &[],
                "next",
                &[("team", "a"), ("stage", "test")],
            ),
            (Some(""), &[], "", &[("team", "a"), ("stage", "test")]),
            (
                None,
                &[("stage", "live"), ("new", "x")],
                "first",
                &[("team", "a"), ("stage", "live"), ("new", "x")],
            ),
            (
                None,
                &[("stage", ""), ("unknown", "")],
                "first",
                &[("team", "a")],
            ),
        ] {
            let after = changed(before.clone(), doc, &tags(set));
            let wanted = ModelNote {
                doc: wanted_doc.to_owned(),
                tags: tags(wanted_tags),
            };
            assert_eq!(after, wanted, "{doc:?}, {set:?}");
        }
    }

    /// The newest version is the last one by name.
    #[test]
    fn the_names_of_versions_sort_like_their_numbers() {
        let names = [1, 2, 10, 99, 100, 999_999].map(|number| version_object("late", number));
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names[2], "model_version/late/000010");
    }
}
