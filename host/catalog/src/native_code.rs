//! Native code of functions for every kind of machine that the project was deployed to.

use std::collections::BTreeSet;
use std::sync::Arc;

use wafer_runtime::{Registered, Target};
use wafer_store::Result;

use crate::context::Context;
use crate::definitions::FunctionDef;
use crate::task::blocking;

/// Object that holds the kinds of machines that the project was deployed to.
pub const TARGETS: &str = "compile_targets";

impl Context {
    /// Compiles functions for all kinds of machines that the project was deployed to: there
    /// is no compiler.
    pub async fn compile_for_known(
        &self,
        functions: impl Iterator<Item = (&String, &FunctionDef)> + Clone,
    ) -> Result<()> {
        let known: Option<(BTreeSet<String>, u64)> = self.object(TARGETS).await?;
        let known = known.map(|(known, _)| known).unwrap_or_default();
        for target in known.iter().filter_map(|target| Target::parse(target)) {
            self.compile_all(functions.clone(), target).await?;
        }
        Ok(())
    }

    /// Compiles functions for some kind of machine; the names of those that were not.
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

    /// Compiles a function for some kind of machine; says whether it was not.
    async fn compile_one(
        &self,
        name: &str,
        registered: &Registered,
        target: Target,
    ) -> Result<bool> {
        let (name, registered) = (name.to_owned(), registered.clone());
        let runtime = self.components().runtime.clone();
        let artifacts = Arc::clone(&self.components().artifacts);
        let work =
            blocking(move || runtime.compile_for(target, &name, &registered, artifacts.as_ref()));
        Ok(work.await??)
    }
}
