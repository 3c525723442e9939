//! A meter in front of the local servers. It takes what each call to DynamoDB costs from token
//! buckets on simulated time: one for each partition key, and one for the table. Nothing is
//! throttled; the meter notes which buckets would have been empty.
//!
//! Costs are what the server says. The limits are those of one partition
//! (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html>)
//! and of a new table on demand
//! (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html#on-demand-capacity-mode-initial>).
//! AWS lets bursts of unused capacity through as well, but does not promise it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value as Json;
use url::Url;
use wafer_core::{Clock, Timestamp};

use crate::proxy::{Call, forward, read, request};

/// Units of reads and of writes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Units {
    pub(crate) reads: f64,
    pub(crate) writes: f64,
}

/// What one partition, and so one partition key, has in a second.
const OF_KEY: Units = Units {
    reads: 3_000.0,
    writes: 1_000.0,
};
/// What a new table has in a second.
const OF_TABLE: Units = Units {
    reads: 12_000.0,
    writes: 4_000.0,
};

/// A bucket that holds what there is for a second, and is full at first.
#[derive(Debug)]
struct Bucket {
    most: Units,
    left: Units,
    filled: Timestamp,
}

impl Bucket {
    fn full(most: Units, now: Timestamp) -> Self {
        Self {
            most,
            left: most,
            filled: now,
        }
    }

    /// Fills in what has come since the last time, and takes units. Returns whether there were
    /// enough.
    fn take(&mut self, units: Units, now: Timestamp) -> bool {
        let seconds = now.since(self.filled).as_micros() as f64 / 1e6;
        self.filled = now;
        let filled = |left: f64, most: f64| (left + most * seconds).min(most);
        self.left.reads = filled(self.left.reads, self.most.reads) - units.reads;
        self.left.writes = filled(self.left.writes, self.most.writes) - units.writes;
        self.left.reads >= 0.0 && self.left.writes >= 0.0
    }
}

/// What calls of one action to one partition key cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) calls: u64,
    pub(crate) units: Units,
}

impl Cost {
    pub(crate) fn add(&mut self, calls: u64, units: Units) {
        self.calls += calls;
        self.units.reads += units.reads;
        self.units.writes += units.writes;
    }
}

/// What was metered. Costs are by partition key, whose `/…` is left out, and action.
#[derive(Debug)]
struct Metered {
    keys: BTreeMap<String, Bucket>,
    table: Bucket,
    costs: BTreeMap<(String, String), Cost>,
    empty: BTreeSet<String>,
}

/// A running meter. It serves until the process ends.
#[derive(Debug)]
pub(crate) struct Meter {
    /// The endpoint of all services.
    pub(crate) url: String,
    clock: Arc<dyn Clock>,
    metered: Mutex<Metered>,
}

impl Meter {
    /// Starts a meter in front of a DynamoDB server. Calls to S3 are passed on to another server.
    pub(crate) fn start(dynamo: &str, s3: &str, clock: Arc<dyn Clock>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let metered = Metered {
            keys: BTreeMap::new(),
            table: Bucket::full(OF_TABLE, clock.now()),
            costs: BTreeMap::new(),
            empty: BTreeSet::new(),
        };
        let meter = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            clock,
            metered: Mutex::new(metered),
        });
        let (started, dynamo, s3) = (Arc::clone(&meter), address(dynamo), address(s3));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (meter, dynamo, s3) = (Arc::clone(&started), dynamo.clone(), s3.clone());
                // Ignore I/O errors, such as a client that closed its connection.
                std::thread::spawn(move || {
                    let _ = meter.relay(client?, &dynamo, &s3);
                    Ok::<_, std::io::Error>(())
                });
            }
        });
        meter
    }

    /// Relays the calls of a connection. Connections to DynamoDB are kept, because there are many
    /// calls.
    fn relay(&self, mut client: TcpStream, dynamo: &str, s3: &str) -> std::io::Result<()> {
        client.set_nodelay(true)?;
        let mut calls = BufReader::new(client.try_clone()?);
        let server = TcpStream::connect(dynamo)?;
        server.set_nodelay(true)?;
        let mut server = BufReader::new(server);
        while let Some(call) = read(&mut calls)? {
            if !call.headers.iter().any(|(name, _)| name == "x-amz-target") {
                client.write_all(&forward(s3, &call, None)?)?;
                return Ok(());
            }
            server.get_mut().write_all(&request(&call, None, true))?;
            let (head, body) = response(&mut server)?;
            self.note(&call, &body);
            client.write_all(&[head, body].concat())?;
        }
        Ok(())
    }

    fn note(&self, call: &Call, answer: &[u8]) {
        let sent: Json = serde_json::from_slice(call.body()).unwrap();
        let answer: Json = serde_json::from_slice(answer).unwrap();
        let (keys, now) = (keys(&call.action, &sent), self.clock.now());
        let units = units(&call.action, &answer, keys.len());
        let mut metered = self.metered();
        for key in keys {
            metered.take(&key, &call.action, units, now);
        }
    }

    fn metered(&self) -> MutexGuard<'_, Metered> {
        self.metered.lock().unwrap()
    }

    /// Returns what was metered since this was last called, by partition key and action.
    pub(crate) fn costs(&self) -> BTreeMap<(String, String), Cost> {
        std::mem::take(&mut self.metered().costs)
    }

    /// Returns the buckets that would have been empty.
    pub(crate) fn empty(&self) -> BTreeSet<String> {
        self.metered().empty.clone()
    }
}

