//! Endpoints: stable names that route requests to releases by weight.
//!
//! What an endpoint routes to is one object, which is replaced at once; every request takes
//! what there is when it comes in, and keeps to it to its end. So no request sees the
//! features of one release and the model of another.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher as _;
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;
use wafer_core::{DataType, Field, Timestamp};
use wafer_runtime::Function;

use crate::definition::{Definitions, TableDef};
use crate::error::{Error, Kind, Result};
use crate::features::Serving;
use crate::log::LogTable;
use crate::platform::Platform;
use crate::project::{meant, nearest};
use crate::releases::{Release, left_behind};

/// All of the requests, in the unit of weights: hundredths of a percent.
pub const WHOLE: u32 = 10_000;
/// Routings that an endpoint remembers, to go back to.
const HISTORY: usize = 20;

/// Where an endpoint's requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// Releases and their weights, hundredths of a percent, which add up to all.
    pub routes: Vec<(String, u32)>,
    /// Releases that are asked as well, and whose answers are only logged.
    pub shadow: Vec<String>,
    /// Field of the request by which a row is routed: the same value goes to the same release
    /// as long as weights stay. Absent: each request by itself.
    pub key: Option<String>,
    /// How much is logged, hundredths of a percent.
    pub log: u32,
}

/// A stable name that requests are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where its requests go.
    pub routing: Routing,
    /// Since when, machine time.
    pub since: Timestamp,
    /// Where they went before, oldest first.
    pub history: Vec<(Timestamp, Routing)>,
}

impl Routing {
    /// From texts such as `r1=90 r2=10`; a release alone gets everything.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(
        routes: &[String],
        shadow: Vec<String>,
        key: Option<String>,
        log: u32,
    ) -> Result<Self, String> {
        let route = |text: &String| match text.split_once('=') {
            None if routes.len() == 1 => Ok((text.clone(), WHOLE)),
            None => Err(format!("`{text}` has no weight; write {text}=50")),
            Some((release, percent)) => Ok((release.to_owned(), parse_percent(percent)?)),
        };
        let routing = Self {
            routes: routes.iter().map(route).collect::<Result<_, _>>()?,
            shadow,
            key,
            log,
        };
        let sum: u64 = routing
            .routes
            .iter()
            .map(|(_, weight)| u64::from(*weight))
            .sum();
        if sum != u64::from(WHOLE) {
            let percent = sum as f64 / 100.0;
            return Err(format!("the weights add up to {percent}, not to 100"));
        }
        let mut seen = BTreeSet::new();
        for release in routing.releases() {
            if !seen.insert(release) {
                return Err(format!("release `{release}` is there twice"));
            }
        }
        if log == 0 && !routing.shadow.is_empty() {
            return Err(
                "shadows are asked for what is logged, and nothing is; say how much with --log"
                    .to_owned(),
            );
        }
        Ok(routing)
    }

    /// All releases, shadows last.
    pub(crate) fn releases(&self) -> impl Iterator<Item = &String> {
        self.routes
            .iter()
            .map(|(release, _)| release)
            .chain(&self.shadow)
    }

    /// The release of a point from 0 to [`WHOLE`].
    fn at(&self, point: u32) -> &str {
        let mut end = 0;
        for (release, weight) in &self.routes {
            end += weight;
            if point < end {
                return release;
            }
        }
        // Weights add up to all: the last one with any is found above.
        self.routes.last().map_or("", |(release, _)| release)
    }
}

/// Hundredths of a percent, from a text such as `12.5`.
///
/// # Errors
/// What is wrong with it.
pub fn parse_percent(text: &str) -> Result<u32, String> {
    let wrong = || {
        format!(
            "`{text}` is not a percentage; write a number from 0 to 100, with at most two decimals"
        )
    };
    let hundredths = text.parse::<f64>().map_err(|_| wrong())? * 100.0;
    let rounded = hundredths.round();
    if !(0.0..=f64::from(WHOLE)).contains(&rounded) || (hundredths - rounded).abs() > 1e-6 {
        return Err(wrong());
    }
    Ok(rounded as u32)
}

