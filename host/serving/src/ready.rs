//! Endpoints that are ready to answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use wafer_catalog::Release;
use wafer_core::{Field, Timestamp};
use wafer_runtime::Function;
use wafer_store::{Error, Kind, Result};

use crate::request_log::table::LogTable;
use crate::routing::Routing;
use crate::served_view::ServedView;

/// A release, ready to answer.
#[derive(Debug)]
pub(crate) struct ReadyRelease {
    /// The endpoint.
    pub(crate) endpoint: String,
    pub(crate) release: Release,
    pub(crate) view: ServedView,
    pub(crate) model: Function,
    /// Where its answers are logged.
    pub(crate) log: LogTable,
}

/// An endpoint, ready to answer: what a request takes once and keeps to.
#[derive(Debug)]
pub struct EndpointServing {
    pub(crate) name: String,
    pub(crate) routing: Routing,
    pub(crate) releases: BTreeMap<String, Arc<ReadyRelease>>,
    pub(crate) sampled_by: Vec<String>,
}

/// What clients are told of an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointInfo {
    /// Its releases.
    pub releases: Vec<String>,
    /// What requests may have.
    pub inputs: Vec<Field>,
    /// What is answered.
    pub outputs: Vec<Field>,
}

impl EndpointServing {
    /// What it takes and gives; of one release when that is named.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a release that it has not.
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

    /// The field that rows are routed by. A release may refuse a null in it, and another
    /// take it.
    pub(crate) fn routing_key(&self) -> Option<Field> {
        let key = self.routing.key.as_ref()?;
        let field = self.inputs().into_iter().find(|field| field.name == *key)?;
        Some(Field {
            nullable: true,
            ..field
        })
    }

    /// The fields that rows are sampled by.
    pub(crate) fn sampled_by(&self) -> &[String] {
        &self.sampled_by
    }

    /// The release that a point from 0 to [`WHOLE`] falls to.
    pub(crate) fn at(&self, point: u32) -> &Arc<ReadyRelease> {
        &self.releases[self.routing.at(point)]
    }

    /// A release by its name.
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

    /// The releases that are asked as well, to be logged.
    pub(crate) fn shadows(&self) -> Vec<Arc<ReadyRelease>> {
        let names = self.routing.shadow.iter();
        names.map(|name| Arc::clone(&self.releases[name])).collect()
    }

    /// What any of the releases reads from a request.
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

    /// What all of them answer.
    pub(crate) fn outputs(&self) -> &[Field] {
        self.any().model.signature().outputs.fields()
    }

    /// One of the releases.
    pub(crate) fn any(&self) -> &ReadyRelease {
        let mut releases = self.releases.values();
        releases.next().expect("an endpoint has a release")
    }
}

/// Endpoints that could not be made ready: they are tried again, but not all the time.
#[derive(Debug, Default)]
pub(crate) struct FailedEndpoints(pub(crate) BTreeMap<String, Failed>);

/// An endpoint that could not be made ready.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) routing: Routing,
    pub(crate) message: String,
    /// When it is tried again, machine time.
    pub(crate) next: Timestamp,
}

/// How long an endpoint that could not be made ready is left alone, in microseconds.
pub(crate) const PAUSE: i64 = 10_000_000;

/// The names that are in all lists, sorted.
pub(crate) fn common_keys<'a>(mut lists: impl Iterator<Item = &'a [String]>) -> Vec<String> {
    let mut common = lists.next().unwrap_or_default().to_vec();
    for list in lists {
        common.retain(|key| list.contains(key));
    }
    common.sort();
    common
}
