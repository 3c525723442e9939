//! Applying and reading on a store in memory.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use wafer_core::{Clock as _, SettableClock, Timestamp};
use wafer_store::{Expect, MemoryStore, Overridden, OverriddenCalls};

use super::*;
use crate::applied::move_pointer;
use crate::context::{Components, Context};
use crate::definitions::ViewDef;

/// The stores of a project, of which one is in memory, the folder of its artifacts, and a clock
/// that stands still.
struct Project {
    store: Arc<MemoryStore>,
    stores: Stores,
    clock: Arc<SettableClock>,
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<MemoryStore> = Arc::default();
        Self {
            stores: Stores::with_folder(Arc::clone(&store), folder.path()).unwrap(),
            store,
            clock: Arc::new(SettableClock::stopped_at(Timestamp::from_micros(0))),
            folder,
        }
    }

    /// Returns the components of a process.
    fn components(&self) -> Components {
        let (stores, clock) = (self.stores.clone(), Arc::clone(&self.clock));
        Components::for_tests(stores, clock, "test").unwrap()
    }

    /// Opens the project as a process does.
    async fn open(&self) -> Result<Context> {
        Context::open("p", self.components()).await
    }

    /// Opens the project as a process does that applies definitions.
    async fn open_to_apply(&self) -> Context {
        let opened = Context::open_to_apply("p", self.components()).await;
        opened.unwrap()
    }

    /// Sets the clock, which showed zero when the project was made.
    fn set_clock(&self, second: i64) {
        let time = Timestamp::from_micros(second * 1_000_000);
        assert_eq!(self.clock.set(time), Some(time));
    }

    async fn read(&self) -> Result<Applied> {
        read(&self.stores, "p", &Applied::default(), OnDamage::Fail).await
    }

    /// Writes definitions as a generation with this number.
    async fn write(&self, number: u64, definitions: &Definitions) -> Generation {
        let definitions = Arc::new(definitions.clone());
        let digest = artifact::write(self.stores.artifacts.as_ref(), definitions).await;
        Generation {
            number,
            artifact: Some(digest.unwrap()),
        }
    }

    async fn point(&self, pointer: Pointer, based_on: &Applied) -> Result<()> {
        move_pointer(&self.stores, "p", pointer, based_on).await
    }

    /// Makes definitions live, as a generation with this number.
    async fn make_live(&self, number: u64, definitions: &Definitions) {
        let live = self.write(number, definitions).await;
        let based_on = self.read().await.unwrap();
        let pointer = Pointer {
            live,
            ..Pointer::default()
        };
        self.point(pointer, &based_on).await.unwrap();
    }

    async fn put(&self, name: &str, json: &serde_json::Value) {
        let value = Bytes::from(json.to_string());
        let put = self.stores.metadata.put(name, value, Expect::Anything);
        put.await.unwrap();
    }

    /// Writes views as an earlier version of Wafer did.
    async fn put_objects(&self, generation: u64, definitions: &Definitions) {
        for (name, view) in &definitions.views {
            let name = format!("p/definitions/{generation:08}/view/{name}");
            self.put(&name, &json!(view)).await;
        }
    }

    async fn names(&self) -> Vec<String> {
        let stored = self.stores.metadata.list("p/").await.unwrap();
        stored.into_iter().map(|(name, _)| name).collect()
    }

    fn artifact_path(&self, generation: Generation) -> std::path::PathBuf {
        let name = blob_name(generation.artifact.unwrap());
        self.folder.path().join("artifacts").join(name)
    }
}

/// Returns definitions of one view.
fn view(name: &str) -> Definitions {
    let view = ViewDef {
        inputs: Vec::new(),
        lookups: Vec::new(),
        functions: Vec::new(),
        doc: format!("the view {name}"),
    };
    Definitions {
        views: BTreeMap::from([(name.to_owned(), view)]),
        ..Definitions::default()
    }
}

