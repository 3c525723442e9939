use async_trait::async_trait;
use wafer_store::{OfflineTables, RemoteListing};

use super::*;

/// Files that are listed and never read.
#[derive(Debug)]
struct Listing(Vec<RemoteFile>);

#[async_trait]
impl RemoteFiles for Listing {
    fn form(&self) -> &'static str {
        "s3://BUCKET/FOLDER"
    }

    async fn list(&self, url: &Url) -> Result<RemoteListing> {
        let below = |file: &&RemoteFile| file.url.as_str().starts_with(url.as_str());
        Ok(RemoteListing {
            files: self.0.iter().filter(below).cloned().collect(),
            odd: Vec::new(),
        })
    }

    async fn fetch(&self, _file: &RemoteFile, _to: &Path) -> Result<()> {
        Err(Error::invalid("files are only listed"))
    }

    async fn put(&self, _from: &Path, _to: &Url) -> Result<()> {
        Err(Error::invalid("files are only listed"))
    }

    async fn remove(&self, _url: &Url) -> Result<()> {
        Err(Error::invalid("files are only listed"))
    }

    async fn tables(&self, _url: &Url) -> Result<OfflineTables> {
        Err(Error::invalid("files are only listed"))
    }
}

/// Returns files in the bucket `b`, as they are listed there: in the order of their URLs.
fn listing(names: &[&str]) -> Arc<dyn RemoteFiles> {
    let file = |name: &&str| {
        let mut url = Url::parse("s3://b/").unwrap();
        let mut segments = url.path_segments_mut().unwrap();
        segments.pop_if_empty().extend(name.split('/'));
        drop(segments);
        RemoteFile {
            url,
            bytes: 1,
            version: String::new(),
        }
    };
    let mut files: Vec<RemoteFile> = names.iter().map(file).collect();
    files.sort_by(|a, b| a.url.cmp(&b.url));
    Arc::new(Listing(files))
}

