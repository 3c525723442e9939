//! Making endpoints ready to answer after their routing changed.
//!
//! [`Serving::refresh_changed_endpoints`] is called again and again: by a loop of a server, and
//! before requests by the Lambda program. When the pointer to the applied definitions has counted a
//! change of endpoints, [`Serving::refresh_endpoints`] lists them in the metadata store, loads the
//! releases of those that changed, one after the other, and then replaces all endpoints at once.
//! An endpoint that cannot be made ready stays as it was, and is tried again after a pause. Changes
//! that nobody counted are found after a longer one.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use futures::future::BoxFuture;
use wafer_store::{Error, Kind, Result};

use crate::endpoints::Endpoint;
use crate::ready::{
    EndpointServing, FailedEndpoint, LastRefresh, READ_PAUSE, RETRY_PAUSE, ReadyRelease,
    common_keys,
};
use crate::request_log::table::LogTable;
use crate::routing::Routing;
use crate::served_view::ServedView;
use crate::service::Serving;

impl Serving {
    /// Reads the endpoints if some were changed since they were read last, as far as the context
    /// knows, if that was ten minutes ago, or if one is to be tried again. Makes ready those whose
    /// routing changed.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn refresh_changed_endpoints(&self) -> Result<()> {
        let (changes, now) = (self.context.endpoint_changes(), self.context.machine_now());
        let is_outdated = self.last_refresh.lock().await.is_outdated(changes, now);
        match is_outdated {
            true => self.refresh_endpoints().await,
            false => Ok(()),
        }
    }

    /// Reads all endpoints and makes ready those whose routing changed.
    ///
    /// An endpoint that cannot be made ready stays as it was; the reason is logged, and it is
    /// tried again after ten seconds.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn refresh_endpoints(&self) -> Result<()> {
        // The lock makes refreshes run one after the other. Otherwise endpoints that were read
        // earlier could replace endpoints that were read later.
        let mut last = self.last_refresh.lock().await;
        // A change is counted after it was written: what is listed now has these changes.
        let changes = self.context.endpoint_changes();
        let next = self.context.machine_now().plus(READ_PAUSE);
        let prefix = format!("{}/endpoint/", self.context.project());
        let stored = self
            .context
            .components()
            .stores
            .metadata
            .list(&prefix)
            .await?;
        let before = self.ready_endpoints();
        let mut after = BTreeMap::new();
        let mut failed = BTreeMap::new();
        for (object, stored) in stored {
            let name = &object[prefix.len()..];
            let known = before.get(name);
            let routing = match wafer_catalog::read::<Endpoint>(&object, &stored.value) {
                Ok(endpoint) => endpoint.routing,
                Err(unreadable) => {
                    tracing::error!("endpoint `{name}`: {}", unreadable.chain());
                    after.extend(known.map(|known| (name.to_owned(), Arc::clone(known))));
                    continue;
                }
            };
            if let Some(known) = known.filter(|known| known.routing == routing) {
                after.insert(name.to_owned(), Arc::clone(known));
                continue;
            }
            let earlier = last.failed.remove(name).filter(|f| f.routing == routing);
            match self.try_make_ready(name, routing, known, earlier).await {
                Ok(ready) => {
                    after.insert(name.to_owned(), Arc::new(ready));
                }
                Err(failure) => {
                    failed.insert(name.to_owned(), failure);
                    after.extend(known.map(|known| (name.to_owned(), Arc::clone(known))));
                }
            }
        }
        *last = LastRefresh {
            changes: Some(changes),
            next,
            failed,
        };
        self.replace_endpoints(after);
        Ok(())
    }

    /// Makes an endpoint ready. If the same routing failed before, it is not tried again before
    /// the pause is over, and a reason that is still the same is not logged again.
    async fn try_make_ready(
        &self,
        name: &str,
        routing: Routing,
        before: Option<&Arc<EndpointServing>>,
        earlier: Option<FailedEndpoint>,
    ) -> Result<EndpointServing, FailedEndpoint> {
        let now = self.context.machine_now();
        let earlier = match earlier {
            Some(failure) if failure.next > now => return Err(failure),
            earlier => earlier,
        };
        let made = self.make_ready(name, routing.clone(), before).await;
        made.map_err(|error| {
            let message = error.chain();
            if earlier.is_none_or(|failure| failure.message != message) {
                tracing::error!("endpoint `{name}` cannot be switched: {message}");
            }
            FailedEndpoint {
                routing,
                message,
                next: now.plus(RETRY_PAUSE),
            }
        })
    }

    /// Loads the releases of a routing. Those that the endpoint had `before` are not loaded again.
    async fn make_ready(
        &self,
        name: &str,
        routing: Routing,
        before: Option<&Arc<EndpointServing>>,
    ) -> Result<EndpointServing> {
        let mut releases = BTreeMap::new();
        for release in routing.releases() {
            let known = before.and_then(|before| before.releases.get(release));
            let ready = match known {
                Some(ready) => Arc::clone(ready),
                None => Arc::new(self.load_release(name, release, routing.log > 0).await?),
            };
            releases.insert(release.clone(), ready);
        }
        let sampled_by = match &routing.key {
            Some(key) => vec![key.clone()],
            None => {
                let answering = routing.routes.iter();
                common_keys(answering.map(|(release, _)| releases[release].log.keys()))
            }
        };
        Ok(EndpointServing {
            name: name.to_owned(),
            routing,
            releases,
            sampled_by,
        })
    }

    /// Loads the view's functions and the model of a release.
    fn load_release<'a>(
        &'a self,
        endpoint: &'a str,
        name: &'a str,
        is_logged: bool,
    ) -> BoxFuture<'a, Result<ReadyRelease>> {
        Box::pin(async move {
            let release = self.registry.release(name).await?;
            let bound = self.registry.bound(&release).await?;
            let load = |name: &str, function: &_| self.context.load_function(name, function);
            let log = LogTable::new(endpoint, &bound.recipe, bound.outputs())?;
            if is_logged {
                // The endpoint may have been set by another version of Wafer, which may have given
                // the table another name.
                self.keep_log_table(&log).await?;
            }
            Ok(ReadyRelease {
                model: load(&bound.model.function_name, &bound.model.function)?,
                log,
                endpoint: endpoint.to_owned(),
                view: ServedView::new(bound.recipe, load)?,
                release,
            })
        })
    }

    /// Returns an endpoint that is ready to answer.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no endpoint of that name, and
    /// [`Kind::Unavailable`] when it could not be made ready.
    pub async fn serving_endpoint(&self, name: &str) -> Result<Arc<EndpointServing>> {
        if let Some(ready) = self.ready_endpoints().get(name) {
            return Ok(Arc::clone(ready));
        }
        // The endpoint may have been created since the last refresh.
        self.endpoint(name).await?;
        self.refresh_endpoints().await?;
        if let Some(ready) = self.ready_endpoints().get(name) {
            return Ok(Arc::clone(ready));
        }
        let last = self.last_refresh.lock().await;
        let reason = last
            .failed
            .get(name)
            .map(|failure| failure.message.as_str());
        let reason = reason.unwrap_or("it was removed a moment ago");
        let message = format!("endpoint `{name}` is not ready: {reason}");
        Err(Error::new(Kind::Unavailable, message))
    }

    fn ready_endpoints(&self) -> Arc<BTreeMap<String, Arc<EndpointServing>>> {
        let ready = self.endpoints.read();
        Arc::clone(&ready.unwrap_or_else(PoisonError::into_inner))
    }

    fn replace_endpoints(&self, endpoints: BTreeMap<String, Arc<EndpointServing>>) {
        let mut ready = self
            .endpoints
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *ready = Arc::new(endpoints);
    }
}
