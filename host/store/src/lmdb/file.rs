//! The files of an environment: looked at before LMDB maps them, and while it has them open.
//!
//! LMDB trusts its files. It makes an empty data file a new environment, and a process that reads
//! a page past the end of a mapped file is ended by a signal. Files that were deleted stay mapped:
//! what is written to them then is durable for nobody. So [`check`] reads the file before it is
//! mapped, and [`OpenFiles`] compares the files that are open with those that are there.
//!
//! A data file begins with two meta pages, of which the one with the greater transaction number
//! counts. It names the last page in use; the file may be shorter, if the pages after its end are
//! free. Then every page of every tree must be looked at, to know that none is missing.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::private::open_stored_file;
use crate::{Error, Kind, Result};

const DATA: &str = "data.mdb";
const LOCK: &str = "lock.mdb";

/// How often, and with which pauses, a file is looked at again that another process may just be
/// creating or changing.
const ATTEMPTS: usize = 30;
const PAUSE: Duration = Duration::from_millis(10);

/// Length of the header of a page.
const HEADER: usize = 16;
/// Length of the header and the fields of a meta page.
const META: usize = HEADER + 136;
const MAGIC: u32 = 0xBEEF_C0DE;
/// The number of a page that does not exist: the root of an empty tree.
const NO_PAGE: u64 = u64::MAX;
/// Flags of pages and of their entries.
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const FIXED: u16 = 0x20;
const ON_PAGES_OF_ITS_OWN: u16 = 0x01;
const IS_A_TREE: u16 = 0x02;

/// What to do about a data file that is damaged.
const RESTORE: &str = "restore the folder from a backup; or remove it, which makes a new store, \
                       apply, and run or push everything again";

/// Checks the data file of an environment that is about to be opened. A missing file is as good
/// as a whole one.
///
/// # Errors
/// Returns [`Kind::Corrupt`] when the file is empty, or when pages are missing at its end.
pub(super) fn check(folder: &Path) -> Result<()> {
    let path = folder.join(DATA);
    let unreadable = |e| Error::io("read", &path, e);
    let mut found = None;
    for _ in 0..ATTEMPTS {
        found = match open_stored_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => look_at(&file.map_err(unreadable)?).map_err(unreadable)?,
        };
        match found {
            None => return Ok(()),
            Some(_) => std::thread::sleep(PAUSE),
        }
    }
    let Some(damage) = found else { return Ok(()) };
    let message = format!("{} {damage}: {RESTORE}", path.display());
    Err(Error::new(Kind::Corrupt, message))
}

/// Returns what is wrong with the length of a data file, if anything is. What it contains is
/// otherwise LMDB's to check.
fn look_at(file: &File) -> io::Result<Option<String>> {
    let Some(meta) = newest_meta(file)? else {
        let empty = file.metadata()?.len() == 0;
        return Ok(empty.then(|| "is empty, and was not when it was created".to_owned()));
    };
    // A writer writes pages before it writes the meta page that refers to them, so the length is
    // read last.
    let length = file.metadata()?.len();
    if length / meta.page_size > meta.last_page {
        return Ok(None);
    }
    let mut trees = Trees {
        file,
        page: vec![0; usize::try_from(meta.page_size).unwrap_or(HEADER)],
        pages: length / meta.page_size,
        waiting: meta.roots.to_vec(),
    };
    let damage = trees.damage()?;
    Ok(damage.map(|damage| format!("has {length} bytes, and {damage}")))
}

/// The fields of a meta page that say which pages are in use.
struct Meta {
    page_size: u64,
    /// Roots of the tree of free pages and of the tree of databases.
    roots: [u64; 2],
    last_page: u64,
    transaction: u64,
}

/// Reads the meta page that counts. Returns `None` when there are no two meta pages, which LMDB
/// then refuses, or makes if the file is empty.
fn newest_meta(file: &File) -> io::Result<Option<Meta>> {
    let Some(first) = meta_at(file, 0)? else {
        return Ok(None);
    };
    let Some(second) = meta_at(file, first.page_size)? else {
        return Ok(None);
    };
    let newest = match second.transaction > first.transaction {
        true => second,
        false => first,
    };
    Ok(Some(newest))
}

fn meta_at(file: &File, offset: u64) -> io::Result<Option<Meta>> {
    let mut page = [0; META];
    match file.read_exact_at(&mut page, offset) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    Ok(read_meta(&page))
}

fn read_meta(page: &[u8]) -> Option<Meta> {
    let fields = page.get(HEADER..)?;
    let page_size = u64::from(u32_at(fields, 24)?);
    let is_meta = u32_at(fields, 0)? == MAGIC
        && page_size.is_power_of_two()
        && (512..=65_536).contains(&page_size);
    Some(Meta {
        page_size,
        roots: [u64_at(fields, 24 + 40)?, u64_at(fields, 24 + 48 + 40)?],
        last_page: u64_at(fields, 24 + 96)?,
        transaction: u64_at(fields, 24 + 96 + 8)?,
    })
    .filter(|_| is_meta)
}

