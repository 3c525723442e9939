//! Works out the routes of a source's events from the applied definitions, and caches them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use wafer_catalog::{Applied, Context};
use wafer_store::Result;
use wafer_tables::{Deletions, Tables};

use crate::events::route::{Route, Routes};
use crate::group_rows::Target;
use crate::source::read_columns;
use crate::transform::Transform;

/// The routes of the events of each source: the functions and groups that these go through.
#[derive(Debug)]
pub(crate) struct RouteCache {
    context: Arc<Context>,
    tables: Arc<Tables>,
    cached: RwLock<HashMap<String, Routes>>,
}

impl RouteCache {
    pub(crate) fn new(context: Arc<Context>, tables: Arc<Tables>) -> Self {
        Self {
            context,
            tables,
            cached: RwLock::default(),
        }
    }

    /// Returns the routes of a source's events by applied definitions, including those that are
    /// staged. They are computed again when the definitions or the deletions change.
    pub(crate) async fn of(&self, source: &str, applied: &Arc<Applied>) -> Result<Arc<Vec<Route>>> {
        let deletions = self.tables.deletions().await?;
        let is_current = |routes: &Routes| {
            Arc::ptr_eq(&routes.applied, applied) && Arc::ptr_eq(&routes.deletions, &deletions)
        };
        if let Some(found) = self.cached_routes(source).filter(is_current) {
            return Ok(found.routes);
        }
        let routes = Arc::new(self.compute_routes(source, applied, &deletions)?);
        let made = Routes {
            applied: Arc::clone(applied),
            deletions,
            routes: Arc::clone(&routes),
        };
        self.cache_routes(source, made);
        Ok(routes)
    }

    /// Computes the routes of a source's events.
    fn compute_routes(
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
                let target = Target::of(&self.context, group.clone(), deletions);
                let transform = Transform::of(&self.context, definitions, &pipeline.made_by)?;
                let transform = transform.expect(
                    "a pipeline of a model reads no stream, which was checked when it was applied",
                );
                let fields = pipeline.made_by.source_fields(transform.inputs());
                let columns = read_columns(&definitions.sources[source], &fields);
                let code = transform.code();
                let is_same =
                    |route: &&mut Route| route.columns == columns && route.transform.code() == code;
                match routes.iter_mut().find(is_same) {
                    Some(route) => route.targets.push(target),
                    None => routes.push(Route {
                        transform,
                        columns,
                        targets: vec![target],
                    }),
                }
            }
        }
        Ok(routes)
    }

    /// Returns the routes of a source that were computed last.
    fn cached_routes(&self, source: &str) -> Option<Routes> {
        let routes = self.cached.read().unwrap_or_else(PoisonError::into_inner);
        routes.get(source).cloned()
    }

    /// Caches the routes of a source.
    fn cache_routes(&self, source: &str, made: Routes) {
        let mut routes = self.cached.write().unwrap_or_else(PoisonError::into_inner);
        routes.insert(source.to_owned(), made);
    }
}
