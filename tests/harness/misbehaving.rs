//! A project with the component `misbehaving`, which breaks a rule by its mode.

use serde_json::json;

use super::{Project, Server, guest};

/// Makes a project whose only function misbehaves in a mode.
pub(crate) fn project(mode: &str, settings: &str) -> Project {
    let component = guest("misbehaving");
    Project::new(&format!(
        r#"
[project]
name = "bad"
[entities.thing]
keys = {{ id = "int64" }}
[sources.things]
type = "stream"
path = "things.csv"
[functions.bad]
component = "{}"
parameters = {{ mode = "{mode}" }}
{settings}
[groups.thing]
entity = "thing"
event_time = "at"
[pipelines.thing]
source = "things"
function = "bad"
group = "thing"
[views.last]
lookups = [{{ group = "thing", as = "last" }}]
[views.thing]
request = {{ id = "int64", at = "timestamp", x = "float64" }}
functions = ["bad"]
"#,
        component.display()
    ))
}

/// Three rows for the source `things.csv`.
pub(crate) const ROWS: &str =
    "id,at,x\n1,2013-01-01T00:00:00Z,0.5\n2,2013-01-01T00:00:01Z,1.5\n3,2013-01-01T00:00:02Z,2.5\n";

/// Sends a request with some rows for features of the view.
pub(crate) fn request(server: &Server, rows: usize) -> (u16, serde_json::Value) {
    let rows: Vec<_> = (0..rows)
        .map(|id| json!({"id": id, "at": "2013-01-01T00:00:00Z", "x": id}))
        .collect();
    server.post(
        "/v1/views/thing/features",
        "application/json",
        json!({ "rows": rows }).to_string(),
    )
}
