//! Applied definitions whose artifact is damaged or missing.

use std::path::PathBuf;

use crate::harness::ledger::{ledger, three_entries};
use crate::harness::{Project, are_embedded, text};

/// Returns the files of the generations of definitions: the artifacts that are Zstandard.
fn generations(project: &Project) -> Vec<PathBuf> {
    let blobs = project.path().join(".wafer/artifacts/blobs");
    let folders = std::fs::read_dir(blobs).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    let is_compressed = |path: &PathBuf| {
        let content = std::fs::read(path).unwrap();
        content.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
    };
    paths.filter(is_compressed).collect()
}

/// Returns a project with rows in both groups, and the file of its generation.
fn applied() -> (Project, PathBuf) {
    let project = ledger("").applied_with("entries.ndjson", &three_entries());
    project.ok(&["run", "last_entry"]);
    let mut written = generations(&project);
    assert_eq!(written.len(), 1);
    (project, written.remove(0))
}

/// Applies, and returns what was printed.
fn apply(project: &Project) -> String {
    let output = project.command(&["apply"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[test]
fn apply_writes_damaged_or_missing_definitions_again() {
    if !are_embedded() {
        return;
    }
    let (project, generation) = applied();
    let whole = std::fs::read(&generation).unwrap();
    let views = project.ok(&["views"]);
    let damage = |content: Option<&str>| match content {
        Some(content) => std::fs::write(&generation, content).unwrap(),
        None => std::fs::remove_file(&generation).unwrap(),
    };
    for content in [Some("x"), None] {
        damage(content);
        let name = generation.file_name().unwrap().to_str().unwrap();
        for command in ["views", "plan", "doctor"] {
            let said = project.fails(&[command]);
            for part in [
                "generation 1 of the definitions of `ledger`",
                "`wafer apply`",
                name,
            ] {
                assert!(said.contains(part), "{command}: {said}");
            }
        }
        let said = apply(&project);
        for part in [
            "generation 1 of the definitions",
            "was written again",
            "nothing changed",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(std::fs::read(&generation).unwrap(), whole);
        assert_eq!(project.ok(&["views"]), views);
    }
}

#[test]
fn apply_takes_the_place_of_damaged_definitions_unless_rows_could_be_lost() {
    if !are_embedded() {
        return;
    }
    let (project, generation) = applied();
    std::fs::write(&generation, "x").unwrap();
    // The same versions of groups stay live.
    project.replace("ttl = \"10d\"", "ttl = \"11d\"");
    let said = apply(&project);
    for part in ["generation 1", "These definitions take its place"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(project.ok(&["plan"]).contains("nothing would change"));

    let mut later = generations(&project);
    later.retain(|path| *path != generation);
    assert_eq!(later.len(), 1);
    std::fs::remove_file(&later[0]).unwrap();
    project.replace("[groups.last_entry]", "[groups.last_entry]\nversion = 2");
    let said = project.fails(&["apply"]);
    for part in [
        "generation 2",
        "may not take its place",
        "last_entry_v1 may be",
        "`--now`",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!later[0].exists());
    project.ok(&["apply", "--now"]);
    assert!(project.ok(&["plan"]).contains("nothing would change"));
}
