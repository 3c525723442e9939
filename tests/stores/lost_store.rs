//! Stores whose files were cut, emptied, deleted or replaced: nothing is served from them, and
//! nothing is acknowledged that nobody would find.

use std::path::PathBuf;

use crate::harness::ledger::{event, ledger, three_entries};
use crate::harness::{Project, text};

fn data_file(project: &Project) -> PathBuf {
    project.path().join(".wafer/online/data.mdb")
}

fn filled() -> Project {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    project
}

#[test]
fn a_data_file_that_was_cut_or_emptied_is_refused() {
    if !crate::harness::are_embedded() {
        return;
    }
    let project = filled();
    let path = data_file(&project);
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 1, 4_096, 8_192, 8_193, 3 * 4_096, whole.len() / 2] {
        std::fs::write(&path, &whole[..length]).unwrap();
        for command in [&["runs"][..], &["run", "last_entry"], &["apply"]] {
            let output = project.command(command).output().unwrap();
            let said = text(&output);
            // A process that is ended by a signal has no code.
            assert_eq!(
                output.status.code(),
                Some(1),
                "{length} {command:?}: {said}"
            );
            assert!(said.contains("online"), "{length} {command:?}: {said}");
        }
        assert_eq!(
            std::fs::metadata(&path).unwrap().len(),
            length as u64,
            "nothing was made of it"
        );
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(project.ok(&["runs"]).contains("last_entry"));
    // A store that is not there at all is a new one.
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    project.ok(&["apply"]);
}

#[test]
fn a_server_whose_store_is_gone_says_so_and_acknowledges_nothing() {
    if !crate::harness::are_embedded() {
        return;
    }
    type Loss = fn(&Project);
    let losses: [(&str, Loss); 3] = [
        ("was deleted", |project| {
            std::fs::remove_dir_all(project.path().join(".wafer")).unwrap();
        }),
        ("was deleted", |project| {
            std::fs::rename(
                project.path().join(".wafer/online"),
                project.path().join(".wafer/moved"),
            )
            .unwrap();
        }),
        ("was replaced", |project| {
            let other = project.path().join("copy.mdb");
            std::fs::copy(data_file(project), &other).unwrap();
            std::fs::rename(other, data_file(project)).unwrap();
        }),
    ];
    for (wanted, lose) in losses {
        let project = ledger("").applied_with("entries.ndjson", "");
        let server = project.serve(&[]);
        assert_eq!(server.events("entries", &event("a", 1)).0, 200);
        assert_eq!(server.get("/readyz").0, 200);
        lose(&project);
        let (status, answer) = server.events("entries", &event("a", 2));
        assert_eq!(status, 503, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(wanted), "{message}");
        assert_eq!(server.get("/readyz").0, 503);
        assert_eq!(server.get("/healthz").0, 200);
        let rows = serde_json::json!({"rows": [{"key_a": "a", "key_b": 1}]}).to_string();
        let (status, _) = server.post("/v1/views/account/features", "application/json", rows);
        assert_eq!(status, 503);
    }
}
