//! Releases: a version of a view, one of a model, and the digests of all functions in one
//! unchangeable manifest, which is switched to and back from as a whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer_core::{Digest, Field, Timestamp};
use wafer_store::{Expect, blob_name};

use crate::definition::{Definitions, FunctionDef};
use crate::error::{Error, Kind, Result};
use crate::models::{ModelVersion, VersionName, Which};
use crate::platform::Platform;
use crate::project::nearest;
use crate::recipe::Recipe;

/// A release: never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// When it was made, machine time.
    pub created: Timestamp,
    /// The view.
    pub view: String,
    /// Which version of it.
    pub view_version: String,
    /// The model.
    pub model: String,
    /// Which version of it.
    pub version: u64,
    /// Digests of all functions: those of the view, and the one that predicts.
    pub functions: BTreeMap<String, Digest>,
    /// What there is to say of it.
    pub doc: String,
}

/// A release with all that it binds.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) recipe: Recipe,
    pub(crate) model: ModelVersion,
}

impl Bound {
    /// The functions of the view, and the one that predicts.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (&String, &FunctionDef)> + Clone {
        let model = &self.model;
        let predicts = std::iter::once((&model.function_name, &model.function));
        self.recipe.functions.iter().chain(predicts)
    }

    /// What it answers.
    pub(crate) fn outputs(&self) -> &[Field] {
        self.model.outputs()
    }
}

impl Platform {
    /// Makes a release of a version of a model, with the version of the view that it was
    /// trained on, or with the view as it is now. Without a name it is `r1`, `r2`, ….
    ///
    /// # Errors
    /// [`Kind::Conflict`] when there is another release of that name, [`Kind::Invalid`] when
    /// a function or a group that it needs is gone, or the model does not fit the view.
    pub async fn create_release(
        &self,
        name: Option<&str>,
        model: &VersionName,
        present_view: bool,
        doc: &str,
    ) -> Result<Release> {
        if let Some(name) = name {
            crate::project::is_name(name).map_err(Error::invalid)?;
        }
        let model = self.model_version(model).await?;
        let (view_version, recipe) = match present_view {
            true => {
                let recipe = self.view(&model.view)?;
                self.check_version_fits(&model, &recipe)?;
                (self.keep_recipe(&model.view, &recipe).await?, recipe)
            }
            false => {
                let version = model.view_version.clone();
                let recipe = self.recipe(&model.view, &version).await?;
                (version, recipe)
            }
        };
        let bound = Bound { recipe, model };
        self.check_code(&bound).await?;
        if let Some(message) = left_behind(&bound.recipe, &self.definitions()) {
            return Err(Error::invalid(format!(
                "it {message}. Train the model anew, or release it with the view as it is now"
            )));
        }
        self.compile_for_known(bound.functions()).await?;
        let functions = bound.functions();
        let mut release = Release {
            name: String::new(),
            created: self.components().wall.now(),
            view: bound.model.view.clone(),
            view_version,
            model: bound.model.model.clone(),
            version: bound.model.version,
            functions: functions
                .map(|(name, def)| (name.clone(), def.registered.digest))
                .collect(),
            doc: doc.to_owned(),
        };
        match name {
            Some(name) => {
                name.clone_into(&mut release.name);
                self.put_release(&release)
                    .await
                    .map_err(|e| match e.kind() {
                        Kind::Conflict => {
                            let message = format!(
                                "there is a release `{name}` already; releases do not change"
                            );
                            Error::caused(Kind::Conflict, message, e)
                        }
                        _ => e,
                    })?;
            }
            None => self.put_numbered(&mut release).await?,
        }
        Ok(release)
    }

    async fn put_release(&self, release: &Release) -> Result<()> {
        let name = format!("release/{}", release.name);
        self.put_object(&name, release, Expect::Absent)
            .await
            .map(drop)
    }

    async fn put_numbered(&self, release: &mut Release) -> Result<()> {
        loop {
            let names = self.releases().await?;
            let numbers = names
                .iter()
                .filter_map(|r| r.name.strip_prefix('r')?.parse::<u64>().ok());
            release.name = format!("r{}", numbers.max().unwrap_or(0) + 1);
            match self.put_release(release).await {
                // Somebody made one meanwhile.
                Err(e) if e.kind() == Kind::Conflict => {}
                put => return put,
            }
        }
    }

    /// All releases, oldest first.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn releases(&self) -> Result<Vec<Release>> {
        let mut releases: Vec<Release> = self
            .objects("release")
            .await?
            .into_iter()
            .map(|(_, release)| release)
            .collect();
        releases.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Ok(releases)
    }

    /// A release.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none of that name.
    pub async fn release(&self, name: &str) -> Result<Release> {
        if let Some((release, _)) = self.object(&format!("release/{name}")).await? {
            return Ok(release);
        }
        let releases = self.releases().await?;
        let hint = match nearest(name, releases.iter().map(|r| r.name.as_str())) {
            Some(nearest) => format!("; did you mean `{nearest}`?"),
            None if releases.is_empty() => "; make one with `wafer release create`".to_owned(),
            None => String::new(),
        };
        let message = format!("there is no release `{name}`{hint}");
        Err(Error::new(Kind::NotFound, message))
    }

    /// A release with what it binds.
    pub(crate) async fn bound(&self, release: &Release) -> Result<Bound> {
        let version = VersionName {
            model: release.model.clone(),
            which: Which::Number(release.version),
        };
        Ok(Bound {
            recipe: self.recipe(&release.view, &release.view_version).await?,
            model: self.model_version(&version).await?,
        })
    }

    /// A version of a model with the version of the view that it was trained on.
    pub(crate) async fn bound_version(&self, model: ModelVersion) -> Result<Bound> {
        let recipe = self.recipe(&model.view, &model.view_version).await?;
        Ok(Bound { recipe, model })
    }

    /// Checks that the functions' code is there.
    pub(crate) async fn check_code(&self, bound: &Bound) -> Result<()> {
        for (name, function) in bound.functions() {
            let registered = &function.registered;
            let snapshot = blob_name(registered.snapshot);
            if !self.components().artifacts.contains(&snapshot).await? {
                return Err(Error::invalid(format!(
                    "function `{name}` ({}) is gone from {}: apply the version of the project that has it, or \
                     register the model again",
                    registered.digest.short(),
                    self.components().artifacts
                )));
            }
        }
        Ok(())
    }
}

/// What a view's version reads that is written no longer once these definitions are live.
pub(crate) fn left_behind(recipe: &Recipe, definitions: &Definitions) -> Option<String> {
    let mut groups = recipe.groups.iter();
    groups.find_map(|(name, group)| match definitions.groups.get(name) {
        Some(found) if found.table() == group.table() => None,
        Some(found) => Some(format!(
            "reads version {} of group `{name}`, which is written no longer: version {} is",
            group.version, found.version
        )),
        None => Some(format!("reads group `{name}`, which there is no longer")),
    })
}
