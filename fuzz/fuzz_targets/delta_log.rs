//! The log of a Delta table: its first commit, and after lines of dashes a second one, the hint
//! that names the newest checkpoint, and a checkpoint in JSON.
#![no_main]

use std::path::Path;

use wafer_store::{AsOf, OfflineTables};

/// The names of the files of a log, in the order of their contents in an input.
const FILES: [&str; 4] = [
    "00000000000000000000.json",
    "00000000000000000001.json",
    "_last_checkpoint",
    "00000000000000000001.checkpoint.0f5e1d2c-0000-4444-8888-0123456789ab.json",
];

/// What is between the contents of two files.
const SEPARATOR: &[u8] = b"\n-----\n";

/// Returns the contents of the files.
fn parts(input: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (Vec::new(), input);
    while parts.len() + 1 < FILES.len() {
        let mut windows = rest.windows(SEPARATOR.len());
        let Some(place) = windows.position(|window| window == SEPARATOR) else {
            break;
        };
        parts.push(&rest[..place]);
        rest = &rest[place + SEPARATOR.len()..];
    }
    parts.push(rest);
    parts
}

/// Writes the files of the log of a table.
fn write(folder: &Path, table: &str, contents: &[&[u8]]) {
    let log = folder.join(table).join("_delta_log");
    std::fs::create_dir_all(&log).expect("a temporary folder can be made");
    for (name, content) in FILES.iter().zip(contents) {
        std::fs::write(log.join(name), content).expect("a temporary file can be written");
    }
}

/// Returns the columns and the number of files of a version of a table, if it can be read.
async fn described(
    tables: &OfflineTables,
    table: &str,
    as_of: AsOf,
) -> Option<(Vec<String>, usize)> {
    let snapshot = tables.snapshot(table, as_of).await.ok()?;
    Some((snapshot.columns(), snapshot.files().len()))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let parts = parts(bytes);
    let commits = &parts[..parts.len().min(2)];
    write(folder.path(), "whole", &parts);
    write(folder.path(), "both", commits);
    write(folder.path(), "first", &commits[..1]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime can be made").block_on(async {
        for version in [None, Some(0)] {
            let _ = wafer_pipelines::fuzzing::log(&folder.path().join("whole"), version).await;
        }
        let Ok(tables) = OfflineTables::in_folder(folder.path()) else {
            return;
        };
        described(&tables, "both", AsOf::Latest).await;
        // The first version of a table is what it was before there was a second one.
        let now = described(&tables, "both", AsOf::Version(0)).await;
        let before = described(&tables, "first", AsOf::Latest).await;
        assert_eq!(now, before);
    });
});
