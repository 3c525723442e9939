//! Reads feature vectors: one batched get of the view's groups, then its on-demand functions.

use std::sync::Arc;

use serde_json::Value as Json;
use wafer_catalog::{Definitions, Recipe};
use wafer_core::Timestamp;
use wafer_store::{Result, for_work};

use crate::served_view::{LookedUpRequest, RequestColumns, ServedView, assemble, decode, entities};
use crate::service::Serving;
use crate::vectors::Vectors;

impl Serving {
    /// Feature vectors of a view for some rows, each an object with the view's
    /// join keys and request fields. Entities that are not known are no error:
    /// their features have the status `not_found`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an unknown view, [`Kind::Invalid`] for a row that
    /// lacks a field or has one of another type, [`Kind::Function`] when an
    /// on-demand function fails on the whole request, [`Kind::Unavailable`] when
    /// too many requests are waiting.
    pub async fn features(&self, view: &str, rows: &[Json]) -> Result<Vectors> {
        let served = self.served_view(view)?;
        self.vectors(served, rows, &format!("view/{view}")).await
    }

    /// All features of a group for some entities, each an object with the group's join
    /// keys.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub async fn group_features(&self, group: &str, rows: &[Json]) -> Result<Vectors> {
        // No view has such a name.
        let name = format!("group/{group}");
        let served = self.cached_view(&name, |definitions| {
            let recipe = Recipe::of_group(definitions, group)?;
            ServedView::new(recipe, |name, function| {
                self.context.load_function(name, function)
            })
        })?;
        self.vectors(served, rows, &name).await
    }

    async fn vectors(&self, served: Arc<ServedView>, rows: &[Json], work: &str) -> Result<Vectors> {
        let request = decode(&served.view, rows)?;
        let read = self
            .look_up(&served, request, self.context.now(), work)
            .await?;
        let work = move || assemble(&served, read).map(|(vectors, _)| vectors);
        self.context.components().guests.run(work).await?
    }

    /// Reads what requests look up, as of a time; `work` is what for.
    pub(crate) async fn look_up(
        &self,
        served: &ServedView,
        request: RequestColumns,
        now: Timestamp,
        work: &str,
    ) -> Result<LookedUpRequest> {
        let (mut keys, mut places, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for lookup in &served.lookups {
            let before = keys.len();
            places.push(entities(lookup, &request, &mut keys));
            counts.push(keys.len() - before);
        }
        let online = &self.context.components().online;
        let found = for_work(work.to_owned(), online.get_many(&keys, now)).await?;
        let mut found = found.into_iter();
        let of_lookups = counts
            .into_iter()
            .map(|count| found.by_ref().take(count).collect());
        Ok(LookedUpRequest {
            found: of_lookups.collect(),
            request,
            places,
            now,
        })
    }

    fn served_view(&self, name: &str) -> Result<Arc<ServedView>> {
        self.cached_view(name, |definitions| {
            ServedView::new(Recipe::new(definitions, name)?, |name, definition| {
                self.context.load_function(name, definition)
            })
        })
    }
}

impl Serving {
    /// Returns what requests for a view need by the live definitions, worked out by `make` the
    /// first time.
    fn cached_view(
        &self,
        name: &str,
        make: impl FnOnce(&Definitions) -> Result<ServedView>,
    ) -> Result<Arc<ServedView>> {
        let applied = self.context.applied();
        if let Some(view) = self.views.get(&applied, name) {
            return Ok(view);
        }
        let view = Arc::new(make(&applied.live)?);
        self.views.insert(&applied, name, &view);
        Ok(view)
    }
}
