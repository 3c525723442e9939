//! What an item of the online store holds, and how it is written down.
//!
//! | attribute | type | what |
//! | --- | --- | --- |
//! | `n` | N | rises with each write: what the next one is conditional on |
//! | `ver` | B | event time, created time (microseconds, big endian, sign flipped), identity: compares as rows do |
//! | `val` | B | fingerprint of the schema (8 bytes, little endian), then the packed features or the summary |
//! | `due` | B | rows whose time is still to come, MessagePack |
//! | `by` | B | who added to the summary: 8 bytes of the writer's name, 4 of its commit's number, 4 of the minute with, in the highest bit, whether earlier ones may be missing |
//! | `parts` | S | `ID/COUNT`: `val` and `due` are in items of partitions `p/ID/…`, as they do not fit one |
//! | `expires` | N | seconds since 1970 after which DynamoDB may remove it |

use bytes::Bytes;
use wafer_core::Timestamp;
use wafer_core::aggregate::is_item;
use wafer_core::rules::{RowVersion, replaces};
use wafer_store::{Error, Kind, OnlineRow, Result, combine};

use crate::table::{Item, Key, bytes, bytes_of, number, number_of, text, text_of};

/// How long it is remembered, in minutes, that a writer's commit is in an item after
/// the commit is gone: clocks may differ by less.
const MARKS_KEPT: u32 = 15;

/// A commit, as items remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) writer: u64,
    pub(crate) number: u32,
    /// When it was added, in minutes since 1970 by the machine's clock.
    pub(crate) minute: u32,
    /// Whether it says nothing of earlier commits of the writer. A writer makes one
    /// commit after the other, so that its last one is enough to remember; but while
    /// an epoch is filled, commits come to it in any order.
    pub(crate) alone: bool,
}

/// The highest bit of the minute.
const ALONE: u32 = 1 << 31;

/// An item of the online store, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stored {
    /// Its version; `None` when there is no such item.
    pub(crate) version: Option<u64>,
    pub(crate) row: Option<OnlineRow>,
    pub(crate) due: Vec<(Timestamp, OnlineRow)>,
    marks: Vec<Mark>,
    /// Seconds since 1970; `None`: it stays.
    pub(crate) ttl: Option<i64>,
    pub(crate) parts: Option<Parts>,
}

/// Where the parts are of what is too large for one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    id: String,
    count: u16,
}

impl Parts {
    pub(crate) fn new(id: u64, count: usize) -> Self {
        Self {
            id: format!("{id:016x}"),
            count: count as u16,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (id, count) = text.split_once('/')?;
        Some(Self {
            id: id.to_owned(),
            count: count.parse().ok()?,
        })
    }

    /// Those of an item, if it has any.
    pub(crate) fn of(item: &Item) -> Option<Self> {
        Self::parse(text_of(item, "parts")?)
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        // Each in a partition of its own: together they are more than one takes in a second.
        let part = |index: u16| Key::single(format!("p/{}/{index}", self.id));
        (0..self.count).map(part).collect()
    }
}

pub(crate) fn version_bytes(version: RowVersion) -> [u8; 24] {
    let time = |time: Timestamp| (time.as_micros() ^ i64::MIN).to_be_bytes();
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&time(version.event));
    bytes[8..16].copy_from_slice(&time(version.created));
    bytes[16..].copy_from_slice(&version.id.to_be_bytes());
    bytes
}

pub(crate) fn version_of(bytes: &[u8]) -> Option<RowVersion> {
    let time = |at: usize| -> Option<Timestamp> {
        let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(Timestamp::from_micros(i64::from_be_bytes(bytes) ^ i64::MIN))
    };
    Some(RowVersion {
        event: time(0)?,
        created: time(8)?,
        id: u64::from_be_bytes(bytes.get(16..24)?.try_into().ok()?),
    })
}

pub(crate) fn value_bytes(row: &OnlineRow) -> Vec<u8> {
    [&row.fingerprint.to_le_bytes()[..], &row.values].concat()
}

