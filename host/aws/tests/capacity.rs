//! What many environments of Lambda read of the table: when they start, and while they look for
//! changes. Time is simulated, and nothing sleeps.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use async_trait::async_trait;
use futures::StreamExt as _;
use url::Url;
use wafer_aws::{Account, Aws, Files};
use wafer_core::{Clock, Duration, SettableClock, Timestamp, entity_key};
use wafer_platform::{Background, Components, Definitions, GoLive, Moment, Platform, ViewDef};
use wafer_runtime::{Compiler, Guests, Runtime, RuntimeConfig};
use wafer_store::{Backend, Backends, OnlineKey, Result, StoreLocation, Stores};

use crate::local::{account, client, folder, has, table, unique};
use crate::meter::{Cost, Meter, Units};

const ENVIRONMENTS: usize = 200;
const DEFINITIONS: usize = 10_000;
/// How many environments do something at the same time, on this machine. By the simulated time, all
/// of them do.
const AT_ONCE: usize = 16;

/// The backend of the program for Lambda, whose services are at an endpoint.
#[derive(Debug)]
struct AwsAt {
    aws: Aws,
    account: Account,
}

#[async_trait]
impl Backend for AwsAt {
    fn online_form(&self) -> &'static str {
        self.aws.online_form()
    }

    fn objects_form(&self) -> &'static str {
        self.aws.objects_form()
    }

    async fn open(&self, location: &StoreLocation) -> Result<Stores> {
        self.aws.open_as(&self.account, location).await
    }
}

/// A project on AWS, whose calls are metered.
struct Project {
    account: Account,
    online: Url,
    objects: Url,
    clock: Arc<SettableClock>,
    runtime: Runtime,
    guests: Guests,
    /// The folders for copies of all environments.
    copies: tempfile::TempDir,
}

/// An environment of Lambda.
struct Environment {
    platform: Arc<Platform>,
    background: Background,
}

impl Project {
    /// Opens the project as the program for Lambda does when an environment starts.
    async fn open(&self, name: &str) -> Environment {
        let clock: Arc<dyn Clock> = Arc::<SettableClock>::clone(&self.clock);
        let backend = AwsAt {
            aws: Aws {
                machine_clock: Arc::clone(&clock),
                seed: unique(),
                shipped: None,
            },
            account: self.account.clone(),
        };
        let location = StoreLocation {
            project: "test".to_owned(),
            online: self.online.clone(),
            objects: self.objects.clone(),
            local: self.copies.path().join(name),
            map_size: 0,
        };
        let stores = Backends::default().with(backend).open(&location).await;
        let components = Components {
            stores: stores.unwrap(),
            remote: Arc::new(Files::default()),
            runtime: self.runtime.clone(),
            guests: self.guests.clone(),
            event_guests: self.guests.clone(),
            clock: Arc::clone(&clock),
            machine_clock: clock,
            holder: format!("lambda-{name}/1"),
        };
        let platform = Arc::new(Platform::open("test", components).await.unwrap());
        platform.context().check_clock().await.unwrap();
        Environment {
            background: Background::new(Arc::clone(&platform)),
            platform,
        }
    }
}

impl Environment {
    /// Handles a request for an entity's features as the program for Lambda does.
    async fn request(&self) {
        for moment in [Moment::BeforeInvocation, Moment::BeforeRequest] {
            self.background.run_at(moment).await.unwrap();
        }
        let column: ArrayRef = Arc::new(StringArray::from(vec!["an entity"]));
        let key = OnlineKey {
            group: "group_v1".to_owned(),
            entity: entity_key(&[column], 0).unwrap(),
        };
        let context = self.platform.context();
        let online = &context.components().stores.online;
        let found = online.get_many(&[key], context.now()).await.unwrap();
        assert!(found[0].is_none());
    }

    async fn apply(&self, definitions: Definitions) {
        let applied = self.platform.apply(definitions, GoLive::AtOnce, &());
        assert_eq!(applied.await.unwrap().changes.len(), DEFINITIONS);
    }

    fn has(&self, definitions: &Definitions) -> bool {
        *self.platform.context().definitions() == *definitions
    }
}

