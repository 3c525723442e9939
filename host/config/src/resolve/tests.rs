use std::collections::BTreeMap;
use std::path::Path;

use wafer_catalog::FunctionDef;
use wafer_core::{Digest, Field, Mapping, Schema};
use wafer_runtime::{Limits, Registered};

use super::*;
use crate::Overrides;

const PROJECT: &str = r#"
[project]
name = "shop"
[entities.customer]
keys = { id = "int64" }
[sources.orders]
type = "stream"
[functions.orders]
component = "orders.wasm"
[functions.basket]
component = "basket.wasm"
[groups.orders]
entity = "customer"
event_time = "at"
[pipelines.orders]
source = "orders"
function = "orders"
group = "orders"
[views.basket]
request = { amount = "float64" }
lookups = [{ group = "orders", as = "last", keys = { id = "customer" } }, { group = "orders", as = "friend", keys = { id = "friend" }, features = ["total"] }]
functions = ["basket"]
"#;

fn schema(text: &str) -> Schema {
    let field = |text: &str| {
        let (name, data_type) = text.split_once(':').unwrap();
        let nullable = data_type.ends_with('?');
        Field::new(
            name.trim(),
            data_type.trim().trim_end_matches('?').parse().unwrap(),
            nullable,
        )
    };
    Schema::new(text.split(',').map(field).collect()).unwrap()
}

fn function(inputs: &str, outputs: &str, mapping: Mapping) -> FunctionDef {
    let digest = Digest::of(inputs.as_bytes());
    let signature = Signature {
        inputs: schema(inputs),
        outputs: schema(outputs),
        mapping,
        doc: String::new(),
    };
    FunctionDef {
        registered: Registered {
            digest,
            component: digest,
            snapshot: digest,
            delta: None,
            signature,
            strict_nan: false,
        },
        limits: Limits::default(),
        assets: BTreeMap::new(),
        parameters: BTreeMap::new(),
    }
}

fn resolved(text: &str, orders: &str, basket: &str) -> Result<Definitions, String> {
    let project = Project::parse(Path::new("wafer.toml"), text, Overrides::default()).unwrap();
    let (inputs, outputs) = basket.split_once("->").unwrap();
    let functions = BTreeMap::from([
        (
            "orders".to_owned(),
            function("id: int64", orders, Mapping::OneToMany),
        ),
        (
            "basket".to_owned(),
            function(inputs, outputs, Mapping::OneToOne),
        ),
    ]);
    let functions = ProjectFunctions {
        registered: functions,
        ..ProjectFunctions::default()
    };
    resolve(
        &project,
        functions,
        &SourceColumns::default(),
        &Definitions::default(),
    )
    .map_err(|e| e.to_string())
}

const ORDERS: &str = "id: int64, at: timestamp, total: float64?, name: utf8";
const BASKET: &str = "amount: float64, last_total: float64? -> ratio: float64?";

#[test]
fn groups_and_views_are_resolved() {
    let definitions = resolved(PROJECT, ORDERS, BASKET).unwrap();
    let group = &definitions.groups["orders"];
    assert_eq!(group.table(), "orders_v1");
    let features: Vec<_> = group.columns.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(features, ["total", "name"]);
    let schema = group.rows_table().schema();
    let columns: Vec<_> = schema.fields().iter().map(|f| f.name.as_str()).collect();
    assert_eq!(columns[..2], ["id", "event_timestamp"]);
    assert_eq!(columns[4..], ["event_id", "arrival_order", "total", "name"]);

    let view = &definitions.views["basket"];
    let inputs: Vec<_> = view
        .inputs
        .iter()
        .map(|f| (f.name.as_str(), f.nullable))
        .collect();
    assert_eq!(
        inputs,
        [("customer", true), ("friend", true), ("amount", false)]
    );
    assert_eq!(view.lookups[0].features, [0, 1]);
    assert_eq!(view.lookups[1].features, [0]);
}

