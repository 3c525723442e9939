//! The calls that a function makes, as actions of IAM. Proxies in front of DynamoDB and S3 record
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;
use url::form_urlencoded;

use super::Action;
use crate::harness::endpoint;
use crate::harness::proxy::{Call, Fate, Proxy};

/// The actions that a function was seen to perform.
#[derive(Clone, Default)]
pub(crate) struct Seen(pub(crate) Arc<Mutex<BTreeSet<Action>>>);

impl Seen {
    fn note(&self, service: &str, action: &str, resource: &str) {
        let action = format!("{service}:{action}");
        self.0.lock().unwrap().insert((action, resource.to_owned()));
    }

    /// Returns a proxy in front of DynamoDB, and one in front of S3.
    pub(crate) fn proxies(&self) -> (Proxy, Proxy) {
        let (table, objects) = (self.clone(), self.clone());
        let dynamo = Proxy::new(&endpoint("DYNAMODB"), move |call| {
            let body: Json = serde_json::from_slice(call.body()).unwrap();
            let tables = match (&body["TableName"], body["RequestItems"].as_object()) {
                (Json::String(table), _) => vec![table.clone()],
                (_, Some(requests)) => requests.keys().cloned().collect(),
                _ => panic!("{body}"),
            };
            for name in tables {
                table.note("dynamodb", &call.action, &name);
            }
            Fate::Forwarded
        });
        let s3 = Proxy::new(&endpoint("S3"), move |call| {
            for (action, resource) in of_s3(call) {
                objects.note("s3", action, &resource);
            }
            Fate::Forwarded
        });
        (dynamo, s3)
    }
}

/// Returns the actions of a request to S3:
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>
fn of_s3(call: &Call) -> Vec<(&'static str, String)> {
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    let query: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let path = path.trim_matches('/');
    let bucket = path.split('/').next().unwrap_or_default();
    let has = |name: &str| query.contains_key(name);
    match call.action.as_str() {
        "GET" if has("list-type") => {
            let prefix = query.get("prefix").map_or("", String::as_str);
            vec![("ListBucket", format!("{bucket}/{prefix}"))]
        }
        "GET" | "HEAD" => vec![("GetObject", path.to_owned())],
        "DELETE" if has("uploadId") => vec![("AbortMultipartUpload", path.to_owned())],
        "DELETE" => vec![("DeleteObject", path.to_owned())],
        // A deletion of many objects has their keys in the body.
        "POST" if has("delete") => {
            let body = String::from_utf8_lossy(call.body()).into_owned();
            let keys = body.split("<Key>").skip(1);
            let key = |rest: &str| format!("{bucket}/{}", rest.split("</Key>").next().unwrap());
            keys.map(|rest| ("DeleteObject", key(rest))).collect()
        }
        // An upload in parts needs the same action.
        "PUT" | "POST" => vec![("PutObject", path.to_owned())],
        other => panic!("{other} {}", call.target),
    }
}
