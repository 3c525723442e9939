//! The log of a Delta table: its first commit, and a second one after a line of dashes.
#![no_main]

use std::path::Path;

use wafer_store::{AsOf, OfflineTables};

fn write(folder: &Path, commits: &[u8]) {
    let log = folder.join("t/_delta_log");
    std::fs::create_dir_all(&log).expect("a temporary folder can be made");
    let separator = b"\n-----\n";
    let place = commits
        .windows(separator.len())
        .position(|window| window == separator);
    let parts = match place {
        Some(place) => vec![&commits[..place], &commits[place + separator.len()..]],
        None => vec![commits],
    };
    for (version, commit) in parts.into_iter().enumerate() {
        std::fs::write(log.join(format!("{version:020}.json")), commit)
            .expect("a temporary file can be written");
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    write(folder.path(), bytes);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime can be made").block_on(async {
        let Ok(tables) = OfflineTables::in_folder(folder.path()) else {
            return;
        };
        for as_of in [AsOf::Latest, AsOf::Version(0)] {
            if let Ok(snapshot) = tables.snapshot("t", as_of).await {
                let _ = (snapshot.columns(), snapshot.files().len());
            }
        }
    });
});
