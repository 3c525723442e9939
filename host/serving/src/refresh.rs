//! Makes endpoints ready whose routing changed.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use wafer_store::{Error, Kind, Result};

use crate::endpoints::Endpoint;
use crate::ready::{EndpointServing, Failed, PAUSE, ReadyRelease, common_keys};
use crate::request_log::table::LogTable;
use crate::routing::Routing;
use crate::served_view::ServedView;
use crate::service::Serving;

impl Serving {
    /// Looks which endpoints there are, and makes ready those that changed. One that cannot
    /// be made ready goes on as it was, and is tried again after a while.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn refresh_endpoints(&self) -> Result<()> {
        // One after the other: what was read first must not replace what was read later.
        let mut unready = self.unready.lock().await;
        let prefix = format!("{}/endpoint/", self.context.project());
        let stored = self.context.components().metadata.list(&prefix).await?;
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
            let tried = unready.0.remove(name).filter(|f| f.routing == routing);
            match self.try_ready(name, routing, known, tried).await {
                Ok(ready) => {
                    after.insert(name.to_owned(), Arc::new(ready));
                }
                Err(still) => {
                    failed.insert(name.to_owned(), still);
                    after.extend(known.map(|known| (name.to_owned(), Arc::clone(known))));
                }
            }
        }
        unready.0 = failed;
        self.replace_endpoints(after);
        Ok(())
    }

    /// Makes an endpoint ready, unless that failed a moment ago.
    async fn try_ready(
        &self,
        name: &str,
        routing: Routing,
        before: Option<&Arc<EndpointServing>>,
        tried: Option<Failed>,
    ) -> Result<EndpointServing, Failed> {
        let now = self.context.machine_now();
        let tried = match tried {
            Some(tried) if tried.next > now => return Err(tried),
            tried => tried,
        };
        let made = self.make_ready(name, routing.clone(), before).await;
        made.map_err(|error| {
            let message = error.chain();
            if tried.is_none_or(|tried| tried.message != message) {
                tracing::error!("endpoint `{name}` cannot be switched: {message}");
            }
            Failed {
                routing,
                message,
                next: now.plus_micros(PAUSE),
            }
        })
    }

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
                None => Arc::new(self.ready_release(name, release, routing.log > 0).await?),
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

    async fn ready_release(
        &self,
        endpoint: &str,
        name: &str,
        is_logged: bool,
    ) -> Result<ReadyRelease> {
        let release = self.registry.release(name).await?;
        let bound = self.registry.bound(&release).await?;
        let load = |name: &str, function: &_| self.context.load_function(name, function);
        let log = LogTable::new(endpoint, &bound.recipe, bound.outputs())?;
        if is_logged {
            // Another version of this program may have called it differently.
            self.keep_log_table(&log).await?;
        }
        Ok(ReadyRelease {
            model: load(&bound.model.function_name, &bound.model.function)?,
            log,
            endpoint: endpoint.to_owned(),
            view: ServedView::new(bound.recipe, load)?,
            release,
        })
    }

    /// An endpoint, ready to answer, as it is now.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none of that name, [`Kind::Unavailable`] when it
    /// could not be made ready.
    pub async fn serving_endpoint(&self, name: &str) -> Result<Arc<EndpointServing>> {
        if let Some(ready) = self.ready_endpoints().get(name) {
            return Ok(Arc::clone(ready));
        }
        // It may be new.
        self.endpoint(name).await?;
        self.refresh_endpoints().await?;
        if let Some(ready) = self.ready_endpoints().get(name) {
            return Ok(Arc::clone(ready));
        }
        let unready = self.unready.lock().await;
        let reason = unready.0.get(name).map(|failed| failed.message.as_str());
        let reason = reason.unwrap_or("it was taken away a moment ago");
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