impl Stored {
    /// From an item as it is stored. `val` and `due` of one in parts are in
    /// `payload`.
    pub(crate) fn read(item: &Item, payload: Option<&[u8]>) -> Option<Self> {
        let parts = match text_of(item, "parts") {
            Some(text) => Some(Parts::parse(text)?),
            None => None,
        };
        let (value, due) = match (&parts, payload) {
            (Some(_), Some(payload)) => {
                let (length, rest) = payload.split_first_chunk::<4>()?;
                let length = u32::from_le_bytes(*length) as usize;
                let (value, due) = rest.split_at_checked(length)?;
                (Some(value), Some(due))
            }
            // Not asked for.
            (Some(_), None) => (None, None),
            (None, _) => (bytes_of(item, "val"), bytes_of(item, "due")),
        };
        let row = match (bytes_of(item, "ver"), value) {
            (Some(version), Some(value)) => {
                let (fingerprint, values) = value.split_first_chunk::<8>()?;
                Some(OnlineRow {
                    version: version_of(version)?,
                    fingerprint: u64::from_le_bytes(*fingerprint),
                    values: Bytes::copy_from_slice(values),
                })
            }
            _ => None,
        };
        Some(Self {
            version: Some(number_of(item, "n")?),
            row,
            due: match due {
                Some(due) if !due.is_empty() => rmp_serde::from_slice(due).ok()?,
                _ => Vec::new(),
            },
            marks: read_marks(bytes_of(item, "by").unwrap_or_default())?,
            ttl: number_of(item, "expires"),
            parts,
        })
    }

    /// `val` and `due` in one piece, of an item that is too large.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let value = self.row.as_ref().map_or_else(Vec::new, value_bytes);
        [
            &(value.len() as u32).to_le_bytes()[..],
            &value,
            &self.due_bytes(),
        ]
        .concat()
    }

    pub(crate) fn size(&self) -> usize {
        let value = self.row.as_ref().map_or(0, |row| row.values.len() + 8);
        let due = match self.due.is_empty() {
            true => 0,
            false => self.due_bytes().len(),
        };
        value + due
    }

    fn due_bytes(&self) -> Vec<u8> {
        match self.due.is_empty() {
            true => Vec::new(),
            false => rmp_serde::to_vec(&self.due).expect("plain data"),
        }
    }

    /// As an item of the next version.
    pub(crate) fn write(&self, key: &Key, parts: Option<&Parts>) -> Item {
        let mut item = key.item();
        item.insert("n".to_owned(), number(self.version.unwrap_or(0) + 1));
        if let Some(row) = &self.row {
            item.insert("ver".to_owned(), bytes(&version_bytes(row.version)));
            if parts.is_none() {
                item.insert("val".to_owned(), bytes(&value_bytes(row)));
            }
        }
        if !self.due.is_empty() && parts.is_none() {
            item.insert("due".to_owned(), bytes(&self.due_bytes()));
        }
        if !self.marks.is_empty() {
            item.insert("by".to_owned(), bytes(&mark_bytes(&self.marks)));
        }
        if let Some(ttl) = self.ttl {
            item.insert("expires".to_owned(), number(ttl));
        }
        if let Some(Parts { id, count }) = parts {
            item.insert("parts".to_owned(), text(&format!("{id}/{count}")));
        }
        item
    }

    /// The row as it is at some time.
    pub(crate) fn into_row_at(mut self, now: Timestamp) -> Result<Option<OnlineRow>> {
        self.take_due(now)?;
        Ok(self.row)
    }

    /// Takes rows in that are due.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Result<()> {
        for (_, early) in self.due.extract_if(.., |(due, _)| *due <= now) {
            if let Some(combined) = combine(self.row.as_ref(), &early)? {
                self.row = Some(combined);
            }
        }
        Ok(())
    }

    /// Adds a row or events; says whether that changed anything.
    pub(crate) fn add(&mut self, row: &OnlineRow, ttl: Option<i64>) -> Result<bool> {
        let Some(combined) = combine(self.row.as_ref(), row)? else {
            return Ok(false);
        };
        self.keep(ttl);
        self.row = Some(combined);
        Ok(true)
    }

    /// Adds a row whose time is still to come.
    pub(crate) fn add_early(&mut self, due: Timestamp, row: OnlineRow, ttl: Option<i64>) {
        self.keep(ttl);
        self.due.push((due, row));
        self.due.sort_by_key(|(due, _)| *due);
    }

    /// Puts a deletion in the place of all facts up to a time; a newer row stays, a
    /// summary goes as a whole.
    pub(crate) fn bury(&mut self, deleted: Timestamp) {
        self.due.retain(|(_, row)| row.version.event > deleted);
        let stays = |row: &OnlineRow| !is_item(&row.values) && row.version.event > deleted;
        if !self.row.as_ref().is_some_and(stays) {
            self.row = Some(OnlineRow::tombstone(deleted));
            self.ttl = None;
        }
    }

    /// Puts a deletion below what was made anew without the facts that it is about.
    pub(crate) fn bury_before(&mut self, deleted: Timestamp) {
        self.due.retain(|(_, row)| row.version.event > deleted);
        let tombstone = OnlineRow::tombstone(deleted);
        let stored = self.row.as_ref().map(|row| row.version);
        if replaces(tombstone.version, stored) {
            self.row = Some(tombstone);
            self.ttl = None;
        }
    }

    /// It stays as long as anything in it.
    fn keep(&mut self, ttl: Option<i64>) {
        let is_new = self.row.is_none() && self.due.is_empty();
        self.ttl = match (self.ttl, ttl) {
            (Some(stored), Some(ttl)) => Some(stored.max(ttl)),
            (None, Some(ttl)) if is_new => Some(ttl),
            _ => None,
        };
    }

    pub(crate) fn has(&self, mark: Mark) -> bool {
        let marks = self.marks.iter();
        marks
            .filter(|m| m.writer == mark.writer)
            .any(|m| m.number == mark.number || m.number > mark.number && !m.alone)
    }

    /// Remembers a commit; forgets writers whose commits are all gone since before
    /// `settled`, in minutes since 1970.
    pub(crate) fn mark(&mut self, mark: Mark, settled: u32) {
        self.marks.retain(|m| {
            let is_implied = m.writer == mark.writer && !mark.alone;
            !is_implied && m.minute.saturating_add(MARKS_KEPT) >= settled
        });
        self.marks.push(mark);
    }
}

