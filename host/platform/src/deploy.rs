//! Compiling the functions of a deployed project for the machines that it runs on.

use std::collections::{BTreeMap, BTreeSet};

use wafer_catalog::{Definitions, MadeBy, TARGETS};
use wafer_runtime::Target;
use wafer_store::{Kind, Result};

use crate::Platform;

/// Whether an endpoint routes to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Routed {
    /// An endpoint routes to the release.
    Now,
    /// Endpoints routed to the release before, and could be rolled back to it.
    Before,
}

impl Platform {
    /// Compiles the functions of a project for a kind of machine. Returns the names of those that
    /// were not compiled for it before.
    ///
    /// These are the functions of the definitions, of the releases that endpoints route to or
    /// routed to before, and of the models that pipelines use. The kind of machine is recorded, so
    /// that the functions of later models and releases are compiled for it as well.
    ///
    /// # Errors
    /// Returns the errors of the compiler and of the stores.
    pub async fn compile_for(
        &self,
        definitions: &Definitions,
        target: Target,
    ) -> Result<Vec<String>> {
        self.context
            .change_object(TARGETS, |known: Option<BTreeSet<String>>| {
                let mut known = known.unwrap_or_default();
                known.insert(target.name().to_owned());
                Ok(known)
            })
            .await?;
        let mut compiled = self
            .context
            .compile_all(definitions.functions.iter(), target)
            .await?;
        for (release, routed) in self.routed_releases().await? {
            let bound = self
                .registry
                .bound(&self.registry.release(&release).await?)
                .await?;
            match self.context.compile_all(bound.functions(), target).await {
                Ok(more) => compiled.extend(more),
                // Only a rollback to the release is not possible.
                Err(error) if routed == Routed::Before => {
                    tracing::warn!("release `{release}` was not compiled: {}", error.chain());
                }
                Err(error) => return Err(error),
            }
        }
        for pipeline in definitions.pipelines.values() {
            let MadeBy::Model(name) = &pipeline.made_by else {
                continue;
            };
            match self.registry.model_version(name).await {
                Ok(version) => {
                    let bound = self.registry.bound_version(version).await?;
                    compiled.extend(self.context.compile_all(bound.functions(), target).await?);
                }
                // The version does not exist yet. It is compiled when it is registered.
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(compiled)
    }

    /// Returns the releases that endpoints route to or routed to before.
    async fn routed_releases(&self) -> Result<BTreeMap<String, Routed>> {
        let mut releases = BTreeMap::new();
        for endpoint in self.serving.endpoints().await?.into_values() {
            for (_, routing) in &endpoint.history {
                for release in routing.releases() {
                    releases.entry(release.clone()).or_insert(Routed::Before);
                }
            }
            let now = endpoint.routing.releases();
            releases.extend(now.map(|release| (release.clone(), Routed::Now)));
        }
        Ok(releases)
    }
}
