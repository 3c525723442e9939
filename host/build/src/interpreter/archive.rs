//! ZIP archives: the one that has the code of a function, and the wheels of Python, which come from
//! outside.
//!
//! <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>. Of the format, this is what wheels
//! need: entries that are stored or deflated, in one file of less than 4 GiB.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use flate2::Crc;
use flate2::read::DeflateDecoder;

/// Files by their paths, with `/` between folders.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The most files of an archive that is written. Those of a function are fewer.
const MOST_FILES: usize = 65_534;
/// The most bytes of the path of a file.
const MOST_PATH: usize = 1_024;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_BYTES: usize = 22;
const CENTRAL_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;

/// The version of the format that an archive needs.
const VERSION: u16 = 20;
/// Made on a system whose files have Unix's modes.
const UNIX: u16 = 3 << 8;
/// Names are in UTF-8.
const UTF8: u16 = 1 << 11;
const ENCRYPTED: u16 = 1;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// 1 January 1980, the first day that the format can express.
const DATE: u16 = (1 << 5) | 1;
/// A file that everybody may read, as Unix writes it.
const MODE: u32 = 0o100_644 << 16;
/// The bits of a mode that tell what a file is, and those of a symbolic link.
const KIND: u32 = 0o170_000;
const LINK: u32 = 0o120_000;

/// Writes an archive of some files. Its bytes depend on nothing but these: entries are in the order
/// of their paths, stored as they are, and have no times.
///
/// # Errors
/// Returns a message when there are more files, or longer paths, than are written.
pub(crate) fn write(files: &Files) -> Result<Vec<u8>, String> {
    if files.len() > MOST_FILES {
        return Err(format!("{} files are more than {MOST_FILES}", files.len()));
    }
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (path, content) in files {
        let name = u16::try_from(path.len()).ok().filter(|_| is_inside(path));
        let name = name.ok_or_else(|| format!("`{path}` cannot be the path of a file"))?;
        let size = size_of(content.len())?;
        let at = size_of(archive.len())?;
        let mut crc = Crc::new();
        crc.update(content);
        // Both headers of a file have these fields.
        let mut fields = Vec::new();
        put16(&mut fields, &[VERSION, UTF8, STORED, 0, DATE]);
        put32(&mut fields, &[crc.sum(), size, size]);
        put16(&mut fields, &[name, 0]);

        put32(&mut archive, &[LOCAL]);
        archive.extend_from_slice(&fields);
        archive.extend_from_slice(path.as_bytes());
        archive.extend_from_slice(content);

        put32(&mut directory, &[CENTRAL]);
        put16(&mut directory, &[UNIX | VERSION]);
        directory.extend_from_slice(&fields);
        // No comment, on the first disk, not known to be text.
        put16(&mut directory, &[0, 0, 0]);
        put32(&mut directory, &[MODE, at]);
        directory.extend_from_slice(path.as_bytes());
    }
    let count = u16::try_from(files.len()).map_err(|e| e.to_string())?;
    let (start, length) = (size_of(archive.len())?, size_of(directory.len())?);
    archive.extend_from_slice(&directory);
    put32(&mut archive, &[END]);
    put16(&mut archive, &[0, 0, count, count]);
    put32(&mut archive, &[length, start]);
    put16(&mut archive, &[0]);
    Ok(archive)
}

fn size_of(bytes: usize) -> Result<u32, String> {
    u32::try_from(bytes).map_err(|_| "4 GiB are too much for an archive".to_owned())
}

fn put16(to: &mut Vec<u8>, values: &[u16]) {
    for value in values {
        to.extend_from_slice(&value.to_le_bytes());
    }
}

fn put32(to: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        to.extend_from_slice(&value.to_le_bytes());
    }
}

/// Returns whether a path names a file inside of the folder that it starts from.
fn is_inside(path: &str) -> bool {
    let is_name = |part: &str| !matches!(part, "" | "." | "..");
    path.len() <= MOST_PATH
        && path.split('/').all(is_name)
        && !path.contains(|c: char| c == '\\' || c.is_control())
}

/// A file in an archive that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path, which stays inside of the archive.
    pub(crate) path: String,
    /// How many bytes it has, as the archive says.
    pub(crate) size: u64,
    crc: u32,
    method: u16,
    packed: usize,
    /// Where its own header is.
    header: usize,
}

/// An archive from outside.
#[derive(Debug)]
pub(crate) struct Archive<'a> {
    bytes: &'a [u8],
    /// The files, in the order of the archive. Folders are left out.
    pub(crate) entries: Vec<Entry>,
}

