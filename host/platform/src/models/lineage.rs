//! What came from what.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wafer_core::Digest;

use super::{ModelVersion, VersionName};
use crate::definition::{Definitions, MadeBy, SourceKind};
use crate::error::{Error, Kind, Result};
use crate::platform::Platform;
use crate::recipe::Recipe;

/// What a version of a model came from, as it was when it was registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Groups that its view looks up, and those that these are made of, with the tables of
    /// their versions.
    pub groups: BTreeMap<String, String>,
    /// Sources of these groups.
    pub sources: BTreeSet<String>,
    /// Digests of the functions that made its features.
    pub functions: BTreeMap<String, Digest>,
    /// Models that made its features, as the pipelines name them.
    #[serde(default)]
    pub models: BTreeSet<VersionName>,
}

/// Something that models may have come from.
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

impl Lineage {
    /// Of a view's version, whose groups are written as the definitions say.
    fn of(recipe: &Recipe, definitions: &Definitions) -> Self {
        let mut lineage = Self::default();
        for (name, function) in &recipe.functions {
            lineage
                .functions
                .insert(name.clone(), function.registered.digest);
        }
        for (name, group) in &recipe.groups {
            lineage.groups.insert(name.clone(), group.table());
        }
        let mut open: Vec<String> = recipe.groups.keys().cloned().collect();
        while let Some(group) = open.pop() {
            let mut pipelines = definitions.pipelines.values();
            let Some(pipeline) = pipelines.find(|p| p.group == group) else {
                continue;
            };
            if let Some(name) = pipeline.made_by.function()
                && let Some(function) = definitions.functions.get(name)
            {
                let digest = function.registered.digest;
                lineage.functions.insert(name.clone(), digest);
            }
            if let MadeBy::Model(name) = &pipeline.made_by {
                lineage.models.insert(name.clone());
            }
            lineage.sources.insert(pipeline.source.clone());
            let above = definitions.sources.get(&pipeline.source).map(|s| &s.kind);
            if let Some(SourceKind::Table { group }) = above
                && let Some(def) = definitions.groups.get(group)
                && lineage.groups.insert(group.clone(), def.table()).is_none()
            {
                open.push(group.clone());
            }
        }
        lineage
    }
}

impl Platform {
    /// What a view's version comes from, as the definitions say; through models that made
    /// its features, too.
    pub(super) async fn lineage_of(
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
            let above = version.lineage;
            lineage.groups.extend(above.groups);
            lineage.sources.extend(above.sources);
            lineage.functions.extend(above.functions);
            lineage.functions.insert(version.function_name, digest);
            lineage.models.extend(above.models);
        }
        Ok(lineage)
    }

    /// Versions of models that came from something.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when neither a definition nor a version knows it.
    pub async fn models_from(&self, origin: &Origin) -> Result<Vec<ModelVersion>> {
        let mut found = self.objects::<ModelVersion>("model_version").await?;
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
        let definitions = self.definitions();
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
