//! The calls that a function makes, as IAM sees them. Proxies in front of DynamoDB and S3 record
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;
use url::{Url, form_urlencoded};

use super::evaluate::Request;
use super::services::table_arn;
use crate::harness::endpoint;
use crate::harness::proxy::{Call, Fate, Proxy, forward};

/// The calls that a function was seen to make.
#[derive(Clone, Default)]
pub(crate) struct Seen(pub(crate) Arc<Mutex<BTreeSet<Request>>>);

impl Seen {
    fn note(&self, request: Request) {
        self.0.lock().unwrap().insert(request);
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
            let action = format!("dynamodb:{}", call.action);
            for name in tables {
                table.note(Request::new(&action, &table_arn(&name)));
            }
            Fate::Forwarded
        });
        let server = endpoint("S3");
        let port = Url::parse(&server).unwrap().port().unwrap();
        let s3 = Proxy::new(&server, move |call| {
            let mut requests = of_s3(call);
            if requests.iter().any(|r| r.action == "s3:GetObject") && is_missing(call, port) {
                requests.extend(of_missing(&requests));
            }
            for request in requests {
                objects.note(request);
            }
            Fate::Forwarded
        });
        (dynamo, s3)
    }
}

/// Asks S3 itself whether there is no object that a call is for.
fn is_missing(call: &Call, port: u16) -> bool {
    let answer = forward(&format!("127.0.0.1:{port}"), call, None).unwrap();
    answer.starts_with(b"HTTP/1.1 404")
}

/// Returns what else S3 wants to be allowed before it says that an object is not there. Otherwise
/// it says that the call is not allowed. No page says which value `s3:prefix` has then; it can only
/// be the object's key.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
fn of_missing(requests: &[Request]) -> Vec<Request> {
    let objects = requests.iter().filter_map(|request| {
        let (bucket, key) = request.resource.split_once('/')?;
        Some(Request::new("s3:ListBucket", bucket).with("s3:prefix", key))
    });
    objects.collect()
}

/// Returns a call of S3 as IAM sees it: one or more actions.
///
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>
fn of_s3(call: &Call) -> Vec<Request> {
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    let query: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let path = path.trim_matches('/');
    let bucket = path.split('/').next().unwrap_or_default();
    let has = |name: &str| query.contains_key(name);
    let about = |action: &str, path: &str| {
        Request::new(&format!("s3:{action}"), &format!("arn:aws:s3:::{path}"))
    };
    match call.action.as_str() {
        "GET" if has("list-type") => {
            let prefix = query.get("prefix").map_or("", String::as_str);
            vec![about("ListBucket", bucket).with("s3:prefix", prefix)]
        }
        "GET" | "HEAD" => vec![about("GetObject", path)],
        "DELETE" if has("uploadId") => vec![about("AbortMultipartUpload", path)],
        "DELETE" => vec![about("DeleteObject", path)],
        // A deletion of many objects has their keys in the body.
        "POST" if has("delete") => {
            let body = String::from_utf8_lossy(call.body()).into_owned();
            let keys = body.split("<Key>").skip(1);
            let key = |rest: &str| format!("{bucket}/{}", rest.split("</Key>").next().unwrap());
            keys.map(|rest| about("DeleteObject", &key(rest))).collect()
        }
        // An upload in parts needs the same action.
        "PUT" | "POST" => vec![about("PutObject", path)],
        other => panic!("{other} {}", call.target),
    }
}
