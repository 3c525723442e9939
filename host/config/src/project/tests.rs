use wafer_core::Duration;
use wafer_runtime::Limits;

use super::*;

const GOOD: &str = r#"
[project]
name = "shop"

[entities.customer]
keys = { customer_id = "int64" }

[sources.orders]
type = "files"
path = "orders.csv"
delay = "5m"

[functions.order_features]
crate = "order-features"
memory = "64 MiB"
request_time = "20ms"
parameters = { currency = "EUR", top = 3, strict = true }

[groups.last_order]
entity = "customer"
event_time = "ordered_at"
ttl = "30d"

[pipelines.last_order]
source = "orders"
function = "order_features"
group = "last_order"

[views.basket]
request = { amount = "float64" }
lookups = [{ group = "last_order", as = "last" }]
"#;

fn parse(text: &str) -> Result<Project, String> {
    Project::parse(Path::new("p/wafer.toml"), text, Overrides::default()).map_err(|e| e.to_string())
}

#[test]
fn a_delta_table_is_named_by_a_path_or_a_url() {
    for path in ["t", "/data/t", "s3://b/t"] {
        let source = format!("type = \"delta\"\npath = \"{path}\"\nversion = 3");
        let text = GOOD.replace("type = \"files\"\npath = \"orders.csv\"", &source);
        let project = parse(&text).unwrap();
        assert_eq!(project.sources["orders"].version, Some(3), "{path}");
    }
}

#[test]
fn a_project_file_is_parsed() {
    let project = parse(GOOD).unwrap();
    assert_eq!(project.store.path, Path::new("p/.wafer"));
    let function = &project.functions["order_features"];
    assert_eq!(function.limits(FunctionRole::Features).memory, 64 << 20);
    assert_eq!(
        function.limits(FunctionRole::Features).request_time,
        Duration::from_micros(20_000)
    );
    assert_eq!(
        function.limits(FunctionRole::Features).batch_time,
        Limits::default().batch_time
    );
    let parameters: Vec<_> = function.parameters().into_values().collect();
    assert_eq!(parameters, ["EUR", "true", "3"]);
    let source = project.function_source(function);
    assert_eq!(source, FunctionSource::Crate("p/order-features".into()));
    assert_eq!(
        project.groups["last_order"].ttl,
        Some(Duration::from_days(30))
    );
}

