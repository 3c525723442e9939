//! Disks that are full, and files that cannot grow.

use crate::harness::ledger::{event, ledger};
use crate::harness::{Project, text};

/// A small disk, which is mounted for the test. This needs the right to mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        mounted
            .is_ok_and(|m| m.status.success())
            .then(|| Self(folder))
    }

    /// Returns how much of the disk is used.
    fn used_kib(&self) -> u64 {
        let mut used = std::process::Command::new("df");
        let used = used.args(["--output=used", "-k"]).arg(self.0.path());
        let said = text(&used.output().unwrap());
        said.lines().last().unwrap().trim().parse().unwrap()
    }

    fn resize(&self, kib: u64) {
        let resized = std::process::Command::new("mount")
            .args(["-o", &format!("remount,size={kib}k")])
            .arg(self.0.path())
            .status();
        assert!(resized.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn a_full_disk_fails_the_run_and_the_table_stays_readable() {
    if !crate::harness::are_embedded() {
        return;
    }
    let Some(disk) = SmallDisk::mount("64m") else {
        println!("skipped: no right to mount a small disk");
        return;
    };
    let project = Project::flights();
    let store = disk.0.path().join("store");
    project.replace(
        "name = \"flights\"\n",
        &format!(
            "name = \"flights\"\n[store]\npath = \"{}\"\n",
            store.display()
        ),
    );
    project.ok(&["apply"]);
    project.ok(&["run", "airport"]);
    disk.resize(disk.used_kib() + 1_024);
    let output = project.command(&["run", "plane_outcome"]).output().unwrap();
    let said = text(&output);
    assert!(!output.status.success());
    assert!(
        said.contains("No space left on device") || said.contains("disk is full"),
        "{said}"
    );
    // Earlier rows can still be read, and the run can be repeated once there is room.
    assert!(project.ok(&["runs"]).contains("failed"));
    disk.resize(64 << 10);
    assert_eq!(
        project.json(&["run", "plane_outcome"])["rows_written"],
        328_063
    );
}

#[test]
fn readiness_sees_a_full_disk_and_events_are_refused_until_there_is_room() {
    if !crate::harness::are_embedded() {
        return;
    }
    let Some(disk) = SmallDisk::mount("64m") else {
        println!("skipped: no right to mount a small disk");
        return;
    };
    let project = ledger("");
    let store = disk.0.path().join("store");
    project.replace(
        "name = \"ledger\"\n",
        &format!(
            "name = \"ledger\"\n[store]\npath = \"{}\"\n",
            store.display()
        ),
    );
    project.ok(&["apply"]);
    let server = project.serve(&[]);
    assert_eq!(server.get("/readyz").0, 200);
    disk.resize(disk.used_kib());
    let (status, answer) = server.get("/readyz");
    assert_eq!(status, 503, "{answer}");
    assert_eq!(server.get("/healthz").0, 200);
    // Pages that became free are used again, so some events may still be accepted.
    for number in 0..200 {
        let (status, answer) = server.events("entries", &event("a", number));
        assert!([200, 503].contains(&status), "{status}: {answer}");
    }
    disk.resize(64 << 10);
    assert_eq!(server.get("/readyz").0, 200);
    assert_eq!(server.events("entries", &event("b", 1)).0, 200);
    server.stop();
}

/// The same is tested without the right to mount, by limiting the size of files to 2 MiB.
#[test]
fn files_that_cannot_grow_fail_the_run_and_it_can_be_repeated() {
    if !crate::harness::are_embedded() {
        return;
    }
    let project = Project::flights().applied();
    project.ok(&["run", "airport"]);
    let run = format!(
        "trap '' XFSZ; ulimit -f 2048; exec {} -C {} run plane_outcome",
        crate::harness::BINARY,
        project.path().display()
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &run])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(
        text(&output).contains("File too large"),
        "{}",
        text(&output)
    );
    assert!(project.offline("plane_outcome_v1").is_empty());
    assert_eq!(project.offline("airport_v1").len(), 1_458);
    assert_eq!(
        project.json(&["run", "plane_outcome"])["rows_written"],
        328_063
    );
}
