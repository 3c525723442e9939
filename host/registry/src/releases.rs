//! Releases: a version of a view, one of a model, and the digests of all functions in one
//! unchangeable manifest, which is switched to and back from as a whole.

use wafer_catalog::{
    Definitions, FunctionDef, ModelVersion, Recipe, Release, VersionName, Which, nearest,
};
use wafer_core::Field;
use wafer_store::{Error, Expect, Kind, Result, blob_name};

use crate::service::Registry;

/// A release with all that it binds.
#[derive(Clone, Debug)]
pub struct BoundRelease {
    /// The version of the view.
    pub recipe: Recipe,
    /// The version of the model.
    pub model: ModelVersion,
}

impl BoundRelease {
    /// The functions of the view, and the one that predicts.
    pub fn functions(&self) -> impl Iterator<Item = (&String, &FunctionDef)> + Clone {
        let model = &self.model;
        let predicts = std::iter::once((&model.function_name, &model.function));
        self.recipe.functions.iter().chain(predicts)
    }

    /// What it answers.
    pub fn outputs(&self) -> &[Field] {
        self.model.outputs()
    }
}

impl Registry {
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
            wafer_catalog::is_name(name).map_err(Error::invalid)?;
        }
        let model = self.model_version(model).await?;
        let (view_version, recipe) = match present_view {
            true => {
                let recipe = self.context.view(&model.view)?;
                self.check_version_fits(&model, &recipe)?;
                (
                    self.context.keep_recipe(&model.view, &recipe).await?,
                    recipe,
                )
            }
            false => {
                let version = model.view_version.clone();
                let recipe = self.context.recipe(&model.view, &version).await?;
                (version, recipe)
            }
        };
        let bound = BoundRelease { recipe, model };
        self.check_code(&bound).await?;
        if let Some(message) = left_behind(&bound.recipe, &self.context.definitions()) {
            return Err(Error::invalid(format!(
                "it {message}. Train the model anew, or release it with the view as it is now"
            )));
        }
        self.context.compile_for_known(bound.functions()).await?;
        let functions = bound.functions();
        let mut release = Release {
            name: String::new(),
            created: self.context.machine_now(),
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
        self.context
            .put_object(&name, release, Expect::Absent)
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
            .context
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
        if let Some((release, _)) = self.context.object(&format!("release/{name}")).await? {
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
    pub async fn bound(&self, release: &Release) -> Result<BoundRelease> {
        let version = VersionName {
            model: release.model.clone(),
            which: Which::Number(release.version),
        };
        Ok(BoundRelease {
            recipe: self
                .context
                .recipe(&release.view, &release.view_version)
                .await?,
            model: self.model_version(&version).await?,
        })
    }

    /// A version of a model with the version of the view that it was trained on.
    pub async fn bound_version(&self, model: ModelVersion) -> Result<BoundRelease> {
        let recipe = self
            .context
            .recipe(&model.view, &model.view_version)
            .await?;
        Ok(BoundRelease { recipe, model })
    }

    /// Checks that the functions' code is there.
    pub async fn check_code(&self, bound: &BoundRelease) -> Result<()> {
        for (name, function) in bound.functions() {
            let registered = &function.registered;
            let snapshot = blob_name(registered.snapshot);
            if !self
                .context
                .components()
                .artifacts
                .contains(&snapshot)
                .await?
            {
                return Err(Error::invalid(format!(
                    "function `{name}` ({}) is gone from {}: apply the version of the project that has it, or \
                     register the model again",
                    registered.digest.short(),
                    self.context.components().artifacts
                )));
            }
        }
        Ok(())
    }
}

/// What a view's version reads that is written no longer once these definitions are live.
pub fn left_behind(recipe: &Recipe, definitions: &Definitions) -> Option<String> {
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