/// Makes a folder with empty files of these names.
fn folder_with(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "").unwrap();
    }
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn files_come_in_one_order_wherever_they_are() {
    let wanted = [
        "in/a/x.csv",
        "in/a b/x.csv",
        "in/a b.csv",
        "in/a%20c.csv",
        "in/a-1/x.csv",
        "in/b.csv",
        "in/ä.csv",
    ];
    let folder = folder_with(&wanted);
    let local = find_files(&folder.path().join("in/**/*.csv")).unwrap();
    let local = local
        .iter()
        .map(|file| file.strip_prefix(folder.path()).unwrap());
    let local: Vec<String> = local.map(|file| file.display().to_string()).collect();
    assert_eq!(local, wanted);
    let remote = find_remote("s3://b/in/**/*.csv", &listing(&wanted)).unwrap();
    let remote: Vec<String> = remote
        .iter()
        .map(|file| parts(&file.url).join("/"))
        .collect();
    assert_eq!(remote, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_tables_below_the_start_of_a_path_are_refused() {
    let names = [
        "lake/plain/a.parquet",
        "lake/flights/_delta_log/0.json",
        "lake/flights/a.parquet",
        "parts/day=1/_delta_log/0.json",
        "parts/day=1/a.parquet",
    ];
    let folder = folder_with(&names);
    for (path, refused) in [
        ("lake/*/*.parquet", Some("lake/flights is a Delta table")),
        ("lake/**/*.parquet", Some("lake/flights is a Delta table")),
        ("**/a.parquet", Some("lake/flights is a Delta table")),
        ("lake/p*/*.parquet", None),
        ("parts", Some("parts/day=1 is a Delta table")),
    ] {
        let local = find_files(&folder.path().join(path)).err();
        let remote = find_remote(&format!("s3://b/{path}"), &listing(&names)).err();
        for error in [local, remote] {
            let error = error.map(|error| error.to_string());
            match (&error, refused) {
                (None, None) => {}
                (Some(error), Some(wanted)) if error.contains(wanted) => {}
                _ => panic!("{path}: {error:?}, wanted {refused:?}"),
            }
        }
    }
}

/// Makes files in a folder, and returns the names of those that a path stands for.
fn found(names: &[&str], path: &str) -> Vec<String> {
    let folder = folder_with(names);
    let files = matching_files(&folder.path().join(path)).unwrap_or_default();
    let relative = files
        .iter()
        .map(|file| file.strip_prefix(folder.path()).unwrap());
    let local: Vec<String> = relative.map(|file| file.display().to_string()).collect();
    // The names of remote files match by the same rules.
    let pattern: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let stars = pattern.iter().position(|part| part.contains('*'));
    let (above, pattern) = pattern.split_at(stars.unwrap_or(pattern.len()));
    let mut remote: Vec<String> = names
        .iter()
        .filter(|name| {
            let parts: Vec<&str> = name.split('/').collect();
            parts == above
                || parts
                    .strip_prefix(above)
                    .is_some_and(|b| is_found(pattern, b))
        })
        .map(|name| (*name).to_owned())
        .collect();
    remote.sort();
    assert_eq!(remote, local, "{path}");
    local
}

#[test]
fn paths_stand_for_files() {
    let names = [
        "a.csv",
        "b.csv",
        "c.txt",
        ".hidden.csv",
        "_SUCCESS",
        "_delta_log/0.json",
        "day=1/a.csv",
        "day=1/_SUCCESS",
        "day=1/hour=2/a.csv",
        "day=2/.a.csv.crc",
        "old/a.csv",
        "old/deep/b.csv",
    ];
    for (path, wanted) in [
        ("a.csv", vec!["a.csv"]),
        ("*.csv", vec!["a.csv", "b.csv"]),
        ("*", vec!["a.csv", "b.csv", "c.txt"]),
        (".*", vec![".hidden.csv"]),
        ("_*", vec!["_SUCCESS"]),
        (
            "",
            vec![
                "a.csv",
                "b.csv",
                "c.txt",
                "day=1/a.csv",
                "day=1/hour=2/a.csv",
            ],
        ),
        ("old", vec!["old/a.csv"]),
        ("*/*.csv", vec!["day=1/a.csv", "old/a.csv"]),
        ("day=*/*.csv", vec!["day=1/a.csv"]),
        ("day=1", vec!["day=1/a.csv", "day=1/hour=2/a.csv"]),
        ("day=*/hour=*/a.csv", vec!["day=1/hour=2/a.csv"]),
        (
            "**/a.csv",
            vec!["a.csv", "day=1/a.csv", "day=1/hour=2/a.csv", "old/a.csv"],
        ),
        ("old/**/*.csv", vec!["old/a.csv", "old/deep/b.csv"]),
        ("*.parquet", vec![]),
        ("nowhere/*.csv", vec![]),
        ("nowhere", vec![]),
    ] {
        assert_eq!(found(&names, path), wanted, "{path}");
    }
}

#[test]
fn links_are_followed_and_never_in_a_circle() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for file in ["in/a.csv", "in/sub/b.csv", "out/day=1/c.csv", "out/d.csv"] {
        std::fs::create_dir_all(at(file).parent().unwrap()).unwrap();
        std::fs::write(at(file), "").unwrap();
    }
    symlink(at("out/day=1"), at("in/day=1")).unwrap();
    symlink(at("out/d.csv"), at("in/d.csv")).unwrap();
    let names = |path: &str| -> std::result::Result<Vec<String>, String> {
        let files = matching_files(&at(path)).map_err(|error| error.chain())?;
        let relative = files
            .iter()
            .map(|file| file.strip_prefix(folder.path()).unwrap());
        Ok(relative.map(|file| file.display().to_string()).collect())
    };
    let flat = ["in/a.csv", "in/d.csv", "in/day=1/c.csv"];
    assert_eq!(names("in").unwrap(), flat);
    let all = ["in/a.csv", "in/d.csv", "in/day=1/c.csv", "in/sub/b.csv"];
    assert_eq!(names("in/**/*.csv").unwrap(), all);
    for (link, to, path, wanted) in [
        // A folder in itself, and in one further up.
        (
            "in/sub/back",
            "in",
            "in/**/*.csv",
            "in/sub/back leads back to ",
        ),
        (
            "in/sub/self",
            "in/sub",
            "in/*/*/*",
            "in/sub/self leads back to ",
        ),
        ("in/day=2", "in", "in", "in/day=2 leads back to "),
        // Links that lead to each other.
        (
            "in/e.csv",
            "in/e.csv",
            "in/*.csv",
            "in/e.csv cannot be read: ",
        ),
        ("in/day=3", "in/day=3", "in", "in/day=3 cannot be read: "),
        (
            "in/loop",
            "in/loop",
            "in/**/*.csv",
            "in/loop cannot be read: ",
        ),
        (
            "circle",
            "circle",
            "circle/*.csv",
            "circle cannot be read: ",
        ),
        ("circle", "circle", "circle", "circle cannot be read: "),
    ] {
        symlink(at(to), at(link)).unwrap();
        let refused = names(path).unwrap_err();
        assert!(refused.contains(wanted), "{path}: {refused}");
        std::fs::remove_file(at(link)).unwrap();
        assert_eq!(names("in").unwrap(), flat, "{link}");
    }
    // A link that leads nowhere has the name of a file or not.
    symlink(at("nothing"), at("in/e.csv")).unwrap();
    for path in ["in", "in/*.csv", "in/e.csv"] {
        let refused = names(path).unwrap_err();
        let wanted = "in/e.csv is a link that leads to nothing";
        assert!(refused.contains(wanted), "{path}: {refused}");
    }
    assert_eq!(names("in/a*").unwrap(), ["in/a.csv"]);
    std::fs::remove_file(at("in/e.csv")).unwrap();
    // A folder beside it is in nothing twice.
    symlink(at("in/sub"), at("in/twin")).unwrap();
    assert_eq!(
        names("in/**/b.csv").unwrap(),
        ["in/sub/b.csv", "in/twin/b.csv"]
    );
}

#[test]
fn sockets_and_devices_with_the_name_of_a_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(at("in/sub.csv")).unwrap();
    std::fs::write(at("in/a.csv"), "").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("in/s.csv")).unwrap();
    std::os::unix::fs::symlink("/dev/null", at("in/z.tsv")).unwrap();
    for (path, wanted) in [
        ("in/*.csv", Err("in/s.csv is a socket and not a file")),
        ("in/s.csv", Err("in/s.csv is a socket and not a file")),
        ("in/*.tsv", Err("in/z.tsv is a device and not a file")),
        ("in/z.tsv", Err("in/z.tsv is a device and not a file")),
        // Other names, and folders, are not looked at.
        ("in/a*", Ok(1)),
        ("in/su*", Ok(0)),
        ("in/*/*.csv", Ok(0)),
    ] {
        match (existing_files(&at(path)), wanted) {
            (Ok(found), Ok(count)) => assert_eq!(found.len(), count, "{path}"),
            (Err(error), Err(wanted)) => {
                assert_eq!(error.kind(), Kind::Invalid);
                assert!(error.to_string().contains(wanted), "{path}: {error}");
            }
            (found, wanted) => panic!("{path}: {found:?}, wanted {wanted:?}"),
        }
    }
}