/// A table has at most 1,024 columns, of which a join key and five others are not features.
#[test]
fn groups_have_as_many_columns_as_their_table_can_have() {
    let outputs = |features: usize| {
        let features: String = (0..features).map(|n| format!(", f{n}: int64")).collect();
        format!("id: int64, at: timestamp, total: float64?{features}")
    };
    for (features, fits) in [(1_017, true), (1_018, false), (1_021, false)] {
        let result = resolved(PROJECT, &outputs(features), BASKET);
        assert_eq!(result.is_ok(), fits, "{features}");
        match result {
            Ok(definitions) => {
                let group = &definitions.groups["orders"];
                for table in [
                    group.rows_table(),
                    group.late_table(),
                    group.quarantine_table(),
                ] {
                    assert!(table.schema().fields().len() <= 1_024);
                }
            }
            Err(error) => {
                assert!(
                    error.contains("groups.orders: its table has 1 join keys"),
                    "{error}"
                );
                assert!(error.contains("a schema has 1 to 1024"), "{error}");
            }
        }
    }
    let chosen = PROJECT.replace(
        "event_time = \"at\"",
        "event_time = \"at\"\ncolumns = [\"total\"]",
    );
    assert!(resolved(&chosen, &outputs(1_021), BASKET).is_ok());
}

#[test]
fn mismatches_are_named() {
    for (from, to, orders, basket, wanted) in [
        (
            "",
            "",
            "it: int64, at: timestamp, total: float64",
            BASKET,
            "no output `id`, the join key of entity `customer`; did you mean `it`?",
        ),
        (
            "",
            "",
            "id: utf8, at: timestamp, total: float64",
            BASKET,
            "output `id` is utf8, and the join key of entity `customer` is int64",
        ),
        (
            "",
            "",
            "id: int64, ad: timestamp, total: float64",
            BASKET,
            "no output `at`; did you mean `ad`?",
        ),
        (
            "",
            "",
            "id: int64, at: int64, total: float64",
            BASKET,
            "output `at` is int64, not timestamp",
        ),
        (
            "",
            "",
            "id: int64, at: timestamp",
            BASKET,
            "no outputs beside keys and event time",
        ),
        (
            "",
            "",
            "id: int64, at: timestamp, event_id: utf8",
            BASKET,
            "`event_id` has the name of a column",
        ),
        (
            "",
            "",
            "id: int64, at: timestamp, arrival_order: int64",
            BASKET,
            "`arrival_order` has the name of a column",
        ),
        (
            "\"total\"",
            "\"totel\"",
            ORDERS,
            BASKET,
            "lookups[1].features: group `orders` has no feature `totel`; did you mean `total`?",
        ),
        (
            "{ id = \"friend\" }",
            "{ no = \"friend\" }",
            ORDERS,
            BASKET,
            "lookups[1].keys: group `orders` has no join key `no`; it has id",
        ),
        (
            "\"friend\" }",
            "\"customer\" }",
            ORDERS,
            "amount: int64 -> r: float64",
            "input `amount` is int64, and a field of the request is float64",
        ),
        (
            "",
            "",
            ORDERS,
            "amont: float64 -> r: float64",
            "input `amont` (float64) is neither a field of the request nor a looked-up feature; did you mean `amount`?",
        ),
        (
            "",
            "",
            ORDERS,
            "amount: float64 -> last_total: float64",
            "`last_total` is both feature `total` of `last` and an output of `basket`",
        ),
        (
            "amount = \"float64\"",
            "amount = \"float64\", last_total = \"utf8\"",
            ORDERS,
            BASKET,
            "input `last_total` is float64, and a field of the request is utf8",
        ),
        (
            "",
            "",
            ORDERS,
            "amount: float64 -> amount: float64, last_name: utf8",
            "`last_name` is both feature `name` of `last` and an output of `basket`",
        ),
        (
            "amount = \"float64\"",
            "amount = \"float64\", customer = \"utf8\"",
            ORDERS,
            BASKET,
            "request.customer: is utf8, and as a join key it is int64",
        ),
        (
            "functions = [\"basket\"]",
            "functions = [\"orders\"]",
            ORDERS,
            BASKET,
            "`orders` does not map rows one to one",
        ),
    ] {
        assert!(PROJECT.contains(from), "{from}");
        let error = resolved(&PROJECT.replacen(from, to, 1), orders, basket).unwrap_err();
        assert!(error.contains(wanted), "{error}\n  wanted: {wanted}");
    }
}
