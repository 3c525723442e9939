//! Endpoints: stable names that route requests to releases by weight.
//!
//! The routing of an endpoint is one metadata object, `endpoint/NAME`, which also holds the earlier
//! routings for a rollback. Each change is counted in the pointer to the applied definitions.
//! Processes that answer requests look at the pointer anyway, and make the new releases ready when
//! it has counted one (module `refresh`). One that could not be counted is found all the same, but
//! later. A request uses the routing that was ready when it came in, to its end. So no request sees
//! the features of one release and the model of another.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wafer_catalog::{Definitions, meant, nearest};
use wafer_core::{DataType, Field, Timestamp};
use wafer_registry::left_behind;
use wafer_store::{Error, Kind, Result};

use crate::ready::READ_PAUSE;
use crate::request_log::table::LogTable;
use crate::routing::Routing;
use crate::service::Serving;

/// The number of earlier routings that an endpoint keeps for a rollback.
const HISTORY: usize = 20;

/// The routing of an endpoint, and its earlier routings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The present routing.
    pub routing: Routing,
    /// The time of the present routing's start, by the machine's clock.
    pub since: Timestamp,
    /// Earlier routings with their starts, oldest first.
    pub history: Vec<(Timestamp, Routing)>,
}

impl Endpoint {
    /// Returns the endpoint with another routing since `now`. The routing before it becomes a part
    /// of the history, whose oldest routings are dropped.
    fn switched(before: Option<Self>, routing: Routing, now: Timestamp) -> Self {
        let mut history = Vec::new();
        if let Some(before) = before {
            history = before.history;
            history.push((before.since, before.routing));
            let surplus = history.len().saturating_sub(HISTORY);
            history.drain(..surplus);
        }
        Self {
            routing,
            since: now,
            history,
        }
    }

    /// Returns the endpoint with its last earlier routing since `now`, or `None` if there is none.
    fn rolled_back(mut self, now: Timestamp) -> Option<Self> {
        let (_, routing) = self.history.pop()?;
        Some(Self {
            routing,
            since: now,
            ..self
        })
    }
}

impl Serving {
    /// Sets the routing of an endpoint, and creates the endpoint if the name is new.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown release, and [`Kind::Invalid`] when the releases
    /// have different outputs, read fields of one name and different types, or cannot be routed
    /// or logged.
    pub async fn set_endpoint(&self, name: &str, routing: Routing) -> Result<Endpoint> {
        wafer_catalog::is_name(name).map_err(Error::invalid)?;
        self.check_routing(name, &routing).await?;
        let now = self.context.machine_now();
        let set = |before: Option<Endpoint>| Ok(Endpoint::switched(before, routing.clone(), now));
        self.change(name, set).await
    }

    /// Restores the routing that an endpoint had before the present one.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] for an unknown endpoint, and [`Kind::Conflict`] when there is no
    /// earlier routing.
    pub async fn rollback(&self, name: &str) -> Result<Endpoint> {
        let present = self.endpoint(name).await?;
        if let Some((_, routing)) = present.history.last() {
            self.check_routing(name, routing).await?;
        }
        let now = self.context.machine_now();
        let back = |before: Option<Endpoint>| {
            let endpoint = before
                .ok_or_else(|| Error::new(Kind::NotFound, format!("endpoint `{name}` is gone")))?;
            endpoint.rolled_back(now).ok_or_else(|| {
                let message = format!(
                    "endpoint `{name}` has no earlier routing: there is nothing to go back to"
                );
                Error::new(Kind::Conflict, message)
            })
        };
        self.change(name, back).await
    }

    /// Changes an endpoint, and lets all processes know.
    async fn change(
        &self,
        name: &str,
        change: impl FnMut(Option<Endpoint>) -> Result<Endpoint>,
    ) -> Result<Endpoint> {
        let object = endpoint_object(name);
        let changed = self.context.change_object(&object, change).await?;
        self.count_change(name).await?;
        Ok(changed)
    }

    /// Lets all processes know that an endpoint was changed.
    async fn count_change(&self, name: &str) -> Result<()> {
        let counted = self.context.count_endpoint_change().await;
        counted.map_err(|e| not_counted(name, e))
    }

