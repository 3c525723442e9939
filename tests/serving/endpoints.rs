//! Endpoints: how they answer, and which release gets a row.

use serde_json::{Value as Json, json};

use crate::harness::accounts::{
    PUSHED, accounts, infer, line_and_classes, push_and_release, request,
};
use crate::harness::ledger::{entry, lines};

#[test]
fn endpoints_answer_by_the_open_inference_protocol() {
    let project = accounts(PUSHED);
    push_and_release(&project, 2);
    project.ok(&["endpoints", "set", "line", "r1"]);
    let server = project.serve(&[]);
    for (path, wanted) in [
        (
            "/v2",
            json!({"name": "wafer", "version": "0.1.0", "extensions": ["binary_tensor_data"]}),
        ),
        ("/v2/health/live", json!({"live": true})),
        ("/v2/health/ready", json!({"live": true, "ready": true})),
        (
            "/v2/models/line/ready",
            json!({"name": "line", "ready": true}),
        ),
        (
            "/v2/models/line/versions/r1/ready",
            json!({"name": "line", "ready": true}),
        ),
        (
            "/v2/models/line",
            json!({"name": "line", "versions": ["r1"], "platform": "wafer",
            "inputs": [{"name": "key_a", "datatype": "BYTES", "shape": [-1]}, {"name": "key_b", "datatype": "INT64", "shape": [-1]}],
            "outputs": [{"name": "prediction", "datatype": "FP64", "shape": [-1]}]}),
        ),
    ] {
        assert_eq!(server.get(path), (200, wanted), "{path}");
    }
    let mut asked = request(&["k001", "unknown"]);
    asked["id"] = json!("42");
    let prediction = |data: Json| json!([{"name": "prediction", "datatype": "FP64", "shape": [2], "data": data}]);
    let wanted = json!({"model_name": "line", "model_version": "r1", "id": "42", "outputs": prediction(json!([1.0, 1.0]))});
    assert_eq!(infer(&server, "line", &asked), (200, wanted.clone()));
    assert_eq!(infer(&server, "line/versions/r1", &asked), (200, wanted));

    let with = |pointer: &str, value: Json| {
        let mut request = request(&["k001", "k002"]);
        *request.pointer_mut(pointer).unwrap() = value;
        infer(&server, "line", &request)
    };
    for ((status, answer), wanted) in [
        (
            with("/inputs/0/name", json!("key_c")),
            "there is no input `key_c`; there are key_a, key_b",
        ),
        (
            with("/inputs/0/name", json!("key_b")),
            "input `key_b` is BYTES, and int64 is read from INT64",
        ),
        (
            with("/inputs/0/shape", json!([3])),
            "input `key_b` has 2 rows, and `key_a` has 3",
        ),
        (
            with("/inputs/0/shape", json!([2, 2])),
            "utf8 has [rows] or [rows, 1]",
        ),
        (with("/inputs/0/shape", json!([])), "has no shape"),
        (
            with("/inputs/0/shape", json!([-1])),
            "the body is not an inference request",
        ),
        (
            with("/inputs/0/data", json!(["k001"])),
            "has 1 elements, and shape [2] says 2",
        ),
        (
            with("/inputs/1/data", json!([1.5, 2])),
            "element 0 is 1.5, and not INT64",
        ),
        (
            with("/inputs/1/datatype", json!("INT7")),
            "datatype `INT7` is not supported",
        ),
        (with("/inputs", json!([])), "there are no inputs"),
        (
            with("/inputs", json!({})),
            "the body is not an inference request",
        ),
        (
            with(
                "/inputs/1",
                json!({"name": "key_b", "datatype": "INT64", "shape": [2]}),
            ),
            "input `key_b` has no data",
        ),
    ] {
        assert_eq!(status, 400, "{answer}");
        let said = answer["error"].as_str().unwrap();
        assert!(said.contains(wanted), "{said}");
    }
    let mut partial = request(&["k001"]);
    partial["inputs"].as_array_mut().unwrap().pop();
    let (status, answer) = infer(&server, "line", &partial);
    assert_eq!(
        (status, answer),
        (
            400,
            json!({"error": "row 0: field `key_b` (int64): is missing"})
        )
    );
    let mut wrong = request(&["k001"]);
    wrong["outputs"] = json!([{"name": "score"}]);
    assert_eq!(
        infer(&server, "line", &wrong),
        (
            400,
            json!({"error": "there is no output `score`; there are prediction"})
        )
    );
    wrong["outputs"] = json!([{"name": "prediction"}, {"name": "prediction"}]);
    assert_eq!(
        infer(&server, "line", &wrong),
        (400, json!({"error": "output `prediction` is named twice"}))
    );
    // One byte of a valid request is changed.
    let mut not_utf8 = request(&["k001"]).to_string().into_bytes();
    let place = not_utf8.windows(4).position(|w| w == b"k001").unwrap();
    not_utf8[place] = 0xff;
    let (status, answer) = server.post("/v2/models/line/infer", "application/json", not_utf8);
    assert_eq!(status, 400, "{answer}");
    let said = answer["error"].as_str().unwrap();
    assert!(said.contains("invalid unicode code point"), "{said}");
    for path in ["lien", "line/versions/r2"] {
        let (status, answer) = infer(&server, path, &request(&["k001"]));
        assert_eq!(status, 404, "{answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    let (status, answer) = server.get("/v2/nothing");
    assert_eq!(
        (status, answer),
        (404, json!({"error": "there is no /v2/nothing"}))
    );
    assert_eq!(
        server.get("/v2/models/line/infer"),
        (
            404,
            json!({"error": "/v2/models/line/infer does not take GET"})
        )
    );
    server.stop();
}

/// Neighbours among integers that no float tells apart are different entities.
#[test]
fn keys_past_2_53_are_keys_of_their_own_on_the_inference_protocol() {
    let project = accounts(PUSHED);
    let large = 1i64 << 53;
    let numbered = |(key, amount): (i64, f64)| {
        let mut entry = entry("large", "2020-01-01T00:00:00Z", 1, amount, "x");
        entry["key_b"] = json!(key);
        entry
    };
    let numbered = [(large, 1.0), (large + 1, 2.0), (i64::MAX, 3.0)].map(numbered);
    let mut entries = std::fs::read_to_string(project.at("entries.ndjson")).unwrap();
    entries += &lines(&numbered);
    project.write("entries.ndjson", entries);
    project.ok(&["run", "last_entry", "--clock", "2020-01-03T00:00:00Z,0"]);
    let model =
        json!({"intercept": 0, "coefficients": {"last_amount": 1}, "missing": {"last_amount": -1}});
    project.push_model("line", "line.json", model.to_string());
    project.ok(&["release", "create", "--model", "line@1"]);
    project.ok(&["endpoints", "set", "line", "r1"]);
    let server = project.serve(&["--clock", "2020-01-03T00:00:00Z,0"]);
    let keys = [
        large - 1,
        large,
        large + 1,
        large + 2,
        i64::MAX - 1,
        i64::MAX,
    ];
    let mut asked = request(&["large"; 6]);
    asked["inputs"][1]["data"] = json!(keys);
    let (status, answer) = infer(&server, "line", &asked);
    assert_eq!(
        (status, &answer["outputs"][0]["data"]),
        (200, &json!([-1.0, 1.0, 2.0, -1.0, -1.0, 3.0]))
    );
    server.stop();
}

#[test]
fn rows_with_the_same_key_get_the_same_release_of_an_endpoint() {
    let project = accounts(PUSHED);
    push_and_release(&project, 2);
    project.ok(&[
        "endpoints",
        "set",
        "line",
        "r1=50",
        "r2=50",
        "--key",
        "key_a",
    ]);
    let server = project.serve(&[]);
    let keys: Vec<String> = (0..100).map(|n| format!("k{n:03}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (status, answer) = infer(&server, "line", &request(&keys));
    assert_eq!(status, 200, "{answer}");
    let together: Vec<f64> = answer["outputs"][0]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect();
    let versions = answer["parameters"]["versions"].as_str().unwrap();
    let wanted: Vec<_> = together.iter().map(|v| format!("r{v}")).collect();
    assert_eq!(versions, wanted.join(","));
    let of_r1 = together.iter().filter(|v| **v == 1.0).count();
    assert!((25..=75).contains(&of_r1), "{of_r1}");
    for (key, wanted) in keys.iter().zip(&together).take(20) {
        let (_, answer) = infer(&server, "line", &request(&[key]));
        assert_eq!(answer["outputs"][0]["data"], json!([wanted]), "{key}");
    }
    server.stop();
}

#[test]
fn releases_of_an_endpoint_must_answer_alike() {
    let project = line_and_classes();
    let said = project.fails(&["endpoints", "set", "both", "r1=50", "r2=50"]);
    assert!(
        said.contains("releases `r1` and `r2` answer differently: prediction float64 and prediction int64, probabilities list<float64>"),
        "{said}"
    );
    // The answer has only the requested outputs, in the order of the request.
    project.ok(&["endpoints", "set", "classes", "r2"]);
    let server = project.serve(&[]);
    let asked = |outputs: &[&str]| {
        let mut request = request(&["k001", "k200"]);
        if !outputs.is_empty() {
            let outputs = outputs.iter().map(|name| json!({"name": name}));
            request["outputs"] = outputs.collect();
        }
        let (status, answer) = infer(&server, "classes", &request);
        assert_eq!(status, 200, "{answer}");
        let outputs = answer["outputs"].as_array().unwrap().iter();
        let names = outputs.map(|output| output["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(asked(&[]), ["prediction", "probabilities"]);
    assert_eq!(asked(&["probabilities"]), ["probabilities"]);
    assert_eq!(asked(&["prediction"]), ["prediction"]);
    assert_eq!(
        asked(&["probabilities", "prediction"]),
        ["probabilities", "prediction"]
    );
    server.stop();
}