#[test]
fn stored_pointers_keep_their_bytes_and_earlier_versions_refuse_those_to_artifacts() {
    /// What an earlier version of Wafer reads.
    #[derive(Deserialize)]
    struct EarlierPointer {
        live: u64,
        staged: Option<u64>,
    }
    let digest = Digest::of(b"");
    let in_artifact = |number| Generation {
        number,
        artifact: Some(digest),
    };
    let in_objects = |number| Generation {
        number,
        artifact: None,
    };
    let stored = format!(
        r#"{{"live":{{"number":7,"artifact":"{digest}"}},"staged":{{"number":8,"artifact":"{digest}"}},"spans":{{}},"endpoints":3}}"#
    );
    let pointer = Pointer {
        live: in_artifact(7),
        staged: Some(in_artifact(8)),
        spans: BTreeMap::new(),
        endpoints: 3,
    };
    assert_eq!(serde_json::to_string(&pointer).unwrap(), stored);
    assert_eq!(serde_json::from_str::<Pointer>(&stored).unwrap(), pointer);
    assert!(serde_json::from_str::<EarlierPointer>(&stored).is_err());

    // Earlier versions wrote this, and read it also when it counts changes of endpoints.
    for stored in [
        r#"{"live":3,"staged":4,"spans":{}}"#,
        r#"{"live":3,"staged":4,"spans":{},"endpoints":1}"#,
    ] {
        let read: Pointer = serde_json::from_str(stored).unwrap();
        assert_eq!(
            (read.live, read.staged),
            (in_objects(3), Some(in_objects(4)))
        );
        let again = serde_json::to_string(&read).unwrap();
        let earlier: EarlierPointer = serde_json::from_str(&again).unwrap();
        assert_eq!((earlier.live, earlier.staged), (3, Some(4)));
    }
}

#[tokio::test]
async fn applied_definitions_are_read_and_known_ones_not_again() {
    let project = Project::new();
    let nothing = project.read().await.unwrap();
    assert!(!nothing.is_only(&Definitions::default()));
    assert_eq!(
        (nothing.version, &*nothing.live),
        (0, &Definitions::default())
    );
    project.make_live(1, &view("a")).await;
    let first = project.read().await.unwrap();
    assert_eq!((first.pointer.live.number, &*first.live), (1, &view("a")));
    assert!(first.is_only(&view("a")) && !first.is_only(&view("b")));
    assert_eq!(project.names().await, ["p/applied"]);

    let staged = project.write(2, &view("b")).await;
    let pointer = Pointer {
        staged: Some(staged),
        ..first.pointer.clone()
    };
    project.point(pointer, &first).await.unwrap();
    // Without the artifact, what is live is found only by those who know it.
    std::fs::remove_file(project.artifact_path(first.pointer.live)).unwrap();
    let second = read(&project.stores, "p", &first, OnDamage::Fail)
        .await
        .unwrap();
    assert!(Arc::ptr_eq(&first.live, &second.live));
    assert_eq!(second.staged.as_deref(), Some(&view("b")));
    assert!(!second.is_only(&view("a")));
    assert!(project.read().await.is_err());

    // What was staged becomes live, and is known.
    let pointer = Pointer {
        live: staged,
        ..Pointer::default()
    };
    project.point(pointer, &second).await.unwrap();
    let third = read(&project.stores, "p", &second, OnDamage::Fail)
        .await
        .unwrap();
    assert!(Arc::ptr_eq(second.staged.as_ref().unwrap(), &third.live));
    assert!(third.staged.is_none());
}

/// A process with a pointer that has moved since still finds what it names.
#[tokio::test]
async fn earlier_generations_stay() {
    let project = Project::new();
    project.make_live(1, &view("a")).await;
    let first = project.read().await.unwrap().pointer.live;
    project.make_live(2, &view("b")).await;
    let artifacts = project.stores.artifacts.as_ref();
    let read = artifact::read(artifacts, first.artifact.unwrap()).await;
    assert_eq!(read.unwrap(), view("a"));
}