/// The trees of a data file, of which every page is looked at.
struct Trees<'a> {
    file: &'a File,
    /// The page that was read last.
    page: Vec<u8>,
    /// The number of whole pages of the file.
    pages: u64,
    /// Pages that were not looked at yet.
    waiting: Vec<u64>,
}

impl Trees<'_> {
    /// Returns why the trees are not whole, or `None` if they are.
    fn damage(&mut self) -> io::Result<Option<String>> {
        // Trees have each page once; pages that refer to each other in a circle are damaged.
        let mut left = self.pages;
        while let Some(number) = self.waiting.pop() {
            if number == NO_PAGE {
                continue;
            }
            if number >= self.pages {
                return Ok(Some(self.missing(number)));
            }
            if left == 0 {
                return Ok(Some("its pages refer to each other in a circle".to_owned()));
            }
            left -= 1;
            let offset = number * self.page.len() as u64;
            self.file.read_exact_at(&mut self.page, offset)?;
            match self.references() {
                None => return Ok(Some(format!("its page {number} cannot be read"))),
                Some(Err(missing)) => return Ok(Some(self.missing(missing))),
                Some(Ok(pages)) => self.waiting.extend(pages),
            }
        }
        Ok(None)
    }

    fn missing(&self, number: u64) -> String {
        let pages = self.pages;
        format!("page {number} is missing behind its {pages} pages: it was cut")
    }

    /// Returns the pages that the present page refers to, or the number of one that is missing.
    /// `None` if the page is not part of a tree.
    fn references(&self) -> Option<Result<Vec<u64>, u64>> {
        let page = &self.page;
        let flags = u16_at(page, 10)?;
        if flags & (BRANCH | LEAF) == 0 {
            return None;
        }
        if flags & FIXED != 0 {
            return Some(Ok(Vec::new()));
        }
        let entries = usize::from(u16_at(page, 12)?).checked_sub(HEADER)? / 2;
        let mut pages = Vec::new();
        for entry in 0..entries {
            let at = usize::from(u16_at(page, HEADER + 2 * entry)?);
            if flags & BRANCH != 0 {
                pages.push(child(page, at)?);
                continue;
            }
            let kind = u16_at(page, at + 4)?;
            let data = at + 8 + usize::from(u16_at(page, at + 6)?);
            if kind & ON_PAGES_OF_ITS_OWN != 0 {
                let first = u64_at(page, data)?;
                let bytes = HEADER as u64 - 1 + u64::from(u32_of_halves(page, at)?);
                let last = first.checked_add(bytes / page.len() as u64)?;
                if last >= self.pages {
                    return Some(Err(last));
                }
            } else if kind & IS_A_TREE != 0 {
                pages.push(u64_at(page, data + 40)?);
            }
        }
        Some(Ok(pages))
    }
}

/// Returns the page that an entry of a branch refers to.
fn child(page: &[u8], at: usize) -> Option<u64> {
    let top = u64::from(u16_at(page, at + 4)?);
    Some(u64::from(u32_of_halves(page, at)?) | top << 32)
}

/// Returns the number whose lower and upper half are beside each other.
fn u32_of_halves(page: &[u8], at: usize) -> Option<u32> {
    let (low, high) = (u16_at(page, at)?, u16_at(page, at + 2)?);
    Some(u32::from(low) | u32::from(high) << 16)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

/// The files that this process has open.
#[derive(Debug)]
pub(super) struct OpenFiles {
    files: [OpenFile; 2],
    /// Whether a check has failed. They do not come back, so it stays.
    lost: AtomicBool,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    /// Device and number of the file, which tell it from another one of the same name.
    identity: (u64, u64),
    /// The length that the file has reached.
    length: AtomicU64,
}

impl OpenFiles {
    /// Takes note of the files of an environment that was just opened.
    ///
    /// # Errors
    /// Returns an error when they cannot be looked at.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let open = |name| {
            let path = folder.join(name);
            let found = std::fs::metadata(&path).map_err(|e| Error::io("look at", &path, e))?;
            Ok::<_, Error>(OpenFile {
                identity: identity(&found),
                length: AtomicU64::new(found.len()),
                path,
            })
        };
        Ok(Self {
            files: [open(DATA)?, open(LOCK)?],
            lost: AtomicBool::new(false),
        })
    }

    /// Checks that the files are there. This takes two calls of the operating system.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when a file was deleted, replaced or cut.
    pub(super) fn check(&self) -> Result<()> {
        for file in &self.files {
            let lost = match std::fs::metadata(&file.path) {
                Ok(found) => file.difference(&found),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Some("was deleted"),
                Err(e) => return Err(Error::io("look at", &file.path, e)),
            };
            if let Some(lost) = lost {
                self.lost.store(true, Ordering::Relaxed);
                return Err(file.lost(lost));
            }
        }
        Ok(())
    }

    /// Checks that no [`check`](Self::check) has failed yet. This takes no time.
    ///
    /// # Errors
    /// Returns [`Kind::Unavailable`] when one has.
    pub(super) fn check_known(&self) -> Result<()> {
        match self.lost.load(Ordering::Relaxed) {
            true => Err(self.files[0].lost("was deleted, replaced or cut")),
            false => Ok(()),
        }
    }
}

