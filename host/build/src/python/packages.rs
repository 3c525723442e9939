//! Packages of pure Python: wheels of an index, which are kept in a folder of the user by their
//! digests, and unpacked whenever a function is registered.
//!
//! <https://packaging.python.org/en/latest/specifications/binary-distribution-format/>

use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::index::{Index, Listed};
use super::modules::taken;
use super::requirements::{Requirement, is_digest, normal};
use crate::interpreter::archive::{Archive, Files};
use crate::interpreter::folder::{self, Limits, Taken};

/// How large the packages of a function may be, unpacked.
pub(super) const LIMITS: Limits = Limits {
    files: 10_000,
    bytes: 32 << 20,
    what: "the packages",
};
/// The most bytes of a wheel.
const MOST_WHEEL: u64 = 32 << 20;
/// The minor version of the interpreter's Python 3.
const MINOR: u32 = 14;

/// What is done about a package that has no wheel which can be used.
const FOLDER: &str = "and name the folder by `requirements`";

/// Packages of an index, and the folder in which they are kept.
pub(super) struct Packages<'a> {
    index: Index,
    folder: &'a Path,
}

impl<'a> Packages<'a> {
    pub(super) fn new(index: Index, folder: &'a Path) -> Self {
        Self { index, folder }
    }

    /// Downloads a package unless it is kept already. `say` is called before.
    ///
    /// # Errors
    /// Returns a message that says why it cannot be had, and what to do.
    pub(super) fn fetch(
        &self,
        package: &Requirement,
        say: &mut dyn FnMut(&str),
    ) -> Result<(), String> {
        if self.kept(package).is_some() {
            return Ok(());
        }
        let Requirement { name, version, .. } = package;
        say(&format!("downloading {name} {version}"));
        let files = self.index.files(name)?;
        let file = chosen(&files, package)
            .map_err(|reason| format!("the index {}: {reason}", self.index.url()))?;
        let wheel = self.index.download(file, MOST_WHEEL)?;
        let digest = digest(&wheel);
        check_digest(file, package, &digest)?;
        let opened = Archive::open(&wheel);
        opened.map_err(|reason| format!("`{}`: {reason}", file.filename))?;
        self.keep(package, &digest, &wheel).map_err(|e| {
            let folder = self.folder.display();
            format!(
                "a package cannot be kept in {folder}: {e}; the environment variable WAFER_CACHE \
                 names another folder"
            )
        })
    }

    /// Returns the files of some packages, by the paths at which modules are imported.
    ///
    /// # Errors
    /// Returns a message about a package that is not kept or cannot be unpacked.
    pub(super) fn unpacked(&self, packages: &[Requirement]) -> Result<Files, String> {
        let mut unpacked = Unpacked::default();
        for package in packages {
            let Requirement { name, version, .. } = package;
            let wheel = self.kept(package).ok_or_else(|| {
                format!(
                    "`{name}=={version}` was not downloaded from the index {} yet; run `wafer build`",
                    self.index.url()
                )
            })?;
            unpacked.add(name, &wheel)?;
        }
        Ok(unpacked.files)
    }

    /// Returns the wheel of a package if it is kept and whole.
    fn kept(&self, package: &Requirement) -> Option<Vec<u8>> {
        let pin = fs::read_to_string(self.pin(package)).ok()?;
        let digest = pin.trim();
        if !is_digest(digest) || !is_allowed(package, digest) {
            return None;
        }
        let wheel = folder::read(&self.wheel(digest), MOST_WHEEL).ok()??;
        (self::digest(&wheel) == digest).then_some(wheel)
    }

    fn keep(&self, package: &Requirement, digest: &str, wheel: &[u8]) -> io::Result<()> {
        fs::create_dir_all(self.folder)?;
        write(&self.wheel(digest), wheel)?;
        write(&self.pin(package), digest.as_bytes())
    }

    /// Returns the path of the file that says which wheel a package is in this index.
    fn pin(&self, package: &Requirement) -> PathBuf {
        let Requirement { name, version, .. } = package;
        let index = digest(self.index.url().as_bytes());
        self.folder
            .join(format!("{name}-{version}-{}.pin", &index[..16]))
    }

    fn wheel(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.whl"))
    }
}

/// Writes a file as a whole: other processes may read it or write the same one.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let part = path.with_extension(format!("{}.part", std::process::id()));
    let written = fs::write(&part, content).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

