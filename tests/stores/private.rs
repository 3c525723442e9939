//! Files of the embedded stores, which only the user who runs Wafer can read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::are_embedded;
use crate::harness::ledger::{entry, ledger, lines, three_entries};

/// Returns the files and folders below a folder that others may read, write or list.
fn open_to_others(folder: &Path) -> Vec<PathBuf> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            open.extend(open_to_others(&path));
        }
        if path.metadata().unwrap().permissions().mode() & 0o077 != 0 {
            open.push(path);
        }
    }
    open
}

#[test]
fn files_of_the_embedded_stores_have_no_permissions_for_others() {
    if !are_embedded() {
        return;
    }
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    let server = project.serve(&[]);
    let event = lines(&[entry("a", "2020-01-03T00:00:00Z", 1, 1.0, "x")]);
    assert_eq!(server.events("entries", &event).0, 200);
    server.features("account", &json!([{"key_a": "a", "key_b": 1}]));
    // The outbox is flushed to the tables at the end.
    server.stop();
    let store = project.path().join(".wafer");
    for part in ["online", "artifacts", "offline"] {
        let folder = store.join(part);
        let mode = folder.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{part}");
        assert_eq!(open_to_others(&folder), Vec::<PathBuf>::new());
    }
}