impl OpenFile {
    fn difference(&self, found: &Metadata) -> Option<&'static str> {
        if identity(found) != self.identity {
            return Some("was replaced by another file");
        }
        let reached = self.length.fetch_max(found.len(), Ordering::Relaxed);
        (found.len() < reached).then_some("was cut")
    }

    fn lost(&self, what: &str) -> Error {
        let message = format!(
            "{} {what} while this process had it open, so nothing can be stored or read: restore \
             the store, or apply the project to a new one, and start the process again",
            self.path.display()
        );
        Error::new(Kind::Unavailable, message)
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::lmdb::{Lmdb, LmdbConfig};
    use crate::{Expect, MetadataStore as _};

    fn open(folder: &Path) -> Result<Lmdb> {
        Lmdb::open(&LmdbConfig {
            path: folder.to_owned(),
            map_size: 64 << 20,
        })
    }

    /// Fills a store with objects of some sizes, deletes some of them, and returns the bytes of
    /// its data file, as another process finds them after this one has ended.
    async fn filled(folder: &Path) -> Vec<u8> {
        let store = open(folder).unwrap();
        for number in 0..200usize {
            let value = Bytes::from(vec![7; number * 97 % 30_000]);
            let name = format!("object/{number:03}");
            store.put(&name, value, Expect::Absent).await.unwrap();
        }
        for number in (0..200).step_by(3) {
            let name = format!("object/{number:03}");
            store.delete(&name, Expect::Anything).await.unwrap();
        }
        std::fs::read(folder.join(DATA)).unwrap()
    }

    #[tokio::test]
    async fn a_data_file_that_was_cut_is_refused_at_any_length() {
        let folder = tempfile::tempdir().unwrap();
        let whole = filled(folder.path()).await;
        let cut = tempfile::tempdir().unwrap();
        let path = cut.path().join(DATA);
        std::fs::write(&path, &whole).unwrap();
        assert!(look_at(&File::open(&path).unwrap()).unwrap().is_none());
        let meta = newest_meta(&File::open(&path).unwrap()).unwrap().unwrap();
        let page = meta.page_size as usize;
        for length in [0, 2 * page, 2 * page + 1, 3 * page, whole.len() / 2] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let damage = look_at(&File::open(&path).unwrap()).unwrap();
            assert!(damage.is_some(), "{length}");
        }
        // Less than two meta pages is what LMDB refuses itself.
        for length in [1, 100, page, page + 100] {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = open(cut.path()).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "{length}: {error}");
        }
        std::fs::write(&path, []).unwrap();
        let error = open(cut.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains("is empty"), "{error}");
    }

    #[tokio::test]
    async fn a_data_file_may_end_where_only_free_pages_follow() {
        let folder = tempfile::tempdir().unwrap();
        let whole = filled(folder.path()).await;
        let cut = tempfile::tempdir().unwrap();
        let path = cut.path().join(DATA);
        std::fs::write(&path, &whole).unwrap();
        // The walk over all trees finds nothing wrong with a whole file.
        let file = File::open(&path).unwrap();
        let meta = newest_meta(&file).unwrap().unwrap();
        let mut trees = Trees {
            file: &file,
            page: vec![0; meta.page_size as usize],
            pages: whole.len() as u64 / meta.page_size,
            waiting: meta.roots.to_vec(),
        };
        assert_eq!(trees.damage().unwrap(), None);
        // A meta page that counts free pages behind the end of the file as used.
        let mut longer = whole;
        for at in [0, meta.page_size as usize] {
            let last = (meta.last_page + 3).to_ne_bytes();
            longer[at + HEADER + 120..][..8].copy_from_slice(&last);
        }
        std::fs::write(&path, &longer).unwrap();
        assert!(look_at(&File::open(&path).unwrap()).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_store_whose_files_are_gone_acknowledges_nothing() {
        type Loss = fn(&Path) -> io::Result<()>;
        let losses: [(&str, Loss); 4] = [
            ("was deleted", |folder| std::fs::remove_dir_all(folder)),
            ("was deleted", |folder| {
                std::fs::remove_file(folder.join(LOCK))
            }),
            ("was replaced", |folder| {
                let (data, other) = (folder.join(DATA), folder.join("other"));
                std::fs::copy(&data, &other)?;
                std::fs::rename(other, data)
            }),
            ("was deleted", |folder| {
                std::fs::rename(folder, folder.with_extension("moved"))
            }),
        ];
        for (wanted, lose) in losses {
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path().join("online");
            let store = open(&folder).unwrap();
            let put = |name: &'static str| store.put(name, Bytes::new(), Expect::Absent);
            put("before").await.unwrap();
            lose(&folder).unwrap();
            let error = put("after").await.unwrap_err();
            assert_eq!(error.kind(), Kind::Unavailable);
            assert!(error.to_string().contains(wanted), "{error}");
            assert_eq!(
                store.get("before").await.unwrap_err().kind(),
                Kind::Unavailable
            );
        }
    }
}
