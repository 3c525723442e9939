//! Works out where the events of a source go, for the applied definitions.

use std::sync::{Arc, PoisonError};

use wafer_catalog::Applied;
use wafer_store::Result;
use wafer_tables::Deletions;

use crate::events::route::{Route, Routes, Transform};
use crate::group_rows::Target;
use crate::service::Pipelines;

impl Pipelines {
    /// The pipelines that a source's events go through, staged ones included; made
    /// once for the present definitions and deletions.
    pub(crate) async fn routes(&self, source: &str) -> Result<Arc<Vec<Route>>> {
        let (applied, deletions) = (self.context.applied(), self.tables.deletions().await?);
        let is_present = |routes: &Routes| {
            Arc::ptr_eq(&routes.applied, &applied) && Arc::ptr_eq(&routes.deletions, &deletions)
        };
        if let Some(found) = self.known_routes(source).filter(is_present) {
            return Ok(found.routes);
        }
        let routes = Arc::new(self.make_routes(source, &applied, &deletions)?);
        let made = Routes {
            applied,
            deletions,
            routes: Arc::clone(&routes),
        };
        self.learn_routes(source, made);
        Ok(routes)
    }

    fn make_routes(
        &self,
        source: &str,
        applied: &Applied,
        deletions: &Deletions,
    ) -> Result<Vec<Route>> {
        let mut routes: Vec<Route> = Vec::new();
        for definitions in [Some(&applied.live), applied.staged.as_ref()]
            .into_iter()
            .flatten()
        {
            let pipelines = definitions.pipelines.values();
            for pipeline in pipelines.filter(|pipeline| pipeline.source == source) {
                let group = &definitions.groups[&pipeline.group];
                let mut targets = routes.iter().flat_map(|route| &route.targets);
                if targets.any(|target| target.table.name == group.table()) {
                    continue;
                }
                let target = Target::new(group.clone(), deletions);
                let function = pipeline.made_by.function();
                let function = function.expect("models are asked for files: it was checked");
                let code = definitions.functions[function].registered.digest;
                let is_same = |route: &&mut Route| matches!(&route.transform, Transform::Function(_, other) if *other == code);
                match routes.iter_mut().find(is_same) {
                    Some(route) => route.targets.push(target),
                    None => routes.push(Route {
                        transform: Transform::Function(
                            self.context.function_of(definitions, function)?,
                            code,
                        ),
                        targets: vec![target],
                    }),
                }
            }
        }
        Ok(routes)
    }
}

impl Pipelines {
    /// Where a source's events go, as last worked out.
    pub(crate) fn known_routes(&self, source: &str) -> Option<Routes> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.get(source).cloned()
    }

    pub(crate) fn learn_routes(&self, source: &str, made: Routes) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.insert(source.to_owned(), made);
    }
}
