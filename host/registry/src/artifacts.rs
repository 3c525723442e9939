//! The artifacts of models as assets of functions, such as a fitted scaler.

use wafer_catalog::{ArtifactName, get};
use wafer_runtime::Asset;
use wafer_store::{Error, Result};

use crate::service::Registry;

impl Registry {
    /// Returns an artifact of a version of a model, as an asset for a function.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`](wafer_store::Kind::NotFound) for an unknown version or artifact,
    /// and [`Kind::Invalid`](wafer_store::Kind::Invalid) when no artifact is named and the version
    /// has several.
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