impl<'a> Archive<'a> {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// Returns a message that says why the bytes are not an archive, or have an entry that is
    /// refused: a path that leads out of it, one that is there twice, a link, or one that is
    /// encrypted.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let end = end_of(bytes).ok_or("it is not a ZIP archive, or is cut off")?;
        let disks = [u16_at(bytes, end + 4)?, u16_at(bytes, end + 6)?];
        let counts = [u16_at(bytes, end + 8)?, u16_at(bytes, end + 10)?];
        let length = size_at(bytes, end + 12)?;
        let start = size_at(bytes, end + 16)?;
        if disks != [0, 0] || counts[0] != counts[1] {
            return Err("it is a part of an archive".to_owned());
        }
        let is_large = counts[0] == u16::MAX || start == u32::MAX as usize;
        if is_large {
            return Err("it is too large (ZIP64)".to_owned());
        }
        let directory = part(bytes, start, length)?;
        let (mut entries, mut paths, mut at) = (Vec::new(), BTreeSet::new(), 0);
        for _ in 0..counts[0] {
            let (entry, next) = entry_at(directory, at)?;
            at = next;
            if entry.path.ends_with('/') {
                continue;
            }
            if !is_inside(&entry.path) {
                return Err(format!(
                    "{:?} cannot be the path of a file in an archive",
                    entry.path
                ));
            }
            if !paths.insert(entry.path.clone()) {
                return Err(format!("{:?} is there twice", entry.path));
            }
            entries.push(entry);
        }
        Ok(Self { bytes, entries })
    }

    /// Returns the content of a file, which has at most so many bytes.
    ///
    /// # Errors
    /// Returns a message that says why it cannot be read.
    pub(crate) fn read(&self, entry: &Entry, most: u64) -> Result<Vec<u8>, String> {
        let wrong = |what: &str| Err(format!("{:?} {what}", entry.path));
        if entry.size > most {
            return wrong("is too large");
        }
        if u32_at(self.bytes, entry.header)? != LOCAL {
            return wrong("is damaged");
        }
        let name = usize::from(u16_at(self.bytes, entry.header + 26)?);
        let extra = usize::from(u16_at(self.bytes, entry.header + 28)?);
        let start = entry.header + LOCAL_BYTES + name + extra;
        let packed = part(self.bytes, start, entry.packed)?;
        let content = match entry.method {
            STORED => packed.to_vec(),
            DEFLATED => {
                let mut content = Vec::new();
                // One byte more than there should be shows that there are too many.
                let mut decoder = DeflateDecoder::new(packed).take(entry.size + 1);
                match decoder.read_to_end(&mut content) {
                    Ok(_) => content,
                    Err(_) => return wrong("is damaged"),
                }
            }
            other => {
                return wrong(&format!(
                    "is packed by a method that is not known ({other})"
                ));
            }
        };
        let mut crc = Crc::new();
        crc.update(&content);
        match content.len() as u64 == entry.size && crc.sum() == entry.crc {
            true => Ok(content),
            false => wrong("is damaged"),
        }
    }
}

/// Finds the record that ends an archive, behind which there may only be its comment.
fn end_of(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    (first..=last).rev().find(|at| {
        u32_at(bytes, *at) == Ok(END) && u16_at(bytes, at + 20).map(usize::from) == Ok(last - at)
    })
}

/// Reads the entry of a directory at a place, and returns it with the place of the next one.
fn entry_at(directory: &[u8], at: usize) -> Result<(Entry, usize), String> {
    if u32_at(directory, at)? != CENTRAL {
        return Err("its directory is damaged".to_owned());
    }
    let field = |offset: usize| u16_at(directory, at + offset);
    let (made_by, flags, method) = (field(4)?, field(8)?, field(10)?);
    let (name, extra, comment) = (field(28)?, field(30)?, field(32)?);
    let mode = u32_at(directory, at + 38)? >> 16;
    let path = part(directory, at + CENTRAL_BYTES, usize::from(name))?;
    // Without the flag, names are in an older code page, which is ASCII in its first half.
    let is_text = flags & UTF8 != 0 || path.is_ascii();
    let path = std::str::from_utf8(path).ok().filter(|_| is_text);
    let path = path.ok_or("the name of a file is not in UTF-8")?;
    if flags & ENCRYPTED != 0 {
        return Err(format!("{path:?} is encrypted"));
    }
    if made_by & 0xff00 == UNIX && mode & KIND == LINK {
        return Err(format!("{path:?} is a symbolic link"));
    }
    let entry = Entry {
        path: path.to_owned(),
        size: u64::from(u32_at(directory, at + 24)?),
        crc: u32_at(directory, at + 16)?,
        method,
        packed: size_at(directory, at + 20)?,
        header: size_at(directory, at + 42)?,
    };
    let rest = [name, extra, comment].map(usize::from);
    Ok((entry, at + CENTRAL_BYTES + rest.iter().sum::<usize>()))
}