#[test]
fn files_that_are_not_read_are_looked_for_without_links() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for file in ["in/day=1/a.csv", "in/old/deep/_b.csv", "out/c.csv"] {
        std::fs::create_dir_all(at(file).parent().unwrap()).unwrap();
        std::fs::write(at(file), "").unwrap();
    }
    symlink(at("out"), at("in/old/deep/out")).unwrap();
    symlink(at("in"), at("in/old/back")).unwrap();
    let is_csv = |file: &Path| file.extension().is_some_and(|ending| ending == "csv");
    let skipped = || skipped_folder(&at("in"), &is_csv);
    assert_eq!(skipped(), None);
    std::fs::write(at("in/old/deep/b.csv"), "").unwrap();
    assert_eq!(skipped(), Some(at("in/old")));
    let mut tired = Skipped {
        is_wanted: &is_csv,
        left: 1,
    };
    assert!(!tired.has_file(&at("in/old"), 0));
    // The names `day=1`, `old` and `a.csv` count as well.
    for (left, wanted) in [(3, None), (20, Some(at("in/old")))] {
        let is_wanted = &is_csv;
        let found = Skipped { is_wanted, left }.first_in(&at("in"), 0);
        assert_eq!(found, wanted, "{left}");
    }
}

#[test]
fn stars_stand_for_any_text() {
    for (pattern, name, wanted) in [
        ("*.csv", "a.csv", true),
        ("a*b*c", "a1b2c", true),
        ("a*b*c", "a1c2b", false),
        ("*", "", true),
        ("a", "ab", false),
        ("a*", "ä", false),
        ("*ä*", "xäy", true),
        ("**a", "bba", true),
    ] {
        assert_eq!(matches_pattern(pattern, name), wanted, "{pattern} {name}");
    }
    // A pattern of many stars takes no longer than their number times the length of the name.
    let (pattern, name) = ("*a".repeat(100) + "b", "a".repeat(10_000));
    assert!(!matches_pattern(&pattern, &name));
}