/// Returns the SHA-256 digest of some bytes in hexadecimal.
fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns whether a package may be a file with this digest.
fn is_allowed(package: &Requirement, digest: &str) -> bool {
    let mut hashes = package.hashes.iter();
    package.hashes.is_empty() || hashes.any(|hash| hash == digest)
}

/// Checks the digest of a file that was downloaded: by the file of requirements if it has digests,
/// and by the index.
fn check_digest(file: &Listed, package: &Requirement, digest: &str) -> Result<(), String> {
    let name = &file.filename;
    match file.digest() {
        Some(listed) if listed != digest => Err(format!(
            "`{name}` has the digest {digest}, and the index says {listed}: it was changed on its \
             way; try again"
        )),
        None if package.hashes.is_empty() => Err(format!(
            "the index has no SHA-256 digest of `{name}`; write `--hash=sha256:{digest}` behind \
             `{}=={}` if this is the file that you want",
            package.name, package.version
        )),
        _ if !is_allowed(package, digest) => Err(format!(
            "`{name}` has the digest {digest}, which is none of those behind `{}=={}`",
            package.name, package.version
        )),
        _ => Ok(()),
    }
}

/// Chooses the wheel of a package: one for all machines. Of several, it is one that has a digest of
/// the file of requirements, and then the one whose name is last.
fn chosen<'a>(files: &'a [Listed], package: &Requirement) -> Result<&'a Listed, String> {
    let Requirement { name, version, .. } = package;
    let of_version = files.iter().filter(|file| is_of(&file.filename, package));
    let of_version: Vec<&Listed> = of_version.collect();
    let pure = of_version.iter().copied();
    let pure = pure.filter(|file| WheelName::of(&file.filename).is_some_and(|name| name.is_pure()));
    let is_listed = |file: &Listed| file.digest().is_some_and(|it| is_allowed(package, it));
    if let Some(file) = pure.max_by_key(|file| (is_listed(file), file.filename.clone())) {
        return Ok(file);
    }
    let mut wheels = of_version.iter().map(|file| &file.filename);
    let native = wheels.find(|name| WheelName::of(name).is_some());
    match (native, of_version.first()) {
        (Some(wheel), _) => Err(format!(
            "`{name}` {version} has no wheel of pure Python (py3-none-any), but such as `{wheel}`, and \
             native code cannot run in the sandbox: write what it is needed for in Python, or as a \
             function in Rust; if it works without its native part, put it into a folder by \
             `pip install --no-binary :all: --target FOLDER {name}=={version}`, {FOLDER}"
        )),
        (None, Some(source)) => Err(format!(
            "`{name}` {version} is there as source only (`{}`), which is not built here: put it into \
             a folder by `pip install --target FOLDER {name}=={version}`, {FOLDER}",
            source.filename
        )),
        (None, None) => Err(format!("it has no `{name}` {version}")),
    }
}

/// Returns whether a file is of a version of a package, by its name.
fn is_of(file: &str, package: &Requirement) -> bool {
    let found = match WheelName::of(file) {
        Some(wheel) => Some((wheel.package, wheel.version)),
        None => source_name(file),
    };
    found.is_some_and(|(name, version)| {
        normal(name) == package.name && canonical(version) == canonical(&package.version)
    })
}

/// Returns the package and the version of a source distribution.
fn source_name(file: &str) -> Option<(&str, &str)> {
    let ends = [".tar.gz", ".zip", ".tar.bz2"];
    let stem = ends.iter().find_map(|end| file.strip_suffix(*end))?;
    stem.rsplit_once('-')
}

/// The name of a wheel: `PACKAGE-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WheelName<'a> {
    package: &'a str,
    version: &'a str,
    python: &'a str,
    abi: &'a str,
    platform: &'a str,
}

impl<'a> WheelName<'a> {
    fn of(file: &'a str) -> Option<Self> {
        let parts: Vec<&str> = file.strip_suffix(".whl")?.split('-').collect();
        match parts[..] {
            [package, version, python, abi, platform]
            | [package, version, _, python, abi, platform] => Some(Self {
                package,
                version,
                python,
                abi,
                platform,
            }),
            _ => None,
        }
    }