#[test]
fn mistakes_are_reported_with_their_place() {
    for (from, to, wanted) in [
        (
            "delay = \"5m\"",
            "dleay = \"5m\"",
            "p/wafer.toml:11:1: unknown key `dleay`; did you mean `delay`?",
        ),
        (
            "memory = ",
            "memroy = ",
            "wafer.toml:15:1: unknown key `memroy`; did you mean `memory`?",
        ),
        (
            "[views.basket]",
            "[viewz.basket]",
            "wafer.toml:29:2: unknown key `viewz`; did you mean `views`?",
        ),
        (
            "\"files\"",
            "\"fiels\"",
            "unknown value `fiels`; did you mean `files`?",
        ),
        (
            "\"5m\"",
            "\"5 parsecs\"",
            "p/wafer.toml:11:9: sources.orders.delay: `5 parsecs` is not a duration",
        ),
        (
            "\"5m\"",
            "\"-1s\"",
            "sources.orders.delay: `-1s` is less than zero, which no duration is",
        ),
        (
            "\"5m\"",
            "\"9999999999999d\"",
            "sources.orders.delay: `9999999999999d` is more than 106751991d, the greatest duration",
        ),
        (
            "\"5m\"",
            "5",
            "sources.orders.delay: invalid type: integer `5`, expected a string",
        ),
        (
            "path = \"orders.csv\"",
            "",
            "sources.orders.path: is missing",
        ),
        (
            "path = \"orders.csv\"",
            "path = \"o\"\nid = \"n\"",
            "sources.orders.id: is for sources of type `stream`",
        ),
        (
            "path = \"orders.csv\"",
            "path = \"o\"\nversion = 3",
            "sources.orders.version: is for sources of type `delta`",
        ),
        (
            "type = \"files\"\npath = \"orders.csv\"",
            "type = \"delta\"",
            "sources.orders.path: is missing: name the folder of the Delta table",
        ),
        (
            "type = \"files\"\npath = \"orders.csv\"",
            "type = \"delta\"\npath = \"t\"\nformat = \"parquet\"",
            "sources.orders.format: is for sources of type `files` or `stream`",
        ),
        (
            "path = \"orders.csv\"",
            "path = \"o\"\nformat = \"xlsx\"",
            "unknown value `xlsx`",
        ),
        (
            "\"64 MiB\"",
            "\"64 MB\"",
            "wafer.toml:15:10: functions.order_features.memory: `64 MB` is not a size",
        ),
        (
            "\"64 MiB\"",
            "\"5 GiB\"",
            "functions.order_features.memory: a function has at most 4 GiB",
        ),
        (
            "\"int64\"",
            "\"int\"",
            "entities.customer.keys.customer_id: `int` is not a type",
        ),
        ("\"int64\"", "\"float64\"", "float64 cannot be a join key"),
        (
            "{ customer_id = \"int64\" }",
            "{}",
            "entities.customer.keys: is empty: an entity has at least one join key",
        ),
        (
            "type = \"files\"\npath = \"orders.csv\"",
            "type = \"table\"\ngroup = \"last_order\"\nformat = \"csv\"",
            "sources.orders.format: is for sources of type `files` or `stream`",
        ),
        (
            "type = \"files\"\npath = \"orders.csv\"",
            "type = \"table\"\ngroup = \"last_order\"\nskew = \"1h\"",
            "sources.orders.skew: is for sources of type `files` or `stream`",
        ),
        (
            "type = \"files\"\npath = \"orders.csv\"",
            "type = \"stream\"\nformat = \"csv\"",
            "sources.orders.format: is that of the files at `path`, and the source has none",
        ),
        (
            "crate = \"order-features\"",
            "component = \"x.wasm\"\nstack = \"1MiB\"",
            "functions.order_features.stack: is for functions that `wafer build` compiles",
        ),
        (
            "crate = \"order-features\"",
            "python = \"orders.py\"\nstack = \"1MiB\"",
            "functions.order_features.stack: is for functions that `wafer build` compiles",
        ),
        (
            "crate = \"order-features\"",
            "python = \"orders.py:\"",
            "p/wafer.toml:14:10: functions.order_features.python: `orders.py:` names no Python function; write a \
             file or a folder such as features.py, or one of its functions as features.py:rides",
        ),
        (
            "crate = \"order-features\"",
            "python = \":orders\"",
            "functions.order_features.python: `:orders` names no Python function",
        ),
        (
            "crate = \"order-features\"",
            "python = \"orders.py:last order\"",
            "functions.order_features.python: `orders.py:last order` names no Python function",
        ),
        (
            "crate = \"order-features\"",
            "crate = \"o\"\nrequirements = \"requirements.txt\"",
            "functions.order_features.requirements: is for functions in Python: it needs `python` beside it",
        ),
        (
            "crate = \"order-features\"",
            "python = \"orders.py\"\nassets = { python = \"a.py\" }",
            "functions.order_features.assets.python: is the function's code, which `python` names",
        ),
        (
            "crate = \"order-features\"\nmemory = \"64 MiB\"\nrequest_time = \"20ms\"\nparameters = { currency",
            "python = \"orders.py\"\nparameters = { python_file",
            "functions.order_features.parameters.python_file: is the interpreter's, as all that begin with \
             `python_`; give it another name",
        ),
        (
            "crate = ",
            "python = \"x.py\"\ncrate = ",
            "has both `crate` and `python`",
        ),
        (
            "crate = ",
            "javascript = \"x.js\"\npython = ",
            "has both `python` and `javascript`",
        ),
        (
            "crate = \"order-features\"",
            "javascript = \"orders.js\"\nstack = \"1MiB\"",
            "functions.order_features.stack: is for functions that `wafer build` compiles",
        ),
        (
            "crate = \"order-features\"",
            "javascript = \"orders.js:\"",
            "p/wafer.toml:14:14: functions.order_features.javascript: `orders.js:` names no JavaScript function; \
             write a file or a folder such as features.js, or one of its functions as features.js:rides",
        ),
        (
            "crate = \"order-features\"",
            "javascript = \"orders.js:1st\"",
            "functions.order_features.javascript: `orders.js:1st` names no JavaScript function",
        ),
        (
            "crate = \"order-features\"",
            "javascript = \"orders.js\"\nrequirements = \"requirements.txt\"",
            "functions.order_features.requirements: is for functions in Python: it needs `python` beside it",
        ),
        (
            "crate = \"order-features\"",
            "javascript = \"orders.js\"\nassets = { javascript = \"a.js\" }",
            "functions.order_features.assets.javascript: is the function's code, which `javascript` names",
        ),
        (
            "crate = \"order-features\"\nmemory = \"64 MiB\"\nrequest_time = \"20ms\"\nparameters = { currency",
            "javascript = \"orders.js\"\nparameters = { javascript_file",
            "functions.order_features.parameters.javascript_file: is the interpreter's, as all that begin with \
             `javascript_`; give it another name",
        ),
        (
            "source = \"orders\"",
            "source = \"orders\"\nschedule = { cron = \"0 0 * * *\" }",
            "pipelines.last_order.schedule: its `delay` says when rows become visible, so `sources.orders.delay` \
             would be ignored",
        ),
        (
            "source = \"orders\"",
            "source = \"orders\"\nschedule = { cron = \"0 0 * * *\", catch_up = 0 }",
            "pipelines.last_order.schedule.catch_up: is 0",
        ),
        (
            "source = \"orders\"",
            "source = \"orders\"\nschedule = { cron = \"0 0 * * *\", time_limit = \"0s\" }",
            "pipelines.last_order.schedule.time_limit: no run ends within 0s",
        ),
        (
            "source = \"orders\"",
            "source = \"order\"",
            "pipelines.last_order.source: there is no source `order`; did you mean `orders`?",
        ),
        (
            "function = \"order_features\"",
            "function = \"f\"",
            "there is no function `f`",
        ),
        (
            "name = \"shop\"",
            "name = \"My Shop\"",
            "project.name: `My Shop` is not a name",
        ),
        (
            "crate = \"order-features\"",
            "",
            "functions.order_features: needs `crate",
        ),
        (
            "crate = ",
            "component = \"x.wasm\"\ncrate = ",
            "has both `crate` and `component`",
        ),
        (
            "lookups = [{ group = \"last_order\", as = \"last\" }]",
            "",
            "views.basket: has neither",
        ),
        (
            "amount = \"float64\"",
            "amount = 1",
            "views.basket.request.amount: is the name of a type",
        ),
        (
            "top = 3",
            "top = [3]",
            "parameters.top: is a text, a number or a boolean",
        ),
        ("ttl = \"30d\"", "version = 0", "versions start at 1"),
        ("[project]", "[project", "wafer.toml:2:"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let error = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(wanted), "{error}\n  wanted: {wanted}");
    }
}

