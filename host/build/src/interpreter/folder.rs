//! Files and folders on this machine: the modules of a function, and packages that were put into a
//! folder.

use std::fs::{self, File, FileType};
use std::io::{self, Read as _};
use std::path::Path;

use super::archive::Files;

/// How large the contents of a folder may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most files that are taken.
    pub(crate) files: usize,
    /// The most bytes of these together.
    pub(crate) bytes: u64,
    /// What the files are called in messages.
    pub(crate) what: &'static str,
}

/// The most names of files and folders that are looked at, and folders one in the other.
const MOST_NAMES: usize = 100_000;
const MOST_DEPTH: usize = 32;

/// What of a file is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Its content: it is a module.
    Content,
    /// Its name, by which the interpreter can explain why the module is not there.
    Name,
    /// Nothing: nothing inside the sandbox could read it.
    Nothing,
}

/// Returns what is at a path.
///
/// # Errors
/// Returns a message when nothing can be read there, and when it is a symbolic link.
pub(crate) fn kind(path: &Path) -> Result<FileType, String> {
    let metadata = path.symlink_metadata();
    let kind = metadata.map_err(unreadable)?.file_type();
    match kind.is_symlink() {
        true => Err("it is a symbolic link; name the file or the folder itself".to_owned()),
        false => Ok(kind),
    }
}

/// Returns the message about a path that cannot be read.
pub(crate) fn unreadable(error: io::Error) -> String {
    format!("it cannot be read: {error}")
}

/// Returns the name of a file or a folder.
///
/// # Errors
/// Returns a message when it is not text.
pub(crate) fn name_of(path: &Path) -> Result<&str, String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| "its name is not in UTF-8; give it another one".to_owned())
}

/// Reads a file that may have so many bytes.
///
/// # Errors
/// Returns a message when it cannot be read, and when it has more.
pub(crate) fn file(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let content = read(path, most).map_err(unreadable)?;
    content.ok_or_else(|| format!("it is larger than {} MiB", most >> 20))
}

/// Reads a file, or returns `None` if it has more than so many bytes. It may grow meanwhile.
///
/// # Errors
/// Fails when it cannot be read.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    let read = File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    Ok((read as u64 <= most).then_some(content))
}

/// Reads the modules below a folder: paths that start at it, with what `taken` takes of each file.
/// Files and folders whose names begin with a dot are left out, and so is what Python keeps of
/// compiled modules.
///
/// # Errors
/// Returns a message about what cannot be read, what is a symbolic link, or which limit is
/// exceeded.
pub(crate) fn modules(
    folder: &Path,
    limits: Limits,
    taken: fn(&str) -> Taken,
) -> Result<Files, String> {
    let mut reader = Reader {
        limits,
        taken,
        files: Files::new(),
        bytes: 0,
        names: 0,
    };
    reader.add(folder, "", MOST_DEPTH)?;
    Ok(reader.files)
}

/// What was read so far.
struct Reader {
    limits: Limits,
    /// Tells by the path of a file what of it is taken.
    taken: fn(&str) -> Taken,
    files: Files,
    bytes: u64,
    names: usize,
}

