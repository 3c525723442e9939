//! Releases: immutable manifests, each of which binds a version of a model, a version of its view
//! and the digests of all functions.
//!
//! A release is the metadata object `release/NAME`, which is written once. Endpoints route
//! requests to releases, so a switch to another release, or back, changes features, functions and
//! model together.

use wafer_catalog::{
    Definitions, FunctionDef, ModelVersion, Recipe, Release, VersionName, Which, nearest,
};
use wafer_core::Field;
use wafer_store::{Error, Expect, Kind, Result, blob_name};

use crate::service::Registry;

/// The version of a view and the version of a model that belong together, as a release binds
/// them.
#[derive(Clone, Debug)]
pub struct BoundRelease {
    /// The version of the view.
    pub recipe: Recipe,
    /// The version of the model.
    pub model: ModelVersion,
}

impl BoundRelease {
    /// Returns the on-demand functions of the view and the function that predicts, by name.
    pub fn functions(&self) -> impl Iterator<Item = (&String, &FunctionDef)> + Clone {
        let model = &self.model;
        let predicts = std::iter::once((&model.function_name, &model.function));
        self.recipe.functions.iter().chain(predicts)
    }

    /// Returns the outputs of the model.
    pub fn outputs(&self) -> &[Field] {
        self.model.outputs()
    }
}

/// The version of its view that a release of a model binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewOfRelease {
    /// The version that the model was trained on.
    TrainedOn,
    /// The view as it is defined now.
    Present,
}

