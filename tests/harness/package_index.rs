//! An index of packages for functions in Python.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use flate2::Crc;
use serde_json::json;
use wafer_core::Digest;

use super::{CACHE, Project};

/// Returns a folder for what `wafer` keeps for all projects, in which the packages are those of one
/// project alone. Native code is that of all tests, because the interpreter takes a minute to
/// compile.
pub(crate) fn cache_without_packages(project: &Project) -> PathBuf {
    let cache = project.path().join("cache");
    if !cache.exists() {
        let code = Path::new(CACHE).join("code");
        // As `wafer` makes it: code is kept only where others cannot write.
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&code);
        made.unwrap();
        std::fs::create_dir(&cache).unwrap();
        symlink(code, cache.join("code")).unwrap();
    }
    cache
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
