//! Project files.
#![no_main]

use std::path::Path;

use wafer_config::{Overrides, Project};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = Project::parse(Path::new("wafer.toml"), text, Overrides::default());
});