    /// Returns whether the wheel is for all machines, and for the interpreter's Python. Each tag
    /// may be several with dots between them.
    fn is_pure(self) -> bool {
        let has = |tags: &str, wanted: &str| tags.split('.').any(|tag| tag == wanted);
        let is_ours = |tag: &str| {
            let minor = tag.strip_prefix("py3");
            minor.is_some_and(|minor| {
                minor.is_empty() || minor.parse::<u32>().is_ok_and(|minor| minor <= MINOR)
            })
        };
        has(self.abi, "none") && has(self.platform, "any") && self.python.split('.').any(is_ours)
    }
}

/// Returns a version in a form that equal ones share, however they are written: `1.0.0` is `1`.
fn canonical(version: &str) -> String {
    let version = version.to_lowercase();
    let version = version.trim_start_matches('v');
    let (epoch, version) = version.split_once('!').unwrap_or(("0", version));
    let is_release = |c: char| c.is_ascii_digit() || c == '.';
    let end = version.find(|c: char| !is_release(c));
    let (release, rest) = version.split_at(end.unwrap_or(version.len()));
    let numbers = release.split('.').filter(|number| !number.is_empty());
    let mut numbers: Vec<&str> = numbers
        .map(|number| number.trim_start_matches('0'))
        .collect();
    while numbers.last().is_some_and(|number| number.is_empty()) {
        numbers.pop();
    }
    let rest = rest.replace(['.', '-', '_'], "");
    let epoch = epoch.trim_start_matches('0');
    format!("{epoch}!{}!{rest}", numbers.join("."))
}

/// The files of packages.
#[derive(Default)]
struct Unpacked {
    files: Files,
    bytes: u64,
}

impl Unpacked {
    /// Unpacks a wheel.
    fn add(&mut self, package: &str, wheel: &[u8]) -> Result<(), String> {
        let wrong = |reason: String| format!("the wheel of `{package}`: {reason}");
        let archive = Archive::open(wheel).map_err(wrong)?;
        for entry in &archive.entries {
            let Some(path) = installed(&entry.path) else {
                continue;
            };
            let left = LIMITS.bytes - self.bytes;
            let content = match taken(path) {
                Taken::Nothing => continue,
                Taken::Name => Vec::new(),
                Taken::Content if entry.size > left => {
                    return Err(format!(
                        "{} are larger than {} MiB, with `{package}`",
                        LIMITS.what,
                        LIMITS.bytes >> 20
                    ));
                }
                Taken::Content => archive.read(entry, left).map_err(wrong)?,
            };
            self.bytes += content.len() as u64;
            match self.files.entry(path.to_owned()) {
                Entry::Vacant(place) => {
                    place.insert(content);
                }
                Entry::Occupied(other) if *other.get() == content => {}
                Entry::Occupied(_) => {
                    return Err(format!(
                        "`{package}` and another package have different files `{path}`: put the \
                         packages into a folder by `pip install --target FOLDER`, which keeps one of \
                         them, {FOLDER}"
                    ));
                }
            }
            if self.files.len() > LIMITS.files {
                return Err(format!(
                    "{} are more than {} files, with `{package}`",
                    LIMITS.what, LIMITS.files
                ));
            }
        }
        Ok(())
    }
}

/// Returns where a file of a wheel is after its installation, below the folder of all packages, or
/// `None` if it is nothing to import.
fn installed(path: &str) -> Option<&str> {
    let Some((first, rest)) = path.split_once('/') else {
        return Some(path);
    };
    if first.ends_with(".dist-info") {
        return None;
    }
    if !first.ends_with(".data") {
        return Some(path);
    }
    let of_modules = ["purelib/", "platlib/"];
    of_modules
        .iter()
        .find_map(|folder| rest.strip_prefix(*folder))
}

#[cfg(test)]
mod tests {
    use super::super::server::{Page, Server, serve};
    use super::*;
    use crate::interpreter::archive;

    fn package(name: &str, version: &str) -> Requirement {
        Requirement {
            name: name.to_owned(),
            version: version.to_owned(),
            hashes: Vec::new(),
        }
    }