    /// Removes an endpoint. Its logs stay.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no endpoint of that name, and [`Kind::Conflict`]
    /// when it is changed at the same time.
    pub async fn remove_endpoint(&self, name: &str) -> Result<()> {
        // The version makes the deletion fail if another process changes the endpoint.
        let found = self
            .context
            .object::<Endpoint>(&endpoint_object(name))
            .await?;
        let Some((_, version)) = found else {
            return Err(self.unknown_endpoint(name).await?);
        };
        self.context
            .delete_object(&endpoint_object(name), version)
            .await?;
        self.count_change(name).await?;
        self.refresh_endpoints().await
    }

    /// Returns all endpoints by name.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn endpoints(&self) -> Result<BTreeMap<String, Endpoint>> {
        Ok(self
            .context
            .objects("endpoint")
            .await?
            .into_iter()
            .collect())
    }

    /// Returns an endpoint by its name.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when there is no endpoint of that name.
    pub async fn endpoint(&self, name: &str) -> Result<Endpoint> {
        if let Some((endpoint, _)) = self.context.object(&endpoint_object(name)).await? {
            return Ok(endpoint);
        }
        Err(self.unknown_endpoint(name).await?)
    }

    /// Returns the error for an endpoint that does not exist.
    async fn unknown_endpoint(&self, name: &str) -> Result<Error> {
        let endpoints = self.endpoints().await?;
        let hint = match nearest(name, endpoints.keys().map(String::as_str)) {
            Some(nearest) => format!("; did you mean `{nearest}`?"),
            None if endpoints.is_empty() => "; make one with `wafer endpoints set`".to_owned(),
            None => String::new(),
        };
        let message = format!("there is no endpoint `{name}`{hint}");
        Ok(Error::new(Kind::NotFound, message))
    }

    /// Returns a warning for each release of an endpoint that reads a group which is no longer
    /// written under `definitions`. Such an endpoint keeps answering, with features that grow
    /// old.
    ///
    /// # Errors
    /// Returns the errors of the metadata store.
    pub async fn outdated_endpoints(&self, definitions: &Definitions) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for (name, endpoint) in self.endpoints().await? {
            for release in endpoint.routing.releases() {
                let bound = self
                    .registry
                    .bound(&self.registry.release(release).await?)
                    .await?;
                if let Some(message) = left_behind(&bound.recipe, definitions) {
                    warnings.push(format!(
                        "release `{release}` of endpoint `{name}` {message}; train its model anew and route the \
                         endpoint to a release of that"
                    ));
                }
            }
        }
        Ok(warnings)
    }

    /// Stores the definition of a log table, which is needed to append rows to it, unless it is
    /// stored already. One that is damaged is written again: the name has a digest of the columns.
    pub(crate) async fn keep_log_table(&self, log: &LogTable) -> Result<()> {
        let table = log.definition();
        match self.tables.stored_definition(&table.name).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => self.tables.keep_table(table).await,
            Err(e) if e.kind() == Kind::Corrupt => self.tables.keep_table(table).await,
            Err(e) => Err(e),
        }
    }

    /// Checks that the functions of all releases exist, that their outputs are the same, and that
    /// they can be routed and logged. Stores the definitions of the tables that they are logged
    /// to.
    async fn check_routing(&self, endpoint: &str, routing: &Routing) -> Result<()> {
        let mut outputs: Option<(String, Vec<(String, DataType)>)> = None;
        let mut inputs: BTreeMap<String, (String, DataType)> = BTreeMap::new();
        for name in routing.releases() {
            let release = self.registry.release(name).await?;
            let bound = self.registry.bound(&release).await?;
            self.registry.check_code(&bound).await?;
            // A release that is older than the first deployment was not compiled for it.
            self.context.compile_for_known(bound.functions()).await?;
            if routing.log > 0 {
                let log = LogTable::new(endpoint, &bound.recipe, bound.outputs())?;
                self.keep_log_table(&log).await?;
            }
            let columns = |fields: &[Field]| -> Vec<(String, DataType)> {
                fields
                    .iter()
                    .map(|f| (f.name.clone(), f.data_type.clone()))
                    .collect()
            };
            let own = columns(bound.outputs());
            match &outputs {
                Some((first, wanted)) if *wanted != own => {
                    return Err(Error::invalid(format!(
                        "releases `{first}` and `{name}` answer differently: {} and {}; all releases of an endpoint \
                         must have the same outputs",
                        columns_text(wanted),
                        columns_text(&own)
                    )));
                }
                Some(_) => {}
                None => outputs = Some((name.clone(), own)),
            }
            for field in &bound.recipe.view.inputs {
                let seen = inputs.entry(field.name.clone());
                let (first, data_type) =
                    seen.or_insert_with(|| (name.clone(), field.data_type.clone()));
                if *data_type != field.data_type {
                    return Err(Error::invalid(format!(
                        "releases `{first}` and `{name}` read `{}` as {data_type} and as {}",
                        field.name, field.data_type
                    )));
                }
            }
            if let Some(key) = &routing.key
                && !bound
                    .recipe
                    .view
                    .inputs
                    .iter()
                    .any(|field| field.name == *key)
            {
                let known = bound.recipe.view.inputs.iter().map(|f| f.name.as_str());
                let hint = meant(key, known);
                return Err(Error::invalid(format!(
                    "release `{name}` reads no field `{key}` to route by{hint}"
                )));
            }
        }
        Ok(())
    }
}

