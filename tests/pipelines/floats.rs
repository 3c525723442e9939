//! Zeros with a sign are one value in features, online and offline alike.

use serde_json::{Value as Json, json};

use crate::harness::pass::{Pass, case};

#[test]
fn zeros_of_both_signs_are_one_value_online_and_offline() {
    let project = Pass {
        columns: "id:utf8, at:timestamp, v:float64?",
        group: r#"
aggregates = [
  { function = ["count_distinct", "approx_count_distinct", "min", "first", "last"], column = "v", windows = ["1h"] },
  { function = ["top_k", "last_k"], k = 3, column = "v", windows = ["1h"] },
]
"#,
        ..Pass::default()
    };
    let project = project.project().applied();
    project.write("in.csv", case("38-zero-distinct/in.csv"));
    project.write("l.csv", case("38-zero-distinct/l.csv"));
    project.ok(&["run", "g"]);
    let clock = "2024-03-01T00:10:00Z,0";
    let online = project.json(&["get", "v", "id=a", "--clock", clock])["features"].clone();
    project.training_set("v", "l.csv", "out.ndjson");
    let offline = std::fs::read_to_string(project.path().join("out.ndjson")).unwrap();
    let offline: Json = serde_json::from_str(&offline).unwrap();
    for (feature, wanted) in [
        ("g_v_count_distinct_1h", json!(2)),
        ("g_v_approx_count_distinct_1h", json!(2)),
        ("g_v_min_1h", json!(0.0)),
        ("g_v_first_1h", json!(0.0)),
        ("g_v_last_1h", json!(1.5)),
        ("g_v_top_3_1h", json!([0.0, 1.5])),
        // The values of events are answered as they came.
        ("g_v_last_3_1h", json!([1.5, 1.5, -0.0])),
    ] {
        // The texts differ in the sign of a zero.
        assert_eq!(
            online[feature].to_string(),
            wanted.to_string(),
            "{feature}: {online}"
        );
        assert_eq!(
            offline[feature].to_string(),
            wanted.to_string(),
            "{feature}: {offline}"
        );
    }
}