impl Registry {
    /// Creates a release of a version of a model. Without a name it is called `r1`, `r2`, and so
    /// on.
    ///
    /// # Errors
    /// Returns [`Kind::Conflict`] when there is another release of that name, and
    /// [`Kind::Invalid`] when a function or a group that it needs is gone, or the model does not
    /// fit the view.
    pub async fn create_release(
        &self,
        name: Option<&str>,
        model: &VersionName,
        view: ViewOfRelease,
        doc: &str,
    ) -> Result<Release> {
        if let Some(name) = name {
            wafer_catalog::is_name(name).map_err(Error::invalid)?;
        }
        let model = self.model_version(model).await?;
        let (view_version, recipe) = self.view_of_release(&model, view).await?;
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
                let put = self.put_release(&release).await;
                put.map_err(|e| match e.kind() {
                    Kind::Conflict => {
                        let message =
                            format!("there is a release `{name}` already; releases do not change");
                        Error::caused(Kind::Conflict, message, e)
                    }
                    _ => e,
                })?;
            }
            None => self.put_numbered(&mut release).await?,
        }
        Ok(release)
    }

    /// Returns the version of its view that a release of a model binds, with its recipe, which is
    /// kept.
    async fn view_of_release(
        &self,
        model: &ModelVersion,
        view: ViewOfRelease,
    ) -> Result<(String, Recipe)> {
        match view {
            ViewOfRelease::Present => {
                let recipe = Recipe::new(&self.context.definitions(), &model.view)?;
                self.check_version_fits(model, &recipe)?;
                let version = recipe.keep(&self.context, &model.view).await?;
                Ok((version, recipe))
            }
            ViewOfRelease::TrainedOn => {
                let version = model.view_version.clone();
                let recipe = Recipe::read(&self.context, &model.view, &version).await?;
                Ok((version, recipe))
            }
        }
    }

    async fn put_release(&self, release: &Release) -> Result<()> {
        let name = format!("release/{}", release.name);
        self.context
            .put_object(&name, release, Expect::Absent)
            .await
            .map(drop)
    }

    /// Writes the release under the next free name of the form `r1`, and sets that name.
    async fn put_numbered(&self, release: &mut Release) -> Result<()> {
        loop {
            let releases = self.releases().await?;
            release.name = next_name(releases.iter().map(|release| release.name.as_str()));
            match self.put_release(release).await {
                // Another process created a release of this name; try the next one.
                Err(e) if e.kind() == Kind::Conflict => {}
                put => return put,
            }
        }
    }

    /// Returns all releases, oldest first.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
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

    /// Returns a release by its name.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no release of that name.
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

    /// Returns the version of the view and the version of the model that a release binds.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn bound(&self, release: &Release) -> Result<BoundRelease> {
        let version = VersionName {
            model: release.model.clone(),
            which: Which::Number(release.version),
        };
        Ok(BoundRelease {
            recipe: Recipe::read(&self.context, &release.view, &release.view_version).await?,
            model: self.model_version(&version).await?,
        })
    }

    /// Returns a version of a model with the version of the view that it was trained on.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn bound_version(&self, model: ModelVersion) -> Result<BoundRelease> {
        let recipe = Recipe::read(&self.context, &model.view, &model.view_version).await?;
        Ok(BoundRelease { recipe, model })
    }

    /// Checks that what all functions are loaded from is in the artifact store: their snapshots,
    /// or their interpreters and what they have in the memory of these.
    ///
    /// # Errors
    /// Returns [`Kind::Invalid`] when something is missing.
    pub async fn check_code(&self, bound: &BoundRelease) -> Result<()> {
        let artifacts = &self.context.components().stores.artifacts;
        for (name, function) in bound.functions() {
            let registered = &function.registered;
            for digest in registered.artifacts() {
                if !artifacts.contains(&blob_name(digest)).await? {
                    return Err(Error::invalid(format!(
                        "function `{name}` ({}) is gone from {artifacts}: apply the version of the project that \
                         has it, or register the model again",
                        registered.digest.short(),
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Returns the name of the form `r1` after those that are taken.
fn next_name<'a>(taken: impl Iterator<Item = &'a str>) -> String {
    let numbers = taken.filter_map(|name| name.strip_prefix('r')?.parse::<u64>().ok());
    format!("r{}", numbers.max().unwrap_or(0) + 1)
}

/// Returns a message about a group that a version of a view reads and that is no longer written
/// under `definitions`, or `None` if all are written.
pub fn left_behind(recipe: &Recipe, definitions: &Definitions) -> Option<String> {
    let mut groups = recipe.groups.iter();
    groups.find_map(|(name, group)| match definitions.groups.get(name) {
        Some(found) if found.table() == group.table() => None,
        Some(found) => Some(format!(
            "reads version {} of group `{name}`, which is no longer written: version {} is",
            group.version, found.version
        )),
        None => Some(format!("reads group `{name}`, which is no longer defined")),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wafer_catalog::{GroupDef, ViewDef};

    use super::*;

    #[test]
    fn releases_are_numbered_after_the_greatest_number() {
        for (taken, wanted) in [
            (&[][..], "r1"),
            (&["r1", "r2"], "r3"),
            (&["r10", "r9"], "r11"),
            // A gap is not filled, because a name that was known once must not return.
            (&["r7"], "r8"),
            (&["summer", "r", "rx", "release4"], "r1"),
        ] {
            assert_eq!(next_name(taken.iter().copied()), wanted, "{taken:?}");
        }
    }

    fn groups(groups: &[(&str, u32)]) -> BTreeMap<String, GroupDef> {
        let group = |(name, version): &(&str, u32)| {
            let group = GroupDef {
                version: *version,
                ..GroupDef::new(name, "e", "at")
            };
            ((*name).to_owned(), group)
        };
        groups.iter().map(group).collect()
    }

    #[test]
    fn a_view_is_left_behind_when_a_group_is_gone_or_has_another_version() {
        let recipe = Recipe {
            view: ViewDef {
                inputs: Vec::new(),
                lookups: Vec::new(),
                functions: Vec::new(),
                doc: String::new(),
            },
            groups: groups(&[("a", 1), ("b", 2)]),
            functions: BTreeMap::new(),
        };
        for (applied, wanted) in [
            (&[("a", 1), ("b", 2)][..], None),
            (&[("a", 1), ("b", 2), ("c", 9)], None),
            (
                &[("a", 1), ("b", 3)],
                Some("reads version 2 of group `b`, which is no longer written: version 3 is"),
            ),
            (
                &[("b", 2)],
                Some("reads group `a`, which is no longer defined"),
            ),
        ] {
            let definitions = Definitions {
                groups: groups(applied),
                ..Definitions::default()
            };
            let message = left_behind(&recipe, &definitions);
            assert_eq!(message.as_deref(), wanted, "{applied:?}");
        }
    }
}
