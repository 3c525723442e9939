//! Applied definitions whose artifact is damaged or missing, or whose pointer is lost or damaged,
//! and damaged definitions of tables.

use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use wafer_core::Digest;
use wafer_store::{Expect, Lmdb, LmdbConfig, MetadataStore as _, blob_name};

use crate::harness::ledger::{event, ledger, three_entries};
use crate::harness::{Project, are_embedded, text, wait_for};

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

/// Nobody writes to the pipe, so that whoever reads it waits for ever.
#[test]
fn a_pipe_or_a_folder_in_the_place_of_definitions_is_damage() {
    if !are_embedded() {
        return;
    }
    let (project, generation) = applied();
    let path = generation.display().to_string();
    std::fs::remove_file(&generation).unwrap();
    let made = Command::new("mkfifo").arg(&generation).status();
    assert!(made.unwrap().success());
    for command in [&["views"][..], &["get", "account", "key_a=a", "key_b=1"]] {
        let said = project.fails(command);
        for part in [&*path, "a named pipe is in the place", "`wafer apply`"] {
            assert!(said.contains(part), "{command:?}: {said}");
        }
    }
    assert!(apply(&project).contains("was written again"));
    project.ok(&["views"]);

    std::fs::remove_file(&generation).unwrap();
    std::fs::create_dir(&generation).unwrap();
    for command in ["views", "apply"] {
        let said = project.fails(&[command]).to_lowercase();
        for part in ["a folder is in", "remove it"] {
            assert!(said.contains(part), "{command}: {said}");
        }
    }
    std::fs::remove_dir(&generation).unwrap();
    assert!(apply(&project).contains("was written again"));
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

/// The metadata store of a project, beside the processes that use it.
struct Metadata {
    store: Lmdb,
    runtime: tokio::runtime::Runtime,
}

impl Metadata {
    fn of(project: &Project) -> Self {
        let config = LmdbConfig {
            path: project.path().join(".wafer/online"),
            map_size: 1 << 30,
        };
        Self {
            store: Lmdb::open(&config).unwrap(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    /// Replaces the pointer to the definitions, or removes it.
    fn point(&self, pointer: Option<String>) {
        let name = "ledger/applied";
        match pointer {
            Some(pointer) => self.put(name, pointer),
            None => {
                let deleted = self.store.delete(name, Expect::Anything);
                self.runtime.block_on(deleted).unwrap();
            }
        }
    }

    /// Replaces an object.
    fn put(&self, name: &str, value: String) {
        let put = self.store.put(name, Bytes::from(value), Expect::Anything);
        self.runtime.block_on(put).unwrap();
    }
}

#[test]
fn a_project_whose_pointer_is_lost_is_damaged_and_not_new() {
    if !are_embedded() {
        return;
    }
    let (project, _) = applied();
    let metadata = Metadata::of(&project);
    for pointer in [
        None,
        Some(r#"{"live":0,"staged":null}"#),
        Some(r#"{"live":9,"staged":null}"#),
        Some(r#"{"live":"#),
        Some("no JSON"),
    ] {
        metadata.point(pointer.map(str::to_owned));
        for command in ["views", "plan"] {
            let said = project.fails(&[command]);
            let place = format!("{pointer:?} {command}: {said}");
            assert!(said.contains("`wafer apply`"), "{place}");
        }
        let said = apply(&project);
        let wanted = "These definitions take its place";
        assert!(said.contains(wanted), "{pointer:?}: {said}");
        assert!(project.ok(&["plan"]).contains("nothing would change"));
    }

    metadata.point(None);
    project.replace("[groups.last_entry]", "[groups.last_entry]\nversion = 2");
    let said = project.fails(&["apply"]);
    for part in [
        "the pointer to the applied definitions",
        "`ledger/applied`",
        "may not take its place",
        "last_entry_v1 may be",
        "`--now`",
    ] {
        assert!(said.contains(part), "{said}");
    }
    project.ok(&["apply", "--now"]);
    assert!(project.ok(&["plan"]).contains("nothing would change"));
}

#[test]
fn definitions_that_name_what_is_not_there_are_damaged() {
    if !are_embedded() {
        return;
    }
    let (project, generation) = applied();
    let metadata = Metadata::of(&project);
    let packed = std::fs::read(&generation).unwrap();
    let whole = String::from_utf8(zstd::decode_all(&packed[..]).unwrap()).unwrap();
    for (from, to, wanted) in [
        (
            r#""lookups":[{"group":"last_entry""#,
            r#""lookups":[{"group":"nope""#,
            "view `account` names group `nope`",
        ),
        (
            r#""pipelines":{"last_entry":{"source":"entries""#,
            r#""pipelines":{"last_entry":{"source":"nope""#,
            "pipeline `last_entry` names source `nope`",
        ),
        (
            r#""models":{}"#,
            r#""models":{},"views":{}"#,
            "`views` is there twice",
        ),
    ] {
        assert!(whole.contains(from), "{whole}");
        let json = whole.replacen(from, to, 1);
        let packed = zstd::bulk::compress(json.as_bytes(), 1).unwrap();
        let digest = Digest::of(&packed);
        let path = project
            .path()
            .join(".wafer/artifacts")
            .join(blob_name(digest));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, packed).unwrap();
        metadata.point(Some(format!(
            r#"{{"live":{{"number":1,"artifact":"{digest}"}},"staged":null}}"#
        )));
        for command in [&["views"][..], &["get", "account", "key_a=a", "key_b=1"]] {
            let said = project.fails(command);
            for part in ["generation 1", wanted, "`wafer apply`"] {
                assert!(said.contains(part), "{command:?}: {said}");
            }
        }
    }
    let said = apply(&project);
    assert!(said.contains("These definitions take its place"), "{said}");
}

/// The applied definitions say what it was.
#[test]
fn a_damaged_definition_of_a_table_is_named_and_apply_writes_it_again() {
    if !are_embedded() {
        return;
    }
    let (project, _) = applied();
    let metadata = Metadata::of(&project);
    let export = ["export", "last_entry_v1", "-"];
    let rows = project.ok(&export);
    for stored in ["{", r#"{"name":"sums_v1","keys":[],"columns":[]}"#] {
        metadata.put("ledger/table/last_entry_v1", stored.to_owned());
        for command in [&export[..], &["drop"]] {
            let said = project.fails(command);
            for part in [
                "table `last_entry_v1`",
                "object `ledger/table/last_entry_v1`",
                "run `wafer apply`",
            ] {
                assert!(said.contains(part), "{command:?}: {said}");
            }
        }
        assert!(apply(&project).contains("nothing changed"));
        assert_eq!(project.ok(&export), rows);
        project.ok(&["drop"]);
    }
    apply_mends_definitions_and_a_table_that_are_damaged_together(&project, &metadata);
    apply_replaces_a_version_that_has_rows_on_their_way_to_a_damaged_table(&project, &metadata);
}

/// The project says what both were, and the table whether it may be so.
fn apply_mends_definitions_and_a_table_that_are_damaged_together(
    project: &Project,
    metadata: &Metadata,
) {
    let export = ["export", "last_entry_v1", "-"];
    let rows = project.ok(&export);
    let damage = || {
        let live = generations(project);
        assert_eq!(live.len(), 1);
        std::fs::write(&live[0], "x").unwrap();
        metadata.put("ledger/table/last_entry_v1", "{".to_owned());
    };
    damage();
    assert!(apply(project).contains("was written again"));
    assert_eq!(project.ok(&export), rows);

    damage();
    project.replace("ttl = \"10d\"", "ttl = \"11d\"\ncolumns = [\"small\"]");
    let said = project.fails(&["apply"]);
    let wanted = "table `last_entry_v1` has `amount`";
    assert!(said.contains(wanted), "{said}");
    project.replace("\ncolumns = [\"small\"]", "");
    assert!(apply(project).contains("These definitions take its place"));
    assert_eq!(project.ok(&export), rows);
    damage();
    assert!(apply(project).contains("was written again"));
}

fn apply_replaces_a_version_that_has_rows_on_their_way_to_a_damaged_table(
    project: &Project,
    metadata: &Metadata,
) {
    let export = ["export", "last_entry_v1", "-"];
    assert!(!project.ok(&export).contains("on-its-way"));
    let server = project.serve(&[]);
    // Nothing is appended to a table without its definition.
    metadata.put("ledger/table/last_entry_v1", "{".to_owned());
    assert_eq!(server.events("entries", &event("on-its-way", 1)).0, 200);
    server.kill();
    // One that nothing writes any more, and that has no rows on their way, disturbs nobody.
    metadata.put("ledger/table/last_entry_v7", "{".to_owned());
    project.replace("[groups.last_entry]", "[groups.last_entry]\nversion = 2");
    project.ok(&["apply", "--now"]);
    assert!(project.ok(&["plan"]).contains("nothing would change"));
    assert!(project.ok(&export).contains("on-its-way"));
}

/// Whoever balances the load can send pushes to a server that takes them.
#[test]
fn a_server_that_takes_in_no_events_is_not_ready() {
    if !are_embedded() {
        return;
    }
    let (project, _) = applied();
    let metadata = Metadata::of(&project);
    let server = project.serve(&[]);
    assert_eq!(server.get("/readyz").0, 200);
    let digest = Digest::of(b"missing");
    metadata.point(Some(format!(
        r#"{{"live":{{"number":2,"artifact":"{digest}"}},"staged":null}}"#
    )));
    wait_for("it is not ready", || server.get("/readyz").0 == 503);
    let (_, answer) = server.get("/readyz");
    let said = answer["error"]["message"].as_str().unwrap();
    for part in ["no events are taken in", "generation 2", "`wafer apply`"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(server.events("entries", &event("a", 1)).0, 503);
    let rows = serde_json::json!([{"key_a": "a", "key_b": 1}]);
    assert_eq!(server.features("account", &rows).len(), 1);
}
