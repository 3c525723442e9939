//! Project files.
#![no_main]

use std::path::Path;

use wafer_config::{Overrides, Project};

fn parse(text: &str) -> Option<Project> {
    Project::parse(Path::new("wafer.toml"), text, Overrides::default()).ok()
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Some(project) = parse(text) else {
        return;
    };
    // A comment at its end changes nothing.
    let commented = parse(&format!("{text}\n# The end."));
    assert_eq!(format!("{commented:?}"), format!("{:?}", Some(project)));
});