impl Metered {
    fn take(&mut self, key: &str, action: &str, units: Units, now: Timestamp) {
        let kind = key.split('/').next().unwrap_or_default();
        let cost = self.costs.entry((kind.to_owned(), action.to_owned()));
        cost.or_default().add(1, units);
        let bucket = self.keys.entry(key.to_owned());
        let bucket = bucket.or_insert_with(|| Bucket::full(OF_KEY, now));
        if !bucket.take(units, now) {
            self.empty.insert(format!("key {key} at {now}"));
        }
        if !self.table.take(units, now) {
            self.empty.insert(format!("the table at {now}"));
        }
    }
}

/// Returns the address of a server on this machine.
fn address(endpoint: &str) -> String {
    let port = Url::parse(endpoint).unwrap().port().unwrap();
    format!("127.0.0.1:{port}")
}

/// Reads a response of a connection that is kept: its head and its body.
fn response(server: &mut BufReader<TcpStream>) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let start = head.len();
        if server.read_until(b'\n', &mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&head[start..]).to_lowercase();
        if line.trim_end().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    server.read_exact(&mut body)?;
    Ok((head, body))
}

/// Returns the partition keys of a call, once for each item that it names.
fn keys(action: &str, sent: &Json) -> Vec<String> {
    let text = |value: &Json| value["S"].as_str().unwrap().to_owned();
    let key = |item: &Json| text(&item["pk"]);
    let of_table = || {
        let tables = sent["RequestItems"].as_object().unwrap();
        tables.values().next().unwrap()
    };
    match action {
        "PutItem" => vec![key(&sent["Item"])],
        "DeleteItem" | "GetItem" | "UpdateItem" => vec![key(&sent["Key"])],
        "Query" => vec![text(&sent["ExpressionAttributeValues"][":p"])],
        "BatchGetItem" => {
            let keys = of_table()["Keys"].as_array().unwrap();
            keys.iter().map(key).collect()
        }
        "BatchWriteItem" => {
            let requests = of_table().as_array().unwrap().iter();
            let key = |request: &Json| match request.get("PutRequest") {
                Some(put) => key(&put["Item"]),
                None => key(&request["DeleteRequest"]["Key"]),
            };
            requests.map(key).collect()
        }
        other => panic!("{other}"),
    }
}

/// Returns what a call cost for each of its items, by its answer.
fn units(action: &str, answer: &Json, items: usize) -> Units {
    let consumed = |capacity: &Json| capacity["CapacityUnits"].as_f64();
    let all: f64 = match &answer["ConsumedCapacity"] {
        Json::Array(tables) => tables.iter().filter_map(consumed).sum(),
        // A write whose condition does not hold says nothing. It counts as one of a small item.
        one => consumed(one).unwrap_or(1.0),
    };
    let each = all / items as f64;
    match action.ends_with("GetItem") || action == "Query" {
        true => Units {
            reads: each,
            writes: 0.0,
        },
        false => Units {
            reads: 0.0,
            writes: each,
        },
    }
}

#[test]
fn buckets_are_empty_when_more_is_taken_in_a_second_than_they_hold() {
    let at = |millis: i64| Timestamp::from_micros(millis * 1_000);
    let mut bucket = Bucket::full(OF_KEY, at(0));
    let reads = |reads| Units { reads, writes: 0.0 };
    assert!(bucket.take(reads(3_000.0), at(0)));
    assert!(bucket.take(reads(1_500.0), at(500)));
    assert!(!bucket.take(reads(1.0), at(500)));
    assert!(bucket.take(reads(2_999.0), at(1_500)));
    // What is not used is not kept for later.
    assert!(!bucket.take(reads(3_001.0), at(60_000)));
    let writes = Units {
        reads: 0.0,
        writes: 1_001.0,
    };
    assert!(!Bucket::full(OF_KEY, at(0)).take(writes, at(0)));
}
