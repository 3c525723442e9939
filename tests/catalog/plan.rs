//! Plans: what `wafer apply` would change, and what it refuses.

use crate::harness::Project;

#[test]
fn plan_says_what_apply_would_change() {
    let project = Project::flights();
    let plan = project.json(&["plan"]);
    assert_eq!(plan["changes"].as_array().unwrap().len(), 29);
    assert!(
        project.json(&["functions"]).as_object().unwrap().is_empty(),
        "a plan makes nothing live"
    );
    project.ok(&["apply"]);
    assert!(project.ok(&["plan"]).contains("nothing would change"));

    project.replace("ttl = \"6h\"", "ttl = \"7h\"");
    project.replace("[sources.airports]", "[sources.fields]");
    project.replace("source = \"airports\"", "source = \"fields\"");
    let changes = project.ok(&["plan"]);
    for line in [
        "~ group airport_weather  (ttl)",
        "+ source fields",
        "- source airports",
        "~ pipeline airport  (source)",
    ] {
        assert!(changes.contains(line), "{changes}");
    }

    // The columns of a version of a group never change.
    project.replace(
        "event_time = \"arrived_at\"",
        "event_time = \"departed_at\"",
    );
    let said = project.fails(&["plan"]);
    assert!(
        said.contains("groups.plane_outcome: its columns changed") && said.contains("version = 2"),
        "{said}"
    );
    project.replace(
        "event_time = \"departed_at\"",
        "event_time = \"departed_at\"\nversion = 2",
    );
    assert!(project.ok(&["apply"]).contains("~ group plane_outcome"));
}
