//! Feature vectors of views and groups.
//!
//! [`Serving::features`] answers a request in these steps:
//!
//! 1. The rows of the request become columns of join keys and request fields.
//! 2. One `get_many_counted` reads the entities of all lookups and rows from the online store. This
//!    is the only I/O of a request, and nothing is written. The bytes of each row are counted
//!    before it is read, against what the request may take and what all requests have ([`found`]).
//! 3. On a guest thread, the stored rows are unpacked into columns with a status for each value,
//!    one after the other, and each of them is counted a second time before that. Then each
//!    on-demand function is called once for all rows, and what it returns is counted beside these
//!    rows. When all sandboxes are busy, the request waits in a bounded queue.
//!
//! The result has the rows in the order of the request.
//!
//! [`found`]: crate::found

use std::sync::Arc;

use serde_json::Value as Json;
use wafer_catalog::{Definitions, Recipe};
use wafer_core::Timestamp;
use wafer_store::{Result, for_work};

use crate::found::RequestMemory;
use crate::served_view::{
    LookedUpRequest, RequestColumns, ServedView, add_entity_keys, assemble, decode,
};
use crate::service::Serving;
use crate::vectors::Vectors;

impl Serving {
    /// Returns the feature vectors of a view for some rows. Each row is a JSON object with the
    /// view's join keys and request fields.
    ///
    /// An unknown entity is not an error: its features have the status `not_found`.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown view, [`Kind::Invalid`] for a row that lacks a
    /// field or has one of another type, or when the looked-up values take more than
    /// [`MAX_FOUND_BYTES`](crate::MAX_FOUND_BYTES), [`Kind::Function`] when an on-demand function
    /// fails on the whole request, and [`Kind::Unavailable`] when too many requests are waiting.
    ///
    /// [`Kind::NotFound`]: wafer_store::Kind::NotFound
    /// [`Kind::Invalid`]: wafer_store::Kind::Invalid
    /// [`Kind::Function`]: wafer_store::Kind::Function
    /// [`Kind::Unavailable`]: wafer_store::Kind::Unavailable
    pub async fn features(&self, view: &str, rows: &[Json]) -> Result<Vectors> {
        self.features_within(view, rows, RequestMemory::default())
            .await
    }

    /// Returns the feature vectors of a version of a view, or of a part of one, as
    /// [`features`](Self::features) returns those of the live version. `view` is the name of the
    /// view.
    ///
    /// # Errors
    /// Returns the errors of [`features`](Self::features).
    pub async fn features_by(&self, recipe: &Recipe, view: &str, rows: &[Json]) -> Result<Vectors> {
        let served = ServedView::new(recipe.clone(), |name, definition| {
            self.context.load_function(name, definition)
        })?;
        let (served, work) = (Arc::new(served), format!("view/{view}"));
        let memory = RequestMemory::default();
        self.vectors(served, rows, &work, memory).await
    }

    /// Returns the feature vectors of a view like [`features`](Self::features), with what the
    /// looked-up values may take.
    ///
    /// # Errors
    /// Returns the errors of [`features`](Self::features), and that of `memory`.
    pub async fn features_within(
        &self,
        view: &str,
        rows: &[Json],
        memory: RequestMemory,
    ) -> Result<Vectors> {
        let served = self.served_view(view)?;
        let work = format!("view/{view}");
        self.vectors(served, rows, &work, memory).await
    }

    /// Returns all features of a group for some entities, with what their values may take. Each
    /// entity is a JSON object with the group's join keys.
    ///
    /// # Errors
    /// Returns the errors of [`features_within`](Self::features_within).
    pub async fn group_features(
        &self,
        group: &str,
        rows: &[Json],
        memory: RequestMemory,
    ) -> Result<Vectors> {
        // The name of a view has no slash, so this one cannot be a view's.
        let name = format!("group/{group}");
        let served = self.cached_view(&name, |definitions| {
            let recipe = Recipe::of_group(definitions, group)?;
            ServedView::new(recipe, |name, function| {
                self.context.load_function(name, function)
            })
        })?;
        self.vectors(served, rows, &name, memory).await
    }

    async fn vectors(
        &self,
        served: Arc<ServedView>,
        rows: &[Json],
        work: &str,
        memory: RequestMemory,
    ) -> Result<Vectors> {
        let request = decode(&served.view, rows)?;
        let now = self.context.now();
        let read = self.look_up(&served, request, now, &memory);
        let read = for_work(work.to_owned(), read).await?;
        let work = move || assemble(&served, read, memory).map(|(vectors, ..)| vectors);
        self.context.components().guests.run(work).await?
    }

    /// Reads the entities that a request looks up, as of `now`. Their rows are counted before they
    /// are read.
    pub(crate) async fn look_up(
        &self,
        served: &ServedView,
        request: RequestColumns,
        now: Timestamp,
        memory: &RequestMemory,
    ) -> Result<LookedUpRequest> {
        let (mut keys, mut entity_indices, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for lookup in &served.lookups {
            let before = keys.len();
            entity_indices.push(add_entity_keys(lookup, &request, &mut keys));
            counts.push(keys.len() - before);
        }
        let online = &self.context.components().stores.online;
        let count = |bytes| memory.take(bytes, format_args!("{} rows", request.rows));
        let found = online.get_many_counted(&keys, now, &count).await?;
        let mut found = found.into_iter();
        let of_lookups = counts
            .into_iter()
            .map(|count| found.by_ref().take(count).collect());
        Ok(LookedUpRequest {
            found: of_lookups.collect(),
            request,
            entity_indices,
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
    /// Returns a view, resolved by the live definitions. It is resolved by `make` the first time,
    /// and cached.
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

#[cfg(test)]
mod tests;