/// Returns a part of some bytes, which end before it if they are cut off.
fn part(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], String> {
    let end = at.checked_add(length);
    let part = end.and_then(|end| bytes.get(at..end));
    part.ok_or_else(|| "it is damaged or cut off".to_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, String> {
    let part = part(bytes, at, 2)?;
    Ok(u16::from_le_bytes([part[0], part[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    let part = part(bytes, at, 4)?;
    Ok(u32::from_le_bytes([part[0], part[1], part[2], part[3]]))
}

fn size_at(bytes: &[u8], at: usize) -> Result<usize, String> {
    usize::try_from(u32_at(bytes, at)?).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn files(of: &[(&str, &[u8])]) -> Files {
        let files = of.iter();
        files
            .map(|(path, content)| ((*path).to_owned(), content.to_vec()))
            .collect()
    }

    fn some() -> Files {
        files(&[
            ("a/__init__.py", b""),
            ("a/b.py", b"x = 1\n"),
            ("z\u{fc}.py", b"y"),
        ])
    }

    /// Reads all files of an archive, of at most 100 bytes each.
    fn read(bytes: &[u8]) -> Result<Files, String> {
        let archive = Archive::open(bytes)?;
        let entries = archive.entries.iter();
        entries
            .map(|entry| Ok((entry.path.clone(), archive.read(entry, 100)?)))
            .collect()
    }

    /// Returns an archive with one field of the entry in its directory replaced.
    fn with_field(mut archive: Vec<u8>, offset: usize, value: &[u8]) -> Vec<u8> {
        let at = archive
            .windows(4)
            .position(|bytes| bytes == CENTRAL.to_le_bytes())
            .unwrap();
        archive[at + offset..at + offset + value.len()].copy_from_slice(value);
        archive
    }

    #[test]
    fn what_was_written_is_read_and_depends_on_contents_alone() {
        let archive = write(&some()).unwrap();
        assert_eq!(read(&archive), Ok(some()));
        assert_eq!(write(&some()).unwrap(), archive);
        // An interpreter tells an archive by its first bytes.
        assert!(archive.starts_with(b"PK\x03\x04"));
        assert_eq!(read(&write(&Files::new()).unwrap()), Ok(Files::new()));
    }

    #[test]
    fn deflated_entries_are_read() {
        let content = b"spam and eggs, spam and eggs, spam and eggs";
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        let packed = encoder.finish().unwrap();
        // An archive whose only entry is stored, and said to be deflated.
        let stored = write(&files(&[("a.py", &packed)])).unwrap();
        let mut crc = Crc::new();
        crc.update(content);
        let archive = with_field(stored, 10, &DEFLATED.to_le_bytes());
        let archive = with_field(archive, 16, &crc.sum().to_le_bytes());
        let size = u32::try_from(content.len()).unwrap();
        let whole = with_field(archive.clone(), 24, &size.to_le_bytes());
        assert_eq!(read(&whole), Ok(files(&[("a.py", content)])));
        // It says that there is less than what comes out.
        let bomb = with_field(archive, 24, &(size - 1).to_le_bytes());
        assert_eq!(read(&bomb).unwrap_err(), "\"a.py\" is damaged");
    }

    #[test]
    fn archives_that_are_refused_say_why() {
        let archive = write(&files(&[("a.py", b"x")])).unwrap();
        let check = |bytes: &[u8], wanted: &str| {
            let message = read(bytes).unwrap_err();
            assert!(message.contains(wanted), "{message}");
        };
        check(b"", "it is not a ZIP archive, or is cut off");
        check(&archive[..archive.len() - 1], "it is not a ZIP archive");
        check(&archive[10..], "its directory is damaged");
        let field = |offset, value: &[u8]| with_field(archive.clone(), offset, value);
        check(&field(8, &[1, 8]), "\"a.py\" is encrypted");
        check(&field(10, &[12]), "by a method that is not known (12)");
        check(&field(16, &[0]), "\"a.py\" is damaged");
        check(&field(24, &[200]), "\"a.py\" is too large");
        let link = (LINK << 16).to_le_bytes();
        check(&field(38, &link), "\"a.py\" is a symbolic link");
        check(&field(42, &[1]), "\"a.py\" is damaged");
        check(&field(0, b"X"), "its directory is damaged");
        check(&field(46, b"\xff"), "the name of a file is not in UTF-8");
        let mut large = archive.clone();
        let end = large.len() - END_BYTES;
        large[end + 8..end + 12].fill(0xff);
        check(&large, "it is too large (ZIP64)");
        for (path, shown) in [
            ("/a.py", "\"/a.py\""),
            ("../a.py", "\"../a.py\""),
            ("a/../../b.py", "\"a/../../b.py\""),
            ("a//b.py", "\"a//b.py\""),
            ("a\\b.py", "\"a\\\\b.py\""),
        ] {
            let outside = replaced_name(path);
            check(&outside, &format!("{shown} cannot be the path of a file"));
            let message = write(&files(&[(path, b"")])).unwrap_err();
            assert!(message.contains("cannot be the path"), "{message}");
        }
        let twice = write(&files(&[("a.py", b"x"), ("b.py", b"x")])).unwrap();
        let at = twice
            .windows(4)
            .rposition(|bytes| bytes == b"b.py")
            .unwrap();
        let mut twice = twice;
        twice[at] = b'a';
        check(&twice, "\"a.py\" is there twice");
    }

    /// Returns an archive of one file whose path in the directory is another one.
    fn replaced_name(path: &str) -> Vec<u8> {
        let name = "x".repeat(path.len());
        let archive = write(&files(&[(&name, b"")])).unwrap();
        with_field(archive, CENTRAL_BYTES, path.as_bytes())
    }

    #[test]
    fn no_cut_archive_panics() {
        let archive = write(&some()).unwrap();
        for end in 0..archive.len() {
            assert!(read(&archive[..end]).is_err(), "{end}");
        }
    }
}