#[tokio::test]
async fn damaged_or_missing_artifacts_are_errors_that_name_them() {
    let project = Project::new();
    project.make_live(7, &view("a")).await;
    let live = project.read().await.unwrap().pointer.live;
    let path = project.artifact_path(live);
    let digest = live.artifact.unwrap().to_string();
    let error = async || {
        let error = project.read().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        let said = error.chain();
        for part in ["generation 7 of the definitions of `p`", &*digest] {
            assert!(said.contains(part), "{said}");
        }
        said
    };
    std::fs::write(&path, "something else").unwrap();
    assert!(error().await.contains("is damaged"));
    std::fs::remove_file(&path).unwrap();
    assert!(error().await.contains("has no artifact"));

    // An artifact that is whole, but not one of definitions.
    let other = Bytes::from_static(b"a component");
    let digest = Digest::of(&other);
    let name = blob_name(digest);
    project.stores.artifacts.put(&name, other).await.unwrap();
    let live = json!({"number": 8, "artifact": digest});
    project
        .put("p/applied", &json!({"live": live, "staged": null}))
        .await;
    let said = project.read().await.unwrap_err().chain();
    for part in ["generation 8", &*digest.to_string(), "how many bytes"] {
        assert!(said.contains(part), "{said}");
    }
}

/// Applying goes on in spite of damage, and what it writes is there again.
#[tokio::test]
async fn damaged_generations_are_noted_and_their_artifacts_written_again() {
    let project = Project::new();
    project.make_live(1, &view("a")).await;
    let first = project.read().await.unwrap();
    let staged = project.write(2, &view("b")).await;
    let pointer = Pointer {
        staged: Some(staged),
        ..first.pointer.clone()
    };
    project.point(pointer, &first).await.unwrap();
    let noted = async || {
        let nothing = Applied::default();
        let read = read(&project.stores, "p", &nothing, OnDamage::Note).await;
        read.unwrap()
    };
    let numbers = |applied: &Applied| -> Vec<u64> {
        let damaged = applied.damaged.iter();
        damaged.map(|damaged| damaged.generation.number).collect()
    };
    assert_eq!(numbers(&noted().await), [0; 0]);

    let live = first.pointer.live;
    std::fs::write(project.artifact_path(live), "something else").unwrap();
    std::fs::remove_file(project.artifact_path(staged)).unwrap();
    let damaged = noted().await;
    assert_eq!(numbers(&damaged), [1, 2]);
    assert_eq!(*damaged.live, Definitions::default());
    assert!(damaged.staged.is_none() && damaged.definitions_of(live).is_none());
    assert!(!damaged.is_only(&Definitions::default()));
    let name = blob_name(live.artifact.unwrap());
    let wanted = live.artifact.unwrap().to_string();
    let found = Digest::of(b"something else").to_string();
    for part in [
        "generation 1",
        "`wafer apply`, which writes it again",
        &name,
        &wanted,
        &found,
    ] {
        let reason = &damaged.damaged[0].reason;
        assert!(reason.contains(part), "{reason}");
    }

    // The name of the damaged artifact is taken, and its bytes are replaced all the same.
    assert_eq!(project.write(1, &view("a")).await, live);
    assert_eq!(numbers(&noted().await), [2]);
    assert_eq!(project.write(2, &view("b")).await, staged);
    assert_eq!(
        project.read().await.unwrap().staged.as_deref(),
        Some(&view("b"))
    );

    // Nothing is damaged that a later version wrote, so nothing may take its place.
    let json = br#"{"views":{},"news":{}}"#;
    let later = Bytes::from(zstd::bulk::compress(json, 1).unwrap());
    let digest = Digest::of(&later);
    let artifacts = &project.stores.artifacts;
    artifacts.put(&blob_name(digest), later).await.unwrap();
    let live = json!({"number": 3, "artifact": digest});
    project
        .put("p/applied", &json!({"live": live, "staged": null}))
        .await;
    for on_damage in [OnDamage::Fail, OnDamage::Note] {
        let read = read(&project.stores, "p", &Applied::default(), on_damage).await;
        let error = read.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let said = error.chain();
        assert!(said.contains("a newer version of Wafer wrote it"), "{said}");
    }
}

