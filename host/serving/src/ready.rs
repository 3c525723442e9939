//! Endpoints and releases that are ready to answer: their views are resolved and their functions
//! are loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use wafer_catalog::Release;
use wafer_core::{Duration, Field, Timestamp};
use wafer_runtime::Function;
use wafer_store::{Error, Kind, Result};

use crate::request_log::table::LogTable;
use crate::routing::Routing;
use crate::served_view::ServedView;

/// A release that is ready to answer.
#[derive(Debug)]
pub(crate) struct ReadyRelease {
    /// Name of the endpoint that routes to the release.
    pub(crate) endpoint: String,
    pub(crate) release: Release,
    pub(crate) view: ServedView,
    pub(crate) model: Function,
    /// The table that the release's answers are logged to.
    pub(crate) log: LogTable,
}

/// An endpoint that is ready to answer, with all releases that it routes to.
///
/// It never changes. A request uses the same one from its start to its end, so a switch of the
/// endpoint cannot mix the features of one release with the model of another.
#[derive(Debug)]
pub struct EndpointServing {
    pub(crate) name: String,
    pub(crate) routing: Routing,
    /// The releases by name, shadows included.
    pub(crate) releases: BTreeMap<String, Arc<ReadyRelease>>,
    /// Names of the fields whose values decide which rows are logged.
    pub(crate) sampled_by: Vec<String>,
}

/// The description of an endpoint that clients get.
#[derive(Clone, Debug)]
pub struct EndpointInfo {
    /// Names of the endpoint's releases, shadows included.
    pub releases: Vec<String>,
    /// The fields that a request may have.
    pub inputs: Vec<Field>,
    /// The outputs of the model.
    pub outputs: Vec<Field>,
}

impl EndpointServing {
    /// Describes the endpoint. If `release` is named, the inputs are those of that release, and
    /// otherwise those of all releases together.
    ///
    /// # Errors
    /// Returns [`Kind::NotFound`] when the endpoint does not route to `release`.
    pub fn info(&self, release: Option<&str>) -> Result<EndpointInfo> {
        let inputs = match release {
            Some(release) => self.release(release)?.view.definition().inputs.clone(),
            None => self.inputs(),
        };
        Ok(EndpointInfo {
            releases: self.releases.keys().cloned().collect(),
            inputs,
            outputs: self.outputs().to_vec(),
        })
    }

    /// Returns the field that rows are routed by, if there is one.
    ///
    /// It is nullable, because the release that a null is routed to decides whether it accepts
    /// it.
    pub(crate) fn routing_key(&self) -> Option<Field> {
        let key = self.routing.key.as_ref()?;
        let field = self.inputs().into_iter().find(|field| field.name == *key)?;
        Some(Field {
            nullable: true,
            ..field
        })
    }

    /// Returns the names of the fields whose values decide which rows are logged.
    pub(crate) fn sampled_by(&self) -> &[String] {
        &self.sampled_by
    }

    /// Returns the release that answers at a point from 0, included, to
    /// [`WHOLE`](crate::routing::WHOLE), excluded.
    pub(crate) fn release_at(&self, point: u32) -> &Arc<ReadyRelease> {
        &self.releases[self.routing.release_at(point)]
    }

    /// Returns a release by its name.
    pub(crate) fn release(&self, name: &str) -> Result<&Arc<ReadyRelease>> {
        self.releases.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.releases.keys().map(String::as_str).collect();
            let message = format!(
                "endpoint `{}` has no version `{name}`; it has {}",
                self.name,
                known.join(", ")
            );
            Error::new(Kind::NotFound, message)
        })
    }

    /// Returns the shadow releases.
    pub(crate) fn shadows(&self) -> Vec<Arc<ReadyRelease>> {
        let names = self.routing.shadow.iter();
        names.map(|name| Arc::clone(&self.releases[name])).collect()
    }

    /// Returns the inputs of all releases together. A field is nullable if it is in all of them
    /// that have it.
    pub(crate) fn inputs(&self) -> Vec<Field> {
        let mut fields: Vec<Field> = Vec::new();
        for ready in self.releases.values() {
            for field in &ready.view.definition().inputs {
                match fields.iter_mut().find(|f| f.name == field.name) {
                    Some(known) => known.nullable &= field.nullable,
                    None => fields.push(field.clone()),
                }
            }
        }
        fields
    }

    /// Returns the outputs of the model, which are the same for all releases.
    pub(crate) fn outputs(&self) -> &[Field] {
        self.any_release().model.signature().outputs.fields()
    }

    /// Returns one of the releases.
    pub(crate) fn any_release(&self) -> &ReadyRelease {
        let mut releases = self.releases.values();
        releases.next().expect("an endpoint has a release")
    }
}

