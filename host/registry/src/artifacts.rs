//! Artifacts of models as assets of functions.

use wafer_catalog::{ArtifactName, get};
use wafer_runtime::Asset;
use wafer_store::{Error, Result};

use crate::service::Registry;

impl Registry {
    /// An artifact of a version of a model, as an asset for a function.
    pub async fn fitted(&self, name: &ArtifactName) -> Result<Asset> {
        let version = self.model_version(&name.version).await?;
        let mut artifacts = version.artifacts.iter();
        let only = artifacts.next().filter(|_| version.artifacts.len() == 1);
        let found = match &name.artifact {
            Some(artifact) => get(&version.artifacts, artifact, "artifact")?,
            None => only.map(|(_, artifact)| artifact).ok_or_else(|| {
                let names: Vec<&str> = version.artifacts.keys().map(String::as_str).collect();
                let (name, first) = (version.name(), names.first().unwrap_or(&""));
                let names = names.join(", ");
                Error::invalid(format!(
                    "{name} has several artifacts ({names}); name one, such as model:{name}/{first}"
                ))
            })?,
        };
        self.context.kept_asset(found.digest).await
    }
}