#[tokio::test]
async fn a_process_keeps_its_definitions_while_new_ones_cannot_be_read() {
    let project = Project::new();
    project.make_live(1, &view("a")).await;
    let context = project.open().await.unwrap();
    assert!(!context.poll().await.unwrap());

    project.make_live(2, &view("b")).await;
    let live = project.read().await.unwrap().pointer.live;
    let path = project.artifact_path(live);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, "x").unwrap();
    let first = context.poll().await.unwrap_err();
    assert_eq!(first.kind(), Kind::Corrupt);
    assert_eq!(*context.definitions(), view("a"));

    // It is not read again before the pause is over, although it is whole by now.
    std::fs::write(&path, whole).unwrap();
    let second = context.poll().await.unwrap_err();
    assert_eq!(second.to_string(), first.chain());
    project.set_clock(10);
    assert!(context.poll().await.unwrap());
    assert_eq!(*context.definitions(), view("b"));
    assert!(!context.poll().await.unwrap());
}

/// Definitions may be large, and every push asks for them.
#[tokio::test]
async fn definitions_that_cannot_be_read_are_not_read_again_for_each_push() {
    let project = Project::new();
    project.make_live(1, &view("a")).await;
    let context = project.open().await.unwrap();
    project.make_live(2, &view("b")).await;
    let live = project.read().await.unwrap().pointer.live;
    let path = project.artifact_path(live);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, "x").unwrap();
    // The last read is recent enough.
    assert_eq!(
        *context.lately_applied().await.unwrap().applied.live,
        view("a")
    );
    project.set_clock(1);
    let check = |error: &Error| {
        assert_eq!(error.kind(), Kind::Unavailable);
        let said = error.chain();
        for part in ["push them again", "generation 2 of the definitions"] {
            assert!(said.contains(part), "{said}");
        }
    };
    check(&context.lately_applied().await.unwrap_err());

    // It is whole by now, which is found out after the pause.
    std::fs::write(&path, whole).unwrap();
    for second in [1, 5, 10] {
        project.set_clock(second);
        check(&context.lately_applied().await.unwrap_err());
        assert_eq!(context.refresh().await.unwrap_err().kind(), Kind::Corrupt);
        assert_eq!(context.poll().await.unwrap_err().kind(), Kind::Corrupt);
    }
    // A pointer that has moved is followed at once.
    project.make_live(3, &view("c")).await;
    assert_eq!(
        *context.lately_applied().await.unwrap().applied.live,
        view("c")
    );
}

#[tokio::test]
async fn tasks_that_ask_at_the_same_time_make_one_read() {
    let project = Project::new();
    project.make_live(1, &view("a")).await;
    let counting = Arc::new(Overridden(CountingStore {
        store: Arc::clone(&project.store),
        reads: AtomicU64::new(0),
    }));
    let mut parts = project.components();
    parts.stores.metadata = Arc::clone(&counting) as _;
    let context = Context::open("p", parts).await.unwrap();
    project.set_clock(1);
    let before = counting.0.reads.load(Ordering::Relaxed);
    let ask = || context.lately_applied();
    let (first, second, third) = tokio::join!(ask(), ask(), ask());
    for lately in [first, second, third] {
        assert_eq!(*lately.unwrap().applied.live, view("a"));
    }
    assert_eq!(counting.0.reads.load(Ordering::Relaxed) - before, 1);
}