/// What the last refresh of the endpoints found.
#[derive(Debug, Default)]
pub(crate) struct LastRefresh {
    /// The number of changes of endpoints that was known before they were read. `None` if they were
    /// not read yet.
    pub(crate) changes: Option<u64>,
    /// The time at which endpoints are read again although no change was counted, by the machine's
    /// clock.
    pub(crate) next: Timestamp,
    /// The endpoints that could not be made ready, by name.
    pub(crate) failed: BTreeMap<String, FailedEndpoint>,
}

impl LastRefresh {
    /// Returns whether endpoints must be read again: if some were changed since, if some may have
    /// been without being counted, or if one that could not be made ready is to be tried again.
    pub(crate) fn is_outdated(&self, changes: u64, now: Timestamp) -> bool {
        let is_due = self.next <= now || self.failed.values().any(|failed| failed.next <= now);
        self.changes != Some(changes) || is_due
    }
}

/// An endpoint that could not be made ready.
#[derive(Debug)]
pub(crate) struct FailedEndpoint {
    /// The routing that was tried.
    pub(crate) routing: Routing,
    /// The reason for the failure.
    pub(crate) message: String,
    /// The time of the next attempt, by the machine's clock.
    pub(crate) next: Timestamp,
}

/// The time until an endpoint that could not be made ready is tried again.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The time until endpoints are read again although no change was counted. Whoever changes one may
/// end before it has counted that.
pub(crate) const READ_PAUSE: Duration = Duration::from_mins(10);

/// Returns the names that are in all lists, sorted.
pub(crate) fn common_keys<'a>(mut lists: impl Iterator<Item = &'a [String]>) -> Vec<String> {
    let mut common = lists.next().unwrap_or_default().to_vec();
    for list in lists {
        common.retain(|key| list.contains(key));
    }
    common.sort();
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_again_when_they_change_after_a_while_and_while_one_fails() {
        let at = Timestamp::from_micros;
        let mut last = LastRefresh::default();
        assert!(last.is_outdated(0, at(-1)));
        last.changes = Some(3);
        last.next = at(20);
        assert!(!last.is_outdated(3, at(19)));
        assert!(last.is_outdated(4, at(19)));
        assert!(last.is_outdated(3, at(20)));
        let failed = FailedEndpoint {
            routing: Routing::default(),
            message: String::new(),
            next: at(10),
        };
        last.failed.insert("line".to_owned(), failed);
        assert!(!last.is_outdated(3, at(9)));
        assert!(last.is_outdated(3, at(10)));
    }

    #[test]
    fn rows_are_sampled_by_the_keys_that_all_releases_have() {
        for (lists, wanted) in [
            (&[][..], &[][..]),
            (&[&["b", "a"][..]], &["a", "b"]),
            (&[&["a", "b"], &["b", "c"]], &["b"]),
            (&[&["b", "a"], &["a", "c", "b"]], &["a", "b"]),
            (&[&["a"], &["b"]], &[]),
            (&[&["a"], &[]], &[]),
        ] {
            let owned = |keys: &&[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
            let lists: Vec<Vec<String>> = lists.iter().map(owned).collect();
            let common = common_keys(lists.iter().map(Vec::as_slice));
            assert_eq!(common, wanted, "{lists:?}");
        }
    }
}
