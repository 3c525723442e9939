//! Functions of a project: how they are listed and checked.

use crate::harness::Project;

#[test]
fn functions_are_listed_with_their_documentation() {
    let project = Project::flights().applied();
    let functions = project.ok(&["functions"]);
    assert!(functions.contains("Distance, course, local time and scheduled speed of a departure."));
    assert!(functions.contains("Great-circle distance from origin to destination, km."));
    for wanted in [
        "  one row out for each row in\n",
        "  any number of rows out for each row in, or none\n",
    ] {
        assert!(functions.contains(wanted), "{wanted}: {functions}");
    }
    let json = project.json(&["functions", "flight_outcome"]);
    assert_eq!(
        json["flight_outcome"]["registered"]["signature"]["mapping"],
        "one_to_many"
    );
    assert!(
        project
            .fails(&["functions", "nothing"])
            .contains("there is no function `nothing`")
    );
}

#[test]
fn functions_of_the_repository_pass_their_check() {
    let project = Project::flights();
    let checked = project.json(&["check"]);
    let names: Vec<_> = checked
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["function"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "airport_profile",
            "departure_features",
            "flight_outcome",
            "hourly_weather",
            "scheduled_flight"
        ]
    );
    assert!(
        !project.path().join(".wafer").exists(),
        "a check writes nothing"
    );
}