/// After the metadata store was restored from a backup, numbers of generations are given again.
#[tokio::test]
async fn other_definitions_of_the_same_number_are_not_still_applied() {
    let project = Project::new();
    project.make_live(1, &view("a")).await;
    let context = project.open().await.unwrap();
    let before = context.lately_applied().await.unwrap();
    project.set_clock(1);
    let same = context.still_applied(before).await.unwrap();
    project.make_live(1, &view("b")).await;
    project.set_clock(2);
    let error = context.still_applied(same).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
}

/// A metadata store that was restored from a backup has an earlier pointer, which counts then.
#[tokio::test]
async fn a_pointer_that_goes_back_is_followed_and_a_lost_one_is_not() {
    let project = Project::new();
    project.make_live(1, &view("a")).await;
    let metadata = Arc::clone(&project.stores.metadata);
    let backup = metadata.get("p/applied").await.unwrap().unwrap();
    project.make_live(2, &view("b")).await;
    project.make_live(3, &view("c")).await;
    let context = project.open().await.unwrap();
    assert_eq!(*context.definitions(), view("c"));

    metadata
        .delete("p/applied", Expect::Anything)
        .await
        .unwrap();
    let lost = context.poll().await.unwrap_err();
    assert_eq!(lost.kind(), Kind::Corrupt);
    assert!(lost.to_string().contains("`p/applied`"), "{lost}");
    // A change of endpoints, which writes a pointer that names nothing, does not end that.
    project
        .put(
            "p/applied",
            &json!({"live": 0, "staged": null, "endpoints": 1}),
        )
        .await;
    let empty = context.poll().await.unwrap_err();
    assert_eq!(empty.to_string(), lost.to_string());
    assert_eq!(*context.definitions(), view("c"));
    metadata
        .delete("p/applied", Expect::Anything)
        .await
        .unwrap();

    // The version of the object begins at 1 again.
    let put = metadata.put("p/applied", backup.value, Expect::Absent);
    assert_eq!(put.await.unwrap(), 1);
    assert!(context.poll().await.unwrap());
    assert_eq!(*context.definitions(), view("a"));
    // What is applied then is followed as well, with a version that was known before.
    project.make_live(4, &view("d")).await;
    assert!(context.poll().await.unwrap());
    project.make_live(5, &view("e")).await;
    assert!(context.poll().await.unwrap());
    assert_eq!(*context.definitions(), view("e"));
}

#[tokio::test]
async fn an_apply_mends_what_it_knows_and_leaves_the_rest() {
    let project = Project::new();
    project.make_live(1, &view("a")).await;
    let live = project.read().await.unwrap().pointer.live;
    std::fs::remove_file(project.artifact_path(live)).unwrap();
    assert!(project.open().await.is_err());
    let context = project.open_to_apply().await;
    assert!(context.mend(&view("b")).await.unwrap().is_empty());
    assert_eq!(context.applied().damaged.len(), 1);
    assert_eq!(context.mend(&view("a")).await.unwrap(), [live]);
    assert!(context.applied().damaged.is_empty());
    assert!(context.applied().is_only(&view("a")));
    assert!(context.mend(&view("a")).await.unwrap().is_empty());
}

#[tokio::test]
async fn invalid_pointers_are_errors_that_show_what_one_looks_like() {
    let project = Project::new();
    let digest = Digest::of(b"").to_string();
    for (live, wanted) in [
        (
            json!({"number": 7, "artifact": "sha256:zz"}),
            "`sha256:zz` is not a digest",
        ),
        (json!("sha256:zz"), r#""sha256:zz" is not a generation"#),
        (json!({"number": -1, "artifact": digest}), "invalid value"),
        (json!({"number": 7}), "missing field `artifact`"),
        (json!({"number": 0, "artifact": digest}), "numbered from 1"),
        (json!(-1), "-1 is not a generation"),
        (json!(null), "null is not a generation"),
    ] {
        let pointer = json!({"live": live, "staged": null});
        project.put("p/applied", &pointer).await;
        let error = project.read().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        let said = error.chain();
        let form = r#"{"number":7,"artifact":"sha256:…"}"#;
        for part in ["`p/applied`", "looks like", form, wanted] {
            assert!(said.contains(part), "{pointer}: {said}");
        }
    }
    for (staged, wanted) in [
        (json!(3), "generation 3 is both live and staged"),
        (json!(0), "generation 0 is staged"),
    ] {
        let pointer = json!({"live": 3, "staged": staged});
        project.put("p/applied", &pointer).await;
        let error = project.read().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.chain().contains(wanted), "{}", error.chain());
    }
}

