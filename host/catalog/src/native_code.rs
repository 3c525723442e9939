//! Compiles functions for the machines that the project was deployed to.
//!
//! A machine that runs Wafer on Lambda has no compiler. So the native code of every function is
//! made in advance for every target, the combination of processor and compiler settings that code
//! is compiled for. `wafer deploy` records the targets in one object.

use std::collections::BTreeSet;
use std::sync::Arc;

use wafer_runtime::{Registered, Target};
use wafer_store::Result;

use crate::context::Context;
use crate::definitions::FunctionDef;
use crate::task::blocking;

/// The name of the object that holds the targets that the project was deployed to.
pub const TARGETS: &str = "compile_targets";

impl Context {
    /// Compiles functions for all targets that the project was deployed to, because there is no
    /// compiler on those machines.
    ///
    /// # Errors
    /// Returns the errors of the compiler and of the stores.
    pub async fn compile_for_known(
        &self,
        functions: impl Iterator<Item = (&String, &FunctionDef)> + Clone,
    ) -> Result<()> {
        let targets: Option<(BTreeSet<String>, u64)> = self.object(TARGETS).await?;
        let targets = targets.map(|(targets, _)| targets).unwrap_or_default();
        for target in targets.iter().filter_map(|target| Target::parse(target)) {
            self.compile_all(functions.clone(), target).await?;
        }
        Ok(())
    }

    /// Compiles functions for one target. Returns the names of the functions that were not
    /// compiled for it before.
    ///
    /// # Errors
    /// Returns the errors of the compiler and of the artifact store.
    pub async fn compile_all(
        &self,
        functions: impl Iterator<Item = (&String, &FunctionDef)>,
        target: Target,
    ) -> Result<Vec<String>> {
        let mut compiled = Vec::new();
        for (name, function) in functions {
            let is_new = self.compile_one(name, &function.registered, target).await?;
            compiled.extend(is_new.then(|| name.clone()));
        }
        Ok(compiled)
    }

    /// Compiles one function for one target. Returns whether it was not compiled for it before.
    async fn compile_one(
        &self,
        name: &str,
        registered: &Registered,
        target: Target,
    ) -> Result<bool> {
        let (name, registered) = (name.to_owned(), registered.clone());
        let runtime = self.components().runtime.clone();
        let artifacts = Arc::clone(&self.components().stores.artifacts);
        let work =
            blocking(move || runtime.compile_for(target, &name, &registered, artifacts.as_ref()));
        Ok(work.await??)
    }
}