    fn files(of: &[(&str, &str)]) -> Files {
        let files = of.iter();
        files
            .map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec()))
            .collect()
    }

    fn wheel(of: &[(&str, &str)]) -> Vec<u8> {
        archive::write(&files(of)).unwrap()
    }

    const SIX: &str = "six-1.17.0-py2.py3-none-any.whl";

    /// Starts an index that has one version of `six`, with a digest that it tells.
    fn index_of_six(wheel: &[u8], told: &str) -> Server {
        let list = serde_json::json!({ "files": [
            {"filename": SIX, "url": "six.whl", "hashes": {"sha256": told}},
            {"filename": "six-1.17.0.tar.gz", "url": "six.tar.gz", "hashes": {}},
        ]});
        serve(vec![
            Page::new("/six/", list.to_string()),
            Page::new("/six/six.whl", wheel),
        ])
    }

    fn fetch(
        url: &str,
        folder: &Path,
        package: &Requirement,
    ) -> Result<(Files, Vec<String>), String> {
        let packages = Packages::new(Index::at(url)?, folder);
        let mut said = Vec::new();
        packages.fetch(package, &mut |line| said.push(line.to_owned()))?;
        let packages = std::slice::from_ref(package);
        let unpacked = Packages::new(Index::at(url)?, folder).unpacked(packages)?;
        Ok((unpacked, said))
    }

    #[test]
    fn package_is_downloaded_once_and_then_kept() {
        let content = [("six.py", "x = 1"), ("six-1.17.0.dist-info/RECORD", "")];
        let six = wheel(&content);
        let server = index_of_six(&six, &digest(&six));
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("wheels");
        let wanted = package("six", "1.17");
        let unpacked = Packages::new(Index::at(&server.url).unwrap(), &folder);
        assert_eq!(
            unpacked.unpacked(std::slice::from_ref(&wanted)),
            Err(format!(
                "`six==1.17` was not downloaded from the index {}/ yet; run `wafer build`",
                server.url
            ))
        );
        let (found, said) = fetch(&server.url, &folder, &wanted).unwrap();
        assert_eq!(found, files(&[("six.py", "x = 1")]));
        assert_eq!(said, ["downloading six 1.17"]);
        let asked = server.asked().len();
        let (found, said) = fetch(&server.url, &folder, &wanted).unwrap();
        assert_eq!(
            (found.len(), said.len(), server.asked().len()),
            (1, 0, asked)
        );
        // A wheel that is damaged is downloaded again.
        let kept = folder.join(format!("{}.whl", digest(&six)));
        fs::write(&kept, "damaged").unwrap();
        let (_, said) = fetch(&server.url, &folder, &wanted).unwrap();
        assert_eq!(said.len(), 1);
        assert_eq!(fs::read(&kept).unwrap(), six);
        // One that the file of requirements does not allow is not used.
        let other = Requirement {
            hashes: vec!["0".repeat(64)],
            ..wanted
        };
        let message = fetch(&server.url, &folder, &other).unwrap_err();
        assert!(
            message.contains("none of those behind `six==1.17`"),
            "{message}"
        );
    }

    #[test]
    fn digests_are_checked() {
        let six = wheel(&[("six.py", "")]);
        let folder = tempfile::tempdir().unwrap();
        let check = |told: &str, hashes: Vec<String>, wanted: Option<&str>| {
            let server = index_of_six(&six, told);
            let package = Requirement {
                hashes,
                ..package("six", "1.17.0")
            };
            let fetched = fetch(&server.url, folder.path(), &package).map(drop);
            match wanted {
                None => assert_eq!(fetched, Ok(())),
                Some(wanted) => {
                    let message = fetched.unwrap_err();
                    assert!(message.contains(wanted), "{message}");
                }
            }
        };
        let right = digest(&six);
        let wrong = "1".repeat(64);
        check(&right, vec![wrong.clone(), right.clone()], None);
        check("", vec![right.clone()], None);
        check(&wrong, vec![], Some("it was changed on its way; try again"));
        let unknown = format!("write `--hash=sha256:{right}` behind `six==1.17.0`");
        check("", vec![], Some(&unknown));
        check(&right, vec![wrong.clone()], Some("which is none of those"));
    }

    #[test]
    fn wheel_of_pure_python_is_chosen_and_others_are_refused_with_a_way_out() {
        let check = |names: &[&str], wanted: Result<&str, &str>| {
            let listed = names.iter().map(|name| Listed::of(name, ""));
            let listed: Vec<Listed> = listed.collect();
            let chosen = chosen(&listed, &package("a-b", "1.0"));
            match wanted {
                Ok(name) => assert_eq!(chosen.unwrap().filename, name),
                Err(wanted) => {
                    let message = chosen.unwrap_err();
                    assert!(message.contains(wanted), "{message}");
                }
            }
        };
        check(
            &[
                "a_b-0.9-py3-none-any.whl",
                "a_b-1.0.0-py3-none-any.whl",
                "a_b-1.0.0-cp314-cp314-manylinux_2_28_x86_64.whl",
                "a_b-1.0.0.tar.gz",
            ],
            Ok("a_b-1.0.0-py3-none-any.whl"),
        );
        check(
            &["A.B-1-1-py2.py3-none-any.whl"],
            Ok("A.B-1-1-py2.py3-none-any.whl"),
        );
        check(
            &["a_b-1.0-py314-none-any.whl"],
            Ok("a_b-1.0-py314-none-any.whl"),
        );
        check(
            &["a_b-1.0-cp314-cp314-win32.whl", "a_b-1.0.tar.gz"],
            Err(
                "but such as `a_b-1.0-cp314-cp314-win32.whl`, and native code cannot run in the \
                 sandbox",
            ),
        );
        check(
            &["a_b-1.0-py2-none-any.whl", "a_b-1.0-py315-none-any.whl"],
            Err("`pip install --no-binary :all: --target FOLDER a-b==1.0`, and name the folder"),
        );
        check(
            &["a_b-1.0.tar.gz"],
            Err(
                "is there as source only (`a_b-1.0.tar.gz`), which is not built here: put it into a \
                 folder by `pip install --target FOLDER a-b==1.0`",
            ),
        );
        check(
            &["a_b-2.0-py3-none-any.whl", "a.whl", ""],
            Err("it has no `a-b` 1.0"),
        );
    }

    #[test]
    fn equal_versions_are_found_however_they_are_written() {
        for (a, b, equal) in [
            ("1.0.0", "1", true),
            ("2024.01.5", "2024.1.5", true),
            ("v1.0", "1.0", true),
            ("0!1.0", "1.0", true),
            ("1.0-RC1", "1.0rc1", true),
            ("2.9.0.post0", "2.9.post0", true),
            ("1.0+local", "1.0", false),
            ("1!1.0", "1.0", false),
            ("1.0", "1.0.1", false),
            ("1.0", "10", false),
        ] {
            assert_eq!(canonical(a) == canonical(b), equal, "{a} {b}");
        }
    }

    #[test]
    fn wheels_are_unpacked_to_where_they_are_imported() {
        let mut unpacked = Unpacked::default();
        let a = wheel(&[
            ("a/__init__.py", "1"),
            ("a/data.json", "{}"),
            ("a/_fast.cpython-314-x86_64-linux-gnu.so", "\u{7f}ELF"),
            ("a-1.dist-info/top.py", ""),
            ("a-1.data/purelib/more.py", "2"),
            ("a-1.data/scripts/run.py", ""),
            ("tests/__init__.py", ""),
        ]);
        unpacked.add("a", &a).unwrap();
        unpacked
            .add("b", &wheel(&[("tests/__init__.py", "")]))
            .unwrap();
        let wanted = files(&[
            ("a/__init__.py", "1"),
            ("a/_fast.cpython-314-x86_64-linux-gnu.so", ""),
            ("more.py", "2"),
            ("tests/__init__.py", ""),
        ]);
        assert_eq!(unpacked.files, wanted);
        let message = unpacked
            .add("c", &wheel(&[("tests/__init__.py", "3")]))
            .unwrap_err();
        assert!(
            message.starts_with("`c` and another package have different files `tests/__init__.py`"),
            "{message}"
        );
        assert_eq!(
            unpacked.add("d", b"no archive").unwrap_err(),
            "the wheel of `d`: it is not a ZIP archive, or is cut off"
        );
    }

    #[test]
    fn packages_that_are_too_large_are_refused_by_name() {
        let mut unpacked = Unpacked {
            bytes: LIMITS.bytes - 1,
            ..Unpacked::default()
        };
        unpacked.add("small", &wheel(&[("a.py", "1")])).unwrap();
        assert_eq!(
            unpacked.add("large", &wheel(&[("b.py", "1")])).unwrap_err(),
            "the packages are larger than 32 MiB, with `large`"
        );
        let many: Files = (0..=LIMITS.files)
            .map(|number| (format!("m{number}.py"), Vec::new()))
            .collect();
        let many = archive::write(&many).unwrap();
        assert_eq!(
            Unpacked::default().add("many", &many).unwrap_err(),
            "the packages are more than 10000 files, with `many`"
        );
    }
}