/// Returns as many definitions as a large project has. They are the same only if `doc` is.
fn definitions(doc: &str) -> Definitions {
    let view = |number| {
        let view = ViewDef {
            inputs: Vec::new(),
            lookups: Vec::new(),
            functions: Vec::new(),
            doc: doc.to_owned(),
        };
        (format!("view_{number:05}"), view)
    };
    Definitions {
        views: (0..DEFINITIONS).map(view).collect(),
        ..Definitions::default()
    }
}

/// Awaits futures, some of them at the same time.
async fn all<T>(work: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let some = futures::stream::iter(work).buffered(AT_ONCE);
    some.collect().await
}

/// Returns the number of calls with a partition key, and their units.
fn of_key(costs: &BTreeMap<(String, String), Cost>, key: &str) -> Cost {
    let mut all = Cost::default();
    for ((of, _), cost) in costs {
        if of == key {
            all.add(cost.calls, cost.units);
        }
    }
    all
}

fn print(what: &str, costs: &BTreeMap<(String, String), Cost>) {
    for ((key, action), Cost { calls, units }) in costs {
        let (reads, writes) = (units.reads, units.writes);
        println!("{what}: key {key}, {action}: {calls} calls, {reads} read, {writes} write units");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environments_start_and_look_for_changes_within_the_capacity_of_a_new_table() {
    let endpoints = ["AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_S3"];
    if !endpoints.iter().all(|endpoint| has(endpoint)) {
        return;
    }
    let [dynamo, s3] = endpoints.map(|endpoint| std::env::var(endpoint).unwrap());
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = Arc::new(SettableClock::stopped_at(start));
    let meter = Meter::start(&dynamo, &s3, Arc::<SettableClock>::clone(&clock));
    let config = RuntimeConfig {
        instances: 1,
        compiler: Compiler::Absent,
        code_cache: None,
    };
    let project = Project {
        account: account().await.with_endpoint(&meter.url),
        online: Url::parse(&format!("dynamodb://{}", table(&client(&dynamo)).await)).unwrap(),
        objects: folder(),
        clock,
        runtime: Runtime::new(config).unwrap(),
        guests: Guests::new(1, 1),
        copies: tempfile::tempdir().unwrap(),
    };
    let (first, second) = (definitions("first"), definitions("second"));
    let operator = project.open("operator").await;
    operator.apply(first.clone()).await;
    let applied = meter.costs();
    print("the first apply", &applied);
    let Units { writes, .. } = of_key(&applied, "m").units;
    assert!(writes <= 20.0, "{writes}");

    // All environments start a minute later, so that the clock is stored again.
    let at = |second| start.plus(Duration::from_secs(second));
    project.clock.set(at(60));
    let names = (0..ENVIRONMENTS).map(|number| number.to_string());
    let environments = names.map(|name| {
        let project = &project;
        async move {
            let environment = project.open(&name).await;
            environment.request().await;
            environment
        }
    });
    let environments = all(environments).await;
    assert!(environments.iter().all(|one| one.has(&first)));
    let started = meter.costs();
    print("starts", &started);
    let each = |units: f64| units / ENVIRONMENTS as f64;
    let units: f64 = started.values().map(|cost| cost.units.reads).sum();
    println!("a start: {} read units", each(units));
    assert!(each(units) <= 10.0, "{units}");
    let Units { writes, .. } = of_key(&started, "m").units;
    assert!(each(writes) <= 1.0, "{writes}");

    // Then each has a request a second, and the project is deployed in the middle of a minute.
    for second_of_minute in 1..=60 {
        project.clock.set(at(60 + second_of_minute));
        if second_of_minute == 30 {
            operator.apply(second.clone()).await;
        }
        all(environments.iter().map(Environment::request)).await;
    }
    assert!(environments.iter().all(|one| one.has(&second)));
    let polled = meter.costs();
    print("a minute", &polled);
    // One look a second at the pointer, and one read of it after it was moved. Endpoints are listed
    // once, with the first look. The rest is of the deployment itself.
    let Cost { calls, units } = of_key(&polled, "m");
    let most = 62 * ENVIRONMENTS as u64 + 20;
    assert!(calls <= most, "{calls}");
    assert!(units.reads <= most as f64, "{units:?}");
    // The layout is read once a second, with an entity.
    let Cost { calls, .. } = of_key(&polled, "l");
    assert!(calls <= 60 * ENVIRONMENTS as u64, "{calls}");
    let empty = meter.empty();
    assert!(empty.is_empty(), "{empty:#?}");
}