/// What is not known would be lost when the pointer is written again, as by each change of an
/// endpoint.
#[tokio::test]
async fn pointers_of_a_newer_version_are_refused_and_not_written_over() {
    let project = Project::new();
    project.make_live(1, &view("a")).await;
    let context = project.open().await.unwrap();
    let digest = Digest::of(b"").to_string();
    let live = json!({"number": 7, "artifact": digest});
    for (pointer, wanted) in [
        (json!({"live": live, "staged": null, "new": 1}), "has `new`"),
        (
            json!({"live": {"number": 7, "artifact": digest, "new": 1}, "staged": null}),
            "has `live.new`",
        ),
    ] {
        project.put("p/applied", &pointer).await;
        let error = project.read().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let said = error.to_string();
        for part in ["`p/applied`", wanted, "a newer version of Wafer wrote it"] {
            assert!(said.contains(part), "{pointer}: {said}");
        }
        assert_eq!(context.poll().await.unwrap_err().kind(), Kind::Invalid);
        assert!(context.count_endpoint_change().await.is_err());
        let kept = project.stores.metadata.get("p/applied").await.unwrap();
        assert_eq!(kept.unwrap().value, pointer.to_string());
    }
}

/// The process knows nothing of what was applied before: records of it tell.
#[tokio::test]
async fn a_pointer_that_names_nothing_after_an_apply_is_damaged() {
    let project = Project::new();
    let nothing = json!({"live": 0, "staged": null, "endpoints": 2});
    project.put("p/applied", &nothing).await;
    assert!(project.read().await.unwrap().damaged.is_empty());

    let context = project.open().await.unwrap();
    let live = context.write_generation(&view("a")).await.unwrap();
    let pointer = Pointer {
        live,
        ..Pointer::default()
    };
    let applied = context.applied();
    context.point(pointer, &applied).await.unwrap();
    let metadata = &project.stores.metadata;
    for pointer in [None, Some(nothing)] {
        match &pointer {
            Some(pointer) => project.put("p/applied", pointer).await,
            None => {
                let deleted = metadata.delete("p/applied", Expect::Anything);
                deleted.await.unwrap();
            }
        }
        let error = project.open().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        for part in ["object `p/applied`", "`wafer apply`"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        let context = project.open_to_apply().await;
        let applied = context.applied();
        assert_eq!(applied.damaged.len(), 1);
        assert_eq!(applied.damaged[0].generation, Generation::default());
        assert!(context.mend(&view("a")).await.unwrap().is_empty());
        let pointer = Pointer {
            live,
            ..Pointer::default()
        };
        context.point(pointer, &applied).await.unwrap();
        assert_eq!(*context.definitions(), view("a"));
    }
}

/// Every version of Wafer writes a JSON object, so that nobody needs what is there instead.
#[tokio::test]
async fn a_pointer_that_is_not_a_json_object_is_damaged_and_an_apply_writes_another() {
    let project = Project::new();
    project.make_live(1, &view("a")).await;
    let running = project.open().await.unwrap();
    for (stored, number) in ["", "x", r#"{"live":"#, "[]", "3", "null"]
        .into_iter()
        .zip(2..)
    {
        let metadata = &project.stores.metadata;
        let put = metadata.put("p/applied", Bytes::from(stored), Expect::Anything);
        put.await.unwrap();
        let opened = project.open().await.unwrap_err();
        let polled = running.poll().await.unwrap_err();
        for error in [opened, polled] {
            assert_eq!(error.kind(), Kind::Corrupt);
            for part in [
                "object `p/applied` in memory",
                "not a JSON object",
                "`wafer apply`",
            ] {
                assert!(error.to_string().contains(part), "{stored}: {error}");
            }
        }
        assert_eq!(*running.definitions(), view("a"));

        let context = project.open_to_apply().await;
        let applied = context.applied();
        assert_eq!(applied.damaged.len(), 1, "{stored}");
        assert_eq!(applied.damaged[0].generation, Generation::default());
        assert!(!applied.is_only(&Definitions::default()));
        assert!(context.mend(&view("b")).await.unwrap().is_empty());
        let pointer = Pointer {
            live: project.write(number, &view("b")).await,
            ..Pointer::default()
        };
        context.point(pointer, &applied).await.unwrap();
        assert_eq!(*context.definitions(), view("b"));
        assert_eq!(*project.read().await.unwrap().live, view("b"));
    }
    assert!(running.poll().await.unwrap());
    assert_eq!(*running.definitions(), view("b"));
}

#[tokio::test]
async fn objects_that_are_gone_are_damaged_definitions_if_there_are_tables() {
    let project = Project::new();
    let pointer = json!({"live": 9, "staged": null});
    project.put("p/applied", &pointer).await;
    // An earlier version may have applied a project without groups.
    assert_eq!(*project.read().await.unwrap().live, Definitions::default());
    project.put("p/table/g_v1", &json!({})).await;
    let error = project.read().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    for part in ["generation 9", "`p/definitions/00000009/`", "`wafer apply`"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let noted = read(&project.stores, "p", &Applied::default(), OnDamage::Note).await;
    assert_eq!(noted.unwrap().damaged[0].generation.number, 9);
}

#[tokio::test]
async fn definitions_of_earlier_versions_are_read_until_the_next_apply_removes_them() {
    let project = Project::new();
    project.put_objects(3, &view("a")).await;
    project.put_objects(4, &view("b")).await;
    let pointer = json!({"live": 3, "staged": 4, "spans": {}});
    project.put("p/applied", &pointer).await;
    let before = project.read().await.unwrap();
    assert!(before.is_in_objects());
    assert_eq!(*before.live, view("a"));
    assert_eq!(before.staged.as_deref(), Some(&view("b")));

    // What stays live is written as an artifact too.
    let staged = project.write(5, &view("c")).await;
    let pointer = Pointer {
        staged: Some(staged),
        ..before.pointer.clone()
    };
    project.point(pointer, &before).await.unwrap();
    let after = project.read().await.unwrap();
    assert!(!after.is_in_objects());
    assert_eq!((after.pointer.live.number, &*after.live), (3, &view("a")));
    assert_eq!(after.staged.as_deref(), Some(&view("c")));
    assert_eq!(project.names().await, ["p/applied"]);
}

#[tokio::test]
async fn definitions_of_earlier_versions_are_written_anew_by_an_apply_that_changes_nothing() {
    let project = Project::new();
    project.put_objects(3, &view("a")).await;
    let pointer = json!({"live": 3, "staged": null, "spans": {}});
    project.put("p/applied", &pointer).await;
    assert!(!project.read().await.unwrap().is_only(&view("a")));
    project.make_live(4, &view("a")).await;
    assert!(project.read().await.unwrap().is_only(&view("a")));
    assert_eq!(project.names().await, ["p/applied"]);
}

#[tokio::test]
async fn one_of_two_concurrent_applies_fails_and_changes_of_endpoints_do_not_matter() {
    let project = Project::new();
    project.make_live(1, &view("a")).await;
    let based_on = project.read().await.unwrap();
    let mut counted = based_on.pointer.clone();
    counted.endpoints += 1;
    project.put("p/applied", &json!(counted)).await;

    let pointer = |live| Pointer {
        live,
        ..Pointer::default()
    };
    let second = pointer(project.write(2, &view("b")).await);
    project.point(second, &based_on).await.unwrap();
    let applied = project.read().await.unwrap();
    assert_eq!((&*applied.live, applied.pointer.endpoints), (&view("b"), 1));

    let third = pointer(project.write(3, &view("c")).await);
    let error = project.point(third, &based_on).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains("at the same time"), "{error}");
    assert_eq!(*project.read().await.unwrap().live, view("b"));
}

/// The pointer has moved when the clean-up begins, so the apply has succeeded even if that fails.
#[tokio::test]
async fn objects_that_cannot_be_removed_do_not_fail_the_apply() {
    let project = Project::new();
    project.put_objects(3, &view("a")).await;
    let pointer = json!({"live": 3, "staged": null, "spans": {}});
    project.put("p/applied", &pointer).await;
    let based_on = project.read().await.unwrap();
    let stores = Stores {
        metadata: Arc::new(Overridden(KeepingStore(Arc::clone(&project.store)))),
        ..project.stores.clone()
    };
    let live = project.write(4, &view("b")).await;
    let pointer = Pointer {
        live,
        ..Pointer::default()
    };
    move_pointer(&stores, "p", pointer, &based_on)
        .await
        .unwrap();
    assert_eq!(*project.read().await.unwrap().live, view("b"));
    assert_eq!(project.names().await.len(), 2);

    // The next apply removes what was left.
    project.make_live(5, &view("c")).await;
    assert_eq!(project.names().await, ["p/applied"]);
}

/// A store that deletes nothing.
#[derive(Debug)]
struct KeepingStore(Arc<MemoryStore>);

#[async_trait]
impl OverriddenCalls for KeepingStore {
    fn store(&self) -> &MemoryStore {
        &self.0
    }

    async fn delete(&self, _name: &str, _expect: Expect) -> Result<()> {
        Err(Error::new(Kind::Unavailable, "nothing is deleted"))
    }
}

/// A store that counts reads of objects, during which other tasks go on.
#[derive(Debug)]
struct CountingStore {
    store: Arc<MemoryStore>,
    reads: AtomicU64,
}

#[async_trait]
impl OverriddenCalls for CountingStore {
    fn store(&self) -> &MemoryStore {
        &self.store
    }

    async fn get(&self, name: &str) -> Result<Option<Versioned>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.store.get(name).await
    }
}

/// A store whose pointer moves, once, between two reads of objects, and whose objects are removed
/// then.
#[derive(Debug)]
struct MovingStore {
    store: Arc<MemoryStore>,
    lists: AtomicU64,
}

#[async_trait]
impl OverriddenCalls for MovingStore {
    fn store(&self) -> &MemoryStore {
        &self.store
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>> {
        // The views are listed after sources, functions, groups and pipelines.
        if self.lists.fetch_add(1, Ordering::Relaxed) == 3 {
            let pointer = Bytes::from_static(br#"{"live":2,"staged":null}"#);
            let put = self.store.put("p/applied", pointer, Expect::Anything);
            put.await?;
            for (name, _) in self.store.list("p/definitions/00000001/").await? {
                self.store.delete(&name, Expect::Anything).await?;
            }
        }
        self.store.list(prefix).await
    }
}

#[tokio::test]
async fn objects_that_are_removed_while_they_are_read_are_read_again() {
    let project = Project::new();
    project.put_objects(1, &view("a")).await;
    project.put_objects(2, &view("b")).await;
    let pointer = json!({"live": 1, "staged": null, "spans": {}});
    project.put("p/applied", &pointer).await;
    let moving = MovingStore {
        store: Arc::clone(&project.store),
        lists: AtomicU64::new(0),
    };
    let stores = Stores {
        metadata: Arc::new(Overridden(moving)),
        ..project.stores
    };
    let applied = read(&stores, "p", &Applied::default(), OnDamage::Fail)
        .await
        .unwrap();
    assert_eq!(
        (applied.pointer.live.number, &*applied.live),
        (2, &view("b"))
    );
}