#[test]
fn a_python_function_is_a_file_or_a_folder_and_perhaps_a_name() {
    let source = |keys: &str| {
        let project = parse(&GOOD.replace("crate = \"order-features\"", keys)).unwrap();
        project.function_source(&project.functions["order_features"])
    };
    let python =
        |path: &str, function: Option<&str>, requirements: Option<&str>| FunctionSource::Python {
            path: path.into(),
            function: function.map(str::to_owned),
            requirements: requirements.map(PathBuf::from),
        };
    for (keys, wanted) in [
        (
            "python = \"features.py\"",
            python("p/features.py", None, None),
        ),
        (
            "python = \"src/features:last_order\"",
            python("p/src/features", Some("last_order"), None),
        ),
        (
            "python = \"features.py\"\nrequirements = \"requirements.txt\"",
            python("p/features.py", None, Some("p/requirements.txt")),
        ),
    ] {
        assert_eq!(source(keys), wanted, "{keys}");
    }
    // Names of the other language are free.
    for keys in [
        "python = \"f.py\"\nassets = { javascript = \"a.js\" }",
        "javascript = \"f.js\"\nassets = { python = \"a.py\" }",
    ] {
        source(keys);
    }
}

#[test]
fn a_javascript_function_is_a_file_or_a_folder_and_perhaps_an_export() {
    for (value, path, function) in [
        ("features.js", "p/features.js", None),
        (
            "src/features:lastOrder",
            "p/src/features",
            Some("lastOrder"),
        ),
        ("features.mjs:$last_1", "p/features.mjs", Some("$last_1")),
    ] {
        let keys = format!("javascript = \"{value}\"");
        let project = parse(&GOOD.replace("crate = \"order-features\"", &keys)).unwrap();
        let source = project.function_source(&project.functions["order_features"]);
        let wanted = FunctionSource::JavaScript {
            path: path.into(),
            function: function.map(str::to_owned),
        };
        assert_eq!(source, wanted, "{value}");
    }
}

#[test]
fn two_pipelines_cannot_write_one_group() {
    let two = format!(
        "{GOOD}\n[pipelines.other]\nsource = \"orders\"\nfunction = \"order_features\"\ngroup = \"last_order\"\n"
    );
    assert!(parse(&two).unwrap_err().contains("written by pipeline"));
}