impl Reader {
    /// Reads what is in a folder, whose path begins with `before`. Below it there may be so many
    /// further folders, one in the other.
    fn add(&mut self, folder: &Path, before: &str, depth: usize) -> Result<(), String> {
        let here = match before {
            "" => "it".to_owned(),
            _ => format!("`{before}`"),
        };
        let unreadable = |e: io::Error| format!("{here} cannot be read: {e}");
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            self.names += 1;
            if self.names > MOST_NAMES {
                return Err(format!("has more than {MOST_NAMES} files and folders"));
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(format!("{here} has {name:?}, a name that is not in UTF-8"));
            };
            if name.starts_with('.') || name == "__pycache__" {
                continue;
            }
            let path = format!("{before}{name}");
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_symlink() {
                return Err(format!(
                    "`{path}` is a symbolic link; put the file itself in its place"
                ));
            }
            if kind.is_dir() && depth == 0 {
                return Err(format!("`{path}` is more than {MOST_DEPTH} folders deep"));
            }
            if kind.is_dir() {
                self.add(&entry.path(), &format!("{path}/"), depth - 1)?;
            } else if kind.is_file() {
                self.take(&entry.path(), path)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, file: &Path, path: String) -> Result<(), String> {
        let Limits { files, bytes, what } = self.limits;
        let content = match (self.taken)(&path) {
            Taken::Nothing => return Ok(()),
            Taken::Name => Vec::new(),
            Taken::Content => {
                let content = read(file, bytes - self.bytes);
                let content = content.map_err(|e| format!("`{path}` cannot be read: {e}"))?;
                content.ok_or_else(|| {
                    format!("{what} are larger than {} MiB, with `{path}`", bytes >> 20)
                })?
            }
        };
        self.bytes += content.len() as u64;
        self.files.insert(path, content);
        match self.files.len() > files {
            true => Err(format!("{what} are more than {files} files")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        files: 3,
        bytes: 1 << 20,
        what: "the modules",
    };

    fn taken(name: &str) -> Taken {
        match name.rsplit_once('.') {
            Some((_, "py")) => Taken::Content,
            Some((_, "so")) => Taken::Name,
            _ => Taken::Nothing,
        }
    }

    fn write(folder: &Path, path: &str, content: &[u8]) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn modules_of_a_folder_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "a.py",
            "b/c.py",
            "b/__pycache__/c.cpython-314.pyc",
            "b/__pycache__/d.py",
            ".venv/lib/e.py",
            "table.csv",
            "six-1.16.0.dist-info/RECORD",
        ] {
            write(folder.path(), path, b"x");
        }
        write(folder.path(), "fast.cpython-314.so", b"\x7fELF");
        let read = modules(folder.path(), LIMITS, taken).unwrap();
        let wanted = [
            ("a.py", "x"),
            ("b/c.py", "x"),
            // Its name explains why it cannot be imported.
            ("fast.cpython-314.so", ""),
        ];
        let wanted = wanted.map(|(path, content)| (path.to_owned(), content.as_bytes().to_vec()));
        assert_eq!(read, Files::from(wanted));
    }

    #[test]
    fn folders_that_are_refused_say_why() {
        let check = |prepare: &dyn Fn(&Path), wanted: &str| {
            let folder = tempfile::tempdir().unwrap();
            prepare(folder.path());
            let message = modules(folder.path(), LIMITS, taken).unwrap_err();
            assert_eq!(message, wanted);
        };
        check(
            &|folder| std::os::unix::fs::symlink("/etc/hosts", folder.join("hosts.py")).unwrap(),
            "`hosts.py` is a symbolic link; put the file itself in its place",
        );
        check(
            &|folder| {
                write(folder, "a/b.py", b"");
                std::os::unix::fs::symlink("..", folder.join("a/up")).unwrap();
            },
            "`a/up` is a symbolic link; put the file itself in its place",
        );
        check(
            &|folder| {
                for name in ["a.py", "b.py", "c.py", "d.py"] {
                    write(folder, name, b"");
                }
            },
            "the modules are more than 3 files",
        );
        check(
            &|folder| write(folder, "a.py", &vec![b'#'; (1 << 20) + 1]),
            "the modules are larger than 1 MiB, with `a.py`",
        );
        check(
            &|folder| {
                let deep = "d/".repeat(MOST_DEPTH + 1);
                write(folder, &format!("{deep}a.py"), b"");
            },
            &format!(
                "`{}` is more than {MOST_DEPTH} folders deep",
                ["d"; MOST_DEPTH + 1].join("/")
            ),
        );
    }

    #[test]
    fn folder_that_is_not_there_is_an_error() {
        let message = modules(Path::new("/nowhere"), LIMITS, taken).unwrap_err();
        assert!(message.starts_with("it cannot be read: "), "{message}");
    }
}
