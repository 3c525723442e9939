//! Registration of the functions of a project.

use wafer_catalog::{FunctionRole, ProjectFunction, ProjectFunctions, definition};
use wafer_store::{Error, Result};

use crate::Platform;

impl Platform {
    /// Registers functions, as far as they are not registered already with the
    /// same component, assets and parameters; keeps those that models are made with. Runs
    /// guest code.
    ///
    /// # Errors
    /// [`Kind::Function`] when a function refuses, traps or is no function.
    pub async fn register(&self, functions: Vec<ProjectFunction>) -> Result<ProjectFunctions> {
        let mut all = ProjectFunctions::default();
        let known = self.context.definitions();
        for function in functions {
            let ProjectFunction { role, spec, .. } = self.with_fitted(function).await?;
            let name = spec.name.clone();
            if role != FunctionRole::Features {
                let kept = self.context.keep_component(role, spec).await?;
                all.components.insert(name, kept);
                continue;
            }
            let stored = known
                .functions
                .get(&name)
                .filter(|def| def.registered.digest == spec.digest());
            let registered = match stored {
                Some(def) => def.registered.clone(),
                None => self.context.register_one(spec.clone()).await?,
            };
            all.registered.insert(name, definition(&spec, registered));
        }
        Ok(all)
    }

    /// A function with the assets that are artifacts of models, which are in this
    /// platform's registry.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a version or an artifact that there is not.
    pub async fn with_fitted(&self, mut function: ProjectFunction) -> Result<ProjectFunction> {
        for (asset, artifact) in std::mem::take(&mut function.fitted) {
            let found = self.registry.fitted(&artifact).await.map_err(|e| {
                let place = format!("functions.{}.assets.{asset}: {e}", function.spec.name);
                Error::caused(e.kind(), place, e)
            })?;
            function.spec.assets.insert(asset, found);
        }
        Ok(function)
    }
}