/// Where something falls, from 0 to [`WHOLE`]: the same on every machine and for ever.
pub(crate) fn point(what: &str, endpoint: &str, value: &[u8]) -> u32 {
    let mut hasher = XxHash64::with_seed(0);
    for part in [what.as_bytes(), endpoint.as_bytes(), value] {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    (hasher.finish() % u64::from(WHOLE)) as u32
}

/// A release, ready to answer.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The endpoint.
    pub(crate) endpoint: String,
    pub(crate) release: Release,
    pub(crate) serving: Serving,
    pub(crate) model: Function,
    /// Where its answers are logged.
    pub(crate) log: LogTable,
}

/// An endpoint, ready to answer: what a request takes once and keeps to.
#[derive(Debug)]
pub struct EndpointServing {
    pub(crate) name: String,
    pub(crate) routing: Routing,
    releases: BTreeMap<String, Arc<Ready>>,
    sampled_by: Vec<String>,
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
            Some(release) => self.release(release)?.serving.view().inputs.clone(),
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
    pub(crate) fn at(&self, point: u32) -> &Arc<Ready> {
        &self.releases[self.routing.at(point)]
    }

    /// A release by its name.
    pub(crate) fn release(&self, name: &str) -> Result<&Arc<Ready>> {
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
    pub(crate) fn shadows(&self) -> Vec<Arc<Ready>> {
        let names = self.routing.shadow.iter();
        names.map(|name| Arc::clone(&self.releases[name])).collect()
    }

    /// What any of the releases reads from a request.
    fn inputs(&self) -> Vec<Field> {
        let mut fields: Vec<Field> = Vec::new();
        for ready in self.releases.values() {
            for field in &ready.serving.view().inputs {
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
    pub(crate) fn any(&self) -> &Ready {
        let mut releases = self.releases.values();
        releases.next().expect("an endpoint has a release")
    }
}

/// Endpoints that could not be made ready: they are tried again, but not all the time.
#[derive(Debug, Default)]
pub(crate) struct Unready(BTreeMap<String, Failed>);

#[derive(Debug)]
struct Failed {
    routing: Routing,
    message: String,
    /// When it is tried again, machine time.
    next: Timestamp,
}

/// How long an endpoint that could not be made ready is left alone, in microseconds.
const PAUSE: i64 = 10_000_000;

impl Platform {
    /// Has an endpoint route its requests somewhere, at once; a new name makes an endpoint.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a release that there is not, [`Kind::Invalid`] when releases
    /// answer differently, or read fields of one name and different types.
    pub async fn set_endpoint(&self, name: &str, routing: Routing) -> Result<Endpoint> {
        crate::project::is_name(name).map_err(Error::invalid)?;
        self.check_routing(name, &routing).await?;
        let now = self.components().wall.now();
        let set = |before: Option<Endpoint>| {
            let mut history = Vec::new();
            if let Some(before) = before {
                history = before.history;
                history.push((before.since, before.routing));
                let surplus = history.len().saturating_sub(HISTORY);
                history.drain(..surplus);
            }
            Ok(Endpoint {
                routing: routing.clone(),
                since: now,
                history,
            })
        };
        self.change_object(&endpoint_object(name), set).await
    }

    /// Has an endpoint route its requests where they went before.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an endpoint that there is not, [`Kind::Conflict`] when there is
    /// nothing to go back to.
    pub async fn rollback(&self, name: &str) -> Result<Endpoint> {
        let present = self.endpoint(name).await?;
        if let Some((_, routing)) = present.history.last() {
            self.check_routing(name, routing).await?;
        }
        let now = self.components().wall.now();
        let back = |before: Option<Endpoint>| {
            let mut endpoint = before
                .ok_or_else(|| Error::new(Kind::NotFound, format!("endpoint `{name}` is gone")))?;
            let (_, routing) = endpoint.history.pop().ok_or_else(|| {
                let message = format!(
                    "endpoint `{name}` never went elsewhere: there is nothing to go back to"
                );
                Error::new(Kind::Conflict, message)
            })?;
            endpoint.routing = routing;
            endpoint.since = now;
            Ok(endpoint)
        };
        self.change_object(&endpoint_object(name), back).await
    }

    /// Takes an endpoint away; what it logged stays.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none of that name.
    pub async fn remove_endpoint(&self, name: &str) -> Result<()> {
        // Not what somebody else made of it meanwhile.
        let found = self.object::<Endpoint>(&endpoint_object(name)).await?;
        let Some((_, version)) = found else {
            return Err(self.no_endpoint(name).await?);
        };
        self.delete_object(&endpoint_object(name), version).await?;
        self.refresh_endpoints().await
    }

    /// All endpoints by name.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn endpoints(&self) -> Result<BTreeMap<String, Endpoint>> {
        Ok(self.objects("endpoint").await?.into_iter().collect())
    }

    /// An endpoint.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none of that name.
    pub async fn endpoint(&self, name: &str) -> Result<Endpoint> {
        if let Some((endpoint, _)) = self.object(&endpoint_object(name)).await? {
            return Ok(endpoint);
        }
        Err(self.no_endpoint(name).await?)
    }

    async fn no_endpoint(&self, name: &str) -> Result<Error> {
        let endpoints = self.endpoints().await?;
        let hint = match nearest(name, endpoints.keys().map(String::as_str)) {
            Some(nearest) => format!("; did you mean `{nearest}`?"),
            None if endpoints.is_empty() => "; make one with `wafer endpoints set`".to_owned(),
            None => String::new(),
        };
        let message = format!("there is no endpoint `{name}`{hint}");
        Ok(Error::new(Kind::NotFound, message))
    }

    /// What is to be said of endpoints whose releases read groups that are written no
    /// longer once these definitions are live: they go on, with features that grow old.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn outdated_endpoints(&self, definitions: &Definitions) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for (name, endpoint) in self.endpoints().await? {
            for release in endpoint.routing.releases() {
                let bound = self.bound(&self.release(release).await?).await?;
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

    /// Keeps what a log holds, for who appends to it.
    async fn keep_log_table(&self, log: &LogTable) -> Result<()> {
        let table = log.definition();
        let known: Option<(TableDef, u64)> = self.object(&format!("table/{}", table.name)).await?;
        match known {
            Some(_) => Ok(()),
            None => self.keep_table(table).await,
        }
    }

    /// Checks that all releases are whole, answer alike, can be routed and logged; keeps the
    /// tables that they are logged to.
    async fn check_routing(&self, endpoint: &str, routing: &Routing) -> Result<()> {
        let mut outputs: Option<(String, Vec<(String, DataType)>)> = None;
        let mut inputs: BTreeMap<String, (String, DataType)> = BTreeMap::new();
        for name in routing.releases() {
            let release = self.release(name).await?;
            let bound = self.bound(&release).await?;
            self.check_code(&bound).await?;
            // It may be older than the first deployment.
            self.compile_for_known(bound.functions()).await?;
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
                        "releases `{first}` and `{name}` answer differently: {} and {}; an endpoint answers alike \
                         whoever it is asked by",
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

    /// Looks which endpoints there are, and makes ready those that changed. One that cannot
    /// be made ready goes on as it was, and is tried again after a while.
    ///
    /// # Errors
    /// Those of the metadata store.
    pub async fn refresh_endpoints(&self) -> Result<()> {
        // One after the other: what was read first must not replace what was read later.
        let mut unready = self.unready_endpoints().lock().await;
        let prefix = format!("{}/endpoint/", self.project());
        let stored = self.components().metadata.list(&prefix).await?;
        let before = self.ready_endpoints();
        let mut after = BTreeMap::new();
        let mut failed = BTreeMap::new();
        for (object, stored) in stored {
            let name = &object[prefix.len()..];
            let known = before.get(name);
            let routing = match crate::objects::read::<Endpoint>(&object, &stored.value) {
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
        let now = self.components().wall.now();
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

    async fn ready_release(&self, endpoint: &str, name: &str, is_logged: bool) -> Result<Ready> {
        let release = self.release(name).await?;
        let bound = self.bound(&release).await?;
        let load = |name: &str, function: &_| self.load_function(name, function);
        let log = LogTable::new(endpoint, &bound.recipe, bound.outputs())?;
        if is_logged {
            // Another version of this program may have called it differently.
            self.keep_log_table(&log).await?;
        }
        Ok(Ready {
            model: load(&bound.model.function_name, &bound.model.function)?,
            log,
            endpoint: endpoint.to_owned(),
            serving: Serving::new(bound.recipe, load)?,
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
        let unready = self.unready_endpoints().lock().await;
        let reason = unready.0.get(name).map(|failed| failed.message.as_str());
        let reason = reason.unwrap_or("it was taken away a moment ago");
        let message = format!("endpoint `{name}` is not ready: {reason}");
        Err(Error::new(Kind::Unavailable, message))
    }

    fn ready_endpoints(&self) -> Arc<BTreeMap<String, Arc<EndpointServing>>> {
        let ready = self.serving_endpoints().read();
        Arc::clone(&ready.unwrap_or_else(PoisonError::into_inner))
    }

    fn replace_endpoints(&self, endpoints: BTreeMap<String, Arc<EndpointServing>>) {
        let mut ready = self
            .serving_endpoints()
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *ready = Arc::new(endpoints);
    }
}

/// The names that are in all lists, sorted.
fn common_keys<'a>(mut lists: impl Iterator<Item = &'a [String]>) -> Vec<String> {
    let mut common = lists.next().unwrap_or_default().to_vec();
    for list in lists {
        common.retain(|key| list.contains(key));
    }
    common.sort();
    common
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(routes: &[&str], shadow: &[&str]) -> Result<Routing, String> {
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        Routing::parse(&owned(routes), owned(shadow), None, WHOLE)
    }

    #[test]
    fn routings_are_read_and_checked() {
        assert_eq!(
            parse(&["r1"], &[]).unwrap().routes,
            [("r1".to_owned(), WHOLE)]
        );
        let routing = parse(&["r1=66.67", "r2=33.33"], &["r3"]).unwrap();
        assert_eq!(
            routing.routes,
            [("r1".to_owned(), 6_667), ("r2".to_owned(), 3_333)]
        );
        for (routes, shadow, wanted) in [
            (&["r1=90"][..], &[][..], "add up to 90, not to 100"),
            (&["r1=90", "r2=20"], &[], "add up to 110"),
            (&["r1", "r2=20"], &[], "`r1` has no weight"),
            (&["r1=x"], &[], "`x` is not a percentage"),
            (&["r1=33.333", "r2=66.667"], &[], "at most two decimals"),
            (&["r1=-10", "r2=110"], &[], "`-10` is not a percentage"),
            (&["r1=50", "r1=50"], &[], "`r1` is there twice"),
            (&["r1"], &["r1"], "`r1` is there twice"),
        ] {
            let message = parse(routes, shadow).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn points_fall_to_releases_by_weight_and_for_ever() {
        let routing = parse(&["r0=0", "r1=90", "r2=10"], &[]).unwrap();
        let release = |key: u32| routing.at(point("route", "late", &key.to_le_bytes()));
        let of_r2 = (0..20_000).filter(|key| release(*key) == "r2").count();
        assert!((1_800..2_200).contains(&of_r2), "{of_r2}");
        assert!((0..20_000).all(|key| release(key) != "r0"));
        // Whoever was at r2 stays there when it gets more.
        let more = parse(&["r0=0", "r1=50", "r2=50"], &[]).unwrap();
        let stays = |key: u32| more.at(point("route", "late", &key.to_le_bytes())) == "r2";
        assert!((0..20_000).filter(|key| release(*key) == "r2").all(stays));
        // Written down: a new version must not move anybody.
        let points = ["route", "log"].map(|what| point(what, "late", b"a"));
        assert_eq!(points, [649, 5_052]);
    }
}