fn mark_bytes(marks: &[Mark]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(marks.len() * 16);
    for mark in marks {
        bytes.extend_from_slice(&mark.writer.to_be_bytes());
        bytes.extend_from_slice(&mark.number.to_be_bytes());
        let minute = mark.minute | if mark.alone { ALONE } else { 0 };
        bytes.extend_from_slice(&minute.to_be_bytes());
    }
    bytes
}

fn read_marks(bytes: &[u8]) -> Option<Vec<Mark>> {
    let (marks, rest) = bytes.as_chunks::<16>();
    let mark = |bytes: &[u8; 16]| {
        let part =
            |at: usize| -> [u8; 4] { [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]] };
        Mark {
            writer: u64::from(u32::from_be_bytes(part(0))) << 32
                | u64::from(u32::from_be_bytes(part(4))),
            number: u32::from_be_bytes(part(8)),
            minute: u32::from_be_bytes(part(12)) & !ALONE,
            alone: bytes[12] & 0x80 != 0,
        }
    };
    rest.is_empty().then(|| marks.iter().map(mark).collect())
}

/// What an entity has is too large.
pub(crate) fn too_large(group: &str, size: usize, most: usize) -> Error {
    let message = format!(
        "what table `{group}` holds of one entity takes {size} bytes; at most {most} fit in DynamoDB \
         (items of 400 KB, {most} bytes in parts): use fewer or shorter windows, a smaller k, or shorter values"
    );
    Error::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(event: i64, values: &'static [u8]) -> OnlineRow {
        OnlineRow {
            version: RowVersion {
                event: Timestamp::from_micros(event),
                created: Timestamp::from_micros(-5),
                id: u64::MAX - 1,
            },
            fingerprint: 7,
            values: Bytes::from_static(values),
        }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn items_are_read_as_they_were_written() {
        let mut stored = Stored {
            row: Some(row(-3, b"now")),
            ..Stored::default()
        };
        stored.add_early(at(9), row(9, b"later"), None);
        let mark = |writer, number, minute| Mark {
            writer,
            number,
            minute,
            alone: writer == 9,
        };
        stored.mark(mark(9, 2, 100), 0);
        stored.mark(mark(9, 5, 100), 0);
        stored.mark(mark(u64::MAX - 7, 3, 100), 0);
        stored.mark(mark(1, 2, 101), 0);
        let key = Key::new("o/g/0/00", b"k");
        let item = stored.write(&key, None);
        stored.version = Some(1);
        assert_eq!(Stored::read(&item, None), Some(stored.clone()));
        let parts = Parts::new(5, 2);
        let item = stored.write(&key, Some(&parts));
        let read = Stored::read(&item, Some(&stored.payload())).unwrap();
        assert_eq!(
            (&read.row, &read.due, &read.parts),
            (&stored.row, &stored.due, &Some(parts))
        );
        assert!(read.has(mark(1, 2, 0)) && read.has(mark(u64::MAX - 7, 1, 0)));
        assert!(!read.has(mark(1, 3, 0)) && !read.has(mark(2, 0, 0)));
        // Of commits that came alone, each is remembered.
        let alone = [1, 2, 3, 4, 5].map(|number| read.has(mark(9, number, 0)));
        assert_eq!(alone, [false, true, false, false, true]);
        // Damaged bytes are no item.
        let mut damaged = item;
        damaged.insert("by".to_owned(), bytes(&[1, 2, 3]));
        assert_eq!(Stored::read(&damaged, None), None);
    }

    #[test]
    fn writers_are_forgotten_once_their_commits_are_gone() {
        let mark = |writer, minute| Mark {
            writer,
            number: 1,
            minute,
            alone: false,
        };
        let mut stored = Stored::default();
        stored.mark(mark(1, 100), 90);
        stored.mark(mark(2, 110), 115);
        assert!(stored.has(mark(1, 0)), "not long enough ago");
        stored.mark(mark(3, 120), 116);
        assert!(!stored.has(mark(1, 0)));
        assert!(stored.has(mark(2, 0)) && stored.has(mark(3, 0)));
    }

    #[test]
    fn versions_compare_as_their_bytes_do() {
        let version = |event, created, id| RowVersion {
            event: at(event),
            created: at(created),
            id,
        };
        let sorted = [
            version(i64::MIN, 0, 0),
            version(-1, 5, 0),
            version(0, -1, 9),
            version(0, 0, 0),
            version(0, 0, u64::MAX),
            version(1, i64::MIN, 0),
            version(i64::MAX, i64::MAX, u64::MAX),
        ];
        let bytes: Vec<_> = sorted.iter().copied().map(version_bytes).collect();
        assert!(bytes.is_sorted());
        for (version, bytes) in sorted.iter().zip(&bytes) {
            assert_eq!(version_of(bytes), Some(*version));
        }
    }

    #[test]
    fn an_item_stays_as_long_as_anything_in_it() {
        let mut stored = Stored::default();
        stored.add(&row(1, b"a"), Some(10)).unwrap();
        assert_eq!(stored.ttl, Some(10));
        stored.add(&row(2, b"b"), Some(5)).unwrap();
        assert_eq!(stored.ttl, Some(10));
        stored.add(&row(3, b"c"), None).unwrap();
        assert_eq!(stored.ttl, None);
        stored.add(&row(4, b"d"), Some(50)).unwrap();
        assert_eq!(stored.ttl, None);
    }

    #[test]
    fn what_is_due_is_seen_and_taken_in() {
        let mut stored = Stored::default();
        stored.add(&row(1, b"a"), None).unwrap();
        stored.add_early(at(20), row(20, b"z"), None);
        stored.add_early(at(10), row(10, b"m"), None);
        let values =
            |stored: &Stored, now| stored.clone().into_row_at(at(now)).unwrap().unwrap().values;
        assert_eq!(values(&stored, 9), "a");
        assert_eq!(values(&stored, 10), "m");
        assert_eq!(values(&stored, 20), "z");
        stored.take_due(at(10)).unwrap();
        assert_eq!((&values(&stored, 10)[..], stored.due.len()), (&b"m"[..], 1));
    }
}
