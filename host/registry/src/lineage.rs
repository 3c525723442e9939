//! Lineage: the groups, sources, functions and models that a version of a model came from.

use wafer_catalog::{Definitions, Lineage, ModelVersion, Recipe};
use wafer_store::{Error, Kind, Result};

use crate::service::Registry;

/// A definition that versions of models may have come from, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A feature group.
    Group(String),
    /// A source.
    Source(String),
    /// A function.
    Function(String),
    /// A view.
    View(String),
}

impl Registry {
    /// Returns the lineage of a version of a view, by the given definitions. If batch inference
    /// with a model made some of its features, the lineage of that version is part of it.
    pub(crate) async fn lineage_of(
        &self,
        recipe: &Recipe,
        definitions: &Definitions,
    ) -> Result<Lineage> {
        let mut lineage = Lineage::of(recipe, definitions);
        for name in lineage.models.clone() {
            let version = match self.model_version(&name).await {
                Err(e) if e.kind() == Kind::NotFound => continue,
                found => found?,
            };
            let digest = version.function.registered.digest;
            let upstream = version.lineage;
            lineage.groups.extend(upstream.groups);
            lineage.sources.extend(upstream.sources);
            lineage.functions.extend(upstream.functions);
            lineage.functions.insert(version.function_name, digest);
            lineage.models.extend(upstream.models);
        }
        Ok(lineage)
    }

    /// Returns the versions of models that came from `origin`.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when `origin` is not defined and no version came from it.
    pub async fn models_from(&self, origin: &Origin) -> Result<Vec<ModelVersion>> {
        let mut found = self
            .context
            .objects::<ModelVersion>("model_version")
            .await?;
        found.retain(|(_, version)| {
            let lineage = &version.lineage;
            match origin {
                Origin::Group(name) => lineage.groups.contains_key(name),
                Origin::Source(name) => lineage.sources.contains(name),
                Origin::Function(name) => {
                    let trainer = version.trainer.as_ref();
                    lineage.functions.contains_key(name)
                        || version.function_name == *name
                        || trainer.is_some_and(|(trainer, _)| trainer == name)
                }
                Origin::View(name) => version.view == *name,
            }
        });
        let definitions = self.context.definitions();
        let (what, name, is_defined) = match origin {
            Origin::Group(name) => ("feature group", name, definitions.groups.contains_key(name)),
            Origin::Source(name) => ("source", name, definitions.sources.contains_key(name)),
            Origin::Function(name) => {
                let mut models = definitions.models.values();
                let is_models = models.any(|m| {
                    let trainer = m.trainer.as_ref();
                    m.function.name == *name || trainer.is_some_and(|t| t.name == *name)
                });
                (
                    "function",
                    name,
                    is_models || definitions.functions.contains_key(name),
                )
            }
            Origin::View(name) => ("feature view", name, definitions.views.contains_key(name)),
        };
        if found.is_empty() && !is_defined {
            let message = format!("there is no {what} `{name}`");
            return Err(Error::new(Kind::NotFound, message));
        }
        Ok(found.into_iter().map(|(_, version)| version).collect())
    }
}
