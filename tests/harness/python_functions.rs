//! Projects whose functions are in Python, and an index of packages for them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use flate2::Crc;
use serde_json::json;
use wafer_core::Digest;

use super::{Project, are_embedded, text, wafer};

/// A project whose stores have the interpreter as native code. To compile it takes a minute, so all
/// projects start with a copy of these stores, and they stay from one run of the tests to the next.
const COMPILED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/python-project");

const COMPILED_TOML: &str = r#"
[project]
name = "python"
[functions.same]
python = "same.py"
[views.same]
request = { x = "float64" }
functions = ["same"]
"#;

const COMPILED_PY: &str = "
from dataclasses import dataclass
import wafer

@dataclass
class In:
    x: float

@dataclass
class Out:
    y: float

@wafer.function
def same(row: In) -> Out:
    return Out(row.x)
";

/// Returns whether functions in Python are tested. The interpreter, which they share, is compiled
/// for them, which takes minutes.
pub(crate) fn are_tested() -> bool {
    let are_wanted = std::env::var_os("WAFER_TEST_PYTHON").is_some();
    if !are_wanted {
        println!("skipped: it takes minutes; `cargo xtask python` does it");
    }
    are_wanted && are_embedded()
}

/// Makes a project with this project file, in which the project is named `python`, and with the
/// interpreter in its stores. The tests run on the embedded stores.
pub(crate) fn python_project(wafer_toml: &str) -> Project {
    assert!(wafer_toml.contains("name = \"python\""), "{wafer_toml}");
    let project = Project::new(wafer_toml);
    copy_folder(&compiled().join(".wafer"), &project.path().join(".wafer"));
    project
}

/// Returns the folder of the project with the compiled interpreter.
fn compiled() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = PathBuf::from(COMPILED);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("wafer.toml"), COMPILED_TOML).unwrap();
        std::fs::write(folder.join("same.py"), COMPILED_PY).unwrap();
        let apply = || {
            wafer()
                .arg("-C")
                .arg(&folder)
                .arg("apply")
                .output()
                .unwrap()
        };
        let mut output = apply();
        if !output.status.success() {
            // Another version of the program has left stores that this one cannot read.
            let _ = std::fs::remove_dir_all(folder.join(".wafer"));
            output = apply();
        }
        assert!(output.status.success(), "{}", text(&output));
        folder
    });
    &FOLDER
}

/// Copies a folder with everything in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => {
                std::fs::copy(entry.path(), &to).unwrap();
            }
        }
    }
}

/// A file of a package: its name and its content.
pub(crate) type PackageFile = (&'static str, Vec<u8>);

/// Returns a wheel that has some modules.
pub(crate) fn wheel(name: &'static str, modules: &[(&str, &str)]) -> PackageFile {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (path, content) in modules {
        let mut crc = Crc::new();
        crc.update(content.as_bytes());
        let size = u32::try_from(content.len()).unwrap().to_le_bytes();
        let length = u16::try_from(path.len()).unwrap().to_le_bytes();
        let at = u32::try_from(archive.len()).unwrap().to_le_bytes();
        // Version 2.0, stored, on the first day that a ZIP archive knows.
        let first: [u8; 10] = [20, 0, 0, 0, 0, 0, 0, 0, 33, 0];
        let crc = crc.sum().to_le_bytes();
        let fields = [&first[..], &crc, &size, &size, &length, &[0, 0]].concat();
        archive.extend(
            [
                &b"PK\x03\x04"[..],
                &fields,
                path.as_bytes(),
                content.as_bytes(),
            ]
            .concat(),
        );
        directory.extend(
            [
                &b"PK\x01\x02\x14\0"[..],
                &fields,
                &[0; 10],
                &at,
                path.as_bytes(),
            ]
            .concat(),
        );
    }
    let count = u16::try_from(modules.len()).unwrap().to_le_bytes();
    let size = u32::try_from(directory.len()).unwrap().to_le_bytes();
    let at = u32::try_from(archive.len()).unwrap().to_le_bytes();
    archive.extend(directory);
    archive.extend(
        [
            &b"PK\x05\x06\0\0\0\0"[..],
            &count,
            &count,
            &size,
            &at,
            &[0, 0],
        ]
        .concat(),
    );
    (name, archive)
}

/// Starts an index that has some files of each package, and runs as long as the tests. Returns its
/// address.
pub(crate) fn package_index(packages: Vec<(&'static str, Vec<PackageFile>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let path = asked_path(&stream);
            let (status, body) = match answer(&packages, &path) {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", Vec::new()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // A client may have had enough.
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    format!("{url}/simple/")
}

/// Returns what an index answers for a path: the list of a package, or a file.
fn answer(packages: &[(&'static str, Vec<PackageFile>)], path: &str) -> Option<Vec<u8>> {
    let files = packages.iter().flat_map(|(_, files)| files);
    if let Some(wanted) = path.strip_prefix("/files/") {
        let mut files = files.filter(|(name, _)| *name == wanted);
        return files.next().map(|(_, content)| content.clone());
    }
    let wanted = path.strip_prefix("/simple/")?.strip_suffix('/')?;
    let (_, files) = packages.iter().find(|(name, _)| *name == wanted)?;
    let files = files.iter().map(|(name, content)| {
        let digest = Digest::of(content).hex();
        json!({"filename": name, "url": format!("/files/{name}"), "hashes": {"sha256": digest}})
    });
    let files: Vec<_> = files.collect();
    let list = json!({"meta": {"api-version": "1.0"}, "files": files});
    Some(list.to_string().into_bytes())
}

/// Reads the head of a request, and returns the path that it asks for.
fn asked_path(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines();
    let lines = lines.map_while(std::result::Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = head.first().and_then(|line| line.split(' ').nth(1));
    path.unwrap_or_default().to_owned()
}