fn columns_text(columns: &[(String, DataType)]) -> String {
    let texts = columns
        .iter()
        .map(|(name, data_type)| format!("{name} {data_type}"));
    texts.collect::<Vec<_>>().join(", ")
}

fn endpoint_object(name: &str) -> String {
    format!("endpoint/{name}")
}

/// Returns the error for an endpoint that was changed, while the change was not counted. To repeat
/// the command would change it once more: a rollback would go back twice.
fn not_counted(name: &str, cause: Error) -> Error {
    let message = format!(
        "endpoint `{name}` was changed, but processes that are running were not told: they find out \
         within {READ_PAUSE}. Do not repeat the command"
    );
    Error::caused(cause.kind(), message, cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(release: usize) -> Routing {
        Routing {
            routes: vec![(format!("r{release}"), crate::routing::WHOLE)],
            ..Routing::default()
        }
    }

    /// Switches an endpoint to the releases 1 to `count`, at the times 1 to `count`.
    fn switched(count: usize) -> Endpoint {
        let at = |time: usize| Timestamp::from_micros(time as i64);
        (1..=count)
            .fold(None, |before, n| {
                Some(Endpoint::switched(before, routing(n), at(n)))
            })
            .unwrap()
    }

    #[test]
    fn a_switch_keeps_the_last_earlier_routings_with_their_starts() {
        for (count, oldest) in [(1, None), (2, Some(1)), (21, Some(1)), (25, Some(5))] {
            let endpoint = switched(count);
            assert_eq!(endpoint.routing, routing(count));
            assert_eq!(endpoint.history.len(), (count - 1).min(HISTORY), "{count}");
            let first = endpoint.history.first().cloned();
            let wanted = oldest.map(|n| (Timestamp::from_micros(n as i64), routing(n)));
            assert_eq!(first, wanted, "{count}");
        }
    }

    #[test]
    fn change_that_was_not_counted_is_not_to_be_repeated() {
        let busy = Error::new(Kind::Unavailable, "the table is busy");
        let error = not_counted("late", busy);
        assert_eq!(error.kind(), Kind::Unavailable);
        let wanted = "endpoint `late` was changed, but processes that are running were not told: \
                      they find out within 10m. Do not repeat the command";
        assert_eq!(error.to_string(), wanted);
        assert!(error.chain().contains("the table is busy"));
    }

    #[test]
    fn rollbacks_go_back_routing_by_routing_until_there_is_none() {
        let now = Timestamp::from_micros(100);
        let once = switched(3).rolled_back(now).unwrap();
        assert_eq!((once.routing.clone(), once.since), (routing(2), now));
        let twice = once.rolled_back(now).unwrap();
        assert_eq!(twice.routing, routing(1));
        assert_eq!(twice.rolled_back(now), None);
    }
}
